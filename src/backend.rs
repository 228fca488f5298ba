//! The database and the vault, as every command needs them.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::config::Database;
use crate::local_postgres::{ClusterError, PrivateCluster};
use crate::store::{migrator, stats};
use crate::vault::{InvalidMasterKey, Vault};

/// PostgreSQL 14 and newer are known to do.
const OLDEST_SERVER: i32 = 140_000;
/// How long commits and delivery wait for a connection: shorter than a sender waits for its answer.
const ACQUIRE: Duration = Duration::from_secs(3);
/// How long everything else does, such as a command on a busy machine.
const ACQUIRE_PATIENTLY: Duration = Duration::from_secs(30);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// There is no private cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The key file is damaged.
    #[error("MASTER_KEY: {0}")]
    MasterKey(#[from] InvalidMasterKey),
    /// It cannot be reached.
    #[error("DATABASE_URL: cannot connect: {0}")]
    Connect(sqlx::Error),
    /// The schema cannot be brought up to date.
    #[error("DATABASE_URL: cannot apply the migrations: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// It is too old.
    #[error("DATABASE_URL: this is PostgreSQL {}; version 14 or newer is needed", .0 / 10_000)]
    TooOld(i32),
    /// It does not keep what it commits.
    #[error("DATABASE_URL: the server has `{0}` off and may lose what it has committed; switch it on")]
    NotDurable(&'static str),
}

/// A database with the program's schema, and the keys to what is sealed in it.
pub struct Backend {
    /// For everything but webhooks and delivery.
    pub pool: PgPool,
    /// Opens and seals.
    pub vault: Arc<Vault>,
    /// The private cluster, if that is where the database is.
    pub cluster: Option<PrivateCluster>,
    options: PgConnectOptions,
}

impl Backend {
    /// Connects to the database (starting the private one where need be), and brings its schema up to date.
    ///
    /// # Errors
    /// [`BackendError`].
    pub async fn open(database: &Database) -> Result<Self, BackendError> {
        let (options, master_key, cluster) = match database {
            Database::Server { options, master_key } => (options.as_ref().clone(), master_key.clone(), None),
            Database::Private { data_dir, master_key } => {
                let cluster = PrivateCluster::join_with(data_dir, master_key.as_deref()).await?;
                (cluster.connect_options(), cluster.master_key.clone(), Some(cluster))
            }
        };
        let opened = Self::connect(options, &master_key).await;
        match (opened, cluster) {
            (Ok(backend), cluster) => Ok(Self { cluster, ..backend }),
            (Err(error), Some(cluster)) => {
                cluster.leave().await?;
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn connect(options: PgConnectOptions, master_key: &str) -> Result<Self, BackendError> {
        let vault = Arc::new(Vault::parse(master_key)?);
        let options = options.application_name("nudgespot-source").options([
            // The statements take arrays of any length, and are planned the same for each: PostgreSQL would plan them
            // anew every time, which takes longer than to run them.
            ("plan_cache_mode", "force_generic_plan"),
            ("jit", "off"),
        ]);
        let pool =
            pool_options(4, ACQUIRE_PATIENTLY).connect_with(options.clone()).await.map_err(BackendError::Connect)?;
        let (version, broken) = stats::check_server(&pool).await.map_err(BackendError::Connect)?;
        if version < OLDEST_SERVER {
            return Err(BackendError::TooOld(version));
        }
        if broken.contains(&"fsync") {
            return Err(BackendError::NotDurable("fsync"));
        }
        if let Some(setting) = broken.first() {
            // Right on a file system that never tears a page; only the operator can know.
            tracing::warn!(setting, "the database may lose committed events when the machine fails");
        }
        migrator().run(&pool).await?;
        Ok(Self { pool, vault, cluster: None, options })
    }

    /// Connections whose commits are on disk when they return, whatever the server's default.
    #[must_use]
    pub fn durable_pool(&self, n_connections: u32) -> PgPool {
        self.filled_pool(n_connections, "on")
    }

    /// Connections whose last commits a crash of the server may undo: for what can be done again.
    #[must_use]
    pub fn repeatable_pool(&self, n_connections: u32) -> PgPool {
        self.filled_pool(n_connections, "off")
    }

    /// Connects ahead of need, and again after the database was away.
    fn filled_pool(&self, n_connections: u32, synchronous_commit: &str) -> PgPool {
        let options = self.options.clone().options([
            ("synchronous_commit", synchronous_commit),
            // All is found by its key here. A plan made while a table was small would read the whole of it.
            ("enable_seqscan", "off"),
        ]);
        pool_options(n_connections, ACQUIRE).min_connections(n_connections).connect_lazy_with(options)
    }

    /// Closes the connections and leaves the private cluster.
    ///
    /// # Errors
    /// Where the cluster cannot be left in good order.
    pub async fn close(self) -> Result<(), ClusterError> {
        self.pool.close().await;
        match self.cluster {
            Some(cluster) => cluster.leave().await,
            None => Ok(()),
        }
    }
}

fn pool_options(n_connections: u32, acquire: Duration) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(n_connections).acquire_timeout(acquire).test_before_acquire(false)
}
