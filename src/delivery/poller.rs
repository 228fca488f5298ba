//! Finds what nobody announced: retries that are due, resumed sources, sources of a process that ended.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::connection::{Connection, Connector, Session};
use crate::store::delivery;
use crate::store::lease::LeaseOwner;
use crate::wakeups::{WakeReason, Wakeups};

/// A change elsewhere, such as an admin's, takes effect within this time.
const EVERY: Duration = Duration::from_millis(500);
/// How many sources are read at a time, and how often a poll reads. Of more that are due, the next polls see the others.
const PAGE: usize = 1_000;
const MAX_PAGES: usize = 4;
/// The poller could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot register for delivery")]
pub struct PollerError(#[from] sqlx::Error);

/// Looks for due sources twice a second, and keeps the process's leases alive.
pub struct DuePoller {
    connection: Connection,
    owner: LeaseOwner,
    wakeups: Arc<Wakeups>,
    /// The last source that was seen; `None`: begin with the first.
    last: Option<Uuid>,
}

impl DuePoller {
    /// # Errors
    /// [`PollerError`].
    pub async fn new(connector: &Arc<Connector>, wakeups: Arc<Wakeups>) -> Result<Self, PollerError> {
        let owner = LeaseOwner::register(Connection::new(connector, Session::LOOK_UP)).await?;
        Ok(Self { connection: Connection::new(connector, Session::LOOK_UP), owner, wakeups, last: None })
    }

    /// The number to lease under.
    #[must_use]
    pub fn lease_owner(&self) -> i32 {
        self.owner.number()
    }

    /// Polls until `stop`, then gives the leases free. To be stopped after the delivery. Returns for no other reason: what
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
        self.owner.release().await;
    }

    async fn poll(&mut self) -> sqlx::Result<()> {
        self.owner.keep_alive().await?;
        let owner = self.owner.number();
        for _ in 0..MAX_PAGES {
            let last = self.last;
            let due = self.connection.run(async |db| delivery::list_due(db, owner, last, PAGE).await).await?;
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
