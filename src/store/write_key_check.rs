//! Whether Segment knows the sources' write keys.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// What Segment said of a write key, and when.
#[derive(Clone, Debug)]
pub struct WriteKeyCheck {
    /// When it was asked.
    pub checked_at: OffsetDateTime,
    /// `known`, `unknown` or `unclear`.
    pub verdict: String,
}

/// Writes down what Segment said of a source's write key, sealed as it was read; unless the source has another by now, or
/// is deleted.
///
/// # Errors
/// The database did not answer; ask Segment again.
pub async fn put(db: impl PgExecutor<'_>, source: Uuid, write_key: &[u8], check: &WriteKeyCheck) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into write_key_check (source_id, checked_at, verdict)
        select id, $2, $3 from source where id = $1 and write_key = $4
        on conflict (source_id) do update set checked_at = excluded.checked_at, verdict = excluded.verdict",
        source,
        check.checked_at,
        check.verdict,
        write_key,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What Segment said last of a source's write key.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Option<WriteKeyCheck>> {
    sqlx::query_as!(WriteKeyCheck, "select checked_at, verdict from write_key_check where source_id = $1", source)
        .fetch_optional(db)
        .await
}

/// Sources of these kinds whose key was not asked about since `before`, and goes to no endpoint of their own.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn due(
    db: impl PgExecutor<'_>,
    kinds: &[&str],
    before: OffsetDateTime,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "select id from source left join write_key_check on source_id = id
        where write_key is not null and kind = any($3::text[]) and endpoint is null and (checked_at is null or checked_at < $1)
        order by checked_at nulls first, id limit $2",
        before,
        limit,
        kinds as _
    );
    ids.fetch_all(db).await
}
