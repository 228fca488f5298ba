//! One email event, as parsed: what kind it is, whom it concerns, when it happened, and what was said of it.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::properties::{Client, Properties};
use super::recipient::Recipient;
use super::unsubscribe_event::UnsubscribeEvent;

/// What the log holds: the kinds of email event that Segment has a name for (docs/contract.md, Events), and the kinds of call
/// that go to Nudgespot (The other direction). The numbers are what the log stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each says it by its name")]
pub enum Kind {
    Delivered = 1,
    Opened = 2,
    Clicked = 3,
    Bounced = 4,
    MarkedAsSpam = 5,
    Unsubscribed = 6,
    Identify = 7,
    Track = 8,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Delivered,
        Self::Opened,
        Self::Clicked,
        Self::Bounced,
        Self::MarkedAsSpam,
        Self::Unsubscribed,
        Self::Identify,
        Self::Track,
    ];
    /// The kinds of email event.
    pub const EMAIL: [Self; 6] =
        [Self::Delivered, Self::Opened, Self::Clicked, Self::Bounced, Self::MarkedAsSpam, Self::Unsubscribed];
    /// The kinds of call.
    pub const CALLS: [Self; 2] = [Self::Identify, Self::Track];

    /// The kind of email event that a sender's name for it means, and the bounce type where the name tells it. `None`: there is no
    /// Segment event for it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<(Self, Option<&'static str>)> {
        let name = normalize(name);
        let kind = match name.strip_prefix("email_").or_else(|| name.strip_prefix("message_")).unwrap_or(&name) {
            "delivered" => Self::Delivered,
            "opened" | "open" => Self::Opened,
            "clicked" | "click" | "link_clicked" => Self::Clicked,
            "bounced" | "bounce" => Self::Bounced,
            "hard_bounced" | "hard_bounce" => return Some((Self::Bounced, Some("hard"))),
            "soft_bounced" | "soft_bounce" => return Some((Self::Bounced, Some("soft"))),
            "spam" | "spam_report" | "spamreport" | "spam_reported" | "marked_as_spam" | "reported_as_spam"
            | "complained" | "complaint" | "spam_complaint" => Self::MarkedAsSpam,
            "unsubscribed" | "unsubscribe" => Self::Unsubscribed,
            _ => return None,
        };
        Some((kind, None))
    }

    /// The event's name at Segment; of a call, its type.
    #[must_use]
    pub fn segment_event(self, unsubscribe: UnsubscribeEvent) -> &'static str {
        match self {
            Self::Delivered => "Email Delivered",
            Self::Opened => "Email Opened",
            Self::Clicked => "Email Link Clicked",
            Self::Bounced => "Email Bounced",
            Self::MarkedAsSpam => "Email Marked as Spam",
            Self::Unsubscribed => unsubscribe.as_str(),
            Self::Identify | Self::Track => self.as_str(),
        }
    }

    /// A short name, for metrics and filters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Opened => "opened",
            Self::Clicked => "clicked",
            Self::Bounced => "bounced",
            Self::MarkedAsSpam => "marked_as_spam",
            Self::Unsubscribed => "unsubscribed",
            Self::Identify => "identify",
            Self::Track => "track",
        }
    }

    /// The number under which the log stores it.
    #[must_use]
    pub fn number(self) -> u8 {
        #[expect(clippy::as_conversions, reason = "the only way to read an enum's number")]
        {
            self as u8
        }
    }

    /// The kind of a stored number.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i16::from(kind.number()) == number)
    }
}

/// Lower case, with blanks, `.` and `-` read as `_`. Borrows where the name is written so already.
fn normalize(name: &str) -> Cow<'_, str> {
    let name = name.trim();
    if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.to_lowercase().replace([' ', '.', '-'], "_"))
}

/// A sender's id for an event, or one made of its content; redelivered, the event has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventId<'a>(pub(crate) Cow<'a, str>);

impl<'a> From<&'a str> for EventId<'a> {
    fn from(id: &'a str) -> Self {
        Self(Cow::Borrowed(id))
    }
}

impl EventId<'_> {
    /// The id of an event that came without one: a hash over its canonical JSON.
    #[must_use]
    pub fn of_content(canonical: &str) -> EventId<'static> {
        EventId(Cow::Owned(format!("sha256:{}", hex::encode(&Sha256::digest(canonical)[..16]))))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id under which Segment deduplicates an event across **all** its customers: a hash over source and event id, so
/// the same on every delivery and never shared by two sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// The source id has a fixed length, so no two pairs hash the same bytes.
    #[must_use]
    pub fn new(source: Uuid, event_id: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(source.as_bytes()).chain_update(event_id).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(Uuid::from_bytes(id))
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nudgespot-{}", self.0.simple())
    }
}

/// An email event, borrowing from the webhook that brought it.
#[derive(Debug)]
pub struct EmailEvent<'a> {
    /// What happened.
    pub kind: Kind,
    /// The sender's id of it.
    pub id: EventId<'a>,
    /// When it happened.
    pub at: OffsetDateTime,
    /// To whose email.
    pub recipient: Recipient<'a>,
    /// The email, campaign, link, list or bounce, and all else that the sender said.
    pub properties: Properties<'a>,
    /// The client in which it was opened or clicked.
    pub client: Client<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_contract_is_known_however_it_is_written() {
        let names = [
            (Kind::Delivered, "delivered"),
            (Kind::Opened, "opened open"),
            (Kind::Clicked, "clicked click link_clicked"),
            (Kind::Bounced, "bounced bounce hard_bounced soft_bounced hard_bounce soft_bounce"),
            (
                Kind::MarkedAsSpam,
                "spam spam_report spamreport spam_reported marked_as_spam reported_as_spam complained complaint \
                 spam_complaint",
            ),
            (Kind::Unsubscribed, "unsubscribed unsubscribe"),
        ];
        for (kind, names) in names {
            for name in names.split_whitespace() {
                let bounce = match name {
                    _ if name.starts_with("hard") => Some("hard"),
                    _ if name.starts_with("soft") => Some("soft"),
                    _ => None,
                };
                for spelling in [
                    name.to_owned(),
                    format!("email_{name}"),
                    format!("message.{name}"),
                    format!("Email {}", name.replace('_', " ")),
                    name.to_uppercase().replace('_', "-"),
                ] {
                    assert_eq!(Kind::from_name(&spelling), Some((kind, bounce)), "{spelling}");
                }
            }
        }
        for name in ["", "sent", "email_", "email_email_opened", "email_message_opened", "clickedy", "öffnet"] {
            assert_eq!(Kind::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn kinds_keep_their_numbers() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number().into()), Some(kind));
        }
        assert_eq!(Kind::from_number(0), None);
    }

    #[test]
    fn a_message_id_is_stable_and_an_accounts_own() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let id = MessageId::new(a, b"evt_1");
        assert_eq!(id.to_string(), "nudgespot-13ed4cdb5448f33dc9541823980f8b1f");
        assert_ne!(id, MessageId::new(b, b"evt_1"));
        assert_ne!(id, MessageId::new(a, b"evt_2"));
    }
}
