//! Looks after calls that wait for their user to be identified.
//!
//! An `identify` takes them along in its own commit. What that misses, because another program took it at the same time, or
//! because there are very many, is found here soon after; and what has waited for too long is ignored.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::calls::NOT_IDENTIFIED;
use super::reply::ReplyChannel;
use super::webhook::Webhook;
use super::worker::SharedQueue;
use super::{COMMIT_TIMEOUT, IngestError, enqueue};
use crate::domain::call::MAX_HELD;
use crate::store::call_effects::User;
use crate::store::calls::{self, HeldPlace};
use crate::store::connection::Connection;
use crate::store::forgotten_user;
use crate::ticks;

/// Calls that need wait no longer are looked for after this time, at the next tick.
const LOOK: Duration = Duration::from_secs(2);
/// The calls of so many users are released together.
const USERS_AT_A_TIME: usize = 20;
/// How often those are looked for that have waited for too long.
const EXPIRE: Duration = Duration::from_secs(30);

/// Looks after calls that wait.
pub struct HeldCalls {
    pub(super) queue: Arc<SharedQueue>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) connection: Connection,
}

impl HeldCalls {
    /// Does so until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut expired_at, mut place): (Option<Instant>, HeldPlace) = (None, HeldPlace::default());
        while stop.run_until_cancelled(ticks::after(LOOK)).await.is_some() {
            let Some(looked) = stop.run_until_cancelled(self.look(&place)).await else { return };
            match looked {
                Ok(next) => place = next,
                Err(error) => tracing::debug!(%error, "cannot look for calls that need wait no longer"),
            }
            if expired_at.is_none_or(|at| at.elapsed() >= EXPIRE) {
                match stop.run_until_cancelled(self.expire()).await {
                    None => return,
                    Some(Ok(())) => expired_at = Some(Instant::now()),
                    Some(Err(error)) => tracing::debug!(%error, "cannot set aside calls that have waited for too long"),
                }
            }
        }
    }

    /// Releases what need not wait among some of the calls; returns where to go on.
    async fn look(&mut self, after: &HeldPlace) -> sqlx::Result<HeldPlace> {
        let (users, next) = self.connection.run(async |db| calls::overlooked(db, after).await).await?;
        let mut users: Vec<User> = users.into_iter().collect();
        users.sort_unstable();
        for of_source in users.chunk_by(|(one, _), (other, _)| one == other) {
            for some in of_source.chunks(USERS_AT_A_TIME) {
                if let Err(error) = self.release(some[0].0, some.to_vec()).await {
                    tracing::debug!(%error, "calls that need wait no longer wait on");
                }
            }
        }
        Ok(next.unwrap_or_default())
    }

    async fn expire(&mut self) -> sqlx::Result<()> {
        let since = OffsetDateTime::now_utc() - MAX_HELD;
        while let Some(source) = self.connection.run(async |db| calls::source_with_expired(db, since).await).await? {
            self.connection.run(async |db| calls::expire(db, source, since, NOT_IDENTIFIED).await).await?;
        }
        self.connection.run(async |db| forgotten_user::delete_passed(db).await).await
    }

    /// Has them appended as any webhook.
    async fn release(&self, source: Uuid, users: Vec<User>) -> Result<(), IngestError> {
        let (reply, replied) = ReplyChannel::anywhere();
        let webhook = Webhook::release(source, OffsetDateTime::now_utc(), users);
        enqueue(&self.queue, &self.permits, (webhook, None), reply, None)?;
        let replied = timeout(COMMIT_TIMEOUT, replied).await.map_err(|_| IngestError::Database)?;
        replied.unwrap_or(Err(IngestError::Stopping)).map(|_| ())
    }
}
