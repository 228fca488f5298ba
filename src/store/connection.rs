//! Connections to the database: found among its hosts, limited in time, replaced when they are lost.
//!
//! There is no pool. Each user of the database (a commit worker, the poller, a command) has a [`Connection`] of its own,
//! opened when it is needed first and kept from one statement to the next: its server process then has the tables and
//! plans at hand, which is worth a fifth of a small statement. A pool would also ping what is returned to it, and such a
//! ping waits for ever on a connection that is dead without saying so.
//!
//! Invariants: every statement has a limit on the client and on the server. A connection that passed its limit, was
//! lost, or leads to a server that takes no writes is dropped, never used again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection as _, PgConnection};
use tokio::time::{Instant, timeout, timeout_at};

/// How long one address may take to let us in.
const CONNECT_ONE: Duration = Duration::from_secs(2);
/// How long all of them may take together: less than a webhook waits for its answer.
const CONNECT_ALL: Duration = Duration::from_secs(5);

/// What a connection is used for: how long its statements may take, and what it asks of the server.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The limit of a statement. The server gets a second more, so that it does not go on for nobody.
    statement: Duration,
    /// The limit of a wait for a lock.
    lock: Duration,
    /// Whether a commit waits until it is on disk. What is done again after a crash need not.
    is_durable: bool,
    /// Everything is found by its key. A plan that was made while a table was small would read the whole of it.
    by_key: bool,
}

impl Session {
    /// Commits of webhooks. Twice the limit and a new connection in between are within the time that a webhook waits.
    pub const COMMIT: Self =
        Self { statement: secs(3), lock: Duration::from_millis(300), is_durable: true, by_key: true };
    /// Leases and settlements of deliveries, which are repeated after a crash.
    pub const DELIVERY: Self = Self { statement: secs(5), lock: secs(1), is_durable: false, by_key: true };
    /// What is looked up all the time: changed sources, due deliveries.
    pub const LOOK_UP: Self = Self { statement: secs(3), lock: secs(1), is_durable: true, by_key: false };
    /// What somebody waits for who asks whether the service is well.
    pub const HEALTH: Self = Self { statement: secs(2), lock: secs(1), is_durable: true, by_key: false };
    /// Retention.
    pub const BACKGROUND: Self = Self { statement: secs(20), lock: secs(2), is_durable: true, by_key: false };
    /// Pages of the console: whoever waits for one looks at a screen.
    pub const CONSOLE: Self = Self { statement: secs(3), lock: secs(1), is_durable: true, by_key: true };
    /// Commands of an admin.
    pub const COMMAND: Self = Self { statement: secs(30), lock: secs(10), is_durable: true, by_key: false };
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The database's hosts, in the order in which the operator names them. The one that takes writes is used, and looked
/// for again when it is lost.
#[derive(Debug)]
pub struct Connector {
    hosts: Vec<PgConnectOptions>,
    /// Where to look first.
    preferred: AtomicUsize,
    /// How often a server turned out to take no writes. What was connected before is looked for again: a connection that
    /// only reads would not notice by itself.
    generation: AtomicUsize,
}

impl Connector {
    /// `hosts` must not be empty.
    #[must_use]
    pub fn new(hosts: Vec<PgConnectOptions>) -> Arc<Self> {
        Arc::new(Self { hosts, preferred: AtomicUsize::new(0), generation: AtomicUsize::new(0) })
    }

