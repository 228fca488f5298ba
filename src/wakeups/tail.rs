//! The end of the log, in memory: what this process has just committed for the sources that it delivers for.
//!
//! A source's lease stays with the process while events keep coming, and what is committed meanwhile goes to the delivery
//! as it is: it need not be read from the database again. The log stays the truth. What is here can be sent only where
//!
//! - the commit says that the lease was still ours and that nobody had changed the source since it was taken
//!   ([`LeaseSeen`]): so a pause, another key or another process's lease counts for all that is committed after it;
//! - it follows, number by number, what was sent before;
//! - the lease was renewed not long ago ([`MAX_LEASE_AGE`]): a process that was stopped has others' leases to respect. (On
//!   a machine that sleeps, the clock by which that is told sleeps as well: some events may be sent once more, after later
//!   ones.)
//!
//! Where one of these does not hold, the next step takes a new lease and reads the log.
//!
//! What came of a step that went well waits here as well, to be settled with that of the next ones: what is sent and not
//! settled is sent again where the process dies, under the same `messageId`, so little of it waits, and not for long.

mod source_tail;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::store::block::Block;
use crate::store::lease::Lease;
use crate::store::log::LeaseSeen;
use crate::store::settlement::Settlement;
use source_tail::{LeaseState, SourceTail};

/// How long a lease is kept of a source that had nothing to deliver.
const MAX_IDLE: Duration = Duration::from_secs(10);
/// How old a lease's last renewal may be when a step begins. With the longest request and the tries to settle, the step
/// ends before the lease does, unless the database hangs: then the lease's number decides.
const MAX_LEASE_AGE: Duration = Duration::from_secs(15);
/// How much is kept of all sources; what does not fit is read from the log.
const MAX_BYTES: usize = 16 << 20;
/// How much is kept of one source.
const MAX_SOURCE_BYTES: usize = MAX_BYTES / 4;
/// So many events of a source may have been taken and not be settled.
const MAX_UNSETTLED_EVENTS: usize = 1_000;
/// Where steps last so long that nobody settles between them, the first that ends after this time settles.
const MAX_UNSETTLED_AGE: Duration = Duration::from_millis(400);

/// Events that this process has committed together.
#[derive(Debug)]
pub struct CommittedBlock {
    /// The number of the last.
    pub last_seq: i64,
    /// Since when they wait.
    pub since: OffsetDateTime,
    /// The events.
    pub block: Block,
    /// What their commit saw of the source's lease.
    pub lease: LeaseSeen,
}

impl CommittedBlock {
    /// The number of the first.
    #[must_use]
    pub fn first_seq(&self) -> i64 {
        self.last_seq + 1 - i64::try_from(self.block.len()).unwrap_or(i64::MAX)
    }
}

/// What a source's next step begins with.
#[derive(Debug)]
pub enum NextStep {
    /// The lease, and the events after its cursor.
    Send(Box<Lease>, Vec<Arc<CommittedBlock>>),
    /// Nothing has come, or nothing can be sent before a settlement has been written, after which the source is woken.
    Nothing,
    /// What came of the steps before is to be settled first: nothing can be sent under this lease any more.
    Settle(Box<Lease>),
    /// It is not known here: a lease is to be taken.
    Ask,
}

/// Whether what came of a step is settled later.
#[derive(Debug)]
pub enum Deferred {
    /// It is, with the next steps' or by [`Tail::take_unsettled`].
    Later {
        /// Whether more events are here to be sent.
        more: bool,
    },
    /// It is to be settled now, with what came of the steps before.
    Not(Box<Settlement>),
}

/// Sources whose lease this process has, or is about to take, with what it has committed for them.
#[derive(Debug, Default)]
pub struct Tail {
    sources: Mutex<Sources>,
    /// Something is not settled.
    deferred: Notify,
}

#[derive(Debug, Default)]
struct Sources {
    by_id: HashMap<Uuid, SourceTail>,
    n_bytes: usize,
    /// Whether no more steps begin: nothing is kept any more.
    is_ended: bool,
}

impl Tail {
    /// Begins a step of a source. After [`NextStep::Ask`], the source's lease is to be taken, and then
    /// [`leased`](Self::leased) or [`not_leased`](Self::not_leased) to be called.
    pub fn begin_step(&self, source: Uuid, n_events: usize, now: Instant) -> NextStep {
        let mut sources = self.lock();
        sources.by_id.entry(source).or_insert_with(SourceTail::new).begin_step(n_events, now)
    }

    /// The lease was taken after `asked_at`, and everything up to `read_seq` was read with it.
    pub fn leased(&self, lease: &Lease, read_seq: i64, asked_at: Instant) {
        self.lock().change(lease.source_id, |entry| entry.leased(lease, read_seq, asked_at));
    }

    /// No lease was given.
    pub fn not_leased(&self, source: Uuid) {
        let mut sources = self.lock();
        if sources.change(source, SourceTail::not_leased) == Some(false) {
            sources.remove(source);
        }
    }

    /// What came of a step under this lease: keeps it for later and the lease for the next step, where that is of use and
    /// harms nobody.
    pub fn defer(&self, lease: &Lease, settlement: Settlement, now: Instant) -> Deferred {
        let mut sources = self.lock();
        let settlement = Settlement { keep: settlement.keep && !sources.is_ended, ..settlement };
        if !sources.by_id.contains_key(&lease.source_id) {
            return Deferred::Not(Box::new(settlement));
        }
        let deferred =
            sources.change(lease.source_id, |entry| entry.defer(lease, settlement, now)).expect("it is there");
        if let Deferred::Later { .. } = deferred {
            self.deferred.notify_one();
        }
        deferred
    }

