//! A stand-in for Segment and for Nudgespot's REST API, for demonstrations and tests, that obeys their documented rules.
//!
//! It keeps the newest of what it takes in memory, and fails on demand, so that a person can watch what then happens.

mod faults;
mod memory;
mod nudgespot;
mod rules;

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::dev::{Server, ServerHandle};
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, ContentType, HeaderMap, USER_AGENT};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use faults::{Fault, Faults, Odds};
use memory::Memory;
pub use memory::Request;
pub use nudgespot::NudgespotRequest;

/// How many messages are kept and listed: the newest.
const MAX_MESSAGES: usize = 10_000;
/// How much of a body is read at all: more than is taken, so that whoever sends a little too much hears that it is.
const MAX_BODY_BYTES: usize = 4 << 20;

/// The stand-in, shared with whoever watches it.
pub struct Sandbox {
    /// How it fails as Segment.
    pub faults: Faults,
    /// How it fails as Nudgespot; plans are by REST key.
    pub nudgespot_faults: Faults,
    memory: Mutex<Memory>,
    nudgespot: Mutex<nudgespot::Memory>,
    changed: watch::Sender<usize>,
}

impl Sandbox {
    /// A stand-in that fails as Segment as `faults` say, and keeps the newest 10,000 messages.
    #[must_use]
    pub fn new(faults: Faults) -> Arc<Self> {
        Self::with_capacity(faults, MAX_MESSAGES)
    }

    /// One that keeps this many messages, and users, activities and requests of Nudgespot. No more than 10,000 are ever
    /// listed by `GET /messages` and its like.
    #[must_use]
    pub fn with_capacity(faults: Faults, max_messages: usize) -> Arc<Self> {
        Self::build(faults, Faults::default(), max_messages)
    }

    /// One that also fails as Nudgespot, and keeps the newest 10,000 messages.
    #[must_use]
    pub fn with_both(segment_faults: Faults, nudgespot_faults: Faults) -> Arc<Self> {
        Self::build(segment_faults, nudgespot_faults, MAX_MESSAGES)
    }

    fn build(faults: Faults, nudgespot_faults: Faults, max: usize) -> Arc<Self> {
        Arc::new(Self {
            faults,
            nudgespot_faults,
            memory: Mutex::new(Memory::new(max)),
            nudgespot: Mutex::new(nudgespot::Memory::new(max)),
            changed: watch::Sender::new(0),
        })
    }

