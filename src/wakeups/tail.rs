//! The end of the log, in memory: what this process has just committed for the sources that it delivers for.
//!
//! A source's lease stays with the process while events keep coming, and what is committed meanwhile goes to the delivery
//! as it is: it need not be read from the database again. The log stays the truth. What is here can be sent only where
//!
//! - the commit says that the lease was still ours and that nobody had changed the source since it was taken
//!   ([`LeaseSeen`]): so a pause, another key or another process's lease counts for all that is committed after it;
//! - it follows, number by number, what was sent before;
//! - the lease was renewed not long ago ([`MAX_LEASE_AGE`]): a process that slept has others' leases to respect.
//!
//! Where one of these does not hold, the next step takes a new lease and reads the log.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::block::Block;
use crate::store::lease::Lease;
use crate::store::log::LeaseSeen;

/// How long a lease is kept of a source that had nothing to deliver.
const MAX_IDLE: Duration = Duration::from_secs(5);
/// How old a lease's last renewal may be when a step begins. With the longest request and the tries to settle, the step
/// ends before the lease does.
const MAX_LEASE_AGE: Duration = Duration::from_secs(10);
/// How much is kept of all sources; what does not fit is read from the log.
const MAX_BYTES: usize = 16 << 20;
/// How much is kept of one source.
const MAX_SOURCE_BYTES: usize = MAX_BYTES / 4;

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
    /// Nothing has come.
    Nothing,
    /// It is not known here: a lease is to be taken.
    Ask,
}

/// Sources whose lease this process has, or is about to take, with what it has committed for them.
#[derive(Debug, Default)]
pub struct Tail(Mutex<Sources>);

#[derive(Debug, Default)]
struct Sources {
    by_id: HashMap<Uuid, SourceTail>,
    n_bytes: usize,
}

#[derive(Debug)]
struct SourceTail {
    lease: LeaseState,
    /// The number of the last event that is known: it was sent, or is here.
    known_seq: i64,
    /// Up to this number, the lease's step read the log: what it does not send is not here.
    read_seq: i64,
    /// Whether everything after what was sent is here, as far as is known.
    is_whole: bool,
    blocks: VecDeque<Arc<CommittedBlock>>,
    n_bytes: usize,
}

#[derive(Debug)]
enum LeaseState {
    /// It is being taken. What is committed meanwhile may be after what is read with it.
    Asked {
        /// The one before it, which stays ours where none is given.
        before: Option<Kept>,
    },
    /// A step has it.
    InStep { number: i64 },
    /// It waits for the next step.
    Kept(Kept),
}

#[derive(Debug)]
struct Kept {
    lease: Lease,
    /// Before it was renewed.
    renewed_at: Instant,
    /// When its last step ended.
    idle_since: Instant,
}

impl Tail {
    /// Begins a step of a source. After [`NextStep::Ask`], the source's lease is to be taken, and then
    /// [`leased`](Self::leased) or [`not_leased`](Self::not_leased) to be called.
    pub fn begin_step(&self, source: Uuid, n_events: usize, now: Instant) -> NextStep {
        let mut sources = self.lock();
        let entry = sources.by_id.entry(source).or_insert_with(|| SourceTail {
            lease: LeaseState::Asked { before: None },
            known_seq: 0,
            read_seq: 0,
            is_whole: true,
            blocks: VecDeque::new(),
            n_bytes: 0,
        });
        let before = match std::mem::replace(&mut entry.lease, LeaseState::Asked { before: None }) {
            LeaseState::Kept(kept)
                if entry.is_whole && now.saturating_duration_since(kept.renewed_at) < MAX_LEASE_AGE =>
            {
                let blocks = entry.next_blocks(kept.lease.cursor, n_events);
                if blocks.is_empty() {
                    entry.lease = LeaseState::Kept(kept);
                    return NextStep::Nothing;
                }
                entry.lease = LeaseState::InStep { number: kept.lease.number };
                return NextStep::Send(Box::new(kept.lease), blocks);
            }
            LeaseState::Kept(kept) => Some(kept),
            LeaseState::Asked { before } => before,
            LeaseState::InStep { .. } => None,
        };
        entry.lease = LeaseState::Asked { before };
        entry.is_whole = true;
        NextStep::Ask
    }

