//! Calls that wait for their user to be identified: a list of its own, as they are not in the log yet.

use serde_json::value::RawValue;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::cursor::{EventCursor, ListPlace};
use super::fields::EventFields;
use super::filter::EventState;
use super::journey::{FoundEvent, Journey, JourneyStep};
use super::row::{EventRow, LoggedEvent, SourceNames};
use super::{EventsPage, Wanted};
use crate::admin::{Admin, AdminError};
use crate::domain::call::{MAX_HELD, user_hash};
use crate::domain::event::Kind;
use crate::domain::timestamp::rfc3339;
use crate::domain::words::span;
use crate::store::held_call::{self, HeldCallRow};

/// How many are read at a time.
const BATCH: i64 = 500;

impl Admin {
    /// A part of the list of calls that wait, from where `cursor` says.
    pub(super) async fn held_calls(
        &self,
        wanted: &Wanted<'_>,
        cursor: Option<EventCursor>,
        limit: usize,
    ) -> Result<EventsPage, AdminError> {
        let filter = wanted.filter;
        // A user is known by his id alone, as he wrote it: the list says nothing else of whom it is about.
        let user = filter.recipient.as_deref().map(user_hash);
        let may_match = filter.kind.is_none_or(|kind| kind == Kind::Track)
            && filter.email_id.is_none()
            && filter.campaign_id.is_none();
        let mut before = cursor.map_or(i64::MAX, |cursor| cursor.before_seq);
        let (mut data, mut is_complete, mut back_to) = (Vec::new(), !may_match, None);
        while !is_complete && data.len() < limit && std::time::Instant::now() < wanted.deadline {
            let read = async |db: &mut PgConnection| match user {
                Some(user) => held_call::of_user_before(db, wanted.source, user, before, BATCH).await,
                None => held_call::before(db, wanted.source, before, BATCH).await,
            };
            let calls = self.db(read).await?;
            is_complete = i64::try_from(calls.len()).is_ok_and(|n| n < BATCH);
            for call in calls {
                if data.len() == limit {
                    is_complete = false;
                    break;
                }
                (before, back_to) = (call.id, Some(call.received_at));
                if filter.is_in_time(call.received_at) {
                    data.push(row(wanted.names, &call, wanted.is_whole));
                }
            }
        }
        let next = EventCursor { before_seq: before, quarantine: (OffsetDateTime::UNIX_EPOCH, Uuid::nil()) };
        Ok(EventsPage {
            data,
            next_cursor: (!is_complete).then(|| next.to_string()),
            searched_back_to: back_to.map(rfc3339),
            searched_back_to_at: back_to,
            is_complete,
            unreadable: 0,
            place: ListPlace::default(),
        })
    }

    /// The journey of a call that waits, or has waited in vain.
    pub(super) async fn held_journey(&self, names: SourceNames, event_id: &[u8]) -> Result<FoundEvent, AdminError> {
        let source = names.source;
        let Some(call) = self.db(async |db| held_call::find(db, source, event_id).await).await? else {
            let expired = self.db(async |db| held_call::find_expired(db, source, event_id).await).await?;
            return Ok(expired.map_or(FoundEvent::Nothing, |event| {
                let mut found = FoundEvent::not_forwarded(event);
                if let FoundEvent::Journey(journey) = &mut found {
                    journey.steps.push(JourneyStep::new("held", journey.event.received));
                }
                found
            }));
        };
        let steps = ["received", "mapped", "held"].map(|step| JourneyStep::new(step, call.received_at));
        let summary = format!(
            "No identify has told of its user yet. It is sent when one comes; after {}, it is ignored.",
            span(MAX_HELD)
        );
        let event = row(names, &call, true);
        Ok(FoundEvent::Journey(Box::new(Journey { event, summary, steps: steps.into() })))
    }
}

fn row(names: SourceNames, call: &HeldCallRow, is_whole: bool) -> EventRow {
    let HeldCallRow { event_id, received_at, body, .. } = call;
    let event = LoggedEvent {
        seq: 0,
        kind: Kind::Track,
        event_id,
        received_at: *received_at,
        at: *received_at,
        stored: body.as_bytes(),
        state: EventState::Held,
    };
    let request = is_whole.then(|| RawValue::from_string(body.clone()).ok()).flatten();
    let row = names.row(event, &EventFields::parse(event.kind, event.stored));
    EventRow { request, user_hash: Some(call.user_hash), seq: None, ..row }
}
