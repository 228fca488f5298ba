//! The database and the vault, as every command needs them.

use std::sync::Arc;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::config::Database;
use crate::local_postgres::{ClusterError, PrivateCluster};
use crate::secrets::vault::{InvalidMasterKey, Vault};
use crate::store::connection::{Connection, Connector, Session};
use crate::store::pool::Pool;
use crate::store::{migrator, stats};

/// PostgreSQL 14 and newer are known to do.
const OLDEST_SERVER: i32 = 140_000;

/// How many pages of the console may ask the database at a time. Others wait: they cannot slow a webhook.
const CONSOLE_CONNECTIONS: usize = 4;

/// Who administers.
#[derive(Clone, Copy, Debug)]
pub enum AdminPool {
    /// A command: one statement at a time, with patience.
    Command,
    /// The console: several people at a time, who look at a screen.
    Console,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is no private cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The key file is damaged.
    #[error("MASTER_KEY")]
    MasterKey(#[from] InvalidMasterKey),
    /// It cannot be reached, or takes no writes. Start again when it does.
    #[error("DATABASE_URL: cannot connect")]
    Connect(#[source] sqlx::Error),
    /// The schema is not up to date, and cannot be brought there. A role that may create tables can: `migrate`.
    #[error("DATABASE_URL: cannot apply the migrations (`migrate` as a role that may create tables does it)")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// It is too old.
    #[error("DATABASE_URL: this is PostgreSQL {}; version 14 or newer is needed", .0 / 10_000)]
    TooOld(i32),
    /// It cannot hold every text. Create the database with `encoding 'UTF8'`.
    #[error("DATABASE_URL: the database's encoding is {0}; create one with `encoding 'UTF8' template template0`")]
    Encoding(String),
}

/// A database with the program's schema, and the keys to what is sealed in it.
pub struct DatabaseHandle {
    /// Finds the host that takes writes.
    pub connector: Arc<Connector>,
    /// Opens and seals.
    pub vault: Arc<Vault>,
    /// The private cluster, if that is where the database is.
    pub cluster: Option<PrivateCluster>,
}

impl DatabaseHandle {
    /// Connects to the database (starting the private one where need be), and brings its schema up to date.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn open(database: &Database) -> Result<Self, DatabaseError> {
        let (hosts, master_key, cluster) = match database {
            Database::Server { hosts, master_key } => (hosts.clone(), master_key.clone(), None),
            Database::Private { data_dir, master_key } => {
                let cluster = PrivateCluster::join_with(data_dir, master_key.as_deref()).await?;
                let options = cluster.connect_options().application_name("nudgespot-source");
                (vec![options], cluster.master_key.clone(), Some(cluster))
            }
        };
        let opened = Self::connect(hosts, &master_key).await;
        match (opened, cluster) {
            (Ok(backend), cluster) => Ok(Self { cluster, ..backend }),
            (Err(error), Some(cluster)) => {
                cluster.leave().await?;
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn connect(hosts: Vec<PgConnectOptions>, master_key: &str) -> Result<Self, DatabaseError> {
        let vault = Arc::new(Vault::parse(master_key)?);
        let connector = Connector::new(hosts);
        let mut connection = Connection::new(&connector, Session::COMMAND);
        let check = connection.run(async |db| stats::check_server(db).await).await;
        let server = check.map_err(DatabaseError::Connect)?;
        if server.version < OLDEST_SERVER {
            return Err(DatabaseError::TooOld(server.version));
        }
        if server.encoding != "UTF8" {
            return Err(DatabaseError::Encoding(server.encoding));
        }
        if server.is_torn {
            // Right on a file system that never tears a page; only the operator can know.
            tracing::warn!(
                "the server has `full_page_writes` off: it may lose committed events when the machine fails"
            );
        }
        if !connection.run(async |db| stats::has_schema(db).await).await.map_err(DatabaseError::Connect)? {
            migrate(&mut connection).await?;
        }
        connection.close().await;
        Ok(Self { connector, vault, cluster: None })
    }

    /// A connection of its own for one user of the database.
    #[must_use]
    pub fn connection(&self, session: Session) -> Connection {
        Connection::new(&self.connector, session)
    }

    /// Connections for those who administer: one for a command, a few for the console.
    #[must_use]
    pub fn admin_pool(&self, kind: AdminPool) -> Pool {
        match kind {
            AdminPool::Command => Pool::new(&self.connector, Session::COMMAND, 1),
            AdminPool::Console => Pool::new(&self.connector, Session::CONSOLE, CONSOLE_CONNECTIONS),
        }
    }

    /// Applies the migrations that are missing, and makes sure that the others are this program's.
    ///
    /// # Errors
    /// [`DatabaseError::Migrate`], [`DatabaseError::Connect`].
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        let mut connection = self.connection(Session::COMMAND);
        migrate(&mut connection).await
    }

    /// Closes the connections and leaves the private cluster.
    ///
    /// # Errors
    /// Where the cluster cannot be left in good order.
    pub async fn close(self) -> Result<(), ClusterError> {
        match self.cluster {
            Some(cluster) => cluster.leave().await,
            None => Ok(()),
        }
    }
}

async fn migrate(connection: &mut Connection) -> Result<(), DatabaseError> {
    let mut failure = None;
    let migrated = connection.run_once(async |db: &mut PgConnection| {
        failure = migrator().run(db).await.err();
        Ok(())
    });
    migrated.await.map_err(DatabaseError::Connect)?;
    failure.map_or(Ok(()), |error| Err(DatabaseError::Migrate(error)))
}