    /// The messages that are kept, each as it was sent, with `writeKey`, `receivedAt` and its batch's `sentAt`.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        values(&self.memory().messages(usize::MAX))
    }

    /// How many messages were kept so far, also those that are forgotten by now.
    #[must_use]
    pub fn n_messages(&self) -> usize {
        self.memory().n_kept()
    }

    /// All requests so far; of very many, the newest 100,000.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.memory().requests_after(0)
    }

    /// The requests after the first `n_seen`, as far as they are remembered, and how many there were in all.
    #[must_use]
    pub fn requests_after(&self, n_seen: usize) -> (Vec<Request>, usize) {
        let memory = self.memory();
        (memory.requests_after(n_seen), memory.n_requests())
    }

    /// The users that Nudgespot has, in the order in which they were first identified, each as merged.
    #[must_use]
    pub fn nudgespot_subscribers(&self) -> Vec<Value> {
        values(&self.nudgespot().subscribers(usize::MAX))
    }

    /// The activities that Nudgespot has, in order, each as it was sent.
    #[must_use]
    pub fn nudgespot_activities(&self) -> Vec<Value> {
        values(&self.nudgespot().activities(usize::MAX))
    }

    /// All requests to Nudgespot so far, also those that failed; of very many, the newest.
    #[must_use]
    pub fn nudgespot_requests(&self) -> Vec<NudgespotRequest> {
        self.nudgespot().requests(usize::MAX)
    }

    /// The requests to Nudgespot after the first `n_seen`, as far as they are remembered, and how many there were in all.
    #[must_use]
    pub fn nudgespot_requests_after(&self, n_seen: usize) -> (Vec<NudgespotRequest>, usize) {
        self.nudgespot().requests_after(n_seen)
    }

    /// Tells of every request, to Segment or to Nudgespot, by how many there were.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<usize> {
        self.changed.subscribe()
    }

    /// Listens on `address`. The server runs when it is awaited.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn bind(self: &Arc<Self>, address: SocketAddr) -> io::Result<(Server, ServerHandle, SocketAddr)> {
        let sandbox = web::Data::from(Arc::clone(self));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(sandbox.clone())
                .route("/v1/batch", web::post().to(batch))
                .route("/v1/track", web::post().to(track))
                .route("/v1/projects/{key}/settings", web::get().to(settings))
                .route("/messages", web::get().to(messages))
                .configure(nudgespot::routes)
        })
        .workers(1)
        .shutdown_timeout(1)
        .disable_signals()
        .bind(address)?;
        let bound = *server.addrs().first().ok_or_else(|| io::Error::other("bound to no address"))?;
        let server = server.run();
        let handle = server.handle();
        Ok((server, handle, bound))
    }

    async fn receive(&self, request: &HttpRequest, body: web::Payload, is_batch: bool) -> HttpResponse {
        let Ok((body, is_whole)) = read(body, MAX_BODY_BYTES).await else { return HttpResponse::BadRequest().finish() };
        let headers = request.headers();
        let verdict = rules::judge(&body, is_batch, basic_user(headers));
        let fault = self.faults.next(verdict.write_key.as_deref(), &body);
        let (judged, message) = (verdict.status, verdict.message);
        let status = fault.as_ref().map_or(Some(judged), Fault::status);
        let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        self.memory().record(verdict, body.len(), user_agent, status);
        self.tell();
        match fault {
            Some(fault) => fault.answer(&json!({"success": false, "message": "a fault on demand"})).await,
            None if judged == 200 => HttpResponse::Ok().json(json!({"success": true})),
            None => {
                let mut response = HttpResponse::build(StatusCode::from_u16(judged).unwrap_or_default());
                if !is_whole {
                    response.force_close();
                }
                response.json(json!({"success": false, "message": message}))
            }
        }
    }

    /// Tells whoever waits for it that there was a request. He looks into the memory while he holds the channel: it must
    /// not be locked here.
    fn tell(&self) {
        self.changed.send_modify(|n_requests| *n_requests += 1);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nudgespot(&self) -> MutexGuard<'_, nudgespot::Memory> {
        self.nudgespot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Texts as JSON. What Rust's parser does not take (a number beyond its range) is shown as text.
fn values(texts: &[impl AsRef<str>]) -> Vec<Value> {
    let texts = texts.iter().map(AsRef::as_ref);
    texts.map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))).collect()
}

/// Reads a body, but not without end; says whether that is all of it.
async fn read(mut payload: web::Payload, max_bytes: usize) -> Result<(web::BytesMut, bool), PayloadError> {
    let mut body = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        body.extend_from_slice(&chunk?);
        if body.len() > max_bytes {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

async fn batch(sandbox: web::Data<Sandbox>, request: HttpRequest, body: web::Payload) -> HttpResponse {
    sandbox.receive(&request, body, true).await
}

async fn track(sandbox: web::Data<Sandbox>, request: HttpRequest, body: web::Payload) -> HttpResponse {
    sandbox.receive(&request, body, false).await
}

async fn messages(sandbox: web::Data<Sandbox>) -> HttpResponse {
    let messages = sandbox.memory().messages(MAX_MESSAGES);
    list(messages)
}

/// Answers with a list of these, each of which is JSON already.
fn list<T: Display + 'static>(texts: impl IntoIterator<Item = T, IntoIter: 'static>) -> HttpResponse {
    let elements = texts.into_iter().enumerate().map(|(n, text)| {
        let separator = if n == 0 { "" } else { "," };
        Ok::<_, Infallible>(web::Bytes::from(format!("{separator}{text}")))
    });
    let [begin, end] = ["[", "]"].map(|bracket| Ok(web::Bytes::from_static(bracket.as_bytes())));
    let parts = std::iter::once(begin).chain(elements).chain([end]);
    HttpResponse::Ok().content_type(ContentType::json()).streaming(futures_util::stream::iter(parts))
}

/// Where Segment's libraries for browsers look up a source by its write key.
async fn settings(key: web::Path<String>) -> HttpResponse {
    if key.starts_with("unknown") {
        return HttpResponse::NotFound().json(json!({"success": false, "message": "no source has this write key"}));
    }
    HttpResponse::Ok().json(json!({"integrations": {"Segment.io": {"apiKey": *key}}, "plan": {"track": {}}}))
}

/// The user of Basic authentication, where Segment's libraries put the write key.
fn basic_user(headers: &HeaderMap) -> Option<String> {
    basic(headers).filter(|(user, password)| password.is_empty() && !user.is_empty()).map(|(user, _)| user)
}

/// The user and the password of Basic authentication.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}
