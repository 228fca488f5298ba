//! Calls that wait for their user to be identified, as people look for them. Reads only.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::QuarantinedEvent;

/// A call that waits.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0005_calls.sql explains")]
pub struct HeldCallRow {
    pub id: i64,
    pub user_hash: Uuid,
    pub event_id: Vec<u8>,
    pub received_at: OffsetDateTime,
    pub body: String,
}

/// The `limit` last calls of a source that wait, before this place, backwards.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn before(db: impl PgExecutor<'_>, source: Uuid, id: i64, limit: i64) -> sqlx::Result<Vec<HeldCallRow>> {
    sqlx::query_as!(
        HeldCallRow,
        "select id, user_hash, event_id, received_at, body from held_call
        where source_id = $1 and id < $2 order by id desc limit $3",
        source,
        id,
        limit,
    )
    .fetch_all(db)
    .await
}

/// As [`before`], of one user.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn of_user_before(
    db: impl PgExecutor<'_>,
    source: Uuid,
    user_hash: Uuid,
    id: i64,
    limit: i64,
) -> sqlx::Result<Vec<HeldCallRow>> {
    sqlx::query_as!(
        HeldCallRow,
        "select id, user_hash, event_id, received_at, body from held_call
        where source_id = $1 and user_hash = $2 and id < $3 order by id desc limit $4",
        source,
        user_hash,
        id,
        limit,
    )
    .fetch_all(db)
    .await
}

/// The call of this id that waits.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find(db: impl PgExecutor<'_>, source: Uuid, event_id: &[u8]) -> sqlx::Result<Option<HeldCallRow>> {
    sqlx::query_as!(
        HeldCallRow,
        "select id, user_hash, event_id, received_at, body from held_call where source_id = $1 and event_id = $2",
        source,
        event_id,
    )
    .fetch_optional(db)
    .await
}

/// The call of this id that has waited in vain.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find_expired(
    db: impl PgExecutor<'_>,
    source: Uuid,
    event_id: &[u8],
) -> sqlx::Result<Option<QuarantinedEvent>> {
    sqlx::query_as!(
        QuarantinedEvent,
        "select digest, disposition, received_at, event_name, reason, payload
        from quarantine where source_id = $1 and digest = md5($2::bytea)::uuid",
        source,
        event_id,
    )
    .fetch_optional(db)
    .await
}
