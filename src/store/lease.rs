//! Who may deliver for an account: one process at a time.
//!
//! A lease ends by itself after [`LEASE`], or when its holder's session with the database ends: a process that was
//! killed gives its accounts free at once. The lease number (fencing) keeps a process that slept past its lease from
//! moving a cursor.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::log::MAX_BLOCK_EVENTS;
use super::{delivery, lock, storable};
use crate::domain::event::Kind;

/// How long a lease lasts: longer than any request to Segment.
pub const LEASE: Duration = Duration::from_mins(1);

/// More than this of the log, compressed, cannot be sent at once: a batch takes as much in clear.
const MAX_READ_BYTES: i64 = 500_000;

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

/// A block of the log, as it is stored.
#[derive(Debug)]
pub struct StoredBlock {
    /// The number of its last event.
    pub last_seq: i64,
    /// Since when its events wait.
    pub since: OffsetDateTime,
    /// See [`Block`](super::block::Block).
    pub events: Vec<u8>,
}

/// Leases an account that has something to do now, and reads what lies after its cursor: the blocks that hold the next
/// `n_events`, or the first of them, if they are large. `None` where it has nothing to do, or another process is at it.
///
/// # Errors
/// The database's trouble.
pub async fn acquire(
    db: impl PgExecutor<'_>,
    account: Uuid,
    holder: i32,
    n_events: i64,
) -> sqlx::Result<Option<(Lease, Vec<StoredBlock>)>> {
    let rows = sqlx::query!(
        r#"
        with leased as (
            update delivery
            set lease = lease + 1, leased_until = now() + $3 * interval '1 second', leased_by = $2
            from account, log_head
            where delivery.account_id = $1 and account.id = $1 and log_head.account_id = $1
                and cursor_seq < head_seq and next_attempt_at <= now()
                and case
                    when leased_until <= now() or leased_by = $2 then true
                    else not exists (
                        select from pg_locks
                        where locktype = 'advisory' and classid::bigint = $4 and objid::bigint = leased_by and granted
                            and database = (select oid from pg_database where datname = current_database())
                    )
                end
            returning lease, cursor_seq, n_attempts, paused_by is not null as is_paused, write_key, region,
                unsubscribe_event
        )
        select lease as "lease!", cursor_seq as "cursor!", n_attempts as "n_attempts!", is_paused as "is_paused!",
            write_key, region as "region!", unsubscribe_event as "unsubscribe_event!",
            last_seq as "last_seq?", since as "since?", events as "events?"
        from leased
        left join lateral (
            -- The index finds the upper bound, as no block is larger; what lies beyond the first 500 KB fits no batch.
            select last_seq, since, events, sum(octet_length(events)) over (order by last_seq) - octet_length(events) as before
            from event_block
            where account_id = $1 and last_seq > cursor_seq and last_seq <= cursor_seq + $5::bigint + $6::bigint
                and last_seq - n_events < cursor_seq + $5::bigint
        ) as block on before < $7::bigint
        order by last_seq
        "#,
        account,
        holder,
        LEASE.as_secs_f64(),
        i64::from(lock::HOLDER),
        n_events,
        i64::try_from(MAX_BLOCK_EVENTS).unwrap_or(i64::MAX),
        MAX_READ_BYTES,
    )
    .fetch_all(db)
    .await?;
    let mut lease = None;
    let mut blocks = Vec::with_capacity(rows.len());
    for row in rows {
        lease.get_or_insert(Lease {
            account_id: account,
            number: row.lease,
            cursor: row.cursor,
            n_attempts: row.n_attempts,
            is_paused: row.is_paused,
            write_key: row.write_key,
            region: row.region,
            unsubscribe_event: row.unsubscribe_event,
        });
        if let (Some(last_seq), Some(since), Some(events)) = (row.last_seq, row.since, row.events) {
            blocks.push(StoredBlock { last_seq, since, events });
        }
    }
    Ok(lease.map(|lease| (lease, blocks)))
}

/// What came of a lease.
#[derive(Debug)]
pub struct Settlement {
    /// Where the cursor moves to; the lease's own cursor, where it stays.
    pub cursor: i64,
    /// How many of the events that it passes Segment took.
    pub n_delivered: i64,
    /// The others that it passes.
    pub dead: Vec<Dead>,
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

/// An event that is given up.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns of dead_letter, which migrations/0001_init.sql explains")]
pub struct Dead {
    pub seq: i64,
    pub kind: Kind,
    pub event_id: Vec<u8>,
    pub received_at: OffsetDateTime,
    pub track: String,
    pub reason: String,
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

/// Dead letters, column by column.
#[derive(Default)]
struct DeadColumns {
    seqs: Vec<i64>,
    kinds: Vec<i16>,
    event_ids: Vec<Vec<u8>>,
    received_at: Vec<OffsetDateTime>,
    tracks: Vec<String>,
    reasons: Vec<String>,
}

impl DeadColumns {
    fn push(&mut self, dead: Dead) {
        self.seqs.push(dead.seq);
        self.kinds.push(dead.kind.number().into());
        self.event_ids.push(dead.event_id);
        self.received_at.push(dead.received_at);
        self.tracks.push(storable(dead.track));
        self.reasons.push(storable(dead.reason));
    }
}

/// Settles and ends a lease, one statement that commits by itself. Says whether more events wait; `None` where the
/// lease was not ours any more, and nothing changed.
///
/// # Errors
/// Where it is not known to be committed.
pub async fn settle(db: impl PgExecutor<'_>, lease: &Lease, settlement: Settlement) -> sqlx::Result<Option<bool>> {
    let mut dead = DeadColumns::default();
    settlement.dead.into_iter().for_each(|event| dead.push(event));
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
            returning account_id, cursor_seq
        ),
        buried as (
            insert into dead_letter (account_id, seq, kind, event_id, received_at, track, reason)
            select account_id, seq, kind, event_id, received_at, track, reason
            from settled, unnest($17::bigint[], $18::smallint[], $19::bytea[], $20::timestamptz[], $21::text[], $22::text[])
                as dead (seq, kind, event_id, received_at, track, reason)
        ),
        recorded as (
            insert into attempt
                (account_id, from_seq, to_seq, n_events, started_at, duration_ms, status, outcome, reason)
            select account_id, $9, $10, $11, $12, $13, $14, $15, $16 from settled where $9::bigint is not null
        )
        select cursor_seq < head_seq as "more!" from settled join log_head using (account_id)
        "#,
        lease.account_id,
        lease.number,
        lease.cursor,
        settlement.cursor,
        settlement.n_delivered,
        settlement.n_attempts,
        settlement.wait.as_secs_f64(),
        settlement.pause.map(storable),
        attempt.map(|a| a.from_seq),
        attempt.map(|a| a.to_seq),
        attempt.map(|a| a.n_events),
        attempt.map(|a| a.started_at),
        attempt.map(|a| delivery::milliseconds(a.duration)),
        attempt.and_then(|a| a.status).and_then(|status| i16::try_from(status).ok()),
        attempt.map(|a| a.outcome),
        attempt.and_then(|a| a.reason.clone()).map(storable),
        &dead.seqs,
        &dead.kinds,
        &dead.event_ids,
        &dead.received_at,
        &dead.tracks,
        &dead.reasons,
    )
    .fetch_optional(db)
    .await
}
