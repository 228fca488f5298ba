//! The private PostgreSQL cluster: what runs when the operator names no database.
//!
//! It lives under `DATA_DIR` and belongs to all processes of this program that use that folder: the first starts the
//! server, the last to leave stops it. Two lock files say who is there; the kernel frees them when a process is
//! killed, so nothing has to be cleaned up. A server that outlives a killed process is taken over.

mod binaries;
mod server;
mod state;

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio_util::sync::CancellationToken;

use binaries::Binaries;
use server::{Condition, Server};

/// How long a server may take to start, with the recovery after a crash.
const START: Duration = Duration::from_mins(2);
/// How often it is looked whether the server has started, ended, or died.
const POLL: Duration = Duration::from_millis(20);
const WATCH: Duration = Duration::from_millis(500);
/// A server that ends so often on its way up will not come up. A few times are normal: a backend of one that was killed
/// may still be at work.
const MAX_STARTS: u32 = 100;
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
    /// Root may not run it, and there is nobody else.
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it; set DATABASE_URL"
    )]
    NoUser,
    /// A file under `DATA_DIR` cannot be read or written.
    #[error("DATA_DIR: {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server does not start.
    #[error("the private PostgreSQL does not start; {log} says why (its last line: {last_line})")]
    DoesNotStart {
        /// The server's log.
        log: PathBuf,
        /// Its last line.
        last_line: String,
    },
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    move |error| ClusterError::File { path: path.to_owned(), error }
}

/// This process's part in the private cluster.
pub struct PrivateCluster {
    server: Server,
    dir: PathBuf,
    /// Held shared by every process that uses the cluster.
    in_use: File,
    /// The master key that was generated with the cluster.
    pub master_key: String,
    password: String,
}

impl PrivateCluster {
    /// Joins the cluster under `data_dir`: makes it where there is none, and starts its server where it does not run.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn join(data_dir: &Path) -> Result<Self, ClusterError> {
        let dir = state::create_dir(data_dir)?;
        let _decide = state::lock(&dir, "start.lock").await?;
        let in_use = state::open_lock(&dir, "in-use.lock")?;
        in_use.lock_shared().map_err(file_error(&dir))?;
        let master_key = state::read_or_generate(&dir, "master.key")?;
        let password = state::read_or_generate(&dir, "postgres.password")?;
        let server = Server::new(&dir, Binaries::find().ok_or(ClusterError::NotInstalled)?)?;
        let mut cluster = Self { server, dir, in_use, master_key, password };
        cluster.server.initialize(&cluster.password)?;
        cluster.start().await?;
        Ok(cluster)
    }

    /// How to connect to it.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(&Ipv4Addr::LOCALHOST.to_string())
            .port(self.server.port())
            .username(USER)
            .password(&self.password)
            .database(DATABASE)
            .ssl_mode(sqlx::postgres::PgSslMode::Disable)
    }

    /// Takes over the server that runs, or starts one.
    async fn start(&mut self) -> Result<(), ClusterError> {
        let began = tokio::time::Instant::now();
        let mut n_starts = 0;
        loop {
            match self.server.look() {
                Condition::Ready if self.answers().await => return Ok(()),
                // It comes up, recovers from a crash, or is still going down.
                Condition::Ready | Condition::Busy => {}
                Condition::Gone if n_starts == MAX_STARTS => return Err(self.server.does_not_start()),
                Condition::Gone => {
                    self.server.spawn()?;
                    n_starts += 1;
                }
            }
            if began.elapsed() > START {
                return Err(self.server.does_not_start());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn answers(&self) -> bool {
        let options = self.connect_options();
        match tokio::time::timeout(Duration::from_secs(5), PgConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => connection.close().await.is_ok(),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Sees to it that the server runs until `stop`: started again where it died.
    pub async fn watch(&mut self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(WATCH)).await.is_some() {
            if self.server.look() != Condition::Gone {
                continue;
            }
            tracing::error!("the private PostgreSQL died; starting it again");
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
        let _decide = state::lock(&self.dir, "start.lock").await?;
        self.start().await
    }

    /// Leaves the cluster. The last to leave stops the server.
    ///
    /// # Errors
    /// [`ClusterError`]; the server may run on, and will be taken over next time.
    pub async fn leave(mut self) -> Result<(), ClusterError> {
        let _decide = state::lock(&self.dir, "start.lock").await?;
        self.in_use.unlock().map_err(file_error(&self.dir))?;
        if self.in_use.try_lock().is_ok() {
            self.server.stop().await;
        }
        Ok(())
    }
}
