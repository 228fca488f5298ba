//! What is known of one source whose lease this process has, or is about to take.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::{
    CommittedBlock, Deferred, MAX_LEASE_AGE, MAX_SOURCE_BYTES, MAX_UNSETTLED_AGE, MAX_UNSETTLED_EVENTS, NextStep,
};
use crate::store::lease::Lease;
use crate::store::settlement::Settlement;

#[derive(Debug)]
pub struct SourceTail {
    pub lease: LeaseState,
    /// The number of the last event that is known: it was sent, or is here.
    pub known_seq: i64,
    /// Up to this number, the lease's step read the log: what it does not send is not here.
    pub read_seq: i64,
    /// Whether everything after what was sent is here, as far as is known.
    pub is_whole: bool,
    pub blocks: VecDeque<Arc<CommittedBlock>>,
    pub n_bytes: usize,
    /// What came of the last steps and is not settled.
    pub unsettled: Option<Unsettled>,
}

#[derive(Debug)]
pub struct Unsettled {
    settlement: Box<Settlement>,
    /// Since when it waits.
    since: Instant,
}

#[derive(Debug)]
pub enum LeaseState {
    /// It is being taken. What is committed meanwhile may be after what is read with it.
    Asked {
        /// The one before it, which stays ours where none is given.
        before: Option<Kept>,
    },
    /// A step has it. It was renewed after this.
    InStep { number: i64, renewed_at: Instant },
    /// What came of its last steps is being settled. No step begins.
    Settling { number: i64, renewed_at: Instant },
    /// It waits for the next step.
    Kept(Kept),
}

#[derive(Debug)]
pub struct Kept {
    pub lease: Lease,
    /// Before it was renewed.
    pub renewed_at: Instant,
    /// When its last step ended.
    pub idle_since: Instant,
}

impl SourceTail {
    /// Of a source whose lease is about to be taken.
    pub fn new() -> Self {
        Self {
            lease: LeaseState::Asked { before: None },
            known_seq: 0,
            read_seq: 0,
            is_whole: true,
            blocks: VecDeque::new(),
            n_bytes: 0,
            unsettled: None,
        }
    }

    pub fn begin_step(&mut self, n_events: usize, now: Instant) -> NextStep {
        let before = match std::mem::replace(&mut self.lease, LeaseState::Asked { before: None }) {
            LeaseState::Kept(kept)
                if self.is_whole && now.saturating_duration_since(kept.renewed_at) < MAX_LEASE_AGE =>
            {
                let blocks = self.next_blocks(kept.lease.cursor, n_events);
                if blocks.is_empty() {
                    self.lease = LeaseState::Kept(kept);
                    return NextStep::Nothing;
                }
                self.lease = LeaseState::InStep { number: kept.lease.number, renewed_at: kept.renewed_at };
                return NextStep::Send(Box::new(kept.lease), blocks);
            }
            LeaseState::Kept(kept) if self.unsettled.is_some() => {
                self.lease = LeaseState::InStep { number: kept.lease.number, renewed_at: kept.renewed_at };
                return NextStep::Settle(Box::new(kept.lease));
            }
            LeaseState::Kept(kept) => Some(kept),
            settling @ LeaseState::Settling { .. } => {
                self.lease = settling;
                return NextStep::Nothing;
            }
            LeaseState::Asked { before } => before,
            LeaseState::InStep { .. } => None,
        };
        self.lease = LeaseState::Asked { before };
        self.is_whole = true;
        NextStep::Ask
    }

    pub fn leased(&mut self, lease: &Lease, read_seq: i64, asked_at: Instant) {
        self.lease = LeaseState::InStep { number: lease.number, renewed_at: asked_at };
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

    pub fn defer(&mut self, lease: &Lease, settlement: Settlement, now: Instant) -> Deferred {
        let renewed_at = match self.lease {
            LeaseState::InStep { number, renewed_at } if number == lease.number => renewed_at,
            _ => return Deferred::Not(Box::new(settlement)),
        };
        let (settlement, since) = match self.unsettled.take() {
            Some(Unsettled { settlement: earlier, since }) => (settlement.after(*earlier), since),
            None => (settlement, now),
        };
        let is_little = settlement.delivered.len() <= MAX_UNSETTLED_EVENTS
            && now.saturating_duration_since(since) < MAX_UNSETTLED_AGE;
        let has_sent_all_read = settlement.cursor >= self.read_seq;
        if !(settlement.can_wait() && is_little && has_sent_all_read && self.is_whole) {
            return Deferred::Not(Box::new(settlement));
        }
        self.keep(lease.advanced(settlement.cursor), renewed_at, now);
        self.unsettled = Some(Unsettled { settlement: Box::new(settlement), since });
        Deferred::Later { more: !self.blocks.is_empty() }
    }

    pub fn take_unsettled(&mut self) -> Option<(Lease, Settlement)> {
        let LeaseState::Kept(kept) = &self.lease else { return None };
        let (lease, renewed_at, unsettled) = (kept.lease.clone(), kept.renewed_at, self.unsettled.take()?);
        self.lease = LeaseState::Settling { number: lease.number, renewed_at };
        Some((lease, *unsettled.settlement))
    }

    pub fn put_back(&mut self, lease: Lease, settlement: Settlement, now: Instant) {
        let LeaseState::Settling { renewed_at, .. } = self.lease else { return };
        self.lease = LeaseState::Kept(Kept { lease, renewed_at, idle_since: now });
        self.unsettled = Some(Unsettled { settlement: Box::new(settlement), since: now });
        self.clear();
    }

    pub fn keep(&mut self, lease: Lease, renewed_at: Instant, now: Instant) {
        self.drop_until(lease.cursor);
        if lease.cursor < self.read_seq {
            self.clear();
        }
        self.known_seq = self.known_seq.max(lease.cursor);
        self.lease = LeaseState::Kept(Kept { lease, renewed_at, idle_since: now });
    }

    /// Goes back to the lease before, which is given free when it was kept for long enough. Says whether there is one.
    pub fn not_leased(&mut self) -> bool {
        let LeaseState::Asked { before } = &mut self.lease else { return false };
        let Some(kept) = before.take() else { return false };
        self.lease = LeaseState::Kept(kept);
        self.clear();
        true
    }

    /// Whether these events are the next, and may be sent under the lease.
    pub fn is_continued_by(&self, committed: &CommittedBlock) -> bool {
        let is_after_known = committed.first_seq() == self.known_seq + 1;
        let fits = match &self.lease {
            // Whether they follow what is read with the lease, and whether it is the one that they saw, is judged when it
            // is there.
            LeaseState::Asked { .. } => is_after_known || self.blocks.is_empty(),
            LeaseState::InStep { number, .. } | LeaseState::Settling { number, .. } => {
                is_after_known && committed.lease.counts_for(*number)
            }
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
    pub fn drop_until(&mut self, cursor: i64) {
        while let Some(block) = self.blocks.pop_front_if(|block| block.last_seq <= cursor) {
            self.n_bytes -= block.block.n_bytes();
        }
    }

    /// Drops everything: the log is to be asked.
    pub fn clear(&mut self) {
        self.is_whole = false;
        self.blocks.clear();
        self.n_bytes = 0;
    }
}
