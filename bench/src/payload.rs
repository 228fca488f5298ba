//! What the load generator posts: bodies of new events or calls, and how their sender proves who it is.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::sources::signature::{SigningScheme, sign};
use time::OffsetDateTime;

/// Over how many users calls are spread.
pub const N_USERS: u64 = 10_000;

/// A source to post to.
#[derive(Clone)]
pub struct Target {
    pub path: String,
    pub secret: SigningSecret,
    /// Basic, with the source's ingest key.
    authorization: String,
}

impl Target {
    pub fn new(path: impl Into<String>, secret: SigningSecret) -> Self {
        let authorization = format!("Basic {}", STANDARD.encode(format!("{}:", secret.ingest_key())));
        Self { path: path.into(), secret, authorization }
    }
}

/// What a body holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Email events, in signed webhooks.
    Events,
    /// Calls that make users known, one after the other.
    Identifies,
    /// Calls of users who are known.
    Tracks,
}

/// The number of the next event or call.
pub static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Payload {
    /// Writes a body with so many; returns the number of the first.
    pub fn write_body(self, body: &mut String, n: usize) -> u64 {
        body.clear();
        body.push_str(if n > 1 { "[" } else { "" });
        let first = NEXT_ID.fetch_add(n as u64, Ordering::Relaxed);
        for id in first..first + n as u64 {
            body.push_str(if id > first { "," } else { "" });
            let user = id % N_USERS;
            match self {
                Self::Events => write_event(body, id),
                Self::Identifies => write!(
                    body,
                    r#"{{"type":"identify","messageId":"call_{id:016x}","userId":"user_{user:08x}","traits":{{"email":"user{user}@example.com","firstName":"Ada","plan":"pro"}},"timestamp":"2016-01-27T09:15:00.000Z"}}"#
                ),
                Self::Tracks => write!(
                    body,
                    r#"{{"type":"track","messageId":"call_{id:016x}","userId":"user_{user:08x}","event":"Item Purchased","properties":{{"sku":"{id:x}","name":"First shirt","price":39.95,"quantity":1,"url":"https://www.buymyshirts.com?promo=NEWCUSTOMER"}},"context":{{"ip":"67.207.{}.{}","library":{{"name":"analytics-node","version":"3.1.0"}}}},"timestamp":"2016-01-27T09:15:00.000Z"}}"#,
                    id / 7 % 256,
                    id % 256
                ),
            }
            .expect("a String takes all");
        }
        body.push_str(if n > 1 { "]" } else { "" });
        first
    }

    /// The request with this body.
    pub fn request(self, target: &Target, body: &str) -> anyhow::Result<Vec<u8>> {
        let mut request = Vec::with_capacity(body.len() + 512);
        write!(request, "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", target.path, body.len())?;
        if self == Self::Events {
            let now = OffsetDateTime::now_utc().unix_timestamp();
            for (name, value) in sign(&target.secret, SigningScheme::Standard, "msg_bench", now, body.as_bytes()) {
                write!(request, "{name}: {value}\r\n")?;
            }
        } else {
            write!(request, "authorization: {}\r\ncontent-type: application/json\r\n", target.authorization)?;
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body.as_bytes());
        Ok(request)
    }
}

fn write_event(body: &mut String, id: u64) -> std::fmt::Result {
    write!(
        body,
        r#"{{"id":"evt_{id:016x}","event":"clicked","timestamp":"2016-01-27T09:15:00.000Z","subscriber":{{"uid":"u{:08x}","email":"pgibbons{}@example.com"}},"properties":{{"email_id":"{id:x}","email_subject":"First shirt on us!","campaign_id":"123","campaign_name":"New Customer Discount","link_id":"101","link_url":"https://www.buymyshirts.com?promo=NEWCUSTOMER","ip":"67.207.{}.{}","user_agent":"Mozilla/5.0 (Macintosh)"}}}}"#,
        id % 100_000,
        id % 100_000,
        id / 7 % 256,
        id % 256
    )
}
