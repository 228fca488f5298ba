//! The running service: what it is made of, and in which order it ends.
//!
//! Upstream first, so that each stage drains into the next: the servers answer what they hold, the commit workers commit
//! what they took, the delivery settles what it sent; then the connections close, and the private cluster stops. Each
//! step has a limit, and all of them together have one: whatever hangs, the program ends.

mod commit_thread;
mod supervisor;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Url;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, OwnPosts, SetUp, Urls};
use crate::config::Config;
use crate::database::{AdminPool, DatabaseHandle};
use crate::delivery::{Delivery, DeliveryWorker, DuePoller, RequestBatcher};
use crate::destinations::nudgespot;
use crate::destinations::segment::Client;
use crate::domain::text::with_causes;
use crate::ingest::{HeldCalls, Ingest};
use crate::jobs::JobWorker;
use crate::local_postgres::PrivateCluster;
use crate::metrics::Metrics;
use crate::secrets::SourceCache;
use crate::store::block::UnreadableBlock;
use crate::store::connection::{Connection, Session};
use crate::store::{consistency, retention, traffic};
use crate::wakeups::Wakeups;
use crate::web::console::Console;
use crate::web::{ActivityRecorder, Servers, State};
use commit_thread::CommitThread;
use supervisor::{Stage, Supervisor};

/// How often what is old is forgotten.
const FORGET: Duration = Duration::from_mins(10);
/// How often it is looked for write keys that Segment was not asked about for long.
const CHECK_KEYS: Duration = Duration::from_mins(10);
/// How long the servers have to end when their webhooks are answered, or cut off.
const SERVERS_END: Duration = Duration::from_secs(2);
/// How long commits in flight may take then: twice a statement's limit, and a new connection.
const COMMITS_END: Duration = Duration::from_secs(5);
/// How long the delivery may take, which begins to end with the servers: a little more than it says itself.
const DELIVERY_END: Duration = Duration::from_secs(19);
const SUPPORT_END: Duration = Duration::from_secs(2);
/// The program has ended by then, whatever hangs.
const END: Duration = Duration::from_secs(33);

/// The service, ready to serve.
pub struct App {
    supervisor: Supervisor,
    servers: Servers,
    stop_delivery: CancellationToken,
    stop_support: CancellationToken,
    /// Until the commit workers have ended.
    commit_thread: CommitThread,
    /// Gives the cluster back when its watch ends.
    cluster: Option<oneshot::Receiver<PrivateCluster>>,
    database: DatabaseHandle,
    admin: Arc<Admin>,
    console: SocketAddr,
}

impl App {
    /// Opens the database, binds the addresses, and starts to serve.
    ///
    /// # Errors
    /// What keeps the service from starting, in one line that says what to do.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let database = DatabaseHandle::open(&config.database).await?;
        match Parts::build(config, &database).await {
            Ok(parts) => Ok(parts.start(config, database)),
            Err(error) => {
                database.close().await?;
                Err(error)
            }
        }
    }

    /// The address of webhooks and health.
    #[must_use]
    pub fn public_address(&self) -> SocketAddr {
        self.servers.public
    }

    /// The address of metrics.
    #[must_use]
    pub fn internal_address(&self) -> SocketAddr {
        self.servers.internal
    }

    /// The address of the console.
    #[must_use]
    pub fn console_address(&self) -> SocketAddr {
        self.console
    }

    /// What people do, for whoever runs the service along with something else.
    #[must_use]
    pub fn admin(&self) -> Arc<Admin> {
        Arc::clone(&self.admin)
    }

    /// The database and the vault.
    #[must_use]
    pub fn database(&self) -> &DatabaseHandle {
        &self.database
    }

    /// Serves until `stop`, then drains.
    ///
    /// # Errors
    /// Where a background task ended, or the private cluster cannot be left in good order.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let failure = tokio::select! {
            () = stop.cancelled() => None,
            failure = self.supervisor.watch() => Some(failure),
        };
        let _guard = EndGuard::start();
        let ended = self.end().await;
        failure.map_or(ended, Err)
    }

    async fn end(self) -> anyhow::Result<()> {
        let Self { mut supervisor, servers, stop_delivery, stop_support, commit_thread, cluster, mut database, .. } =
            self;
        // Nothing is lost when it ends before the commits do: what they append is delivered next time.
        let delivery_end = Instant::now() + DELIVERY_END;
        supervisor.let_end(&[Stage::Web, Stage::Commit, Stage::Delivery]);
        stop_delivery.cancel();
        servers.stop().await;
        supervisor.join(Stage::Web, SERVERS_END).await;
        supervisor.join(Stage::Commit, COMMITS_END).await;
        supervisor.join(Stage::Delivery, delivery_end.saturating_duration_since(Instant::now())).await;
        stop_support.cancel();
        supervisor.join(Stage::Support, SUPPORT_END).await;
        let failure = supervisor.finish();
        drop(commit_thread);
        if let Some(cluster) = cluster {
            database.cluster = cluster.await.ok();
        }
        database.close().await?;
        failure.map_or(Ok(()), Err)
    }
}

