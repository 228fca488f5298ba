//! The private PostgreSQL cluster: what runs when the operator names no database.
//!
//! It lives under `DATA_DIR` and belongs to all processes of this program that use that folder: the first starts the
//! server, the last to leave stops it. Lock files say who is there, and whether the server lives; the kernel frees them
//! when a process is killed, so nothing has to be cleaned up. A server that outlives a killed process is taken over.
//!
//! Nothing here waits without a limit, and whatever is dropped half-way is undone: a server that was started for
//! nothing is stopped.

mod binaries;
mod instance;
mod pid_file;
mod process;
mod server;
mod start;
mod state;

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use binaries::Binaries;
use instance::{Instance, ServerState};
use pid_file::Status;
use server::Server;
use state::{IN_USE_LOCK, Mode, START_LOCK};

use crate::ticks;

/// How often it is looked whether a lock is free, and whether the server has started or ended.
const POLL: Duration = Duration::from_millis(20);
/// How long another process may take to start the server.
const START_LOCK_TIMEOUT: Duration = Duration::from_mins(1);
/// How long another process may take to stop it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const USER: &str = "nudgespot";
const DATABASE: &str = "postgres";

/// Why there is no private cluster, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no PostgreSQL on the machine.
    #[error(
        "found no PostgreSQL {} or newer (looked in PATH, /usr/lib/postgresql and Homebrew's folders); install it \
         (Debian: `apt-get install postgresql`, macOS: `brew install postgresql`), or set DATABASE_URL",
        binaries::OLDEST
    )]
    NotInstalled,
    /// The cluster is that of another major version than those that are installed.
    #[error(
        "{cluster} was made by PostgreSQL {made_by}, which is not installed (the newest that is: {newest}); install \
         PostgreSQL {made_by}, or bring the cluster to another version with pg_upgrade"
    )]
    OtherVersion {
        /// PostgreSQL's data directory.
        cluster: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: u32,
        /// The newest major version that is installed.
        newest: u32,
    },
    /// The folder of the cluster holds something else.
    #[error("{0} is no PostgreSQL data directory: its PG_VERSION is missing or damaged; restore it from a backup")]
    NotACluster(PathBuf),
    /// The cluster is there, and the key to what is in it is not.
    #[error(
        "{0} is missing, and without it nothing in the database can be opened; restore it from a backup, or set \
         MASTER_KEY"
    )]
    MasterKeyMissing(PathBuf),
    /// The key file holds no key.
    #[error("{0} holds no master key (base64 of 32 bytes); restore it from a backup, or set MASTER_KEY")]
    MasterKeyDamaged(PathBuf),
    /// Root may not run it, and there is nobody else.
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it; set DATABASE_URL"
    )]
    NoUser,
    /// A file under `DATA_DIR` cannot be read or written, or one of PostgreSQL's programs cannot be run.
    #[error("DATA_DIR: {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// Another process holds a lock for longer than it should take.
    #[error(
        "another nudgespot-source is starting or stopping the private PostgreSQL, and does not come to an end (it holds \
         {0}); try again when it is done, or end it"
    )]
    Locked(PathBuf),
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server does not start.
    #[error("the private PostgreSQL does not start; {log} says why (its last words: {last_line})")]
    DoesNotStart {
        /// The server's log.
        log: PathBuf,
        /// Its last error, or its last line.
        last_line: String,
    },
    /// The server runs, and does not let this program in.
    #[error("the private PostgreSQL refuses connections: {0}")]
    Refused(String),
    /// The password does not fit, and cannot be replaced while others use the server.
    #[error(
        "the private PostgreSQL refuses the password in {0}; restore that file, or end all other nudgespot-source \
         processes that use the database: the next to start sets a new one"
    )]
    WrongPassword(PathBuf),
    /// The password cannot be replaced.
    #[error("cannot set the password of the private PostgreSQL: {0}")]
    SetPassword(String),
    /// The server neither answers nor can it be replaced.
    #[error("the private PostgreSQL does not answer, {0}")]
    Unresponsive(&'static str),
    /// The server cannot be stopped, not even by force.
    #[error("the private PostgreSQL does not stop; it is taken over at the next start")]
    DoesNotStop,
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    move |error| ClusterError::File { path: path.to_owned(), error }
}

/// This process's part in the private cluster. Dropped, it leaves the cluster, and blocks until it has.
pub struct PrivateCluster {
    server: Server,
    dir: PathBuf,
    /// Held shared by every process that uses the cluster.
    in_use: File,
    has_left: bool,
    /// The operator's master key, or the one that was generated with the cluster.
    pub master_key: String,
    password: String,
    is_password_set: bool,
}

