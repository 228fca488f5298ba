//! An event as a line of a list.

use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::EventFields;
use super::filter::EventState;
use crate::admin::sources::kind;
use crate::admin::{Admin, AdminError};
use crate::domain::event::{Kind, MessageId};
use crate::domain::ignored;
use crate::domain::json;
use crate::domain::search_key::TrackFields;
use crate::domain::timestamp::rfc3339;
use crate::domain::track::{self, Envelope};
use crate::domain::unsubscribe_event::UnsubscribeEvent;
use crate::store::events::QuarantinedEvent;

/// How the ids begin by which events are found that are not forwarded: they need not have one of their own.
pub(super) const QUARANTINED: &str = "not-forwarded-";

/// An event as a line of a list. Fields are named as in a track.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventRow {
    /// The sender's id of it; of one that is not forwarded, an id that is found here.
    pub event_id: String,
    /// The id that Segment gets; of a call, none.
    pub message_id: Option<String>,
    /// What happened, by its short name; `null`: it is not forwarded.
    pub kind: Option<&'static str>,
    /// The name that Segment, or Nudgespot, gets; of an ignored one, the sender's.
    pub event: Option<String>,
    /// What has become of it.
    #[schema(value_type = String, example = "delivered")]
    pub state: EventState,
    /// Why, where it is not forwarded or was given up.
    pub reason: Option<String>,
    /// When it was received.
    pub received_at: String,
    /// When it happened, as its sender said.
    pub timestamp: Option<String>,
    /// The recipient's id.
    pub user_id: Option<String>,
    /// Without one, what stands for it.
    pub anonymous_id: Option<String>,
    /// The recipient's address.
    pub email: Option<String>,
    /// The email.
    pub email_id: Option<String>,
    /// Its subject.
    pub email_subject: Option<String>,
    /// The campaign.
    pub campaign_id: Option<String>,
    /// Its name.
    pub campaign_name: Option<String>,
    /// What was clicked.
    pub link_url: Option<String>,
    /// The whole track call, in exports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub track: Option<Box<RawValue>>,
    /// Of a call, the body of the request to Nudgespot, in exports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub request: Option<Box<RawValue>>,
    /// Of a call that waits for its user to be identified: by which hash the user is known meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_hash: Option<Uuid>,
    /// What the sender sent, of one that is not forwarded, in exports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    /// Its place in time: when it was received, or sent again.
    #[serde(skip)]
    pub at: OffsetDateTime,
    /// When it was received.
    #[serde(skip)]
    pub received: OffsetDateTime,
    /// Its number in the log.
    #[serde(skip)]
    pub(super) seq: Option<i64>,
}

impl EventRow {
    /// A row that says nothing yet but which event it is, and when it came.
    fn new(event_id: &[u8], state: EventState, received_at: OffsetDateTime, at: OffsetDateTime) -> Self {
        Self {
            event_id: String::from_utf8_lossy(event_id).into_owned(),
            message_id: None,
            kind: None,
            event: None,
            state,
            reason: None,
            received_at: rfc3339(received_at),
            timestamp: None,
            user_id: None,
            anonymous_id: None,
            email: None,
            email_id: None,
            email_subject: None,
            campaign_id: None,
            campaign_name: None,
            link_url: None,
            track: None,
            request: None,
            user_hash: None,
            payload: None,
            at,
            received: received_at,
            seq: None,
        }
    }

    /// Whom to show it for: an address rather than an id.
    #[must_use]
    pub fn recipient(&self) -> Option<&str> {
        self.email.as_deref().or(self.user_id.as_deref()).or(self.anonymous_id.as_deref())
    }
}

/// How a source names its events.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceNames {
    pub(super) source: Uuid,
    pub(super) unsubscribe: UnsubscribeEvent,
    pub(super) envelope: Envelope,
    /// Whether they are calls, which go to Nudgespot.
    pub(super) are_calls: bool,
}

