//! What a step has before it: the next events of a source's log.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::destinations::segment::Batch;
use crate::domain::call::{CallFields, user_hash};
use crate::domain::event::{Kind, MessageId};
use crate::domain::rejection::TrackTooLarge;
use crate::domain::track::Envelope;
use crate::domain::unsubscribe_event::UnsubscribeEvent;
use crate::store::block::{Block, Record, StoredBlock, UnreadableBlock};
use crate::store::lease::Lease;
use crate::store::settlement::NewDeadLetter;
use crate::wakeups::CommittedBlock;

/// A block of the log, from wherever it comes.
pub enum LogBlock {
    /// As the database holds it.
    Stored(StoredBlock),
    /// As this process has just committed it.
    Committed(Arc<CommittedBlock>),
}

impl LogBlock {
    /// The number of its first event.
    pub fn first_seq(&self) -> i64 {
        match self {
            Self::Stored(block) => block.first_seq(),
            Self::Committed(block) => block.first_seq(),
        }
    }

    /// The number of its last event.
    pub fn last_seq(&self) -> i64 {
        match self {
            Self::Stored(block) => block.last_seq,
            Self::Committed(block) => block.last_seq,
        }
    }

    /// Since when its events wait.
    pub fn since(&self) -> OffsetDateTime {
        match self {
            Self::Stored(block) => block.since,
            Self::Committed(block) => block.since,
        }
    }

    /// Its events.
    ///
    /// # Errors
    /// [`UnreadableBlock`]; never of one that was committed here.
    pub fn read(&self) -> Result<Cow<'_, Block>, UnreadableBlock> {
        match self {
            Self::Stored(block) => block.read().map(Cow::Owned),
            Self::Committed(block) => Ok(Cow::Borrowed(&block.block)),
        }
    }
}

/// The events to send, and those that cannot be sent any more.
#[derive(Default)]
pub struct BatchPlan {
    pub batch: Batch,
    pub kinds: Vec<Kind>,
    pub first_sent: Option<i64>,
    /// Since when the first of the batch waits.
    pub since: Option<OffsetDateTime>,
    /// The last event of all.
    pub last: Option<i64>,
    /// Those that expired, or are too large.
    pub expired: Vec<NewDeadLetter>,
    /// How many were erased.
    pub n_erased: i64,
    /// The first of the batch, in case that it stands alone and is refused.
    pub first_event: Option<NewDeadLetter>,
    /// When the first event after it becomes too old, where the source cannot send.
    pub next_expiry: Option<OffsetDateTime>,
    /// Why there is nothing: the block after the cursor cannot be read.
    pub unreadable: Option<Unreadable>,
}

/// A block that cannot be read: the numbers of its events that wait, and why.
pub struct Unreadable {
    pub first: i64,
    pub last: i64,
    pub why: UnreadableBlock,
}

/// How the tracks of a source are written.
#[derive(Clone, Copy)]
pub struct Writing {
    /// What is around each.
    pub envelope: Envelope,
    /// What unsubscriptions are called.
    pub unsubscribe: UnsubscribeEvent,
}

/// How to read the log.
pub struct Reader<'a> {
    /// How its tracks are written; `None`: the source cannot send, its events only expire.
    pub writing: Option<Writing>,
    /// The age at which an event is not sent any more.
    pub max_age: Duration,
    /// How many events to read.
    pub n_events: i64,
    /// Of a source of calls: users who are forgotten, and up to which number.
    pub forgotten: &'a HashMap<Uuid, i64>,
}

impl Reader<'_> {
    /// Reads what comes next: a batch, unless it cannot be sent, and what has expired before and among it. Stops where
    /// a number is missing, or a block cannot be read.
    pub fn read(&self, lease: &Lease, blocks: &[LogBlock], now: OffsetDateTime) -> BatchPlan {
        let deadline = now - self.max_age;
        let end = lease.cursor.saturating_add(self.n_events);
        let mut plan = BatchPlan::default();
        for in_log in blocks {
            let next = plan.last.unwrap_or(lease.cursor) + 1;
            if in_log.first_seq() > next {
                return plan;
            }
            let since = in_log.since();
            let block = match in_log.read() {
                Ok(block) => block,
                Err(why) => {
                    plan.unreadable =
                        plan.last.is_none().then_some(Unreadable { first: next, last: in_log.last_seq(), why });
                    return plan;
                }
            };
            let waiting = (in_log.first_seq()..=end).zip(block.records()).filter(|(seq, _)| *seq > lease.cursor);
            for (seq, event) in waiting {
                let dead = |reason| NewDeadLetter {
                    seq,
                    kind: event.kind,
                    event_id: event.event_id.to_owned(),
                    received_at: event.received_at,
                    track: String::from_utf8_lossy(event.track).into_owned(),
                    reason,
                };
                if lease.done_ahead.contains(&seq) {
                    // A call that is done: nothing is to become of it.
                } else if event.is_erased() || is_forgotten(self.forgotten, seq, event) {
                    plan.n_erased += 1;
                } else if since <= deadline {
                    plan.expired.push(dead(format!("expired: not delivered in {} s", self.max_age.as_secs())));
                } else if let Some(Writing { envelope, unsubscribe }) = self.writing {
                    let message_id = MessageId::new(lease.source_id, event.event_id);
                    if plan.batch.push(message_id, event.kind.segment_event(unsubscribe), event.track, envelope) {
                        if plan.batch.len() == 1 {
                            plan.first_sent = Some(seq);
                            plan.since = Some(since);
                            plan.first_event = Some(dead(String::new()));
                        }
                        plan.kinds.push(event.kind);
                    } else if plan.batch.is_empty() {
                        // Accepted by a version that put less around it; it must not hold up what comes after it.
                        plan.expired.push(dead(TrackTooLarge.to_string()));
                    } else {
                        return plan;
                    }
                } else {
                    plan.next_expiry = Some(since + self.max_age);
                    return plan;
                }
                plan.last = Some(seq);
            }
        }
        plan
    }
}

/// Whether it is a call about a user who is forgotten.
pub fn is_forgotten(forgotten: &HashMap<Uuid, i64>, seq: i64, event: Record<'_>) -> bool {
    // Nearly always there are none.
    !forgotten.is_empty() && user_of(event).is_some_and(|user| forgotten.get(&user).is_some_and(|up_to| seq <= *up_to))
}

/// The user whom a call is about.
pub fn user_of(event: Record<'_>) -> Option<Uuid> {
    Some(user_hash(&CallFields::parse(event.kind, event.track)?.user_id()?))
}
