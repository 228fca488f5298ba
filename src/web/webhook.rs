//! `POST /webhooks/{kind}/{token}`: limits, then signature, then parsing, then storing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

use super::problem::Problem;
use super::refusals::{PendingNote, Refused};
use super::state::{State, UNIT};
use crate::admin::OWN_POST_HEADER;
use crate::ingest::{IngestError, Receipt, Webhook};
use crate::secrets::Source;
use crate::sources::Kind;
use crate::sources::signature::{Verified, VerifyError, verify};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to make sure that all changes to sources are known.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(3);

/// Takes a webhook. A 200 means: every event is on disk.
pub async fn receive(state: web::Data<State>, request: HttpRequest, body: web::Payload) -> HttpResponse<InFlightBody> {
    let (token, mut payload, mut note) = (state.in_flight(), body, None);
    let span = tracing::debug_span!("webhook", source.id = tracing::field::Empty);
    let answer = accept(&state, &request, &mut payload, &mut note).instrument(span).await;
    let mut response = match answer {
        Ok(receipt) => HttpResponse::Ok().json(receipt),
        Err(problem) => {
            tracing::debug!(?problem, code = problem.code(), "a webhook was not accepted");
            actix_web::ResponseError::error_response(&problem)
        }
    };
    state.metrics.webhook(response.status().as_u16());
    if state.is_stopping() || leaves_body(response.status()) {
        response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    response.map_body(|_, body| InFlightBody { body, _token: token, _payload: payload, _note: note })
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

/// An answer's body. Until it is written, the webhook is in flight, and a service that stops waits for it.
pub struct InFlightBody {
    body: BoxBody,
    _token: TaskTrackerToken,
    /// Kept until then: a payload that is dropped before its end is read to its end by the server, however long it is.
    _payload: web::Payload,
    /// Handed on then.
    _note: Option<PendingNote>,
}

impl MessageBody for InFlightBody {
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
    note: &mut Option<PendingNote>,
) -> Result<Receipt, Problem> {
    let path = request.match_info().unprocessed().strip_prefix('/').and_then(|rest| rest.split_once('/'));
    let (kind, token) = path.filter(|(_, token)| !token.contains('/')).ok_or(Problem::NotFound)?;
    let kind: Kind = kind.parse().map_err(|_| Problem::NotFound)?;
    if request.method() != Method::POST {
        return Err(Problem::MethodNotAllowed);
    }
    if state.is_drained() {
        return Err(IngestError::Stopping.into());
    }
    let (body, mut memory) = read(state, request.headers(), payload).await?;
    let received_at = OffsetDateTime::now_utc();
    let authentic = authenticate(state, kind, token, request.headers(), &body, received_at).await;
    if matches!(authentic, Err(Problem::InvalidSignature)) {
        // The same work whether the token exists.
        let source = state.sources.find(kind, token);
        source.as_ref().map_or(state.sources.dummy_activity(), |source| &source.activity).refused(received_at);
        let refused = Refused::new(source, kind, received_at, request.headers(), &body);
        *note = Some(state.refusals.note_later(refused));
    }
    let (source, verified) = authentic?;
    tracing::Span::current().record("source.id", tracing::field::display(source.id));
    // What the service sent to itself says nothing of the sender.
    let mark = request.headers().get(OWN_POST_HEADER);
    if !mark.is_some_and(|mark| state.own_posts.is_mark(mark.as_bytes())) {
        source.activity.verified(verified.signed_with(), received_at);
    }
    let webhook = Webhook::new(source.id, received_at, kind.parse(verified, received_at, &source.calls)?);
    drop(body);
    hold(&state.body_memory, &mut memory, webhook.n_bytes().div_ceil(UNIT))?;
    Ok(state.ingest.accept(webhook, memory).await?)
}

/// Reads the body, within its limits of size and time, and the service's limit of memory.
async fn read(
    state: &State,
    headers: &HeaderMap,
    payload: &mut web::Payload,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > state.max_body_bytes) {
        return Err(Problem::BodyTooLarge);
    }
    let read = async {
        let mut body = BytesMut::new();
        let mut memory: Option<OwnedSemaphorePermit> = None;
        while let Some(chunk) = payload.next().await {
            // The sender broke off: it will not see this answer.
            let chunk = chunk.map_err(|_| Problem::MalformedBody)?;
            if body.len() + chunk.len() > state.max_body_bytes {
                return Err(Problem::BodyTooLarge);
            }
            hold(&state.body_memory, &mut memory, (body.len() + chunk.len()).div_ceil(UNIT))?;
            if body.is_empty() && announced == Some(chunk.len()) {
                return Ok((chunk, memory));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body.freeze(), memory))
    };
    timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(Problem::BodyTooSlow))
}

/// Makes sure that `held` is of `n_units` at least.
fn hold(memory: &Arc<Semaphore>, held: &mut Option<OwnedSemaphorePermit>, n_units: usize) -> Result<(), Problem> {
    let more = n_units.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
    if more == 0 {
        return Ok(());
    }
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    let more = Arc::clone(memory).try_acquire_many_owned(more).map_err(|_| IngestError::TooManyWaiting)?;
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
    Ok(())
}

/// Whose webhook is it? Whoever may not know, learns nothing: an unknown token costs the same work as a wrong
/// signature, and gets the same answer.
async fn authenticate<'b>(
    state: &State,
    kind: Kind,
    token: &str,
    headers: &'b HeaderMap,
    body: &'b [u8],
    now: OffsetDateTime,
) -> Result<(Arc<Source>, Verified<'b>), Problem> {
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let signature = kind.read_signature(headers).map_err(|_| Problem::InvalidSignature)?;
    let attempt = || {
        let source = state.sources.find(kind, token);
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
            let Ok(Ok(_)) = timeout(LOOK_UP_TIMEOUT, Box::pin(state.sources.refresh())).await else {
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
