//! The loops that commit, two a lane: while the commit of one is in flight, the other gathers the next group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::group::Group;
use super::queue::Queue;
use crate::due::{Call, Due};
use crate::metrics::Metrics;
use crate::store::log::{self, Lane};
use crate::store::set_aside;

/// How long duplicates are expected after one was seen: redeliveries come in crowds. Looking for them costs a little
/// with every event; being surprised costs a commit.
const DUPLICATES: Duration = Duration::from_secs(5);
/// How often another replica may append the same event in the same moment, before the webhook is sent back.
const MAX_RACES: u32 = 5;

/// What the loops of a lane share.
pub struct Commits {
    pub lane: Lane,
    pub pool: PgPool,
    pub due: Arc<Due>,
    pub metrics: Arc<Metrics>,
    pub queue: Arc<Queue>,
    /// Held by the loop that gathers.
    pub gathering: Mutex<()>,
    /// Held by the loop whose commit is in flight, and taken in the order of asking: a group never overtakes another.
    pub turn: Mutex<Turn>,
}

/// What a loop knows when it commits.
#[derive(Default)]
pub struct Turn {
    duplicates_until: Option<Instant>,
}

impl Commits {
    /// Commits what waits, until the queue is closed and nothing that was taken is left unanswered.
    pub async fn run(self: Arc<Self>) {
        loop {
            let gathering = self.gathering.lock().await;
            if !self.queue.has_some().await {
                return;
            }
            // It gathers until it is this loop's turn, or there is enough: that is made ready before its turn.
            let turn = tokio::select! {
                biased;
                turn = self.turn.lock() => Some(turn),
                () = self.queue.is_full() => None,
            };
            let group = Group::of(self.queue.take());
            let turn = match turn {
                Some(turn) => turn,
                None => self.turn.lock().await,
            };
            // The other loop may gather now; it will wait for its turn behind this one.
            drop(gathering);
            self.commit(group, turn).await;
        }
    }

    async fn commit(&self, group: Group, mut turn: MutexGuard<'_, Turn>) {
        let began = Instant::now();
        let stored = self.store(&group, &mut turn).await;
        drop(turn);
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.commit_events.observe(u32::try_from(group.append.len()).map_or(f64::MAX, f64::from));
        match stored {
            Ok(new) => {
                self.due.mark(Call::Appended, group.accounts());
                group.answer(new, &self.metrics);
            }
            Err(error) => {
                tracing::error!(%error, webhooks = group.len(), events = group.append.len(), "not stored");
                group.refuse();
            }
        }
    }

    /// Stores what is set aside first: if the events' statement then fails, the webhook comes again, and sets aside
    /// nothing twice. Returns the ids of the events that are new; `None`: all.
    async fn store(&self, group: &Group, turn: &mut Turn) -> sqlx::Result<Option<Vec<Uuid>>> {
        let Group { append, set_aside, .. } = group;
        if !set_aside.is_empty() {
            set_aside::insert(&self.pool, self.lane, set_aside).await?;
        }
        if append.is_empty() {
            return Ok(None);
        }
        if turn.duplicates_until.is_none_or(|until| until < Instant::now()) {
            match log::append_new(&self.pool, self.lane, append).await {
                Err(error) if log::is_duplicate(&error) => turn.duplicates_until = Some(Instant::now() + DUPLICATES),
                done => return done.map(|()| None),
            }
        }
        let mut n_attempts = 1;
        loop {
            match log::append_missing(&self.pool, self.lane, append).await {
                Err(error) if log::is_duplicate(&error) && n_attempts < MAX_RACES => n_attempts += 1,
                done => return done.map(Some),
            }
        }
    }
}
