//! Calls of Segment's API, on their way to Nudgespot (docs/contract.md, The other direction).
//!
//! A call is judged in this order: whether it is one, whether it is kept out (`gate`), whether its type goes to Nudgespot
//! at all, and then by its own fields. A bad call never spoils the others: it is kept apart with its reason.

use std::borrow::Cow;

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::TEST_USER;
use super::element::{self, BodyElement, BodyError, Disposition, Element, Elements, non_blank};
use super::signature::Verified;
use crate::domain::call::{Action, Call, CallSettings};
use crate::domain::canonical;
use crate::domain::event::{EventId, Kind};
use crate::domain::json::{self, Object};
use crate::domain::rejection::{MAX_CALL_BYTES, MAX_EVENT_ID_BYTES, Rejection};
use crate::domain::timestamp::rfc3339;

pub use super::signature::calls::read_sdk_signature;

mod gate;
mod identify;
mod members;
mod track;

/// The paths under `/v1/` to which Segment's libraries post, and the type of the calls there; `None`: a batch, whose calls say
/// their own.
pub const SDK_PATHS: [(&str, Option<&str>); 14] = [
    ("batch", None),
    ("b", None),
    ("identify", Some("identify")),
    ("i", Some("identify")),
    ("track", Some("track")),
    ("t", Some("track")),
    ("page", Some("page")),
    ("p", Some("page")),
    ("screen", Some("screen")),
    ("s", Some("screen")),
    ("group", Some("group")),
    ("g", Some("group")),
    ("alias", Some("alias")),
    ("a", Some("alias")),
];

const USER_IDS: [&str; 2] = ["userId", "user_id"];
const MESSAGE_IDS: [&str; 2] = ["messageId", "message_id"];
const SENT_AT: [&str; 2] = ["sentAt", "sent_at"];
const WRITE_KEY: &str = "writeKey";

/// Takes the body of a webhook apart: a call, an array of calls, or `{"batch": […]}`. `received_at` is the time of calls that
/// say none.
///
/// # Errors
/// [`BodyError::Malformed`], [`BodyError::TooManyElements`]: nothing of the body is used. What is wrong with a single call is
/// its `Disposition`.
pub fn parse<'a>(
    body: Verified<'a>,
    received_at: OffsetDateTime,
    settings: &CallSettings,
) -> Result<Vec<BodyElement<'a>>, BodyError> {
    Body { received_at, settings, endpoint_type: None, is_of_sdk: false, sent_at: None, integrations: None }.parse(body)
}

/// Takes the body of a request of one of Segment's libraries apart, as [`parse`] does. `endpoint_type` is the type of calls
/// that say none ([`SDK_PATHS`]). What the libraries call the time is that of their clock, which is set right by `sentAt`.
///
/// # Errors
/// As [`parse`].
pub fn parse_sdk<'a>(
    body: Verified<'a>,
    endpoint_type: Option<&str>,
    received_at: OffsetDateTime,
    settings: &CallSettings,
) -> Result<Vec<BodyElement<'a>>, BodyError> {
    Body { received_at, settings, endpoint_type, is_of_sdk: true, sent_at: None, integrations: None }.parse(body)
}

/// See [`Kind::test_event`](super::Kind::test_event).
pub(super) fn test_call(event: Kind, id: &str, now: OffsetDateTime) -> Option<String> {
    let mut call = serde_json::json!({
        "type": event.as_str(), "messageId": id, "userId": TEST_USER, "timestamp": rfc3339(now),
    });
    match event {
        Kind::Identify => call["traits"] = serde_json::json!({"name": "Test", "test": true}),
        Kind::Track => {
            call["event"] = "Test of the console".into();
            call["properties"] = serde_json::json!({"test": true});
        }
        _ => return None,
    }
    Some(call.to_string())
}

