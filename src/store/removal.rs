//! Removing what is kept of a source or an account, in pieces that lock nothing for long. What a removal that was broken off
//! has left is found by the [retention](super::retention).

use sqlx::PgExecutor;
use uuid::Uuid;

use super::block::{Block, StoredBlock};
use super::connection::Connection;
use crate::domain::call;

/// How many blocks are forgotten at a time: they are read and decompressed for it.
const DELETE_BLOCKS_BATCH: i64 = 16;

/// Removes a source at once, then all that is kept of it.
///
/// # Errors
/// The database did not answer; try again. The source may be gone and some of its events still there: they are forgotten in time.
pub async fn remove_source(db: &mut Connection, id: Uuid) -> sqlx::Result<()> {
    let account = db.run(async |db| {
        sqlx::query_scalar!("delete from source where id = $1 returning account_id", id).fetch_optional(db).await
    });
    let account = account.await?;
    while 0 < db.run(async |db| remove_piece(db, id).await).await? {}
    // Last, as what a removal that was broken off has left is found by them, among others.
    remove_blocks(db, id).await?;
    match account {
        Some(account) => remove_identities(db, account).await,
        None => Ok(()),
    }
}

/// Removes a part of what is kept of a source, but for its blocks; says how many rows that were.
async fn remove_piece(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"with old_dead_letter as (
            delete from dead_letter where (source_id, seq) in
                (select source_id, seq from dead_letter where source_id = $1 limit 10000)
            returning 1
        ),
        old_quarantine as (
            delete from quarantine where (source_id, digest) in
                (select source_id, digest from quarantine where source_id = $1 limit 10000)
            returning 1
        ),
        old_attempt as (
            delete from attempt where id in (select id from attempt where source_id = $1 limit 10000)
            returning 1
        ),
        old_replay as (
            delete from replay where (source_id, from_seq) in
                (select source_id, from_seq from replay where source_id = $1 limit 10000)
            returning 1
        ),
        old_unreadable_block as (
            delete from unreadable_block where (source_id, last_seq) in
                (select source_id, last_seq from unreadable_block where source_id = $1 limit 1000)
            returning 1
        ),
        old_held_call as (
            delete from held_call where (source_id, event_id) in
                (select source_id, event_id from held_call where source_id = $1 limit 10000)
            returning 1
        ),
        old_identified_user as (
            delete from identified_user where (source_id, user_hash) in
                (select source_id, user_hash from identified_user where source_id = $1 limit 10000)
            returning 1
        )
        select (select count(*) from old_dead_letter) + (select count(*) from old_quarantine)
            + (select count(*) from old_attempt) + (select count(*) from old_replay)
            + (select count(*) from old_unreadable_block) + (select count(*) from old_held_call)
            + (select count(*) from old_identified_user) as "n!""#,
        source
    )
    .fetch_one(db)
    .await
}

/// Removes what an account has learnt of its users' email addresses, unless it has a source of calls that goes on to learn:
/// without one, nobody would correct it, or could have a user forgotten.
///
/// # Errors
/// The database did not answer; what went until then is gone.
pub async fn remove_identities(db: &mut Connection, account: Uuid) -> sqlx::Result<()> {
    loop {
        let done = db.run(async |db| {
            sqlx::query!(
                "delete from identity where (account_id, address_hash) in
                    (select account_id, address_hash from identity where account_id = $1 limit 10000)
                    and not exists (select from source where account_id = $1 and kind = $2)",
                account,
                call::SOURCE_KIND
            )
            .execute(db)
            .await
        });
        if done.await?.rows_affected() == 0 {
            return Ok(());
        }
    }
}

/// Sources that are gone, while something is kept of them that would not go by its age.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_orphans(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Uuid>> {
    // The sources of each table are found one by one, by the index.
    sqlx::query_scalar!(
        r#"
        with recursive logged as (
            (select source_id from event_block order by source_id limit 1)
            union all
            select (
                select event_block.source_id from event_block
                where event_block.source_id > logged.source_id order by event_block.source_id limit 1
            ) from logged where source_id is not null
        ),
        holding as (
            (select source_id from held_call order by source_id limit 1)
            union all
            select (
                select held_call.source_id from held_call
                where held_call.source_id > holding.source_id order by held_call.source_id limit 1
            ) from holding where source_id is not null
        ),
        identifying as (
            (select source_id from identified_user order by source_id limit 1)
            union all
            select (
                select identified_user.source_id from identified_user
                where identified_user.source_id > identifying.source_id order by identified_user.source_id limit 1
            ) from identifying where source_id is not null
        ),
        known as (
            select source_id from logged union select source_id from holding union select source_id from identifying
        )
        select source_id as "source_id!" from known
        where source_id is not null and not exists (select from source where source.id = known.source_id)
        "#
    )
    .fetch_all(db)
    .await
}

/// Accounts that have learnt email addresses, and are gone, or have no source of calls any more.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_orphaned_identities(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        with recursive learnt as (
            (select account_id from identity order by account_id limit 1)
            union all
            select (
                select identity.account_id from identity
                where identity.account_id > learnt.account_id order by identity.account_id limit 1
            ) from learnt where account_id is not null
        )
        select account_id as "account_id!" from learnt
        where account_id is not null
            and not exists (select from source where source.account_id = learnt.account_id and kind = $1)
        "#,
        call::SOURCE_KIND
    )
    .fetch_all(db)
    .await
}

/// Deletes all blocks of a source, and the ids of those events that can be read.
async fn remove_blocks(db: &mut Connection, source: Uuid) -> sqlx::Result<()> {
    loop {
        let oldest = db.run(async |db| oldest_blocks(db, source, i64::MAX).await).await?;
        let Some(last) = oldest.last() else { return Ok(()) };
        let blocks: Vec<_> = oldest.iter().filter_map(|block| block.read().ok()).collect();
        let events = blocks.iter().flat_map(Block::records);
        let event_ids: Vec<_> = events.map(|event| event.event_id.to_owned()).collect();
        db.run(async |db| delete_blocks_until(db, source, last.last_seq, &event_ids).await).await?;
    }
}

/// A few of a source's oldest blocks, up to number `until`.
pub(super) async fn oldest_blocks(db: impl PgExecutor<'_>, source: Uuid, until: i64) -> sqlx::Result<Vec<StoredBlock>> {
    sqlx::query_as!(
        StoredBlock,
        "select last_seq, n_events, since, events from event_block
        where source_id = $1 and last_seq <= $2 order by last_seq limit $3",
        source,
        until,
        DELETE_BLOCKS_BATCH
    )
    .fetch_all(db)
    .await
}

/// Deletes a source's blocks up to `last_seq`, with their events' ids; returns how many events these were.
pub(super) async fn delete_blocks_until(
    db: impl PgExecutor<'_>,
    source: Uuid,
    last_seq: i64,
    event_ids: &[Vec<u8>],
) -> sqlx::Result<u64> {
    sqlx::query!(
        "with forgotten as (
            delete from event_block where source_id = $1 and last_seq <= $2
        )
        -- What was sent again goes with its last number.
        delete from known_event where source_id = $1 and event_id = any($3) and seq <= $2",
        source,
        last_seq,
        event_ids
    )
    .execute(db)
    .await?;
    Ok(u64::try_from(event_ids.len()).unwrap_or(u64::MAX))
}
