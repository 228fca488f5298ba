//! Removing what is kept of a recipient. What each statement removes, it counts in its job.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::block::{Block, StoredBlock};
use super::erase_job::EraseJob;

/// How many blocks, or rows, are looked at at a time.
pub const BLOCKS: i64 = 32;
/// See [`BLOCKS`].
pub const ROWS: i64 = 500;
/// See [`BLOCKS`]: of those with payloads, which may have a megabyte each.
pub const QUARANTINED: i64 = 20;
/// What stands where a text was erased.
const ERASED: &str = "erased";

/// How a source's log and delivery stand.
#[derive(Clone, Copy, Debug)]
pub struct LogState {
    /// The number of the last event.
    pub head_seq: i64,
    /// Events after it wait.
    pub cursor_seq: i64,
    /// The number of the last lease.
    pub lease: i64,
    /// Whether it was not ended.
    pub is_leased: bool,
    /// Whether its time is up.
    pub is_over: bool,
}

/// A dead letter, as far as it is looked at.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns")]
pub struct LetterText {
    pub seq: i64,
    pub track: String,
    pub reason: String,
}

/// An event in quarantine, as far as it is looked at.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns")]
pub struct QuarantinedText {
    pub digest: Uuid,
    pub event_name: Option<String>,
    pub reason: Option<String>,
    pub payload: String,
}

/// The next source of an account, in the order of their ids.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn next_source(db: impl PgExecutor<'_>, account: Uuid, after: Uuid) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!("select id from source where account_id = $1 and id > $2 order by id limit 1", account, after)
        .fetch_optional(db)
        .await
}

/// How a source's log stands; `None`: the source is gone.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn log_state(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Option<LogState>> {
    sqlx::query_as!(
        LogState,
        r#"select head_seq, cursor_seq, lease, leased_until > '-infinity' as "is_leased!",
            leased_until < now() as "is_over!"
        from log_head join delivery using (source_id) where source_id = $1"#,
        source
    )
    .fetch_optional(db)
    .await
}

/// A source's blocks after `seq`, where a key is given only those that may hold it.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_blocks(
    db: impl PgExecutor<'_>,
    source: Uuid,
    seq: i64,
    key: Option<&[u8]>,
) -> sqlx::Result<Vec<StoredBlock>> {
    sqlx::query_as!(
        StoredBlock,
        "select last_seq, n_events, since, events from event_block
        where source_id = $1 and last_seq > $2 and ($3::bytea is null or position($3 in filter) > 0)
        order by last_seq limit $4",
        source,
        seq,
        key,
        BLOCKS,
    )
    .fetch_all(db)
    .await
}

/// Replaces a block by what is left of it. Says whether it was as it was read; where not, nothing has changed.
///
/// # Errors
/// Where it is not known to be committed: look at the block again.
pub async fn replace_block(
    db: impl PgExecutor<'_>,
    job: &EraseJob,
    stored: &StoredBlock,
    left: &Block,
    [n_erased, n_waiting]: [i64; 2],
) -> sqlx::Result<bool> {
    let n_replaced = sqlx::query_scalar!(
        r#"with replaced as (
            update event_block set events = $3, filter = $4
            where source_id = $1 and last_seq = $2 and events = $5
            returning last_seq
        ),
        counted as (
            update erase_job set n_events = n_events + $6, n_waiting = n_waiting + $7
            where id = $8 and exists (select from replaced)
        )
        select count(*) as "n!" from replaced"#,
        job.source_id,
        stored.last_seq,
        left.compress(),
        left.filter(),
        stored.events,
        n_erased,
        n_waiting,
        job.id,
    )
    .fetch_one(db)
    .await?;
    Ok(n_replaced == 1)
}

/// How many blocks of a source could not be read, and were put aside.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn count_unreadable(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "n!" from unreadable_block where source_id = $1"#, source)
        .fetch_one(db)
        .await
}

/// Has a lease end with the step that is in flight, or its next, where it would be kept; and a statement that is taking one,
/// and may have read blocks before they were replaced, fail. Says how the log stands then; `None`: the source is gone.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn end_lease(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Option<LogState>> {
    sqlx::query_as!(
        LogState,
        r#"update delivery set next_attempt_at = greatest(next_attempt_at, now())
        from log_head where delivery.source_id = $1 and log_head.source_id = delivery.source_id
        returning head_seq, cursor_seq, lease, leased_until > '-infinity' as "is_leased!", leased_until < now() as "is_over!""#,
        source
    )
    .fetch_optional(db)
    .await
}

