//! Jobs that put a source's dead letters back into its log, some at a time.

use std::time::Duration;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::dead_letter::Filter;

/// How long a lease lasts: longer than a step.
pub const LEASE: Duration = Duration::from_secs(30);

/// A job as it stands.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0003_jobs.sql explains")]
pub struct ReplayJob {
    pub id: Uuid,
    pub source_id: Uuid,
    pub asked_by: String,
    pub created_at: OffsetDateTime,
    pub ended_at: Option<OffsetDateTime>,
    pub state: String,
    pub waits_for: Option<String>,
    pub kinds: Vec<i16>,
    pub reason: Option<String>,
    pub is_exact_reason: bool,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
    pub last_seq: i64,
    pub n_total: i64,
    pub after_seq: i64,
    pub n_moved: i64,
    pub n_sent: i64,
    pub n_refused: i64,
    pub n_erased: i64,
    pub n_missing: i64,
    pub batch_from: Option<i64>,
    pub batch_to: Option<i64>,
    pub lease: i64,
}

impl ReplayJob {
    /// Which dead letters are meant.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter {
            kinds: self.kinds.clone(),
            reason: self.reason.clone(),
            is_exact_reason: self.is_exact_reason,
            since: self.since,
            until: self.until,
        }
    }
}

/// What a source's delivery is about to do.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryState {
    /// Events after it wait.
    pub cursor_seq: i64,
    /// The last event's number.
    pub head_seq: i64,
    /// Whether an admin, Segment's answer or a damaged log has paused it.
    pub is_paused: bool,
    /// Whether it has a write key.
    pub has_write_key: bool,
}

/// Asks for a replay. Which dead letters, is settled now. Returns how many they are; 0: none are, and there is no job.
///
/// # Errors
/// A unique violation of `replay_job_running_idx` where another replay of the source goes on; or the database did not
/// answer.
pub async fn insert(
    db: impl PgExecutor<'_>,
    id: Uuid,
    source: Uuid,
    filter: &Filter,
    asked_by: &str,
) -> sqlx::Result<i64> {
    let n_total = sqlx::query_scalar!(
        r#"with meant as (
            select count(*) as n, coalesce(max(seq), 0) as last_seq
            from dead_letter
            where source_id = $2
                and (cardinality($3::smallint[]) = 0 or kind = any($3))
                and ($4::text is null or case when $8 then reason = $4 else strpos(lower(reason), lower($4)) > 0 end)
                and ($5::timestamptz is null or dead_at >= $5)
                and ($6::timestamptz is null or dead_at < $6)
        )
        insert into replay_job (id, source_id, asked_by, kinds, reason, is_exact_reason, since, until, last_seq, n_total)
        select $1, $2, $7, $3, $4, $8, $5, $6, last_seq, n from meant where n > 0
        -- Run again after the answer was lost.
        on conflict (id) do update set id = excluded.id
        returning n_total"#,
        id,
        source,
        &filter.kinds,
        filter.reason,
        filter.since,
        filter.until,
        asked_by,
        filter.is_exact_reason,
    )
    .fetch_optional(db)
    .await?;
    Ok(n_total.unwrap_or(0))
}

/// A job of a source.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find(db: impl PgExecutor<'_>, source: Uuid, id: Uuid) -> sqlx::Result<Option<ReplayJob>> {
    sqlx::query_as!(
        ReplayJob,
        "select id, source_id, asked_by, created_at, ended_at, state, waits_for, kinds, reason, is_exact_reason, since,
            until, last_seq, n_total, after_seq, n_moved, n_sent, n_refused, n_erased, n_missing, batch_from, batch_to,
            lease
        from replay_job where source_id = $1 and id = $2",
        source,
        id
    )
    .fetch_optional(db)
    .await
}

/// The last jobs of a source, the newest first: of those before a place (a time and an id), where one is named.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(
    db: impl PgExecutor<'_>,
    source: Uuid,
    before: Option<(OffsetDateTime, Uuid)>,
    limit: i64,
) -> sqlx::Result<Vec<ReplayJob>> {
    sqlx::query_as!(
        ReplayJob,
        "select id, source_id, asked_by, created_at, ended_at, state, waits_for, kinds, reason, is_exact_reason, since,
            until, last_seq, n_total, after_seq, n_moved, n_sent, n_refused, n_erased, n_missing, batch_from, batch_to,
            lease
        from replay_job
        where source_id = $1 and ($2::timestamptz is null or (created_at, id) < ($2, $3))
        order by created_at desc, id desc limit $4",
        source,
        before.map(|(at, _)| at),
        before.map(|(_, id)| id),
        limit
    )
    .fetch_all(db)
    .await
}

