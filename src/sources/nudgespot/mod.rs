//! Nudgespot's webhooks: [`Verified`] bytes in, email events out, each on its own (docs/contract.md, Nudgespot body).
//!
//! A bad event never spoils the others: it is kept apart with its reason.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::element::{self, BodyElement, BodyError, Disposition, Element, Elements, MAX_DEFAULTS_BYTES};
use super::signature::Verified;
use super::{OWN_EVENT, TEST_USER};
use crate::domain::event::{EmailEvent, Kind};
use crate::domain::json::{self, Object};
use crate::domain::properties::{Client, Properties, Value};
use crate::domain::recipient::Recipient;
use crate::domain::rejection::Rejection;
use crate::domain::timestamp::rfc3339;
use crate::domain::track::Track;
use draft::Draft;

mod draft;

/// The keys under which a batch has its list.
const BATCH_KEYS: [&str; 3] = ["activities", "events", "_json"];

/// See [`Kind::test_event`](super::Kind::test_event).
pub(super) fn test_event(event: Kind, id: &str, now: OffsetDateTime) -> String {
    let mut properties = serde_json::json!({
        "email_id": TEST_USER, "email_subject": "A test event of the console", "campaign_id": TEST_USER,
        "campaign_name": "Test events", "test": true,
    });
    let more: &[(&str, &str)] = match event {
        Kind::Clicked => &[("link_id", "1"), ("link_url", "https://example.com/")],
        Kind::Bounced => &[("bounce_type", "hard"), ("bounce_reason", "a test")],
        Kind::Unsubscribed => &[("list_id", "1"), ("list_name", "Test list")],
        _ => &[],
    };
    for (key, value) in more {
        properties[*key] = (*value).into();
    }
    serde_json::json!({
        "id": id, "event": event.as_str(), "timestamp": rfc3339(now), "subscriber": {"uid": TEST_USER},
        "properties": properties,
    })
    .to_string()
}

/// Parses a webhook's body. `received_at` stands in for the time of events that name none.
///
/// # Errors
/// [`BodyError`]: nothing of the body is used. What is wrong with a single event is its [`Disposition`].
pub fn parse(body: Verified<'_>, received_at: OffsetDateTime) -> Result<Vec<BodyElement<'_>>, BodyError> {
    let text = element::text(body.bytes())?;
    if text.starts_with('[') {
        elements(Elements::of(text)?, &Object::default(), received_at)
    } else if text.starts_with('{') {
        parse_object(text, received_at)
    } else {
        Err(BodyError::Malformed)
    }
}

/// An object that names an event is one event. Another, whose only list is one of events, is a batch; so is one that has a
/// name, but of we know not what, and a list with objects.
fn parse_object<'a>(text: &'a str, received_at: OffsetDateTime) -> Result<Vec<BodyElement<'a>>, BodyError> {
    let one = |disposition: Result<Disposition<'a>, Rejection>| {
        vec![BodyElement { raw: Cow::Borrowed(text), disposition: disposition.unwrap_or_else(Disposition::Rejected) }]
    };
    let mut object = match serde_json::from_str::<Object<'_>>(text) {
        Ok(object) => object,
        // JSON, but not to be taken apart: one event, to be rejected with its reason.
        Err(error) if serde_json::from_str::<&RawValue>(text).is_ok() => return Ok(one(Err(error.into()))),
        Err(_) => return Err(BodyError::Malformed),
    };
    let batch_key = {
        let mut lists = object.iter().filter(|(_, value)| value.get().starts_with('['));
        let only = lists.next().filter(|_| lists.next().is_none());
        only.and_then(|(key, _)| BATCH_KEYS.into_iter().find(|batch_key| *batch_key == key))
    };
    let name = batch_key.and_then(|_| Draft::of(object.clone()).ok()?.name);
    if let Some(batch_key) = batch_key
        && !name.as_ref().is_some_and(draft::is_of_event)
        && let Some(list) = object.find(batch_key).map(RawValue::get)
        && (name.is_none() || Elements::of(list)?.any(|element| element.is_ok_and(|element| is_object(element.raw))))
    {
        object.take(batch_key);
        let says_something = object.iter().any(|(_, value)| !json::is_blank(value));
        object.drop_blank(draft::is_field);
        let elements = elements(Elements::of(list)?, &object, received_at)?;
        return Ok(if elements.is_empty() && says_something { one(Err(Rejection::NoEvents)) } else { elements });
    }
    Ok(one(fate_of(object, &Object::default(), received_at)))
}

