//! Sends batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};

use super::Batch;
use super::failure::Failure;
use super::outcome::{Outcome, retry_after};
use crate::domain::write_key::WriteKey;

/// No answer in this time is none.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
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
    pub(super) http: reqwest::Client,
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

/// Where a source's events go.
#[derive(Debug)]
pub struct Destination {
    /// The endpoint of the source's region.
    pub endpoint: Url,
    /// The write key.
    pub write_key: WriteKey,
}

/// What came of sending a batch.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status; `None`: there was no answer.
    pub status: Option<u16>,
    /// Why there was none.
    pub failure: Option<Failure>,
    /// What is to be done now.
    pub outcome: Outcome,
    /// What went wrong, in words for the source's admin.
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
            Ok(response) => answer(response, destination, sent_at).await,
            Err(error) => {
                let failure = Failure::of(&error);
                Answer {
                    status: None,
                    failure: Some(failure),
                    outcome: Outcome::Retry { after: None },
                    reason: Some(failure.words(&host(&destination.endpoint))),
                }
            }
        }
    }
}

/// The URL's host and port, without the credentials that may be in it.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

async fn answer(response: Response, destination: &Destination, now: SystemTime) -> Answer {
    let status = response.status().as_u16();
    let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| retry_after(v, now));
    let outcome = Outcome::of(status, after);
    let text = read_text(response, &destination.write_key).await;
    let reason = match outcome {
        Outcome::Delivered => None,
        _ if text.is_empty() => Some(format!("Segment answered {status}")),
        _ => Some(format!("Segment answered {status}: {text}")),
    };
    Answer { status: Some(status), failure: None, outcome, reason }
}

/// The beginning of an answer's body, on one line and without the write key, should it be quoted there. The status has
/// been said: a body that breaks off changes nothing.
async fn read_text(mut response: Response, write_key: &WriteKey) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    one_line(&String::from_utf8_lossy(&bytes), write_key)
}

fn one_line(text: &str, write_key: &WriteKey) -> String {
    let key = write_key.expose();
    let credentials = STANDARD.encode(format!("{key}:"));
    let text = text.replace(&credentials, "(credentials)").replace(key, "(write key)");
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_text_is_one_short_harmless_line_that_tells_no_key() {
        let key = WriteKey::parse("secret-key-1").expect("a key");
        let text = "a\nb \u{1b}]0;c\r\n key secret-key-1, Basic c2VjcmV0LWtleS0xOg==";
        assert_eq!(one_line(text, &key), "a b ]0;c key (write key), Basic (credentials)");
        let late = format!("{} secret-key-1", "x".repeat(190));
        assert!(!one_line(&late, &key).contains("secret"));
        assert_eq!(one_line(&"é".repeat(1_000), &key).chars().count(), MAX_REASON_CHARS);
    }

    #[test]
    fn a_host_is_shown_without_credentials() {
        let url = |text| Url::parse(text).expect("a URL");
        assert_eq!(host(&url("https://user:password@example.com/x?y")), "example.com");
        assert_eq!(host(&url("http://127.0.0.1:81/")), "127.0.0.1:81");
    }
}
