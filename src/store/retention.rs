//! Forgetting what is settled, in pieces that lock nothing for long.
//!
//! Whatever goes wrong with one source does not keep the others' events: it is logged, and tried again next time.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgQueryResult;
use time::OffsetDateTime;
use uuid::Uuid;

use super::block::UnreadableBlock;
use super::connection::{Connection, is_timeout};
use super::removal::{self, delete_blocks_until, oldest_blocks};
use super::{refused_webhook, session, traffic, unreadable};

/// Events are kept this long at least, whatever the retention: their ids are what a redelivery is recognised by.
pub const DEDUPLICATION: Duration = Duration::from_hours(7 * 24);
/// The audit log is kept this long: what happened a year ago can be compared with what happens now.
pub const AUDIT: Duration = Duration::from_hours(400 * 24);
const DELETE_BATCH: i64 = 5_000;

/// Runs a `delete` of at most [`DELETE_BATCH`] rows until there is nothing left to delete; says how many rows went.
macro_rules! delete_in_pieces {
    ($db:expr, $sql:literal $(, $argument:expr)*) => {
        in_pieces($db, async |db| sqlx::query!($sql, $($argument),*).execute(db).await).await
    };
}

/// What a run has done.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// How many events and other rows went.
    pub n_rows: u64,
    /// How many damaged blocks were set aside.
    pub n_damaged: u64,
}

/// Forgets events that are settled, dead letters, attempts, events set aside and changes, all older than `retention`
/// before `now`; dead letters are as old as their death. What still waits is never forgotten.
///
/// # Errors
/// Where the database does not answer; what went until then is gone, and the next run goes on.
pub async fn forget(db: &mut Connection, now: OffsetDateTime, retention: Duration) -> sqlx::Result<Forgotten> {
    let before = now - retention;
    let events_before = now - retention.max(DEDUPLICATION);
    let mut forgotten = Forgotten::default();
    let sources = db.run(async |db| sqlx::query!("select source_id, cursor_seq from delivery").fetch_all(db).await);
    let sources = sources.await?;
    for source in sources {
        let done = forget_blocks(db, source.source_id, source.cursor_seq, [events_before, now], &mut forgotten).await;
        go_on(source.source_id, done)?;
        forgotten.n_rows += traffic::forget(db, source.source_id, now).await?;
    }
    // What is left where a removal was broken off.
    for source_id in db.run(async |db| removal::list_orphans(db).await).await? {
        go_on(source_id, removal::remove_source(db, source_id).await)?;
    }
    for account_id in db.run(async |db| removal::list_orphaned_identities(db).await).await? {
        match removal::remove_identities(db, account_id).await {
            Err(error) if is_of_one(&error) => {
                tracing::error!(account.id = %account_id, %error, "cannot forget what an account had learnt");
            }
            done => done?,
        }
    }
    forgotten.n_rows += forget_others(db, before).await?;
    forgotten.n_rows += forget_of_console(db, now).await?;
    // Not before the blocks with what was sent again: what became of it is asked by these.
    forgotten.n_rows += forget_replays(db, events_before).await?;
    Ok(forgotten)
}

/// An error that the database answers with concerns one source or account alone, as does a statement that takes too long.
fn is_of_one(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some() || is_timeout(error)
}

fn go_on(source: Uuid, done: sqlx::Result<()>) -> sqlx::Result<()> {
    match done {
        Err(error) if is_of_one(&error) => {
            tracing::error!(source.id = %source, %error, "cannot forget what is old of a source");
            Ok(())
        }
        done => done,
    }
}

/// Forgets a source's blocks up to `cursor` that are from before `before`, and with them the ids of their events.
async fn forget_blocks(
    db: &mut Connection,
    source: Uuid,
    cursor: i64,
    [before, now]: [OffsetDateTime; 2],
    forgotten: &mut Forgotten,
) -> sqlx::Result<()> {
    loop {
        let oldest = db.run(async |db| oldest_blocks(db, source, cursor).await).await?;
        let (mut last_seq, mut event_ids, mut unreadable) = (None, Vec::new(), None);
        for stored in oldest.iter().take_while(|block| block.since < before) {
            match stored.read() {
                Ok(block) => event_ids.extend(block.records().map(|event| event.event_id.to_owned())),
                Err(why) => {
                    unreadable = Some((stored, why));
                    break;
                }
            }
            last_seq = Some(stored.last_seq);
        }
        if let Some(last_seq) = last_seq {
            forgotten.n_rows += db.run(async |db| delete_blocks_until(db, source, last_seq, &event_ids).await).await?;
        }
        match unreadable {
            Some((block, why @ UnreadableBlock::Damaged)) => {
                tracing::error!(
                    source.id = %source, from_seq = block.first_seq(), to_seq = block.last_seq, %why,
                    "an old block of the log cannot be read; set aside as an unreadable_block"
                );
                db.run(async |db| unreadable::quarantine(db, source, block, why, now).await).await?;
                forgotten.n_damaged += 1;
            }
            Some((block, why @ UnreadableBlock::NewerVersion)) => {
                tracing::warn!(
                    source.id = %source, from_seq = block.first_seq(), to_seq = block.last_seq, %why,
                    "an old block of the log is left to the program that can read it"
                );
                return Ok(());
            }
            None if last_seq.is_none() => return Ok(()),
            None => {}
        }
    }
}

