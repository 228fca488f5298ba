//! Blocks of the log that cannot be read, and how they are put out of the way of those that can.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::block::{StoredBlock, UnreadableBlock};

/// The block after a source's cursor.
#[derive(Debug)]
pub struct BlockAtCursor {
    /// Where the cursor stands.
    pub cursor: i64,
    /// The block; `None`: the log has none after the cursor.
    pub block: Option<StoredBlock>,
}

/// Finds the block after a source's cursor; `None`: there is no such source.
///
/// # Errors
/// Where the database does not answer; nothing has changed.
pub async fn find_at_cursor(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Option<BlockAtCursor>> {
    let row = sqlx::query!(
        r#"
        select cursor_seq, last_seq as "last_seq?", n_events as "n_events?", since as "since?", events as "events?"
        from delivery
        left join lateral (
            select last_seq, n_events, since, events from event_block
            where event_block.source_id = delivery.source_id and last_seq > cursor_seq order by last_seq limit 1
        ) as block on true
        where source_id = $1
        "#,
        source
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| BlockAtCursor {
        cursor: row.cursor_seq,
        block: match (row.last_seq, row.n_events, row.since, row.events) {
            (Some(last_seq), Some(n_events), Some(since), Some(events)) => {
                Some(StoredBlock { last_seq, n_events, since, events })
            }
            _ => None,
        },
    }))
}

/// Gives up the block after a source's cursor: moves it to `unreadable_block` and the cursor behind it, counts its
/// events as missing, and ends the pause that it led to. Says whether the cursor still stood there; where not, nothing
/// has changed.
///
/// # Errors
/// Where it is not known to be committed: look at the source.
pub async fn skip(
    db: impl PgExecutor<'_>,
    source: Uuid,
    cursor: i64,
    block: &StoredBlock,
    why: UnreadableBlock,
) -> sqlx::Result<bool> {
    let n_passed = sqlx::query_scalar!(
        r#"with passed as (
            -- Whoever has leased the source finds another number, and settles nothing.
            update delivery
            set cursor_seq = $3,
                n_missing = n_missing + $3 - cursor_seq
                    - (select count(*) from unnest(done_ahead) as seq where seq <= $3),
                done_ahead = array(select seq from unnest(done_ahead) as seq where seq > $3), lease = lease + 1, leased_until = '-infinity',
                next_attempt_at = now(), paused_by = case when paused_by <> 'log' then paused_by end,
                paused_reason = case when paused_by <> 'log' then paused_reason end,
                paused_at = case when paused_by <> 'log' then paused_at end
            where source_id = $1 and cursor_seq = $2
            returning source_id
        ),
        moved as (
            delete from event_block using passed where event_block.source_id = passed.source_id and last_seq = $3
            returning event_block.source_id, last_seq, n_events, since, events
        ),
        kept as (
            insert into unreadable_block (source_id, last_seq, n_events, since, events, reason)
            select source_id, last_seq, n_events, since, events, $4 from moved
            on conflict (source_id, last_seq) do update
            set n_events = excluded.n_events, since = excluded.since, events = excluded.events, found_at = now(),
                reason = excluded.reason
        )
        select count(*) as "n!" from passed"#,
        source,
        cursor,
        block.last_seq,
        why.to_string(),
    )
    .fetch_one(db)
    .await?;
    Ok(n_passed == 1)
}

/// Moves a block whose events are settled to `unreadable_block`.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub(super) async fn quarantine(
    db: impl PgExecutor<'_>,
    source: Uuid,
    block: &StoredBlock,
    why: UnreadableBlock,
    found_at: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with moved as (
            delete from event_block where source_id = $1 and last_seq = $2
            returning source_id, last_seq, n_events, since, events
        )
        insert into unreadable_block (source_id, last_seq, n_events, since, events, found_at, reason)
        select source_id, last_seq, n_events, since, events, $4, $3 from moved
        on conflict (source_id, last_seq) do update
        set n_events = excluded.n_events, since = excluded.since, events = excluded.events,
            found_at = excluded.found_at, reason = excluded.reason",
        source,
        block.last_seq,
        why.to_string(),
        found_at,
    )
    .execute(db)
    .await?;
    Ok(())
}
