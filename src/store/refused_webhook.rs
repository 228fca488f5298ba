//! Webhooks that were refused because of their signature: the last few of each source, for a short while.

use std::time::Duration;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// How long they are kept.
pub const KEPT: Duration = Duration::from_hours(24);
/// How many are kept of a source.
pub const MAX_KEPT: i64 = 50;

/// A webhook that was refused.
#[derive(Clone, Debug)]
pub struct RefusedWebhook {
    /// The source of its URL.
    pub source_id: Uuid,
    /// When it came.
    pub received_at: OffsetDateTime,
    /// The headers that sign it, or look as if: names and values.
    pub headers: Vec<(String, String)>,
    /// The beginning of its body.
    pub body: Vec<u8>,
    /// How long its body was.
    pub n_body_bytes: i64,
    /// What is probably wrong, by name.
    pub fault: String,
    /// The same in words.
    pub explanation: String,
}

/// Keeps a refused webhook, and forgets what is too old or too many of its source.
///
/// # Errors
/// Where it is not known to be committed; run again, it may be kept twice.
pub async fn insert(db: impl PgExecutor<'_>, refused: &RefusedWebhook) -> sqlx::Result<()> {
    let headers = serde_json::to_string(&refused.headers).unwrap_or_default();
    sqlx::query!(
        "with old as (
            delete from refused_webhook
            where source_id = $1 and (received_at < $8 or id not in (
                select id from refused_webhook where source_id = $1 order by id desc limit $9
            ))
        )
        insert into refused_webhook (source_id, received_at, headers, body, n_body_bytes, fault, explanation)
        select id, $2, $3, $4, $5, $6, $7 from source where id = $1",
        refused.source_id,
        refused.received_at,
        super::storable(&headers),
        &refused.body,
        refused.n_body_bytes,
        refused.fault,
        super::storable(&refused.explanation),
        refused.received_at - KEPT,
        MAX_KEPT - 1,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The refused webhooks of a source, the newest first, with their ids: at most `limit` with ids before `before`.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(
    db: impl PgExecutor<'_>,
    source: Uuid,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<(i64, RefusedWebhook)>> {
    let rows = sqlx::query!(
        "select id, received_at, headers, body, n_body_bytes, fault, explanation
        from refused_webhook
        where source_id = $1 and ($2::bigint is null or id < $2) and received_at > now() - $4 * interval '1 second'
        order by id desc limit $3",
        source,
        before,
        limit,
        KEPT.as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    let refused = rows.into_iter().map(|row| {
        let refused = RefusedWebhook {
            source_id: source,
            received_at: row.received_at,
            headers: serde_json::from_str(&row.headers).unwrap_or_default(),
            body: row.body,
            n_body_bytes: row.n_body_bytes,
            fault: row.fault,
            explanation: row.explanation,
        };
        (row.id, refused)
    });
    Ok(refused.collect())
}
