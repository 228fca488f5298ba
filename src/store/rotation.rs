//! The end of a rotation: the secret before the current one.

use sqlx::PgExecutor;
use uuid::Uuid;

/// Forgets the secret before the current one. Says whether there was one that still verified.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn end_previous_secret(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<bool> {
    let ended = sqlx::query_scalar!(
        r#"update source set previous_secret = null, previous_secret_until = null
        from source as before
        where source.id = $1 and before.id = source.id and source.previous_secret is not null
        returning before.previous_secret_until > now() as "was_valid!""#,
        source
    );
    Ok(ended.fetch_optional(db).await?.unwrap_or(false))
}
