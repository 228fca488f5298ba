//! The webhooks of a lane that wait for their commit.
//!
//! Not a channel: a receiver is woken for each message, and that costs as much as the rest of a webhook's way through
//! here. This wakes a loop when there is something after nothing, and when there is enough for a commit.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::group::Waiting;

/// A commit takes no further webhooks once it has so many events: larger statements are not faster, only later.
const MAX_COMMIT_EVENTS: usize = 2_048;

/// A queue with one taker at a time.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    full: Notify,
}

#[derive(Default)]
struct State {
    webhooks: VecDeque<Waiting>,
    n_events: usize,
    is_closed: bool,
}

impl Queue {
    /// Adds a webhook.
    pub fn push(&self, waiting: Waiting) {
        let mut state = self.state();
        let (was_empty, was_full) = (state.webhooks.is_empty(), state.is_full());
        state.n_events += waiting.webhook.len();
        state.webhooks.push_back(waiting);
        let is_full = state.is_full();
        drop(state);
        if was_empty {
            self.arrived.notify_one();
        }
        if is_full && !was_full {
            self.full.notify_one();
        }
    }

    /// Nothing will be added any more.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.arrived.notify_one();
    }

    /// Waits until there is something; `false` at the end.
    pub async fn has_some(&self) -> bool {
        loop {
            let (is_empty, is_closed) = {
                let state = self.state();
                (state.webhooks.is_empty(), state.is_closed)
            };
            if !is_empty || is_closed {
                return !is_empty;
            }
            self.arrived.notified().await;
        }
    }

    /// Waits until there is enough for a commit.
    pub async fn is_full(&self) {
        while !self.state().is_full() {
            self.full.notified().await;
        }
    }

    /// Takes what goes into one commit: at least one webhook, if there is any.
    pub fn take(&self) -> Vec<Waiting> {
        let mut state = self.state();
        let mut taken = Vec::with_capacity(state.webhooks.len().min(MAX_COMMIT_EVENTS));
        let mut n_events = 0;
        while n_events < MAX_COMMIT_EVENTS
            && let Some(waiting) = state.webhooks.pop_front()
        {
            n_events += waiting.webhook.len();
            taken.push(waiting);
        }
        state.n_events -= n_events;
        taken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.n_events >= MAX_COMMIT_EVENTS
    }
}