/// What holds for all calls of a body.
struct Body<'a, 's> {
    received_at: OffsetDateTime,
    settings: &'s CallSettings,
    endpoint_type: Option<&'s str>,
    is_of_sdk: bool,
    /// When a batch was sent, where it says so.
    sent_at: Option<OffsetDateTime>,
    /// What a batch says of where its calls may go.
    integrations: Option<&'a RawValue>,
}

/// The types of Segment's calls, and `delete`, which its webhooks send for a user who is to be forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallType {
    Identify,
    Track,
    Delete,
    /// One that Nudgespot has nothing like.
    Other(&'static str),
}

impl CallType {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "identify" => Self::Identify,
            "track" => Self::Track,
            "delete" => Self::Delete,
            "page" => Self::Other("page"),
            "screen" => Self::Other("screen"),
            "group" => Self::Other("group"),
            "alias" => Self::Other("alias"),
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Track => "track",
            Self::Delete => "delete",
            Self::Other(name) => name,
        }
    }
}

impl<'a> Body<'a, '_> {
    fn parse(mut self, body: Verified<'a>) -> Result<Vec<BodyElement<'a>>, BodyError> {
        let text = element::text(body.bytes())?;
        match text.as_bytes().first() {
            Some(b'[') => self.list(text),
            Some(b'{') => {
                let raw: &RawValue = serde_json::from_str(text).map_err(|_| BodyError::Malformed)?;
                match Object::parse(raw) {
                    Ok(Some(object)) => match batch(&object) {
                        Some(list) => {
                            self.sent_at = sent_at(&object);
                            self.integrations = object.find("integrations");
                            self.list(list.get())
                        }
                        None => Ok(vec![self.element(text, Ok(object))]),
                    },
                    // JSON, but not to be taken apart: one call, to be rejected with its reason.
                    Ok(None) => Err(BodyError::Malformed),
                    Err(error) => Ok(vec![self.element(text, Err(error.into()))]),
                }
            }
            _ => Err(BodyError::Malformed),
        }
    }

    fn list(&self, text: &'a str) -> Result<Vec<BodyElement<'a>>, BodyError> {
        let element = |call: Result<Element<'a>, _>| call.map(|call| self.element(call.raw, call.object));
        Elements::of(text)?.map(element).collect()
    }

    fn element(&self, raw: &'a str, call: Result<Object<'a>, Rejection>) -> BodyElement<'a> {
        let disposition = if raw.len() > MAX_CALL_BYTES {
            Err(Rejection::CallTooLarge)
        } else {
            call.and_then(|call| self.disposition(&call))
        };
        let disposition = disposition.unwrap_or_else(Disposition::Rejected);
        // Nearly always there is none. An escape may stand for a letter of it.
        let may_hold_key = raw.contains("riteKey") || raw.contains("\\u");
        let raw = if may_hold_key { without_write_key(raw) } else { Cow::Borrowed(raw) };
        BodyElement { raw, disposition }
    }

    fn disposition(&self, call: &Object<'a>) -> Result<Disposition<'a>, Rejection> {
        let said_type = call.find("type").and_then(non_blank);
        let call_type = said_type.as_deref().or(self.endpoint_type).ok_or(Rejection::NoCallType)?;
        let call_type = CallType::parse(call_type)
            .ok_or_else(|| Rejection::UnknownCallType(call_type.chars().take(100).collect()))?;
        let event = call.find("event").filter(|_| call_type == CallType::Track);
        let event = event.and_then(|raw| Some((raw, non_blank(raw)?)));
        let context = object(call, "context")?;
        let ignored = |reason| {
            let name = event.as_ref().map_or(Cow::Borrowed(call_type.as_str()), |(_, name)| name.clone());
            Ok(Disposition::Ignored { name, reason: Some(reason) })
        };

        if let Some(reason) = gate::reason(call, &context, self.integrations, self.settings)? {
            return ignored(reason);
        }
        if let CallType::Other(_) = call_type {
            return ignored("not_forwarded");
        }
        if call_type == CallType::Track && event.is_none() {
            return Err(Rejection::NoName);
        }
        let at = if call_type == CallType::Delete { self.received_at } else { self.time(call)? };
        let Some(user_id) = find(call, &USER_IDS, id_text) else { return ignored("no_user_id") };
        let id = id(call, said_type.is_none().then_some(call_type))?;
        let action = match (call_type, event) {
            (CallType::Track, Some((raw, name))) => {
                let traits =
                    if self.settings.without_event_traits { Object::default() } else { object(&context, "traits")? };
                let event = track::Event { raw, name: &name, at, user_id: &user_id };
                track::action(&event, object(call, "properties")?, traits)?
            }
            (CallType::Identify, _) => identify::action(object(call, "traits")?, &user_id)?,
            _ => Action::Delete,
        };
        Ok(Disposition::Call(Call { id, user_id, action }))
    }

    /// When it happened: as the call says, or when it was received.
    fn time(&self, call: &Object<'a>) -> Result<OffsetDateTime, Rejection> {
        let Some(raw) = call.find("timestamp").filter(|raw| !json::is_blank(raw)) else { return Ok(self.received_at) };
        let at = element::time(raw)?;
        if !self.is_of_sdk {
            return Ok(at);
        }
        // By how much the sender's clock is off, is known from when it says to have sent what arrived just now.
        let corrected = self.sent_at.or_else(|| sent_at(call)).and_then(|sent| self.received_at.checked_sub(sent - at));
        Ok(corrected.filter(|at| (1..=9999).contains(&at.year())).unwrap_or(at))
    }
}

/// The call's id, or one made of what it says; `path_type` is the type that it does not say itself.
fn id<'a>(call: &Object<'a>, path_type: Option<CallType>) -> Result<EventId<'a>, Rejection> {
    match find(call, &MESSAGE_IDS, id_text) {
        Some(id) if id.len() > MAX_EVENT_ID_BYTES => Err(Rejection::IdTooLong),
        Some(id) => Ok(EventId(id)),
        None => {
            let mut content = call.clone();
            // Sent again, it says another time of that; and with another key it is the same call.
            content.retain(|key, _| key != WRITE_KEY && !SENT_AT.contains(&key));
            let text = canonical::text_of(&content, &[])?;
            Ok(match path_type {
                Some(path_type) => EventId::of_content(&format!("{} {text}", path_type.as_str())),
                None => EventId::of_content(&text),
            })
        }
    }
}
/// The list of a batch: of an object that is no call itself.
fn batch<'a>(object: &Object<'a>) -> Option<&'a RawValue> {
    let list = object.find("batch").filter(|list| list.get().starts_with('['))?;
    object.find("type").and_then(non_blank).is_none().then_some(list)
}

