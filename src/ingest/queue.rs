//! Which webhooks are committed next: a state machine without clock and without I/O.
//!
//! A small load, of however many sources, shares one commit: what arrives while it is in flight goes into the next, which
//! begins a moment later where webhooks come so fast that others will join it ([`PACE`]). When
//! there is enough for a commit, another starts beside it, for other lanes. A source whose rows another session of the
//! database holds is **held**: its webhooks wait apart, and it is looked from time to time whether it is free again, so
//! that they delay nobody else's.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::store::log::Lane;

/// A commit takes no further webhooks once it has so many events: larger statements are not faster, only later.
const MAX_COMMIT_EVENTS: usize = 1_024;
/// Nor once it has so many bytes: a statement must be sent and executed within its limit.
const MAX_COMMIT_BYTES: usize = 8 << 20;
/// How soon after a commit the next one may begin, where the last had webhooks that shared it. A commit costs as much as
/// ten events; a webhook that comes alone, or after its sender has read the last answer, waits for nobody.
const PACE: Duration = Duration::from_millis(4);
/// So many events need no company.
const ENOUGH_EVENTS: usize = 32;
/// How often it is looked whether a held source is free.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// A webhook that waits for its commit.
#[derive(Debug)]
pub struct Queued<T> {
    /// Whose it is.
    pub source: Uuid,
    /// How much there is to write.
    pub n_events: usize,
    /// About how large that is.
    pub n_bytes: usize,
    /// The webhook itself.
    pub webhook: T,
}

/// What is to be done now.
#[derive(Debug)]
pub enum Work<T> {
    /// Commit these webhooks.
    Commit(Commit<T>),
    /// Look whether these held sources are free.
    Probe(Vec<Uuid>),
}

/// Webhooks to be committed together.
#[derive(Debug)]
pub struct Commit<T> {
    /// Their lanes, in the order in which they are to be locked.
    pub lanes: Vec<Lane>,
    /// The webhooks, those of a source in the order in which they came.
    pub webhooks: Vec<Queued<T>>,
}

/// The webhooks that wait.
#[derive(Debug)]
pub struct CommitQueue<T> {
    lanes: Vec<VecDeque<Queued<T>>>,
    /// In `lanes`.
    n_events: usize,
    /// Commits that were taken and are not finished.
    n_commits: usize,
    /// Where the last commit was shared: when the next may begin.
    paced_until: Option<Instant>,
    /// The lane to look at first.
    next_lane: usize,
    is_closed: bool,
    held: HashMap<Uuid, Held<T>>,
    n_held: usize,
    max_held: usize,
}

#[derive(Debug)]
struct Held<T> {
    probe_at: Instant,
    webhooks: VecDeque<Queued<T>>,
}

impl<T> CommitQueue<T> {
    /// An empty queue in which at most `max_held` webhooks wait for sources that are held: they must not take all the
    /// room that there is for webhooks.
    pub fn new(max_held: usize) -> Self {
        Self {
            lanes: Lane::all().map(|_| VecDeque::new()).collect(),
            n_events: 0,
            n_commits: 0,
            paced_until: None,
            next_lane: 0,
            is_closed: false,
            held: HashMap::new(),
            n_held: 0,
            max_held,
        }
    }

    /// Adds a webhook; returns it where its source is held and there is no room to wait.
    pub fn push(&mut self, queued: Queued<T>) -> Option<Queued<T>> {
        if let Some(held) = self.held.get_mut(&queued.source) {
            if self.n_held >= self.max_held {
                return Some(queued);
            }
            self.n_held += 1;
            held.webhooks.push_back(queued);
        } else {
            self.n_events += queued.n_events;
            self.lanes[Lane::of(queued.source).index()].push_back(queued);
        }
        None
    }

    /// Nothing will be added any more.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether nothing waits, and nothing will come.
    pub fn is_exhausted(&self) -> bool {
        self.is_closed && self.n_events == 0 && self.held.is_empty()
    }

