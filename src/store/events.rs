//! Events as people look for them: newest first, by what they hold, or one by its id.
//!
//! Reads only. Each function is a statement that reads a bounded part, so that a search can stop between two of them.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::append::MAX_BLOCK_EVENTS;
use super::block::StoredBlock;

/// Where a source's log ends, and how far it is delivered.
#[derive(Clone, Debug)]
pub struct Heads {
    /// The number of the last event.
    pub head_seq: i64,
    /// Events after it wait.
    pub cursor_seq: i64,
    /// But for these, which are done while one before them is not: in order.
    pub done_ahead: Vec<i64>,
    /// How many were ignored or rejected.
    pub n_quarantined: i64,
}

/// Where a source's log ends; `None`: there is no such source.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn heads(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Option<Heads>> {
    sqlx::query_as!(
        Heads,
        r#"select head_seq, cursor_seq, done_ahead, n_ignored + n_rejected as "n_quarantined!"
        from log_head join delivery using (source_id) where source_id = $1"#,
        source
    )
    .fetch_optional(db)
    .await
}

impl Heads {
    /// Whether the event of this number is delivered, or given up.
    #[must_use]
    pub fn is_done(&self, seq: i64) -> bool {
        seq <= self.cursor_seq || self.done_ahead.contains(&seq)
    }

    /// The last number that is done.
    #[must_use]
    pub fn last_done(&self) -> i64 {
        self.done_ahead.iter().copied().fold(self.cursor_seq, i64::max)
    }

    /// How many events before this number wait.
    #[must_use]
    pub fn n_waiting_before(&self, seq: i64) -> i64 {
        let ahead = self.done_ahead.iter().filter(|done| **done < seq).count();
        (seq - self.cursor_seq - 1).saturating_sub(i64::try_from(ahead).unwrap_or_default()).max(0)
    }
}

/// A block, as far as is known without reading it.
#[derive(Clone, Copy, Debug)]
pub struct ScannedBlock {
    /// The number of its last event.
    pub last_seq: i64,
    /// How many it has.
    pub n_events: i32,
    /// Since when they wait, or waited.
    pub since: OffsetDateTime,
    /// Whether it may hold an event with all the keys.
    pub may_match: bool,
}

impl ScannedBlock {
    /// The number of its first event.
    #[must_use]
    pub fn first_seq(&self) -> i64 {
        self.last_seq - i64::from(self.n_events) + 1
    }
}

/// The `limit` last blocks of a source that have events before number `before`, backwards, and whether they may hold an
/// event with these search keys.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn scan_before(
    db: impl PgExecutor<'_>,
    source: Uuid,
    before: i64,
    keys: &[Vec<u8>],
    limit: i64,
) -> sqlx::Result<Vec<ScannedBlock>> {
    sqlx::query_as!(
        ScannedBlock,
        r#"select last_seq, n_events, since,
            not exists (select from unnest($3::bytea[]) as key where position(key in filter) = 0) as "may_match!"
        from event_block
        -- The index finds the first bound, as no block is larger.
        where source_id = $1 and last_seq < $2 + $4::bigint and last_seq - n_events + 1 < $2
        order by last_seq desc limit $5"#,
        source,
        before,
        keys as _,
        i64::try_from(MAX_BLOCK_EVENTS).unwrap_or(i64::MAX),
        limit,
    )
    .fetch_all(db)
    .await
}

/// A block, and which of its events have died, or were put back into the log under another number.
#[derive(Debug)]
pub struct ReadBlock {
    /// The block.
    pub stored: StoredBlock,
    /// Numbers of events that are dead letters.
    pub dead: Vec<i64>,
    /// Numbers of events that are at another number by now.
    pub moved: Vec<i64>,
}

/// These blocks of a source, by the numbers of their last events, backwards. Those that are gone are left out.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn read_blocks(db: impl PgExecutor<'_>, source: Uuid, last_seqs: &[i64]) -> sqlx::Result<Vec<ReadBlock>> {
    let rows = sqlx::query!(
        r#"select last_seq, n_events, since, events,
            array(
                select seq from dead_letter
                where dead_letter.source_id = $1 and seq > last_seq - n_events and seq <= last_seq
            ) as "dead!",
            array(
                select from_seq from replay
                where replay.source_id = $1 and from_seq > last_seq - n_events and from_seq <= last_seq
            ) as "moved!"
        from event_block where source_id = $1 and last_seq = any($2) order by last_seq desc"#,
        source,
        last_seqs,
    )
    .fetch_all(db)
    .await?;
    let blocks = rows.into_iter().map(|row| ReadBlock {
        stored: StoredBlock { last_seq: row.last_seq, n_events: row.n_events, since: row.since, events: row.events },
        dead: row.dead,
        moved: row.moved,
    });
    Ok(blocks.collect())
}

/// The block that holds event `seq`, or else the next after it: the number of its last event, and since when it waited.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn block_from(
    db: impl PgExecutor<'_>,
    source: Uuid,
    seq: i64,
) -> sqlx::Result<Option<(i64, OffsetDateTime)>> {
    let row = sqlx::query!(
        "select last_seq, since from event_block where source_id = $1 and last_seq >= $2 order by last_seq limit 1",
        source,
        seq
    );
    Ok(row.fetch_optional(db).await?.map(|row| (row.last_seq, row.since)))
}

/// The number in the log of the event with this id; of one that was sent again, the last.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find_known(db: impl PgExecutor<'_>, source: Uuid, event_id: &[u8]) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("select seq from known_event where event_id = $2 and source_id = $1", source, event_id)
        .fetch_optional(db)
        .await
}