    /// The lease was taken, and everything up to `read_seq` was read with it.
    pub fn leased(&self, lease: &Lease, read_seq: i64) {
        self.lock().change(lease.source_id, |entry| entry.leased(lease, read_seq));
    }

    /// No lease was given.
    pub fn not_leased(&self, source: Uuid) {
        let mut sources = self.lock();
        if sources.change(source, SourceTail::not_leased) == Some(false) {
            sources.remove(source);
        }
    }

    /// A step has settled, and the lease, which stays, was renewed after `renewed_at`.
    pub fn keep(&self, lease: Lease, renewed_at: Instant, now: Instant) {
        self.lock().change(lease.source_id, |entry| {
            entry.drop_until(lease.cursor);
            if lease.cursor < entry.read_seq {
                entry.clear();
            }
            entry.known_seq = entry.known_seq.max(lease.cursor);
            entry.lease = LeaseState::Kept(Kept { lease, renewed_at, idle_since: now });
        });
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
                LeaseState::Asked { .. } | LeaseState::InStep { .. } => true,
            };
            entry.is_whole && entry.known_seq >= seq && is_seen_to
        })
    }

    /// The sources whose lease waits for something to deliver.
    #[must_use]
    pub fn kept(&self) -> Vec<Uuid> {
        let sources = self.lock();
        let is_kept = |entry: &SourceTail| matches!(entry.lease, LeaseState::Kept(_));
        sources.by_id.iter().filter(|(_, entry)| is_kept(entry)).map(|(source, _)| *source).collect()
    }

    /// Takes out the leases that have been idle for long, with their numbers: they are to be given free.
    pub fn take_idle(&self, now: Instant) -> Vec<(Uuid, i64)> {
        let mut sources = self.lock();
        let idle = sources.by_id.iter().filter_map(|(source, entry)| match &entry.lease {
            LeaseState::Kept(kept) if now.saturating_duration_since(kept.idle_since) >= MAX_IDLE => {
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

impl SourceTail {
    fn leased(&mut self, lease: &Lease, read_seq: i64) {
        self.lease = LeaseState::InStep { number: lease.number };
        self.drop_until(read_seq);
        let is_next = self.blocks.front().is_none_or(|block| block.first_seq() == read_seq + 1);
        let is_ours = self.blocks.iter().all(|block| block.lease.counts_for(lease.number));
        let has_read_all = read_seq >= lease.head_seq;
        self.known_seq = self.known_seq.max(read_seq);
        self.read_seq = read_seq;
        if !(is_next && is_ours && has_read_all) {
            self.clear();
        }
    }

    /// Goes back to the lease before, which is given free when it was kept for long enough. Says whether there is one.
    fn not_leased(&mut self) -> bool {
        let LeaseState::Asked { before } = &mut self.lease else { return false };
        let Some(kept) = before.take() else { return false };
        self.lease = LeaseState::Kept(kept);
        self.clear();
        true
    }

    /// Whether these events are the next, and may be sent under the lease.
    fn is_continued_by(&self, committed: &CommittedBlock) -> bool {
        let is_after_known = committed.first_seq() == self.known_seq + 1;
        let fits = match &self.lease {
            // Whether they follow what is read with the lease, and whether it is the one that they saw, is judged when it
            // is there.
            LeaseState::Asked { .. } => is_after_known || self.blocks.is_empty(),
            LeaseState::InStep { number } => is_after_known && committed.lease.counts_for(*number),
            LeaseState::Kept(kept) => is_after_known && committed.lease.counts_for(kept.lease.number),
        };
        fits && self.is_whole && self.n_bytes + committed.block.n_bytes() <= MAX_SOURCE_BYTES
    }

    /// The blocks with the next `n_events` events after `cursor`.
    fn next_blocks(&self, cursor: i64, n_events: usize) -> Vec<Arc<CommittedBlock>> {
        let end = cursor.saturating_add(i64::try_from(n_events).unwrap_or(i64::MAX));
        self.blocks.iter().take_while(|block| block.first_seq() <= end).cloned().collect()
    }

    /// Drops what is sent.
    fn drop_until(&mut self, cursor: i64) {
        while let Some(block) = self.blocks.pop_front_if(|block| block.last_seq <= cursor) {
            self.n_bytes -= block.block.n_bytes();
        }
    }

    /// Drops everything: the log is to be asked.
    fn clear(&mut self) {
        self.is_whole = false;
        self.blocks.clear();
        self.n_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
