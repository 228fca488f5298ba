//! A call of Segment's API that is to be forwarded to Nudgespot (docs/contract.md, The other direction).
//!
//! A call is mapped once, when it is received: what the log keeps is the body of the request to Nudgespot.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::event::{EventId, Kind};
use super::json;

/// The kind of those sources that take calls, by its name.
pub const SOURCE_KIND: &str = "segment";

/// How long a call waits for its user to be identified: Segment tries for as long to bring the `identify`.
pub const MAX_HELD: Duration = Duration::from_hours(4);

/// A call that concerns a user, borrowing from the request that brought it.
#[derive(Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Its `messageId`, or an id made of its content.
    pub id: EventId<'a>,
    /// Its `userId`, as text; never blank.
    pub user_id: Cow<'a, str>,
    /// What is to be done.
    pub action: Action,
}

/// What is to be done for a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Create or update the user.
    Identify {
        /// The body of `POST /subscribers/identify`.
        body: String,
        /// The user's email address, as it was written, where the call says one.
        email: Option<String>,
    },
    /// Tell of something that the user did.
    Track {
        /// The body of `POST /activities`.
        body: String,
    },
    /// Forget the user.
    Delete,
}

/// What people look at first in a stored call, and what its delivery goes by.
#[derive(Debug)]
pub struct CallFields<'a> {
    /// The user, as JSON.
    pub user_id: &'a RawValue,
    /// Of an `identify`: the user's contacts.
    pub contacts: Vec<Contact<'a>>,
    /// Of a `track`: the event's name, as JSON.
    pub event: Option<&'a RawValue>,
    /// Of a `track`: when it happened, as JSON.
    pub timestamp: Option<&'a RawValue>,
}

/// How a user can be reached.
#[derive(Debug, Deserialize)]
pub struct Contact<'a> {
    /// `email` or `phone`.
    #[serde(borrow, rename = "contact_type")]
    pub kind: Cow<'a, str>,
    /// The address or number, as JSON.
    #[serde(borrow, rename = "contact_value")]
    pub value: &'a RawValue,
}

impl<'a> CallFields<'a> {
    /// Reads the body of a request to Nudgespot, as the log keeps it; `None`: it is none of the kind.
    #[must_use]
    pub fn parse(kind: Kind, body: &'a [u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Subscriber<'a> {
            #[serde(borrow)]
            uid: &'a RawValue,
            #[serde(borrow, default)]
            contacts: Vec<Contact<'a>>,
        }
        #[derive(Deserialize)]
        struct Activity<'a> {
            #[serde(borrow)]
            event: &'a RawValue,
            #[serde(borrow)]
            timestamp: &'a RawValue,
            #[serde(borrow)]
            subscriber: Subscriber<'a>,
        }
        #[derive(Deserialize)]
        struct IdentifyBody<'a> {
            #[serde(borrow)]
            subscriber: Subscriber<'a>,
        }
        #[derive(Deserialize)]
        struct TrackBody<'a> {
            #[serde(borrow)]
            activity: Activity<'a>,
        }
        match kind {
            Kind::Identify => {
                let IdentifyBody { subscriber } = serde_json::from_slice(body).ok()?;
                let Subscriber { uid, contacts } = subscriber;
                Some(Self { user_id: uid, contacts, event: None, timestamp: None })
            }
            Kind::Track => {
                let TrackBody { activity } = serde_json::from_slice(body).ok()?;
                let Activity { event, timestamp, subscriber } = activity;
                let (user_id, contacts) = (subscriber.uid, subscriber.contacts);
                Some(Self { user_id, contacts, event: Some(event), timestamp: Some(timestamp) })
            }
            _ => None,
        }
    }

    /// The user's email address, as JSON.
    #[must_use]
    pub fn email(&self) -> Option<&'a RawValue> {
        self.contacts.iter().find(|contact| contact.kind == "email").map(|contact| contact.value)
    }

    /// The user's id.
    #[must_use]
    pub fn user_id(&self) -> Option<Cow<'a, str>> {
        json::string(self.user_id)
    }
}

/// What a user is known by where the id itself need not be kept: half of a hash of it.
#[must_use]
pub fn user_hash(user_id: &str) -> Uuid {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(user_id)[..16]);
    Uuid::from_bytes(half)
}

/// What a source of calls makes of them, as its admin has set it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallSettings {
    /// What becomes of a `track` of a user whom no `identify` has told of.
    pub unknown_users: UnknownUsers,
    /// Leave traits that come with a `track` out of its properties.
    pub without_event_traits: bool,
    /// The destination at Segment that brings the calls, where it is not one of Segment's own.
    pub carrier: Option<String>,
}

/// What becomes of a `track` of a user whom no `identify` has told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownUsers {
    /// It waits some hours for the `identify`.
    #[default]
    Hold,
    /// It is ignored.
    Ignore,
    /// It is sent as any other.
    Send,
}

/// The text names nothing that can be done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("what becomes of calls about unknown users is `hold`, `ignore` or `send`")]
pub struct InvalidUnknownUsers;

impl UnknownUsers {
    /// Its name: on the command line, in the API and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Ignore => "ignore",
            Self::Send => "send",
        }
    }
}

impl FromStr for UnknownUsers {
    type Err = InvalidUnknownUsers;

    fn from_str(text: &str) -> Result<Self, InvalidUnknownUsers> {
        [Self::Hold, Self::Ignore, Self::Send].into_iter().find(|all| all.as_str() == text).ok_or(InvalidUnknownUsers)
    }
}