/// An event that died; where it had been sent again before, when it last was.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct DeadEvent {
    pub seq: i64,
    pub kind: i16,
    pub event_id: Vec<u8>,
    pub received_at: OffsetDateTime,
    pub replayed_at: Option<OffsetDateTime>,
    pub track: String,
    pub reason: String,
    pub dead_at: OffsetDateTime,
}

/// The `limit` last dead letters of a source before number `before`, backwards.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn dead_before(
    db: impl PgExecutor<'_>,
    source: Uuid,
    before: i64,
    limit: i64,
) -> sqlx::Result<Vec<DeadEvent>> {
    sqlx::query_as!(
        DeadEvent,
        "select seq, kind, event_id, received_at,
            (select replayed_at from replay where replay.source_id = $1 and to_seq = seq limit 1) as replayed_at, track,
            reason, dead_at
        from dead_letter where source_id = $1 and seq < $2 order by seq desc limit $3",
        source,
        before,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Why these events of a source died, as far as they did.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn death_reasons(db: impl PgExecutor<'_>, source: Uuid, seqs: &[i64]) -> sqlx::Result<Vec<(i64, String)>> {
    let rows = sqlx::query!("select seq, reason from dead_letter where source_id = $1 and seq = any($2)", source, seqs);
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.seq, row.reason)).collect())
}

/// The dead letter at this number, or, where its number is not known, the last one with this id.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find_dead(
    db: impl PgExecutor<'_>,
    source: Uuid,
    seq: Option<i64>,
    event_id: &[u8],
) -> sqlx::Result<Option<DeadEvent>> {
    sqlx::query_as!(
        DeadEvent,
        "select seq, kind, event_id, received_at,
            (select replayed_at from replay where replay.source_id = $1 and to_seq = seq limit 1) as replayed_at, track,
            reason, dead_at
        from dead_letter where source_id = $1 and event_id = $3 and ($2::bigint is null or seq = $2)
        order by seq desc limit 1",
        source,
        seq,
        event_id,
    )
    .fetch_optional(db)
    .await
}

/// A replay of an event.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct ReplayOf {
    pub from_seq: i64,
    pub to_seq: i64,
    pub reason: String,
    pub dead_at: OffsetDateTime,
    pub replayed_at: OffsetDateTime,
}

/// The replays that brought an event to this number, the first one first; of very many, the last hundred.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn replays_to(db: impl PgExecutor<'_>, source: Uuid, seq: i64) -> sqlx::Result<Vec<ReplayOf>> {
    sqlx::query_as!(
        ReplayOf,
        r#"with recursive replays as (
            select from_seq, to_seq, reason, dead_at, replayed_at, 1 as depth
            from replay where source_id = $1 and to_seq = $2
            union all
            select replay.from_seq, replay.to_seq, replay.reason, replay.dead_at, replay.replayed_at, depth + 1
            from replays join replay on replay.source_id = $1 and replay.to_seq = replays.from_seq
            where depth < 100
        )
        select from_seq as "from_seq!", to_seq as "to_seq!", reason as "reason!", dead_at as "dead_at!",
            replayed_at as "replayed_at!"
        from replays order by depth desc"#,
        source,
        seq,
    )
    .fetch_all(db)
    .await
}

/// An event that is not forwarded.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct QuarantinedEvent {
    pub digest: Uuid,
    pub disposition: String,
    pub received_at: OffsetDateTime,
    pub event_name: Option<String>,
    pub reason: Option<String>,
    pub payload: String,
}

/// Whether the payloads of events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// They are.
    Read,
    /// Only the rest is.
    Leave,
}

/// The `limit` last events of these dispositions before a place, backwards. A place is a time of receipt and, of those that
/// came at the same time, a digest. Without payloads, which may be large, unless they are asked for.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn quarantined_before(
    db: impl PgExecutor<'_>,
    source: Uuid,
    dispositions: &[String],
    (received_at, digest): (OffsetDateTime, Uuid),
    limit: i64,
    payloads: Payloads,
) -> sqlx::Result<Vec<QuarantinedEvent>> {
    sqlx::query_as!(
        QuarantinedEvent,
        r#"select event.digest as "digest!", event.disposition as "disposition!", event.received_at as "received_at!",
            event.event_name, event.reason, case when $6 then event.payload else '' end as "payload!"
        -- By the index, each of its own.
        from unnest($2::text[]) as wanted (disposition)
        cross join lateral (
            select * from quarantine
            where source_id = $1 and quarantine.disposition = wanted.disposition
                and (quarantine.received_at, quarantine.digest) < ($3, $4)
            order by quarantine.received_at desc, quarantine.digest desc limit $5
        ) as event
        order by event.received_at desc, event.digest desc limit $5"#,
        source,
        dispositions,
        received_at,
        digest,
        limit,
        payloads == Payloads::Read,
    )
    .fetch_all(db)
    .await
}

/// The event with this digest.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find_quarantined(
    db: impl PgExecutor<'_>,
    source: Uuid,
    digest: Uuid,
) -> sqlx::Result<Option<QuarantinedEvent>> {
    sqlx::query_as!(
        QuarantinedEvent,
        "select digest, disposition, received_at, event_name, reason, payload
        from quarantine where source_id = $1 and digest = $2",
        source,
        digest,
    )
    .fetch_optional(db)
    .await
}
