//! What has happened to one event, step by step.

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::EventFields;
use super::filter::EventState;
use super::log_walk::logged;
use super::row::{EventRow, LoggedEvent, QUARANTINED, SourceNames, quarantined_row};
use crate::admin::{Admin, AdminError};
use crate::domain::source_state::PAUSED_BY_ADMIN;
use crate::domain::timestamp::rfc3339;
use crate::domain::words::grouped;
use crate::store::events::{self, DeadEvent, Heads, QuarantinedEvent};
use crate::store::overview::{self, AttemptRow};

/// How many of the first and of the last requests for an event are told of.
const MAX_ATTEMPTS: i64 = 10;

/// A call that came into the log so long after it was received had waited for an `identify`: what comes in together, came within
/// less.
const HELD_AT_LEAST: time::Duration = time::Duration::SECOND;

/// What was found under an event's id.
#[derive(Debug)]
pub enum FoundEvent {
    /// It.
    Journey(Box<Journey>),
    /// It is there, but the log cannot be read at its place.
    Unreadable,
    /// It is there, but was erased.
    Erased,
    /// Nothing. It may have been forgotten.
    Nothing,
}

/// What has happened to an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Journey {
    /// The event.
    #[serde(flatten)]
    pub event: EventRow,
    /// Where it stands, in a sentence.
    pub summary: String,
    /// What happened, in order. What is not recorded any more is not here.
    pub steps: Vec<JourneyStep>,
}

/// Something that happened to an event.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct JourneyStep {
    /// `received`, `sent` (a request to Segment, or of a call to Nudgespot), `gave_up`, `replayed`, `left_out` (requests that
    /// are not told of). Of a call also `mapped`, `held` (until its user is identified) and `stored`, to be sent.
    pub step: &'static str,
    /// When.
    pub at: String,
    /// With how many others it was sent; or how many requests are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_others: Option<i64>,
    /// In how many requests all of these were sent, where that was more than one; this event was in one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_requests: Option<i32>,
    /// What was answered; `null` in a request without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<i16>,
    /// How many milliseconds that took; of several requests, the longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i32>,
    /// What came of the request: `delivered`, `retry`, `refused` (sent again in smaller parts, or given up), `paused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, for sorting and counting.
    #[serde(skip)]
    pub time: Option<OffsetDateTime>,
}

impl JourneyStep {
    pub(super) fn new(step: &'static str, at: OffsetDateTime) -> Self {
        Self { step, at: rfc3339(at), time: Some(at), ..Self::default() }
    }

    fn attempt(attempt: AttemptRow) -> Self {
        Self {
            n_others: Some(i64::from(attempt.n_events) - 1),
            n_requests: Some(attempt.n_requests).filter(|n| *n > 1),
            status: attempt.status,
            duration_ms: Some(attempt.duration_ms),
            outcome: Some(attempt.outcome),
            reason: attempt.reason,
            ..Self::new("sent", attempt.started_at)
        }
    }
}

impl FoundEvent {
    /// An event beside the log.
    pub(super) fn not_forwarded(event: QuarantinedEvent) -> Self {
        let event = quarantined_row(event);
        let steps = vec![JourneyStep::new("received", event.received)];
        let reason = event.reason.clone().unwrap_or_default();
        Self::Journey(Box::new(Journey { summary: format!("Not forwarded: {reason}."), steps, event }))
    }
}

