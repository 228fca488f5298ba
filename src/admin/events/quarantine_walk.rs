//! The part of a list that is beside the log: what is not forwarded.

use std::collections::VecDeque;
use std::time::Instant;

use time::OffsetDateTime;
use uuid::Uuid;

use super::cursor::EventCursor;
use super::row::{EventRow, quarantined_row};
use super::{Next, Wanted};
use crate::admin::{Admin, AdminError};
use crate::store::events::{self, Payloads};

/// How many are read at a time; with their payloads, which may be large.
const BATCH: i64 = 200;
const WHOLE_BATCH: i64 = 20;
/// After all times: in the year 9999.
const END_OF_TIME: i64 = 253_400_000_000;
/// Before all times.
const BEGINNING_OF_TIME: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// Walks what is not forwarded of a source's events backwards.
pub struct QuarantineWalk<'a> {
    wanted: &'a Wanted<'a>,
    dispositions: Vec<String>,
    /// All from this place on was read.
    read_to: (OffsetDateTime, Uuid),
    /// All from this place on is on the list, or not wanted there.
    listed_to: (OffsetDateTime, Uuid),
    found: VecDeque<(EventRow, Uuid)>,
    n_left: i64,
    has_begun: bool,
    is_ended: bool,
}

impl<'a> QuarantineWalk<'a> {
    /// Begins at the cursor, or with what came last.
    /// Looks at `n_left` of them at most.
    pub fn begin(wanted: &'a Wanted<'a>, cursor: Option<&EventCursor>, n_left: i64) -> Self {
        let dispositions = wanted.filter.dispositions();
        let end = OffsetDateTime::from_unix_timestamp(END_OF_TIME).unwrap_or(BEGINNING_OF_TIME);
        let begin = match (cursor, wanted.filter.until) {
            (Some(cursor), _) => cursor.quarantine,
            (None, until) => (until.unwrap_or(end).min(end), Uuid::nil()),
        };
        let is_ended = dispositions.is_empty() || begin.0 <= BEGINNING_OF_TIME || n_left <= 0;
        let found = VecDeque::new();
        Self { wanted, dispositions, read_to: begin, listed_to: begin, found, n_left, has_begun: false, is_ended }
    }

    /// What comes next.
    pub async fn peek(&mut self, admin: &Admin) -> Result<Next, AdminError> {
        loop {
            if let Some((row, _)) = self.found.front() {
                return Ok(Next::Row(row.at));
            }
            if self.is_ended {
                return Ok(Next::End);
            }
            if self.has_begun && Instant::now() >= self.wanted.deadline {
                return Ok(Next::OutOfTime(self.frontier()));
            }
            self.fill(admin).await?;
            self.has_begun = true;
        }
    }

    /// Takes what [`peek`](Self::peek) has shown.
    pub fn take(&mut self) -> Option<EventRow> {
        let (row, digest) = self.found.pop_front()?;
        self.listed_to = (row.at, digest);
        if self.found.is_empty() {
            self.listed_to = self.read_to;
        }
        Some(row)
    }

    /// Where to go on.
    pub fn position(&self) -> (OffsetDateTime, Uuid) {
        if self.is_ended && self.found.is_empty() { (BEGINNING_OF_TIME, Uuid::nil()) } else { self.listed_to }
    }

    /// All that is newer than this is known; `None`: all is.
    pub fn frontier(&self) -> Option<OffsetDateTime> {
        match self.found.front() {
            Some((row, _)) => Some(row.at),
            None if self.is_ended => None,
            None => Some(self.read_to.0),
        }
    }

    async fn fill(&mut self, admin: &Admin) -> Result<(), AdminError> {
        let filter = self.wanted.filter;
        let is_whole = self.wanted.is_whole || filter.has_text();
        let (batch, payloads) = if is_whole { (WHOLE_BATCH, Payloads::Read) } else { (BATCH, Payloads::Leave) };
        let limit = batch.min(self.n_left);
        let (source, dispositions, place) = (self.wanted.source, &self.dispositions, self.read_to);
        let read = async |db: &mut sqlx::PgConnection| {
            events::quarantined_before(db, source, dispositions, place, limit, payloads).await
        };
        let read = admin.db(read).await?;
        let n_read = i64::try_from(read.len()).unwrap_or(limit);
        self.n_left -= n_read;
        self.is_ended = n_read < batch || self.n_left <= 0;
        for mut event in read {
            if filter.since.is_some_and(|since| event.received_at < since) {
                self.is_ended = true;
                break;
            }
            let digest = event.digest;
            self.read_to = (event.received_at, digest);
            if !filter.is_said_in(&event.payload) {
                continue;
            }
            if !self.wanted.is_whole {
                event.payload = String::new();
            }
            self.found.push_back((quarantined_row(event), digest));
        }
        if self.found.is_empty() {
            self.listed_to = self.read_to;
        }
        Ok(())
    }
}
