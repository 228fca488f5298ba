//! The workers that commit: while the commits of some are in flight, another makes the next batch ready.

use std::collections::HashSet;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdMutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::sleep_until;
use uuid::Uuid;

use super::batch::{CommitBatch, PendingWebhook, Stored, appended_sources, refuse};
use super::queue::{Commit, CommitQueue, Queued};
use crate::due::{WakeReason, Wakeups};
use crate::metrics::Metrics;
use crate::store::append::Append;
use crate::store::connection::{Connection, is_lock_timeout};
use crate::store::log::{self, Lane};
use crate::store::set_aside;

/// How long duplicates are expected after one was seen: redeliveries come in bursts. Looking for them costs a little with
/// every event; being surprised costs a commit.
const DEDUP_CHECK_WINDOW: Duration = Duration::from_secs(5);
/// How often another replica may append the same event in the same moment, before the webhook is sent back.
const MAX_CONFLICT_RETRIES: u32 = 5;
/// How long a source is left alone whose rows another session holds.
const HOLD: Duration = Duration::from_millis(200);

/// What the workers share.
pub struct CommitWorkers {
    pub due: Arc<Wakeups>,
    pub metrics: Arc<Metrics>,
    pub queue: Arc<SharedQueue>,
    /// Held by the worker that takes the next commit, until it is that commit's turn.
    pub dequeue_lock: Mutex<()>,
    /// One a lane, held by the worker whose commit is in flight: in a lane, no commit overtakes another.
    pub lanes: Vec<Mutex<LaneState>>,
}

/// What a lane has.
pub struct LaneState {
    connection: Connection,
    duplicates_until: Option<Instant>,
}

impl LaneState {
    /// A lane's, before its first commit.
    pub fn new(connection: Connection) -> Self {
        Self { connection, duplicates_until: None }
    }
}

type Lanes<'a> = Vec<MutexGuard<'a, LaneState>>;
type Webhooks = Vec<Queued<PendingWebhook>>;

/// The queue, and how a worker is woken.
///
/// Not a channel: a receiver is woken for each message, and that costs as much as the rest of a webhook's way through
/// here. This wakes a worker when there is a commit to make.
#[derive(Default)]
pub struct SharedQueue {
    queue: StdMutex<CommitQueue<PendingWebhook>>,
    work_available: Notify,
}

impl SharedQueue {
    /// Changes the queue, and wakes a worker where there is something to do that there was not.
    pub fn change(&self, change: impl FnOnce(&mut CommitQueue<PendingWebhook>)) {
        let is_work = |queue: &CommitQueue<_>| (queue.has_commit(), queue.next_retry(), queue.is_exhausted());
        let mut queue = self.lock();
        let before = is_work(&queue);
        change(&mut queue);
        let after = is_work(&queue);
        drop(queue);
        if after != before && after != (false, None, false) {
            self.work_available.notify_one();
        }
    }

    /// Waits for a commit to make, and takes it; `None` at the end.
    async fn take(&self) -> Option<InFlight<'_>> {
        loop {
            let next_retry = {
                let mut queue = self.lock();
                if let Some(commit) = queue.take(Instant::now(), |pending| pending.reply.is_abandoned()) {
                    return Some(InFlight { queue: (!commit.is_trial).then_some(self), commit });
                }
                if queue.is_exhausted() {
                    return None;
                }
                queue.next_retry()
            };
            let available = self.work_available.notified();
            match next_retry {
                Some(at) => tokio::select! {
                    () = available => {}
                    () = sleep_until(at.into()) => {}
                },
                None => available.await,
            }
        }
    }

    fn lock(&self) -> StdMutexGuard<'_, CommitQueue<PendingWebhook>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit that was taken. However it ends, the queue is told.
struct InFlight<'a> {
    queue: Option<&'a SharedQueue>,
    commit: Commit<PendingWebhook>,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(queue) = self.queue {
            queue.change(CommitQueue::finish);
        }
    }
}

impl CommitWorkers {
    /// Commits what waits, until the queue is closed and nothing that was taken is left unanswered.
    pub async fn run(self: Arc<Self>) {
        loop {
            let dequeue = self.dequeue_lock.lock().await;
            let Some(mut in_flight) = self.queue.take().await else { return };
            let webhooks = std::mem::take(&mut in_flight.commit.webhooks);
            // Made ready while other commits may be in flight.
            let batch = CommitBatch::new(&webhooks);
            let mut lanes = Lanes::new();
            for lane in &in_flight.commit.lanes {
                lanes.push(self.lanes[lane.index()].lock().await);
            }
            drop(dequeue);
            self.commit(&in_flight, webhooks, batch, lanes).await;
        }
    }

