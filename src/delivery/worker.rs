//! One step of a source's delivery.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::batcher::{BatchError, RequestBatcher};
use super::bisection::Bisection;
use super::call_window::{CallWindow, MAX_CALLS};
use super::plan::{BatchPlan, LogBlock, Reader};
use super::scheduler::StepOutcome;
use super::settings::{Destination, Settings};
use super::statements::{self, Acquired};
use crate::config::Endpoints;
use crate::destinations::segment::Client;
use crate::destinations::{Answer, Failure, Outcome, nudgespot, segment};
use crate::domain::retry::{self, LONGEST_WAIT};
use crate::metrics::Metrics;
use crate::random;
use crate::secrets::vault::Vault;
use crate::store::attempt::Attempt;
use crate::store::connection::Connection;
use crate::store::lease::Lease;
use crate::store::settlement::{NewDeadLetter, Pause, Settled, Settlement};
use crate::wakeups::{NextStep, Wakeups};

/// How many events are read at a time: of usual size, as many as fit into a batch.
const MAX_EVENTS_PER_STEP: usize = 1_000;
/// A batch of so many events is worth its request.
const SMALL_BATCH_EVENTS: usize = 100;
/// When so many events in a row were refused one by one, it is not the events.
const MAX_REFUSED: i32 = 10;
/// How long this program leaves a source to others whose events it cannot handle.
pub(super) const WITHHOLD: Duration = Duration::from_secs(10);
/// How long to leave a source alone in which a step found nothing to do, against what the database said.
const INCONSISTENT_LOG_DELAY: Duration = Duration::from_mins(1);

/// Takes sources' events to Segment and their calls to Nudgespot, a step at a time.
pub struct DeliveryWorker {
    /// Opens write keys.
    pub vault: Arc<Vault>,
    /// Sends events.
    pub client: Client,
    /// Sends calls.
    pub nudgespot: nudgespot::Client,
    /// Where to.
    pub endpoints: Endpoints,
    /// The age at which an event is not sent any more.
    pub max_age: Duration,
    /// The number to lease under.
    pub holder: i32,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Leases that are asked for.
    pub leases: RequestBatcher<Uuid, (Uuid, i64), Result<Acquired, BatchError>>,
    /// Settlements that are to be written.
    pub settlements: RequestBatcher<Uuid, Settlement, Result<Settled, BatchError>>,
    /// What was committed here.
    pub wakeups: Arc<Wakeups>,
}

/// What came of a step, to be settled.
pub(super) struct StepResult {
    pub settlement: Settlement,
    /// Since when the first of the events that were taken waited.
    pub since: Option<OffsetDateTime>,
    /// What to do if more waits.
    pub next: StepOutcome,
}

/// What a step found in the log.
struct Found {
    blocks: Vec<LogBlock>,
    /// Of a source of calls: users who are forgotten, and up to which number.
    forgotten: HashMap<Uuid, i64>,
}

impl StepResult {
    /// Of a step that delivered nothing.
    pub(super) fn of(settlement: Settlement, next: StepOutcome) -> Self {
        Self { settlement, since: None, next }
    }

    /// The same, where it moves the cursor into one of these blocks of the log: the numbers of their last events, and since
    /// when they wait.
    fn found_in(mut self, ends: &[(i64, OffsetDateTime)]) -> Self {
        let Settlement { before, cursor, since, .. } = &mut self.settlement;
        if cursor > before {
            *since = ends.iter().find(|(last_seq, _)| last_seq >= cursor).map(|(_, since)| *since);
        }
        self
    }
}

impl DeliveryWorker {
    /// Takes the next events or calls of `source` to its destination, if there are any, and settles what came of it.
    ///
    /// # Errors
    /// Where the database did not store it: try again. What was sent and could not be settled will be sent again.
    pub async fn step(
        &self,
        source: Uuid,
        takes_calls: bool,
        bisection: &mut Bisection,
        stop: &CancellationToken,
    ) -> Result<StepOutcome, BatchError> {
        let most = if takes_calls { MAX_CALLS } else { MAX_EVENTS_PER_STEP };
        let n_events = bisection.limit().unwrap_or(most).min(most);
        let next =
            if takes_calls { NextStep::Ask } else { self.wakeups.tail.begin_step(source, n_events, Instant::now()) };
        match next {
            NextStep::Nothing => Ok(StepOutcome::Idle),
            NextStep::Send(lease, blocks) => {
                self.metrics.delivery_step("memory");
                let blocks = blocks.into_iter().map(LogBlock::Committed).collect();
                self.deliver(*lease, Found { blocks, forgotten: HashMap::new() }, n_events, bisection, stop).await
            }
            NextStep::Settle(lease) => {
                let done = StepResult::of(Settlement::stay(&lease), StepOutcome::Continue);
                self.settle(*lease, done).await
            }
            NextStep::Ask => {
                self.metrics.delivery_step("log");
                let done = self.step_from_database(source, n_events, bisection, stop).await;
                if done.is_err() {
                    self.wakeups.tail.forget(source);
                }
                done
            }
        }
    }

