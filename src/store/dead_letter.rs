//! Events that the cursor has passed without delivering them.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::lock;
use super::log::Lane;

/// An event that was given up.
#[derive(Debug)]
#[expect(missing_docs, reason = "contract, section 4")]
pub struct DeadLetter {
    pub seq: i64,
    pub event_id: String,
    pub message_id: Uuid,
    pub kind: i16,
    pub reason: String,
    pub received_at: OffsetDateTime,
    pub dead_at: OffsetDateTime,
}

/// Which dead letters are meant.
#[derive(Debug, Default)]
pub struct Filter {
    /// Of one of these kinds; empty: of any.
    pub kinds: Vec<i16>,
    /// Whose reason contains this text, whatever the case.
    pub reason: Option<String>,
    /// That died at this time or later.
    pub since: Option<OffsetDateTime>,
    /// That died before this time.
    pub until: Option<OffsetDateTime>,
}

/// An account's dead letters after `seq`, in the order of the log.
///
/// # Errors
/// The database's trouble.
pub async fn list_after(
    db: impl PgExecutor<'_>,
    account: Uuid,
    filter: &Filter,
    seq: i64,
    limit: i64,
) -> sqlx::Result<Vec<DeadLetter>> {
    sqlx::query_as!(
        DeadLetter,
        "select dead_letter.seq, event_id, message_id, kind, reason, received_at, dead_at
        from dead_letter join event using (account_id, seq)
        where account_id = $1 and dead_letter.seq > $6
            and (cardinality($2::smallint[]) = 0 or kind = any($2))
            and ($3::text is null or strpos(lower(reason), lower($3)) > 0)
            and ($4::timestamptz is null or dead_at >= $4)
            and ($5::timestamptz is null or dead_at < $5)
        order by dead_letter.seq limit $7",
        account,
        &filter.kinds,
        filter.reason,
        filter.since,
        filter.until,
        seq,
        limit
    )
    .fetch_all(db)
    .await
}

/// Puts dead letters at the end of the log, to be sent again under their old message ids; their age counts from now.
/// One statement that commits by itself. Returns how many there were.
///
/// # Errors
/// Where it is not known to be committed.
pub async fn replay(db: impl PgExecutor<'_>, account: Uuid, seqs: &[i64]) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        with locked as materialized (
            select count(pg_advisory_xact_lock($1, lane)) as n from unnest($2::int[]) as lane
        ),
        raised as (
            delete from dead_letter using locked where account_id = $3 and seq = any($4) returning seq
        ),
        advanced as (
            update delivery set head_seq = head_seq + counted.n from (select count(*) as n from raised) as counted
            where account_id = $3 and n > 0
            returning head_seq - n as base
        ),
        moved as (
            update event set seq = base + place, replayed_at = now()
            from advanced, (select seq, row_number() over (order by seq) as place from raised) as old
            where event.account_id = $3 and event.seq = old.seq
            returning event.seq
        ),
        told as (
            select pg_notify('delivery_due', $3::text) where exists (select from moved)
        )
        select count(*) as "n!" from moved left join told on true
        "#,
        lock::LANE,
        &Lane::locks(&[Lane::of(account)]),
        account,
        seqs,
    )
    .fetch_one(db)
    .await
}
