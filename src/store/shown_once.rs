//! Secrets on their way to the page that shows them, once.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// A secret to be shown.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0004_console.sql explains")]
pub struct ShownOnce<'a> {
    pub id: Uuid,
    pub about: Uuid,
    pub person_id: Uuid,
    pub sealed: &'a [u8],
    pub expires_at: OffsetDateTime,
}

/// Keeps a secret, and forgets those that nobody came for.
///
/// # Errors
/// The database did not answer: it is not kept.
pub async fn insert(db: impl PgExecutor<'_>, secret: &ShownOnce<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "with expired as (
            delete from shown_once where expires_at < now()
        )
        insert into shown_once (id, about, person_id, sealed, expires_at) values ($1, $2, $3, $4, $5)
        on conflict (id) do nothing",
        secret.id,
        secret.about,
        secret.person_id,
        secret.sealed,
        secret.expires_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Takes a secret out, for the one who had it made.
///
/// # Errors
/// The database did not answer: whether it is still there is not known.
pub async fn take(
    db: impl PgExecutor<'_>,
    about: Uuid,
    id: Uuid,
    person: Uuid,
    now: OffsetDateTime,
) -> sqlx::Result<Option<Vec<u8>>> {
    let taken = sqlx::query_scalar!(
        "delete from shown_once where id = $1 and about = $2 and person_id = $3 and expires_at > $4 returning sealed",
        id,
        about,
        person,
        now
    );
    taken.fetch_optional(db).await
}
