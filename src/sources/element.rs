//! What a body is taken apart into, whatever its kind.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::OWN_MARK;
use crate::domain::call::Call;
use crate::domain::event::{EventId, Kind};
use crate::domain::json::{self, Object};
use crate::domain::rejection::Rejection;
use crate::domain::timestamp;
use crate::domain::track::Track;

/// The most elements of a body: each costs far more memory than its two bytes or more.
pub const MAX_ELEMENTS: usize = 10_000;
/// The most bytes that the defaults of a batch may come to when each of its elements has them.
pub const MAX_DEFAULTS_BYTES: usize = 16 << 20;

/// Why there are no events to be had of a body.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BodyError {
    /// It is not JSON, or has not the shape of one event or many.
    #[error("the body is not JSON, or neither an event nor a list of events")]
    Malformed,
    /// It has more than [`MAX_ELEMENTS`].
    #[error("the body has more than {MAX_ELEMENTS} elements")]
    TooManyElements,
    /// Its defaults come to more than [`MAX_DEFAULTS_BYTES`].
    #[error("the keys beside the list come to more than {MAX_DEFAULTS_BYTES} bytes when each event has them")]
    DefaultsTooLarge,
}

/// One element of a body.
#[derive(Debug)]
pub struct BodyElement<'a> {
    /// Its JSON text, as it came. What is no [`Disposition::Event`], and of a batch with defaults, is a batch of one: sent again,
    /// it would mean the same.
    pub raw: Cow<'a, str>,
    /// What it turned out to be.
    pub disposition: Disposition<'a>,
}

/// What becomes of one element of a body.
#[derive(Debug)]
pub enum Disposition<'a> {
    /// It is an email event, to be forwarded as this track.
    Event(Kind, EventId<'a>, Track),
    /// It is a call that concerns a user, for Nudgespot.
    Call(Call<'a>),
    /// It is not forwarded.
    Ignored {
        /// What the sender calls it.
        name: Cow<'a, str>,
        /// Why not, in a word; `None`: Segment has no event of this name.
        reason: Option<&'static str>,
    },
    /// It cannot be used.
    Rejected(Rejection),
}

/// The elements of a list: at most [`MAX_ELEMENTS`]; what is beyond is not held.
pub struct List<'a> {
    /// The first of them, or all.
    pub elements: Vec<&'a RawValue>,
    is_whole: bool,
}

impl<'a> List<'a> {
    /// Reads a JSON array.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] where it is none.
    pub fn parse(text: &'a str) -> Result<Self, BodyError> {
        serde_json::from_str(text).map_err(|_| BodyError::Malformed)
    }

    /// All elements.
    ///
    /// # Errors
    /// [`BodyError::TooManyElements`].
    pub fn whole(self) -> Result<Vec<&'a RawValue>, BodyError> {
        if self.is_whole { Ok(self.elements) } else { Err(BodyError::TooManyElements) }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = List<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<'de>, A::Error> {
                let mut elements = Vec::new();
                while elements.len() < MAX_ELEMENTS {
                    let Some(element) = seq.next_element()? else { return Ok(List { elements, is_whole: true }) };
                    elements.push(element);
                }
                let mut is_whole = true;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    is_whole = false;
                }
                Ok(List { elements, is_whole })
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

/// The text of a body, which is to be JSON.
///
/// # Errors
/// [`BodyError::Malformed`] where it is no UTF-8.
pub fn text(body: &[u8]) -> Result<&str, BodyError> {
    let text = std::str::from_utf8(body).map_err(|_| BodyError::Malformed)?;
    // Some senders begin a JSON text with a byte order mark, which RFC 8259 lets a parser ignore.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).trim_ascii())
}

/// Whether an email event is an activity that this program has sent to Nudgespot, and marked so, under its properties or
/// beside them.
#[must_use]
pub fn is_own(event: &Object<'_>) -> bool {
    let (key, mark) = OWN_MARK;
    let is_marked = |object: &Object<'_>| object.find(key).and_then(json::string).is_some_and(|value| value == mark);
    // Taken apart only where the mark may be there: this is asked of every event.
    let properties = event.find("properties").filter(|properties| properties.get().contains(mark));
    is_marked(event) || properties.and_then(|raw| Object::parse(raw).ok()?).is_some_and(|object| is_marked(&object))
}

/// The time that a sender says.
///
/// # Errors
/// [`Rejection::UnreadableTime`].
pub fn time(raw: &RawValue) -> Result<OffsetDateTime, Rejection> {
    let text = json::string(raw).or_else(|| json::number(raw).map(Cow::Borrowed));
    text.and_then(|text| timestamp::parse(&text))
        .ok_or_else(|| Rejection::UnreadableTime(raw.get().chars().take(100).collect()))
}

/// A string that says something.
#[must_use]
pub fn non_blank(raw: &RawValue) -> Option<Cow<'_, str>> {
    json::string(raw).filter(|text| !text.trim().is_empty())
}
