//! The workers that commit: while the commits of some are in flight, another makes the next batch ready.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdMutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::sleep_until;
use uuid::Uuid;

use super::IngestError;
use super::batch::{CommitBatch, PendingWebhook, People, Stored, appended_sources, refuse};
use super::queue::{Commit, CommitQueue, Queued, Work};
use crate::metrics::Metrics;
use crate::store::append::Append;
use crate::store::calls;
use crate::store::connection::{Connection, is_lock_timeout};
use crate::store::forgotten_user;
use crate::store::is_of_one_source;
use crate::store::log::{self, Appended, Lane};
use crate::store::quarantine;
use crate::wakeups::{WakeReason, Wakeups};

/// How long duplicates are expected after one was seen: redeliveries come in bursts. Looking for them costs a little with
/// every event; being surprised costs a commit.
const DEDUP_CHECK_WINDOW: Duration = Duration::from_secs(5);
/// How often another replica may append the same event in the same moment, before the webhook is sent back.
const MAX_CONFLICT_RETRIES: u32 = 5;
/// How long commits of one source each may keep others waiting.
const MAX_APART: Duration = Duration::from_secs(1);

/// What the workers share.
pub struct CommitWorkers {
    pub due: Arc<Wakeups>,
    pub metrics: Arc<Metrics>,
    pub queue: Arc<SharedQueue>,
    /// Held by the worker that takes the next commit, until it is that commit's turn.
    pub dequeue_lock: Mutex<()>,
    /// One a lane, held by the worker whose commit is in flight: in a lane, no commit overtakes another.
    pub lanes: Vec<Mutex<LaneState>>,
    /// Looks after held sources.
    pub prober: Mutex<Connection>,
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
/// here. This wakes a worker when there is a commit to make, or an earlier time to wait for.
pub struct SharedQueue {
    queue: StdMutex<CommitQueue<PendingWebhook>>,
    work_available: Notify,
}

impl SharedQueue {
    /// An empty one in which at most `max_held` webhooks wait for sources that are held.
    pub fn new(max_held: usize) -> Self {
        Self { queue: StdMutex::new(CommitQueue::new(max_held)), work_available: Notify::new() }
    }

    /// Changes the queue, and wakes a worker where there is something to do that there was not. Webhooks that `change`
    /// returns are refused.
    pub fn change<R: IntoIterator<Item = Queued<PendingWebhook>>>(
        &self,
        change: impl FnOnce(&mut CommitQueue<PendingWebhook>, Instant) -> R,
    ) {
        // In this order: whoever waits for work has looked at the time before.
        let (mut queue, now) = (self.lock(), Instant::now());
        let work = |queue: &CommitQueue<_>| (queue.has_commit(now), queue.is_exhausted(), queue.next_timer(now));
        let (commit_before, end_before, timer_before) = work(&queue);
        let refused = change(&mut queue, now);
        let (commit, end, timer) = work(&queue);
        drop(queue);
        let is_earlier = timer.is_some_and(|timer| timer_before.is_none_or(|before| timer < before));
        if commit && !commit_before || end && !end_before || is_earlier {
            self.work_available.notify_one();
        }
        refuse(refused, IngestError::TooManyWaiting);
    }

