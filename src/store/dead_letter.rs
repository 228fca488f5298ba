//! Events that the cursor has passed without delivering them.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// An event that was given up.
#[derive(Debug)]
#[expect(missing_docs, reason = "docs/contract.md, Command line")]
pub struct DeadLetter {
    pub seq: i64,
    pub kind: i16,
    pub event_id: Vec<u8>,
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
    /// Whose reason is this text, and not only contains it.
    pub is_exact_reason: bool,
    /// That died at this time or later.
    pub since: Option<OffsetDateTime>,
    /// That died before this time.
    pub until: Option<OffsetDateTime>,
}

/// A source's dead letters after `seq`, in the order of the log.
///
/// # Errors
/// The database did not answer; try again.
pub async fn list_after(
    db: impl PgExecutor<'_>,
    source: Uuid,
    filter: &Filter,
    seq: i64,
    limit: i64,
) -> sqlx::Result<Vec<DeadLetter>> {
    sqlx::query_as!(
        DeadLetter,
        "select seq, kind, event_id, reason, received_at, dead_at
        from dead_letter
        where source_id = $1 and seq > $6
            and (cardinality($2::smallint[]) = 0 or kind = any($2))
            and ($3::text is null or case when $8 then reason = $3 else strpos(lower(reason), lower($3)) > 0 end)
            and ($4::timestamptz is null or dead_at >= $4)
            and ($5::timestamptz is null or dead_at < $5)
        order by seq limit $7",
        source,
        &filter.kinds,
        filter.reason,
        filter.since,
        filter.until,
        seq,
        limit,
        filter.is_exact_reason,
    )
    .fetch_all(db)
    .await
}

/// The number of a source's last dead letter; 0 where it has none.
///
/// # Errors
/// The database did not answer; try again.
pub async fn last_seq(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select coalesce(max(seq), 0) as "seq!" from dead_letter where source_id = $1"#, source)
        .fetch_one(db)
        .await
}

/// How many of a source's dead letters are meant, up to number `last_seq`.
///
/// # Errors
/// The database did not answer; try again.
pub async fn count(db: impl PgExecutor<'_>, source: Uuid, filter: &Filter, last_seq: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!"
        from dead_letter
        where source_id = $1 and seq <= $6
            and (cardinality($2::smallint[]) = 0 or kind = any($2))
            and ($3::text is null or case when $7 then reason = $3 else strpos(lower(reason), lower($3)) > 0 end)
            and ($4::timestamptz is null or dead_at >= $4)
            and ($5::timestamptz is null or dead_at < $5)"#,
        source,
        &filter.kinds,
        filter.reason,
        filter.since,
        filter.until,
        last_seq,
        filter.is_exact_reason,
    )
    .fetch_one(db)
    .await
}
