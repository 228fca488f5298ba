//! What a restore of a part of the database may have torn apart.

use sqlx::PgConnection;
use uuid::Uuid;

use super::lock;
use super::log::Lane;

/// A source whose `head_seq` lay behind its log or its cursor: events that came next would have had numbers that the
/// cursor has passed, and would never have been delivered.
#[derive(Debug)]
pub struct RaisedHead {
    /// The source.
    pub source_id: Uuid,
    /// What `head_seq` is now.
    pub head_seq: i64,
}

/// Raises each source's `head_seq` to the end of its log and to its cursor; returns those where that was necessary. To
/// be called before events are taken.
///
/// # Errors
/// Where the database does not answer: do not take events.
pub async fn raise_heads(db: &mut PgConnection) -> sqlx::Result<Vec<RaisedHead>> {
    let lanes: Vec<Lane> = Lane::all().collect();
    let is_torn = sqlx::query_scalar!(
        r#"select exists (
            select from log_head join delivery using (source_id)
            where head_seq < greatest(cursor_seq, (
                select last_seq from event_block
                where event_block.source_id = log_head.source_id order by last_seq desc limit 1
            ))
        ) as "is_torn!""#
    )
    .fetch_one(&mut *db)
    .await?;
    if !is_torn {
        return Ok(Vec::new());
    }
    sqlx::query_as!(
        RaisedHead,
        r#"
        with locked as materialized (
            -- As appends do: whoever updates several rows of `log_head` holds their lanes.
            select count(pg_advisory_xact_lock($1, lane)) as n from unnest($2::int[]) as lane
        ),
        torn as (
            select source_id, greatest(cursor_seq, (
                select last_seq from event_block
                where event_block.source_id = delivery.source_id order by last_seq desc limit 1
            )) as head_seq
            from locked, delivery
        )
        update log_head set head_seq = torn.head_seq
        from torn where log_head.source_id = torn.source_id and log_head.head_seq < torn.head_seq
        returning log_head.source_id, log_head.head_seq
        "#,
        lock::LANE,
        &Lane::locks(&lanes),
    )
    .fetch_all(db)
    .await
}
