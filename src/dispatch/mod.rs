//! Delivers the log to Segment.
//!
//! An account that is due gets **steps**, one at a time: lease it, read what lies after its cursor, send that, settle.
//! The cursor moves only after Segment has answered, so a crash anywhere means a repeat, never a loss; a repeat carries
//! the same `messageId`. Accounts take turns step by step, so a large backlog delays nobody; and accounts whose last
//! step failed share a few places of their own, so that those that hang cannot take all.
//!
//! Run by [`app`](crate::app) alone. Writes no SQL: see [`store::lease`](crate::store::lease).

mod bisection;
mod courier;
mod plan;
mod statements;
mod sweep;
mod together;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::due::{Call, Due};
use bisection::Bisection;
pub use courier::{Courier, Next};
pub use sweep::{Sweep, SweepError};
pub use together::{Together, Trouble};

/// How many accounts are served at a time. Each holds a batch of at most 500 KB.
const PLACES: usize = 128;
/// How many of these may be taken by accounts whose last step failed.
const PLACES_FOR_FAILING: usize = 32;
/// After a small batch, the account rests, so that more events go together next time; a lone event waits for nothing. It
/// rests for between these times, and for so much for each account that is served now and not failing: small batches take
/// turns, some 4,000 a second, and where that is enough for all that comes, nobody rests for long.
const SHORT_REST: Duration = Duration::from_millis(5);
const LONG_REST: Duration = Duration::from_secs(2);
const REST: Duration = Duration::from_micros(250);
/// How long to leave an account alone when the database fails a step.
const DATABASE_TROUBLE: Duration = Duration::from_secs(1);
/// How long a step in flight has to settle when the program ends: a little more than a request to Segment may take.
const DRAIN: Duration = Duration::from_secs(20);

/// Decides whose turn it is.
pub struct Dispatch {
    courier: Arc<Courier>,
    due: Arc<Due>,
    turns: HashMap<Uuid, Turn>,
    queue: VecDeque<Uuid>,
    failing_queue: VecDeque<Uuid>,
    n_failing_running: usize,
    alarms: BTreeSet<(Instant, Uuid)>,
    n_resting: usize,
    steps: JoinSet<(Result<Next, Trouble>, Bisection)>,
    running: HashMap<Id, Uuid>,
}

/// An account that waits for its turn, or has it. Others are not kept.
struct Turn {
    state: State,
    /// Whether its last step failed.
    is_failing: bool,
    bisection: Bisection,
    /// When its last step began.
    began: Instant,
}

enum State {
    Queued,
    Running {
        /// Work was announced while the step ran.
        again: Option<Call>,
    },
    Asleep {
        until: Instant,
    },
    /// Its last batch was small and not long ago.
    Resting {
        until: Instant,
        /// Work was announced since.
        again: bool,
    },
}

type Ended = Result<(Id, (Result<Next, Trouble>, Bisection)), JoinError>;