    /// Takes a lease first, and what lies after its cursor with it.
    async fn step_from_database(
        &self,
        source: Uuid,
        n_events: usize,
        bisection: &mut Bisection,
        stop: &CancellationToken,
    ) -> Result<StepOutcome, BatchError> {
        let asked_at = Instant::now();
        let acquire = async |db: &mut Connection, sources: Vec<_>| statements::acquire(db, &sources, self.holder).await;
        let Acquired { lease, blocks, next_seq, forgotten } =
            match self.leases.submit(source, (source, to_i64(n_events)), true, acquire).await? {
                None => {
                    self.wakeups.tail.not_leased(source);
                    return Ok(StepOutcome::Idle);
                }
                Some(Ok(acquired)) => acquired,
                Some(Err(error)) => {
                    tracing::error!(source.id = %source, %error, "the events of a source cannot be read");
                    self.wakeups.tail.forget(source);
                    return Ok(StepOutcome::Withhold(WITHHOLD));
                }
            };
        self.wakeups.tail.leased(&lease, blocks.last().map_or(lease.cursor, |block| block.last_seq), asked_at);
        if let Some(next_seq) = next_seq {
            let done = pass_missing(&lease, next_seq);
            return self.settle(lease, done).await;
        }
        let blocks = blocks.into_iter().map(LogBlock::Stored).collect();
        self.deliver(lease, Found { blocks, forgotten }, n_events, bisection, stop).await
    }

    /// Sends what was found, and settles what came of it.
    async fn deliver(
        &self,
        lease: Lease,
        found: Found,
        n_events: usize,
        bisection: &mut Bisection,
        stop: &CancellationToken,
    ) -> Result<StepOutcome, BatchError> {
        let Found { blocks, forgotten } = found;
        let ends: Vec<_> = blocks.iter().map(|block| (block.last_seq(), block.since())).collect();
        let Ok(Settings { destination, writing }) = Settings::read(&lease, &self.vault, &self.endpoints, &self.metrics)
        else {
            let done = StepResult::of(Settlement::stay(&lease), StepOutcome::Withhold(WITHHOLD));
            return self.settle(lease, done).await;
        };
        if let Some(Destination::Nudgespot(destination)) = &destination {
            let window = CallWindow::read(&lease, &blocks, &forgotten, self.max_age, OffsetDateTime::now_utc());
            drop(blocks);
            let done = match &window.unreadable {
                Some(unreadable) => self.stop_at(&lease, unreadable),
                None => self.send_calls(&lease, destination, window, stop).await,
            };
            return self.settle(lease, done.found_in(&ends)).await;
        }
        let reader = Reader {
            writing: destination.is_some().then_some(writing),
            max_age: self.max_age,
            n_events: to_i64(n_events),
            forgotten: &forgotten,
        };
        let plan = reader.read(&lease, &blocks, OffsetDateTime::now_utc());
        drop(blocks);
        let done = match (destination, &plan.unreadable) {
            (_, Some(unreadable)) => self.stop_at(&lease, unreadable),
            (Some(Destination::Segment(destination)), None) if !plan.batch.is_empty() => {
                self.send(&lease, &destination, plan, bisection).await
            }
            _ => settle_unsent(&lease, plan),
        };
        self.settle(lease, done.found_in(&ends)).await
    }

