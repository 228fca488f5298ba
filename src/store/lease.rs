//! Who may deliver for an account: one process at a time.
//!
//! A lease ends by itself after [`LEASE`], or when its holder's session with the database ends: a process that was
//! killed gives its accounts free at once. The lease number (fencing) keeps a process that slept past its lease from
//! moving a cursor.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{delivery, lock, storable};

/// How long a lease lasts: longer than any request to Segment.
pub const LEASE: Duration = Duration::from_mins(1);

/// A process that leases accounts, for as long as this connection lives.
pub struct Holder {
    connection: PgConnection,
    number: i32,
}

impl Holder {
    /// Registers a new holder, on a connection of its own.
    ///
    /// # Errors
    /// The database's trouble.
    pub async fn register(pool: &PgPool) -> sqlx::Result<Self> {
        let mut connection = pool.acquire().await?.detach();
        let number = sqlx::query_scalar!(r#"select nextval('lease_holder')::int as "number!""#)
            .fetch_one(&mut connection)
            .await?;
        sqlx::query!("select pg_advisory_lock($1, $2)", lock::HOLDER, number).execute(&mut connection).await?;
        Ok(Self { connection, number })
    }

    /// The number that stands in the leases.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number
    }

    /// Whether the session, and with it the holder, lives.
    pub async fn is_alive(&mut self) -> bool {
        self.connection.ping().await.is_ok()
    }

    /// Gives free what is still leased.
    pub async fn resign(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "the session of the leases ended untidily");
        }
    }
}

/// The right to deliver for an account, and what is needed to do it.
#[derive(Debug)]
pub struct Lease {
    /// The account.
    pub account_id: Uuid,
    /// The fencing number.
    pub number: i64,
    /// Events after it wait.
    pub cursor: i64,
    /// Failed attempts in a row.
    pub n_attempts: i32,
    /// Whether the account is paused: its events may expire, but are not sent.
    pub is_paused: bool,
    /// The sealed write key, if there is one yet.
    pub write_key: Option<Vec<u8>>,
    /// `us` or `eu`.
    pub region: String,
    /// What an unsubscription is called.
    pub unsubscribe_event: String,
}

/// Leases an account that has something to do now; `None` where it has not, or another process is at it.
///
/// # Errors
/// The database's trouble.
pub async fn acquire(db: impl PgExecutor<'_>, account: Uuid, holder: i32) -> sqlx::Result<Option<Lease>> {
    sqlx::query_as!(
        Lease,
        r#"
        update delivery
        set lease = lease + 1, leased_until = now() + $3 * interval '1 second', leased_by = $2
        from account
        where delivery.account_id = $1 and account.id = delivery.account_id
            and cursor_seq < head_seq and next_attempt_at <= now()
            and case
                when leased_until <= now() or leased_by = $2 then true
                else not exists (
                    select from pg_locks
                    where locktype = 'advisory' and classid::bigint = $4 and objid::bigint = leased_by and granted
                        and database = (select oid from pg_database where datname = current_database())
                )
            end
        returning account_id, lease as number, cursor_seq as cursor, n_attempts, paused_by is not null as "is_paused!",
            write_key, region, unsubscribe_event
        "#,
        account,
        holder,
        LEASE.as_secs_f64(),
        i64::from(lock::HOLDER),
    )
    .fetch_optional(db)
    .await
}

/// What came of a lease.
#[derive(Debug)]
pub struct Settlement {
    /// Where the cursor moves to; the lease's own cursor, where it stays.
    pub cursor: i64,
    /// How many of the events that it passes Segment took.
    pub n_delivered: i64,
    /// The others that it passes, each with its reason.
    pub dead: Vec<(i64, String)>,
    /// Failed attempts in a row, from now.
    pub n_attempts: i32,
    /// How long to leave the account alone.
    pub wait: Duration,
    /// Pause the account for this reason.
    pub pause: Option<String>,
    /// The request to Segment, if one was made.
    pub attempt: Option<Attempt>,
}

impl Settlement {
    /// A settlement of `lease` that changes nothing.
    #[must_use]
    pub fn stay(lease: &Lease) -> Self {
        Self {
            cursor: lease.cursor,
            n_delivered: 0,
            dead: Vec::new(),
            n_attempts: lease.n_attempts,
            wait: Duration::ZERO,
            pause: None,
            attempt: None,
        }
    }
}

/// A request to Segment.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct Attempt {
    pub from_seq: i64,
    pub to_seq: i64,
    pub n_events: i32,
    pub started_at: OffsetDateTime,
    pub duration: Duration,
    pub status: Option<u16>,
    pub outcome: &'static str,
    pub reason: Option<String>,
}

/// Settles and ends a lease, one statement that commits by itself. Says whether more events wait; `None` where the
/// lease was not ours any more, and nothing changed.
///
/// # Errors
/// Where it is not known to be committed.
pub async fn settle(db: impl PgExecutor<'_>, lease: &Lease, settlement: Settlement) -> sqlx::Result<Option<bool>> {
    let (dead_seqs, dead_reasons): (Vec<i64>, Vec<String>) =
        settlement.dead.into_iter().map(|(seq, reason)| (seq, storable(reason))).unzip();
    let attempt = settlement.attempt.as_ref();
    sqlx::query_scalar!(
        r#"
        with settled as (
            update delivery
            set cursor_seq = $4, n_delivered = n_delivered + $5, n_attempts = $6,
                next_attempt_at = case when $7::float8 > 0 then now() + $7::float8 * interval '1 second' else '-infinity' end,
                leased_until = '-infinity',
                paused_by = case when $8::text is null then paused_by else 'segment' end,
                paused_reason = coalesce($8, paused_reason)
            where account_id = $1 and lease = $2 and cursor_seq = $3
            returning account_id, cursor_seq < head_seq as more
        ),
        buried as (
            insert into dead_letter (account_id, seq, reason)
            select account_id, seq, reason from settled, unnest($9::bigint[], $10::text[]) as dead (seq, reason)
        ),
        recorded as (
            insert into attempt
                (account_id, from_seq, to_seq, n_events, started_at, duration_ms, status, outcome, reason)
            select account_id, $11, $12, $13, $14, $15, $16, $17, $18 from settled where $11::bigint is not null
        )
        select more as "more!" from settled
        "#,
        lease.account_id,
        lease.number,
        lease.cursor,
        settlement.cursor,
        settlement.n_delivered,
        settlement.n_attempts,
        settlement.wait.as_secs_f64(),
        settlement.pause.map(storable),
        &dead_seqs,
        &dead_reasons,
        attempt.map(|a| a.from_seq),
        attempt.map(|a| a.to_seq),
        attempt.map(|a| a.n_events),
        attempt.map(|a| a.started_at),
        attempt.map(|a| delivery::milliseconds(a.duration)),
        attempt.and_then(|a| a.status).and_then(|status| i16::try_from(status).ok()),
        attempt.map(|a| a.outcome),
        attempt.and_then(|a| a.reason.clone()).map(storable),
    )
    .fetch_optional(db)
    .await
}
