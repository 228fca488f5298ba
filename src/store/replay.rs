//! Dead letters that are to be delivered once more.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::append::{Append, Events};
use super::block::{Block, Record};
use super::call_effects::Effects;
use super::connection::Connection;
use super::lock;
use super::log::Lane;
use super::replay_job::ReplayJob;
use crate::domain::event::Kind;

/// How often others may move some of the same dead letters in the same moment.
const MAX_RACES: u32 = 5;

/// Puts dead letters at the end of the log, to be sent again under their old message ids; their age counts from now.
/// Returns how many they were. One statement moves them: nothing is locked between this program and the server. Where
/// somebody else moves some of them at the same time, it is done anew with what is left.
///
/// # Errors
/// Where it is not known to be committed. To be called again: what has been moved is no dead letter any more.
pub async fn replay(db: &mut Connection, source: Uuid, seqs: &[i64]) -> sqlx::Result<usize> {
    replay_for(db, source, seqs, None).await
}

/// The same as a batch of a job, which counts it; nothing is moved where the job's lease is lost, or it was cancelled.
///
/// # Errors
/// As for [`replay`].
pub async fn replay_batch(db: &mut Connection, job: &ReplayJob, seqs: &[i64]) -> sqlx::Result<usize> {
    replay_for(db, job.source_id, seqs, Some(job)).await
}

async fn replay_for(db: &mut Connection, source: Uuid, seqs: &[i64], job: Option<&ReplayJob>) -> sqlx::Result<usize> {
    let last_asked = seqs.last().copied();
    for _ in 0..MAX_RACES {
        let (seqs, events) = db.run(async |db| find(db, source, seqs).await).await?;
        if seqs.is_empty() {
            return Ok(0);
        }
        let append = Append::new(events, Effects::default());
        let job = job.zip(last_asked);
        match db.run(async |db| move_to_log(db, source, &seqs, &append, job).await).await? {
            Moved::All => return Ok(seqs.len()),
            Moved::NotPermitted => return Ok(0),
            Moved::SomeAreGone => {}
        }
    }
    Err(sqlx::Error::Protocol("others move the same dead letters all the time; try again".to_owned()))
}

async fn find(db: impl PgExecutor<'_>, source: Uuid, seqs: &[i64]) -> sqlx::Result<(Vec<i64>, Events)> {
    let rows = sqlx::query!(
        "select seq, kind, event_id, received_at, track from dead_letter
        where source_id = $1 and seq = any($2) order by seq",
        source,
        seqs
    )
    .fetch_all(db)
    .await?;
    let mut block = Block::default();
    for row in &rows {
        let kind = Kind::from_number(row.kind);
        let kind = kind.ok_or_else(|| sqlx::Error::Decode("an event of a newer version".into()))?;
        let (event_id, track) = (row.event_id.as_slice(), row.track.as_bytes());
        block.push(Record { kind, received_at: row.received_at, event_id, track, keys: None });
    }
    let mut events = Events::default();
    if !block.is_empty() {
        events.push(source, OffsetDateTime::now_utc(), &block);
    }
    Ok((rows.iter().map(|row| row.seq).collect(), events))
}

/// What came of a move.
enum Moved {
    All,
    /// None has been moved: not all were there.
    SomeAreGone,
    /// None has been moved: it is not the job's turn any more.
    NotPermitted,
}

/// Moves all of them or none. A job, if it is one's, has then passed the dead letters up to the number beside it.
async fn move_to_log(
    db: impl PgExecutor<'_>,
    source: Uuid,
    seqs: &[i64],
    append: &Append,
    job: Option<(&ReplayJob, i64)>,
) -> sqlx::Result<Moved> {
    let blocks = append.columns();
    let moved = sqlx::query!(
        r#"with permitted as (
            select id from replay_job where id = $11 and lease = $12 and state = 'running' for update
        ),
        letter as (
            select seq from dead_letter where source_id = $3 and seq = any($4) for update
        ),
        locked as materialized (
            select count(pg_advisory_xact_lock($1, lane)) as n from unnest($2::int[]) as lane
        ),
        advanced as (
            update log_head
            set head_seq = head_seq + cardinality($4::bigint[]), n_replayed = n_replayed + cardinality($4::bigint[])
            from locked
            where source_id = $3 and (select count(*) from letter) = cardinality($4::bigint[])
                and ($11::uuid is null or exists (select from permitted))
            returning source_id, head_seq - cardinality($4::bigint[]) as base
        ),
        stored as (
            insert into event_block (source_id, last_seq, n_events, since, events, filter)
            select source_id, base + last_place, n_events, since, events, filter
            from advanced, unnest($5::bigint[], $6::int[], $7::timestamptz[], $8::bytea[], $9::bytea[])
                as block (last_place, n_events, since, events, filter)
        ),
        known as (
            -- The id may have been forgotten meanwhile, and come again: then it is there twice.
            insert into known_event (source_id, seq, event_id)
            select distinct on (event_id) source_id, base + place, event_id
            from advanced, unnest($10::bytea[]) with ordinality as moved (event_id, place)
            order by event_id, place desc
            on conflict (event_id, source_id) do update set seq = excluded.seq
        ),
        removed as (
            delete from dead_letter using advanced
            where dead_letter.source_id = advanced.source_id and seq = any($4)
            returning seq, reason, dead_at
        ),
        noted as (
            insert into replay (source_id, from_seq, to_seq, reason, dead_at)
            select source_id, seq, base + place, reason, dead_at
            from advanced, unnest($4) with ordinality as moved (seq, place) join removed using (seq)
        ),
        progressed as (
            update replay_job
            set batch_from = base + 1, batch_to = base + cardinality($4::bigint[]), after_seq = $13, waits_for = null,
                n_moved = n_moved + cardinality($4::bigint[])
            from advanced where replay_job.id = $11
        )
        select (select count(*) from removed) as "n!",
            $11::uuid is null or exists (select from permitted) as "is_permitted!""#,
        lock::LANE,
        &Lane::locks(&[Lane::of(source)]),
        source,
        seqs,
        &blocks.last_places,
        &blocks.sizes,
        &blocks.since,
        append.stored(),
        append.filters(),
        &append.events().ids().1 as _,
        job.map(|(job, _)| job.id),
        job.map(|(job, _)| job.lease),
        job.map(|(_, after_seq)| after_seq),
    )
    .fetch_one(db)
    .await?;
    Ok(match usize::try_from(moved.n) == Ok(seqs.len()) {
        true => Moved::All,
        false if moved.is_permitted => Moved::SomeAreGone,
        false => Moved::NotPermitted,
    })
}
