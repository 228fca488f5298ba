//! What the handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, Semaphore};

use super::refusals::RefusalQueue;
use crate::admin::OwnPosts;
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::secrets::SourceCache;
use crate::store::connection::Connection;

/// What is counted of bodies, and of the webhooks made of them, that are in memory.
pub const UNIT: usize = 1 << 10;
/// How much of that there may be at a time, over all requests: 256 MiB.
const MAX_BODY_UNITS: usize = 256 << 10;

/// What the handlers share.
pub struct State {
    /// Verifies senders.
    pub sources: Arc<SourceCache>,
    /// Stores events.
    pub ingest: Ingest,
    /// Notes refused webhooks.
    pub refusals: RefusalQueue,
    /// For health.
    pub health: Mutex<Connection>,
    /// For the backlog, which takes longer to find.
    pub backlog: Mutex<Connection>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The largest body that is read.
    pub max_body_bytes: usize,
    /// Tells the service's own test events.
    pub own_posts: OwnPosts,
    pub(super) body_memory: Arc<Semaphore>,
    is_stopping: AtomicBool,
}

impl State {
    /// The handlers' state.
    #[must_use]
    pub fn new(
        sources: Arc<SourceCache>,
        ingest: Ingest,
        refusals: RefusalQueue,
        [health, backlog]: [Connection; 2],
        metrics: Arc<Metrics>,
        max_body_bytes: usize,
        own_posts: OwnPosts,
    ) -> Self {
        Self {
            sources,
            ingest,
            refusals,
            health: Mutex::new(health),
            backlog: Mutex::new(backlog),
            metrics,
            max_body_bytes,
            own_posts,
            body_memory: Arc::new(Semaphore::new(MAX_BODY_UNITS)),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Whether the service is about to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// The service is about to end.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}
