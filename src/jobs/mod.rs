//! Jobs: what an admin asks for once, and the program does in the background, step by step.
//!
//! Jobs are rows of the database. Whichever program leases one does its next step, each a few statements, and gives it
//! free again: so a job survives the program that began it, and however many there are, each moves on.

mod erase;
mod replay;
mod replay_outcome;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::store::connection::Connection;
use crate::store::{erase_job, replay_job};
use crate::ticks;
use crate::wakeups::Wakeups;

/// Waits until due steps are looked for again. Nobody misses a job for a second.
async fn a_while() {
    ticks::after(ticks::TICK).await;
}

/// Does the steps of jobs.
pub struct JobWorker {
    db: Connection,
    /// The number to lease under.
    holder: i32,
    wakeups: Arc<Wakeups>,
}

impl JobWorker {
    /// A worker that leases under `holder`, which no other program has.
    #[must_use]
    pub fn new(db: Connection, holder: i32, wakeups: Arc<Wakeups>) -> Self {
        Self { db, holder, wakeups }
    }

    /// Does what is due until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_away = false;
        while let Some(done) = stop.run_until_cancelled(self.round()).await {
            match &done {
                Err(error) if !is_away => tracing::warn!(%error, "a job's step failed; it is done again"),
                Ok(_) | Err(_) => {}
            }
            is_away = done.is_err();
            let has_more = done.unwrap_or(false);
            if !has_more && stop.run_until_cancelled(a_while()).await.is_none() {
                return;
            }
        }
    }

    /// Does the next step of each job that is due; one that fails keeps none of the others. Says whether one of them has
    /// more to do at once.
    async fn round(&mut self) -> sqlx::Result<bool> {
        let holder = self.holder;
        let mut done = Ok(false);
        for job in self.db.run(async |db| replay_job::lease_due(db, holder).await).await? {
            let more = replay::step(&mut self.db, &self.wakeups, &job).await;
            done = done.and_then(|any| Ok(any | more?));
        }
        for job in self.db.run(async |db| erase_job::lease_due(db, holder).await).await? {
            let more = erase::step(&mut self.db, &job).await;
            done = done.and_then(|any| Ok(any | more?));
        }
        done
    }
}
