//! What a body is taken apart into, whatever its kind.

use std::borrow::Cow;

use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::domain::call::Call;
use crate::domain::event::{EventId, Kind};
use crate::domain::json;
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
