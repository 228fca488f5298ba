//! A primary and a streaming standby.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{Gid, Uid, chown};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

use super::cluster::{self, OwnCluster, execute};
use super::until;

/// A primary that commits only what its standby has on disk as well.
pub struct Replication {
    primary: OwnCluster,
    standby: Standby,
}

impl Replication {
    /// Starts both, and waits until the standby takes part in every commit.
    pub async fn start() -> Self {
        let primary = OwnCluster::start().await;
        let standby = Standby::of(&primary).await;
        execute(&primary.options, &["alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"])
            .await;
        let is_synchronous = "select exists (select from pg_stat_replication where sync_state = 'sync')";
        until(async || is_true(&primary.options, is_synchronous).await == Some(true)).await;
        Self { primary, standby }
    }

    /// How to connect to the server that is the primary at first.
    pub fn primary(&self) -> &PgConnectOptions {
        &self.primary.options
    }

    /// How to connect to the server that is the standby at first.
    pub fn standby(&self) -> &PgConnectOptions {
        &self.standby.options
    }

    /// Kills all processes of the primary, as a power cut would.
    pub async fn kill_primary(&self) {
        self.primary.kill().await;
    }

    /// Makes a primary of the standby. What the old primary has not replicated by now is lost.
    pub async fn promote_standby(&self) {
        assert_eq!(is_true(&self.standby.options, "select pg_promote()").await, Some(true));
    }

    /// Has the primary refuse what writes, on the connections that are open as on new ones. They stay open.
    pub async fn make_primary_read_only(&self) {
        let set = "alter system set default_transaction_read_only = on";
        execute(&self.primary.options, &[set, "select pg_reload_conf()"]).await;
    }

    /// A switch-over as administrators do it: the primary stops in good order, its standby takes over, and the old
    /// primary follows it.
    pub async fn switch_over(&mut self) {
        let follow = format!("alter system set primary_conninfo = '{}'", conninfo(&self.standby.options));
        execute(&self.primary.options, &[&follow, "alter system reset synchronous_standby_names"]).await;
        // A server that stops sends all that it has written to its standby first.
        self.primary.stop("INT").await;
        self.promote_standby().await;
        File::create(self.primary.dir.join("postgres/standby.signal")).expect("written");
        self.primary.restart().await;
        let follows = "select exists (select from pg_stat_replication where state = 'streaming')";
        until(async || is_true(&self.standby.options, follows).await == Some(true)).await;
    }
}

/// A URL that names several servers, as libpq writes them, in this order.
pub fn url(servers: &[&PgConnectOptions], database: &str) -> String {
    let [first, ..] = servers else { panic!("no server") };
    let url = cluster::url(first);
    let (credentials, _) = url.split_once('@').expect("a password");
    let hosts: Vec<String> = servers.iter().map(|at| format!("{}:{}", at.get_host(), at.get_port())).collect();
    format!("{credentials}@{}/{database}", hosts.join(","))
}

/// What one value says; `None`: the server does not answer.
async fn is_true(options: &PgConnectOptions, query: &str) -> Option<bool> {
    let mut connection = PgConnection::connect_with(options).await.ok()?;
    let answer = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await;
    connection.close().await.ok()?;
    answer.ok()
}

/// A server that follows another.
struct Standby {
    server: Child,
    dir: PathBuf,
    options: PgConnectOptions,
    _keeper: Child,
}

impl Standby {
    async fn of(primary: &OwnCluster) -> Self {
        let dir = cluster::new_dir();
        let data = dir.join("postgres");
        std::fs::DirBuilder::new().mode(0o700).create(&data).expect("created");
        // Root may not run a server; whoever runs the primary may.
        let owner = std::fs::metadata(primary.dir.join("postgres")).expect("the primary's folder");
        let owner = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        chown(&data, Some(owner.0), Some(owner.1)).expect("given away");

        let programs = Programs { folder: programs_of(&primary.options).await, owner };
        let opened = open_for_child(&data);
        let mut copy = programs.command("pg_basebackup");
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"])
            .arg(format!("--pgdata={}", fd_path(&opened)))
            .arg(format!("--dbname={}", conninfo(&primary.options)));
        let copied = tokio::process::Command::from(copy).output().await.expect("pg_basebackup");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));

        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let log = File::create(dir.join("postgres.log")).expect("created");
        let server = programs
            .command("postgres")
            .args(["-D", &fd_path(&opened), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", &format!("port={port}"), "-c", "logging_collector=off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres");
        let standby = Self { server, options: primary.options.clone().port(port), _keeper: cluster::keeper(&dir), dir };
        until(async || is_true(&standby.options, "select pg_is_in_recovery()").await == Some(true)).await;
        standby
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        cluster::send_signal(&[self.server.id()], "INT");
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// PostgreSQL's programs, and who runs them.
struct Programs {
    folder: PathBuf,
    owner: (Uid, Gid),
}

impl Programs {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/").process_group(0);
        if Uid::effective().is_root() {
            command.uid(self.owner.0.as_raw()).gid(self.owner.1.as_raw());
        }
        command
    }
}

/// Where the programs of a running server are.
async fn programs_of(options: &PgConnectOptions) -> PathBuf {
    let mut connection = PgConnection::connect_with(options).await.expect("the server");
    let query = "select setting from pg_config where name = 'BINDIR'";
    let folder: String = sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("a folder");
    connection.close().await.expect("closed");
    folder.into()
}

/// A server as its standby names it.
fn conninfo(options: &PgConnectOptions) -> String {
    let url = cluster::url(options);
    let password =
        url.rsplit_once('@').and_then(|(credentials, _)| credentials.rsplit_once(':')).expect("a password").1;
    let (user, host, port) = (options.get_username(), options.get_host(), options.get_port());
    format!("postgres://{user}:{password}@{host}:{port}/postgres")
}

/// Opens a folder so that a child reaches it, although it may not be able to walk there: see `local_postgres`.
fn open_for_child(path: &Path) -> File {
    let dir = File::open(path).expect("opened");
    fcntl(&dir, FcntlArg::F_SETFD(FdFlag::empty())).expect("inherited");
    dir
}

fn fd_path(file: &File) -> String {
    format!("/dev/fd/{}", file.as_raw_fd())
}
