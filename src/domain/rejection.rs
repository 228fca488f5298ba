//! Why an event cannot be used.

/// The longest event id, in bytes.
pub const MAX_EVENT_ID_BYTES: usize = 512;
/// The most bytes that Segment takes for one event: "32 KB", read as the smaller of its meanings.
pub const MAX_TRACK_BYTES: usize = 32_000;

/// Segment refuses an event so large, so it is not accepted in the first place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("over {MAX_TRACK_BYTES} bytes as a track call")]
pub struct TrackTooLarge;

/// The most bytes of a call of Segment's API, as it comes.
pub const MAX_CALL_BYTES: usize = 32_000;

/// Why an event cannot be used, in words for the source's admin.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Rejection {
    /// The element is a number, a string, or the like.
    #[error("not an object")]
    NotAnObject,
    /// A list of events that is empty, though something was said beside it.
    #[error("no events: the list is empty")]
    NoEvents,
    /// Neither `event` nor `type` nor `name`.
    #[error("no event name")]
    NoName,
    /// Nothing by which the recipient could be known.
    #[error("no recipient: neither uid, nor email, nor anon_id")]
    NoRecipient,
    /// Several, of which one has done what the event says.
    #[error("which of {} recipients is not said", if *.0 == 2 { "two".to_owned() } else { .0.to_string() })]
    SeveralRecipients(usize),
    /// A time is given, but cannot be read.
    #[error("unreadable time: {0}")]
    UnreadableTime(String),
    /// A sender that gives each event an id gave this one none.
    #[error("no event id")]
    NoId,
    /// The event's id is longer than [`MAX_EVENT_ID_BYTES`].
    #[error("the event id is longer than {MAX_EVENT_ID_BYTES} bytes")]
    IdTooLong,
    /// Segment takes 32 KB an event.
    #[error(transparent)]
    TooLarge(#[from] TrackTooLarge),
    /// A call that does not say which of Segment's calls it is.
    #[error("no type: neither `identify` nor `track`, nor another of Segment's calls")]
    NoCallType,
    /// A call of a type that Segment's API does not have.
    #[error("unknown type of call: {0}")]
    UnknownCallType(String),
    /// A call over [`MAX_CALL_BYTES`].
    #[error("over {MAX_CALL_BYTES} bytes as a call")]
    CallTooLarge,
    /// JSON that parsers do not agree on.
    #[error("unreadable: {0}")]
    Unreadable(String),
}

impl From<serde_json::Error> for Rejection {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}
