//! A stand-in for Segment, for demonstrations and tests, that obeys Segment's documented rules.
//!
//! It keeps the newest of what it takes in memory, and fails on demand, so that a person can watch what then happens.

mod faults;
mod memory;
mod rules;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, ContentType, HeaderMap, RETRY_AFTER, USER_AGENT};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use faults::{Fault, Faults, Odds};
use memory::Memory;
pub use memory::Request;

/// How many messages are kept and listed: the newest.
const MAX_MESSAGES: usize = 10_000;
/// How much of a body is read at all: more than is taken, so that whoever sends a little too much hears that it is.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Longer than anybody waits.
const HANG: Duration = Duration::from_hours(1);

/// The stand-in, shared with whoever watches it.
pub struct Sandbox {
    /// How it fails.
    pub faults: Faults,
    memory: Mutex<Memory>,
    changed: watch::Sender<usize>,
}

impl Sandbox {
    /// A stand-in that fails as `faults` say, and keeps the newest 10,000 messages.
    #[must_use]
    pub fn new(faults: Faults) -> Arc<Self> {
        Self::with_capacity(faults, MAX_MESSAGES)
    }

    /// One that keeps this many messages. No more than 10,000 are ever listed by `GET /messages`.
    #[must_use]
    pub fn with_capacity(faults: Faults, max_messages: usize) -> Arc<Self> {
        Arc::new(Self { faults, memory: Mutex::new(Memory::new(max_messages)), changed: watch::Sender::new(0) })
    }

    /// The messages that are kept, each as it was sent, with `writeKey`, `receivedAt` and its batch's `sentAt`.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        let texts = self.memory().messages(usize::MAX);
        // What Rust's parser does not take (a number beyond its range) is shown as text.
        texts.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::from(&**text))).collect()
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

    /// Tells of every request, by how many there were.
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
        let Ok((body, is_whole)) = read(body).await else { return HttpResponse::BadRequest().finish() };
        let headers = request.headers();
        let verdict = rules::judge(&body, is_batch, basic_user(headers));
        let fault = self.faults.next(verdict.write_key.as_deref(), &body);
        let (judged, message) = (verdict.status, verdict.message);
        let status = match &fault {
            Some(Fault::Hang | Fault::Drop) => None,
            Some(Fault::Status(status, _)) => Some(*status),
            None => Some(judged),
        };
        let n_requests = {
            let mut memory = self.memory();
            memory.record(verdict, body.len(), headers.get(USER_AGENT).and_then(|v| v.to_str().ok()), status);
            memory.n_requests()
        };
        // Who waits for it looks into the memory while it holds the channel: not with the memory locked.
        self.changed.send_replace(n_requests);
        match fault {
            Some(Fault::Hang) => {
                tokio::time::sleep(HANG).await;
                HttpResponse::ServiceUnavailable().finish()
            }
            // A body that breaks off takes the connection with it.
            Some(Fault::Drop) => HttpResponse::Ok().streaming(futures_util::stream::once(async {
                Err::<web::Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset))
            })),
            Some(Fault::Status(status, retry_after)) => {
                let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or_default());
                if let Some(after) = retry_after {
                    response.insert_header((RETRY_AFTER, after));
                }
                response.json(json!({"success": false, "message": "a fault on demand"}))
            }
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

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a body, but not without end; says whether that is all of it.
async fn read(mut payload: web::Payload) -> Result<(web::BytesMut, bool), PayloadError> {
    let mut body = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        body.extend_from_slice(&chunk?);
        if body.len() > MAX_BODY_BYTES {
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
    let elements = messages.into_iter().enumerate().map(|(n, message)| {
        let separator = if n == 0 { "" } else { "," };
        Ok::<_, Infallible>(web::Bytes::from(format!("{separator}{message}")))
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
    use base64::{Engine, engine::general_purpose::STANDARD};
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    (password.is_empty() && !user.is_empty()).then(|| user.to_owned())
}