    /// Waits for something to do, and takes it; `None` at the end.
    async fn take(&self) -> Option<(Work<PendingWebhook>, InFlight<'_>)> {
        loop {
            let next_timer = {
                let (mut queue, now) = (self.lock(), Instant::now());
                if let Some(work) = queue.take(now, |pending| pending.reply.is_abandoned()) {
                    let is_commit = matches!(work, Work::Commit(_));
                    return Some((work, InFlight(is_commit.then_some(self))));
                }
                if queue.is_exhausted() {
                    return None;
                }
                queue.next_timer(now)
            };
            let available = self.work_available.notified();
            match next_timer {
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
struct InFlight<'a>(Option<&'a SharedQueue>);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(queue) = self.0 {
            queue.change(|queue, _| {
                queue.finish();
                None
            });
        }
    }
}

impl CommitWorkers {
    /// Commits what waits, until the queue is closed and nothing that was taken is left unanswered.
    pub async fn run(self: Arc<Self>) {
        loop {
            let dequeue = self.dequeue_lock.lock().await;
            let Some((work, _in_flight)) = self.queue.take().await else { return };
            let Commit { lanes: ids, mut webhooks } = match work {
                Work::Commit(commit) => commit,
                Work::Probe(sources) => {
                    drop(dequeue);
                    self.probe(&sources).await;
                    continue;
                }
            };
            // Made ready while other commits may be in flight, but where those decide what becomes of it.
            let concerns_people = People::concern(&webhooks);
            let mut batch = (!concerns_people).then(|| CommitBatch::new(&webhooks, People::default()));
            let mut lanes = Lanes::new();
            for lane in &ids {
                lanes.push(self.lanes[lane.index()].lock().await);
            }
            drop(dequeue);
            let n_taken = webhooks.len();
            self.queue.change(|queue, _| queue.hold_back(&mut webhooks));
            if webhooks.len() < n_taken {
                batch = None;
            }
            let began = Instant::now();
            self.commit(&ids, webhooks, batch, &mut lanes).await;
            self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        }
    }

    /// Sources that no other session of the database holds any more are released.
    async fn probe(&self, sources: &[Uuid]) {
        let appendable = async |db: &mut PgConnection| log::appendable(db, sources).await;
        match self.prober.lock().await.run(appendable).await {
            Ok(free) => self.queue.change(|queue, _| {
                for source in free {
                    queue.release(source);
                }
                None
            }),
            Err(error) => tracing::debug!(%error, "cannot look whether held sources are free"),
        }
    }

    /// `batch` is what these webhooks come to, where that is known by now.
    async fn commit(&self, ids: &[Lane], webhooks: Webhooks, batch: Option<CommitBatch>, lanes: &mut Lanes<'_>) {
        match store(ids, &webhooks, batch, lanes).await {
            Ok((batch, stored)) => self.reply(webhooks, batch, stored),
            // It may be one source alone that fails: because another session holds its rows, or because they are damaged.
            Err(error) if is_of_one_source(&error) => self.commit_apart(ids, webhooks, lanes).await,
            Err(error) => not_stored(webhooks, &error),
        }
    }

    /// Commits what belongs to sources that no other session holds; the others are held back. Where that fails again, each
    /// is committed alone.
    async fn commit_apart(&self, ids: &[Lane], webhooks: Webhooks, lanes: &mut Lanes<'_>) {
        let mut sources: Vec<Uuid> = webhooks.iter().map(|queued| queued.source).collect();
        sources.sort_unstable();
        sources.dedup();
        let free = lanes[0].connection.run(async |db| log::appendable(db, &sources).await).await;
        let free = match free {
            Ok(free) => free,
            Err(error) => return not_stored(webhooks, &error),
        };
        let (webhooks, held): (Webhooks, Webhooks) =
            webhooks.into_iter().partition(|queued| free.contains(&queued.source));
        if held.is_empty() {
            // It is something else of theirs.
            return self.commit_each(ids, webhooks, lanes).await;
        }
        self.hold(held);
        match store(ids, &webhooks, None, lanes).await {
            Ok((batch, stored)) => self.reply(webhooks, batch, stored),
            Err(error) if is_of_one_source(&error) => self.commit_each(ids, webhooks, lanes).await,
            Err(error) => not_stored(webhooks, &error),
        }
    }

    async fn commit_each(&self, ids: &[Lane], webhooks: Webhooks, lanes: &mut Lanes<'_>) {
        let mut by_source: BTreeMap<Uuid, Webhooks> = BTreeMap::new();
        for queued in webhooks {
            by_source.entry(queued.source).or_default().push(queued);
        }
        let began = Instant::now();
        for (_, webhooks) in by_source {
            if began.elapsed() > MAX_APART {
                // Others wait as well.
                self.hold(webhooks);
                continue;
            }
            match store(ids, &webhooks, None, lanes).await {
                Ok((batch, stored)) => self.reply(webhooks, batch, stored),
                Err(error) if is_lock_timeout(&error) => self.hold(webhooks),
                Err(error) => not_stored(webhooks, &error),
            }
        }
    }

