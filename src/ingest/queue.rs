//! Which webhooks are committed next: a state machine without clock and without I/O.
//!
//! A small load, of however many sources, shares one commit: what arrives while it is in flight goes into the next, which
//! begins a moment later where others will join it ([`pace`]). When there is enough for a commit, another starts beside it,
//! for other lanes. A source whose rows another session of the database holds is **held**: its webhooks wait apart, and it
//! is looked from time to time whether it is free again, so that they delay nobody else's.

mod pace;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::store::log::Lane;
use pace::Pace;

/// A commit takes no further webhooks once it has so many events: larger statements are not faster, only later.
const MAX_COMMIT_EVENTS: usize = 1_024;
/// Nor once it has so many bytes: a statement must be sent and executed within its limit.
const MAX_COMMIT_BYTES: usize = 8 << 20;
/// So many events need no company.
const ENOUGH_EVENTS: usize = 16;
/// How often it is looked whether a held source is free.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// A webhook that waits for its commit.
#[derive(Debug)]
pub struct Queued<T> {
    /// Whose it is.
    pub source: Uuid,
    /// Over which connection it came, where it came over one.
    pub peer: Option<SocketAddr>,
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
    pace: Pace,
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
            pace: Pace::new(),
            next_lane: 0,
            is_closed: false,
            held: HashMap::new(),
            n_held: 0,
            max_held,
        }
    }

    /// Adds a webhook that came now; returns it where its source is held and there is no room to wait.
    pub fn push(&mut self, queued: Queued<T>, now: Instant) -> Option<Queued<T>> {
        if !self.held.contains_key(&queued.source) {
            self.pace.came(queued.peer, now);
        }
        self.add(queued)
    }

    fn add(&mut self, queued: Queued<T>) -> Option<Queued<T>> {
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
            refused.extend(held.into_iter().filter_map(|queued| self.add(queued)));
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
        held.into_iter().filter_map(|queued| self.add(queued)).collect()
    }

    /// A source is free: what waits for it goes the usual way.
    pub fn release(&mut self, source: Uuid) {
        for queued in self.held.remove(&source).into_iter().flat_map(|held| held.webhooks) {
            self.n_held -= 1;
            self.add(queued);
        }
    }

    /// When the next held source is to be looked at.
    pub fn next_probe(&self) -> Option<Instant> {
        self.held.values().map(|held| held.probe_at).min()
    }

    /// Whether there is a commit to make now.
    pub fn has_commit(&self, now: Instant) -> bool {
        match self.n_commits {
            0 => self.n_events > 0 && self.waits_until(now).is_none(),
            _ => self.n_events >= MAX_COMMIT_EVENTS,
        }
    }

    /// When to look again at the latest, whatever happens.
    pub fn next_timer(&self, now: Instant) -> Option<Instant> {
        [self.waits_until(now), self.next_probe()].into_iter().flatten().min()
    }

    /// Where something waits for company: until when.
    fn waits_until(&self, now: Instant) -> Option<Instant> {
        let may_wait = self.n_commits == 0 && (1..ENOUGH_EVENTS).contains(&self.n_events) && !self.is_closed;
        if may_wait { self.pace.waits_until(now) } else { None }
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
                self.pace.began(commit.webhooks.len(), now);
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
mod tests;
