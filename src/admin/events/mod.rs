//! The events of a source, as people look for them: a list with filters, the journey of one, an export.
//!
//! Newest first, in steps of bounded time: a step says how far back it has looked, and the next goes on from there. What
//! was accepted comes from the log (`log_walk.rs`), what was ignored or rejected from beside it (`quarantine_walk.rs`), and the
//! two are merged by time. Calls that wait for their user to be identified are a list of their own (`held.rs`).

mod cursor;
mod export;
mod fields;
mod filter;
mod held;
mod journey;
mod log_walk;
mod quarantine_walk;
mod row;

use std::time::{Duration, Instant};

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Admin, AdminError};
use crate::domain::timestamp::rfc3339;
use crate::store::events;
pub use cursor::{EventCursor, ListPlace};
pub use export::{ExportFormat, ExportPermit, Exports};
pub use filter::{EventFilter, EventState};
pub use journey::{FoundEvent, Journey, JourneyStep};
use log_walk::LogWalk;
use quarantine_walk::QuarantineWalk;
pub use row::EventRow;
use row::SourceNames;

/// How long a step of a search may take.
const STEP: Duration = Duration::from_millis(250);
/// How many events a page may have.
pub const MAX_PAGE: usize = 1_000;

/// A part of the list of a source's events.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventsPage {
    /// The events, newest first.
    pub data: Vec<EventRow>,
    /// Where to go on; `None`: that was all.
    pub next_cursor: Option<String>,
    /// How far back it was looked: everything newer that matches is here, or was on a page before.
    pub searched_back_to: Option<String>,
    /// The same.
    #[serde(skip)]
    pub searched_back_to_at: Option<OffsetDateTime>,
    /// Whether all was looked through.
    pub is_complete: bool,
    /// How many events could not be read, as the log is damaged there.
    pub unreadable: i64,
    /// Where the list began, to ask later what is new.
    #[serde(skip)]
    pub place: ListPlace,
}

/// What one of the two parts that are merged has next.
enum Next {
    /// An event, and its place in time.
    Row(OffsetDateTime),
    /// There was no time to find out. All that is newer than this is known.
    OutOfTime(Option<OffsetDateTime>),
    /// Nothing.
    End,
}

/// What an event must be to be on the list, and how its row is made.
struct Wanted<'a> {
    source: Uuid,
    filter: &'a EventFilter,
    names: SourceNames,
    /// Whether rows hold the whole track, or payload.
    is_whole: bool,
    deadline: Instant,
}

impl Admin {
    /// A part of the list of a source's events, from where `cursor` says: at most `limit`, and what can be found in a
    /// fraction of a second.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub async fn events(
        &self,
        source: Uuid,
        filter: &EventFilter,
        cursor: Option<EventCursor>,
        limit: usize,
    ) -> Result<EventsPage, AdminError> {
        let names = self.source_names(source).await?;
        let deadline = Instant::now() + STEP;
        self.walk(&Wanted { source, filter, names, is_whole: false, deadline }, cursor, None, limit).await
    }

    /// What has come to the list since it was begun at `place`, newest first. `is_complete` says whether that is all.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub async fn new_events(
        &self,
        source: Uuid,
        filter: &EventFilter,
        place: ListPlace,
        limit: usize,
    ) -> Result<EventsPage, AdminError> {
        let names = self.source_names(source).await?;
        let deadline = Instant::now() + STEP;
        self.walk(&Wanted { source, filter, names, is_whole: false, deadline }, None, Some(place), limit).await
    }

    /// When the oldest event came that a source's log still has.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn oldest_event_at(&self, source: Uuid) -> Result<Option<OffsetDateTime>, AdminError> {
        let first = self.db(async |db| events::block_from(db, source, 0).await).await?;
        Ok(first.map(|(_, since)| since))
    }

    async fn heads(&self, source: Uuid) -> Result<events::Heads, AdminError> {
        let heads = self.db(async |db| events::heads(db, source).await).await?;
        heads.ok_or_else(|| AdminError::NoSuchSource(source.to_string()))
    }

    /// Walks from `cursor` back, to where another list began.
    async fn walk(
        &self,
        wanted: &Wanted<'_>,
        cursor: Option<EventCursor>,
        newer_than: Option<ListPlace>,
        limit: usize,
    ) -> Result<EventsPage, AdminError> {
        if wanted.filter.state == Some(EventState::Held) {
            return self.held_calls(wanted, cursor, limit).await;
        }
        let heads = self.heads(wanted.source).await?;
        let (head_seq, n_quarantined_now) = (heads.head_seq, heads.n_quarantined);
        let mut log =
            LogWalk::begin(self, wanted, heads, cursor.as_ref(), newer_than.map_or(0, |place| place.head_seq)).await?;
        let n_quarantined = newer_than.map_or(i64::MAX, |place| n_quarantined_now - place.n_quarantined);
        let mut quarantine = QuarantineWalk::begin(wanted, cursor.as_ref(), n_quarantined);
        let (mut rows, mut is_complete) = (Vec::new(), false);
        while rows.len() < limit {
            let row = match (log.peek(self, limit - rows.len()).await?, quarantine.peek(self).await?) {
                (Next::End, Next::End) => {
                    is_complete = true;
                    break;
                }
                (Next::Row(of_log), Next::Row(aside)) if of_log >= aside => log.take(),
                (Next::Row(_), Next::End) => log.take(),
                (Next::Row(at), Next::OutOfTime(known)) if known.is_some_and(|known| at >= known) => log.take(),
                (Next::Row(_) | Next::End, Next::Row(_)) => quarantine.take(),
                (Next::OutOfTime(known), Next::Row(at)) if known.is_some_and(|known| at >= known) => quarantine.take(),
                _ => break,
            };
            rows.extend(row);
        }
        let mut back_to = log.frontier().max(quarantine.frontier());
        if rows.len() >= limit {
            back_to = rows.last().map(|row| row.at).or(back_to);
        }
        log.add_reasons(self, &mut rows).await?;
        let next = EventCursor { before_seq: log.position(), quarantine: quarantine.position() };
        Ok(EventsPage {
            data: rows,
            next_cursor: (!is_complete).then(|| next.to_string()),
            searched_back_to: back_to.map(rfc3339),
            searched_back_to_at: back_to,
            is_complete,
            unreadable: log.n_unreadable(),
            place: ListPlace { head_seq, n_quarantined: n_quarantined_now },
        })
    }
}