    /// Waits until a step has left something to be settled later.
    pub async fn has_unsettled(&self) {
        self.deferred.notified().await;
    }

    /// Takes out what is not settled, of the sources that no step is at. It is to be settled, and then
    /// [`keep`](Self::keep), [`forget`](Self::forget) or [`put_back`](Self::put_back) to be called: no step begins before
    /// that.
    pub fn take_unsettled(&self) -> Vec<(Lease, Settlement)> {
        let mut sources = self.lock();
        let is_ended = sources.is_ended;
        let unsettled = sources.by_id.values_mut().filter_map(SourceTail::take_unsettled);
        unsettled.map(|(lease, settlement)| (lease, Settlement { keep: !is_ended, ..settlement })).collect()
    }

    /// What [`take_unsettled`](Self::take_unsettled) gave could not be settled: the next step is to.
    pub fn put_back(&self, lease: Lease, settlement: Settlement, now: Instant) {
        self.lock().change(lease.source_id, |entry| entry.put_back(lease, settlement, now));
    }

    /// No more steps begin: from now on, leases are not kept.
    pub fn end(&self) {
        self.lock().is_ended = true;
    }

    /// A step has settled, and the lease, which stays, was renewed after `renewed_at`. Says whether there is something for
    /// the next step to do.
    pub fn keep(&self, lease: Lease, renewed_at: Instant, now: Instant) -> bool {
        let more = self.lock().change(lease.source_id, |entry| {
            entry.keep(lease, renewed_at, now);
            !entry.is_whole || !entry.blocks.is_empty()
        });
        more.unwrap_or(true)
    }

    /// The lease is not ours any more, or was given free.
    pub fn forget(&self, source: Uuid) {
        self.lock().remove(source);
    }

    /// Adds what was just committed, where it is of use. Of a source, in the order of its commits.
    pub(super) fn push(&self, source: Uuid, committed: CommittedBlock) {
        let mut sources = self.lock();
        let has_room = sources.n_bytes + committed.block.n_bytes() <= MAX_BYTES;
        sources.change(source, |entry| {
            if has_room && entry.is_continued_by(&committed) {
                entry.known_seq = committed.last_seq;
                entry.n_bytes += committed.block.n_bytes();
                entry.blocks.push_back(Arc::new(committed));
            } else {
                entry.clear();
            }
        });
    }

    /// Something may have happened to a source that is not known here.
    pub(super) fn distrust(&self, source: Uuid) {
        self.lock().change(source, SourceTail::clear);
    }

    /// Whether what a source's log has up to `seq` is known here, and was sent or is about to be.
    #[must_use]
    pub fn knows(&self, source: Uuid, seq: i64) -> bool {
        self.lock().by_id.get(&source).is_some_and(|entry| {
            let is_seen_to = match &entry.lease {
                LeaseState::Kept(kept) => !entry.blocks.is_empty() || kept.lease.cursor >= seq,
                LeaseState::Asked { .. } | LeaseState::InStep { .. } | LeaseState::Settling { .. } => true,
            };
            entry.is_whole && entry.known_seq >= seq && is_seen_to
        })
    }

    /// Whether no source has a step, or a lease that is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().by_id.is_empty()
    }

    /// The sources whose lease waits for something to deliver.
    #[must_use]
    pub fn kept(&self) -> Vec<Uuid> {
        let sources = self.lock();
        let is_kept = |entry: &SourceTail| matches!(entry.lease, LeaseState::Kept(_));
        sources.by_id.iter().filter(|(_, entry)| is_kept(entry)).map(|(source, _)| *source).collect()
    }

    /// Takes out the leases that have been idle for long, or are not needed any more, with their numbers: they are to be
    /// given free.
    pub fn take_idle(&self, now: Instant) -> Vec<(Uuid, i64)> {
        let mut sources = self.lock();
        let max_idle = if sources.is_ended { Duration::ZERO } else { MAX_IDLE };
        let idle = sources.by_id.iter().filter_map(|(source, entry)| match &entry.lease {
            LeaseState::Kept(kept)
                if entry.unsettled.is_none() && now.saturating_duration_since(kept.idle_since) >= max_idle =>
            {
                Some((*source, kept.lease.number))
            }
            _ => None,
        });
        let idle: Vec<_> = idle.collect();
        for (source, _) in &idle {
            sources.remove(*source);
        }
        idle
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sources {
    /// Changes what there is of a source, if there is any, and counts its bytes anew.
    fn change<R>(&mut self, source: Uuid, change: impl FnOnce(&mut SourceTail) -> R) -> Option<R> {
        let entry = self.by_id.get_mut(&source)?;
        self.n_bytes -= entry.n_bytes;
        let changed = change(entry);
        self.n_bytes += entry.n_bytes;
        Some(changed)
    }

    fn remove(&mut self, source: Uuid) {
        if let Some(removed) = self.by_id.remove(&source) {
            self.n_bytes -= removed.n_bytes;
        }
    }
}

#[cfg(test)]
mod tests;