impl Dispatch {
    /// A dispatch that serves what is marked in `due`.
    #[must_use]
    pub fn new(courier: Arc<Courier>, due: Arc<Due>) -> Self {
        Self {
            courier,
            due,
            turns: HashMap::new(),
            queue: VecDeque::new(),
            failing_queue: VecDeque::new(),
            n_failing_running: 0,
            alarms: BTreeSet::new(),
            n_resting: 0,
            steps: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Serves accounts until `stop`, then lets the steps in flight settle.
    pub async fn run(mut self, stop: CancellationToken) {
        let due = Arc::clone(&self.due);
        loop {
            self.start_steps();
            let alarm = self.alarms.first().map(|(at, _)| *at);
            tokio::select! {
                () = stop.cancelled() => break,
                calls = due.take() => calls.into_iter().for_each(|(account, call)| self.announce(account, call)),
                Some(ended) = self.steps.join_next_with_id() => self.end_step(ended),
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => self.ring(),
            }
        }
        if timeout(DRAIN, async { while self.steps.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!(
                accounts = self.steps.len(),
                "stopped before Segment answered; these batches will be repeated"
            );
        }
    }

    fn announce(&mut self, account: Uuid, call: Call) {
        match self.turns.get_mut(&account).map(|turn| &mut turn.state) {
            None => {
                let (bisection, began) = (Bisection::default(), Instant::now());
                let turn = Turn { state: State::Queued, is_failing: false, bisection, began };
                self.turns.insert(account, turn);
                self.enqueue(account);
            }
            Some(State::Running { again }) => *again = Some(call).max(*again),
            Some(&mut State::Resting { until, ref mut again }) => {
                *again = true;
                if call == Call::Now {
                    self.wake(until, account);
                }
            }
            Some(&mut State::Asleep { until }) if call >= Call::Due => self.wake(until, account),
            Some(State::Asleep { .. } | State::Queued) => {}
        }
    }

    fn ring(&mut self) {
        let now = Instant::now();
        while let Some((at, account)) = self.alarms.first().copied()
            && at <= now
        {
            self.wake(at, account);
        }
    }

    /// Ends an account's sleep or rest, whose alarm is set to `until`.
    fn wake(&mut self, until: Instant, account: Uuid) {
        self.alarms.remove(&(until, account));
        let state = self.turns.get(&account).map(|turn| &turn.state);
        self.n_resting -= usize::from(matches!(state, Some(State::Resting { .. })));
        match state {
            Some(State::Resting { again: false, .. }) => drop(self.turns.remove(&account)),
            _ => self.enqueue(account),
        }
    }

    fn enqueue(&mut self, account: Uuid) {
        let Some(turn) = self.turns.get_mut(&account) else { return };
        turn.state = State::Queued;
        let queue = if turn.is_failing { &mut self.failing_queue } else { &mut self.queue };
        queue.push_back(account);
    }

    fn start_steps(&mut self) {
        while self.running.len() < PLACES {
            let failing =
                if self.n_failing_running < PLACES_FOR_FAILING { self.failing_queue.pop_front() } else { None };
            let Some(account) = failing.or_else(|| self.queue.pop_front()) else { return };
            self.start_step(account);
        }
    }

    fn start_step(&mut self, account: Uuid) {
        let Some(turn) = self.turns.get_mut(&account) else { return };
        turn.state = State::Running { again: None };
        turn.began = Instant::now();
        self.n_failing_running += usize::from(turn.is_failing);
        let (courier, mut bisection) = (Arc::clone(&self.courier), turn.bisection);
        let step = self.steps.spawn(async move {
            let next = courier.step(account, &mut bisection).await;
            (next, bisection)
        });
        self.running.insert(step.id(), account);
    }

    fn end_step(&mut self, ended: Ended) {
        let (id, next, bisection) = match ended {
            Ok((id, (Ok(next), bisection))) => (id, next, bisection),
            Ok((id, (Err(error), bisection))) => {
                tracing::debug!(%error, "a step of the delivery could not be stored");
                (id, Next::Retry(DATABASE_TROUBLE), bisection)
            }
            Err(error) => {
                tracing::error!(%error, "a step of the delivery failed");
                (error.id(), Next::Retry(DATABASE_TROUBLE), Bisection::default())
            }
        };
        let Some(account) = self.running.remove(&id) else { return };
        let Some(turn) = self.turns.get_mut(&account) else { return };
        self.n_failing_running -= usize::from(turn.is_failing);
        let n_served = self.queue.len() + self.running.len() - self.n_failing_running + self.n_resting;
        let rest = REST.saturating_mul(u32::try_from(n_served).unwrap_or(u32::MAX)).clamp(SHORT_REST, LONG_REST);
        turn.bisection = bisection;
        match (next, &turn.state) {
            (Next::Retry(wait) | Next::Sleep(wait) | Next::Withhold(wait), _) => {
                let until = Instant::now() + wait;
                turn.is_failing = matches!(next, Next::Retry(_));
                turn.state = State::Asleep { until };
                self.alarms.insert((until, account));
            }
            (Next::Go, _) | (_, State::Running { again: Some(Call::Now) }) => {
                turn.is_failing = false;
                self.enqueue(account);
            }
            (Next::Rest | Next::Soon, state) => {
                let again = next == Next::Soon || matches!(state, State::Running { again: Some(_) });
                self.n_resting += 1;
                let until = turn.began + rest;
                turn.is_failing = false;
                turn.state = State::Resting { until, again };
                self.alarms.insert((until, account));
            }
        }
    }
}
