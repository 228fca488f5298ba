//! What a step has before it: the next events of an account's log.

use std::time::Duration;

use time::OffsetDateTime;

use crate::domain::account::UnsubscribeEvent;
use crate::domain::event::{Kind, MessageId};
use crate::domain::track::TrackTooLarge;
use crate::segment::Batch;
use crate::store::block::{StoredBlock, UnreadableBlock};
use crate::store::lease::Lease;
use crate::store::settlement::Dead;

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
    pub unsent: Vec<Dead>,
    /// The first of the batch, in case that it stands alone and is refused.
    pub suspect: Option<Dead>,
    /// When the first event after it becomes too old, where the account cannot send.
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

/// How to read the log.
pub struct Reader {
    /// What unsubscriptions are called; `None`: the account cannot send, its events only expire.
    pub unsubscribe: Option<UnsubscribeEvent>,
    /// The age at which an event is not sent any more.
    pub max_age: Duration,
    /// How many events to read.
    pub n_events: i64,
}

impl Reader {
    /// Reads what comes next: a batch, unless it cannot be sent, and what has expired before and among it. Stops where
    /// a number is missing, or a block cannot be read.
    pub fn read(&self, lease: &Lease, blocks: &[StoredBlock], now: OffsetDateTime) -> BatchPlan {
        let deadline = now - self.max_age;
        let end = lease.cursor.saturating_add(self.n_events);
        let mut plan = BatchPlan::default();
        for stored in blocks {
            let next = plan.last.unwrap_or(lease.cursor) + 1;
            if stored.first_seq() > next {
                return plan;
            }
            let block = match stored.read() {
                Ok(block) => block,
                Err(why) => {
                    plan.unreadable =
                        plan.last.is_none().then_some(Unreadable { first: next, last: stored.last_seq, why });
                    return plan;
                }
            };
            let waiting = (stored.first_seq()..=end).zip(block.records()).filter(|(seq, _)| *seq > lease.cursor);
            for (seq, event) in waiting {
                let dead = |reason| Dead {
                    seq,
                    kind: event.kind,
                    event_id: event.event_id.to_owned(),
                    received_at: event.received_at,
                    track: String::from_utf8_lossy(event.track).into_owned(),
                    reason,
                };
                if stored.since <= deadline {
                    plan.unsent.push(dead(format!("expired: not delivered in {} s", self.max_age.as_secs())));
                } else if let Some(unsubscribe) = self.unsubscribe {
                    let message_id = MessageId::new(lease.account_id, event.event_id);
                    if plan.batch.push(message_id, event.kind.segment_event(unsubscribe), event.track) {
                        if plan.batch.len() == 1 {
                            plan.first_sent = Some(seq);
                            plan.since = Some(stored.since);
                            plan.suspect = Some(dead(String::new()));
                        }
                        plan.kinds.push(event.kind);
                    } else if plan.batch.is_empty() {
                        // Accepted by a version that put less around it; it must not hold up what comes after it.
                        plan.unsent.push(dead(TrackTooLarge.to_string()));
                    } else {
                        return plan;
                    }
                } else {
                    plan.next_expiry = Some(stored.since + self.max_age);
                    return plan;
                }
                plan.last = Some(seq);
            }
        }
        plan
    }
}
