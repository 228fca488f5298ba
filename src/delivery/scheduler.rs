//! Decides which source gets the next step. A state machine without clock, tasks or I/O: it is told what happened and
//! what time it is, and says what to start and when to look again.
//!
//! # Who gets a place
//! Steps run in two pools: one for sources whose last step failed (retries), one for all others. In each pool, the
//! sources of one address (an endpoint's URL) get half of the places at most, and addresses take turns: an address that
//! hangs leaves the other half free from its first step on, and the failed sources of an address never hold up its
//! others.
//!
//! Within an address, nobody can tell a source that is going to hang from one that is not, before it has been tried; and
//! an attempt that hangs lasts 15 s. If each kept its place for so long, the sources behind 1,280 that hang would wait
//! for 1,280 / 128 × 15 s, minutes. So a step counts as **slow** once it is older than [`SLOW_AFTER`], and slow steps
//! count against a limit of their own, which is large. An address then begins 128 steps every half second, whatever
//! hangs: 1,280 have had theirs after 5 s.
//!
//! What a slow step costs is a connection and its batch. The limits of slow steps follow from how many files the process
//! may open; and slow steps give their places to others only as long as all batches in flight, those that are not sent
//! yet at their largest, fit into [`MAX_IN_FLIGHT_BYTES`]. When they do not, an address gets no more than 128 steps again,
//! and what it has beyond that takes nothing from the half of the others.
//!
//! # Small batches are debounced
//! See [`MIN_DEBOUNCE`].

mod pool;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::destinations::InFlight;
use crate::destinations::segment::MAX_BATCH_BYTES;
use crate::wakeups::WakeReason;
use pool::{Pool, PoolLimits};

/// How many sources have a step at a time, those whose last step failed and those whose step is slow not counted. One
/// address gets half of them.
pub const MAX_CONCURRENT_STEPS: usize = 256;
/// How many sources whose last step failed have a step at a time, slow ones not counted. One address gets half of them.
pub const MAX_CONCURRENT_RETRIES: usize = 64;
/// How many slow steps there are at a time, if the process may open so many files. One address gets half of them: more
/// than 1,280.
const MAX_SLOW_STEPS: usize = 3_072;
const MAX_SLOW_RETRIES: usize = 512;
/// A step that takes longer is slow: a few times what Segment takes to answer.
pub const SLOW_AFTER: Duration = Duration::from_millis(500);
/// What the batches of all steps may take for slow steps to give their places to others. Beside it, steps that begin when
/// none gives way take no more than [`MAX_CONCURRENT_STEPS`] and [`MAX_CONCURRENT_RETRIES`] times 500 KB: 160 MB.
const MAX_IN_FLIGHT_BYTES: usize = 192_000_000;

/// After a small batch, the source's next step is put off, so that more events go together; a lone event waits for
/// nothing. How long, follows from how many sources are served now, are not slow and have not failed: small batches take
/// turns, some 500 a second, where nobody waits for longer than [`SHORT_DEBOUNCE`] for it, which nobody notices; and some
/// 4,000 a second where more sources send at a time.
const MIN_DEBOUNCE: Duration = Duration::from_millis(5);
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);
const DEBOUNCE_PER_SOURCE: Duration = Duration::from_micros(250);
const SHORT_DEBOUNCE: Duration = Duration::from_millis(28);
const SHORT_DEBOUNCE_PER_SOURCE: Duration = Duration::from_millis(2);

/// How long a source's small batches are put off where so many sources are served.
fn debounce(n_served: usize) -> Duration {
    let n_served = u32::try_from(n_served).unwrap_or(u32::MAX);
    let short = SHORT_DEBOUNCE_PER_SOURCE.saturating_mul(n_served).min(SHORT_DEBOUNCE);
    DEBOUNCE_PER_SOURCE.saturating_mul(n_served).max(short).clamp(MIN_DEBOUNCE, MAX_DEBOUNCE)
}

/// Where a source's batches go: sources of one address share its troubles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub u64);

/// What a step came to, and so when the source gets the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// Nothing waits, or it is not for us to deliver.
    Idle,
    /// More waits.
    Continue,
    /// More came meanwhile, but what came before was so little that it pays to let some more come.
    Debounce,
    /// More waits, but not before this time is over: the step failed.
    Backoff(Duration),
    /// More waits, and nothing can be done about it for so long, unless an admin does something.
    Park(Duration),
    /// More waits, and this process cannot deliver it, though another may: leave it alone for so long, unless an admin
    /// does something.
    Withhold(Duration),
}

