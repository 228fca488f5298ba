//! How sources stand, in numbers that add up.
//!
//! Every event that was accepted waits, was delivered, was given up (and may be forgotten by now), is missing, or was erased
//! before it was delivered; one that was sent again waits, or was delivered or given up, once more. So with what `log_head` and `delivery` count:
//! `head_seq - n_replayed = (head_seq - cursor_seq - cardinality(done_ahead)) + n_delivered + n_dead_left + n_missing` and
//! `n_erased + n_dead_erased + n_dead_forgotten`, where `n_dead_left` is
//! `n_dead - n_replayed - n_dead_erased - n_dead_forgotten`.

use std::time::Duration;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::attempt::MAX_ATTEMPT_SPAN;
use crate::domain::call;
use crate::domain::event::Kind;

/// So many held calls, or identified users, are counted: millions would take a page's time.
pub const MANY: i64 = 10_000;

/// How a source stands.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
pub struct Standing {
    /// The source.
    pub source_id: Uuid,
    /// Its account.
    pub account_id: Uuid,
    /// Its name.
    pub name: String,
    /// What sends to it.
    pub kind: String,
    /// Whether it has a write key, or one of Nudgespot.
    pub has_write_key: bool,
    /// Whether Segment does not know its write key. Of a source with an endpoint of its own, nobody asks.
    pub is_write_key_unknown: bool,
    /// Whether it has a signing secret.
    pub has_secret: bool,
    /// Since when an admin knows that nothing comes.
    pub quiet_acknowledged_at: Option<OffsetDateTime>,
    /// Events that came again.
    pub duplicates: i64,
    /// Events of a kind that is not forwarded.
    pub ignored: i64,
    /// Events that cannot be used.
    pub rejected: i64,
    /// Whether any of these is kept.
    pub has_rejected: bool,
    /// Events that are forwarded.
    pub accepted: i64,
    /// Of these: those that wait.
    pub waiting: i64,
    /// Of these: those that Segment took.
    pub delivered: i64,
    /// Of these: those that were given up, were not sent again, and are kept.
    pub gave_up: i64,
    /// Of these: those that were given up, and were not sent again until they were too old to be kept.
    pub forgotten: i64,
    /// Of these: those that the log has lost.
    pub missing: i64,
    /// Of these: those that were erased before they were delivered.
    pub erased: i64,
    /// Events that were given up and sent again.
    pub replayed: i64,
    /// Events by kind, in the order of [`Kind::ALL`](crate::domain::event::Kind::ALL).
    pub by_kind: [i64; Kind::ALL.len()],
    /// Calls that wait for their user to be identified, up to [`MANY`] and one.
    pub held: i64,
    /// Users who are identified, up to [`MANY`] and one.
    pub identified: i64,
    /// Why it is paused.
    pub paused_reason: Option<String>,
    /// Since when it is paused.
    pub paused_at: Option<OffsetDateTime>,
    /// Why the last attempt failed, until one succeeds.
    pub last_error: Option<String>,
    /// Since when the first event waits.
    pub oldest_waiting_since: Option<OffsetDateTime>,
    /// When the last event came, or was sent again.
    pub last_event_at: Option<OffsetDateTime>,
    /// Events that came today (UTC).
    pub accepted_today: i64,
    /// Events that came in the last whole hour and this one.
    pub accepted_lately: i64,
}

