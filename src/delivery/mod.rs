//! Delivers the log to Segment.
//!
//! A source that is due gets **steps**, one at a time: lease it, read what lies after its cursor, send that, settle.
//! The cursor moves only after Segment has answered, so a crash anywhere means a repeat, never a loss; a repeat carries
//! the same `messageId`. Sources take turns step by step, so a large backlog delays nobody. Whose turn it is, the
//! `scheduler` decides; what is here runs its steps and tells it what happens.
//!
//! Run by [`app`](crate::app) alone. Writes no SQL: see [`store::lease`](crate::store::lease).

mod batcher;
mod bisection;
mod call_window;
mod calls;
mod open_files;
mod plan;
mod poller;
mod scheduler;
mod settings;
mod settle;
mod statements;
mod worker;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join, join_all, try_join};
use futures_util::stream::FuturesUnordered;
use reqwest::Url;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use crate::config::Endpoints;
use crate::destinations::InFlight;
use crate::secrets::{Source, SourceCache};
use crate::sources::Kind;
use crate::wakeups::Wakeups;
pub use batcher::{BatchError, RequestBatcher};
use bisection::Bisection;
pub use poller::{DuePoller, PollerError};
pub use scheduler::StepOutcome;
use scheduler::{Address, Limits, Scheduler};
pub use worker::DeliveryWorker;

/// How long to leave a source alone when the database fails a step.
const DB_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long the steps in flight have to settle when the program ends: what a request to Segment may take, and a moment.
const DRAIN: Duration = Duration::from_secs(18);
/// After this, what steps have left for later is settled: nobody misses it for so long, and a process that dies repeats no
/// more.
const SETTLE_AFTER: Duration = Duration::from_millis(200);

/// Delivers for the sources that are woken.
pub struct Delivery {
    worker: Arc<DeliveryWorker>,
    wakeups: Arc<Wakeups>,
    sources: Arc<SourceCache>,
}

/// Delivery cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A step ended before its time. What it did is not known, nor whether the next would do better.
    #[error("a step of the delivery panicked")]
    StepPanicked(#[source] JoinError),
}

impl Delivery {
    /// A delivery for the sources that are woken in `wakeups`; where each delivers to, `sources` know.
    #[must_use]
    pub fn new(worker: Arc<DeliveryWorker>, wakeups: Arc<Wakeups>, sources: Arc<SourceCache>) -> Self {
        Self { worker, wakeups, sources }
    }

    /// Delivers until `stop`, then lets the steps in flight settle, and what they had left for later, for 18 s at most.
    ///
    /// # Errors
    /// [`DeliveryError`]; steps in flight are broken off, and their batches will be sent again. The program should end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), DeliveryError> {
        let Self { worker, wakeups, sources } = self;
        let address_of = |id| address_of(&worker.endpoints, sources.find_by_id(id).as_deref());
        let in_flight = || worker.client.in_flight() + worker.nudgespot.in_flight();
        let run_step = |source, mut bisection: Bisection| {
            let worker = Arc::clone(&worker);
            let kind = sources.find_by_id(source).and_then(|source| source.kind);
            let takes_calls = kind.is_some_and(Kind::takes_calls);
            let stop = stop.clone();
            async move {
                let outcome = worker.step(source, takes_calls, &mut bisection, &stop).await.unwrap_or_else(|error| {
                    tracing::debug!(%error, "a step of the delivery could not be stored");
                    StepOutcome::Backoff(DB_RETRY_DELAY)
                });
                (outcome, bisection)
            }
            .instrument(tracing::info_span!("delivery_step", source.id = %source))
        };
        let steps = Steps::new(run_step).run(&stop, &wakeups, address_of, in_flight);
        try_join(steps, settle_deferred(&worker, &wakeups, &stop)).await.map(drop)
    }
}

/// Settles what steps have left for later, each source for itself: none waits for another's.
async fn settle_deferred(
    worker: &DeliveryWorker,
    wakeups: &Wakeups,
    stop: &CancellationToken,
) -> Result<(), DeliveryError> {
    let due = async || {
        wakeups.tail.has_unsettled().await;
        sleep(SETTLE_AFTER).await;
    };
    let begin = || wakeups.tail.take_unsettled().into_iter().map(|(lease, left)| worker.settle_deferred(lease, left));
    let (mut settling, mut next) = (FuturesUnordered::new(), pin!(due()));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = &mut next => {
                settling.extend(begin());
                next.set(due());
            }
            Some(()) = settling.next() => {}
        }
    }
    // From now on, steps leave nothing. What is left is tried for as long as there is time.
    wakeups.tail.end();
    let write = |(lease, left)| worker.write(lease, left, StepOutcome::Idle);
    let write_left = || join_all(wakeups.tail.take_unsettled().into_iter().map(write));
    let last = async {
        join(write_left(), settling.collect::<()>()).await;
        // What could not be settled at its first try.
        write_left().await;
    };
    if timeout(DRAIN, last).await.is_err() {
        tracing::warn!("stopped before all was settled; what was sent last will be sent again");
    }
    Ok(())
}

/// Where a source delivers to. All that lead to one server share its troubles.
fn address_of(endpoints: &Endpoints, source: Option<&Source>) -> Address {
    let Some(source) = source else { return Address::default() };
    let own = source.endpoint.as_deref().and_then(|endpoint| endpoint.parse().ok());
    let takes_calls = source.kind.is_some_and(Kind::takes_calls);
    let own = own.or_else(|| takes_calls.then(|| endpoints.nudgespot.clone()));
    let endpoint = own.or_else(|| source.region.map(|region| endpoints.of(region).clone()));
    let Some(endpoint): Option<Url> = endpoint else { return Address::default() };
    let mut hasher = DefaultHasher::new();
    (endpoint.host_str(), endpoint.port_or_known_default()).hash(&mut hasher);
    Address(hasher.finish())
}

