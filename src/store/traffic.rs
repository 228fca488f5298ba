//! What came and what became of it, by minute and by hour, so that no chart reads the log.
//!
//! `log_head` and `delivery` count from the beginning. What was counted since the last time is added to the minute and
//! the hour that it is now; how far that has got stands in `traffic_mark`, and moves in the same statement. So each event is
//! counted once, whatever breaks in between, on however many replicas; and it costs the same for one event as for a
//! million.

use std::time::Duration;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::connection::Connection;

/// How often what was counted is added up.
pub const ROLL_INTERVAL: Duration = Duration::from_secs(10);
/// How long minutes are kept.
const KEEP_MINUTES: time::Duration = time::Duration::hours(25);
/// How long hours are kept.
const KEEP_HOURS: time::Duration = time::Duration::days(31);

/// How long a step of a chart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A minute; kept for a day.
    Minute,
    /// An hour; kept for a month.
    Hour,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

/// What was counted in a step.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct Traffic {
    pub starts_at: OffsetDateTime,
    pub n_accepted: i64,
    pub n_duplicates: i64,
    pub n_ignored: i64,
    pub n_rejected: i64,
    pub n_delivered: i64,
    pub n_dead: i64,
    pub n_email_delivered: i64,
    pub n_opened: i64,
    pub n_clicked: i64,
    pub n_bounced: i64,
    pub n_marked_as_spam: i64,
    pub n_unsubscribed: i64,
    pub n_identify: i64,
    pub n_track: i64,
}

/// Adds what was counted since the last time to this minute and this hour; returns how many sources had something.
///
/// # Errors
/// The database did not answer; it is made up for the next time.
pub async fn roll(db: impl PgExecutor<'_>) -> sqlx::Result<u64> {
    let n_sources = sqlx::query_scalar!(
        r#"with counted as (
            select source_id, head_seq - n_replayed as n_accepted, n_duplicates, n_ignored, n_rejected, n_delivered,
                n_dead, n_email_delivered, n_opened, n_clicked, n_bounced, n_marked_as_spam, n_unsubscribed, n_identify,
                n_track,
                head_seq - n_replayed + n_duplicates + n_ignored + n_rejected + n_delivered + n_dead as total
            from log_head join delivery using (source_id)
        ),
        mark as materialized (
            select traffic_mark.* from traffic_mark join counted using (source_id)
            -- All counts only grow. Where they are less than the mark, another replica has moved it since this statement
            -- began, or, if that was long ago, a part of the database was restored.
            where counted.total > traffic_mark.total
                or counted.total < traffic_mark.total and rolled_at < now() - interval '1 minute'
            for update of traffic_mark skip locked
        ),
        moved as (
            update traffic_mark
            set rolled_at = now(), total = counted.total, n_accepted = counted.n_accepted,
                n_duplicates = counted.n_duplicates, n_ignored = counted.n_ignored, n_rejected = counted.n_rejected,
                n_delivered = counted.n_delivered, n_dead = counted.n_dead,
                n_email_delivered = counted.n_email_delivered, n_opened = counted.n_opened,
                n_clicked = counted.n_clicked, n_bounced = counted.n_bounced,
                n_marked_as_spam = counted.n_marked_as_spam, n_unsubscribed = counted.n_unsubscribed,
                n_identify = counted.n_identify, n_track = counted.n_track
            from mark join counted using (source_id)
            where traffic_mark.source_id = mark.source_id
        ),
        added as (
            insert into traffic
                (source_id, step, starts_at, n_accepted, n_duplicates, n_ignored, n_rejected, n_delivered, n_dead,
                n_email_delivered, n_opened, n_clicked, n_bounced, n_marked_as_spam, n_unsubscribed, n_identify, n_track)
            select source_id, step, date_trunc(step::text, now(), 'UTC'),
                greatest(counted.n_accepted - mark.n_accepted, 0), greatest(counted.n_duplicates - mark.n_duplicates, 0),
                greatest(counted.n_ignored - mark.n_ignored, 0), greatest(counted.n_rejected - mark.n_rejected, 0),
                greatest(counted.n_delivered - mark.n_delivered, 0), greatest(counted.n_dead - mark.n_dead, 0),
                greatest(counted.n_email_delivered - mark.n_email_delivered, 0),
                greatest(counted.n_opened - mark.n_opened, 0), greatest(counted.n_clicked - mark.n_clicked, 0),
                greatest(counted.n_bounced - mark.n_bounced, 0),
                greatest(counted.n_marked_as_spam - mark.n_marked_as_spam, 0),
                greatest(counted.n_unsubscribed - mark.n_unsubscribed, 0),
                greatest(counted.n_identify - mark.n_identify, 0), greatest(counted.n_track - mark.n_track, 0)
            from mark join counted using (source_id), unnest(enum_range(null::traffic_step)) as step
            on conflict (source_id, step, starts_at) do update
            set n_accepted = traffic.n_accepted + excluded.n_accepted,
                n_duplicates = traffic.n_duplicates + excluded.n_duplicates,
                n_ignored = traffic.n_ignored + excluded.n_ignored,
                n_rejected = traffic.n_rejected + excluded.n_rejected,
                n_delivered = traffic.n_delivered + excluded.n_delivered,
                n_dead = traffic.n_dead + excluded.n_dead,
                n_email_delivered = traffic.n_email_delivered + excluded.n_email_delivered,
                n_opened = traffic.n_opened + excluded.n_opened,
                n_clicked = traffic.n_clicked + excluded.n_clicked,
                n_bounced = traffic.n_bounced + excluded.n_bounced,
                n_marked_as_spam = traffic.n_marked_as_spam + excluded.n_marked_as_spam,
                n_unsubscribed = traffic.n_unsubscribed + excluded.n_unsubscribed,
                n_identify = traffic.n_identify + excluded.n_identify, n_track = traffic.n_track + excluded.n_track
        )
        select count(*) as "n!" from mark"#
    )
    .fetch_one(db)
    .await?;
    Ok(u64::try_from(n_sources).unwrap_or_default())
}

