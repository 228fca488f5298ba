//! Sources that may have something to deliver: how a commit, or an admin, wakes the delivery.

mod tail;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

pub use tail::{CommittedBlock, Deferred, NextStep, Tail};

/// Why a source is woken; a later reason includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WakeReason {
    /// Events were appended. A source that waits to try again goes on waiting.
    NewEvents,
    /// Its time has come: a source that waits to try again does so now.
    TimerElapsed,
    /// An admin changed it: nothing is waited for.
    AdminChange,
}

/// A set of sources, filled by whoever learns of work and emptied by the delivery.
#[derive(Debug, Default)]
pub struct Wakeups {
    sources: Mutex<HashMap<Uuid, WakeReason>>,
    added: Notify,
    /// What was committed here, for the delivery to take.
    pub tail: Tail,
}

impl Wakeups {
    /// Wakes sources: what they have to do is in the database. It does no harm where they have nothing to do.
    pub fn wake(&self, reason: WakeReason, ids: impl IntoIterator<Item = Uuid>) {
        self.add(reason, ids.into_iter().inspect(|id| self.tail.distrust(*id)));
    }

    /// Wakes sources of which all that they have to do is known here.
    pub fn wake_again(&self, ids: impl IntoIterator<Item = Uuid>) {
        self.add(WakeReason::NewEvents, ids);
    }

    /// Events were committed here: hands them on, and wakes their sources.
    pub fn committed(&self, blocks: impl IntoIterator<Item = (Uuid, CommittedBlock)>) {
        let ids = blocks.into_iter().map(|(source, block)| {
            self.tail.push(source, block);
            source
        });
        self.add(WakeReason::NewEvents, ids);
    }

    fn add(&self, reason: WakeReason, ids: impl IntoIterator<Item = Uuid>) {
        let mut ids = ids.into_iter().peekable();
        if ids.peek().is_none() {
            return;
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let strongest = sources.entry(id).or_insert(reason);
            *strongest = reason.max(*strongest);
        }
        drop(sources);
        self.added.notify_one();
    }

    /// Waits until sources are woken, and takes them. Nothing is lost where the future is dropped.
    pub async fn take(&self) -> HashMap<Uuid, WakeReason> {
        loop {
            let sources = std::mem::take(&mut *self.sources.lock().unwrap_or_else(PoisonError::into_inner));
            if !sources.is_empty() {
                return sources;
            }
            self.added.notified().await;
        }
    }
}