fn is_object(raw: &str) -> bool {
    raw.starts_with('{')
}

fn elements<'a>(
    mut list: Elements<'a>,
    defaults: &Object<'a>,
    received_at: OffsetDateTime,
) -> Result<Vec<BodyElement<'a>>, BodyError> {
    let n_bytes: usize = defaults.iter().map(|(key, value)| key.len() + value.get().len()).sum();
    let mut elements = Vec::with_capacity(list.estimate());
    while let Some(element) = list.next() {
        let Element { raw, object } = element?;
        if n_bytes * (elements.len() + 1) > MAX_DEFAULTS_BYTES {
            // What else there may be to say against the list counts first.
            return Err(list.find_map(Result::err).unwrap_or(BodyError::DefaultsTooLarge));
        }
        let disposition =
            object.and_then(|object| fate_of(object, defaults, received_at)).unwrap_or_else(Disposition::Rejected);
        let raw = match disposition {
            Disposition::Ignored { .. } | Disposition::Rejected(_) if !defaults.is_empty() => {
                Cow::Owned(batch(raw, defaults))
            }
            _ => Cow::Borrowed(raw),
        };
        elements.push(BodyElement { raw, disposition });
    }
    Ok(elements)
}

/// A batch of one.
fn batch(raw: &str, defaults: &Object<'_>) -> String {
    let mut text = "{".to_owned();
    // Beside a list without an object, a name would be the event's.
    let names_event = |key: &str| draft::may_name_anything(key) && !is_object(raw);
    for (key, value) in defaults.iter().filter(|(key, _)| !names_event(key)) {
        json::write_string(&mut text, key);
        write!(text, ":{},", value.get()).expect("a String takes all");
    }
    write!(text, r#""{}":[{}]}}"#, BATCH_KEYS[0], raw).expect("a String takes all");
    text
}

fn fate_of<'a>(
    object: Object<'a>,
    defaults: &Object<'a>,
    received_at: OffsetDateTime,
) -> Result<Disposition<'a>, Rejection> {
    let mut draft = Draft::of(object)?;
    let (name_key, name) = draft.name.take().ok_or(Rejection::NoName)?;
    let mut said = std::iter::once(&draft.own).chain(&draft.beside).chain(std::iter::once(defaults));
    if said.any(element::is_own) {
        return Ok(Disposition::Ignored { name, reason: Some(OWN_EVENT) });
    }
    let Some((kind, bounce_type)) = Kind::from_name(&name) else {
        return Ok(Disposition::Ignored { name, reason: None });
    };
    if !defaults.is_empty() {
        draft.add_defaults(defaults);
    }
    let id = draft.take_id()?;
    draft.own.take(name_key);
    let at = match draft.take_time() {
        Some(raw) => element::time(raw)?,
        None => received_at,
    };
    let Draft { mut own, mut beside, .. } = draft;
    let mut recipient = Recipient::take(&mut own, &mut beside)?;
    draft::add_traits(&mut recipient, &mut beside)?;
    let (mut properties, mut client) = (Properties::default(), Client::default());
    properties.gather(&mut client, own)?;
    if let Some(bounce_type) = bounce_type {
        properties.put_value(Cow::Borrowed("bounce_type"), Value::Json(Cow::Owned(format!("\"{bounce_type}\""))));
    }
    for beside in beside {
        properties.gather(&mut client, beside)?;
    }
    let event = EmailEvent { kind, id, at, recipient, properties, client };
    let track = Track::of(&event)?;
    Ok(Disposition::Event(event.kind, event.id, track))
}

#[cfg(test)]
mod tests;