/// How many steps may run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    steps: PoolLimits,
    retries: PoolLimits,
    in_flight_bytes: usize,
}

impl Limits {
    /// The limits of a process that may open so many files, half of which are for other uses than delivery.
    #[must_use]
    pub fn of_process(max_open_files: usize) -> Self {
        let max_slow = (max_open_files / 2).saturating_sub(MAX_CONCURRENT_STEPS + MAX_CONCURRENT_RETRIES);
        let max_slow_retries = (max_slow / 8).min(MAX_SLOW_RETRIES);
        let max_slow_steps = (max_slow - max_slow_retries).min(MAX_SLOW_STEPS);
        Self {
            steps: PoolLimits::new(MAX_CONCURRENT_STEPS, max_slow_steps),
            retries: PoolLimits::new(MAX_CONCURRENT_RETRIES, max_slow_retries),
            in_flight_bytes: MAX_IN_FLIGHT_BYTES,
        }
    }
}

/// A source that waits for a step, or has one. Others are not kept.
#[derive(Debug)]
struct Source {
    state: SourceState,
    address: Address,
    /// Whether its last step failed.
    is_retry: bool,
    /// When its last step began.
    began: Instant,
}

#[derive(Debug)]
enum SourceState {
    Queued,
    Running {
        step: u64,
        /// Its address when the step began.
        address: Address,
        is_slow: bool,
        /// It was woken while the step ran.
        woken: Option<WakeReason>,
    },
    Backoff {
        until: Instant,
    },
    Parked {
        until: Instant,
    },
    Withheld {
        until: Instant,
    },
    /// Its last batch was small and not long ago.
    Debouncing {
        until: Instant,
        /// It was woken since, or had more to send.
        woken: bool,
    },
}

/// Whose turn it is.
#[derive(Debug)]
pub struct Scheduler {
    sources: HashMap<Uuid, Source>,
    steps: Pool,
    retries: Pool,
    /// Of those that wait for a time.
    timers: BTreeSet<(Instant, Uuid)>,
    n_debouncing: usize,
    /// The steps that are not known to be slow, oldest first, and some that have ended.
    recent: VecDeque<(Instant, Uuid, u64)>,
    n_started: u64,
    max_in_flight_bytes: usize,
}