/// The steps that the scheduler has started.
struct Steps<F> {
    scheduler: Scheduler,
    run_step: F,
    tasks: JoinSet<(StepOutcome, Bisection)>,
    running: HashMap<Id, Uuid>,
    /// Of the sources that search for a bad event.
    bisections: HashMap<Uuid, Bisection>,
}

impl<F, S> Steps<F>
where
    F: Fn(Uuid, Bisection) -> S,
    S: Future<Output = (StepOutcome, Bisection)> + Send + 'static,
{
    fn new(run_step: F) -> Self {
        Self {
            scheduler: Scheduler::new(Limits::of_process(open_files::raise_limit())),
            run_step,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            bisections: HashMap::new(),
        }
    }

    async fn run(
        mut self,
        stop: &CancellationToken,
        wakeups: &Wakeups,
        address_of: impl Fn(Uuid) -> Address,
        in_flight: impl Fn() -> InFlight,
    ) -> Result<(), DeliveryError> {
        loop {
            let now = now();
            while let Some(source) = self.scheduler.next_step(now, in_flight()) {
                self.start(source);
            }
            let timer = self.scheduler.next_timer(now).map(Instant::from_std);
            tokio::select! {
                () = stop.cancelled() => break,
                woken = wakeups.take() => {
                    let now = self::now();
                    for (source, reason) in woken {
                        self.scheduler.wake(source, reason, address_of(source), now);
                    }
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    let (id, (outcome, bisection)) = ended.map_err(DeliveryError::StepPanicked)?;
                    self.end(id, outcome, bisection);
                }
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                    self.scheduler.fire_timers(self::now());
                }
            }
        }
        self.drain().await
    }

    fn start(&mut self, source: Uuid) {
        let bisection = self.bisections.get(&source).copied().unwrap_or_default();
        let task = self.tasks.spawn((self.run_step)(source, bisection));
        self.running.insert(task.id(), source);
    }

    fn end(&mut self, id: Id, outcome: StepOutcome, bisection: Bisection) {
        let Some(source) = self.running.remove(&id) else { return };
        if bisection == Bisection::default() {
            self.bisections.remove(&source);
        } else {
            self.bisections.insert(source, bisection);
        }
        self.scheduler.step_ended(source, outcome, now());
    }

    async fn drain(mut self) -> Result<(), DeliveryError> {
        let draining = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.map_err(DeliveryError::StepPanicked)?;
            }
            Ok(())
        };
        timeout(DRAIN, draining).await.unwrap_or_else(|_| {
            // They are broken off where they are.
            tracing::warn!(steps = self.tasks.len(), "stopped before all was settled; these batches will be repeated");
            Ok(())
        })
    }
}

/// The monotonic clock, which tests can move.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;
    use crate::wakeups::WakeReason;

    async fn run<S>(
        run_step: impl Fn(Uuid, Bisection) -> S,
        stop: &CancellationToken,
        sources: impl IntoIterator<Item = u128>,
    ) -> Result<(), DeliveryError>
    where
        S: Future<Output = (StepOutcome, Bisection)> + Send + 'static,
    {
        let wakeups = Wakeups::default();
        wakeups.wake(WakeReason::NewEvents, sources.into_iter().map(Uuid::from_u128));
        Steps::new(run_step).run(stop, &wakeups, |_| Address(0), InFlight::default).await
    }

    #[tokio::test]
    async fn a_step_that_panics_ends_the_delivery_with_an_error() {
        let run_step = |source: Uuid, bisection| async move {
            assert!(!source.is_nil(), "a fault");
            std::future::pending::<()>().await;
            (StepOutcome::Idle, bisection)
        };
        let ended = run(run_step, &CancellationToken::new(), 0..9).await;
        assert!(matches!(ended, Err(DeliveryError::StepPanicked(_))), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn steps_that_do_not_end_are_broken_off_some_time_after_the_stop() {
        let stop = CancellationToken::new();
        let run_step = |_, bisection| {
            let stop = stop.clone();
            async move {
                stop.cancel();
                std::future::pending::<()>().await;
                (StepOutcome::Idle, bisection)
            }
        };
        let began = Instant::now();
        run(run_step, &stop, [0]).await.expect("in good order");
        assert_eq!(began.elapsed().as_secs(), DRAIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_flight_at_the_stop_ends_and_nothing_else_begins() {
        let (stop, n_ended) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let run_step = |_, bisection| {
            let (stop, n_ended) = (stop.clone(), Arc::clone(&n_ended));
            async move {
                stop.cancel();
                tokio::time::sleep(DRAIN / 2).await;
                n_ended.fetch_add(1, Ordering::Relaxed);
                (StepOutcome::Continue, bisection)
            }
        };
        run(run_step, &stop, 0..1_000).await.expect("in good order");
        assert_eq!(n_ended.load(Ordering::Relaxed), scheduler::MAX_CONCURRENT_STEPS / 2);
    }

    #[tokio::test]
    async fn a_search_for_a_bad_event_goes_on_in_the_next_step() {
        let (stop, found) = (CancellationToken::new(), Arc::new(Notify::new()));
        let run_step = |_, mut bisection: Bisection| {
            let (stop, found) = (stop.clone(), Arc::clone(&found));
            async move {
                match bisection.limit() {
                    None => bisection.refused(100, 100),
                    Some(50) => bisection.settled(50),
                    Some(_) => {
                        found.notify_one();
                        stop.cancel();
                    }
                }
                (StepOutcome::Continue, bisection)
            }
        };
        run(run_step, &stop, [0]).await.expect("in good order");
        found.notified().await;
    }
}