impl PrivateCluster {
    /// Joins the cluster under `data_dir`: makes it where there is none, and starts its server where it does not run.
    /// The master key is the one that was generated with the cluster.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn join(data_dir: &Path) -> Result<Self, ClusterError> {
        Self::join_with(data_dir, None).await
    }

    /// As [`join`](Self::join), with the operator's own master key, where there is one.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn join_with(data_dir: &Path, master_key: Option<&str>) -> Result<Self, ClusterError> {
        let dir = state::create_dir(data_dir)?;
        let _start = state::lock(&dir, START_LOCK, Mode::Exclusive, START_LOCK_TIMEOUT).await?;
        let in_use = state::lock(&dir, IN_USE_LOCK, Mode::Shared, LOCK_TIMEOUT).await?;
        let made_by = version(&dir.join("postgres"))?;
        let master_key = match master_key {
            Some(key) => key.to_owned(),
            None => state::master_key(&dir, made_by.is_some())?,
        };
        let (password, is_new) = state::password(&dir)?;
        let binaries = Binaries::find(made_by, &dir.join("postgres")).await?;
        let server = Server::new(&dir, binaries)?;
        if made_by.is_none() {
            server.initialize(&password).await?;
        }
        server.take_possession()?;
        let is_password_set = made_by.is_none() || !is_new;
        let mut cluster = Self { server, dir, in_use, has_left: false, master_key, password, is_password_set };
        cluster.start().await?;
        Ok(cluster)
    }

    /// How to connect to it.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(&Ipv4Addr::LOCALHOST.to_string())
            .port(self.server.instance.port)
            .username(USER)
            .password(&self.password)
            .database(DATABASE)
            .ssl_mode(sqlx::postgres::PgSslMode::Disable)
    }

    /// Sees to it that the server runs until `stop`: started again where it died.
    pub async fn watch(&mut self, stop: &CancellationToken) {
        while stop.run_until_cancelled(ticks::next()).await.is_some() {
            if let ServerState::Running(Status::Starting | Status::Ready) = self.server.instance.probe() {
                continue;
            }
            tracing::error!("the private PostgreSQL has ended; starting it again");
            let Some(started) = stop.run_until_cancelled(self.restart()).await else { return };
            match started {
                Ok(()) => tracing::info!("the private PostgreSQL runs again"),
                Err(error) => tracing::error!(%error, "the private PostgreSQL cannot be started again yet"),
            }
        }
    }

    /// Starts the server again, where it has gone.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn restart(&mut self) -> Result<(), ClusterError> {
        let _start = state::lock(&self.dir, START_LOCK, Mode::Exclusive, START_LOCK_TIMEOUT).await?;
        self.start().await
    }

    /// Leaves the cluster. The last to leave stops the server, which takes 5 s at most.
    ///
    /// # Errors
    /// Where the server cannot be stopped, not even by force; it is taken over or replaced next time.
    pub async fn leave(mut self) -> Result<(), ClusterError> {
        self.has_left = true;
        if self.is_last() { self.server.instance.stop().await } else { Ok(()) }
    }

    /// Whether nobody else uses the cluster. Whoever comes waits then, until this process has left.
    fn is_last(&self) -> bool {
        // What was shared becomes exclusive.
        self.in_use.try_lock().is_ok()
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        if !self.has_left
            && self.is_last()
            && let Err(error) = self.server.instance.stop_blocking()
        {
            tracing::warn!(%error, "the private cluster was not left in good order");
        }
    }
}

/// The major version that made a cluster. `None`: there is none.
fn version(cluster: &Path) -> Result<Option<u32>, ClusterError> {
    let wrong = || ClusterError::NotACluster(cluster.to_owned());
    match state::read(&cluster.join("PG_VERSION"))? {
        Some(text) => text.parse().map(Some).map_err(|_| wrong()),
        None if fs::read_dir(cluster).is_ok_and(|mut entries| entries.next().is_some()) => Err(wrong()),
        None => Ok(None),
    }
}

/// Removes a cluster that nobody uses, with the whole folder; stops its server before, where one has been left behind.
/// Returns whether it is gone: one that is still in use after `patience` stays.
///
/// # Errors
/// Where its server cannot be stopped, or the folder cannot be removed.
pub async fn remove(data_dir: &Path, patience: Duration) -> Result<bool, ClusterError> {
    let mut held = Vec::new();
    for name in [START_LOCK, IN_USE_LOCK] {
        match state::lock(data_dir, name, Mode::Exclusive, patience).await {
            Ok(lock) => held.push(lock),
            Err(ClusterError::Locked(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Instance::new(data_dir).stop().await?;
    state::remove_dir(data_dir).await?;
    Ok(true)
}
