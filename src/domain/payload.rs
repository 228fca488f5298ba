//! A webhook's body: [`Verified`] bytes in, email events out, each on its own (contract, sections 1.1 and 1.2).
//!
//! A bad event never spoils the others: it is set aside with its reason.

use std::borrow::Cow;

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::event::{EmailEvent, EventId, Kind};
use super::json::{self, Object};
use super::properties::{Properties, Value};
use super::recipient::Recipient;
use super::signature::Verified;
use super::timestamp;
use super::track::{Track, TrackTooLarge};

/// The longest event id, in bytes.
pub const MAX_EVENT_ID_BYTES: usize = 512;
const LISTS: [&str; 3] = ["activities", "events", "_json"];

/// The body is not JSON, or has not the shape of one event or many.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the body is not JSON, or neither an event nor a list of events")]
pub struct MalformedBody;

/// One element of a body.
#[derive(Debug)]
pub struct Element<'a> {
    /// Its JSON text, as it came.
    pub raw: &'a str,
    /// What it turned out to be.
    pub fate: Fate<'a>,
}

/// What becomes of one element of a body.
#[derive(Debug)]
pub enum Fate<'a> {
    /// It is an email event, to be forwarded as this track.
    Event(Kind, EventId<'a>, Track),
    /// Segment has no event for it.
    Ignored {
        /// What the sender calls it.
        name: Cow<'a, str>,
    },
    /// It cannot be used.
    Rejected(Rejection),
}

/// Why an event cannot be used, in words for the account's admin.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Rejection {
    /// The element is a number, a string, or the like.
    #[error("not an object")]
    NotAnObject,
    /// Neither `event` nor `type` nor `name`.
    #[error("no event name")]
    NoName,
    /// None of the identities of contract section 2.
    #[error("no recipient: neither uid, nor email, nor anon_id")]
    NoRecipient,
    /// A time is given, but cannot be read.
    #[error("unreadable time: {0}")]
    UnreadableTime(String),
    /// The event's id is longer than [`MAX_EVENT_ID_BYTES`].
    #[error("the event id is longer than {MAX_EVENT_ID_BYTES} bytes")]
    IdTooLong,
    /// Segment takes 32 KB an event.
    #[error(transparent)]
    TooLarge(#[from] TrackTooLarge),
    /// JSON that parsers do not agree on.
    #[error("unreadable: {0}")]
    Unreadable(String),
}

impl From<serde_json::Error> for Rejection {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Parses a webhook's body. `received_at` stands in for the time of events that name none.
///
/// # Errors
/// [`MalformedBody`] where there is no event to speak of. What is wrong with a single event is its [`Fate`].
pub fn parse(body: Verified<'_>, received_at: OffsetDateTime) -> Result<Vec<Element<'_>>, MalformedBody> {
    let text = std::str::from_utf8(body.bytes()).map_err(|_| MalformedBody)?;
    // Some senders begin a JSON text with a byte order mark, which RFC 8259 lets a parser ignore.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_ascii();
    let elements = if text.starts_with('[') {
        serde_json::from_str::<Vec<&RawValue>>(text).map_err(|_| MalformedBody)?
    } else if text.starts_with('{') {
        elements_of_object(text)?
    } else {
        return Err(MalformedBody);
    };
    Ok(elements
        .into_iter()
        .map(|raw| Element { raw: raw.get(), fate: fate_of(raw, received_at).unwrap_or_else(Fate::Rejected) })
        .collect())
}

/// An object is one event, unless its only list is of events.
fn elements_of_object(text: &str) -> Result<Vec<&RawValue>, MalformedBody> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|_| MalformedBody)?;
    // An object that cannot be taken apart is one event, to be rejected with its reason.
    let Ok(Some(object)) = Object::parse(whole) else { return Ok(vec![whole]) };
    let mut lists = object.iter().filter(|(_, value)| value.get().starts_with('['));
    match (lists.next(), lists.next()) {
        (Some((key, list)), None) if LISTS.contains(&key) => {
            serde_json::from_str(list.get()).map_err(|_| MalformedBody)
        }
        _ => Ok(vec![whole]),
    }
}

fn fate_of(raw: &RawValue, received_at: OffsetDateTime) -> Result<Fate<'_>, Rejection> {
    let mut object = Object::parse(raw)?.ok_or(Rejection::NotAnObject)?;
    let mut content = raw;
    let named = |object: &Object<'_>| ["event", "type", "name"].iter().any(|key| object.find(key).is_some());
    if !named(&object)
        && let Some(inner) = object.find("activity")
        && let Some(mut activity) = Object::parse(inner)?
    {
        object.take("activity");
        activity.merge(object);
        object = activity;
        content = inner;
    }

    let name = object.take_first(&["event", "type", "name"], stated).ok_or(Rejection::NoName)?;
    let Some((kind, bounce_type)) = Kind::from_name(&name) else { return Ok(Fate::Ignored { name }) };
    let id = match object.take_first(&["id", "event_id"], id) {
        Some(id) if id.as_str().len() > MAX_EVENT_ID_BYTES => return Err(Rejection::IdTooLong),
        Some(id) => id,
        None => EventId::of_content(&canonical(content)?),
    };
    let at = match object.take_first(&["timestamp", "created_at", "occurred_at"], not_null) {
        Some(raw) => time(raw)?,
        None => received_at,
    };
    let recipient = Recipient::take(&mut object)?;
    let (mut properties, client) = Properties::gather(object)?;
    if let Some(bounce_type) = bounce_type {
        properties.put_value(Cow::Borrowed("bounce_type"), Value::Json(Cow::Owned(format!("\"{bounce_type}\""))));
    }
    let event = EmailEvent { kind, id, at, recipient, properties, client };
    let track = Track::of(&event)?;
    Ok(Fate::Event(event.kind, event.id, track))
}

/// A string that says something, or an integer.
fn id(raw: &RawValue) -> Option<EventId<'_>> {
    match json::number(raw) {
        Some(digits) => digits.bytes().all(|b| b == b'-' || b.is_ascii_digit()).then(|| EventId(digits.into())),
        None => stated(raw).map(EventId),
    }
}

/// A string that says something.
fn stated(raw: &RawValue) -> Option<Cow<'_, str>> {
    json::string(raw).filter(|text| !text.trim().is_empty())
}

fn not_null(raw: &RawValue) -> Option<&RawValue> {
    (raw.get() != "null").then_some(raw)
}

/// The event with its keys sorted at every level, and no white space.
fn canonical(raw: &RawValue) -> Result<String, Rejection> {
    // serde_json's maps are sorted; a test below notices if a feature should ever change that.
    Ok(serde_json::from_str::<serde_json::Value>(raw.get())?.to_string())
}

fn time(raw: &RawValue) -> Result<OffsetDateTime, Rejection> {
    let text = json::string(raw).or_else(|| json::number(raw).map(Cow::Borrowed));
    text.and_then(|text| timestamp::parse(&text))
        .ok_or_else(|| Rejection::UnreadableTime(raw.get().chars().take(100).collect()))
}

#[cfg(test)]
mod tests;
