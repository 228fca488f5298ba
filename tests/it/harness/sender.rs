//! Nudgespot, as far as the program can see it.

use std::sync::LazyLock;

use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::sources::signature::{SigningScheme, sign};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{PATIENCE, Service};

/// One source, as Nudgespot knows it.
#[derive(Clone)]
pub struct Source {
    pub id: String,
    pub name: String,
    pub write_key: String,
    pub path: String,
    pub secret: SigningSecret,
}

/// What a webhook was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

static HTTP: LazyLock<()> = LazyLock::new(|| {
    // The tests' client needs the same TLS provider as the program's, though it speaks plain HTTP.
    nudgespot_source::destinations::segment::Client::new().expect("a client");
});

/// A client of its own: connections belong to the runtime of a test.
pub fn http() -> reqwest::Client {
    client().build().expect("a client")
}

/// A client that is led nowhere: a redirect is an answer.
pub fn http_without_redirects() -> reqwest::Client {
    client().redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

fn client() -> reqwest::ClientBuilder {
    LazyLock::force(&HTTP);
    // Nothing here speaks TLS, and to read the system's certificates takes longer than a request.
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([])
}

impl Source {
    pub fn new(name: &str, created: &Value) -> Self {
        let text = |field: &str| created[field].as_str().unwrap_or_else(|| panic!("{field}: {created}")).to_owned();
        Self {
            id: text("source_id"),
            name: name.to_owned(),
            write_key: format!("key-of-{name}"),
            path: text("webhook_path"),
            secret: SigningSecret::parse(&text("signing_secret")).expect("a secret"),
        }
    }

    /// The headers that sign `body` now.
    pub fn sign(&self, scheme: SigningScheme, body: &str) -> Vec<(&'static str, String)> {
        sign(&self.secret, scheme, "msg_test", OffsetDateTime::now_utc().unix_timestamp(), body.as_bytes())
    }

    /// Posts a signed webhook.
    pub async fn post(&self, service: &Service, body: &Value) -> Answer {
        self.post_text(service, &body.to_string()).await
    }

    /// Posts a signed webhook.
    pub async fn post_text(&self, service: &Service, body: &str) -> Answer {
        self.post_signed(service, body, &self.sign(SigningScheme::Standard, body)).await
    }

    /// Posts a webhook with these headers.
    pub async fn post_signed(&self, service: &Service, body: &str, headers: &[(&'static str, String)]) -> Answer {
        self.try_post(service, body, headers).await.expect("an answer")
    }

    /// Posts a webhook, which may not be answered.
    pub async fn try_post(
        &self,
        service: &Service,
        body: &str,
        headers: &[(&'static str, String)],
    ) -> reqwest::Result<Answer> {
        let mut request = http().post(format!("{}{}", service.url, self.path)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?;
        Ok(Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }

    /// Posts events, which must all be accepted.
    pub async fn accept(&self, service: &Service, events: &Value) {
        let answer = self.post(service, events).await;
        let n = events.as_array().map_or(1, Vec::len);
        assert_eq!((answer.status, &answer.body["accepted"]), (200, &json!(n)), "{}", answer.body);
    }
}

/// Events with these numbers, each an object with its number as id and recipient.
pub fn events(numbers: impl IntoIterator<Item = u32>) -> Value {
    numbers.into_iter().map(|n| json!({"id": format!("e{n}"), "event": "opened", "uid": format!("u{n}")})).collect()
}
