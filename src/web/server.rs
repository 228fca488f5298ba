//! The two HTTP servers, and how they end without cutting off a webhook.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, web};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::health;
use super::problem::Problem;
use super::webhook::{self, MAX_BODY_UNITS};
use crate::accounts::Directory;
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::store::connection::Connection;

/// How long a request's head may take to arrive.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long the webhooks in flight have to be answered when the service stops.
const DRAIN: Duration = Duration::from_secs(9);
/// How long the servers' threads have to end then.
const STOP: Duration = Duration::from_secs(2);

/// What the handlers share.
pub struct State {
    /// Verifies senders.
    pub directory: Arc<Directory>,
    /// Stores events.
    pub ingest: Ingest,
    /// For health.
    pub health: Mutex<Connection>,
    /// For the backlog, which takes longer to find.
    pub backlog: Mutex<Connection>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The largest body that is read.
    pub max_body_bytes: usize,
    pub(super) body_memory: Arc<Semaphore>,
    requests: TaskTracker,
    is_drained: AtomicBool,
}

impl State {
    /// The handlers' state.
    #[must_use]
    pub fn new(
        directory: Arc<Directory>,
        ingest: Ingest,
        [health, backlog]: [Connection; 2],
        metrics: Arc<Metrics>,
        max_body_bytes: usize,
    ) -> Self {
        Self {
            directory,
            ingest,
            health: Mutex::new(health),
            backlog: Mutex::new(backlog),
            metrics,
            max_body_bytes,
            body_memory: Arc::new(Semaphore::new(MAX_BODY_UNITS)),
            requests: TaskTracker::new(),
            is_drained: AtomicBool::new(false),
        }
    }

    /// Whether the service is about to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.requests.is_closed()
    }

    /// Whether it is too late for another webhook: nobody would wait for its answer to be written.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::SeqCst)
    }

    pub(super) fn in_flight(&self) -> TaskTrackerToken {
        self.requests.token()
    }
}

/// The two servers, bound.
pub struct Servers {
    state: web::Data<State>,
    /// The address of webhooks and health.
    pub public: SocketAddr,
    /// The address of metrics.
    pub internal: SocketAddr,
    handles: [ServerHandle; 2],
    /// Until they are taken to be run.
    unstarted: Vec<(&'static str, Server)>,
}

impl Servers {
    /// Binds both addresses. Idle connections for webhooks stay open for `keep_alive`.
    ///
    /// # Errors
    /// Where an address cannot be bound, with the variable that names it.
    pub fn bind(
        state: State,
        public: SocketAddr,
        internal: SocketAddr,
        keep_alive: Duration,
    ) -> Result<Self, (&'static str, io::Error)> {
        let state = web::Data::new(state);
        let shared = state.clone();
        let public = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                // A prefix: matching a pattern would cost a regular expression for each webhook.
                .service(web::scope("/webhooks/nudgespot").default_service(web::to(webhook::receive)))
                .route("/healthz", web::get().to(health::healthz))
                .route("/readyz", web::get().to(health::readyz))
                .default_service(web::to(async || Err::<&str, _>(Problem::NotFound)))
        })
        .client_request_timeout(HEAD_TIME)
        .keep_alive(keep_alive)
        .disable_signals()
        .bind(public)
        .map_err(|error| ("BIND", error))?;
        let shared = state.clone();
        let internal = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .route("/metrics", web::get().to(health::metrics))
                .default_service(web::to(async || Err::<&str, _>(Problem::NotFound)))
        })
        .workers(1)
        .disable_signals()
        .bind(internal)
        .map_err(|error| ("INTERNAL_BIND", error))?;
        let no_address = || io::Error::other("bound to no address");
        let (public_address, internal_address) = (public.addrs(), internal.addrs());
        let (public, internal) = (public.run(), internal.run());
        Ok(Self {
            public: *public_address.first().ok_or_else(|| ("BIND", no_address()))?,
            internal: *internal_address.first().ok_or_else(|| ("INTERNAL_BIND", no_address()))?,
            state,
            handles: [public.handle(), internal.handle()],
            unstarted: vec![("the server of webhooks", public), ("the server of metrics", internal)],
        })
    }

    /// The servers, by name, to be run until they end.
    pub fn take(&mut self) -> Vec<(&'static str, Server)> {
        std::mem::take(&mut self.unstarted)
    }

    /// Takes no new connections, answers the webhooks in flight, and ends the servers. What has not been answered in time
    /// is cut off: its sender was promised nothing, and will send again.
    pub async fn stop(self) {
        let Self { state, handles: [public, internal], .. } = self;
        let drain = async {
            public.pause().await;
            // From here on, answers ask to close the connection. An idle one is simply closed.
            state.requests.close();
            state.requests.wait().await;
            state.is_drained.store(true, Ordering::SeqCst);
            // Those that slipped in before.
            state.requests.wait().await;
        };
        if timeout(DRAIN, drain).await.is_err() {
            tracing::warn!("stopped with webhooks still unanswered");
        }
        drop(state);
        let stop = async { tokio::join!(public.stop(false), internal.stop(false)) };
        if timeout(STOP, stop).await.is_err() {
            tracing::warn!("a server did not stop in time");
        }
    }
}
