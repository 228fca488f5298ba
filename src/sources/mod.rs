//! What sends to us: a kind each. How its requests are authenticated, and how its bodies become events.
//!
//! A closed enum: a new kind is a file here, an entry in [`Kind`], and the answers to its questions.

pub mod element;
mod nudgespot;
mod resend;
pub mod segment;
pub mod signature;

use std::str::FromStr;

use time::OffsetDateTime;

use crate::domain::call::{self, CallSettings};
use crate::domain::event;
use crate::domain::track::Envelope;
use element::{BodyElement, BodyError};
use signature::{Signature, Verified, VerifyError};

/// Whom test events are about: a user id that nobody has.
pub const TEST_USER: &str = "nudgespot-source-test";

/// The property by which activities that this program has sent to Nudgespot are known, where Nudgespot reports them.
const OWN_MARK: (&str, &str) = ("source_lib", "nudgespot-source");

/// Why a call or an event is ignored that went round in a circle.
const OWN_EVENT: &str = "own_event";

/// A kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nudgespot's webhooks.
    Nudgespot,
    /// Resend's webhooks.
    Resend,
    /// Calls of Segment's API, for Nudgespot.
    Segment,
}

/// The text names no kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a kind of source is `nudgespot`, `resend` or `segment`")]
pub struct UnknownKind;

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Nudgespot, Self::Resend, Self::Segment];

    /// Its name: in paths, on the command line, in the database, and in `context.integration` of a track.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nudgespot => "nudgespot",
            Self::Resend => "resend",
            Self::Segment => call::SOURCE_KIND,
        }
    }

    /// The path of a webhook URL.
    #[must_use]
    pub fn webhook_path(self, token: &str) -> String {
        format!("/webhooks/{}/{token}", self.as_str())
    }

    /// What its log holds.
    #[must_use]
    pub fn event_kinds(self) -> &'static [event::Kind] {
        match self {
            Self::Nudgespot | Self::Resend => &event::Kind::EMAIL,
            Self::Segment => &event::Kind::CALLS,
        }
    }

    /// Whether it takes calls, which go to Nudgespot. The others take email events, which go to Segment.
    #[must_use]
    pub fn takes_calls(self) -> bool {
        match self {
            Self::Nudgespot | Self::Resend => false,
            Self::Segment => true,
        }
    }

    /// Whether its sender makes the signing secret, and the customer enters it here.
    #[must_use]
    pub fn sender_makes_secret(self) -> bool {
        match self {
            Self::Nudgespot | Self::Segment => false,
            Self::Resend => true,
        }
    }

    /// Reads the signature of a request from its headers, given by name and value.
    ///
    /// # Errors
    /// [`VerifyError::Unreadable`] where there is none, or none of a scheme that this kind of sender uses.
    pub fn read_signature<'a>(
        self,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Signature<'a>, VerifyError> {
        match self {
            Self::Nudgespot => Signature::from_headers(headers),
            Self::Resend => resend::read_signature(headers),
            Self::Segment => signature::calls::read_signature(headers),
        }
    }

    /// Takes the body of a request apart. `received_at` stands in for the time of events that say none; `settings` are for calls.
    ///
    /// # Errors
    /// [`BodyError`]: nothing of the body is used. What is wrong with a single event is its `Disposition`.
    pub fn parse<'a>(
        self,
        body: Verified<'a>,
        received_at: OffsetDateTime,
        settings: &CallSettings,
    ) -> Result<Vec<BodyElement<'a>>, BodyError> {
        match self {
            Self::Nudgespot => nudgespot::parse(body, received_at),
            Self::Resend => resend::parse(body, received_at),
            Self::Segment => segment::parse(body, received_at, settings),
        }
    }

    /// An event as its sender would report it, of a recipient that does not exist, and marked as a test: what the console
    /// sends to try a source out. `None`: this kind of sender reports no such event.
    #[must_use]
    pub fn test_event(self, event: event::Kind, id: &str, now: OffsetDateTime) -> Option<String> {
        match self {
            Self::Nudgespot => Some(nudgespot::test_event(event, id, now)),
            Self::Resend => resend::test_event(event, now),
            Self::Segment => segment::test_call(event, id, now),
        }
    }

    /// What is put around its events in a track.
    #[must_use]
    pub fn envelope(self) -> Envelope {
        match self {
            // Off: Segment must not send the event back to Nudgespot.
            Self::Nudgespot => {
                Envelope { integration: self.as_str(), integrations: r#"{"All":true,"Nudgespot":false}"# }
            }
            // Segment has no destination of this name; calls get no envelope.
            Self::Resend | Self::Segment => Envelope { integration: self.as_str(), integrations: r#"{"All":true}"# },
        }
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}
