//! What the clients have in common: their limits, the requests that they wait for, and the text of an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Response, Url};

use super::failure::{CONNECT_TIMEOUT, Failure};
use super::outcome::{Outcome, retry_after};

/// Shorter than the idle time of the load balancers in front of Segment, so that no request meets a closing
/// connection; and names are resolved again with each new connection.
const IDLE: Duration = Duration::from_secs(15);
/// How much of an answer's text is kept for the reason.
const MAX_REASON_CHARS: usize = 200;
/// How much of an answer is read. Answers are a few bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What became of a request.
#[derive(Debug)]
pub struct Answer {
    /// Its status; `None`: there was no answer.
    pub status: Option<u16>,
    /// Why there was none.
    pub failure: Option<Failure>,
    /// What is to be done.
    pub outcome: Outcome,
    /// Why, in words, unless all is well.
    pub reason: Option<String>,
}

/// Requests that are not answered yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct InFlight {
    /// How many there are.
    pub n_requests: usize,
    /// The memory that their bodies take, in bytes.
    pub n_bytes: usize,
}

impl std::ops::Add for InFlight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let n_requests = self.n_requests + other.n_requests;
        Self { n_requests, n_bytes: self.n_bytes + other.n_bytes }
    }
}

/// Counts them. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlightCounters(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    n_requests: AtomicUsize,
    n_bytes: AtomicUsize,
}

/// A request, counted until this is dropped.
pub(super) struct Counted<'a> {
    counters: &'a Counters,
    n_bytes: usize,
}

impl InFlightCounters {
    pub(super) fn count(&self, n_bytes: usize) -> Counted<'_> {
        // Before the request, as a request that is counted without its bytes would look small.
        self.0.n_bytes.fetch_add(n_bytes, Ordering::AcqRel);
        self.0.n_requests.fetch_add(1, Ordering::AcqRel);
        Counted { counters: &self.0, n_bytes }
    }

    pub(super) fn get(&self) -> InFlight {
        let n_requests = self.0.n_requests.load(Ordering::Acquire);
        InFlight { n_requests, n_bytes: self.0.n_bytes.load(Ordering::Acquire) }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counters.n_requests.fetch_sub(1, Ordering::AcqRel);
        self.counters.n_bytes.fetch_sub(self.n_bytes, Ordering::AcqRel);
    }
}

/// A client whose requests have `timeout` for all of it.
///
/// # Errors
/// Where the TLS library cannot be set up, as without certificates of authorities.
pub(super) fn client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    // Fails where a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("nudgespot-source/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .pool_idle_timeout(IDLE)
        .redirect(Policy::none())
        .no_proxy()
        .build()
}

/// Whom a request goes to, and how its answer is read.
pub(super) struct Peer<'a> {
    /// Its name, for people.
    pub name: &'static str,
    pub endpoint: &'a Url,
    pub timeout: Duration,
    /// Texts that must not be told, with what is told instead: an answer may quote them.
    pub secrets: &'a [(&'a str, &'static str)],
}

impl Peer<'_> {
    /// Reads an answer. `outcome` says what its status, `Retry-After` and body mean.
    pub async fn read(
        &self,
        response: Result<Response, reqwest::Error>,
        now: SystemTime,
        outcome: impl FnOnce(u16, Option<Duration>, &[u8]) -> Outcome,
    ) -> Answer {
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                let failure = Failure::of(&error);
                let reason = Some(failure.words(&host(self.endpoint), self.timeout));
                return Answer {
                    status: None,
                    failure: Some(failure),
                    outcome: Outcome::Retry { after: None },
                    reason,
                };
            }
        };
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| retry_after(v, now));
        let body = read_body(response).await;
        let outcome = outcome(status, after, &body);
        let text = self.one_line(&String::from_utf8_lossy(&body));
        let reason = match outcome {
            Outcome::Delivered => None,
            _ if text.is_empty() => Some(format!("{} answered {status}", self.name)),
            _ => Some(format!("{} answered {status}: {text}", self.name)),
        };
        Answer { status: Some(status), failure: None, outcome, reason }
    }

    fn one_line(&self, text: &str) -> String {
        let text = self.secrets.iter().fold(text.to_owned(), |text, (secret, instead)| text.replace(secret, instead));
        let words: Vec<&str> =
            text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
        words.join(" ").chars().take(MAX_REASON_CHARS).collect()
    }
}

/// The beginning of an answer's body. The status has been said: a body that breaks off changes nothing.
async fn read_body(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    bytes
}

/// The URL's host and port, without the credentials that may be in it.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_text_is_one_short_harmless_line_that_tells_no_key() {
        let endpoint = Url::parse("http://127.0.0.1/").expect("a URL");
        let secrets = [("c2VjcmV0LWtleS0xOg==", "(credentials)"), ("secret-key-1", "(write key)")];
        let peer = Peer { name: "Segment", endpoint: &endpoint, timeout: Duration::from_secs(1), secrets: &secrets };
        let text = "a\nb \u{1b}]0;c\r\n key secret-key-1, Basic c2VjcmV0LWtleS0xOg==";
        assert_eq!(peer.one_line(text), "a b ]0;c key (write key), Basic (credentials)");
        let late = format!("{} secret-key-1", "x".repeat(190));
        assert!(!peer.one_line(&late).contains("secret"));
        assert_eq!(peer.one_line(&"é".repeat(1_000)).chars().count(), MAX_REASON_CHARS);
    }

    #[test]
    fn a_host_is_shown_without_credentials() {
        let url = |text| Url::parse(text).expect("a URL");
        assert_eq!(host(&url("https://user:password@example.com/x?y")), "example.com");
        assert_eq!(host(&url("http://127.0.0.1:81/")), "127.0.0.1:81");
    }
}