/// An event of the log, or a dead letter.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoggedEvent<'a> {
    pub(super) seq: i64,
    pub(super) kind: Kind,
    pub(super) event_id: &'a [u8],
    pub(super) received_at: OffsetDateTime,
    /// Its place in time.
    pub(super) at: OffsetDateTime,
    /// What the log keeps of it.
    pub(super) stored: &'a [u8],
    pub(super) state: EventState,
}

impl SourceNames {
    /// The row of an event of the log.
    pub(super) fn row(&self, event: LoggedEvent<'_>, fields: &EventFields<'_>) -> EventRow {
        let row = EventRow {
            kind: Some(event.kind.as_str()),
            seq: Some(event.seq),
            ..EventRow::new(event.event_id, event.state, event.received_at, event.at)
        };
        match fields {
            EventFields::Email(TrackFields { user_id, anonymous_id, timestamp, properties, traits }) => EventRow {
                message_id: Some(MessageId::new(self.source, event.event_id).to_string()),
                event: Some(event.kind.segment_event(self.unsubscribe).to_owned()),
                timestamp: text(*timestamp),
                user_id: text(*user_id),
                anonymous_id: text(*anonymous_id),
                email: text(traits.email),
                email_id: text(properties.email_id),
                email_subject: text(properties.email_subject),
                campaign_id: text(properties.campaign_id),
                campaign_name: text(properties.campaign_name),
                link_url: text(properties.link_url),
                ..row
            },
            EventFields::Call(None) => row,
            EventFields::Call(Some(call)) => EventRow {
                event: text(call.event),
                timestamp: text(call.timestamp),
                user_id: text(Some(call.user_id)),
                email: text(call.email()),
                ..row
            },
        }
    }

    /// Adds the whole of what is sent.
    pub(super) fn add_whole(&self, row: &mut EventRow, event: LoggedEvent<'_>) {
        if self.are_calls {
            row.request = serde_json::from_slice(event.stored).ok();
        } else {
            row.track = RawValue::from_string(self.track(event)).ok();
        }
    }

    /// The whole track call of an event, as it is sent.
    fn track(&self, event: LoggedEvent<'_>) -> String {
        let mut call = Vec::new();
        let message_id = MessageId::new(self.source, event.event_id);
        track::write(&mut call, message_id, event.kind.segment_event(self.unsubscribe), event.stored, self.envelope);
        String::from_utf8_lossy(&call).into_owned()
    }
}

/// A string or a number, as text.
fn text(raw: Option<&RawValue>) -> Option<String> {
    let raw = raw?;
    Some(json::string(raw).or_else(|| json::number(raw).map(Into::into))?.into_owned())
}

/// The row of an event that is not forwarded.
pub(super) fn quarantined_row(event: QuarantinedEvent) -> EventRow {
    let state = if event.disposition == "ignored" { EventState::Ignored } else { EventState::Rejected };
    let payload = Some(event.payload).filter(|payload| !payload.is_empty());
    let reason = match (event.reason, &event.event_name) {
        (Some(reason), _) => Some(ignored::in_words(&reason).map_or(reason, str::to_owned)),
        (None, Some(name)) => Some(format!("Segment has no event for “{name}”")),
        (None, None) => None,
    };
    let id = format!("{QUARANTINED}{}", event.digest);
    EventRow {
        reason,
        event: event.event_name,
        payload: payload.and_then(|payload| RawValue::from_string(payload).ok()),
        ..EventRow::new(id.as_bytes(), state, event.received_at, event.received_at)
    }
}

impl Admin {
    /// How a source names its events.
    pub(super) async fn source_names(&self, id: Uuid) -> Result<SourceNames, AdminError> {
        let source = self.sealed_source(id).await?;
        let unsubscribe = source.unsubscribe_event.parse();
        let unsubscribe = unsubscribe.map_err(|_| AdminError::UnknownSetting(source.unsubscribe_event.clone()))?;
        let kind = kind(&source)?;
        Ok(SourceNames { source: id, unsubscribe, envelope: kind.envelope(), are_calls: kind.takes_calls() })
    }
}
