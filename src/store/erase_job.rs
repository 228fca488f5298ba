//! Jobs that erase a recipient: how far they are, and what they have removed.

use std::time::Duration;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// How long a lease lasts: longer than a step.
const LEASE: Duration = Duration::from_secs(30);

/// A job as it stands.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0003_jobs.sql explains")]
pub struct EraseJob {
    pub id: Uuid,
    pub account_id: Uuid,
    pub asked_by: String,
    pub created_at: OffsetDateTime,
    pub ended_at: Option<OffsetDateTime>,
    pub email: Option<String>,
    pub uid: Option<String>,
    pub recipient: String,
    pub source_id: Uuid,
    pub phase: String,
    pub log_seq: i64,
    pub after_seq: i64,
    pub after_digest: Uuid,
    pub wait_lease: Option<i64>,
    pub n_sources_done: i32,
    pub n_events: i64,
    pub n_waiting: i64,
    pub n_dead_letters: i64,
    pub n_quarantined: i64,
    pub n_refused_webhooks: i64,
    pub n_texts: i64,
    pub n_unreadable_blocks: i64,
    pub lease: i64,
}

/// Who is to be erased.
#[derive(Clone, Debug)]
pub struct NewEraseJob {
    /// The job.
    pub id: Uuid,
    /// Of whose sources.
    pub account_id: Uuid,
    /// Who asked for it.
    pub asked_by: String,
    /// By address.
    pub email: Option<String>,
    /// By the sender's id.
    pub uid: Option<String>,
    /// So that only who knows the recipient recognises them.
    pub recipient: String,
}

/// Asks for an erasure. Does no harm when it is run twice.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn insert(db: impl PgExecutor<'_>, new: &NewEraseJob) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into erase_job (id, account_id, asked_by, email, uid, recipient) values ($1, $2, $3, $4, $5, $6)
        on conflict (id) do nothing",
        new.id,
        new.account_id,
        new.asked_by,
        new.email,
        new.uid,
        new.recipient,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The last jobs of an account, the newest first; or one of them.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(
    db: impl PgExecutor<'_>,
    account: Uuid,
    only: Option<Uuid>,
    before: Option<(OffsetDateTime, Uuid)>,
    limit: i64,
) -> sqlx::Result<Vec<EraseJob>> {
    sqlx::query_as!(
        EraseJob,
        "select id, account_id, asked_by, created_at, ended_at, email, uid, recipient, source_id, phase, log_seq, after_seq,
            after_digest, wait_lease, n_sources_done, n_events, n_waiting, n_dead_letters, n_quarantined,
            n_refused_webhooks, n_texts, n_unreadable_blocks, lease
        from erase_job
        where account_id = $1 and ($2::uuid is null or id = $2)
            and ($3::timestamptz is null or (created_at, id) < ($3, $4))
        order by created_at desc, id desc limit $5",
        account,
        only,
        before.map(|(at, _)| at),
        before.map(|(_, id)| id),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Leases the jobs whose next step is due: of an account, the one that was asked for first.
///
/// # Errors
/// Where it is not known to be committed; `holder` can lease them again.
pub async fn lease_due(db: impl PgExecutor<'_>, holder: i32) -> sqlx::Result<Vec<EraseJob>> {
    sqlx::query_as!(
        EraseJob,
        r#"with due as (
            select id from erase_job as job
            where ended_at is null and next_step_at <= now() and (leased_until <= now() or leased_by = $1)
                and not exists (
                    select from erase_job as earlier
                    where earlier.account_id = job.account_id and earlier.ended_at is null
                        and (earlier.created_at, earlier.id) < (job.created_at, job.id)
                )
            order by next_step_at limit 16
            for update skip locked
        )
        update erase_job
        set lease = lease + 1, leased_by = $1, leased_until = now() + $2 * interval '1 second'
        from due where erase_job.id = due.id
        returning erase_job.id, account_id, asked_by, created_at, ended_at, email, uid, recipient, source_id, phase, log_seq,
            after_seq, after_digest, wait_lease, n_sources_done, n_events, n_waiting, n_dead_letters, n_quarantined,
            n_refused_webhooks, n_texts, n_unreadable_blocks, lease"#,
        holder,
        LEASE.as_secs_f64(),
    )
    .fetch_all(db)
    .await
}

/// Writes down how far a job is (not what it has removed, which is counted as it is removed), and gives it free until its
/// next step.
///
/// # Errors
/// Where it is not known to be committed: the step is done again.
pub async fn save(db: impl PgExecutor<'_>, job: &EraseJob, wait: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        "update erase_job
        set source_id = $3, phase = $4, log_seq = $5, after_seq = $6, after_digest = $7, wait_lease = $8,
            n_sources_done = $9, n_unreadable_blocks = $10, next_step_at = now() + $11 * interval '1 second',
            leased_until = '-infinity'
        where id = $1 and lease = $2",
        job.id,
        job.lease,
        job.source_id,
        job.phase,
        job.log_seq,
        job.after_seq,
        job.after_digest,
        job.wait_lease,
        job.n_sources_done,
        job.n_unreadable_blocks,
        wait.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a job, and forgets whom it has erased.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn end(db: impl PgExecutor<'_>, job: &EraseJob) -> sqlx::Result<()> {
    sqlx::query!(
        "update erase_job set ended_at = now(), email = null, uid = null, leased_until = '-infinity'
        where id = $1 and lease = $2",
        job.id,
        job.lease,
    )
    .execute(db)
    .await?;
    Ok(())
}
