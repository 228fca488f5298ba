//! Which webhooks are committed next: a state machine without clock and without I/O.
//!
//! A small load, of however many sources, shares one commit: what arrives while it is in flight goes into the next. When
//! there is enough for a commit, another starts beside it, for other lanes. A source whose rows another session of the
//! database holds is **held**: its webhooks wait apart, and are tried again from time to time, so that they delay nobody
//! else's.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use uuid::Uuid;

use crate::store::log::Lane;

/// A commit takes no further webhooks once it has so many events: larger statements are not faster, only later.
const MAX_COMMIT_EVENTS: usize = 1_024;

/// A webhook that waits for its commit.
#[derive(Debug)]
pub struct Queued<T> {
    /// Whose it is.
    pub source: Uuid,
    /// How much there is to write.
    pub n_events: usize,
    /// The webhook itself.
    pub webhook: T,
}

/// Webhooks to be committed together.
#[derive(Debug)]
pub struct Commit<T> {
    /// Their lanes, in the order in which they are to be locked.
    pub lanes: Vec<Lane>,
    /// The webhooks, those of a source in the order in which they came.
    pub webhooks: Vec<Queued<T>>,
    /// Whether their sources are held, and it is only tried whether they still are.
    pub is_trial: bool,
}

/// The webhooks that wait.
#[derive(Debug)]
pub struct CommitQueue<T> {
    lanes: Vec<VecDeque<Queued<T>>>,
    /// In `lanes`.
    n_events: usize,
    /// Commits that were taken, trials excepted, and are not finished.
    n_commits: usize,
    /// The lane to look at first.
    next_lane: usize,
    is_closed: bool,
    held: HashMap<Uuid, Held<T>>,
}

#[derive(Debug)]
struct Held<T> {
    /// `None` while it is being tried.
    retry_at: Option<Instant>,
    webhooks: VecDeque<Queued<T>>,
}

impl<T> Default for CommitQueue<T> {
    fn default() -> Self {
        Self {
            lanes: Lane::all().map(|_| VecDeque::new()).collect(),
            n_events: 0,
            n_commits: 0,
            next_lane: 0,
            is_closed: false,
            held: HashMap::new(),
        }
    }
}

impl<T> CommitQueue<T> {
    /// Adds a webhook.
    pub fn push(&mut self, queued: Queued<T>) {
        if let Some(held) = self.held.get_mut(&queued.source) {
            held.webhooks.push_back(queued);
        } else {
            self.n_events += queued.n_events;
            self.lanes[Lane::of(queued.source).index()].push_back(queued);
        }
    }

    /// Nothing will be added any more.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether nothing waits, and nothing will come.
    pub fn is_exhausted(&self) -> bool {
        self.is_closed && self.n_events == 0 && self.held.is_empty()
    }

    /// A commit that was taken, and was no trial, is done.
    pub fn finish(&mut self) {
        self.n_commits -= 1;
    }

    /// Puts webhooks back that could not be committed because their sources are held. To be tried again at `retry_at`.
    pub fn hold(&mut self, webhooks: Vec<Queued<T>>, retry_at: Instant) {
        for queued in webhooks.into_iter().rev() {
            let held = self.held.entry(queued.source);
            let held = held.or_insert_with(|| Held { retry_at: None, webhooks: VecDeque::new() });
            held.retry_at = Some(retry_at);
            held.webhooks.push_front(queued);
        }
        // What came for them in between waits with them.
        for lane in &mut self.lanes {
            for queued in std::mem::take(lane) {
                match self.held.get_mut(&queued.source) {
                    Some(held) => {
                        self.n_events -= queued.n_events;
                        held.webhooks.push_back(queued);
                    }
                    None => lane.push_back(queued),
                }
            }
        }
    }

    /// A source is not held any more: what waits for it goes the usual way.
    pub fn release(&mut self, source: Uuid) {
        let held = self.held.remove(&source);
        held.into_iter().flat_map(|held| held.webhooks).for_each(|queued| self.push(queued));
    }

