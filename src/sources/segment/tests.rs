use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};
use time::macros::datetime;

use super::super::Kind;
use super::super::signature::{Keyring, verify};
use super::*;
use crate::domain::call::CallFields;
use crate::domain::event;
use crate::domain::secret::SigningSecret;

mod bodies;
mod identifies;
mod kept_out;
mod sdks;
mod soundness;
mod tracks;

const RECEIVED_AT: OffsetDateTime = datetime!(2026-01-02 03:04:05.678 UTC);

/// What became of an element, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// Id, user id, body, and address.
    Identify(String, String, String, Option<String>),
    /// Id, user id, and body.
    Track(String, String, String),
    /// Id and user id.
    Delete(String, String),
    /// Name, reason, and text.
    Ignored(String, String, String),
    /// Reason, and text.
    Rejected(String, String),
}

impl Fate {
    fn of(element: BodyElement<'_>) -> Self {
        let raw = element.raw.into_owned();
        match element.disposition {
            Disposition::Call(Call { id, user_id, action }) => {
                let (id, user_id) = (id.as_str().to_owned(), user_id.into_owned());
                match action {
                    Action::Identify { body, email } => Self::Identify(id, user_id, body, email),
                    Action::Track { body } => Self::Track(id, user_id, body),
                    Action::Delete => Self::Delete(id, user_id),
                }
            }
            Disposition::Ignored { name, reason } => {
                Self::Ignored(name.into_owned(), reason.expect("calls are ignored for a reason").to_owned(), raw)
            }
            Disposition::Rejected(reason) => Self::Rejected(reason.to_string(), raw),
            Disposition::Event(..) => panic!("a call became an email event"),
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Identify(id, ..) | Self::Track(id, ..) | Self::Delete(id, _) => id,
            other => panic!("{other:?} has no id"),
        }
    }

    /// The body of the request to Nudgespot, which what the log reads of it agrees with.
    fn body(&self) -> &str {
        let (kind, user_id, body) = match self {
            Self::Identify(_, user_id, body, _) => (event::Kind::Identify, user_id, body),
            Self::Track(_, user_id, body) => (event::Kind::Track, user_id, body),
            other => panic!("{other:?} has no body"),
        };
        assert!(body.len() < 64 << 10, "{} bytes", body.len());
        let fields = CallFields::parse(kind, body.as_bytes()).expect("readable again");
        assert_eq!(fields.user_id().as_deref(), Some(user_id.as_str()));
        body
    }

    fn subscriber(&self) -> Json {
        let mut body: Json = serde_json::from_str(self.body()).expect("JSON");
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(1));
        body["subscriber"].take()
    }

    fn activity(&self) -> Json {
        let mut body: Json = serde_json::from_str(self.body()).expect("JSON");
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(1));
        body["activity"].take()
    }

    /// `ignored NAME: REASON`, `rejected: REASON`, or what is sent.
    fn words(&self) -> String {
        match self {
            Self::Identify(..) => "identify".to_owned(),
            Self::Track(..) => "track".to_owned(),
            Self::Delete(..) => "delete".to_owned(),
            Self::Ignored(name, reason, _) => format!("ignored {name}: {reason}"),
            Self::Rejected(reason, _) => format!("rejected: {reason}"),
        }
    }
}

/// Lets the source's ingest key authenticate a body: there is no other way to the parser.
fn verified<T>(body: &[u8], parse: impl FnOnce(Verified<'_>) -> T) -> T {
    let secret = SigningSecret::from_random([1; 32]);
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:", secret.ingest_key())));
    let signature = Kind::Segment.read_signature([("Authorization", basic.as_bytes())].into_iter()).expect("readable");
    let keyring =
        Keyring { current: secret.clone(), previous: secret, previous_until: None, allow_untimestamped: false };
    parse(verify(&signature, body, &keyring, 0).expect("verified"))
}

fn fates_with(body: &[u8], settings: &CallSettings) -> Result<Vec<Fate>, BodyError> {
    verified(body, |body| Ok(Kind::Segment.parse(body, RECEIVED_AT, settings)?.into_iter().map(Fate::of).collect()))
}

fn fates(body: &str) -> Result<Vec<Fate>, BodyError> {
    fates_with(body.as_bytes(), &CallSettings::default())
}

fn fate_with(call: &Json, settings: &CallSettings) -> Fate {
    let mut fates = fates_with(call.to_string().as_bytes(), settings).expect("well-formed");
    assert_eq!(fates.len(), 1, "{call}");
    fates.remove(0)
}

fn fate(call: &Json) -> Fate {
    fate_with(call, &CallSettings::default())
}

/// A call with other keys instead of, or beside, its own.
fn with(mut call: Json, others: Json) -> Json {
    let Json::Object(others) = others else { panic!("an object") };
    call.as_object_mut().expect("an object").extend(others);
    call
}

fn an_identify() -> Json {
    json!({"type": "identify", "messageId": "m1", "userId": "u1", "traits": {"plan": "pro"}})
}

fn a_track() -> Json {
    json!({"type": "track", "messageId": "m2", "userId": "u1", "event": "Item Purchased"})
}