/// Forgets old dead letters, and counts them: what was given up still adds up.
async fn forget_dead_letters(db: &mut Connection, before: OffsetDateTime) -> sqlx::Result<u64> {
    in_pieces(db, async |db| {
        sqlx::query!(
            // One source at a time: of rows in `delivery`, none is held while another is waited for.
            "with piece as (
                select source_id, seq from dead_letter
                where source_id = (select source_id from dead_letter where dead_at < $1 limit 1) and dead_at < $1
                limit $2
            ),
            gone as (
                delete from dead_letter using piece
                where dead_letter.source_id = piece.source_id and dead_letter.seq = piece.seq
                returning dead_letter.source_id
            ),
            counted as (
                update delivery set n_dead_forgotten = n_dead_forgotten + n
                from (select source_id, count(*) as n from gone group by source_id) as forgotten
                where delivery.source_id = forgotten.source_id
            )
            select from gone",
            before,
            DELETE_BATCH
        )
        .execute(db)
        .await
    })
    .await
}

/// Forgets what is not part of the log.
async fn forget_others(db: &mut Connection, before: OffsetDateTime) -> sqlx::Result<u64> {
    let mut n_forgotten = forget_dead_letters(db, before).await?;
    n_forgotten += delete_in_pieces!(
        db,
        "delete from unreadable_block where (source_id, last_seq) in
                (select source_id, last_seq from unreadable_block where found_at < $1 limit $2)",
        before,
        DELETE_BATCH
    )?;
    n_forgotten += delete_in_pieces!(
        db,
        "delete from quarantine where (source_id, digest) in
                (select source_id, digest from quarantine where received_at < $1 limit $2)",
        before,
        DELETE_BATCH
    )?;
    n_forgotten += delete_in_pieces!(
        db,
        "delete from refused_webhook where id in
                (select id from refused_webhook where received_at < now() - $1 * interval '1 second' limit $2)",
        refused_webhook::KEPT.as_secs_f64(),
        DELETE_BATCH
    )?;
    n_forgotten += delete_in_pieces!(
        db,
        "delete from replay_job where id in (select id from replay_job where ended_at < $1 limit $2)",
        before,
        DELETE_BATCH
    )?;
    n_forgotten += delete_in_pieces!(
        db,
        "delete from secret_activity where (source_id, secret_id) in
                (select source_id, secret_id from secret_activity where last_verified_at < $1 limit $2)",
        before,
        DELETE_BATCH
    )?;
    n_forgotten += delete_in_pieces!(
        db,
        "delete from attempt using (select id from attempt order by id limit $2) as oldest
            where attempt.id = oldest.id and started_at < $1",
        before,
        DELETE_BATCH
    )?;
    // Programs read changes within a second; a day is for one that was stopped in a debugger.
    n_forgotten += delete_in_pieces!(
        db,
        "delete from source_change using (select version from source_change order by version limit $1) as oldest
            where source_change.version = oldest.version and changed_at < now() - interval '1 day'
                and oldest.version < (select max(version) from source_change)",
        DELETE_BATCH
    )?;
    Ok(n_forgotten)
}

/// Forgets sessions and links that do not count any more, and old entries of the audit log.
async fn forget_of_console(db: &mut Connection, now: OffsetDateTime) -> sqlx::Result<u64> {
    let before = now - AUDIT;
    let mut n_forgotten = delete_in_pieces!(
        db,
        "delete from audit_entry using (select id from audit_entry order by id limit $2) as oldest
            where audit_entry.id = oldest.id and at < $1",
        before,
        DELETE_BATCH
    )?;
    n_forgotten += delete_in_pieces!(
        db,
        "delete from session where last_seen_at < now() - make_interval(hours => $1)
                or created_at < now() - make_interval(hours => $2)",
        session::IDLE_HOURS,
        session::MAX_HOURS
    )?;
    n_forgotten += delete_in_pieces!(db, "delete from one_time_link where expires_at < now()")?;
    Ok(n_forgotten)
}

async fn forget_replays(db: &mut Connection, before: OffsetDateTime) -> sqlx::Result<u64> {
    delete_in_pieces!(
        db,
        "delete from replay where (source_id, from_seq) in
                (select source_id, from_seq from replay where replayed_at < $1 limit $2)",
        before,
        DELETE_BATCH
    )
}

async fn in_pieces(
    db: &mut Connection,
    delete: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<PgQueryResult> + Copy,
) -> sqlx::Result<u64> {
    let mut n_deleted = 0;
    loop {
        let n = db.run(delete).await?.rows_affected();
        n_deleted += n;
        if n == 0 {
            return Ok(n_deleted);
        }
    }
}
