//! What was said of one event, its wrapping taken off, before it is known what it means.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::domain::canonical;
use crate::domain::event::{EventId, Kind};
use crate::domain::json::{self, Object};
use crate::domain::properties;
use crate::domain::recipient::{self, Recipient};
use crate::domain::rejection::{MAX_EVENT_ID_BYTES, Rejection};
use crate::sources::element::non_blank;

const NAMES: [&str; 3] = ["event", "type", "name"];
/// Objects that hold a recipient.
const RECIPIENTS: [&str; 2] = ["subscriber", "user"];
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
    pub name: Option<Name<'a>>,
}

/// The key that holds a name, and the name.
pub type Name<'a> = (&'static str, Cow<'a, str>);

impl<'a> Draft<'a> {
    /// Takes the wrapping off: an object that names no event is one around another, where it has one. What may be the name
    /// of anything is an event's only where what is wrapped has no name.
    ///
    /// # Errors
    /// [`Rejection::Unreadable`], where a wrapped object cannot be taken apart.
    pub fn of(mut own: Object<'a>) -> Result<Self, Rejection> {
        own.drop_blank(is_field);
        let (mut name, mut beside) = (find_name(&own), Vec::new());
        for n_left in (0..MAX_WRAPPINGS).rev() {
            if name.as_ref().is_some_and(is_of_event) {
                break;
            }
            let Some(wrapped) = own.find(WRAPPING) else { break };
            let Some(mut event) = Object::parse(wrapped)? else { break };
            if name.is_some() && !has_name(&event, n_left)? {
                break;
            }
            own.take(WRAPPING);
            event.drop_blank(is_field);
            // Before the merge: a name beside it is not its own.
            name = find_name(&event);
            let conflicts = event.merge(own);
            if !conflicts.is_empty() {
                beside.insert(0, conflicts);
            }
            own = event;
        }
        Ok(Self { own, beside, name })
    }

    /// Adds what a batch says of all its events, where this one says nothing of its own. It may say so in other words:
    /// a recipient or a time of its own leaves no room for the batch's, under whatever key. An object that does not say who
    /// the recipient is says something of the event's own.
    pub fn add_defaults(&mut self, defaults: &Object<'a>) {
        let says_when = TIMES.iter().any(|key| self.own.find(key).is_some());
        let whom = Recipient::take(&mut self.own.clone(), &mut self.beside.clone());
        let says_whom = !matches!(whom, Err(Rejection::NoRecipient));
        let is_object = |value: &RawValue| value.get().starts_with('{');
        let mut room_for = defaults.clone();
        room_for.retain(|key, value| {
            let own = self.own.find(key);
            if TIMES.contains(&key) {
                !says_when
            } else if RECIPIENTS.contains(&key) {
                !(says_whom && says_who(defaults, key))
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

/// Adds what was said of the recipient beside an event that says itself who it is.
///
/// # Errors
/// [`Rejection::Unreadable`], where it cannot be taken apart or passed on.
pub fn add_traits<'a>(recipient: &mut Recipient<'a>, beside: &mut [Object<'a>]) -> Result<(), Rejection> {
    for said in beside {
        for key in RECIPIENTS {
            let Some(raw) = said.find(key).filter(|_| !says_who(said, key)) else { continue };
            let Some(mut person) = Object::parse(raw)? else { continue };
            said.take(key);
            person.drop_blank(|key| key == "id" || recipient::is_field(key));
            for (name, value) in person {
                recipient.traits.put(name, value)?;
            }
        }
    }
    Ok(())
}

/// Whether what stands under `key`, one of [`RECIPIENTS`], says who the recipient is.
fn says_who(said: &Object<'_>, key: &str) -> bool {
    let mut alone = said.clone();
    alone.retain(|other, _| other == key);
    !matches!(Recipient::take(&mut alone, &mut []), Err(Rejection::NoRecipient))
}

fn find_name<'a>(object: &Object<'a>) -> Option<Name<'a>> {
    NAMES.into_iter().find_map(|key| Some((key, non_blank(object.find(key)?)?)))
}

/// Whether a name is an event's wherever it stands. A `type` or a `name` may be that of a webhook, a person or a source.
pub fn is_of_event((key, name): &Name<'_>) -> bool {
    *key == "event" || Kind::from_name(name).is_some()
}

/// Whether `key` holds a name that may be no event's: see [`is_of_event`].
pub fn may_name_anything(key: &str) -> bool {
    key != "event" && NAMES.contains(&key)
}

/// Whether an object, or one that is wrapped in it up to `depth` times, has a name.
fn has_name(object: &Object<'_>, depth: usize) -> Result<bool, Rejection> {
    if find_name(object).is_some() {
        return Ok(true);
    }
    match object.find(WRAPPING) {
        Some(wrapped) if depth > 0 => Object::parse(wrapped)?.map_or(Ok(false), |event| has_name(&event, depth - 1)),
        _ => Ok(false),
    }
}

/// A string that says something, or an integer.
fn id(raw: &RawValue) -> Option<EventId<'_>> {
    match json::number(raw) {
        Some(digits) => digits.bytes().all(|b| b == b'-' || b.is_ascii_digit()).then(|| EventId::from(digits)),
        None => non_blank(raw).map(EventId),
    }
}