/// Takes a lease from its holder, whose time is up: it cannot settle any more.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn void_lease(db: impl PgExecutor<'_>, source: Uuid, lease: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "update delivery set lease = lease + 1, leased_until = '-infinity'
        where source_id = $1 and lease = $2 and leased_until < now()",
        source,
        lease
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether dead letters were put back into the log behind `seq`.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn is_replayed_after(db: impl PgExecutor<'_>, source: Uuid, seq: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from replay where source_id = $1 and to_seq > $2) as "is!""#,
        source,
        seq
    )
    .fetch_one(db)
    .await
}

/// A source's dead letters after `seq`.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_letters(db: impl PgExecutor<'_>, source: Uuid, seq: i64) -> sqlx::Result<Vec<LetterText>> {
    sqlx::query_as!(
        LetterText,
        "select seq, track, reason from dead_letter where source_id = $1 and seq > $2 order by seq limit $3",
        source,
        seq,
        ROWS
    )
    .fetch_all(db)
    .await
}

/// Removes dead letters.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn delete_letters(db: impl PgExecutor<'_>, job: &EraseJob, seqs: &[i64]) -> sqlx::Result<()> {
    sqlx::query!(
        "with gone as (
            delete from dead_letter where source_id = $1 and seq = any($2) returning seq
        ),
        counted as (
            update delivery set n_dead_erased = n_dead_erased + (select count(*) from gone)
            where source_id = $1 and exists (select from gone)
        )
        update erase_job set n_dead_letters = n_dead_letters + (select count(*) from gone) where id = $3",
        job.source_id,
        seqs,
        job.id
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What a source has in quarantine after `digest`.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_quarantined(
    db: impl PgExecutor<'_>,
    source: Uuid,
    digest: Uuid,
) -> sqlx::Result<Vec<QuarantinedText>> {
    sqlx::query_as!(
        QuarantinedText,
        "select digest, event_name, reason, payload from quarantine
        where source_id = $1 and digest > $2 order by digest limit $3",
        source,
        digest,
        QUARANTINED
    )
    .fetch_all(db)
    .await
}

/// Empties what is in quarantine. Its digests stay: sent again, it stays out.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn empty_quarantined(db: impl PgExecutor<'_>, job: &EraseJob, digests: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "with emptied as (
            update quarantine
            set payload = '', event_name = case when event_name is not null then $4 end,
                reason = case when reason is not null then $4 end
            where source_id = $1 and digest = any($2) and payload <> ''
            returning digest
        )
        update erase_job set n_quarantined = n_quarantined + (select count(*) from emptied) where id = $3",
        job.source_id,
        digests,
        job.id,
        ERASED,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The refused webhooks of a source: their ids and bodies, and headers.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_refused(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Vec<(i64, Vec<u8>, String)>> {
    let rows = sqlx::query!("select id, body, headers from refused_webhook where source_id = $1", source);
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.id, row.body, row.headers)).collect())
}

/// Removes refused webhooks.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn delete_refused(db: impl PgExecutor<'_>, job: &EraseJob, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!(
        "with gone as (
            delete from refused_webhook where source_id = $1 and id = any($2) returning id
        )
        update erase_job set n_refused_webhooks = n_refused_webhooks + (select count(*) from gone) where id = $3",
        job.source_id,
        ids,
        job.id
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes the address from what Segment answered.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn erase_reasons(db: impl PgExecutor<'_>, job: &EraseJob, email: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "with attempts as (
            update attempt set reason = $4
            where source_id = $1 and reason is not null and strpos(lower(reason), $2) > 0 returning 1
        ),
        replays as (
            update replay set reason = $4 where source_id = $1 and strpos(lower(reason), $2) > 0 returning 1
        ),
        deliveries as (
            update delivery
            set paused_reason = case when strpos(lower(paused_reason), $2) > 0 then $4 else paused_reason end,
                last_error = case when strpos(lower(last_error), $2) > 0 then $4 else last_error end
            where source_id = $1 and (strpos(lower(paused_reason), $2) > 0 or strpos(lower(last_error), $2) > 0)
            returning 1
        )
        update erase_job
        set n_texts = n_texts + (select count(*) from attempts) + (select count(*) from replays)
            + (select count(*) from deliveries)
        where id = $3",
        job.source_id,
        email,
        job.id,
        ERASED,
    )
    .execute(db)
    .await?;
    Ok(())
}