    async fn send(
        &self,
        lease: &Lease,
        destination: &segment::Destination,
        plan: BatchPlan,
        bisection: &mut Bisection,
    ) -> StepResult {
        let BatchPlan { batch, kinds, first_sent, since, last, expired, n_erased, first_event, .. } = plan;
        let last = last.unwrap_or(lease.cursor);
        let n_events = batch.len();
        let (sent_at, began) = (SystemTime::now(), Instant::now());
        let answer = self.client.send(destination, batch, sent_at).await;
        let duration = began.elapsed();
        self.metrics.segment_answer(answer.status);
        self.metrics.segment_seconds.observe(duration.as_secs_f64());
        if let Some(failure) = answer.failure {
            self.metrics.segment_failure(failure.as_str());
        }
        log_answer(lease, &answer, n_events);

        let attempt = Attempt {
            from_seq: first_sent.unwrap_or(last),
            to_seq: last,
            n_events: i32::try_from(n_events).unwrap_or(i32::MAX),
            n_requests: 1,
            started_at: sent_at.into(),
            duration,
            status: answer.status,
            outcome: answer.outcome.as_str(),
            reason: answer.reason.clone(),
        };
        let reason = answer.reason.unwrap_or_default();
        let stay = Settlement { attempts: vec![attempt], ..Settlement::stay(lease) };
        match answer.outcome {
            Outcome::Delivered => {
                bisection.settled(last);
                let is_small = n_events < SMALL_BATCH_EVENTS && bisection.limit().is_none();
                log_unsent(lease, expired.len());
                StepResult {
                    settlement: Settlement {
                        cursor: last,
                        delivered: kinds,
                        n_erased,
                        dead: expired,
                        n_attempts: 0,
                        n_refused: 0,
                        keep: bisection.limit().is_none(),
                        ..stay
                    },
                    since,
                    next: if is_small { StepOutcome::Debounce } else { StepOutcome::Continue },
                }
            }
            Outcome::Refused if n_events == 1 && lease.n_refused + 1 >= MAX_REFUSED => {
                bisection.reset();
                let reason = format!(
                    "ten events in a row were refused by Segment, the last like this: {reason}. Are the endpoint and the \
                     write key right? Save a key, or resume the source, to go on"
                );
                tracing::warn!(source.id = %lease.source_id, reason, "delivery paused");
                StepResult::of(
                    Settlement { pause: Some(Pause::Destination(reason)), n_attempts: 0, ..stay },
                    StepOutcome::Continue,
                )
            }
            Outcome::Refused if n_events == 1 => {
                bisection.found(last);
                let dead = expired
                    .into_iter()
                    .chain(first_event.map(|first_event| NewDeadLetter { reason, ..first_event }))
                    .collect();
                let n_refused = lease.n_refused + 1;
                StepResult::of(
                    Settlement { cursor: last, dead, n_erased, n_attempts: 0, n_refused, ..stay },
                    StepOutcome::Continue,
                )
            }
            Outcome::Refused => {
                bisection.refused(n_events, last);
                StepResult::of(Settlement { n_attempts: 0, ..stay }, StepOutcome::Continue)
            }
            Outcome::Retry { after } => {
                let n_attempts = lease.n_attempts.saturating_add(1);
                let wait = retry::wait(n_attempts.unsigned_abs(), after, random::fraction());
                StepResult::of(
                    Settlement { n_attempts, wait, last_error: Some(reason), ..stay },
                    StepOutcome::Backoff(wait),
                )
            }
            Outcome::Pause => {
                StepResult::of(Settlement { pause: Some(Pause::Destination(reason)), ..stay }, StepOutcome::Continue)
            }
        }
    }
}

/// Passes the numbers before `next_seq`, which have no events.
fn pass_missing(lease: &Lease, next_seq: i64) -> StepResult {
    let cursor = lease.cursor.max(next_seq - 1);
    let n_done = lease.done_ahead.iter().filter(|seq| **seq <= cursor).count();
    let n_missing = cursor - lease.cursor - to_i64(n_done);
    if n_missing > 0 {
        tracing::error!(
            source.id = %lease.source_id, from_seq = lease.cursor + 1, to_seq = cursor, n_missing,
            "events are missing from the log; was a part of the database restored?"
        );
    }
    StepResult::of(Settlement { cursor, n_missing, ..Settlement::stay(lease) }, StepOutcome::Continue)
}

/// Settles a step in which nothing was to be sent.
fn settle_unsent(lease: &Lease, plan: BatchPlan) -> StepResult {
    let wait = match plan.next_expiry {
        Some(at) => Duration::try_from(at - OffsetDateTime::now_utc()).unwrap_or_default() + Duration::from_secs(1),
        None if plan.last.is_none() => {
            tracing::error!(source.id = %lease.source_id, "events are counted, but not there");
            INCONSISTENT_LOG_DELAY
        }
        None => Duration::ZERO,
    };
    let wait = wait.min(LONGEST_WAIT);
    log_unsent(lease, plan.expired.len());
    let cursor = plan.last.unwrap_or(lease.cursor);
    StepResult::of(
        Settlement { cursor, dead: plan.expired, n_erased: plan.n_erased, wait, ..Settlement::stay(lease) },
        if wait > Duration::ZERO { StepOutcome::Park(wait) } else { StepOutcome::Continue },
    )
}

pub(super) fn log_unsent(lease: &Lease, n_events: usize) {
    if n_events > 0 {
        tracing::warn!(source.id = %lease.source_id, n_events, "events were too old (or too large) to deliver");
    }
}

fn log_answer(lease: &Lease, answer: &Answer, n_events: usize) {
    let reason = answer.reason.as_deref().unwrap_or_default();
    let cause = answer.failure.map_or("answer", Failure::as_str);
    match answer.outcome {
        Outcome::Delivered => tracing::debug!(source.id = %lease.source_id, n_events, "delivered"),
        Outcome::Retry { .. } => {
            tracing::info!(source.id = %lease.source_id, n_events, cause, reason, attempts = lease.n_attempts + 1, "to be sent again");
        }
        Outcome::Refused => tracing::warn!(source.id = %lease.source_id, n_events, reason, "refused"),
        Outcome::Pause => tracing::warn!(source.id = %lease.source_id, n_events, reason, "delivery paused"),
    }
}

pub(super) fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