    /// A commit that was taken is done.
    pub fn finish(&mut self) {
        self.n_commits -= 1;
    }

    /// Takes webhooks that cannot be committed now, because their sources are held. Returns those for which there is no
    /// room.
    pub fn hold(&mut self, webhooks: Vec<Queued<T>>, now: Instant) -> Vec<Queued<T>> {
        let mut refused = Vec::new();
        for queued in webhooks.into_iter().rev() {
            if self.n_held >= self.max_held {
                refused.push(queued);
                continue;
            }
            self.n_held += 1;
            let probe_at = now + PROBE_INTERVAL;
            let held = self.held.entry(queued.source).or_insert_with(|| Held { probe_at, webhooks: VecDeque::new() });
            held.webhooks.push_front(queued);
        }
        // What came for them in between waits behind.
        for lane in 0..self.lanes.len() {
            let (held, free): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.lanes[lane])
                .into_iter()
                .partition(|queued| self.held.contains_key(&queued.source));
            self.lanes[lane] = free;
            self.n_events -= held.iter().map(|queued| queued.n_events).sum::<usize>();
            refused.extend(held.into_iter().filter_map(|queued| self.push(queued)));
        }
        refused
    }

    /// Takes out of webhooks that are about to be committed those whose source has been held since they were taken, so that
    /// they do not overtake what waits. Returns those for which there is no room.
    pub fn hold_back(&mut self, webhooks: &mut Vec<Queued<T>>) -> Vec<Queued<T>> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let held = webhooks.extract_if(.., |queued| self.held.contains_key(&queued.source)).collect::<Vec<_>>();
        held.into_iter().filter_map(|queued| self.push(queued)).collect()
    }

    /// A source is free: what waits for it goes the usual way.
    pub fn release(&mut self, source: Uuid) {
        for queued in self.held.remove(&source).into_iter().flat_map(|held| held.webhooks) {
            self.n_held -= 1;
            self.push(queued);
        }
    }

    /// When the next held source is to be looked at.
    pub fn next_probe(&self) -> Option<Instant> {
        self.held.values().map(|held| held.probe_at).min()
    }

    /// Whether there is a commit to make now.
    pub fn has_commit(&self, now: Instant) -> bool {
        let is_paced = self.n_events < ENOUGH_EVENTS && self.paced_until.is_some_and(|until| now < until);
        self.n_events > 0 && !is_paced && (self.n_commits == 0 || self.n_events >= MAX_COMMIT_EVENTS)
    }

    /// When to look again at the latest, whatever happens.
    pub fn next_timer(&self, now: Instant) -> Option<Instant> {
        let paced_until = self.paced_until.filter(|until| now < *until);
        [paced_until, self.next_probe()].into_iter().flatten().min()
    }

    /// Takes what is to be done now, without webhooks that are abandoned: nobody waits for their answer any more.
    pub fn take(&mut self, now: Instant, is_abandoned: impl Fn(&T) -> bool) -> Option<Work<T>> {
        if let Some(sources) = self.take_probe(now, &is_abandoned) {
            return Some(Work::Probe(sources));
        }
        while self.has_commit(now) {
            let commit = self.take_commit(&is_abandoned);
            if !commit.webhooks.is_empty() {
                self.n_commits += 1;
                self.paced_until = (commit.webhooks.len() > 1).then(|| now + PACE);
                return Some(Work::Commit(commit));
            }
        }
        None
    }

    /// Lane after lane until there is enough: a small load shares one commit, a large one is split.
    fn take_commit(&mut self, is_abandoned: &impl Fn(&T) -> bool) -> Commit<T> {
        let (mut lanes, mut webhooks, mut n_events, mut n_bytes) = (Vec::new(), Vec::new(), 0, 0);
        let first = self.next_lane;
        for lane in Lane::all().cycle().skip(first).take(self.lanes.len()) {
            let has_room = |n_events, n_bytes| n_events < MAX_COMMIT_EVENTS && n_bytes < MAX_COMMIT_BYTES;
            if !has_room(n_events, n_bytes) {
                break;
            }
            let n_before = webhooks.len();
            while has_room(n_events, n_bytes)
                && let Some(next) = self.lanes[lane.index()].pop_front()
            {
                self.n_events -= next.n_events;
                if !is_abandoned(&next.webhook) {
                    n_events += next.n_events;
                    n_bytes += next.n_bytes;
                    webhooks.push(next);
                }
            }
            if webhooks.len() > n_before {
                lanes.push(lane);
            }
            self.next_lane = (lane.index() + 1) % self.lanes.len();
        }
        Commit { lanes, webhooks }
    }

    /// The sources that it is time to look at. Whatever comes of it, they come up again.
    fn take_probe(&mut self, now: Instant, is_abandoned: &impl Fn(&T) -> bool) -> Option<Vec<Uuid>> {
        if self.next_probe().is_none_or(|at| at > now) {
            return None;
        }
        let mut sources = Vec::new();
        for (source, held) in &mut self.held {
            let n_before = held.webhooks.len();
            held.webhooks.retain(|queued| !is_abandoned(&queued.webhook));
            self.n_held -= n_before - held.webhooks.len();
            if held.probe_at <= now {
                held.probe_at = now + PROBE_INTERVAL;
                sources.push(*source);
            }
        }
        Some(sources)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue() -> CommitQueue<u32> {
        CommitQueue::new(1_000)
    }

    fn queued(source: u8, n_events: usize, webhook: u32) -> Queued<u32> {
        Queued { source: Uuid::from_u128(source.into()), n_events, n_bytes: 100, webhook }
    }

    fn commit(work: Option<Work<u32>>) -> Commit<u32> {
        match work {
            Some(Work::Commit(commit)) => commit,
            other => panic!("no commit: {other:?}"),
        }
    }

    fn names(commit: &Commit<u32>) -> Vec<u32> {
        commit.webhooks.iter().map(|queued| queued.webhook).collect()
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the queue lends its webhooks")]
    fn never(_: &u32) -> bool {
        false
    }

    #[test]
    fn a_small_load_shares_one_commit_and_waits_for_it() {
        let (mut queue, now) = (queue(), Instant::now());
        for n in 0..8 {
            queue.push(queued(n, 1, n.into()));
        }
        assert_eq!(commit(queue.take(now, never)).webhooks.len(), 8);
        queue.push(queued(1, 1, 8));
        assert!(queue.take(now, never).is_none(), "while a commit is in flight");
        queue.finish();
        assert_eq!(names(&commit(queue.take(now, never))), [8]);
    }

    #[test]
    fn a_large_load_is_split_over_the_lanes() {
        let (mut queue, now) = (queue(), Instant::now());
        for n in 0..8 {
            queue.push(queued(n % 4, MAX_COMMIT_EVENTS / 2, n.into()));
        }
        let (first, second) = (commit(queue.take(now, never)), commit(queue.take(now, never)));
        assert_eq!((first.webhooks.len(), second.webhooks.len()), (2, 2));
        assert!(first.lanes.iter().all(|lane| !second.lanes.contains(lane)));
    }

    #[test]
    fn a_commit_is_bounded_in_bytes_as_well() {
        let (mut queue, now) = (queue(), Instant::now());
        for n in 0..20 {
            queue.push(Queued { n_bytes: 1 << 20, ..queued(0, 1, n) });
        }
        assert_eq!(commit(queue.take(now, never)).webhooks.len(), 8);
    }

    #[test]
    fn a_held_source_delays_nobody_and_keeps_its_order() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.push(queued(0, 1, 1));
        let taken = commit(queue.take(now, never));
        queue.push(queued(0, 1, 2));
        queue.push(queued(4, 1, 3));
        assert!(queue.hold(taken.webhooks, now).is_empty());
        queue.finish();
        queue.push(queued(0, 1, 4));
        assert_eq!(names(&commit(queue.take(now, never))), [3], "of the same lane");
        queue.finish();
        assert!(queue.take(now, never).is_none());
        let at = queue.next_probe().expect("it is looked at again");
        for at in [at, at + PROBE_INTERVAL] {
            let probe = queue.take(at, never);
            assert!(matches!(probe, Some(Work::Probe(sources)) if sources == [Uuid::nil()]), "whatever came of it");
        }
        let mut late = vec![queued(0, 1, 5), queued(1, 1, 6)];
        assert!(queue.hold_back(&mut late).is_empty());
        assert_eq!(late.iter().map(|queued| queued.webhook).collect::<Vec<_>>(), [6]);
        queue.release(Uuid::nil());
        assert_eq!(names(&commit(queue.take(at, never))), [1, 2, 4, 5]);
        assert!(queue.next_probe().is_none());
    }

    #[test]
    fn held_sources_do_not_take_all_the_room() {
        let (mut queue, now) = (CommitQueue::new(2), Instant::now());
        let refused = queue.hold((0..3).map(|n| queued(0, 1, n)).collect(), now);
        assert_eq!(refused.len(), 1);
        assert!(queue.push(queued(0, 1, 3)).is_some());
        assert!(queue.push(queued(1, 1, 4)).is_none(), "of another source");
    }

    #[test]
    fn it_is_exhausted_when_nobody_waits_any_more() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.push(queued(0, 1, 1));
        queue.push(queued(1, 1, 2));
        let taken = commit(queue.take(now, never));
        queue.hold(taken.webhooks, now);
        queue.finish();
        queue.close();
        assert!(!queue.is_exhausted());
        let later = now + PROBE_INTERVAL;
        let Some(Work::Probe(sources)) = queue.take(later, |_| true) else { panic!("no probe") };
        for source in sources {
            queue.release(source);
        }
        assert!(queue.is_exhausted());
    }

    proptest! {
        #[test]
        fn no_webhook_is_lost_or_overtakes_another_of_its_source(
            steps in proptest::collection::vec((0u8..6, 1usize..700, 0u8..4), 1..200)
        ) {
            let (mut queue, mut now) = (queue(), Instant::now());
            let (mut n, mut done) = (0u32, Vec::new());
            let mut work = |queue: &mut CommitQueue<u32>, now: Instant, fails: bool| -> bool {
                match queue.take(now, never) {
                    None => return false,
                    Some(Work::Probe(sources)) if !fails => sources.into_iter().for_each(|source| queue.release(source)),
                    Some(Work::Probe(_)) => {}
                    Some(Work::Commit(commit)) => {
                        if fails {
                            assert!(queue.hold(commit.webhooks, now).is_empty());
                        } else {
                            done.extend(commit.webhooks.into_iter().map(|queued| (queued.source, queued.webhook)));
                        }
                        queue.finish();
                    }
                }
                true
            };
            for (source, n_events, action) in steps {
                n += 1;
                prop_assert!(queue.push(queued(source, n_events, n)).is_none());
                now += PROBE_INTERVAL / 3;
                if action > 0 {
                    work(&mut queue, now, action == 2);
                }
            }
            queue.close();
            while !queue.is_exhausted() {
                if !work(&mut queue, now, false) {
                    now += PROBE_INTERVAL;
                }
            }
            prop_assert_eq!(done.len(), usize::try_from(n).expect("small"));
            for source in (0..6u8).map(|source| Uuid::from_u128(source.into())) {
                let of_source: Vec<u32> = done.iter().filter(|(s, _)| *s == source).map(|(_, n)| *n).collect();
                prop_assert!(of_source.is_sorted());
            }
        }
    }
}