fn sent_at(object: &Object<'_>) -> Option<OffsetDateTime> {
    find(object, &SENT_AT, |raw| element::time(raw).ok())
}

/// The first of what stands under `keys` that `read` accepts.
fn find<'a, T>(object: &Object<'a>, keys: &[&str], read: impl Fn(&'a RawValue) -> Option<T>) -> Option<T> {
    keys.iter().find_map(|key| read(object.find(key)?))
}

/// The object under `key`; an empty one where there is none, or another kind of value.
fn object<'a>(of: &Object<'a>, key: &str) -> Result<Object<'a>, Rejection> {
    Ok(of.find(key).map(Object::parse).transpose()?.flatten().unwrap_or_default())
}

/// A string that says something, or the digits of a number.
fn id_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    json::number(raw).map(Cow::Borrowed).or_else(|| non_blank(raw))
}

/// The call, less what is as good as a password.
fn without_write_key(raw: &str) -> Cow<'_, str> {
    if !raw.starts_with('{') {
        return Cow::Borrowed(raw);
    }
    let Ok(mut call) = serde_json::from_str::<Object<'_>>(raw) else {
        return Cow::Borrowed(r#""not kept: it cannot be read, and may hold a key""#);
    };
    if call.take(WRITE_KEY).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    members::write(&mut text, call.iter());
    Cow::Owned(text)
}

#[cfg(test)]
mod tests;
