//! The loops that commit: while the commits of some are in flight, another makes the next group ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{Mutex, MutexGuard};

use super::group::Group;
use super::queue::Queue;
use crate::due::{WakeReason, Wakeups};
use crate::metrics::Metrics;
use crate::store::connection::KeptConnection;
use crate::store::log::{self, Append, Lane};
use crate::store::set_aside;

/// How long duplicates are expected after one was seen: redeliveries come in crowds. Looking for them costs a little
/// with every event; being surprised costs a commit.
const DUPLICATES: Duration = Duration::from_secs(5);
/// How often another replica may append the same event in the same moment, before the webhook is sent back.
const MAX_RACES: u32 = 5;

/// What the loops share.
pub struct Commits {
    pub due: Arc<Wakeups>,
    pub metrics: Arc<Metrics>,
    pub queue: Arc<Queue>,
    /// Held by the loop that takes the next group, until it is that group's turn.
    pub taking: Mutex<()>,
    /// One a lane, held by the loop whose commit is in flight: in a lane, no group overtakes another.
    pub turns: Vec<Mutex<Turn>>,
}

/// What a lane has.
pub struct Turn {
    connection: KeptConnection,
    duplicates_until: Option<Instant>,
}

impl Turn {
    /// A lane's, before its first commit.
    pub fn new(pool: &PgPool) -> Self {
        Self { connection: KeptConnection::new(pool), duplicates_until: None }
    }
}

type Turns<'a> = Vec<MutexGuard<'a, Turn>>;

impl Commits {
    /// Commits what waits, until the queue is closed and nothing that was taken is left unanswered.
    pub async fn run(self: Arc<Self>) {
        loop {
            let taking = self.taking.lock().await;
            let Some((lanes, webhooks)) = self.queue.take().await else { return };
            // Made ready while other commits may be in flight.
            let group = Group::of(webhooks);
            let mut turns = Turns::new();
            for lane in &lanes {
                turns.push(self.turns[lane.index()].lock().await);
            }
            drop(taking);
            self.commit(&lanes, group, turns).await;
        }
    }

    async fn commit(&self, lanes: &[Lane], group: Group, mut turns: Turns<'_>) {
        let began = Instant::now();
        let stored = store(lanes, &group, &mut turns).await;
        drop(turns);
        self.queue.done();
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.commit_events.observe(u32::try_from(group.append.events().len()).map_or(f64::MAX, f64::from));
        match stored {
            Ok(new) => {
                self.due.wake(WakeReason::NewEvents, group.accounts());
                group.answer(new, &self.metrics);
            }
            Err(error) => {
                tracing::error!(%error, webhooks = group.len(), events = group.append.events().len(), "not stored");
                group.refuse();
            }
        }
    }
}

/// Stores what is set aside first: if the events' statement then fails, the webhook comes again, and sets aside nothing
/// twice. Says which events are new, by the account's place; `None`: all.
async fn store(lanes: &[Lane], group: &Group, turns: &mut Turns<'_>) -> sqlx::Result<Option<Vec<Vec<bool>>>> {
    let now = Instant::now();
    let expects_duplicates = turns.iter().any(|turn| turn.duplicates_until.is_some_and(|until| until >= now));
    let db = &mut turns[0].connection;
    if !group.set_aside.is_empty() {
        db.run(async |db| set_aside::insert(db, lanes, &group.set_aside).await).await?;
    }
    let events = group.append.events();
    if events.is_empty() {
        return Ok(None);
    }
    if !expects_duplicates {
        match db.run(async |db| log::append(db, lanes, &group.append).await).await {
            Err(error) if log::is_duplicate(&error) => {
                for turn in turns.iter_mut() {
                    turn.duplicates_until = Some(now + DUPLICATES);
                }
            }
            done => return done.map(|()| None),
        }
    }
    let db = &mut turns[0].connection;
    let mut n_attempts = 1;
    loop {
        let (new, is_new) = db.run(async |db| events.without_known(db).await).await?;
        if new.is_empty() {
            return Ok(Some(is_new));
        }
        let append = Append::new(new);
        match db.run(async |db| log::append(db, lanes, &append).await).await {
            Err(error) if log::is_duplicate(&error) && n_attempts < MAX_RACES => n_attempts += 1,
            done => return done.map(|()| Some(is_new)),
        }
    }
}
