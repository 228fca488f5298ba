//! What every test stands on: a database of its own, a stand-in for Segment, and the real binary.

mod chaos;
mod cluster;
mod load;
pub mod replication;
pub mod sender;
mod service;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nudgespot_source::admin::{Admin, Urls};
use nudgespot_source::config::{Config, Environment};
use nudgespot_source::database::{AdminPool, DatabaseHandle};
use nudgespot_source::sandbox::{Faults, Sandbox};
use nudgespot_source::secrets::vault::Vault;
use nudgespot_source::store::connection::{Connection, Connector, Session};
use nudgespot_source::store::pool::Pool;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

pub use chaos::{Proxy, address_of};
pub use cluster::{OwnCluster, execute, new_dir, send_signal, server_pid, shared_cluster, url, with_children};
pub use load::{Load, REFUSED, assert_delivered, assert_refused_in_time, n_repeated, timed_post, until_stored};
pub use sender::{Answer, Source, events};
pub use service::Service;

/// Longer than anything takes on a busy machine; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// How often something is asked that does not tell by itself. Asked without a pause, it would have no processor left to
/// become so.
const ASK_AGAIN: Duration = Duration::from_millis(10);
pub const MASTER_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
/// How many tests run services at a time: each takes two dozen of PostgreSQL's connections.
static PLACES: Semaphore = Semaphore::const_new(3);
/// The places of tests that mostly wait for limits of time: they need no processor meanwhile.
static WAITING_PLACES: Semaphore = Semaphore::const_new(6);

/// A test's own world.
pub struct Context {
    pub pool: PgPool,
    /// How to connect to the database.
    pub options: PgConnectOptions,
    pub segment: Arc<Sandbox>,
    pub env: Vec<(String, String)>,
    _place: SemaphorePermit<'static>,
}

impl Context {
    /// A world with a database in the cluster that all tests share.
    pub async fn new() -> Self {
        Self::on(&shared_cluster()).await
    }

    /// A world with a database in this cluster.
    pub async fn on(server: &PgConnectOptions) -> Self {
        Self::with_place(server, PLACES.acquire().await.expect("never closed")).await
    }

    /// A world for a test that mostly waits, with a database in the cluster that all tests share.
    pub async fn waiting() -> Self {
        Self::waiting_on(&shared_cluster()).await
    }

    /// A world for a test that mostly waits, with a database in this cluster.
    pub async fn waiting_on(server: &PgConnectOptions) -> Self {
        Self::with_place(server, WAITING_PLACES.acquire().await.expect("never closed")).await
    }

    async fn with_place(server: &PgConnectOptions, place: SemaphorePermit<'static>) -> Self {
        let name = format!("test_{}", hex::encode(nudgespot_source::random::bytes::<8>()));
        let admin = PgPoolOptions::new().max_connections(1).connect_with(server.clone()).await.expect("the cluster");
        sqlx::query(sqlx::AssertSqlSafe(format!("create database {name}"))).execute(&admin).await.expect("created");
        admin.close().await;
        let options = server.clone().database(&name);
        let database_url = cluster::url(&options);
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy_with(options.clone());
        let segment = Sandbox::with_capacity(Faults::default(), 1_000_000);
        let (segment_server, _, address) = segment.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        tokio::spawn(segment_server);
        let segment_url = format!("http://{address}");
        let env = [
            ("DATABASE_URL", database_url.as_str()),
            ("MASTER_KEY", MASTER_KEY),
            ("BIND", "127.0.0.1:0"),
            ("INTERNAL_BIND", "127.0.0.1:0"),
            ("CONSOLE_BIND", "127.0.0.1:0"),
            ("SEGMENT_US_URL", &segment_url),
            ("SEGMENT_EU_URL", &segment_url),
            ("SEGMENT_CDN_URL", &segment_url),
            ("NUDGESPOT_URL", &segment_url),
            ("RUST_LOG", "debug,sqlx=info,hyper_util=info"),
            ("LOG_FORMAT", "json"),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { pool, options, segment, env, _place: place }
    }

    /// A connection of the program's own kind.
    pub fn connection(&self) -> Connection {
        let connector = Connector::new(vec![self.pool.connect_options().as_ref().clone()]);
        Connection::new(&connector, Session::COMMAND)
    }

    /// The use cases, without the binary. The schema must be there.
    pub fn admin(&self) -> Admin {
        let connector = Connector::new(vec![self.options.clone()]);
        let vault = Arc::new(Vault::parse(MASTER_KEY).expect("a key"));
        let urls = Urls { webhooks: "http://localhost".to_owned(), console: "http://localhost".to_owned() };
        Admin::new(Pool::new(&connector, Session::CONSOLE, 2), vault, urls)
    }

    /// Sets a variable for what is started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env = self.env_with(name, value);
    }

