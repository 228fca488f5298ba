//! PostgreSQL for tests: the program's own private clusters, in the target folder.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use nudgespot_source::local_postgres::PrivateCluster;
use sqlx::postgres::PgConnectOptions;

/// A cluster that ends with the process, even when that is killed.
struct TestCluster {
    options: PgConnectOptions,
    _keeper: Child,
    _cluster: PrivateCluster,
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
        let dir = new_dir();
        let cluster = PrivateCluster::join(&dir).await.expect("PostgreSQL is installed");
        Self { options: cluster.connect_options(), _keeper: keeper(&dir), _cluster: cluster }
    }
}

/// Waits for the end of this process, as the end of its input tells it, and clears up.
fn keeper(dir: &std::path::Path) -> Child {
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
    pub dir: PathBuf,
    pub options: PgConnectOptions,
}

impl OwnCluster {
    pub async fn start() -> Self {
        let dir = new_dir();
        let cluster = PrivateCluster::join(&dir).await.expect("PostgreSQL is installed");
        Self { options: cluster.connect_options(), cluster: Some(cluster), dir }
    }

    /// Signals the server: `QUIT` is an immediate shutdown, without as much as a goodbye to its clients.
    pub fn signal(&self, signal: &str) {
        let file = std::fs::read_to_string(self.dir.join("postgres/postmaster.pid")).expect("it runs");
        let pid = file.lines().next().expect("a process id");
        let done = Command::new("kill").arg(format!("-{signal}")).arg(pid).status().expect("kill");
        assert!(done.success());
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

/// A cluster's database as a URL.
pub fn url(options: &PgConnectOptions) -> String {
    sqlx::ConnectOptions::to_url_lossy(options).to_string()
}