    /// When the next held source is to be tried.
    pub fn next_retry(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.retry_at).min()
    }

    /// Whether [`take`](Self::take) would return a commit, trials excepted.
    pub fn has_commit(&self) -> bool {
        self.n_events > 0 && (self.n_commits == 0 || self.n_events >= MAX_COMMIT_EVENTS)
    }

    /// Takes what is to be committed now, without those that are abandoned: nobody waits for their answer any more.
    pub fn take(&mut self, now: Instant, is_abandoned: impl Fn(&T) -> bool) -> Option<Commit<T>> {
        if let Some(trial) = self.take_trial(now, &is_abandoned) {
            return Some(trial);
        }
        while self.has_commit() {
            let commit = self.take_commit(&is_abandoned);
            if !commit.webhooks.is_empty() {
                self.n_commits += 1;
                return Some(commit);
            }
        }
        None
    }

    /// Lane after lane until there is enough: a small load shares one commit, a large one is split.
    fn take_commit(&mut self, is_abandoned: &impl Fn(&T) -> bool) -> Commit<T> {
        let (mut lanes, mut webhooks, mut n_taken, mut n_passed) = (Vec::new(), Vec::new(), 0, 0);
        let first = self.next_lane;
        for lane in Lane::all().cycle().skip(first).take(self.lanes.len()) {
            if n_taken >= MAX_COMMIT_EVENTS {
                break;
            }
            let n_before = webhooks.len();
            while n_taken < MAX_COMMIT_EVENTS
                && let Some(next) = self.lanes[lane.index()].pop_front()
            {
                if is_abandoned(&next.webhook) {
                    n_passed += next.n_events;
                } else {
                    n_taken += next.n_events;
                    webhooks.push(next);
                }
            }
            if webhooks.len() > n_before {
                lanes.push(lane);
            }
            self.next_lane = (lane.index() + 1) % self.lanes.len();
        }
        self.n_events -= n_taken + n_passed;
        Commit { lanes, webhooks, is_trial: false }
    }

    fn take_trial(&mut self, now: Instant, is_abandoned: &impl Fn(&T) -> bool) -> Option<Commit<T>> {
        let is_due = |held: &Held<T>| held.retry_at.is_some_and(|at| at <= now);
        if !self.held.values().any(is_due) {
            return None;
        }
        let mut webhooks = Vec::new();
        self.held.retain(|_, held| {
            held.webhooks.retain(|queued| !is_abandoned(&queued.webhook));
            if is_due(held) && !held.webhooks.is_empty() {
                held.retry_at = None;
                webhooks.extend(held.webhooks.drain(..));
                return true;
            }
            !(is_due(held) && held.webhooks.is_empty())
        });
        let mut lanes: Vec<Lane> = webhooks.iter().map(|queued| Lane::of(queued.source)).collect();
        lanes.sort_unstable_by_key(|lane| lane.index());
        lanes.dedup();
        (!webhooks.is_empty()).then_some(Commit { lanes, webhooks, is_trial: true })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn queued(source: u8, n_events: usize, webhook: u32) -> Queued<u32> {
        Queued { source: Uuid::from_u128(source.into()), n_events, webhook }
    }

    fn taken(commit: Option<Commit<u32>>) -> Vec<u32> {
        commit.into_iter().flat_map(|commit| commit.webhooks).map(|queued| queued.webhook).collect()
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the queue lends its webhooks")]
    fn never(_: &u32) -> bool {
        false
    }

    #[test]
    fn a_small_load_shares_one_commit_and_waits_for_it() {
        let (mut queue, now) = (CommitQueue::default(), Instant::now());
        (0..8).for_each(|n| queue.push(queued(n, 1, n.into())));
        assert_eq!(taken(queue.take(now, never)).len(), 8);
        queue.push(queued(1, 1, 8));
        assert!(queue.take(now, never).is_none(), "while a commit is in flight");
        queue.finish();
        assert_eq!(taken(queue.take(now, never)), [8]);
    }

    #[test]
    fn a_large_load_is_split_over_the_lanes() {
        let (mut queue, now) = (CommitQueue::default(), Instant::now());
        (0..8).for_each(|n| queue.push(queued(n % 4, MAX_COMMIT_EVENTS / 2, n.into())));
        let first = queue.take(now, never).expect("a commit");
        let second = queue.take(now, never).expect("another beside it");
        assert_eq!((first.webhooks.len(), second.webhooks.len()), (2, 2));
        assert!(first.lanes.iter().all(|lane| !second.lanes.contains(lane)));
    }

    #[test]
    fn a_held_source_delays_nobody_and_keeps_its_order() {
        let (mut queue, now) = (CommitQueue::default(), Instant::now());
        let later = now + Duration::from_millis(200);
        queue.push(queued(0, 1, 1));
        let commit = queue.take(now, never).expect("a commit");
        queue.push(queued(0, 1, 2));
        queue.push(queued(4, 1, 3));
        queue.hold(commit.webhooks, later);
        queue.finish();
        queue.push(queued(0, 1, 4));
        assert_eq!(taken(queue.take(now, never)), [3], "of the same lane");
        queue.finish();
        assert!(queue.take(now, never).is_none());
        assert_eq!(queue.next_retry(), Some(later));
        let trial = queue.take(later, never).expect("a trial");
        assert!(trial.is_trial);
        queue.push(queued(0, 1, 5));
        assert!(queue.take(later, never).is_none(), "while it is tried");
        queue.hold(trial.webhooks, later);
        assert_eq!(taken(queue.take(later, never)), [1, 2, 4, 5]);
        queue.release(Uuid::nil());
        assert!(queue.next_retry().is_none() && !queue.has_commit());
    }

    #[test]
    fn it_is_exhausted_when_nobody_waits_any_more() {
        let (mut queue, now) = (CommitQueue::default(), Instant::now());
        queue.push(queued(0, 1, 1));
        queue.push(queued(1, 1, 2));
        let commit = queue.take(now, never).expect("a commit");
        queue.hold(commit.webhooks, now);
        queue.finish();
        queue.close();
        assert!(!queue.is_exhausted());
        assert!(queue.take(now, |_| true).is_none());
        assert!(queue.is_exhausted());
    }

    proptest! {
        #[test]
        fn no_webhook_is_lost_or_overtakes_another_of_its_source(
            steps in proptest::collection::vec((0u8..6, 1usize..700, 0u8..4), 1..200)
        ) {
            let (mut queue, now) = (CommitQueue::default(), Instant::now());
            let (mut n, mut done) = (0u32, Vec::new());
            let mut complete = |queue: &mut CommitQueue<u32>, commit: Commit<u32>, hold: bool| {
                if hold {
                    queue.hold(commit.webhooks, now);
                } else {
                    let sources: Vec<Uuid> = commit.webhooks.iter().map(|queued| queued.source).collect();
                    done.extend(commit.webhooks.into_iter().map(|queued| (queued.source, queued.webhook)));
                    if commit.is_trial {
                        for source in sources {
                            queue.release(source);
                        }
                    }
                }
                if !commit.is_trial {
                    queue.finish();
                }
            };
            for (source, n_events, action) in steps {
                n += 1;
                queue.push(queued(source, n_events, n));
                if action > 0 && let Some(commit) = queue.take(now, never) {
                    complete(&mut queue, commit, action == 2);
                }
            }
            while let Some(commit) = queue.take(now, never) {
                complete(&mut queue, commit, false);
            }
            queue.close();
            prop_assert!(queue.is_exhausted());
            prop_assert_eq!(done.len(), usize::try_from(n).expect("small"));
            for source in 0..6u8 {
                let of_source: Vec<u32> = done.iter().filter(|(s, _)| *s == Uuid::from_u128(source.into())).map(|(_, w)| *w).collect();
                prop_assert!(of_source.is_sorted());
            }
        }
    }
}