    async fn commit(&self, in_flight: &InFlight<'_>, webhooks: Webhooks, batch: CommitBatch, mut lanes: Lanes<'_>) {
        let Commit { lanes: ids, is_trial, .. } = &in_flight.commit;
        let began = Instant::now();
        let stored = if *is_trial {
            self.store_free(ids, webhooks, &mut lanes).await
        } else {
            match store(ids, &batch, &mut lanes).await {
                Err(error) if is_lock_timeout(&error) => self.store_free(ids, webhooks, &mut lanes).await,
                Err(error) => Err((webhooks, error)),
                Ok(stored) => Ok(Some((webhooks, batch, stored))),
            }
        };
        drop(lanes);
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        match stored {
            Ok(Some((webhooks, batch, stored))) => {
                let n_events = u32::try_from(batch.append.events().len());
                self.metrics.commit_events.observe(n_events.map_or(f64::MAX, f64::from));
                self.due.wake(WakeReason::NewEvents, appended_sources(&webhooks));
                batch.reply(webhooks, stored, &self.metrics);
            }
            Ok(None) => {}
            Err((webhooks, error)) => {
                tracing::error!(%error, webhooks = webhooks.len(), "not stored");
                refuse(webhooks);
            }
        }
    }

    /// Stores what belongs to sources that no other session of the database holds; the others are held back. `None`:
    /// nothing is left to be answered now.
    async fn store_free(
        &self,
        ids: &[Lane],
        webhooks: Webhooks,
        lanes: &mut Lanes<'_>,
    ) -> Result<Option<(Webhooks, CommitBatch, Stored)>, (Webhooks, sqlx::Error)> {
        let mut sources: Vec<Uuid> = webhooks.iter().map(|queued| queued.source).collect();
        sources.sort_unstable();
        sources.dedup();
        let free = lanes[0].connection.run(async |db| log::appendable(db, ids, &sources).await).await;
        let free = match free {
            Ok(free) => free,
            Err(error) => return Err((webhooks, error)),
        };
        let (webhooks, held): (Webhooks, Webhooks) =
            webhooks.into_iter().partition(|queued| free.contains(&queued.source));
        self.hold(held);
        let batch = CommitBatch::new(&webhooks);
        match store(ids, &batch, lanes).await {
            Ok(stored) => {
                self.queue.change(|queue| free.iter().for_each(|source| queue.release(*source)));
                Ok((!webhooks.is_empty()).then_some((webhooks, batch, stored)))
            }
            Err(error) if is_lock_timeout(&error) => {
                self.hold(webhooks);
                Ok(None)
            }
            Err(error) => Err((webhooks, error)),
        }
    }

    fn hold(&self, webhooks: Webhooks) {
        if !webhooks.is_empty() {
            let sources: HashSet<Uuid> = webhooks.iter().map(|queued| queued.source).collect();
            tracing::warn!(?sources, "another session of the database holds these accounts; their webhooks wait");
            self.queue.change(|queue| queue.hold(webhooks, Instant::now() + HOLD));
        }
    }
}

/// Stores what is set aside first: if the events' statement then fails, the webhook comes again, and sets aside nothing
/// twice.
async fn store(ids: &[Lane], batch: &CommitBatch, lanes: &mut Lanes<'_>) -> sqlx::Result<Stored> {
    let mut all_there = true;
    if !batch.set_aside.is_empty() {
        let insert = lanes[0].connection.run(async |db| set_aside::insert(db, ids, &batch.set_aside).await);
        all_there &= insert.await?;
    }
    let (new, appended) = append(ids, batch, lanes).await?;
    let mut stored = Stored { new, gone: HashSet::new() };
    if !(all_there && appended) {
        let mut sources = batch.set_aside.accounts();
        sources.extend(batch.append.events().accounts());
        let existing = lanes[0].connection.run(async |db| log::existing(db, &sources).await).await?;
        stored.gone = sources.into_iter().filter(|source| !existing.contains(source)).collect();
    }
    Ok(stored)
}

/// Says which events are new, by the place of their source (`None`: all), and whether all sources are there.
async fn append(
    ids: &[Lane],
    batch: &CommitBatch,
    lanes: &mut Lanes<'_>,
) -> sqlx::Result<(Option<Vec<Vec<bool>>>, bool)> {
    let events = batch.append.events();
    if events.is_empty() {
        return Ok((None, true));
    }
    let now = Instant::now();
    let expects_duplicates = lanes.iter().any(|lane| lane.duplicates_until.is_some_and(|until| until >= now));
    if !expects_duplicates {
        let append = lanes[0].connection.run(async |db| log::append(db, ids, &batch.append).await);
        match append.await {
            Err(error) if log::is_duplicate(&error) => {
                for lane in lanes.iter_mut() {
                    lane.duplicates_until = Some(now + DEDUP_CHECK_WINDOW);
                }
            }
            done => return done.map(|all_there| (None, all_there)),
        }
    }
    let db = &mut lanes[0].connection;
    let mut n_attempts = 1;
    loop {
        let (new, is_new) = db.run(async |db| events.without_known(db).await).await?;
        if new.is_empty() {
            return Ok((Some(is_new), true));
        }
        let append = Append::new(new);
        match db.run(async |db| log::append(db, ids, &append).await).await {
            Err(error) if log::is_duplicate(&error) && n_attempts < MAX_CONFLICT_RETRIES => n_attempts += 1,
            done => return done.map(|all_there| (Some(is_new), all_there)),
        }
    }
}