    /// A new connection to the first host that takes writes, and the host's number.
    ///
    /// # Errors
    /// Why the last host that was tried cannot be used. Try again later.
    async fn connect(&self, session: Session) -> sqlx::Result<(PgConnection, usize)> {
        let deadline = Instant::now() + CONNECT_ALL;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = None;
        for n in (first..first + self.hosts.len()).map(|n| n % self.hosts.len()) {
            if Instant::now() >= deadline {
                // There was no time for it: it comes first next time.
                self.preferred.store(n, Ordering::Relaxed);
                break;
            }
            match open_any(&self.hosts[n], session, deadline).await {
                Ok(connection) => {
                    self.preferred.store(n, Ordering::Relaxed);
                    return Ok((connection, n));
                }
                // Of several, the failure of the one that would have been right tells most.
                Err(error) if failure.is_none() || !is_wrong_server(&error) => failure = Some(error),
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(|| timed_out("no connection to the database in time")))
    }

    /// A host did not do what it should: the others are asked before it.
    fn first_event(&self, host: usize, error: &sqlx::Error) {
        if is_wrong_server(error) {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        let next = (host + 1) % self.hosts.len();
        let _ = self.preferred.compare_exchange(host, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Connects to a host; where it does not answer in time, and its name has several addresses, to each of these: one that is
/// dead must not keep us from the others.
async fn open_any(host: &PgConnectOptions, session: Session, deadline: Instant) -> sqlx::Result<PgConnection> {
    let open_one = async |host: &PgConnectOptions| {
        let within = deadline.min(Instant::now() + CONNECT_ONE);
        let opened = timeout_at(within, open(host, session)).await;
        opened.unwrap_or_else(|_| Err(timed_out("no connection to the database in time")))
    };
    let mut opened = open_one(host).await;
    // A certificate that is verified is one of the name.
    let is_named = host.get_socket().is_none()
        && !host.get_host().starts_with('/')
        && !matches!(host.get_ssl_mode(), PgSslMode::VerifyFull);
    if is_named && opened.as_ref().is_err_and(is_timeout) {
        let resolved = timeout(CONNECT_ONE, tokio::net::lookup_host((host.get_host(), host.get_port()))).await;
        let addresses: Vec<_> =
            resolved.map(|found| found.map_or_else(|_| vec![], Iterator::collect)).unwrap_or_default();
        for address in addresses.iter().filter(|_| addresses.len() > 1) {
            if Instant::now() >= deadline || opened.is_ok() {
                break;
            }
            opened = open_one(&host.clone().host(&address.ip().to_string())).await;
        }
    }
    opened
}

async fn open(host: &PgConnectOptions, session: Session) -> sqlx::Result<PgConnection> {
    let millis = |limit: Duration| limit.as_millis().to_string();
    let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
    // All that the program relies on, whatever the server, the database or the role has as its default.
    let options = host.clone().options([
        ("default_transaction_isolation", "read committed".to_owned()),
        ("synchronous_commit", switch(session.is_durable)),
        ("statement_timeout", millis(session.statement + secs(1))),
        ("lock_timeout", millis(session.lock)),
        ("idle_in_transaction_session_timeout", millis(secs(10))),
        ("idle_session_timeout", "0".to_owned()),
        // A program whose machine vanishes leaves its leases to others after some ten seconds, not hours.
        ("tcp_keepalives_idle", "5".to_owned()),
        ("tcp_keepalives_interval", "2".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        // The statements take arrays of any length, and are planned the same for each: PostgreSQL would plan them anew
        // every time, which takes longer than to run them.
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("jit", "off".to_owned()),
        ("enable_seqscan", switch(!session.by_key)),
    ]);
    let mut connection = options.connect().await?;
    let server = sqlx::query!(
        r#"select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off' as "takes_writes!",
            current_setting('fsync') = 'on' as "keeps_commits!""#
    )
    .fetch_one(&mut connection)
    .await?;
    if !server.takes_writes {
        return Err(unusable(WrongServer::TakesNoWrites));
    }
    if !server.keeps_commits {
        return Err(unusable(WrongServer::LosesCommits));
    }
    Ok(connection)
}

/// Why a server that answers is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum WrongServer {
    #[error("the server takes no writes: it is a standby, or read-only")]
    TakesNoWrites,
    #[error("the server has `fsync` off and may lose what it has committed; switch it on")]
    LosesCommits,
}

fn unusable(reason: WrongServer) -> sqlx::Error {
    sqlx::Error::Io(io::Error::other(reason))
}

/// To be handed on where a statement finds out that its server takes no writes.
pub(super) fn takes_no_writes() -> sqlx::Error {
    unusable(WrongServer::TakesNoWrites)
}

fn is_wrong_server(error: &sqlx::Error) -> bool {
    is_read_only(error)
        || matches!(error, sqlx::Error::Io(error) if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<WrongServer>))
}

fn is_read_only(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("25006"))
}

fn timed_out(what: &'static str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, what))
}

/// A connection that is opened when it is needed, and again when it was lost.
#[derive(Debug)]
pub struct Connection {
    connector: Arc<Connector>,
    session: Session,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    connection: PgConnection,
    host: usize,
    generation: usize,
}

impl Connection {
    /// A connection, not open yet.
    #[must_use]
    pub fn new(connector: &Arc<Connector>, session: Session) -> Self {
        Self { connector: Arc::clone(connector), session, open: None }
    }

    /// Runs a statement that does no harm when it is run twice: where the connection turns out to be lost, it is run
    /// again on a new one.
    ///
    /// # Errors
    /// Those of the statement, or that there is no database, within twice the session's limit and the time to connect.
    /// Where the error is not the statement's own, it is not known whether it has been committed.
    pub async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Copy,
    ) -> sqlx::Result<T> {
        let was_open = self.open.is_some();
        match self.run_once(statement).await {
            Err(error) if was_open && is_lost(&error) => {
                tracing::debug!(%error, "a connection to the database was lost; the statement is run again on another");
                self.run_once(statement).await
            }
            done => done,
        }
    }

    /// Runs a statement, once.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub async fn run_once<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        // Taken out: whoever drops this future drops the connection with it, in the middle of a statement as it may be.
        let generation = self.connector.generation.load(Ordering::Relaxed);
        let mut open = if let Some(open) = self.open.take().filter(|open| open.generation == generation) {
            open
        } else {
            // Boxed: it is rare, and would make ten times as large what is moved about for each statement.
            let (connection, host) = Box::pin(self.connector.connect(self.session)).await?;
            Open { connection, host, generation }
        };
        let done = timeout(self.session.statement, statement(&mut open.connection)).await;
        let done = done.unwrap_or_else(|_| Err(timed_out("the database did not answer in time")));
        match &done {
            Err(error) if is_lost(error) => self.connector.first_event(open.host, error),
            _ => self.open = Some(open),
        }
        done
    }

    /// Says goodbye to the server. A server that does not answer is left without.
    pub async fn close(mut self) {
        if let Some(open) = self.open.take()
            && !matches!(timeout(secs(1), open.connection.close()).await, Ok(Ok(())))
        {
            tracing::debug!("a connection to the database did not close cleanly");
        }
    }
}

/// Whether the connection is of no use any more, or leads to the wrong server.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            matches!(
                &*code,
                // Read-only: this is not, or no longer, the primary.
                "25006"
                // The server ends the session: shut down, crashed, starting, idle for too long.
                | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04"
                // The session has lost its prepared statements, or the tables have changed under them.
                | "26000" | "0A000"
            ) || code.starts_with("08")
        }),
        _ => false,
    }
}

/// Whether a statement, or a connection, took longer than it may.
pub(super) fn is_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Whether a statement gave up waiting for a lock that another session holds. Nothing has been done.
#[must_use]
pub fn is_lock_timeout(error: &sqlx::Error) -> bool {
    // Lock not available; deadlock detected.
    error.as_database_error().and_then(|error| error.code().map(|code| matches!(&*code, "55P03" | "40P01")))
        == Some(true)
}
