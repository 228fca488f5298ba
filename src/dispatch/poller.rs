//! Finds what nobody announced: retries that are due, resumed accounts, sources of a process that ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::due::{WakeReason, Wakeups};
use crate::store::delivery;
use crate::store::lease::Holder;

/// A change elsewhere takes effect within this time, should its notification get lost.
const EVERY: Duration = Duration::from_millis(500);
/// How many sources are read at a time, and how often a poll reads. Of more that are due, the next polls see the others.
const PAGE: usize = 1_000;
const MAX_PAGES: usize = 4;
/// How long the database may take for a poll, and for the end of the session that the leases are tied to.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// The number under which this process leases accounts now.
#[derive(Clone, Debug)]
pub struct HolderNumber(Arc<AtomicI32>);

impl HolderNumber {
    /// The number.
    #[must_use]
    pub fn get(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The poller could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot register for delivery")]
pub struct PollerError(#[from] sqlx::Error);

/// Looks for due sources twice a second, and keeps the process's leases alive.
pub struct DuePoller {
    pool: PgPool,
    holder: Option<Holder>,
    number: HolderNumber,
    wakeups: Arc<Wakeups>,
    /// The last source that was seen; `None`: begin with the first.
    last: Option<Uuid>,
}

impl DuePoller {
    /// # Errors
    /// [`PollerError`].
    pub async fn new(pool: PgPool, wakeups: Arc<Wakeups>) -> Result<Self, PollerError> {
        let holder = Holder::register(&pool).await?;
        let number = HolderNumber(Arc::new(AtomicI32::new(holder.number())));
        Ok(Self { pool, holder: Some(holder), number, wakeups, last: None })
    }

    /// The number to lease under.
    #[must_use]
    pub fn holder_number(&self) -> HolderNumber {
        self.number.clone()
    }

    /// Polls until `stop`, then gives the leases free. To be stopped after the dispatch. Returns for no other reason: what
    /// fails is tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_away = false;
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            let Some(polled) = stop.run_until_cancelled(self.poll()).await else { break };
            match polled {
                Ok(()) if is_away => tracing::info!("the database is back"),
                Err(error) if !is_away => tracing::error!(%error, "the database is away; delivery waits"),
                Ok(()) | Err(_) => continue,
            }
            is_away = !is_away;
        }
        if let Some(holder) = self.holder
            && timeout(RELEASE_TIMEOUT, holder.resign()).await.is_err()
        {
            tracing::debug!("the database did not take note of the end of the leases");
        }
    }

    async fn poll(&mut self) -> sqlx::Result<()> {
        let polling = async {
            let holder = self.keep_registered().await?;
            self.wake_due(holder).await
        };
        timeout(POLL_TIMEOUT, polling).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn keep_registered(&mut self) -> sqlx::Result<i32> {
        // Taken out while it is asked: where no answer comes in time, it is not used again.
        if let Some(mut holder) = self.holder.take()
            && holder.is_alive().await
        {
            return Ok(self.holder.insert(holder).number());
        }
        // The leases under the old number are void now; its steps in flight will find out when they settle.
        let holder = Holder::register(&self.pool).await?;
        self.number.0.store(holder.number(), Ordering::Relaxed);
        Ok(self.holder.insert(holder).number())
    }

    async fn wake_due(&mut self, holder: i32) -> sqlx::Result<()> {
        for _ in 0..MAX_PAGES {
            let due = delivery::list_due(&self.pool, holder, self.last, PAGE).await?;
            // A page that is not full is the last; the next poll begins anew.
            self.last = if due.len() < PAGE { None } else { due.last().copied() };
            self.wakeups.wake(WakeReason::TimerElapsed, due);
            if self.last.is_none() {
                break;
            }
        }
        Ok(())
    }
}
