//! Who may deliver for a source: one process at a time.
//!
//! A lease ends by itself after [`LEASE`], or when its holder's session with the database ends: a process that was
//! killed gives its sources free at once. The lease number (fencing) keeps a process that slept past its lease from
//! moving a cursor. A lease that ends later than [`LEASE`] from now was made before the clock was set back, and is void.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::append::MAX_BLOCK_EVENTS;
use super::block::StoredBlock;
use super::connection::{Connection, takes_no_writes};
use super::lock;

/// How long a lease lasts: longer than any request to Segment.
pub const LEASE: Duration = Duration::from_mins(1);

/// More than this of the log, compressed, cannot be sent at once: a batch takes as much in clear.
const MAX_READ_BYTES: i64 = 500_000;

/// A process that leases sources, for as long as its session with the database lives.
///
/// Its number stays the same when the session is lost and another takes its place: the server may hold on to the lost one
/// for long, and what was leased under the number is still this process's to lease.
pub struct LeaseOwner {
    connection: Connection,
    number: i32,
}

impl LeaseOwner {
    /// Registers a new owner, on a connection of its own.
    ///
    /// # Errors
    /// The database did not answer; try again.
    pub async fn register(mut connection: Connection) -> sqlx::Result<Self> {
        let next = async |db: &mut PgConnection| {
            sqlx::query_scalar!(r#"select nextval('lease_holder')::int as "number!""#).fetch_one(db).await
        };
        let number = connection.run(next).await?;
        let mut owner = Self { connection, number };
        owner.keep_alive().await?;
        Ok(owner)
    }

    /// The number that stands in the leases.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number
    }

    /// Makes sure that the session lives; where it was lost, begins another. Says how many owners there are.
    ///
    /// # Errors
    /// The database did not answer: others may take over what is leased. Try again.
    pub async fn keep_alive(&mut self) -> sqlx::Result<i64> {
        let number = self.number;
        // Taken once a session. Shared: a session that is lost to us may live on at the server.
        let lock = async |db: &mut PgConnection| {
            let held = sqlx::query!(
                r#"select case
                    when exists (select from lease_owner where number = $2::int and pid = pg_backend_pid()) then true
                    else pg_try_advisory_lock_shared($1, $2::int)
                end as "held!",
                (select count(distinct number) from lease_owner) as "n_owners!",
                not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off' as "takes_writes!""#,
                lock::HOLDER,
                number,
            );
            let row = held.fetch_one(db).await?;
            // This is asked all the time: so that all users of the database learn of it, also those who only read.
            if row.takes_writes { Ok((row.held, row.n_owners)) } else { Err(takes_no_writes()) }
        };
        let (held, n_owners) = self.connection.run(lock).await?;
        if held { Ok(n_owners.max(1)) } else { Err(sqlx::Error::Protocol("the number is taken".into())) }
    }

    /// Gives free what is still leased.
    pub async fn release(self) {
        self.connection.close().await;
    }
}

/// The right to deliver for a source, and what is needed to do it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The source.
    pub source_id: Uuid,
    /// The fencing number.
    pub number: i64,
    /// Events after it wait.
    pub cursor: i64,
    /// The number of the last event, when the lease was taken.
    pub head_seq: i64,
    /// But for these numbers: calls that are done while one before them is not.
    pub done_ahead: Vec<i64>,
    /// Failed attempts in a row.
    pub n_attempts: i32,
    /// Events refused one by one, in a row.
    pub n_refused: i32,
    /// Whether the source is paused: its events may expire, but are not sent.
    pub is_paused: bool,
    /// The sealed write key, if there is one yet.
    pub write_key: Option<Vec<u8>>,
    /// What sends to the source.
    pub kind: String,
    /// `us` or `eu`.
    pub region: String,
    /// A base URL instead of the region's.
    pub endpoint: Option<String>,
    /// What an unsubscription is called.
    pub unsubscribe_event: String,
}

impl Lease {
    /// The same lease after a step that went well.
    #[must_use]
    pub fn advanced(&self, cursor: i64) -> Self {
        Self { cursor, n_attempts: 0, n_refused: 0, ..self.clone() }
    }
}

#[cfg(test)]
impl Lease {
    /// One of a source that flows.
    #[must_use]
    pub fn flowing(source_id: Uuid, number: i64, cursor: i64, head_seq: i64) -> Self {
        Self {
            source_id,
            number,
            cursor,
            head_seq,
            done_ahead: Vec::new(),
            n_attempts: 0,
            n_refused: 0,
            is_paused: false,
            write_key: None,
            kind: String::new(),
            region: "us".to_owned(),
            endpoint: None,
            unsubscribe_event: String::new(),
        }
    }
}

