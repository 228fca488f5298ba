//! What keeps a request from being done. Handlers say what; [`guard`](super::guard) writes it, as a page or as RFC 9457
//! problem details.

use std::fmt;

use actix_web::error::{JsonPayloadError, UrlencodedError};
use actix_web::http::StatusCode;
use actix_web::web::{FormConfig, JsonConfig, PathConfig, PayloadConfig, QueryConfig, ServiceConfig};
use actix_web::{HttpResponse, ResponseError};

use super::MAX_BODY_BYTES;
use crate::admin::AdminError;
use crate::admin::sessions::SignInError;
use crate::domain::text::with_causes;

/// Seconds after which to try again.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Why a request was not done.
#[derive(Debug)]
pub enum Failure {
    /// There is nothing here, or nothing that concerns whoever asks.
    NotFound,
    MethodNotAllowed(String),
    /// A link that was used, or is too old. Says so.
    Gone(String),
    /// Nobody is signed in; no such token.
    SignedOut,
    /// Who asks may see this, but not do it. Says why.
    Forbidden(String),
    /// The host by which the console was called.
    WrongHost(String),
    /// What was sent cannot be read. Says why.
    Malformed(String),
    TooLarge,
    UnsupportedMediaType,
    /// What was asked for cannot be: says why.
    Invalid(String),
    /// It does not fit what is there. Says why.
    Conflict(String),
    /// The password was given too long ago.
    PasswordNeeded,
    TooManyRequests(u64),
    /// Something else takes all there is, for a moment.
    Busy,
    /// The database did not answer, or the program cannot open what it holds. For the log.
    Unavailable(String),
}

impl Failure {
    /// A word for programs, which stays as it is.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::Gone(_) => "gone",
            Self::SignedOut => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::WrongHost(_) => "wrong_host",
            Self::Malformed(_) => "malformed",
            Self::TooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Invalid(_) => "invalid",
            Self::Conflict(_) => "conflict",
            Self::PasswordNeeded => "password_needed",
            Self::TooManyRequests(_) => "too_many_requests",
            Self::Busy => "busy",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// What happened, in few words.
    pub fn title(&self) -> &'static str {
        match self {
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed(_) => "This address takes another method",
            Self::Gone(_) => "This link does not count any more",
            Self::SignedOut => "You are not signed in",
            Self::Forbidden(_) => "This is not yours to do",
            Self::WrongHost(_) => "The console has another name",
            Self::Malformed(_) => "This could not be read",
            Self::TooLarge => "This is too large",
            Self::UnsupportedMediaType => "This is of a kind that is not read here",
            Self::Invalid(_) => "This cannot be",
            Self::Conflict(_) => "This does not fit what is there",
            Self::PasswordNeeded => "Please give your password again",
            Self::TooManyRequests(_) => "Too many attempts",
            Self::Busy => "Too much at a time",
            Self::Unavailable(_) => "The database does not answer",
        }
    }

    /// What it means, and what to do.
    pub fn detail(&self) -> String {
        match self {
            Self::NotFound => "It may have been deleted, or it belongs to an account that is not yours.".to_owned(),
            Self::MethodNotAllowed(methods) => format!("It takes {methods}."),
            Self::SignedOut => "Nothing was changed. Sign in, and do it again.".to_owned(),
            Self::Gone(why)
            | Self::Forbidden(why)
            | Self::WrongHost(why)
            | Self::Malformed(why)
            | Self::Invalid(why)
            | Self::Conflict(why) => why.clone(),
            Self::TooLarge => format!("At most {} KiB are read here.", MAX_BODY_BYTES >> 10),
            Self::UnsupportedMediaType => {
                "Send it as application/json (a page's form: as the browser does).".to_owned()
            }
            Self::PasswordNeeded => {
                "What you are about to do needs it, and you gave it over 30 minutes ago.".to_owned()
            }
            Self::TooManyRequests(seconds) => format!("Nothing was changed. Try again in {seconds} s."),
            Self::Busy => "Nothing was changed. Try again in a few seconds.".to_owned(),
            Self::Unavailable(_) => {
                "Events are not lost by this: what was answered 200 is stored. Try again in a few seconds.".to_owned()
            }
        }
    }

    /// When to try again.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooManyRequests(seconds) => Some(*seconds),
            Self::Busy | Self::Unavailable(_) => Some(RETRY_AFTER_SECONDS),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Gone(_) => StatusCode::GONE,
            Self::SignedOut => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::PasswordNeeded => StatusCode::FORBIDDEN,
            Self::WrongHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooManyRequests(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NoSuchAccount(_)
            | AdminError::NoSuchSource(_)
            | AdminError::NoSource(_)
            | AdminError::NoSuchPerson(_)
            | AdminError::NoSuchToken(_) => Self::NotFound,
            AdminError::AccountNameTaken(_)
            | AdminError::SourceNameTaken(_)
            | AdminError::BelongsElsewhere(_)
            | AdminError::LastAdmin
            | AdminError::LastOperator
            | AdminError::ReplayGoesOn
            | AdminError::Conflict => Self::Conflict(error.to_string()),
            AdminError::Database(sqlx) if is_unstorable(&sqlx) => {
                Self::Malformed("A NUL character cannot be stored, nor looked for.".to_owned())
            }
            AdminError::Database(_) | AdminError::Decrypt(_) => Self::Unavailable(with_causes(&error)),
            error => Self::Invalid(error.to_string()),
        }
    }
}

impl From<SignInError> for Failure {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Wrong => Self::Invalid("The address or the password is wrong.".to_owned()),
            SignInError::LinkIsVoid => Self::Invalid(error.to_string()),
            SignInError::Throttled(wait) => Self::TooManyRequests(wait.as_secs().max(1)),
            SignInError::Busy => Self::Busy,
            SignInError::Database(error) => AdminError::from(error).into(),
        }
    }
}

/// PostgreSQL's text holds no NUL.
fn is_unstorable(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code().map(|code| code == "22021")) == Some(true)
}

/// What paths, queries and bodies are read with, so that what they cannot read is a [`Failure`].
pub fn read_bodies(config: &mut ServiceConfig) {
    let form = FormConfig::default().limit(MAX_BODY_BYTES).error_handler(|error, _| {
        match error {
            UrlencodedError::Overflow { .. } => Failure::TooLarge,
            UrlencodedError::ContentType => Failure::UnsupportedMediaType,
            error => Failure::Malformed(error.to_string()),
        }
        .into()
    });
    let json = JsonConfig::default().limit(MAX_BODY_BYTES).error_handler(|error, _| {
        match error {
            JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => Failure::TooLarge,
            JsonPayloadError::ContentType => Failure::UnsupportedMediaType,
            JsonPayloadError::Deserialize(error) if error.is_data() => Failure::Invalid(error.to_string()),
            error => Failure::Malformed(error.to_string()),
        }
        .into()
    });
    config
        .app_data(form)
        .app_data(json)
        .app_data(PayloadConfig::new(MAX_BODY_BYTES))
        .app_data(QueryConfig::default().error_handler(|error, _| Failure::Malformed(error.to_string()).into()))
        .app_data(PathConfig::default().error_handler(|_, _| Failure::NotFound.into()));
}
