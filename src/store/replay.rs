//! Dead letters that are to be delivered once more.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::append::{Append, Events};
use super::block::{Block, Record};
use super::connection::Connection;
use super::lock;
use super::log::Lane;
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
    for _ in 0..MAX_RACES {
        let (seqs, events) = db.run(async |db| find(db, source, seqs).await).await?;
        if seqs.is_empty() {
            return Ok(0);
        }
        let append = Append::new(events);
        if db.run(async |db| move_to_log(db, source, &seqs, &append).await).await? {
            return Ok(seqs.len());
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

/// Says whether all of them were there to be moved; otherwise none has been.
async fn move_to_log(db: impl PgExecutor<'_>, source: Uuid, seqs: &[i64], append: &Append) -> sqlx::Result<bool> {
    let blocks = append.columns();
    let n_moved = sqlx::query_scalar!(
        r#"with letter as (
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
        )
        select count(*) as "n!" from removed"#,
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
    )
    .fetch_one(db)
    .await?;
    Ok(usize::try_from(n_moved) == Ok(seqs.len()))
}
