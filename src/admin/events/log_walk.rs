//! The part of a list that is in the log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::cursor::EventCursor;
use super::fields::EventFields;
use super::filter::EventState;
use super::row::{EventRow, LoggedEvent};
use super::{Next, Wanted};
use crate::admin::{Admin, AdminError};
use crate::domain::event::Kind;
use crate::store::events::{self, DeadEvent, Heads, ReadBlock, ScannedBlock};

/// How far apart the times and the numbers of events may be in order: webhooks wait for their commit, and the clocks of
/// replicas differ.
const DISORDER: Duration = Duration::from_mins(10);
/// How many blocks are looked at by their filters at a time.
const SCAN_BLOCKS: i64 = 1_000;
/// How many blocks are read at a time.
const READ_BLOCKS: usize = 8;

/// Walks a source's log backwards.
pub struct LogWalk<'a> {
    wanted: &'a Wanted<'a>,
    keys: Vec<Vec<u8>>,
    heads: Heads,
    /// All events from this number on were looked at.
    before: i64,
    /// Where the walk ends: after this number.
    floor: i64,
    /// What was found and is not on the list yet.
    found: VecDeque<EventRow>,
    /// All that is newer is known.
    frontier: Option<OffsetDateTime>,
    has_begun: bool,
    is_ended: bool,
    n_unreadable: i64,
}

impl<'a> LogWalk<'a> {
    /// Begins at the cursor, or at the end of the log; ends at event `after`.
    pub async fn begin(
        admin: &Admin,
        wanted: &'a Wanted<'a>,
        heads: Heads,
        cursor: Option<&EventCursor>,
        after: i64,
    ) -> Result<Self, AdminError> {
        let state = wanted.filter.state;
        let mut before = cursor.map_or(i64::MAX, |cursor| cursor.before_seq).min(heads.head_seq + 1);
        if state == Some(EventState::Delivered) {
            before = before.min(heads.last_done() + 1);
        }
        let floor = if state == Some(EventState::Waiting) { after.max(heads.cursor_seq) } else { after };
        let mut walk = Self {
            wanted,
            keys: wanted.filter.keys(),
            heads,
            before,
            floor,
            found: VecDeque::new(),
            frontier: None,
            has_begun: false,
            is_ended: !wanted.filter.wants_log(),
            n_unreadable: 0,
        };
        if let (Some(until), None, false) = (wanted.filter.until, cursor, walk.is_ended) {
            walk.before = walk.seek(admin, until + DISORDER).await?;
        }
        Ok(walk)
    }

    /// A number that all events before `until` are before, and not many others.
    async fn seek(&self, admin: &Admin, until: OffsetDateTime) -> Result<i64, AdminError> {
        let (mut low, mut high) = (self.floor + 1, self.before);
        while low < high {
            let middle = low + (high - low) / 2;
            let source = self.wanted.source;
            match admin.db(async |db| events::block_from(db, source, middle).await).await? {
                Some((last_seq, since)) if since < until => low = last_seq + 1,
                _ => high = middle,
            }
        }
        Ok(low.min(self.before))
    }

    /// What comes next. `n_wanted` is how many events are still wanted.
    pub async fn peek(&mut self, admin: &Admin, n_wanted: usize) -> Result<Next, AdminError> {
        loop {
            if let Some(row) = self.found.front() {
                return Ok(Next::Row(row.at));
            }
            self.is_ended |= self.before <= self.floor + 1;
            if self.is_ended {
                return Ok(Next::End);
            }
            if self.has_begun && Instant::now() >= self.wanted.deadline {
                return Ok(Next::OutOfTime(self.frontier));
            }
            if self.wanted.filter.state == Some(EventState::GaveUp) {
                self.fill_with_dead(admin, n_wanted).await?;
            } else {
                self.fill(admin, n_wanted).await?;
            }
            self.has_begun = true;
        }
    }

    /// Takes what [`peek`](Self::peek) has shown.
    pub fn take(&mut self) -> Option<EventRow> {
        self.found.pop_front()
    }

    /// Where to go on.
    pub fn position(&self) -> i64 {
        match self.found.front().and_then(|row| row.seq) {
            Some(seq) => seq + 1,
            None if self.is_ended => 0,
            None => self.before,
        }
    }

    /// All that is newer than this is known; `None`: all is.
    pub fn frontier(&self) -> Option<OffsetDateTime> {
        match self.found.front() {
            Some(row) => Some(row.at),
            None if self.is_ended => None,
            None => self.frontier,
        }
    }

    /// How many events could not be read on the way.
    pub fn n_unreadable(&self) -> i64 {
        self.n_unreadable
    }

    /// Says why events were given up.
    pub async fn add_reasons(&self, admin: &Admin, rows: &mut [EventRow]) -> Result<(), AdminError> {
        let is_silent = |row: &EventRow| row.state == EventState::GaveUp && row.reason.is_none();
        let seqs: Vec<i64> = rows.iter().filter(|row| is_silent(row)).filter_map(|row| row.seq).collect();
        if seqs.is_empty() {
            return Ok(());
        }
        let source = self.wanted.source;
        for (seq, reason) in admin.db(async |db| events::death_reasons(db, source, &seqs).await).await? {
            if let Some(row) = rows.iter_mut().find(|row| row.seq == Some(seq)) {
                row.reason = Some(reason);
            }
        }
        Ok(())
    }

