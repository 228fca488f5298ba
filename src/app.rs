//! The running service: what it is made of, and in which order it ends.
//!
//! Upstream first, so that each stage drains into the next: the servers answer what they hold, the commit loops commit
//! what they took, the dispatch settles what it sent; then the connections close, and the private cluster stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::accounts::Directory;
use crate::backend::Backend;
use crate::config::Config;
use crate::dispatch::{Courier, Dispatch, DuePoller, Together};
use crate::due::{WakeReason, Wakeups};
use crate::ingest::{self, CommitLoops, Ingest};
use crate::metrics::Metrics;
use crate::segment::Client;
use crate::store::retention;
use crate::web::{Servers, State};

/// One for leases, one for settlements.
const DISPATCH_CONNECTIONS: u32 = 2;
/// How often the accounts are looked at, should a notification have got lost.
const REFRESH: Duration = Duration::from_secs(1);
/// How often what is old is forgotten.
const FORGET: Duration = Duration::from_mins(10);

/// The service, ready to serve.
pub struct App {
    stages: Stages,
    backend: Backend,
}

/// What an event passes through, and what watches over it.
struct Stages {
    servers: Servers,
    commit_loops: CommitLoops,
    dispatch: Dispatch,
    sweep: DuePoller,
    listener: Listener,
    retention: Duration,
    pools: [PgPool; 2],
}

impl App {
    /// Opens the database, binds the addresses, and makes everything ready.
    ///
    /// # Errors
    /// What keeps the service from starting, in one line that says what to do.
    pub async fn build(config: &Config) -> anyhow::Result<Self> {
        let backend = Backend::open(&config.database).await?;
        match Stages::build(config, &backend).await {
            Ok(stages) => Ok(Self { stages, backend }),
            Err(error) => {
                backend.close().await?;
                Err(error)
            }
        }
    }

    /// The address of webhooks and health.
    #[must_use]
    pub fn public_address(&self) -> SocketAddr {
        self.stages.servers.public
    }

    /// The address of metrics.
    #[must_use]
    pub fn internal_address(&self) -> SocketAddr {
        self.stages.servers.internal
    }

    /// The database and the vault.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Serves until `stop`, then drains.
    ///
    /// # Errors
    /// Where a server fails, or the private cluster cannot be left in good order.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { stages, mut backend } = self;
        let Stages { servers, commit_loops, dispatch, sweep, listener, retention, pools } = stages;
        let [stop_dispatch, stop_rest] = [CancellationToken::new(), CancellationToken::new()];
        let cluster = backend.cluster.take();
        let dispatch = tokio::spawn(dispatch.run(stop_dispatch.clone()));
        let rest = [
            tokio::spawn(sweep.run(stop_rest.clone())),
            tokio::spawn(listener.run(stop_rest.clone())),
            tokio::spawn(forget(backend.pool.clone(), retention, stop_rest.clone())),
        ];
        let watch = cluster.map(|mut cluster| {
            let stop = stop_rest.clone();
            tokio::spawn(async move {
                cluster.watch(&stop).await;
                cluster
            })
        });

        let served = servers.run(stop.cancelled_owned()).await;
        commit_loops.join().await;
        stop_dispatch.cancel();
        if let Err(error) = dispatch.await.map_err(anyhow::Error::from).and_then(|ran| Ok(ran?)) {
            tracing::error!(error = format!("{error:#}"), "the delivery failed");
        }
        stop_rest.cancel();
        for task in rest {
            join(task).await;
        }
        for pool in pools {
            pool.close().await;
        }
        if let Some(watch) = watch {
            backend.cluster = Some(watch.await.context("the watch over the private PostgreSQL failed")?);
        }
        backend.close().await?;
        served.context("the HTTP server failed")
    }
}

async fn join(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a background task failed");
    }
}

impl Stages {
    async fn build(config: &Config, backend: &Backend) -> anyhow::Result<Self> {
        let (metrics, due) = (Arc::new(Metrics::default()), Arc::new(Wakeups::default()));
        let pools = [backend.durable_pool(ingest::n_connections()), backend.repeatable_pool(DISPATCH_CONNECTIONS)];
        let [ingest_pool, dispatch_pool] = &pools;

        let directory = Arc::new(Directory::load(backend.pool.clone(), Arc::clone(&backend.vault)).await?);
        let (ingest, commit_loops) = Ingest::start(ingest_pool, config.max_waiting, &due, &metrics);
        let sweep = DuePoller::new(backend.pool.clone(), Arc::clone(&due)).await?;
        let courier = Courier {
            vault: Arc::clone(&backend.vault),
            client: Client::new().context(
                "the HTTP client for Segment (are the system's CA certificates installed? Debian: `apt-get install \
                 ca-certificates`)",
            )?,
            endpoints: config.endpoints.clone(),
            max_age: config.max_delivery_age,
            holder: sweep.holder_number(),
            metrics: Arc::clone(&metrics),
            leases: Together::new(dispatch_pool),
            settlements: Together::new(dispatch_pool),
        };
        let listener =
            Listener { pool: backend.pool.clone(), directory: Arc::clone(&directory), due: Arc::clone(&due) };
        let state = State::new(Arc::clone(&directory), ingest, backend.pool.clone(), metrics, config.max_body_bytes);
        let servers = Servers::bind(state, config.bind, config.internal_bind)
            .map_err(|(variable, error)| anyhow::anyhow!("{variable}: cannot listen there: {error}"))?;
        Ok(Self {
            servers,
            commit_loops,
            dispatch: Dispatch::new(Arc::new(courier), due, directory),
            sweep,
            listener,
            retention: config.retention,
            pools,
        })
    }
}

/// Hears of what admins change, on this machine or another.
struct Listener {
    pool: PgPool,
    directory: Arc<Directory>,
    due: Arc<Wakeups>,
}

impl Listener {
    async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Some(Err(error)) = stop.run_until_cancelled(self.listen()).await {
                tracing::debug!(%error, "cannot listen for changes");
                stop.run_until_cancelled(tokio::time::sleep(REFRESH)).await;
            }
        }
    }

    async fn listen(&self) -> sqlx::Result<()> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen_all(["account_change", "delivery_due"]).await?;
        loop {
            // A time-out is no error: changes are looked for all the same.
            let heard = tokio::time::timeout(REFRESH, listener.recv()).await;
            self.directory.refresh().await?;
            if let Ok(notification) = heard
                && let Ok(account) = Uuid::parse_str(notification?.payload())
            {
                self.due.wake(WakeReason::AdminChange, [account]);
            }
        }
    }
}

async fn forget(pool: PgPool, retention: Duration, stop: CancellationToken) {
    loop {
        match stop.run_until_cancelled(retention::forget(&pool, OffsetDateTime::now_utc(), retention)).await {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(rows)) => tracing::info!(rows, "forgot what is old"),
            Some(Err(error)) => tracing::warn!(%error, "cannot forget what is old"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(FORGET)).await.is_none() {
            return;
        }
    }
}
