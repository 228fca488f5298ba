//! Sends batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};

use super::Batch;
use super::outcome::{Outcome, retry_after};
use crate::domain::write_key::WriteKey;

/// No answer in this time is none.
const TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than the idle time of the load balancers in front of Segment, so that no request meets a closing
/// connection; and names are resolved again with each new connection.
const IDLE: Duration = Duration::from_secs(15);
/// How much of an answer's text is kept for the reason.
const MAX_REASON_CHARS: usize = 200;
/// How much of an answer is read. Segment's answers are a few bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Segment's HTTP API.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    in_flight: Arc<InFlightCounters>,
}

/// Requests that are not answered yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct InFlight {
    /// How many there are.
    pub n_requests: usize,
    /// The memory that their bodies take, in bytes.
    pub n_bytes: usize,
}

#[derive(Debug, Default)]
struct InFlightCounters {
    n_requests: AtomicUsize,
    n_bytes: AtomicUsize,
}

/// A request, counted until this is dropped.
struct Counted<'a> {
    counters: &'a InFlightCounters,
    n_bytes: usize,
}

impl InFlightCounters {
    fn count(&self, n_bytes: usize) -> Counted<'_> {
        // Before the request, as a request that is counted without its bytes would look small.
        self.n_bytes.fetch_add(n_bytes, Ordering::AcqRel);
        self.n_requests.fetch_add(1, Ordering::AcqRel);
        Counted { counters: self, n_bytes }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counters.n_requests.fetch_sub(1, Ordering::AcqRel);
        self.counters.n_bytes.fetch_sub(self.n_bytes, Ordering::AcqRel);
    }
}

/// Where an account's events go.
#[derive(Debug)]
pub struct Destination {
    /// The endpoint of the account's region.
    pub endpoint: Url,
    /// The write key.
    pub write_key: WriteKey,
}

/// What came of sending a batch.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status; `None`: there was no answer.
    pub status: Option<u16>,
    /// What is to be done now.
    pub outcome: Outcome,
    /// What went wrong, in words for the account's admin.
    pub reason: Option<String>,
}

impl Client {
    /// # Errors
    /// Where the TLS library cannot be set up, as without certificates of authorities.
    pub fn new() -> Result<Self, reqwest::Error> {
        // Fails where a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("nudgespot-source/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { http, in_flight: Arc::default() })
    }

    /// The requests of this client, and of its clones, that are not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        let n_requests = self.in_flight.n_requests.load(Ordering::Acquire);
        InFlight { n_requests, n_bytes: self.in_flight.n_bytes.load(Ordering::Acquire) }
    }

    /// Sends a batch, once.
    pub async fn send(&self, destination: &Destination, batch: Batch, sent_at: SystemTime) -> Answer {
        let url = format!("{}/v1/batch", destination.endpoint.as_str().trim_end_matches('/'));
        let body = batch.into_body(sent_at.into());
        let _counted = self.in_flight.count(body.capacity());
        let response = self
            .http
            .post(url)
            .basic_auth(destination.write_key.expose(), Some(""))
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await;
        match response {
            Ok(response) => answer(response, sent_at).await,
            Err(error) => {
                Answer { status: None, outcome: Outcome::Retry { after: None }, reason: Some(no_answer(&error)) }
            }
        }
    }
}

async fn answer(response: Response, now: SystemTime) -> Answer {
    let status = response.status().as_u16();
    let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| retry_after(v, now));
    let outcome = Outcome::of(status, after);
    let text = read_text(response).await;
    let reason = match outcome {
        Outcome::Delivered => None,
        _ if text.is_empty() => Some(format!("Segment answered {status}")),
        _ => Some(format!("Segment answered {status}: {text}")),
    };
    Answer { status: Some(status), outcome, reason }
}

/// The beginning of an answer's body, on one line. The status has been said: a body that breaks off changes nothing.
async fn read_text(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_REASON_CHARS).collect()
}

fn no_answer(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        format!("no answer from Segment in {} s", TIMEOUT.as_secs())
    } else if error.is_connect() {
        "no connection to Segment".to_owned()
    } else {
        "the connection to Segment was lost".to_owned()
    }
}