/// Ends the program where its end takes too long. A thread: nothing that hangs, in whatever task, can keep it.
struct EndGuard {
    /// Dropped when the end was in time.
    _in_time: mpsc::Sender<()>,
}

impl EndGuard {
    fn start() -> Self {
        let (in_time, ended) = mpsc::channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(END) == Err(mpsc::RecvTimeoutError::Timeout) {
                std::process::exit(1);
            }
        });
        Self { _in_time: in_time }
    }
}

/// What the service is made of, before it runs.
struct Parts<W> {
    servers: Servers,
    admin: Arc<Admin>,
    set_up: Arc<SetUp>,
    console: SocketAddr,
    commit_workers: Vec<W>,
    commit_thread: CommitThread,
    held_calls: HeldCalls,
    delivery: Delivery,
    poller: DuePoller,
    recorder: ActivityRecorder,
    jobs: JobWorker,
    sources: Arc<SourceCache>,
    due: Arc<Wakeups>,
    metrics: Arc<Metrics>,
}

impl Parts<()> {
    async fn build(
        config: &Config,
        database: &DatabaseHandle,
    ) -> anyhow::Result<Parts<impl Future<Output = ()> + Send + 'static + use<>>> {
        let (metrics, due) = (Arc::new(Metrics::default()), Arc::new(Wakeups::default()));
        let sources = SourceCache::load(&database.connector, Arc::clone(&database.vault), Arc::clone(&metrics)).await?;
        let sources = Arc::new(sources);
        let raised = database.connection(Session::COMMAND).run(async |db| consistency::raise_heads(db).await).await?;
        for raised in raised {
            tracing::error!(
                source.id = %raised.source_id, head_seq = raised.head_seq,
                "the count of a source's events lay behind its log; raised. Was a part of the database restored?"
            );
        }
        let (ingest, commit_workers, held_calls) = Ingest::new(&database.connector, config.max_waiting, &due, &metrics);
        let commit_thread = CommitThread::start().context("the thread for commits")?;
        let poller = DuePoller::new(&database.connector, Arc::clone(&due)).await?;
        let client = Client::new().context(
            "the HTTP client for Segment (are the system's CA certificates installed? Debian: `apt-get install \
             ca-certificates`)",
        )?;
        let jobs = JobWorker::new(database.connection(Session::BACKGROUND), poller.lease_owner(), Arc::clone(&due));
        let worker = DeliveryWorker {
            vault: Arc::clone(&database.vault),
            client: client.clone(),
            nudgespot: nudgespot::Client::new()?,
            endpoints: config.endpoints.clone(),
            max_age: config.max_delivery_age,
            holder: poller.lease_owner(),
            metrics: Arc::clone(&metrics),
            leases: RequestBatcher::new(database.connection(Session::DELIVERY)),
            settlements: RequestBatcher::new(database.connection(Session::DELIVERY)),
            wakeups: Arc::clone(&due),
        };
        let health = [Session::HEALTH, Session::LOOK_UP].map(|session| database.connection(session));
        let (refusals, recorder) =
            ActivityRecorder::new(Arc::clone(&sources), database.connection(Session::BACKGROUND));
        let own_posts = OwnPosts::random();
        let (counts, limit) = (Arc::clone(&metrics), config.max_body_bytes);
        let state = State::new(Arc::clone(&sources), ingest, refusals, health, counts, limit, own_posts.clone());
        let mut servers = Servers::bind(state, config.bind, config.internal_bind, config.keep_alive)
            .map_err(|(variable, error)| anyhow::anyhow!("{variable}: cannot listen there: {error}"))?;
        let (admin, set_up, console) = console(config, database, &mut servers, client, own_posts)?;
        let delivery = Delivery::new(Arc::new(worker), Arc::clone(&due), Arc::clone(&sources));
        Ok(Parts {
            servers,
            admin,
            set_up,
            console,
            commit_workers,
            commit_thread,
            held_calls,
            delivery,
            poller,
            recorder,
            jobs,
            sources,
            due,
            metrics,
        })
    }
}

