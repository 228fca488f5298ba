//! What is to be delivered: one row an account.

use sqlx::PgExecutor;
use uuid::Uuid;

/// The reason that is shown for an admin's own pause.
pub const PAUSED_BY_ADMIN: &str = "paused by an admin";

/// Accounts that have something to do now, the longest due first: new events, a retry, the leavings of a process that
/// ended.
///
/// # Errors
/// The database's trouble.
pub async fn list_due(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    // A row an account, and rows that change all the time: reading all costs less than keeping an index.
    sqlx::query_scalar!(
        "select account_id from delivery join log_head using (account_id)
        where cursor_seq < head_seq and is_due(next_attempt_at, waiting_since)
        order by next_attempt_at limit $1",
        limit
    )
    .fetch_all(db)
    .await
}

/// Pauses an account until its admin resumes it; says whether there is such an account.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn pause(db: impl PgExecutor<'_>, account: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update delivery set paused_by = 'admin', paused_reason = $2 where account_id = $1",
        account,
        PAUSED_BY_ADMIN
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets an account's events flow again, from now, whatever held them; says whether there is such an account.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn resume(db: impl PgExecutor<'_>, account: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update delivery
        set paused_by = null, paused_reason = null, n_attempts = 0, n_refused = 0, next_attempt_at = now()
        where account_id = $1",
        account
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}