impl Admin {
    /// The event of a source with this id, and what has happened to it: at once, however old it is.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub async fn find_event(&self, source: Uuid, event_id: &str) -> Result<FoundEvent, AdminError> {
        let names = self.source_names(source).await?;
        let id = event_id.as_bytes();
        let seq = self.db(async |db| events::find_known(db, source, id).await).await?;
        let dead = self.db(async |db| events::find_dead(db, source, seq, id).await).await?;
        if let Some(dead) = dead {
            return self.dead_journey(names, &dead).await;
        }
        if let Some(seq) = seq {
            return self.logged_journey(names, seq, id).await;
        }
        if names.are_calls
            && let found @ FoundEvent::Journey(_) = self.held_journey(names, id).await?
        {
            return Ok(found);
        }
        let Some(digest) = event_id.strip_prefix(QUARANTINED).and_then(|digest| Uuid::parse_str(digest).ok()) else {
            return Ok(FoundEvent::Nothing);
        };
        let found = self.db(async |db| events::find_quarantined(db, source, digest).await).await?;
        Ok(found.map_or(FoundEvent::Nothing, FoundEvent::not_forwarded))
    }

    async fn logged_journey(&self, names: SourceNames, seq: i64, event_id: &[u8]) -> Result<FoundEvent, AdminError> {
        let source = names.source;
        let heads = self.heads(source).await?;
        let Some((last_seq, _)) = self.db(async |db| events::block_from(db, source, seq).await).await? else {
            return Ok(FoundEvent::Unreadable);
        };
        let block = self.db(async |db| events::read_blocks(db, source, &[last_seq]).await).await?.pop();
        let read = block.as_ref().and_then(|block| Some((block, block.stored.read().ok()?)));
        let Some((block, events)) = read else { return Ok(FoundEvent::Unreadable) };
        let place = usize::try_from(seq - block.stored.first_seq()).unwrap_or(usize::MAX);
        let Some(record) = events.records().nth(place).filter(|record| record.event_id == event_id) else {
            return Ok(FoundEvent::Unreadable);
        };
        if record.is_erased() {
            return Ok(FoundEvent::Erased);
        }
        let (kind, received_at, stored) = (record.kind, record.received_at, record.track);
        let state = if heads.is_done(seq) { EventState::Delivered } else { EventState::Waiting };
        let at = received_at.max(block.stored.since);
        let event = LoggedEvent { seq, kind, event_id, received_at, at, stored, state };
        let steps = self.steps(names, event, None).await?;
        let summary = match state {
            EventState::Waiting => self.why_it_waits(names, &heads, seq).await?,
            _ if names.are_calls => "Nudgespot's API has accepted it.".to_owned(),
            _ => "Segment's API has accepted it.".to_owned(),
        };
        Ok(journey(names, event, steps, summary, None))
    }

    async fn dead_journey(&self, names: SourceNames, dead: &DeadEvent) -> Result<FoundEvent, AdminError> {
        let Some(event) = logged(dead) else { return Ok(FoundEvent::Unreadable) };
        let steps = self.steps(names, event, Some(dead)).await?;
        let summary = format!("Given up: {}. It can be sent again.", dead.reason.trim_end_matches('.'));
        Ok(journey(names, event, steps, summary, Some(dead.reason.clone())))
    }

    async fn why_it_waits(&self, names: SourceNames, heads: &Heads, seq: i64) -> Result<String, AdminError> {
        let source = names.source;
        let standing = self.db(async |db| overview::list(db, None, Some(source)).await).await?.pop();
        let (one, many, key) =
            if names.are_calls { ("call", "calls", "REST key") } else { ("event", "events", "write key") };
        let before = match heads.n_waiting_before(seq) {
            0 => "It is next to be sent".to_owned(),
            1 => format!("It waits behind one other {one}"),
            n => format!("It waits behind {} other {many}", grouped(n)),
        };
        let Some(standing) = standing else { return Ok(format!("{before}.")) };
        let why = if let Some(reason) = standing.paused_reason {
            match reason.trim_end_matches('.') {
                PAUSED_BY_ADMIN => format!("; delivery is {PAUSED_BY_ADMIN}"),
                reason => format!("; delivery is paused: {reason}"),
            }
        } else if !standing.has_write_key {
            format!("; the source has no {key} yet")
        } else if let Some(error) = standing.last_error {
            format!("; the last attempt failed: {}", error.trim_end_matches('.'))
        } else {
            String::new()
        };
        Ok(format!("{before}{why}."))
    }

    async fn steps(
        &self,
        names: SourceNames,
        event: LoggedEvent<'_>,
        dead: Option<&DeadEvent>,
    ) -> Result<Vec<JourneyStep>, AdminError> {
        let LoggedEvent { seq, received_at, at, .. } = event;
        let source = names.source;
        let mut steps = vec![JourneyStep::new("received", received_at)];
        let replays = self.db(async |db| events::replays_to(db, source, seq).await).await?;
        if names.are_calls {
            steps.push(JourneyStep::new("mapped", received_at));
            // It came into the log with an `identify` that came later. After a replay, the time is that of the replay.
            let was_held = replays.is_empty() && dead.is_none() && at - received_at >= HELD_AT_LEAST;
            if was_held {
                steps.push(JourneyStep::new("held", received_at));
            }
            steps.push(JourneyStep::new("stored", if was_held { at } else { received_at }));
        }
        for replay in replays {
            self.add_attempts(&mut steps, source, replay.from_seq).await?;
            steps.push(JourneyStep { reason: Some(replay.reason), ..JourneyStep::new("gave_up", replay.dead_at) });
            steps.push(JourneyStep::new("replayed", replay.replayed_at));
        }
        self.add_attempts(&mut steps, source, seq).await?;
        if let Some(dead) = dead {
            steps.push(JourneyStep { reason: Some(dead.reason.clone()), ..JourneyStep::new("gave_up", dead.dead_at) });
        }
        Ok(steps)
    }

    async fn add_attempts(&self, steps: &mut Vec<JourneyStep>, source: Uuid, seq: i64) -> Result<(), AdminError> {
        let (attempts, n_all) = self.db(async |db| overview::attempts_of(db, source, seq, MAX_ATTEMPTS).await).await?;
        let n_left_out = n_all - i64::try_from(attempts.len()).unwrap_or(n_all);
        for (at, attempt) in (0..).zip(attempts) {
            if n_left_out > 0 && at == MAX_ATTEMPTS {
                let left_out = JourneyStep::new("left_out", attempt.started_at);
                steps.push(JourneyStep { n_others: Some(n_left_out), ..left_out });
            }
            steps.push(JourneyStep::attempt(attempt));
        }
        Ok(())
    }
}

fn journey(
    names: SourceNames,
    event: LoggedEvent<'_>,
    steps: Vec<JourneyStep>,
    summary: String,
    reason: Option<String>,
) -> FoundEvent {
    let mut row = EventRow { reason, ..names.row(event, &EventFields::parse(event.kind, event.stored)) };
    names.add_whole(&mut row, event);
    FoundEvent::Journey(Box::new(Journey { event: row, summary, steps }))
}
