//! What is to be delivered: one row a source.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::domain::source_state::PAUSED_BY_ADMIN;

/// A source that has something to do.
#[derive(Clone, Copy, Debug)]
pub struct DueSource {
    /// The source.
    pub source_id: Uuid,
    /// The number of its last event.
    pub head_seq: i64,
    /// Whether it had to wait for a time that has come: for a retry, or an admin has changed something since its last lease.
    pub is_timed: bool,
}

/// Sources that have something to do now: new events, a retry, those of a process that ended. By id, the first `limit`
/// after `last`, so that each comes up, however many there are: go on after the last one of a full page, and after a page
/// that is not full begin anew with `None`. Those that a process other than `holder` is at are left out.
///
/// # Errors
/// Where the database cannot be asked; ask again later.
pub async fn list_due(
    db: impl PgExecutor<'_>,
    holder: i32,
    last: Option<Uuid>,
    limit: usize,
) -> sqlx::Result<Vec<DueSource>> {
    // A row a source, and rows that change all the time: reading all costs less than keeping an index.
    sqlx::query_as!(
        DueSource,
        r#"with live as materialized (select number from lease_owner)
        select source_id, head_seq, next_attempt_at > '-infinity' as "is_timed!"
        from delivery join log_head using (source_id)
        where source_id > $2 and cursor_seq < head_seq and is_due(next_attempt_at, waiting_since)
            and not (leased_until > now() and leased_by <> $1 and leased_by in (select number from live))
        order by source_id limit $3"#,
        holder,
        last.unwrap_or(Uuid::nil()),
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .fetch_all(db)
    .await
}

/// The numbers of the last events of these sources.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn heads(db: impl PgExecutor<'_>, sources: &[Uuid]) -> sqlx::Result<Vec<(Uuid, i64)>> {
    let heads = sqlx::query!("select source_id, head_seq from log_head where source_id = any($1)", sources);
    Ok(heads.fetch_all(db).await?.into_iter().map(|row| (row.source_id, row.head_seq)).collect())
}

/// Pauses a source until its admin resumes it; says whether there is such a source.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn pause(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        // Whoever has a lease looks again before he delivers what comes from now on.
        "update delivery
        set paused_by = 'admin', paused_reason = $2, paused_at = coalesce(paused_at, now()), next_attempt_at = now()
        where source_id = $1",
        source,
        PAUSED_BY_ADMIN
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets a source's events flow again, from now, whatever held them; says whether there is such a source.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn resume(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update delivery
        set paused_by = null, paused_reason = null, paused_at = null, n_attempts = 0, n_refused = 0, next_attempt_at = now()
        where source_id = $1",
        source
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}
