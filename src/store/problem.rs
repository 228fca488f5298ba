//! Why events were not forwarded, grouped: of the newest ones, so that it costs the same however many there are.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// How many of the newest are looked at.
pub const NEWEST: i64 = 2_000;
/// How many groups there are at most.
const GROUPS: i64 = 50;

/// Events that were not forwarded for the same reason.
#[derive(Clone, Debug)]
pub struct ProblemGroup {
    /// The reason; of ignored events, what the sender calls them.
    pub reason: String,
    /// How many of the newest.
    pub n: i64,
    /// When the first of them came (or died).
    pub first_at: OffsetDateTime,
    /// When the last of them did.
    pub last_at: OffsetDateTime,
    /// One of them: the event id of a dead letter, the beginning of the payload of the others.
    pub example: Vec<u8>,
}

/// Dead letters by reason, the largest group first.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn dead_letters(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Vec<ProblemGroup>> {
    sqlx::query_as!(
        ProblemGroup,
        r#"select reason, count(*) as "n!", min(dead_at) as "first_at!", max(dead_at) as "last_at!",
            (array_agg(event_id order by seq desc))[1] as "example!"
        from (
            select seq, reason, dead_at, event_id from dead_letter where source_id = $1 order by seq desc limit $2
        ) as newest
        group by reason order by count(*) desc, reason limit $3"#,
        source,
        NEWEST,
        GROUPS,
    )
    .fetch_all(db)
    .await
}

/// Ignored events by what the sender calls them, or rejected ones by reason, the largest group first.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn quarantined(db: impl PgExecutor<'_>, source: Uuid, disposition: &str) -> sqlx::Result<Vec<ProblemGroup>> {
    sqlx::query_as!(
        ProblemGroup,
        r#"select newest.reason as "reason!", newest.n as "n!", first_at as "first_at!", last_at as "last_at!",
            convert_to(left(payload, 2000), 'UTF8') as "example!"
        from (
            select coalesce(reason, event_name, '') as reason, count(*) as n, min(received_at) as first_at,
                max(received_at) as last_at, (array_agg(digest order by received_at desc))[1] as digest
            from (
                select digest, reason, event_name, received_at from quarantine
                where source_id = $1 and disposition = $2 order by received_at desc limit $3
            ) as rows
            group by 1 order by 2 desc, 1 limit $4
        ) as newest
        join quarantine on quarantine.source_id = $1 and quarantine.digest = newest.digest
        order by newest.n desc, newest.reason"#,
        source,
        disposition,
        NEWEST,
        GROUPS,
    )
    .fetch_all(db)
    .await
}
