//! What became of events that a replay had put back into the log, read from what their deliveries left behind.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::append::MAX_BLOCK_EVENTS;
use super::attempt::MAX_ATTEMPT_SPAN;
use super::block::StoredBlock;

/// A request that Segment took.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the columns of attempt, which migrations/0001_init.sql explains")]
pub struct Delivered {
    pub from_seq: i64,
    pub to_seq: i64,
    pub n_events: i64,
}

/// The requests of a source that Segment took, and that had any of these numbers of its log.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_delivered(
    db: impl PgExecutor<'_>,
    source: Uuid,
    [from, to]: [i64; 2],
) -> sqlx::Result<Vec<Delivered>> {
    sqlx::query_as!(
        Delivered,
        r#"select from_seq, to_seq, n_events::bigint as "n_events!"
        from attempt
        where source_id = $1 and to_seq >= $2 and to_seq < $3 + $4::bigint and from_seq <= $3 and outcome = 'delivered'
        order by to_seq"#,
        source,
        from,
        to,
        MAX_ATTEMPT_SPAN,
    )
    .fetch_all(db)
    .await
}

/// Which of these numbers are, or were, dead letters, in their order.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_dead(db: impl PgExecutor<'_>, source: Uuid, [from, to]: [i64; 2]) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        r#"select seq as "seq!" from dead_letter where source_id = $1 and seq between $2 and $3
        union
        select from_seq from replay where source_id = $1 and from_seq between $2 and $3
        order by 1"#,
        source,
        from,
        to,
    )
    .fetch_all(db)
    .await
}

/// The blocks that hold these numbers.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_blocks(
    db: impl PgExecutor<'_>,
    source: Uuid,
    [from, to]: [i64; 2],
) -> sqlx::Result<Vec<StoredBlock>> {
    sqlx::query_as!(
        StoredBlock,
        "select last_seq, n_events, since, events from event_block
        where source_id = $1 and last_seq >= $2 and last_seq < $3 + $4::bigint and last_seq - n_events < $3
        order by last_seq",
        source,
        from,
        to,
        i64::try_from(MAX_BLOCK_EVENTS).unwrap_or(i64::MAX),
    )
    .fetch_all(db)
    .await
}