/// What was counted of a source from `from` on, oldest first, without steps in which nothing was. What is not added up yet
/// is counted in this one, so the sum is always that of `log_head` and `delivery`.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(
    db: impl PgExecutor<'_>,
    source: Uuid,
    step: Step,
    from: OffsetDateTime,
) -> sqlx::Result<Vec<Traffic>> {
    sqlx::query_as!(
        Traffic,
        r#"with part as (
            select starts_at, n_accepted, n_duplicates, n_ignored, n_rejected, n_delivered, n_dead, n_email_delivered,
                n_opened, n_clicked, n_bounced, n_marked_as_spam, n_unsubscribed, n_identify, n_track
            from traffic where source_id = $1 and step = $2::text::traffic_step and starts_at >= $3
            union all
            select date_trunc($2::text, now(), 'UTC'), head_seq - n_replayed - mark.n_accepted,
                log_head.n_duplicates - mark.n_duplicates, log_head.n_ignored - mark.n_ignored,
                log_head.n_rejected - mark.n_rejected, delivery.n_delivered - mark.n_delivered,
                delivery.n_dead - mark.n_dead, log_head.n_email_delivered - mark.n_email_delivered,
                log_head.n_opened - mark.n_opened, log_head.n_clicked - mark.n_clicked,
                log_head.n_bounced - mark.n_bounced, log_head.n_marked_as_spam - mark.n_marked_as_spam,
                log_head.n_unsubscribed - mark.n_unsubscribed, log_head.n_identify - mark.n_identify,
                log_head.n_track - mark.n_track
            from log_head join delivery using (source_id) join traffic_mark as mark using (source_id)
            where source_id = $1
                and head_seq - n_replayed + log_head.n_duplicates + log_head.n_ignored + log_head.n_rejected
                    + delivery.n_delivered + delivery.n_dead > mark.total
        )
        select starts_at as "starts_at!", sum(n_accepted)::bigint as "n_accepted!",
            sum(n_duplicates)::bigint as "n_duplicates!", sum(n_ignored)::bigint as "n_ignored!",
            sum(n_rejected)::bigint as "n_rejected!", sum(n_delivered)::bigint as "n_delivered!",
            sum(n_dead)::bigint as "n_dead!", sum(n_email_delivered)::bigint as "n_email_delivered!",
            sum(n_opened)::bigint as "n_opened!", sum(n_clicked)::bigint as "n_clicked!",
            sum(n_bounced)::bigint as "n_bounced!", sum(n_marked_as_spam)::bigint as "n_marked_as_spam!",
            sum(n_unsubscribed)::bigint as "n_unsubscribed!", sum(n_identify)::bigint as "n_identify!",
            sum(n_track)::bigint as "n_track!"
        from part group by starts_at order by starts_at"#,
        source,
        step.as_str(),
        from,
    )
    .fetch_all(db)
    .await
}

/// The longest time between two events of each of these sources, in the 14 days before the last of them, to the hour; of
/// sources with at least two such hours.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn longest_gaps(db: impl PgExecutor<'_>, sources: &[Uuid]) -> sqlx::Result<Vec<(Uuid, Duration)>> {
    let rows = sqlx::query!(
        r#"with arrival as (
            select source_id, starts_at, max(starts_at) over source as last_at,
                starts_at - lag(starts_at) over (partition by source_id order by starts_at) as gap
            from traffic
            where source_id = any($1) and step = 'hour' and n_accepted + n_duplicates + n_ignored + n_rejected > 0
            window source as (partition by source_id)
        )
        select source_id, extract(epoch from max(gap))::float8 as "seconds!"
        from arrival where starts_at > last_at - interval '14 days' and gap is not null group by source_id"#,
        sources
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.source_id, Duration::from_secs_f64(row.seconds.max(0.0)))).collect())
}

/// Forgets a source's steps that are not kept any longer.
///
/// # Errors
/// The database did not answer; the next run makes up for it.
pub(super) async fn forget(db: &mut Connection, source: Uuid, now: OffsetDateTime) -> sqlx::Result<u64> {
    let forgotten = db.run(async |db| {
        sqlx::query!(
            "delete from traffic
            where source_id = $1 and (step = 'minute' and starts_at < $2 or step = 'hour' and starts_at < $3)",
            source,
            now - KEEP_MINUTES,
            now - KEEP_HOURS,
        )
        .execute(db)
        .await
    });
    Ok(forgotten.await?.rows_affected())
}
