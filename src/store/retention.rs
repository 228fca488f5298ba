//! Forgetting what is settled, in pieces that lock nothing for long.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgQueryResult;
use time::OffsetDateTime;

use super::log;

/// Events are kept this long at least, whatever the retention: their ids are what a redelivery is recognised by.
pub const DEDUPLICATION: Duration = Duration::from_hours(7 * 24);
const PIECE: i64 = 5_000;

/// Forgets events that are settled, attempts, events set aside and changes, all older than `retention` before `now`.
/// What still waits is never forgotten. Returns how many rows went.
///
/// # Errors
/// The database's trouble; what went until then is gone, and the next run goes on.
pub async fn forget(db: &PgPool, now: OffsetDateTime, retention: Duration) -> sqlx::Result<u64> {
    let before = now - retention;
    let events_before = now - retention.max(DEDUPLICATION);
    let mut n_forgotten = 0;
    let accounts = sqlx::query!("select account_id, cursor_seq from delivery").fetch_all(db).await?;
    for account in accounts {
        n_forgotten += log::forget(db, account.account_id, account.cursor_seq, events_before).await?;
    }
    n_forgotten += in_pieces(|| {
        sqlx::query!(
            "delete from dead_letter where (account_id, seq) in
                (select account_id, seq from dead_letter where received_at < $1 limit $2)",
            events_before,
            PIECE
        )
        .execute(db)
    })
    .await?;
    // What is left of accounts whose deletion was broken off.
    let deleted = sqlx::query_scalar!(
        "select distinct account_id from event_block
        where not exists (select from account where account.id = event_block.account_id)"
    )
    .fetch_all(db)
    .await?;
    for account_id in deleted {
        super::account::delete(db, account_id).await?;
    }
    n_forgotten += in_pieces(|| {
        sqlx::query!(
            "delete from set_aside where (account_id, digest) in
                (select account_id, digest from set_aside where received_at < $1 limit $2)",
            before,
            PIECE
        )
        .execute(db)
    })
    .await?;
    n_forgotten += in_pieces(|| {
        sqlx::query!(
            "delete from attempt using (select id from attempt order by id limit $2) as oldest
            where attempt.id = oldest.id and started_at < $1",
            before,
            PIECE
        )
        .execute(db)
    })
    .await?;
    // Programs read changes within a second; a day is for one that was stopped in a debugger.
    n_forgotten += sqlx::query!(
        "delete from account_change where changed_at < now() - interval '1 day'
            and version < (select max(version) from account_change)"
    )
    .execute(db)
    .await?
    .rows_affected();
    Ok(n_forgotten)
}

async fn in_pieces<F>(delete: impl Fn() -> F) -> sqlx::Result<u64>
where
    F: Future<Output = sqlx::Result<PgQueryResult>>,
{
    let mut n_deleted = 0;
    loop {
        let n = delete().await?.rows_affected();
        n_deleted += n;
        if n < PIECE.unsigned_abs() {
            return Ok(n_deleted);
        }
    }
}
