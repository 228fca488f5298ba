//! A stand-in for Segment, for demonstrations and tests, that obeys Segment's documented rules.
//!
//! It keeps what it takes in memory, and fails on demand, so that a person can watch what then happens.

mod faults;
mod rules;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, RETRY_AFTER};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::domain::timestamp;
pub use faults::{Fault, Faults, Odds};
use rules::Verdict;

/// How much of a body is read at all: enough to see that it is too large.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Longer than anybody waits.
const HANG: Duration = Duration::from_hours(1);

/// What the stand-in was sent, and what it made of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The write key that came along.
    pub write_key: Option<String>,
    /// The body's size.
    pub n_bytes: usize,
    /// The events in it.
    pub n_events: usize,
    /// The body's `sentAt`.
    pub sent_at: Option<String>,
    /// The `User-Agent`.
    pub user_agent: Option<String>,
    /// When it came.
    pub at: OffsetDateTime,
    /// What it was answered with; `None`: not at all.
    pub status: Option<u16>,
}

#[derive(Default)]
struct Log {
    messages: Vec<Value>,
    ids: HashSet<String>,
    requests: Vec<Request>,
}

/// The stand-in's memory, shared with whoever watches it.
pub struct Sandbox {
    /// How it fails.
    pub faults: Faults,
    log: Mutex<Log>,
    changed: watch::Sender<usize>,
}

impl Sandbox {
    /// A stand-in that fails as `faults` say.
    #[must_use]
    pub fn new(faults: Faults) -> Arc<Self> {
        Arc::new(Self { faults, log: Mutex::default(), changed: watch::Sender::new(0) })
    }

    /// The messages that were kept, each as it was sent, with `writeKey`, `receivedAt` and its batch's `sentAt`.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        self.log().messages.clone()
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.log().requests.clone()
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
                .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
                .route("/v1/batch", web::post().to(batch))
                .route("/v1/track", web::post().to(track))
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

    async fn receive(&self, request: &HttpRequest, body: &[u8], is_batch: bool) -> HttpResponse {
        let headers = request.headers();
        let verdict = rules::judge(body, is_batch, basic_user(headers));
        let fault = self.faults.next(verdict.write_key.as_deref(), body);
        let status = match &fault {
            Some(Fault::Hang | Fault::Drop) => None,
            Some(Fault::Status(status, _)) => Some(*status),
            None => Some(verdict.status),
        };
        self.record(headers, body, &verdict, status);
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
            None if verdict.status == 200 => HttpResponse::Ok().json(json!({"success": true})),
            None => HttpResponse::build(StatusCode::from_u16(verdict.status).unwrap_or_default())
                .json(json!({"success": false, "message": verdict.message})),
        }
    }

    fn record(&self, headers: &HeaderMap, body: &[u8], verdict: &Verdict, status: Option<u16>) {
        let now = OffsetDateTime::now_utc();
        let mut log = self.log();
        if status == Some(200) {
            for message in &verdict.keep {
                let id = message.get("messageId").and_then(Value::as_str).unwrap_or_default();
                if log.ids.insert(id.to_owned()) {
                    let mut message = message.clone();
                    message["writeKey"] = json!(verdict.write_key);
                    message["receivedAt"] = json!(timestamp::rfc3339(now));
                    message["sentAt"] = json!(verdict.sent_at);
                    log.messages.push(message);
                }
            }
        }
        let user_agent = headers.get("user-agent").and_then(|v| v.to_str().ok()).map(str::to_owned);
        log.requests.push(Request {
            write_key: verdict.write_key.clone(),
            n_bytes: body.len(),
            n_events: verdict.n_events,
            sent_at: verdict.sent_at.clone(),
            user_agent,
            at: now,
            status,
        });
        let n_requests = log.requests.len();
        // Who waits for it looks into the log while it holds the channel: not with the log locked.
        drop(log);
        self.changed.send_replace(n_requests);
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn batch(sandbox: web::Data<Sandbox>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    sandbox.receive(&request, &body, true).await
}

async fn track(sandbox: web::Data<Sandbox>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    sandbox.receive(&request, &body, false).await
}

async fn messages(sandbox: web::Data<Sandbox>) -> HttpResponse {
    HttpResponse::Ok().json(sandbox.messages())
}

/// The user of Basic authentication, where Segment's libraries put the write key.
fn basic_user(headers: &HeaderMap) -> Option<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    (password.is_empty() && !user.is_empty()).then(|| user.to_owned())
}
