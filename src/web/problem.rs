//! Errors as RFC 9457 problem details. What a problem says is written for the sender; causes go to the log.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};

use crate::ingest::IngestError;
use crate::sources::element::BodyError;

/// Seconds after which a sender should try again. Most troubles of a database are over by then.
const RETRY_AFTER_SECONDS: &str = "5";

/// Why a request was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    MalformedBody,
    InvalidSignature,
    NotFound,
    MethodNotAllowed,
    BodyTooSlow,
    BodyTooLarge,
    TooManyEvents,
    IngestError(IngestError),
    NotReady,
}

impl Problem {
    /// A word for programs, which stays as it is.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::MalformedBody => "malformed_body",
            Self::InvalidSignature => "invalid_signature",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyTooLarge => "body_too_large",
            Self::TooManyEvents => "too_many_events",
            Self::IngestError(_) => "not_stored",
            Self::NotReady => "not_ready",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::MalformedBody => "The body is not JSON, or neither an event nor a list of events",
            Self::InvalidSignature => "There is no webhook at this address with this signature",
            Self::NotFound => "There is nothing at this address",
            Self::MethodNotAllowed => "This address takes another method",
            Self::BodyTooSlow => "The body took too long to arrive",
            Self::BodyTooLarge => "The body is larger than this service takes",
            Self::TooManyEvents => "The body has more than 10,000 events",
            Self::IngestError(_) => "The events are not known to be stored; send them again",
            Self::NotReady => "The service is not ready",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::MalformedBody => StatusCode::BAD_REQUEST,
            Self::InvalidSignature => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge | Self::TooManyEvents => StatusCode::PAYLOAD_TOO_LARGE,
            Self::IngestError(_) | Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        self.response(false)
    }
}

impl Problem {
    /// The answer. Segment shows people the `message` of an answer, if it has one.
    #[must_use]
    pub fn response(self, with_message: bool) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        response.content_type("application/problem+json");
        match self {
            Self::IngestError(_) | Self::NotReady => {
                response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
            }
            Self::MethodNotAllowed => {
                response.insert_header((ALLOW, "POST"));
            }
            _ => {}
        }
        let mut body = serde_json::json!({
            "type": "about:blank", "title": self.title(), "status": status.as_u16(), "code": self.code(),
        });
        if with_message {
            body["detail"] = self.title().into();
            body["message"] = self.title().into();
        }
        response.body(body.to_string())
    }
}

impl From<BodyError> for Problem {
    fn from(cause: BodyError) -> Self {
        match cause {
            BodyError::Malformed => Self::MalformedBody,
            BodyError::TooManyElements => Self::TooManyEvents,
            BodyError::DefaultsTooLarge => Self::BodyTooLarge,
        }
    }
}

impl From<IngestError> for Problem {
    fn from(cause: IngestError) -> Self {
        match cause {
            IngestError::SourceGone => Self::InvalidSignature,
            cause => Self::IngestError(cause),
        }
    }
}
