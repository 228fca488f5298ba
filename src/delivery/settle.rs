//! How a step ends: what came of it is written down, and its lease given back or kept.

use std::time::Instant;

use time::OffsetDateTime;

use super::batcher::BatchError;
use super::plan::Unreadable;
use super::scheduler::StepOutcome;
use super::statements;
use super::worker::{DeliveryWorker, StepResult, WITHHOLD};
use crate::domain::retry::{self, LONGEST_WAIT};
use crate::metrics::{EventDisposition, Tally};
use crate::random;
use crate::store::block::UnreadableBlock;
use crate::store::connection::Connection;
use crate::store::lease::Lease;
use crate::store::settlement::{Pause, Settled, Settlement};
use crate::wakeups::Deferred;

/// How often it is tried to store an answer: together with the waits in between about half a minute, in which
/// the lease lasts.
const MAX_SETTLE_RETRIES: u32 = 5;

impl DeliveryWorker {
    /// Settles a step, or leaves that for later where it went well, and keeps its lease where that is of use. Returns what to
    /// do next.
    pub(super) async fn settle(&self, lease: Lease, done: StepResult) -> Result<StepOutcome, BatchError> {
        let StepResult { settlement, since, next } = done;
        if let Some(since) = since {
            self.metrics.delivery_seconds.observe((OffsetDateTime::now_utc() - since).as_seconds_f64());
        }
        match self.wakeups.tail.defer(&lease, settlement, Instant::now()) {
            Deferred::Later { more } => Ok(if more { next } else { StepOutcome::Idle }),
            Deferred::Not(settlement) => self.write(lease, *settlement, next).await,
        }
    }

    /// Settles what a source's steps have left for later. Where that fails, its next step tries for longer.
    pub(super) async fn settle_deferred(&self, lease: Lease, settlement: Settlement) {
        let (source, renewed_at) = (lease.source_id, Instant::now());
        let more = match self.submit(&settlement, true).await {
            Ok(settled) => self.settled(&lease, &settlement, settled, renewed_at),
            Err(error) => {
                tracing::debug!(source.id = %source, %error, "answers could not be stored yet");
                self.wakeups.tail.put_back(lease, settlement, renewed_at);
                true
            }
        };
        if more {
            self.wakeups.wake_again([source]);
        }
    }

    async fn submit(&self, settlement: &Settlement, is_in_hurry: bool) -> Result<Option<Settled>, BatchError> {
        let settle = async |db: &mut Connection, settlements: Vec<_>| statements::settle(db, &settlements).await;
        let submitted = self.settlements.submit(settlement.source_id, settlement.clone(), is_in_hurry, settle);
        submitted.await.and_then(Option::transpose)
    }

    /// Writes a settlement down. Returns what to do next: `next`, where more events wait.
    pub(super) async fn write(
        &self,
        lease: Lease,
        settlement: Settlement,
        next: StepOutcome,
    ) -> Result<StepOutcome, BatchError> {
        // Who has sent little waits for others.
        let is_in_hurry = next != StepOutcome::Debounce;
        let source = settlement.source_id;
        let mut n_failed = 0;
        let tail = &self.wakeups.tail;
        let (settled, renewed_at) = loop {
            let renewed_at = Instant::now();
            let has_asked = !settlement.attempts.is_empty();
            match self.submit(&settlement, is_in_hurry).await {
                Ok(settled) => break (settled, renewed_at),
                // The destination has been asked: to ask it again, because the answer cannot be stored, would double its load.
                Err(error) if has_asked && n_failed < MAX_SETTLE_RETRIES => {
                    n_failed += 1;
                    tracing::warn!(source.id = %source, %error, "an answer could not be stored yet");
                    tokio::time::sleep(retry::wait(n_failed, None, random::fraction())).await;
                }
                Err(error) if has_asked => {
                    tracing::error!(source.id = %source, %error, "an answer could not be stored; what it was about is sent again");
                    tail.forget(source);
                    return Ok(StepOutcome::Withhold(WITHHOLD));
                }
                Err(error) => {
                    tail.forget(source);
                    return Err(error);
                }
            }
        };
        let more = self.settled(&lease, &settlement, settled, renewed_at);
        Ok(if more { next } else { StepOutcome::Idle })
    }

    /// A settlement was written over a lease that was renewed after `renewed_at` (`None`: it was not, as the lease is another's,
    /// or the log has other events under these numbers). Says whether more events wait.
    fn settled(&self, lease: &Lease, written: &Settlement, settled: Option<Settled>, renewed_at: Instant) -> bool {
        let (source, tail) = (lease.source_id, &self.wakeups.tail);
        let Some(Settled { more, is_kept }) = settled else {
            tail.forget(source);
            tracing::warn!(source.id = %source, "the lease was taken over, or another server lacks these events; the batch may be delivered twice");
            return false;
        };
        self.count_settled(written);
        let more_here = if is_kept {
            tail.keep(lease.advanced(written.cursor), renewed_at, Instant::now())
        } else {
            tail.forget(source);
            false
        };
        more || more_here
    }

    fn count_settled(&self, settlement: &Settlement) {
        let mut tally = Tally::default();
        for kind in &settlement.delivered {
            tally.add(Some(*kind), EventDisposition::Delivered, 1);
        }
        tally.add(None, EventDisposition::DeadLettered, settlement.dead.len());
        self.metrics.events(tally);
        self.metrics.missing_events.inc_by(settlement.n_missing.unsigned_abs());
    }

    /// What to do where the block after the cursor cannot be read.
    pub(super) fn stop_at(&self, lease: &Lease, unreadable: &Unreadable) -> StepResult {
        let Unreadable { first, last, why } = unreadable;
        let stay = Settlement::stay(lease);
        tracing::error!(
            source.id = %lease.source_id, from_seq = first, to_seq = last, %why,
            "events of the log cannot be read"
        );
        self.metrics.unreadable_blocks(why.as_str(), 1);
        match why {
            UnreadableBlock::NewerVersion => StepResult::of(stay, StepOutcome::Withhold(WITHHOLD)),
            UnreadableBlock::Damaged if lease.is_paused => {
                StepResult::of(Settlement { wait: LONGEST_WAIT, ..stay }, StepOutcome::Park(LONGEST_WAIT))
            }
            UnreadableBlock::Damaged => {
                let reason = format!(
                    "the log cannot be read from event {first} to {last}: {why}. Restore the event_block from a backup \
                     and resume the source, or give these events up: `source skip-unreadable {}`",
                    lease.source_id
                );
                StepResult::of(Settlement { pause: Some(Pause::Log(reason)), ..stay }, StepOutcome::Continue)
            }
        }
    }
}