impl<W: Future<Output = ()> + Send + 'static> Parts<W> {
    fn start(self, config: &Config, mut database: DatabaseHandle) -> App {
        let Self {
            mut servers,
            admin,
            set_up,
            console,
            commit_workers,
            commit_thread,
            held_calls,
            delivery,
            poller,
            recorder,
            jobs,
            sources,
            due,
            metrics,
        } = self;
        let [stop_delivery, stop_support] = [CancellationToken::new(), CancellationToken::new()];
        let mut supervisor = Supervisor::default();
        for (name, server) in servers.take() {
            supervisor.spawn(Stage::Web, name, async { server.await.context("the HTTP server") });
        }
        for worker in commit_workers {
            supervisor.spawn_on(commit_thread.tasks(), Stage::Commit, "a commit worker", unfailing(worker));
        }
        let delivery = delivery.run(stop_delivery.clone());
        supervisor.spawn(Stage::Delivery, "the delivery", async { Ok(delivery.await?) });
        supervisor.spawn(Stage::Support, "the search for due deliveries", unfailing(poller.run(stop_support.clone())));
        let held_calls = held_calls.run(stop_support.clone());
        supervisor.spawn(Stage::Support, "the search for calls that need wait no longer", unfailing(held_calls));
        supervisor.spawn(Stage::Support, "the jobs", unfailing(jobs.run(stop_support.clone())));
        let recorder = recorder.run(stop_support.clone());
        supervisor.spawn(Stage::Support, "the record of verified and refused webhooks", unfailing(recorder));
        let stop = stop_support.clone();
        supervisor.spawn(Stage::Support, "the search for changed sources", async move {
            sources.watch(&due, stop).await;
            Ok(())
        });
        let forget = forget(database.connection(Session::BACKGROUND), config.retention, metrics, stop_support.clone());
        supervisor.spawn(Stage::Support, "the retention", unfailing(forget));
        let check_keys = check_write_keys(set_up, stop_support.clone());
        supervisor.spawn(Stage::Support, "the check of write keys", unfailing(check_keys));
        let roll = roll_traffic(database.connection(Session::BACKGROUND), stop_support.clone());
        supervisor.spawn(Stage::Support, "the count of what comes and goes", unfailing(roll));
        let cluster = database.cluster.take().map(|mut cluster| {
            let (watched, cluster_back) = oneshot::channel();
            let stop = stop_support.clone();
            supervisor.spawn(Stage::Support, "the watch over the private PostgreSQL", async move {
                cluster.watch(&stop).await;
                drop(watched.send(cluster));
                Ok(())
            });
            cluster_back
        });
        App { supervisor, servers, stop_delivery, stop_support, commit_thread, cluster, database, admin, console }
    }
}

/// Adds the console to the servers. Says where it listens.
fn console(
    config: &Config,
    database: &DatabaseHandle,
    servers: &mut Servers,
    segment: Client,
    own_posts: OwnPosts,
) -> anyhow::Result<(Arc<Admin>, Arc<SetUp>, SocketAddr)> {
    let listener = TcpListener::bind(config.console_bind);
    let listener = listener.context("CONSOLE_BIND: cannot listen there")?;
    let address = listener.local_addr()?;
    let urls = Urls {
        webhooks: config.public_url.clone().unwrap_or_else(|| format!("http://{}", servers.public)),
        console: config.console_url.clone().unwrap_or_else(|| format!("http://{address}")),
    };
    let origin = Url::parse(&urls.console).context("CONSOLE_URL")?;
    let admin = Arc::new(Admin::new(database.admin_pool(AdminPool::Console), Arc::clone(&database.vault), urls));
    let key_checks = [config.segment_cdn.clone(), config.endpoints.nudgespot.clone()];
    let set_up = SetUp::new(Arc::clone(&admin), segment, key_checks, reachable(servers.public), own_posts);
    let set_up = Arc::new(set_up.context("the HTTP client for test events")?);
    let console = Console::new(Arc::clone(&admin), Arc::clone(&set_up), origin, config.trusted_proxies.clone());
    servers.add("the server of the console", console.serve(listener).context("CONSOLE_BIND")?);
    Ok((admin, set_up, address))
}

/// How this machine reaches an address that it listens on.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let loopback = if bound.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
    if bound.ip().is_unspecified() { SocketAddr::new(loopback, bound.port()) } else { bound }
}

async fn check_write_keys(set_up: Arc<SetUp>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(CHECK_KEYS)).await.is_some() {
        match stop.run_until_cancelled(set_up.check_due_write_keys(OffsetDateTime::now_utc())).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(error = with_causes(&error), "cannot check write keys"),
        }
    }
}

async fn unfailing(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}

async fn forget(mut db: Connection, retention: Duration, metrics: Arc<Metrics>, stop: CancellationToken) {
    loop {
        match stop.run_until_cancelled(retention::forget(&mut db, OffsetDateTime::now_utc(), retention)).await {
            None => return,
            Some(Ok(forgotten)) => {
                metrics.unreadable_blocks(UnreadableBlock::Damaged.as_str(), forgotten.n_damaged);
                if forgotten.n_rows > 0 {
                    tracing::info!(rows = forgotten.n_rows, "forgot what is old");
                }
            }
            Some(Err(error)) => tracing::warn!(%error, "cannot forget what is old"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(FORGET)).await.is_none() {
            return;
        }
    }
}

async fn roll_traffic(mut db: Connection, stop: CancellationToken) {
    loop {
        if stop.run_until_cancelled(tokio::time::sleep(traffic::ROLL_INTERVAL)).await.is_none() {
            return;
        }
        match stop.run_until_cancelled(db.run(async |db| traffic::roll(db).await)).await {
            None => return,
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::warn!(%error, "cannot add up what came and what became of it"),
        }
    }
}