    fn reply(&self, webhooks: Webhooks, mut batch: CommitBatch, stored: Stored) {
        let n_events = u32::try_from(batch.append.events().len());
        self.metrics.commit_events.observe(n_events.map_or(f64::MAX, f64::from));
        let committed = batch.take_committed(&stored.appended);
        let handed_on: HashSet<Uuid> = committed.iter().map(|(source, _)| *source).collect();
        let in_log = appended_sources(&webhooks).filter(|source| !handed_on.contains(source));
        let in_log: Vec<Uuid> = in_log.collect();
        // First, so that the web server's threads wake up before the delivery's.
        batch.reply(webhooks, stored, &self.metrics);
        self.due.wake(WakeReason::NewEvents, in_log);
        self.due.committed(committed);
    }

    fn hold(&self, webhooks: Webhooks) {
        if !webhooks.is_empty() {
            let sources: HashSet<Uuid> = webhooks.iter().map(|queued| queued.source).collect();
            tracing::warn!(?sources, "another session of the database holds these sources; their webhooks wait");
            self.queue.change(|queue, now| queue.hold(webhooks, now));
        }
    }
}

fn not_stored(webhooks: Webhooks, error: &sqlx::Error) {
    if !webhooks.is_empty() {
        tracing::error!(%error, webhooks = webhooks.len(), "not stored");
        refuse(webhooks, IngestError::Database);
    }
}

/// Stores these webhooks: first what is set aside, and calls that are to wait. If the events' statement then fails, the
/// webhooks come again, and set aside nothing twice.
async fn store(
    ids: &[Lane],
    webhooks: &[Queued<PendingWebhook>],
    batch: Option<CommitBatch>,
    lanes: &mut Lanes<'_>,
) -> sqlx::Result<(CommitBatch, Stored)> {
    let db = &mut lanes[0].connection;
    let batch = match batch {
        Some(batch) => batch,
        None => CommitBatch::new(webhooks, db.run(async |db| People::find(db, webhooks).await).await?),
    };
    let (mut all_there, mut held) = (true, HashSet::new());
    if !batch.quarantine.is_empty() {
        all_there &= db.run(async |db| quarantine::insert(db, ids, &batch.quarantine).await).await?;
    }
    let (accounts, users) = &batch.forgotten;
    if !users.is_empty() {
        db.run(async |db| forgotten_user::forget(db, accounts, users).await).await?;
    }
    if !batch.holds.is_empty() {
        held = db.run(async |db| calls::hold(db, &batch.holds).await).await?;
        // Where none is new, that may be because its source is gone.
        all_there &= !held.is_empty();
    }
    let (new, appended) = append(ids, &batch, lanes).await?;
    all_there &= appended.is_some();
    let mut stored = Stored { new, held, gone: HashSet::new(), appended: appended.unwrap_or_default() };
    if !all_there {
        let sources = batch.sources();
        let existing = lanes[0].connection.run(async |db| log::existing(db, &sources).await).await?;
        stored.gone = sources.into_iter().filter(|source| !existing.contains(source)).collect();
    }
    Ok((batch, stored))
}

/// Says which events are new, by the place of their source (`None`: all), and where they are in the log, if that is the same
/// as in the batch; `None`: not all sources are there any more.
async fn append(
    ids: &[Lane],
    batch: &CommitBatch,
    lanes: &mut Lanes<'_>,
) -> sqlx::Result<(Option<Vec<Vec<bool>>>, Option<Vec<Appended>>)> {
    let events = batch.append.events();
    if events.is_empty() {
        return Ok((None, Some(Vec::new())));
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
            done => return done.map(|appended| (None, appended)),
        }
    }
    let db = &mut lanes[0].connection;
    let mut n_attempts = 1;
    loop {
        let (new, is_new) = db.run(async |db| events.filter_duplicates(db).await).await?;
        let append = Append::without_duplicates(&batch.append, new, &is_new);
        match db.run(async |db| log::append(db, ids, &append).await).await {
            Err(error) if log::is_duplicate(&error) && n_attempts < MAX_CONFLICT_RETRIES => n_attempts += 1,
            done => return done.map(|appended| (Some(is_new), appended.map(|_| Vec::new()))),
        }
    }
}
