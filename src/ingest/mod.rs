//! Group commit: one statement for all webhooks that wait.
//!
//! A webhook is answered when **all** its events are committed. What arrives while a commit is in flight goes into the
//! next one, so a lone webhook waits for nobody, and a flood shares its commits. Nothing cancels a commit, least of all
//! a sender that hangs up.

mod batch;
mod calls;
mod held_calls;
mod pending_call;
mod queue;
mod reply;
mod webhook;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::store::connection::{Connection, Connector, Session};
use crate::store::log::Lane;
use crate::wakeups::Wakeups;
use batch::PendingWebhook;
pub use held_calls::HeldCalls;
pub use pending_call::Origin;
use queue::Queued;
use reply::ReplyChannel;
pub use webhook::{Receipt, RejectedElement, Webhook};
use worker::{CommitWorkers, LaneState, SharedQueue};

/// A commit in flight for each lane, and one worker that makes the next batch ready.
const WORKERS: u8 = Lane::COUNT + 1;
/// How long a webhook waits for its commit. A database that is silent for so long is away.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(8);

/// Why a webhook's events are not known to be stored. The sender should send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// More webhooks wait than may.
    #[error("too many webhooks wait to be stored")]
    TooManyWaiting,
    /// The database did not commit.
    #[error("the events could not be stored")]
    Database,
    /// The source was deleted meanwhile.
    #[error("there is no such source any more")]
    SourceGone,
    /// The program is about to end.
    #[error("the service is stopping")]
    Stopping,
}

/// Takes webhooks and has them committed.
pub struct Ingest {
    queue: Arc<SharedQueue>,
    permits: Arc<Semaphore>,
}

impl Ingest {
    /// An intake in which at most `max_waiting` webhooks wait at a time, and the workers that commit them: to be run until
    /// they end, which they do when the intake is dropped and all that it took is answered. And who looks after calls that
    /// wait.
    #[must_use]
    pub fn new(
        connector: &Arc<Connector>,
        max_waiting: usize,
        due: &Arc<Wakeups>,
        metrics: &Arc<Metrics>,
    ) -> (Self, Vec<impl Future<Output = ()> + Send + use<>>, HeldCalls) {
        let queue = Arc::new(SharedQueue::new((max_waiting / 4).max(1)));
        let workers = Arc::new(CommitWorkers {
            due: Arc::clone(due),
            metrics: Arc::clone(metrics),
            queue: Arc::clone(&queue),
            dequeue_lock: Mutex::new(()),
            lanes: Lane::all()
                .map(|_| Mutex::new(LaneState::new(Connection::new(connector, Session::COMMIT))))
                .collect(),
            prober: Mutex::new(Connection::new(connector, Session::COMMIT)),
        });
        let workers = (0..WORKERS).map(|_| Arc::clone(&workers).run()).collect();
        let permits = Arc::new(Semaphore::new(max_waiting));
        let connection = Connection::new(connector, Session::BACKGROUND);
        let held_calls = HeldCalls { queue: Arc::clone(&queue), permits: Arc::clone(&permits), connection };
        (Self { queue, permits }, workers, held_calls)
    }

    /// Commits a webhook's events, which came over the connection with `peer`, and returns what became of them. `memory` is
    /// what it was given to be in memory: it is given back when the webhook is gone, which may be after this returns. To be
    /// called by the web server's threads.
    ///
    /// # Errors
    /// [`IngestError`]: the sender must send them again. Some may be stored all the same, and will then be duplicates.
    pub async fn accept(
        &self,
        webhook: Webhook,
        peer: Option<SocketAddr>,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<Receipt, IngestError> {
        if webhook.len() == 0 {
            return Ok(webhook.receipt);
        }
        let (reply, replied) = ReplyChannel::here();
        enqueue(&self.queue, &self.permits, (webhook, peer), reply, memory)?;
        match timeout(COMMIT_TIMEOUT, replied).await {
            Ok(reply) => reply.unwrap_or(Err(IngestError::Stopping)),
            Err(_) => Err(IngestError::Database),
        }
    }
}

/// Has a webhook wait for its commit, where there is room.
fn enqueue(
    queue: &SharedQueue,
    permits: &Arc<Semaphore>,
    (webhook, peer): (Webhook, Option<SocketAddr>),
    reply: ReplyChannel,
    memory: Option<OwnedSemaphorePermit>,
) -> Result<(), IngestError> {
    let permit = Arc::clone(permits).try_acquire_owned().map_err(|_| IngestError::TooManyWaiting)?;
    let (source, n_events, n_bytes) = (webhook.source, webhook.len(), webhook.n_bytes());
    let webhook = PendingWebhook { webhook, reply, _permits: (permit, memory) };
    queue.change(|queue, now| queue.push(Queued { source, peer, n_events, n_bytes, webhook }, now));
    Ok(())
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.queue.change(|queue, _| {
            queue.close();
            None
        });
    }
}