    /// Does something to the database behind the program's back.
    pub async fn execute(&self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.expect("done");
    }

    /// Starts the real binary, and waits until it listens.
    pub async fn serve(&self) -> Service {
        Service::start(&self.env).await
    }

    /// Starts the real binary with its database behind this proxy. Everything else goes to the database directly.
    pub async fn serve_through(&self, proxy: &Proxy) -> Service {
        Service::start(&self.env_with("DATABASE_URL", &cluster::url(&proxy.options(&self.options)))).await
    }

    /// The environment, but for one variable.
    pub fn env_with(&self, name: &str, value: &str) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        env.retain(|(n, _)| n != name);
        env.push((name.to_owned(), value.to_owned()));
        env
    }

    /// Runs a command with `--json`, which must succeed, and returns what it prints.
    pub async fn run(&self, args: &[&str]) -> Value {
        let (code, stdout, stderr) = self.try_run(&[args, &["--json"]].concat(), "").await;
        assert_eq!(code, 0, "{args:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {stdout}"))
    }

    /// Runs a command with this on stdin; returns its exit code, stdout and stderr.
    pub async fn try_run(&self, args: &[&str], stdin: &str) -> (i32, String, String) {
        run_binary(&self.env, args, stdin).await
    }

    /// Creates a source with a write key named after it.
    pub async fn source(&self, name: &str) -> Source {
        let write_key = format!("key-of-{name}");
        self.create(name, &["--write-key", &write_key]).await
    }

    /// Creates a source.
    pub async fn create(&self, name: &str, args: &[&str]) -> Source {
        let created = self.run(&[&["account", "create", "--name", name], args].concat()).await;
        Source::new(name, &created)
    }

    /// What `source show` says.
    pub async fn show(&self, name: &str) -> Value {
        self.run(&["source", "show", name]).await
    }

    /// Waits until the stand-in has been sent what makes `condition` true.
    pub async fn segment_has(&self, condition: impl Fn(&Sandbox) -> bool) {
        let mut requests = self.segment.subscribe();
        let heard = timeout(PATIENCE, requests.wait_for(|_| condition(&self.segment))).await;
        assert!(
            heard.is_ok(),
            "not in time; {} messages, requests {:?}",
            self.segment.messages().len(),
            self.segment.requests()
        );
    }

    /// Waits until this many messages have arrived, and returns them.
    pub async fn messages(&self, n: usize) -> Vec<Value> {
        self.segment_has(|segment| segment.messages().len() >= n).await;
        self.segment.messages()
    }

    /// Waits until `source show` says of a source what makes `condition` true.
    pub async fn source_is(&self, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        // The command's own way to what it shows: to start it for each question takes longer than most of what is
        // waited for.
        let env: Environment = self.env.iter().cloned().collect();
        let config = Config::new(&env).expect("settings");
        let database = DatabaseHandle::open(&config.database).await.expect("the database");
        let urls = Urls { webhooks: config.webhook_base_url(), console: config.console_base_url() };
        let admin = Admin::new(database.admin_pool(AdminPool::Command), Arc::clone(&database.vault), urls);
        let waiting = async {
            loop {
                let source = admin.show_source(name).await.expect("a source");
                if condition(&serde_json::to_value(source).expect("JSON")) {
                    let shown = self.show(name).await;
                    if condition(&shown) {
                        return shown;
                    }
                }
                ask_again().await;
            }
        };
        let Ok(shown) = timeout(PATIENCE, waiting).await else {
            panic!("not in time: {}", self.show(name).await);
        };
        shown
    }
}

/// Waits until it is so.
pub async fn until(is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            ask_again().await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "not in time");
}

/// The pause between two questions.
pub async fn ask_again() {
    tokio::time::sleep(ASK_AGAIN).await;
}

/// This field of each message.
pub fn texts(messages: &[Value], pointer: &str) -> Vec<String> {
    messages.iter().map(|message| message.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned()).collect()
}

/// Runs the real binary to its end.
pub async fn run_binary(env: &[(String, String)], args: &[&str], stdin: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nudgespot-source"))
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary");
    let mut input = child.stdin.take().expect("piped");
    // A command that does not read its input may end before it is written.
    let _ = input.write_all(stdin.as_bytes()).await;
    drop(input);
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("output");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
