//! Takes webhooks, and calls of Segment's libraries: limits, then signature, then parsing, then storing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use time::OffsetDateTime;
use tokio::time::timeout;
use tracing::Instrument;

use super::body;
use super::problem::Problem;
use super::refusals::{PendingNote, Refused};
use super::state::{State, UNIT};
use crate::admin::OWN_POST_HEADER;
use crate::ingest::{IngestError, Origin, Receipt, Webhook};
use crate::secrets::Source;
use crate::sources::signature::{Signature, Verified, VerifyError, verify};
use crate::sources::{Kind, segment};

/// The largest body with calls: Segment sends up to 4,000 of them at a time.
const MAX_CALLS_BYTES: usize = 16 << 20;
/// How long it may take to make sure that all changes to sources are known.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a request comes in, and so whose it is.
#[derive(Clone, Copy)]
enum Entrance<'a> {
    /// A source's webhook URL.
    Webhook(Kind, &'a str),
    /// An address of Segment's API, for its libraries: a source is named by its ingest key. With the type of call that the
    /// address stands for, where it stands for one.
    Sdk(Option<&'static str>),
}

impl<'a> Entrance<'a> {
    /// `/webhooks/{kind}/{token}`.
    fn webhook(request: &'a HttpRequest) -> Option<Self> {
        let path = request.match_info().unprocessed().strip_prefix('/')?;
        let (kind, token) = path.split_once('/').filter(|(_, token)| !token.contains('/'))?;
        Some(Self::Webhook(kind.parse().ok()?, token))
    }

    /// `/v1/batch`, `/v1/identify`, … and their short forms, by which browsers call them.
    fn sdk(request: &HttpRequest) -> Option<Self> {
        let path = request.match_info().unprocessed().strip_prefix('/')?;
        let (_, call_type) = segment::SDK_PATHS.into_iter().find(|(known, _)| *known == path)?;
        Some(Self::Sdk(call_type))
    }

    fn kind(self) -> Kind {
        match self {
            Self::Webhook(kind, _) => kind,
            Self::Sdk(_) => Kind::Segment,
        }
    }

    fn read_signature<'b>(self, headers: &'b HeaderMap, body: &'b [u8]) -> Result<Signature<'b>, VerifyError> {
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        match self {
            Self::Webhook(kind, _) => kind.read_signature(headers),
            Self::Sdk(_) => segment::read_sdk_signature(headers, body),
        }
    }

    fn find(self, state: &State, signature: &Signature<'_>) -> Option<Arc<Source>> {
        match self {
            Self::Webhook(kind, token) => state.sources.find(kind, token),
            Self::Sdk(_) => state.sources.find_by_ingest_key(signature.ingest_key()?),
        }
    }

    fn max_body_bytes(self, state: &State) -> usize {
        if self.kind().takes_calls() { MAX_CALLS_BYTES } else { state.max_body_bytes }
    }
}

/// Takes a webhook. A 200 means: every event is on disk.
pub async fn receive(state: web::Data<State>, request: HttpRequest, body: web::Payload) -> HttpResponse<AnswerBody> {
    let entrance = Entrance::webhook(&request);
    let is_of_calls = entrance.is_some_and(|entrance| entrance.kind().takes_calls());
    respond(&state, &request, body, entrance, is_of_calls, |receipt| HttpResponse::Ok().json(receipt)).await
}

/// Takes what a library of Segment's sends. A 200 means: every call is on disk.
pub async fn receive_sdk(
    state: web::Data<State>,
    request: HttpRequest,
    body: web::Payload,
) -> HttpResponse<AnswerBody> {
    let success = |_| HttpResponse::Ok().json(serde_json::json!({"success": true}));
    respond(&state, &request, body, Entrance::sdk(&request), true, success).await
}

async fn respond(
    state: &State,
    request: &HttpRequest,
    mut payload: web::Payload,
    entrance: Option<Entrance<'_>>,
    with_message: bool,
    success: impl Fn(Receipt) -> HttpResponse,
) -> HttpResponse<AnswerBody> {
    let mut note = None;
    let span = tracing::debug_span!("webhook", source.id = tracing::field::Empty);
    let answer = accept(state, request, &mut payload, entrance, &mut note).instrument(span).await;
    let mut response = match answer {
        Ok(receipt) => success(receipt),
        Err(problem) => {
            tracing::debug!(?problem, code = problem.code(), "a webhook was not accepted");
            problem.response(with_message)
        }
    };
    state.metrics.webhook(response.status().as_u16());
    if leaves_body(response.status()) {
        response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    response.map_body(|_, body| AnswerBody { body, _payload: payload, _note: note })
}

/// Whether an answer of this status may leave a part of the body unread. Nobody is going to read it: the connection ends.
fn leaves_body(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE
    )
}

/// An answer's body, and what is kept until it is written.
pub struct AnswerBody {
    body: BoxBody,
    /// A payload that is dropped before its end is read to its end by the server, however long it is.
    _payload: web::Payload,
    /// Handed on when it is.
    _note: Option<PendingNote>,
}

impl MessageBody for AnswerBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// Leaves what is to be noted of a refused webhook in `note`.
async fn accept(
    state: &State,
    request: &HttpRequest,
    payload: &mut web::Payload,
    entrance: Option<Entrance<'_>>,
    note: &mut Option<PendingNote>,
) -> Result<Receipt, Problem> {
    let entrance = entrance.ok_or(Problem::NotFound)?;
    if request.method() != Method::POST {
        return Err(Problem::MethodNotAllowed);
    }
    let max_bytes = entrance.max_body_bytes(state);
    let (raw, mut memory) = body::read(state, request.headers(), payload, max_bytes).await?;
    // A signature covers what was sent; a library of Segment's signs nothing, and its key may be in the body.
    let body = match entrance {
        Entrance::Sdk(_) => body::unpack(state, request.headers(), raw, &mut memory, max_bytes)?,
        Entrance::Webhook(..) => raw,
    };
    let received_at = OffsetDateTime::now_utc();
    let authentic = authenticate(state, entrance, request.headers(), &body, received_at).await;
    if matches!(authentic, Err(Problem::InvalidSignature)) {
        // The same work whether the token exists.
        let source = match entrance {
            Entrance::Webhook(kind, token) => state.sources.find(kind, token),
            Entrance::Sdk(_) => None,
        };
        source.as_ref().map_or(state.sources.dummy_activity(), |source| &source.activity).refused(received_at);
        let refused = Refused::new(source, entrance.kind(), received_at, request.headers(), &body);
        *note = Some(state.refusals.note_later(refused));
    }
    let (source, verified) = authentic?;
    tracing::Span::current().record("source.id", tracing::field::display(source.id));
    // What the service sent to itself says nothing of the sender.
    let mark = request.headers().get(OWN_POST_HEADER);
    if !mark.is_some_and(|mark| state.own_posts.is_mark(mark.as_bytes())) {
        source.activity.verified(verified.signed_with(), received_at);
    }
    let elements = match entrance {
        Entrance::Webhook(kind, _) => kind.parse(verified, received_at, &source.calls)?,
        Entrance::Sdk(call_type) => segment::parse_sdk(verified, call_type, received_at, &source.calls)?,
    };
    let origin = Origin {
        source_id: source.id,
        account_id: source.account_id,
        calls: entrance.kind().takes_calls().then_some(&source.calls),
        identity_key: source.identity_key.as_deref(),
        learns_identities: source.learns_identities,
    };
    let webhook = Webhook::new(origin, received_at, elements);
    drop(body);
    body::hold(&state.body_memory, &mut memory, webhook.n_bytes().div_ceil(UNIT))?;
    Ok(state.ingest.accept(webhook, request.peer_addr(), memory).await?)
}

/// Whose webhook is it? Whoever may not know, learns nothing: an unknown token costs the same work as a wrong
/// signature, and gets the same answer.
async fn authenticate<'b>(
    state: &State,
    entrance: Entrance<'_>,
    headers: &'b HeaderMap,
    body: &'b [u8],
    now: OffsetDateTime,
) -> Result<(Arc<Source>, Verified<'b>), Problem> {
    let signature = entrance.read_signature(headers, body).map_err(|_| Problem::InvalidSignature)?;
    let attempt = || {
        let source = entrance.find(state, &signature);
        // A 401 loses a library's calls, and the key may be that of a source whose secret does not open here.
        if source.is_none() && matches!(entrance, Entrance::Sdk(_)) && state.sources.may_miss_ingest_keys() {
            return Err(Unverified::CannotDecrypt);
        }
        let Some(keyring) =
            source.as_ref().map_or(Some(state.sources.dummy_keyring()), |source| source.keyring.as_ref())
        else {
            // Not to be told from a database that is away: that too is no fault of the sender.
            return Err(Unverified::CannotDecrypt);
        };
        let verified = verify(&signature, body, keyring, now.unix_timestamp());
        match (verified, source) {
            (Ok(verified), Some(source)) => Ok((source, verified)),
            (Ok(_), None) => Err(Unverified::Refused(VerifyError::Mismatch)),
            (Err(refusal), _) => Err(Unverified::Refused(refusal)),
        }
    };
    let problem = |unverified| match unverified {
        Unverified::CannotDecrypt => Problem::IngestError(IngestError::Database),
        Unverified::Refused(_) => Problem::InvalidSignature,
    };
    match attempt() {
        Ok(authentic) => Ok(authentic),
        // The source, or its secret, may be so new that the cache has not heard of it. Boxed: it is rare, and would make
        // ten times as large what is moved about for each webhook.
        Err(Unverified::Refused(VerifyError::Mismatch) | Unverified::CannotDecrypt) => {
            let Ok(Ok(())) = timeout(LOOK_UP_TIMEOUT, Box::pin(state.sources.refresh())).await else {
                tracing::warn!("cannot look up the sources");
                return Err(Problem::IngestError(IngestError::Database));
            };
            attempt().map_err(problem)
        }
        Err(unverified) => Err(problem(unverified)),
    }
}

/// Why a webhook is not known to be authentic.
enum Unverified {
    /// The source's secret cannot be opened here: trouble of this program, not of the sender.
    CannotDecrypt,
    Refused(VerifyError),
}