    /// Looks at the next blocks, and reads those that may have what is wanted.
    async fn fill(&mut self, admin: &Admin, n_wanted: usize) -> Result<(), AdminError> {
        let (source, before, keys) = (self.wanted.source, self.before, &self.keys);
        // Without keys, every block may have it.
        let n_blocks = i64::try_from(n_wanted).unwrap_or(SCAN_BLOCKS).clamp(16, 256);
        let n_blocks = if keys.is_empty() { n_blocks } else { SCAN_BLOCKS };
        let scanned = admin.db(async |db| events::scan_before(db, source, before, keys, n_blocks).await).await?;
        let Some(&last) = scanned.last() else {
            self.is_ended = true;
            return Ok(());
        };
        let filter = self.wanted.filter;
        let may_match = |block: &&ScannedBlock| {
            block.may_match
                && filter.until.is_none_or(|until| block.since < until)
                && filter.since.is_none_or(|since| block.since + DISORDER >= since)
        };
        let candidates: Vec<i64> = scanned.iter().filter(may_match).map(|block| block.last_seq).collect();
        for (at, last_seqs) in candidates.chunks(READ_BLOCKS).enumerate() {
            if at > 0 && Instant::now() >= self.wanted.deadline {
                return Ok(());
            }
            for block in admin.db(async |db| events::read_blocks(db, source, last_seqs).await).await? {
                if !self.read(&block, n_wanted) {
                    return Ok(());
                }
            }
        }
        self.before = last.first_seq();
        self.frontier = Some(last.since);
        self.is_ended = filter.since.is_some_and(|since| last.since + DISORDER < since);
        Ok(())
    }

    /// Reads a block from its end; says whether it was read to its beginning.
    fn read(&mut self, block: &ReadBlock, n_wanted: usize) -> bool {
        let stored = &block.stored;
        let Ok(events) = stored.read() else {
            self.n_unreadable += i64::from(stored.n_events);
            self.before = stored.first_seq();
            return true;
        };
        let waiting = (stored.first_seq()..).zip(events.records());
        let waiting: Vec<_> = waiting.filter(|(seq, _)| *seq > self.floor && *seq < self.before).collect();
        for (seq, event) in waiting.into_iter().rev() {
            if self.found.len() >= n_wanted {
                return false;
            }
            self.before = seq;
            let at = event.received_at.max(stored.since);
            self.frontier = Some(at);
            // It is shown at the number that it has by now; one that was erased, not at all.
            if block.moved.contains(&seq) || event.is_erased() {
                continue;
            }
            let state = if block.dead.contains(&seq) {
                EventState::GaveUp
            } else if self.heads.is_done(seq) {
                EventState::Delivered
            } else {
                EventState::Waiting
            };
            if self.wanted.filter.state.is_some_and(|wanted| wanted != state) {
                continue;
            }
            let (kind, received_at) = (event.kind, event.received_at);
            self.add(
                LoggedEvent { seq, kind, event_id: event.event_id, received_at, at, stored: event.track, state },
                None,
            );
        }
        self.before = self.before.min(stored.first_seq());
        true
    }

    async fn fill_with_dead(&mut self, admin: &Admin, n_wanted: usize) -> Result<(), AdminError> {
        let (source, before) = (self.wanted.source, self.before);
        let n_events = i64::try_from(n_wanted).unwrap_or(SCAN_BLOCKS).clamp(50, 500);
        let dead = admin.db(async |db| events::dead_before(db, source, before, n_events).await).await?;
        let is_last = i64::try_from(dead.len()).is_ok_and(|n| n < n_events);
        for event in &dead {
            self.before = event.seq;
            self.frontier = Some(at_of(event));
            if event.seq > self.floor
                && let Some(logged) = logged(event)
            {
                self.add(logged, Some(&event.reason));
            }
        }
        self.is_ended = is_last;
        Ok(())
    }

    /// Adds an event, where it is meant.
    fn add(&mut self, event: LoggedEvent<'_>, reason: Option<&str>) {
        let fields = EventFields::parse(event.kind, event.stored);
        if !self.wanted.filter.is_meant(event.kind, event.at, &fields) {
            return;
        }
        let mut row = self.wanted.names.row(event, &fields);
        row.reason = reason.map(str::to_owned);
        if self.wanted.is_whole {
            self.wanted.names.add_whole(&mut row, event);
        }
        self.found.push_back(row);
    }
}

/// When a dead letter came, or was sent again.
fn at_of(event: &DeadEvent) -> OffsetDateTime {
    event.replayed_at.map_or(event.received_at, |replayed_at| event.received_at.max(replayed_at))
}

/// A dead letter as an event of the log; `None`: it is of a kind that this program does not know.
pub(super) fn logged(event: &DeadEvent) -> Option<LoggedEvent<'_>> {
    Some(LoggedEvent {
        seq: event.seq,
        kind: Kind::from_number(event.kind)?,
        event_id: &event.event_id,
        received_at: event.received_at,
        at: at_of(event),
        stored: event.track.as_bytes(),
        state: EventState::GaveUp,
    })
}