/// How sources stand: of an account, or of all where there is none; or one of them. By name.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(db: impl PgExecutor<'_>, account: Option<Uuid>, source: Option<Uuid>) -> sqlx::Result<Vec<Standing>> {
    let rows = sqlx::query!(
        r#"
        select source.id, account_id, name, kind, write_key is not null as "has_write_key!", secret is not null as "has_secret!",
            quiet_acknowledged_at, log_head.n_duplicates, log_head.n_ignored, log_head.n_rejected,
            head_seq - n_replayed as "accepted!", head_seq - cursor_seq - cardinality(done_ahead) as "waiting!", delivery.n_delivered,
            delivery.n_dead - n_replayed - n_dead_erased - n_dead_forgotten as "gave_up!", n_dead_forgotten, n_missing,
            n_replayed,
            exists (
                select from quarantine where quarantine.source_id = source.id and disposition = 'rejected'
            ) as "has_rejected!",
            write_key is not null and kind <> $3 and endpoint is null and exists (
                select from write_key_check where write_key_check.source_id = source.id and verdict = 'unknown'
            ) as "is_write_key_unknown!",
            n_erased + n_dead_erased as "erased!",
            array[log_head.n_email_delivered, log_head.n_opened, log_head.n_clicked, log_head.n_bounced,
                log_head.n_marked_as_spam, log_head.n_unsubscribed, log_head.n_identify, log_head.n_track] as "by_kind!",
            (
                select count(*) from (
                    select from held_call where held_call.source_id = source.id limit $4::bigint + 1
                ) as held
            ) as "held!",
            (
                select count(*) from (
                    select from identified_user where identified_user.source_id = source.id limit $4::bigint + 1
                ) as identified
            ) as "identified!",
            paused_reason, paused_at, last_error, oldest.since as "oldest_waiting_since?",
            newest.since as "last_event_at?",
            head_seq - n_replayed - mark.n_accepted + recent.today as "accepted_today!",
            head_seq - n_replayed - mark.n_accepted + recent.lately as "accepted_lately!"
        from source
        join log_head on log_head.source_id = source.id
        join delivery on delivery.source_id = source.id
        join traffic_mark as mark on mark.source_id = source.id
        left join lateral (
            select since from event_block
            where event_block.source_id = source.id and last_seq > cursor_seq and cursor_seq < head_seq
            order by last_seq limit 1
        ) as oldest on true
        left join lateral (
            select since from event_block where event_block.source_id = source.id order by last_seq desc limit 1
        ) as newest on true
        cross join lateral (
            select coalesce(sum(traffic.n_accepted) filter (where starts_at >= date_trunc('day', now(), 'UTC')), 0)::bigint as today,
                coalesce(sum(traffic.n_accepted)
                    filter (where starts_at >= date_trunc('hour', now(), 'UTC') - interval '1 hour'), 0)::bigint as lately
            from traffic
            where traffic.source_id = source.id and step = 'hour'
                and starts_at >= least(date_trunc('day', now(), 'UTC'), date_trunc('hour', now(), 'UTC') - interval '1 hour')
        ) as recent
        where ($1::uuid is null or account_id = $1) and ($2::uuid is null or source.id = $2)
        order by name
        "#,
        account,
        source,
        call::SOURCE_KIND,
        MANY,
    )
    .fetch_all(db)
    .await?;
    let standings = rows.into_iter().map(|row| Standing {
        source_id: row.id,
        account_id: row.account_id,
        name: row.name,
        kind: row.kind,
        has_write_key: row.has_write_key,
        is_write_key_unknown: row.is_write_key_unknown,
        has_secret: row.has_secret,
        quiet_acknowledged_at: row.quiet_acknowledged_at,
        duplicates: row.n_duplicates,
        ignored: row.n_ignored,
        rejected: row.n_rejected,
        has_rejected: row.has_rejected,
        accepted: row.accepted,
        waiting: row.waiting,
        delivered: row.n_delivered,
        gave_up: row.gave_up,
        forgotten: row.n_dead_forgotten,
        missing: row.n_missing,
        erased: row.erased,
        replayed: row.n_replayed,
        by_kind: row.by_kind.try_into().unwrap_or_default(),
        held: row.held,
        identified: row.identified,
        paused_reason: row.paused_reason,
        paused_at: row.paused_at,
        last_error: row.last_error,
        oldest_waiting_since: row.oldest_waiting_since,
        last_event_at: row.last_event_at,
        accepted_today: row.accepted_today,
        accepted_lately: row.accepted_lately,
    });
    Ok(standings.collect())
}

/// The source with this status token.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find_by_status_token(db: impl PgExecutor<'_>, token: &str) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!("select id from source where status_token = $1", token).fetch_optional(db).await
}

/// Replaces the token in the source's status address. Says whether the source is there.
///
/// # Errors
/// The database did not answer; try again.
pub async fn update_status_token(db: impl PgExecutor<'_>, id: Uuid, token: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("update source set status_token = $2 where id = $1", id, token).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that an admin knows that nothing comes, until something does. Says whether the source is there.
///
/// # Errors
/// The database did not answer; try again.
pub async fn acknowledge_quiet(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!("update source set quiet_acknowledged_at = now() where id = $1", id).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// A request that was made, or several that went well one after the other.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct AttemptRow {
    pub from_seq: i64,
    pub to_seq: i64,
    pub n_events: i32,
    pub n_requests: i32,
    pub started_at: OffsetDateTime,
    pub duration_ms: i32,
    pub status: Option<i16>,
    pub outcome: String,
    pub reason: Option<String>,
}

impl AttemptRow {
    /// How long it took.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.duration_ms).unwrap_or_default())
    }
}

/// The last requests that were made for a source, the last one first.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn last_attempts(db: impl PgExecutor<'_>, source: Uuid, limit: i64) -> sqlx::Result<Vec<AttemptRow>> {
    sqlx::query_as!(
        AttemptRow,
        r#"select from_seq, to_seq, n_events, n_requests, started_at, duration_ms, status, outcome::text as "outcome!", reason
        from (
            -- Nearly the same order, and one that an index has.
            select * from attempt where source_id = $1 order by to_seq desc, id desc limit $2
        ) as attempt order by id desc"#,
        source,
        limit
    )
    .fetch_all(db)
    .await
}

/// The requests that an event of this number was in, in order: the first and the last ones, `limit` of each, where there
/// are more.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn attempts_of(
    db: impl PgExecutor<'_>,
    source: Uuid,
    seq: i64,
    limit: i64,
) -> sqlx::Result<(Vec<AttemptRow>, i64)> {
    let rows = sqlx::query!(
        r#"with of_event as (
            select *, row_number() over (order by id) as place, count(*) over () as n_all
            from attempt
            -- The index finds the upper bound: no request is about more numbers.
            where source_id = $1 and to_seq >= $2 and to_seq < $2 + $4 and from_seq <= $2
        )
        select from_seq, to_seq, n_events, n_requests, started_at, duration_ms, status, outcome::text as "outcome!", reason,
            n_all as "n_all!"
        from of_event where place <= $3 or place > n_all - $3 order by id"#,
        source,
        seq,
        limit,
        MAX_ATTEMPT_SPAN,
    )
    .fetch_all(db)
    .await?;
    let n_all = rows.first().map_or(0, |row| row.n_all);
    let attempts = rows.into_iter().map(|row| AttemptRow {
        from_seq: row.from_seq,
        to_seq: row.to_seq,
        n_events: row.n_events,
        n_requests: row.n_requests,
        started_at: row.started_at,
        duration_ms: row.duration_ms,
        status: row.status,
        outcome: row.outcome,
        reason: row.reason,
    });
    Ok((attempts.collect(), n_all))
}