/// Leases those of the sources that have something to do now, and reads what lies after their cursors: the blocks that
/// hold the next events, as many as are asked for, or the first of them, if they are large. Those that have nothing to do,
/// or that another process is at, are left out. One statement that commits by itself.
///
/// # Errors
/// Where it is not known to be committed; the leases of this holder can be acquired again.
pub async fn acquire(
    db: impl PgExecutor<'_>,
    sources: &[(Uuid, i64)],
    holder: i32,
) -> sqlx::Result<HashMap<Uuid, (Lease, Vec<StoredBlock>)>> {
    let (source_ids, n_events): (Vec<Uuid>, Vec<i64>) = sources.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"
        with live as materialized (select number from lease_owner),
        free as (
            -- A row that is locked is being leased, settled or changed: whoever does that will have it looked at again.
            select delivery.source_id, asked.n_events, head_seq
            from unnest($1::uuid[], $2::bigint[]) as asked (source_id, n_events)
            join delivery using (source_id) join log_head using (source_id)
            where cursor_seq < head_seq and is_due(next_attempt_at, waiting_since)
                -- Where an admin has changed something since this statement began, what it has read of the source is old.
                and next_attempt_at = (
                    select next_attempt_at from delivery as known where known.source_id = delivery.source_id
                )
                and case
                    when leased_until <= now() or leased_by = $3 then true
                    -- The clock was set back. Twice, as another statement's now() may be a little later than this one's.
                    when leased_until > now() + $4 * interval '2 seconds' then true
                    else leased_by not in (select number from live)
                end
            for update of delivery skip locked
        ),
        leased as (
            update delivery
            set lease = lease + 1, leased_until = now() + $4 * interval '1 second', leased_by = $3,
                next_attempt_at = '-infinity'
            from free join source on source.id = free.source_id
            where delivery.source_id = free.source_id
            returning delivery.source_id, n_events as n_asked, head_seq, lease, cursor_seq, done_ahead, n_attempts, n_refused, paused_by is not null as is_paused,
                write_key, kind, region, endpoint, unsubscribe_event
        )
        select source_id as "source_id!", lease as "lease!", cursor_seq as "cursor!", head_seq as "head_seq!", done_ahead as "done_ahead!", n_attempts as "n_attempts!",
            n_refused as "n_refused!", is_paused as "is_paused!", write_key, kind as "kind!", region as "region!", endpoint, unsubscribe_event as "unsubscribe_event!",
            last_seq as "last_seq?", n_events as "n_events?", since as "since?", events as "events?"
        from leased
        left join lateral (
            -- The index finds the upper bound, as no block is larger; what lies beyond the first 500 KB fits no batch.
            select last_seq, n_events, since, events, sum(octet_length(events)) over (order by last_seq) - octet_length(events) as before
            from event_block
            where event_block.source_id = leased.source_id
                and last_seq > cursor_seq and last_seq <= cursor_seq + leased.n_asked + $5::bigint
                and last_seq - event_block.n_events < cursor_seq + leased.n_asked
        ) as block on before < $6::bigint
        order by source_id, last_seq
        "#,
        &source_ids,
        &n_events,
        holder,
        LEASE.as_secs_f64(),
        i64::try_from(MAX_BLOCK_EVENTS).unwrap_or(i64::MAX),
        MAX_READ_BYTES,
    )
    .fetch_all(db)
    .await?;
    let mut acquired = HashMap::new();
    for row in rows {
        let lease = Lease {
            source_id: row.source_id,
            number: row.lease,
            cursor: row.cursor,
            head_seq: row.head_seq,
            done_ahead: row.done_ahead,
            n_attempts: row.n_attempts,
            n_refused: row.n_refused,
            is_paused: row.is_paused,
            write_key: row.write_key,
            kind: row.kind,
            region: row.region,
            endpoint: row.endpoint,
            unsubscribe_event: row.unsubscribe_event,
        };
        let (_, blocks) = acquired.entry(row.source_id).or_insert((lease, Vec::new()));
        if let (Some(last_seq), Some(n_events), Some(since), Some(events)) =
            (row.last_seq, row.n_events, row.since, row.events)
        {
            blocks.push(StoredBlock { last_seq, n_events, since, events });
        }
    }
    Ok(acquired)
}

/// Ends leases that are kept for sources that have nothing to deliver; another process's are left as they are. One statement
/// that commits by itself.
///
/// # Errors
/// Where it is not known to be committed: the leases end by themselves, after [`LEASE`].
pub async fn give_free(db: impl PgExecutor<'_>, leases: &[(Uuid, i64)]) -> sqlx::Result<()> {
    let (source_ids, numbers): (Vec<Uuid>, Vec<i64>) = leases.iter().copied().unzip();
    sqlx::query!(
        "update delivery set leased_until = '-infinity'
        from unnest($1::uuid[], $2::bigint[]) as kept (source_id, lease)
        where delivery.source_id = kept.source_id and delivery.lease = kept.lease",
        &source_ids,
        &numbers,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The number of the first event after each of these sources' cursors that is in the log, or of the next that will be.
/// For sources where [`acquire`] did not find the event after the cursor: a statement of its own, it sees what is there
/// by now.
///
/// # Errors
/// Where the database does not answer; nothing has changed, ask again later.
pub async fn next_seqs(db: impl PgExecutor<'_>, cursors: &[(Uuid, i64)]) -> sqlx::Result<HashMap<Uuid, i64>> {
    let (source_ids, cursors): (Vec<Uuid>, Vec<i64>) = cursors.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"
        select source_id as "source_id!", coalesce(
            (
                select last_seq - n_events + 1 from event_block
                where event_block.source_id = asked.source_id and last_seq > asked.cursor_seq order by last_seq limit 1
            ),
            head_seq + 1
        ) as "next_seq!"
        from unnest($1::uuid[], $2::bigint[]) as asked (source_id, cursor_seq) join log_head using (source_id)
        "#,
        &source_ids,
        &cursors,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.source_id, row.next_seq)).collect())
}