/// Asks for the end of a job: nothing more is put back. Says whether it went on until now.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn cancel(db: impl PgExecutor<'_>, source: Uuid, id: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update replay_job set state = 'cancelling', next_step_at = now()
        where source_id = $1 and id = $2 and ended_at is null",
        source,
        id
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Leases the jobs whose next step is due; also those that were cancelled, while some of their events are on their way.
///
/// # Errors
/// Where it is not known to be committed; `holder` can lease them again.
pub async fn lease_due(db: impl PgExecutor<'_>, holder: i32) -> sqlx::Result<Vec<ReplayJob>> {
    sqlx::query_as!(
        ReplayJob,
        r#"with due as (
            select id from replay_job
            where (ended_at is null or batch_from is not null) and next_step_at <= now() and (leased_until <= now() or leased_by = $1)
            order by next_step_at limit 16
            for update skip locked
        )
        update replay_job
        set lease = lease + 1, leased_by = $1, leased_until = now() + $2 * interval '1 second'
        from due where replay_job.id = due.id
        returning replay_job.id, source_id, asked_by, created_at, ended_at, state, waits_for, kinds, reason,
            is_exact_reason, since, until, last_seq, n_total, after_seq, n_moved, n_sent, n_refused, n_erased, n_missing,
            batch_from, batch_to, lease"#,
        holder,
        LEASE.as_secs_f64(),
    )
    .fetch_all(db)
    .await
}

/// How the delivery of a source stands; `None`: there is no such source.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn delivery_state(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Option<DeliveryState>> {
    sqlx::query_as!(
        DeliveryState,
        r#"select cursor_seq, head_seq, paused_by is not null as "is_paused!", write_key is not null as "has_write_key!"
        from delivery join log_head using (source_id) join source on source.id = source_id
        where source_id = $1"#,
        source
    )
    .fetch_optional(db)
    .await
}

/// What became of a batch; each of its events is in one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Segment has taken them.
    pub n_sent: i64,
    /// They are dead letters again, or were until somebody put them back once more.
    pub n_refused: i64,
    /// They were erased before they were sent, or as dead letters.
    pub n_erased: i64,
    /// The log does not have them any more.
    pub n_missing: i64,
}

/// Counts what became of the batch that was on its way: all of it is behind the cursor.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn count_batch(db: impl PgExecutor<'_>, job: &ReplayJob, outcome: BatchOutcome) -> sqlx::Result<()> {
    sqlx::query!(
        "update replay_job
        set n_sent = n_sent + $4, n_refused = n_refused + $5, n_erased = n_erased + $6, n_missing = n_missing + $7,
            batch_from = null, batch_to = null, waits_for = null
        where id = $1 and lease = $2 and batch_from = $3",
        job.id,
        job.lease,
        job.batch_from,
        outcome.n_sent,
        outcome.n_refused,
        outcome.n_erased,
        outcome.n_missing,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Passes dead letters that are none any more.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn pass(db: impl PgExecutor<'_>, job: &ReplayJob, after_seq: i64) -> sqlx::Result<()> {
    sqlx::query!("update replay_job set after_seq = $3 where id = $1 and lease = $2", job.id, job.lease, after_seq)
        .execute(db)
        .await?;
    Ok(())
}

/// Gives a job free until its next step, which waits for something where that is said.
///
/// # Errors
/// Where it is not known to be committed: the lease ends by itself.
pub async fn release(
    db: impl PgExecutor<'_>,
    job: &ReplayJob,
    wait: Duration,
    waits_for: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update replay_job
        set leased_until = '-infinity', waits_for = $4,
            -- Somebody who cancels it meanwhile does not wait.
            next_step_at = case when state = $5 then now() + $3 * interval '1 second' else now() end
        where id = $1 and lease = $2",
        job.id,
        job.lease,
        wait.as_secs_f64(),
        waits_for,
        job.state,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a job.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn end(db: impl PgExecutor<'_>, job: &ReplayJob, state: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update replay_job set state = $3, ended_at = now(), waits_for = null, leased_until = '-infinity'
        where id = $1 and lease = $2",
        job.id,
        job.lease,
        state,
    )
    .execute(db)
    .await?;
    Ok(())
}
