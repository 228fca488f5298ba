//! One step of the delivery of calls, to Nudgespot.
//!
//! Each call is a request of its own, and Nudgespot does not know repeats: so what is done is remembered call by call
//! ([`CallWindow`]), and the cursor moves over the finished beginning.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::call_window::{CallWindow, MAX_CONCURRENT_CALLS};
use super::scheduler::StepOutcome;
use super::worker::{DeliveryWorker, StepResult, log_unsent};
use crate::destinations::nudgespot::{Destination, Operation};
use crate::destinations::{Answer, Failure, Outcome};
use crate::domain::event::Kind;
use crate::domain::retry;
use crate::random;
use crate::store::attempt::Attempt;
use crate::store::lease::Lease;
use crate::store::settlement::{NewDeadLetter, Pause, Settlement};

/// No further calls begin after this: with those on their way, a step ends long before its lease.
const LONGEST_STEP: Duration = Duration::from_secs(5);
/// How long a source waits where too many requests are on their way.
const BUSY: Duration = Duration::from_millis(500);
/// So many calls are worth a step's statements; fewer wait for company.
const SMALL_STEP_CALLS: usize = 16;

/// What came of the requests of a step.
#[derive(Default)]
struct Requests {
    attempts: Vec<Attempt>,
    delivered: Vec<Kind>,
    /// The requests that were taken, by the numbers of their calls.
    taken: BTreeMap<i64, Attempt>,
    dead: Vec<NewDeadLetter>,
    /// Why no further ones are made.
    stop: Option<Stop>,
}

enum Stop {
    /// This program has too many requests on their way.
    Busy,
    Retry {
        after: Option<Duration>,
        reason: String,
    },
    Pause(String),
}

impl DeliveryWorker {
    /// Sends the calls of a window, several at a time.
    pub(super) async fn send_calls(
        &self,
        lease: &Lease,
        destination: &Destination,
        mut window: CallWindow,
        stop: &CancellationToken,
    ) -> StepResult {
        let began = Instant::now();
        let mut requests = Requests::default();
        let mut on_their_way = FuturesUnordered::new();
        loop {
            let goes_on = requests.stop.is_none() && began.elapsed() < LONGEST_STEP && !stop.is_cancelled();
            while goes_on && on_their_way.len() < MAX_CONCURRENT_CALLS {
                let Some(permit) = self.nudgespot.try_begin() else {
                    if on_their_way.is_empty() {
                        requests.stop = Some(Stop::Busy);
                    }
                    break;
                };
                let Some(place) = window.start_next() else { break };
                let call = window.call(place);
                let operation = if call.kind == Kind::Identify { Operation::Identify } else { Operation::Activity };
                let (body, sent_at) = (call.body.clone(), SystemTime::now());
                on_their_way.push(async move {
                    let _permit = permit;
                    let answer = self.nudgespot.send(destination, operation, body, sent_at).await;
                    (place, sent_at, answer)
                });
            }
            let Some((place, sent_at, answer)) = on_their_way.next().await else { break };
            self.count(lease, &answer, sent_at);
            requests.take(&mut window, place, sent_at, answer);
        }
        drop(on_their_way);
        requests.settle(lease, window)
    }

    fn count(&self, lease: &Lease, answer: &Answer, sent_at: SystemTime) {
        self.metrics.nudgespot_answer(answer.status);
        self.metrics.nudgespot_seconds.observe(sent_at.elapsed().unwrap_or_default().as_secs_f64());
        if let Some(failure) = answer.failure {
            self.metrics.nudgespot_failure(failure.as_str());
        }
        let reason = answer.reason.as_deref().unwrap_or_default();
        let cause = answer.failure.map_or("answer", Failure::as_str);
        match answer.outcome {
            Outcome::Delivered => {}
            Outcome::Retry { .. } => {
                tracing::info!(source.id = %lease.source_id, cause, reason, attempts = lease.n_attempts + 1, "a call is to be sent again");
            }
            Outcome::Refused => tracing::warn!(source.id = %lease.source_id, reason, "a call was refused"),
            Outcome::Pause => tracing::warn!(source.id = %lease.source_id, reason, "delivery paused"),
        }
    }
}

impl Requests {
    fn take(&mut self, window: &mut CallWindow, place: usize, sent_at: SystemTime, answer: Answer) {
        let Answer { status, outcome, reason, .. } = answer;
        let call = window.call(place);
        let (seq, kind) = (call.seq, call.kind);
        let attempt = |reason| Attempt {
            from_seq: seq,
            to_seq: seq,
            n_events: 1,
            n_requests: 1,
            started_at: sent_at.into(),
            duration: sent_at.elapsed().unwrap_or_default(),
            status,
            outcome: outcome.as_str(),
            reason,
        };
        let words = reason.clone().unwrap_or_default();
        match outcome {
            Outcome::Delivered => {
                self.delivered.push(kind);
                self.taken.insert(seq, attempt(reason));
                window.finish(place);
            }
            Outcome::Refused => {
                self.attempts.push(attempt(reason));
                self.dead.push(call.dead(words));
                window.finish(place);
            }
            Outcome::Retry { after } => {
                self.attempts.push(attempt(reason));
                match &mut self.stop {
                    Some(Stop::Pause(_) | Stop::Busy) => {}
                    // Of several waits that were asked for, the longest.
                    Some(Stop::Retry { after: asked, .. }) => *asked = (*asked).max(after),
                    None => self.stop = Some(Stop::Retry { after, reason: words }),
                }
            }
            Outcome::Pause => {
                self.attempts.push(attempt(reason));
                self.stop = Some(Stop::Pause(words));
            }
        }
    }

    /// What came of the step.
    fn settle(self, lease: &Lease, window: CallWindow) -> StepResult {
        let Self { mut attempts, delivered, taken, mut dead, stop } = self;
        let (cursor, done_ahead) = window.progress();
        log_unsent(lease, window.expired.len());
        dead.extend(window.expired);
        attempts.extend(Attempt::joined(taken.into_values()));
        let settlement = Settlement {
            cursor,
            done_ahead,
            delivered,
            dead,
            n_erased: window.n_erased,
            n_attempts: 0,
            n_refused: 0,
            attempts,
            ..Settlement::stay(lease)
        };
        let (settlement, next) = match stop {
            Some(Stop::Pause(reason)) => {
                (Settlement { pause: Some(Pause::Destination(reason)), ..settlement }, StepOutcome::Continue)
            }
            Some(Stop::Retry { after, reason }) => {
                let n_attempts = lease.n_attempts.saturating_add(1);
                let wait = retry::wait(n_attempts.unsigned_abs(), after, random::fraction());
                (Settlement { n_attempts, wait, last_error: Some(reason), ..settlement }, StepOutcome::Backoff(wait))
            }
            Some(Stop::Busy) => (settlement, StepOutcome::Withhold(BUSY)),
            None if settlement.delivered.len() < SMALL_STEP_CALLS => (settlement, StepOutcome::Debounce),
            None => (settlement, StepOutcome::Continue),
        };
        StepResult { settlement, since: window.since, next }
    }
}
