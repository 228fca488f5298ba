//! Finds what nobody announced: retries that are due, resumed accounts, the leavings of a process that ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::due::{Call, Due};
use crate::store::delivery;
use crate::store::lease::Holder;

/// A change elsewhere takes effect within this time, should its notification get lost.
const EVERY: Duration = Duration::from_millis(500);
const MOST: i64 = 1_000;

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

/// The sweep could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot register for delivery")]
pub struct SweepError(#[from] sqlx::Error);

/// Looks for due accounts twice a second, and keeps the process's leases alive.
pub struct Sweep {
    pool: PgPool,
    holder: Option<Holder>,
    number: HolderNumber,
    due: Arc<Due>,
}

impl Sweep {
    /// # Errors
    /// [`SweepError`].
    pub async fn new(pool: PgPool, due: Arc<Due>) -> Result<Self, SweepError> {
        let holder = Holder::register(&pool).await?;
        let number = HolderNumber(Arc::new(AtomicI32::new(holder.number())));
        Ok(Self { pool, holder: Some(holder), number, due })
    }

    /// The number to lease under.
    #[must_use]
    pub fn holder_number(&self) -> HolderNumber {
        self.number.clone()
    }

    /// Sweeps until `stop`, then gives the leases free. To be stopped after the dispatch.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_away = false;
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            match self.sweep().await {
                Ok(()) if is_away => tracing::info!("the database is back"),
                Err(error) if !is_away => tracing::error!(%error, "the database is away; delivery waits"),
                Ok(()) | Err(_) => continue,
            }
            is_away = !is_away;
        }
        if let Some(holder) = self.holder {
            holder.resign().await;
        }
    }

    async fn sweep(&mut self) -> sqlx::Result<()> {
        let is_alive = match &mut self.holder {
            Some(holder) => holder.is_alive().await,
            None => false,
        };
        if !is_alive {
            // The leases under the old number are void now; its steps in flight will find out when they settle.
            self.holder = None;
            let holder = Holder::register(&self.pool).await?;
            self.number.0.store(holder.number(), Ordering::Relaxed);
            self.holder = Some(holder);
        }
        let due = delivery::list_due(&self.pool, MOST).await?;
        if !due.is_empty() {
            self.due.mark(Call::Due, due);
        }
        Ok(())
    }
}