impl Scheduler {
    /// A scheduler that knows of no source.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            sources: HashMap::new(),
            steps: Pool::new(limits.steps),
            retries: Pool::new(limits.retries),
            timers: BTreeSet::new(),
            n_debouncing: 0,
            recent: VecDeque::new(),
            n_started: 0,
            max_in_flight_bytes: limits.in_flight_bytes,
        }
    }

    /// A source may have something to deliver, to this address.
    pub fn wake(&mut self, id: Uuid, reason: WakeReason, address: Address, now: Instant) {
        let Some(source) = self.sources.get_mut(&id) else {
            let source = Source { state: SourceState::Queued, address, is_retry: false, began: now };
            self.sources.insert(id, source);
            self.enqueue(id);
            return;
        };
        let before = std::mem::replace(&mut source.address, address);
        match &mut source.state {
            SourceState::Queued if before == address => {}
            SourceState::Queued => {
                let pool = if source.is_retry { &mut self.retries } else { &mut self.steps };
                pool.remove(before, id);
                pool.push(address, id);
            }
            SourceState::Running { woken, .. } => *woken = Some(reason).max(*woken),
            SourceState::Debouncing { until, woken } => {
                *woken = true;
                if reason == WakeReason::AdminChange {
                    let until = *until;
                    self.end_wait(until, id);
                }
            }
            &mut (SourceState::Backoff { until } | SourceState::Parked { until }) => {
                if reason >= WakeReason::TimerElapsed {
                    self.end_wait(until, id);
                }
            }
            &mut SourceState::Withheld { until } => {
                if reason == WakeReason::AdminChange {
                    self.end_wait(until, id);
                }
            }
        }
    }

    /// The source whose step is to be started now, given what the requests in flight take. `None`: nobody's, until
    /// something happens or [`next_timer`](Self::next_timer).
    pub fn next_step(&mut self, now: Instant, in_flight: InFlight) -> Option<Uuid> {
        self.find_slow(now);
        let n_unsent = self.n_running().saturating_sub(in_flight.n_requests);
        let bytes = in_flight.n_bytes.saturating_add((n_unsent + 1) * MAX_BATCH_BYTES);
        let slow_give_way = bytes <= self.max_in_flight_bytes;
        let (address, id) = self.retries.pop(slow_give_way).or_else(|| self.steps.pop(slow_give_way))?;
        let source = self.sources.get_mut(&id)?;
        self.n_started += 1;
        let step = self.n_started;
        source.began = now;
        source.state = SourceState::Running { step, address, is_slow: false, woken: None };
        let pool = if source.is_retry { &mut self.retries } else { &mut self.steps };
        pool.started(address);
        self.recent.push_back((now, id, step));
        Some(id)
    }

    /// A source's step has ended.
    pub fn step_ended(&mut self, id: Uuid, outcome: StepOutcome, now: Instant) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        let SourceState::Running { address, is_slow, woken, .. } = source.state else { return };
        let pool = if source.is_retry { &mut self.retries } else { &mut self.steps };
        pool.ended(address, is_slow);
        let n_running = self.steps.n_running() - self.steps.n_slow();
        let n_served = self.steps.n_waiting() + n_running + self.n_debouncing;
        let debounce = debounce(n_served);
        source.is_retry = matches!(outcome, StepOutcome::Backoff(_));
        let (until, state) = match outcome {
            // What failed with the settings of before says nothing.
            _ if woken == Some(WakeReason::AdminChange) => return self.enqueue(id),
            StepOutcome::Continue => return self.enqueue(id),
            StepOutcome::Backoff(wait) => {
                let until = now + wait;
                (until, SourceState::Backoff { until })
            }
            StepOutcome::Park(wait) => {
                let until = now + wait;
                (until, SourceState::Parked { until })
            }
            StepOutcome::Withhold(wait) => {
                let until = now + wait;
                (until, SourceState::Withheld { until })
            }
            StepOutcome::Idle | StepOutcome::Debounce => {
                self.n_debouncing += 1;
                let until = source.began + debounce;
                let woken = outcome == StepOutcome::Debounce || woken.is_some();
                (until, SourceState::Debouncing { until, woken })
            }
        };
        source.state = state;
        self.timers.insert((until, id));
    }

    /// Ends the waits that are over.
    pub fn fire_timers(&mut self, now: Instant) {
        while let Some((until, id)) = self.timers.first().copied()
            && until <= now
        {
            self.end_wait(until, id);
        }
    }

    /// When to call [`fire_timers`](Self::fire_timers) and [`next_step`](Self::next_step) at the latest. `None`: when
    /// something happens.
    #[must_use]
    pub fn next_timer(&self, now: Instant) -> Option<Instant> {
        let timer = self.timers.first().map(|(until, _)| *until);
        if self.steps.n_waiting() + self.retries.n_waiting() == 0 {
            return timer;
        }
        // Steps that become slow may give way; so may slow ones, when it is known how large their batches are.
        let slow_at = self.recent.front().map_or(now, |(began, ..)| *began) + SLOW_AFTER;
        Some(timer.map_or(slow_at, |timer| timer.min(slow_at)))
    }

    fn n_running(&self) -> usize {
        self.steps.n_running() + self.retries.n_running()
    }

    /// Finds the steps that have become slow.
    fn find_slow(&mut self, now: Instant) {
        while let Some((began, id, number)) = self.recent.front().copied() {
            let source = self.sources.get_mut(&id);
            if let Some(Source { state: SourceState::Running { step, address, is_slow, .. }, is_retry, .. }) = source
                && *step == number
            {
                if now.saturating_duration_since(began) < SLOW_AFTER {
                    return;
                }
                *is_slow = true;
                let pool = if *is_retry { &mut self.retries } else { &mut self.steps };
                pool.became_slow(*address);
            }
            self.recent.pop_front();
        }
    }

    /// Ends the wait of a source, whose timer is set to `until`.
    fn end_wait(&mut self, until: Instant, id: Uuid) {
        self.timers.remove(&(until, id));
        let Some(source) = self.sources.get(&id) else { return };
        if let SourceState::Debouncing { woken, .. } = source.state {
            self.n_debouncing -= 1;
            if !woken {
                self.sources.remove(&id);
                return;
            }
        }
        self.enqueue(id);
    }

    fn enqueue(&mut self, id: Uuid) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        source.state = SourceState::Queued;
        let pool = if source.is_retry { &mut self.retries } else { &mut self.steps };
        pool.push(source.address, id);
    }
}

#[cfg(test)]
mod tests;
