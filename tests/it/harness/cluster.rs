//! PostgreSQL for tests: the program's own private clusters, in the target folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use nudgespot_source::local_postgres::PrivateCluster;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

use super::until;

/// Enough for all tests that run at a time.
const MAX_CONNECTIONS: u32 = 500;

/// A cluster that ends with the process, even when that is killed.
struct TestCluster {
    options: PgConnectOptions,
    _cluster: OwnCluster,
}

static SHARED: LazyLock<TestCluster> = LazyLock::new(|| {
    // On a runtime of its own: each test has another.
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(TestCluster::start())
    })
    .join()
    .expect("a cluster")
});

/// How to connect to the cluster that all tests share.
pub fn shared_cluster() -> PgConnectOptions {
    SHARED.options.clone()
}

impl TestCluster {
    async fn start() -> Self {
        let mut cluster = OwnCluster::start().await;
        let set = format!("alter system set max_connections = {MAX_CONNECTIONS}");
        execute(&cluster.options, &[&set]).await;
        cluster.stop("INT").await;
        cluster.restart().await;
        Self { options: cluster.options.clone(), _cluster: cluster }
    }
}

/// Waits for the end of this process, as the end of its input tells it, stops the server, and clears up.
pub fn keeper(dir: &Path) -> Child {
    let script = r#"read -r _; kill -INT "$(head -n 1 "$0/postgres/postmaster.pid")"; rm -rf "$0""#;
    Command::new("sh")
        .args(["-c", script])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh")
}

/// A new folder for a cluster.
pub fn new_dir() -> PathBuf {
    let name = format!("pg-{}", hex::encode(nudgespot_source::random::bytes::<6>()));
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).expect("the target folder can be written");
    dir
}

/// A cluster that one test may mistreat.
pub struct OwnCluster {
    cluster: Option<PrivateCluster>,
    _keeper: Child,
    pub dir: PathBuf,
    pub options: PgConnectOptions,
}

impl OwnCluster {
    pub async fn start() -> Self {
        let dir = new_dir();
        let cluster = PrivateCluster::join(&dir).await.expect("PostgreSQL is installed");
        let options = cluster.connect_options();
        Self { options, _keeper: keeper(&dir), cluster: Some(cluster), dir }
    }

    /// Signals the server: `QUIT` is an immediate shutdown, without as much as a goodbye to its clients.
    pub fn signal(&self, signal: &str) {
        send_signal(&[server_pid(&self.dir).expect("it runs")], signal);
    }

    /// Signals the server, and waits until it has gone.
    pub async fn stop(&self, signal: &str) {
        self.signal(signal);
        until(async || server_pid(&self.dir).is_none()).await;
    }

    /// Kills all of the server's processes, as a power cut would.
    pub async fn kill(&self) {
        let server = server_pid(&self.dir).expect("it runs");
        send_signal(&with_children(server), "KILL");
        let address = (self.options.get_host(), self.options.get_port());
        until(async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    }

    /// Starts the server again, at its old address, when it has gone.
    pub async fn restart(&mut self) {
        self.cluster.as_mut().expect("not left").restart().await.expect("it starts again");
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        let Some(cluster) = self.cluster.take() else { return };
        let dir = self.dir.clone();
        let left = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(cluster.leave()).expect("left in good order");
            std::fs::remove_dir_all(dir)
        });
        assert!(left.join().is_ok_and(|removed| removed.is_ok()) || std::thread::panicking());
    }
}

/// The process of the server whose cluster is in this folder, if its lock file names one.
pub fn server_pid(dir: &Path) -> Option<u32> {
    let file = std::fs::read_to_string(dir.join("postgres/postmaster.pid")).ok()?;
    file.lines().next()?.trim().parse().ok()
}

/// A server's process, and those of its backends, each of which leads a session of its own.
pub fn with_children(server: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state parent …`, and the name may hold anything.
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        parent == Some(server)
    };
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    std::iter::once(server).chain(pids.filter(is_child)).collect()
}

/// Signals processes, some of which may have ended.
pub fn send_signal(pids: &[u32], signal: &str) {
    let pids = pids.iter().map(u32::to_string);
    let done = Command::new("kill").arg(format!("-{signal}")).args(pids).stderr(Stdio::null()).status();
    assert!(done.is_ok());
}

/// Runs statements, one after the other, on a connection of their own.
pub async fn execute(options: &PgConnectOptions, statements: &[&str]) {
    let mut connection = PgConnection::connect_with(options).await.expect("the server");
    for statement in statements {
        let statement = AssertSqlSafe((*statement).to_owned());
        sqlx::raw_sql(statement).execute(&mut connection).await.expect("executed");
    }
    connection.close().await.expect("closed");
}

/// A cluster's database as a URL.
pub fn url(options: &PgConnectOptions) -> String {
    sqlx::ConnectOptions::to_url_lossy(options).to_string()
}
