//! The webhooks that wait for their commit, by lane.
//!
//! Not a channel: a receiver is woken for each message, and that costs as much as the rest of a webhook's way through
//! here. This wakes a loop when there is a commit to make: what waits when no commit is in flight, or enough for one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::group::Waiting;
use crate::store::log::Lane;

/// A commit takes no further webhooks once it has so many events: larger statements are not faster, only later.
const MAX_COMMIT_EVENTS: usize = 1_024;

/// A queue with one taker at a time.
pub struct Queue {
    state: Mutex<State>,
    /// There is a commit to make, or nothing will come any more.
    called: Notify,
}

struct State {
    lanes: Vec<VecDeque<Waiting>>,
    n_events: usize,
    /// Commits that were taken and are not done.
    n_commits: usize,
    /// The lane to look at first.
    next_lane: usize,
    is_closed: bool,
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        let lanes = Lane::all().map(|_| VecDeque::new()).collect();
        let state = State { lanes, n_events: 0, n_commits: 0, next_lane: 0, is_closed: false };
        Self { state: Mutex::new(state), called: Notify::new() }
    }

    /// Adds a webhook.
    pub fn push(&self, lane: Lane, waiting: Waiting) {
        self.change(|state| {
            state.n_events += waiting.webhook.len();
            state.lanes[lane.index()].push_back(waiting);
        });
    }

    /// A commit that was taken is done.
    pub fn done(&self) {
        self.change(|state| state.n_commits -= 1);
    }

    /// Nothing will be added any more.
    pub fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        let before = state.has_work();
        change(&mut state);
        let after = state.has_work();
        drop(state);
        if after && !before {
            self.called.notify_one();
        }
    }

    /// Waits for a commit to make, and takes its webhooks with their lanes; `None` at the end.
    pub async fn take(&self) -> Option<(Vec<Lane>, Vec<Waiting>)> {
        loop {
            {
                let mut state = self.state();
                if state.n_events > 0 && state.has_work() {
                    return Some(state.take());
                }
                if state.is_closed && state.n_events == 0 {
                    return None;
                }
            }
            self.called.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_work(&self) -> bool {
        let has_commit = self.n_events > 0 && (self.n_commits == 0 || self.n_events >= MAX_COMMIT_EVENTS);
        has_commit || (self.is_closed && self.n_events == 0)
    }

    /// Takes lane after lane until there is enough: a small load shares one commit, a large one is split.
    fn take(&mut self) -> (Vec<Lane>, Vec<Waiting>) {
        let (mut lanes, mut taken, mut n_taken) = (Vec::new(), Vec::new(), 0);
        let first = self.next_lane;
        for lane in Lane::all().cycle().skip(first).take(self.lanes.len()) {
            if n_taken >= MAX_COMMIT_EVENTS {
                break;
            }
            let waiting = &mut self.lanes[lane.index()];
            if !waiting.is_empty() {
                lanes.push(lane);
            }
            while n_taken < MAX_COMMIT_EVENTS
                && let Some(next) = waiting.pop_front()
            {
                n_taken += next.webhook.len();
                taken.push(next);
            }
            self.next_lane = (lane.index() + 1) % self.lanes.len();
        }
        self.n_events -= n_taken;
        self.n_commits += 1;
        (lanes, taken)
    }
}
