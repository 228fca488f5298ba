//! Group commit: one statement for all webhooks that wait.
//!
//! A webhook is answered when **all** its events are committed. What arrives while a commit is in flight goes into the
//! next one, so a lone webhook waits for nobody, and a flood shares its commits. Nothing cancels a commit, least of all
//! a sender that hangs up.

mod answer;
mod commit_loop;
mod group;
mod queue;
mod webhook;

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::due::Wakeups;
use crate::metrics::Metrics;
use crate::store::log::Lane;
use answer::Address;
use commit_loop::{Commits, Turn};
use group::Waiting;
use queue::Queue;
pub use webhook::{Receipt, RejectedElement, Webhook};

/// A commit in flight for each lane, and one loop that makes the next group ready.
const LOOPS: u8 = Lane::COUNT + 1;

/// How many connections the commits need: each lane keeps one.
#[must_use]
pub fn n_connections() -> u32 {
    Lane::COUNT.into()
}

/// Why a webhook's events are not known to be stored. The sender should send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// More webhooks wait than may.
    #[error("too many webhooks wait to be stored")]
    TooManyWaiting,
    /// The database did not commit.
    #[error("the events could not be stored")]
    Database,
    /// The program is about to end.
    #[error("the service is stopping")]
    Stopping,
}

/// Takes webhooks and commits them.
pub struct Ingest {
    queue: Arc<Queue>,
    permits: Arc<Semaphore>,
}

/// The loops that commit. They end when the [`Ingest`] is dropped and all that was taken is answered.
pub struct CommitLoops(JoinSet<()>);

impl CommitLoops {
    /// Waits for their end.
    pub async fn join(mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a commit loop failed");
            }
        }
    }
}

impl Ingest {
    /// Starts the commit loops. At most `max_waiting` webhooks wait at a time.
    #[must_use]
    pub fn start(pool: &PgPool, max_waiting: usize, due: &Arc<Wakeups>, metrics: &Arc<Metrics>) -> (Self, CommitLoops) {
        let queue = Arc::new(Queue::new());
        let commits = Arc::new(Commits {
            due: Arc::clone(due),
            metrics: Arc::clone(metrics),
            queue: Arc::clone(&queue),
            taking: Mutex::new(()),
            turns: Lane::all().map(|_| Mutex::new(Turn::new(pool))).collect(),
        });
        let mut loops = JoinSet::new();
        for _ in 0..LOOPS {
            loops.spawn(Arc::clone(&commits).run());
        }
        (Self { queue, permits: Arc::new(Semaphore::new(max_waiting)) }, CommitLoops(loops))
    }

    /// Commits a webhook's events and returns what became of them. To be called by the web server's threads.
    ///
    /// # Errors
    /// [`NotStored`]: the sender must send them again. Some may be stored all the same, and will then be duplicates.
    pub async fn accept(&self, webhook: Webhook) -> Result<Receipt, NotStored> {
        if webhook.len() == 0 {
            return Ok(webhook.receipt);
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| NotStored::TooManyWaiting)?;
        let (address, answered) = Address::here();
        self.queue.push(Lane::of(webhook.account), Waiting { webhook, address, permit });
        answered.await.unwrap_or(Err(NotStored::Stopping))
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.queue.close();
    }
}
