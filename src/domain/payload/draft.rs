//! What was said of one event, its wrapping taken off, before it is known what it means.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{MAX_EVENT_ID_BYTES, Rejection};
use crate::domain::canonical;
use crate::domain::event::EventId;
use crate::domain::json::{self, Object};
use crate::domain::{properties, recipient};

const NAMES: [&str; 3] = ["event", "type", "name"];
const IDS: [&str; 2] = ["id", "event_id"];
const TIMES: [&str; 3] = ["timestamp", "created_at", "occurred_at"];
/// The key under which an event may be wrapped.
const WRAPPING: &str = "activity";
/// How often an event may be wrapped: each time, its text is read once more.
const MAX_WRAPPINGS: usize = 8;

/// One event's keys. Those that say nothing are gone already.
#[derive(Debug)]
pub struct Draft<'a> {
    /// What the event says, inside its wrapping and beside it.
    pub own: Object<'a>,
    /// What was said beside it and holds where the event does not say it itself: keys of a wrapping that the event has
    /// too, from the innermost, and then the defaults of a batch. Usually nothing.
    pub beside: Vec<Object<'a>>,
    /// The event's name, and the key in `own` that holds it.
    pub name: Option<(&'static str, Cow<'a, str>)>,
}

impl<'a> Draft<'a> {
    /// Takes the wrapping off: an object that names no event is one around another, where it has one.
    ///
    /// # Errors
    /// [`Rejection::Unreadable`], where a wrapped object cannot be taken apart.
    pub fn of(mut own: Object<'a>) -> Result<Self, Rejection> {
        own.drop_blank(is_field);
        let (mut name, mut beside) = (find_name(&own), Vec::new());
        for _ in 0..MAX_WRAPPINGS {
            if name.is_some() {
                break;
            }
            let Some(wrapped) = own.find(WRAPPING) else { break };
            let Some(mut event) = Object::parse(wrapped)? else { break };
            own.take(WRAPPING);
            event.drop_blank(is_field);
            let conflicts = event.merge(own);
            if !conflicts.is_empty() {
                beside.insert(0, conflicts);
            }
            own = event;
            name = find_name(&own);
        }
        Ok(Self { own, beside, name })
    }

    /// Adds what a batch says of all its events, where this one says nothing of its own. It may say so in other words:
    /// a recipient or a time of its own leaves no room for the batch's, under whatever key.
    pub fn add_defaults(&mut self, defaults: &Object<'a>) {
        let says_when = TIMES.iter().any(|key| self.own.find(key).is_some());
        let whom = recipient::Recipient::take(&mut self.own.clone(), &mut self.beside.clone());
        let says_whom = !matches!(whom, Err(Rejection::NoRecipient));
        let is_object = |value: &RawValue| value.get().starts_with('{');
        let mut room_for = defaults.clone();
        room_for.retain(|key, value| {
            let own = self.own.find(key);
            if TIMES.contains(&key) {
                !says_when
            } else if recipient::is_field(key) {
                !says_whom
            } else if key == "properties" {
                // Property by property.
                own.is_none_or(|own| is_object(own) && is_object(value))
            } else {
                own.is_none()
            }
        });
        if !room_for.is_empty() {
            self.beside.push(room_for);
        }
    }

    /// Takes the event's id: its sender's, else one of all that was said. The id of a batch is none of its events'.
    ///
    /// # Errors
    /// [`Rejection::IdTooLong`]; [`Rejection::Unreadable`], where there is none and none can be made.
    pub fn take_id(&mut self) -> Result<EventId<'a>, Rejection> {
        match self.own.take_first(&IDS, id) {
            Some(id) if id.as_str().len() > MAX_EVENT_ID_BYTES => Err(Rejection::IdTooLong),
            Some(id) => Ok(id),
            None => Ok(EventId::of_content(&canonical::text_of(&self.own, &self.beside)?)),
        }
    }

    /// Takes the text of the event's time.
    pub fn take_time(&mut self) -> Option<&'a RawValue> {
        std::iter::once(&mut self.own).chain(&mut self.beside).find_map(|said| said.take_first(&TIMES, Some))
    }
}

/// Whether `key`, at the top level of an event, has a meaning here. Then it may also say nothing.
pub fn is_field(key: &str) -> bool {
    NAMES.contains(&key)
        || IDS.contains(&key)
        || TIMES.contains(&key)
        || recipient::is_field(key)
        || properties::is_field(key)
}

fn find_name<'a>(object: &Object<'a>) -> Option<(&'static str, Cow<'a, str>)> {
    NAMES.into_iter().find_map(|key| Some((key, stated(object.find(key)?)?)))
}

/// A string that says something, or an integer.
fn id(raw: &RawValue) -> Option<EventId<'_>> {
    match json::number(raw) {
        Some(digits) => digits.bytes().all(|b| b == b'-' || b.is_ascii_digit()).then(|| EventId::from(digits)),
        None => stated(raw).map(EventId),
    }
}

/// A string that says something.
fn stated(raw: &RawValue) -> Option<Cow<'_, str>> {
    json::string(raw).filter(|text| !text.trim().is_empty())
}
