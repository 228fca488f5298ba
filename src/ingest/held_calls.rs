//! Looks after calls that wait for their user to be identified.
//!
//! An `identify` takes them along in its own commit. What that misses, because another program took it at the same time, or
//! because there are very many, is found here soon after; and what has waited for too long is ignored.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::IngestError;
use super::batch::PendingWebhook;
use super::calls::NOT_IDENTIFIED;
use super::queue::Queued;
use super::reply::ReplyChannel;
use super::webhook::Webhook;
use super::worker::SharedQueue;
use crate::domain::call::MAX_HELD;
use crate::store::call_effects::User;
use crate::store::calls;
use crate::store::connection::Connection;

/// How often calls are looked for that need wait no longer.
const LOOK: Duration = Duration::from_secs(2);
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
        let mut expired_at: Option<Instant> = None;
        while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
            let is_time = expired_at.is_none_or(|at| at.elapsed() >= EXPIRE);
            match stop.run_until_cancelled(self.look(is_time)).await {
                None => return,
                Some(Ok(())) if is_time => expired_at = Some(Instant::now()),
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!(%error, "cannot look after calls that wait"),
            }
        }
    }

    async fn look(&mut self, is_time_to_expire: bool) -> sqlx::Result<()> {
        let mut users = self.connection.run(async |db| calls::overlooked(db).await).await?;
        users.sort_unstable();
        for of_source in users.chunk_by(|(one, _), (other, _)| one == other) {
            if let Err(error) = self.release(of_source[0].0, of_source.to_vec()).await {
                tracing::debug!(%error, "calls that need wait no longer wait on");
            }
        }
        if is_time_to_expire {
            let since = OffsetDateTime::now_utc() - MAX_HELD;
            while self.connection.run(async |db| calls::expire(db, since, NOT_IDENTIFIED).await).await? > 0 {}
            self.connection.run(async |db| calls::delete_passed_deletions(db).await).await?;
        }
        Ok(())
    }

    /// Has them appended as any webhook.
    async fn release(&self, source: Uuid, users: Vec<User>) -> Result<(), IngestError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| IngestError::TooManyWaiting)?;
        let (reply, replied) = ReplyChannel::anywhere();
        let webhook = Webhook::release(source, OffsetDateTime::now_utc(), users);
        let (n_events, n_bytes) = (webhook.len(), webhook.n_bytes());
        let webhook = PendingWebhook { webhook, reply, _permits: (permit, None) };
        self.queue.change(|queue| queue.push(Queued { source, n_events, n_bytes, webhook }));
        replied.await.unwrap_or(Err(IngestError::Stopping)).map(|_| ())
    }
}
