//! Finds what nobody announced: retries that are due, resumed accounts, the leavings of a process that ended.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::due::{Call, Due};
use crate::store::connection::{Connection, Connector, Session};
use crate::store::delivery;
use crate::store::lease::LeaseOwner;

/// A change elsewhere takes effect within this time, should its notification get lost.
const EVERY: Duration = Duration::from_millis(500);
const MOST: i64 = 1_000;

/// The sweep could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot register for delivery")]
pub struct SweepError(#[from] sqlx::Error);

/// Looks for due accounts twice a second, and keeps the process's leases alive.
pub struct Sweep {
    connection: Connection,
    owner: LeaseOwner,
    due: Arc<Due>,
}

impl Sweep {
    /// # Errors
    /// [`SweepError`].
    pub async fn new(connector: &Arc<Connector>, due: Arc<Due>) -> Result<Self, SweepError> {
        let owner = LeaseOwner::register(Connection::new(connector, Session::LOOK_UP)).await?;
        Ok(Self { connection: Connection::new(connector, Session::LOOK_UP), owner, due })
    }

    /// The number to lease under.
    #[must_use]
    pub fn holder_number(&self) -> i32 {
        self.owner.number()
    }

    /// Sweeps until `stop`, then gives the leases free. To be stopped after the dispatch.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_away = false;
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            let Some(swept) = stop.run_until_cancelled(self.sweep()).await else { break };
            match swept {
                Ok(()) if is_away => tracing::info!("the database is back"),
                Err(error) if !is_away => tracing::error!(%error, "the database is away; delivery waits"),
                Ok(()) | Err(_) => continue,
            }
            is_away = !is_away;
        }
        self.owner.release().await;
    }

    async fn sweep(&mut self) -> sqlx::Result<()> {
        self.owner.keep_alive().await?;
        let due = self.connection.run(async |db| delivery::list_due(db, MOST).await).await?;
        if !due.is_empty() {
            self.due.mark(Call::Due, due);
        }
        Ok(())
    }
}
