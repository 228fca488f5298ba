//! Finds what nobody announced: retries that are due, resumed sources, sources of a process that ended, and what other
//! processes store for sources whose lease is kept here. Gives free the leases that are not needed any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::connection::{Connection, Connector, Session};
use crate::store::lease::LeaseOwner;
use crate::store::{delivery, lease};
use crate::ticks;
use crate::wakeups::{WakeReason, Wakeups};

/// How many sources are read at a time, and how often a poll reads. Of more that are due, the next polls see the others.
const PAGE: usize = 1_000;
const MAX_PAGES: usize = 4;
/// How often it is looked whether another process has stored something for a source whose lease is kept here, where there
/// are other processes: they cannot deliver it.
const LOOK_AT_KEPT: Duration = Duration::from_millis(20);
/// Of many such sources, less often.
const LOOK_AT_KEPT_PER_SOURCE: Duration = Duration::from_micros(50);

/// The poller could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot register for delivery")]
pub struct PollerError(#[from] sqlx::Error);

/// Looks for due sources twice a second (once while nothing happens), and keeps the process's leases alive.
pub struct DuePoller {
    connection: Connection,
    owner: LeaseOwner,
    wakeups: Arc<Wakeups>,
    /// The last source that was seen; `None`: begin with the first.
    last: Option<Uuid>,
    /// Whether no other processes store and deliver.
    is_alone: bool,
    /// Whether the last poll found nothing due, and nothing was being delivered.
    is_at_rest: bool,
}

impl DuePoller {
    /// # Errors
    /// [`PollerError`].
    pub async fn new(connector: &Arc<Connector>, wakeups: Arc<Wakeups>) -> Result<Self, PollerError> {
        let owner = LeaseOwner::register(Connection::new(connector, Session::LOOK_UP)).await?;
        Ok(Self {
            connection: Connection::new(connector, Session::LOOK_UP),
            owner,
            wakeups,
            last: None,
            is_alone: false,
            is_at_rest: false,
        })
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
        while stop.run_until_cancelled(self.pause()).await.is_some() {
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

    /// Waits for the next poll, and sees to the kept leases meanwhile.
    async fn pause(&mut self) {
        let mut until = ticks::next_after(tokio::time::Instant::now());
        if self.is_alone && self.is_at_rest {
            until = ticks::next_after(until);
        }
        loop {
            let kept = if self.is_alone { Vec::new() } else { self.wakeups.tail.kept() };
            let n_kept = u32::try_from(kept.len()).unwrap_or(u32::MAX);
            let next = tokio::time::Instant::now() + LOOK_AT_KEPT.max(LOOK_AT_KEPT_PER_SOURCE.saturating_mul(n_kept));
            if kept.is_empty() || next >= until {
                return tokio::time::sleep_until(until).await;
            }
            tokio::time::sleep_until(next).await;
            match self.connection.run(async |db| delivery::heads(db, &kept).await).await {
                Ok(heads) => {
                    let tail = &self.wakeups.tail;
                    let unknown = heads.into_iter().filter(|(source, head_seq)| !tail.knows(*source, *head_seq));
                    self.wakeups.wake(WakeReason::NewEvents, unknown.map(|(source, _)| source));
                }
                // The next poll fails as well, and says so.
                Err(_) => return tokio::time::sleep_until(until).await,
            }
        }
    }

    async fn poll(&mut self) -> sqlx::Result<()> {
        self.is_alone = self.owner.keep_alive().await? == 1;
        let idle = self.wakeups.tail.take_idle(Instant::now());
        if !idle.is_empty() {
            self.connection.run(async |db| lease::give_free(db, &idle).await).await?;
        }
        let owner = self.owner.number();
        self.is_at_rest = self.wakeups.tail.is_empty();
        for _ in 0..MAX_PAGES {
            let last = self.last;
            let due = self.connection.run(async |db| delivery::list_due(db, owner, last, PAGE).await).await?;
            self.is_at_rest &= due.is_empty();
            // A page that is not full is the last; the next poll begins anew.
            self.last = if due.len() < PAGE { None } else { due.last().map(|due| due.source_id) };
            // Of what a pause or another change is about, what is here is not to be sent.
            let tail = &self.wakeups.tail;
            let asked = due.iter().filter(|due| due.is_timed || !tail.knows(due.source_id, due.head_seq));
            self.wakeups.wake(WakeReason::TimerElapsed, asked.map(|due| due.source_id));
            if self.last.is_none() {
                break;
            }
        }
        Ok(())
    }
}
