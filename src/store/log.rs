//! The append-only log of events.
//!
//! Invariant: within an account, `seq` counts without gaps, and in the order of commit, whichever replica writes: a
//! reader that has passed a number has missed none below it. An append counts on from the account's `head_seq`, whose
//! row it locks until it has committed. Before that it takes the locks of its **lanes**, in order, so that appends that
//! concern several accounts cannot deadlock; accounts map to lanes by a fixed rule.

use std::collections::HashMap;

use futures_util::{Stream, TryStreamExt};
use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{lock, storable};
use crate::domain::event::{EventId, Kind, MessageId};

/// One of the few parts of the log that are written independently of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(u8);

impl Lane {
    /// How many there are. All replicas must agree on it: change it only with the program stopped.
    pub const COUNT: u8 = 4;

    /// The lane of an account.
    #[must_use]
    pub fn of(account: Uuid) -> Self {
        // Account ids are random, so any byte spreads them evenly.
        Self(account.as_bytes()[15] % Self::COUNT)
    }

    /// All lanes.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0..Self::COUNT).map(Self)
    }

    /// Its place among all.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The numbers of the lanes' advisory locks, in the order in which all take them.
    pub(super) fn locks(lanes: &[Self]) -> Vec<i32> {
        let mut locks: Vec<i32> = lanes.iter().map(|lane| i32::from(lane.0)).collect();
        locks.sort_unstable();
        locks
    }
}

/// Events to append, column by column as the statements take them.
#[derive(Debug, Default)]
pub struct Append {
    /// How many events each account has here.
    counts: HashMap<Uuid, i64>,
    account_ids: Vec<Uuid>,
    /// Each event's place among those of its account here, from 1.
    places: Vec<i64>,
    message_ids: Vec<Uuid>,
    received_at: Vec<OffsetDateTime>,
    kinds: Vec<i16>,
    event_ids: Vec<String>,
    tracks: Vec<String>,
}

/// One event to append.
#[derive(Debug)]
pub struct NewEvent {
    /// What happened.
    pub kind: Kind,
    /// The id it is deduplicated by.
    pub message_id: MessageId,
    /// The sender's id of it.
    pub event_id: String,
    /// Its track call (see [`Track::into_json`](crate::domain::track::Track::into_json)).
    pub track: String,
}

impl NewEvent {
    /// An event of `account`.
    #[must_use]
    pub fn new(account: Uuid, kind: Kind, id: &EventId<'_>, track: String) -> Self {
        Self { kind, message_id: MessageId::new(account, id), event_id: id.as_str().to_owned(), track }
    }
}

impl Append {
    /// Adds an event of `account`.
    pub fn push(&mut self, account: Uuid, received_at: OffsetDateTime, event: NewEvent) {
        let count = self.counts.entry(account).or_default();
        *count += 1;
        self.places.push(*count);
        self.account_ids.push(account);
        self.message_ids.push(event.message_id.0);
        self.received_at.push(received_at);
        self.kinds.push(event.kind.number());
        self.event_ids.push(storable(event.event_id));
        self.tracks.push(event.track);
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.message_ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.message_ids.is_empty()
    }

    /// The events' ids, in order.
    #[must_use]
    pub fn message_ids(&self) -> &[Uuid] {
        &self.message_ids
    }
}

/// Appends events of which none is in the log yet, one statement that commits by itself.
///
/// # Errors
/// [`is_duplicate`] tells whether one of the events is in the log, or here twice: nothing is appended then. Otherwise it
/// is not known whether they are.
pub async fn append_new(db: impl PgExecutor<'_>, lanes: &[Lane], events: &Append) -> sqlx::Result<()> {
    let (accounts, counts): (Vec<Uuid>, Vec<i64>) = events.counts.iter().map(|(id, n)| (*id, *n)).unzip();
    sqlx::query!(
        "with locked as materialized (
            select count(pg_advisory_xact_lock($1, lane)) as n from unnest($2::int[]) as lane
        ),
        advanced as (
            update delivery set head_seq = head_seq + counted.n
            from locked, unnest($3::uuid[], $4::bigint[]) as counted (account_id, n)
            where delivery.account_id = counted.account_id
            returning delivery.account_id, head_seq - counted.n as base
        )
        -- An account that was just deleted has no row in delivery, and gets none of its events.
        insert into event (account_id, seq, message_id, received_at, kind, event_id, track)
        select account_id, base + place, message_id, received_at, kind, event_id, track
        from advanced join unnest($5::uuid[], $6::bigint[], $7::uuid[], $8::timestamptz[], $9::smallint[], $10::text[],
            $11::text[]) as new (account_id, place, message_id, received_at, kind, event_id, track) using (account_id)",
        lock::LANE,
        &Lane::locks(lanes),
        &accounts,
        &counts,
        &events.account_ids,
        &events.places,
        &events.message_ids,
        &events.received_at,
        &events.kinds,
        &events.event_ids,
        &events.tracks,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether an append failed because an event is in the log already.
#[must_use]
pub fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) == Some("event_message_id_unique")
}

/// Appends those of the events that are not in the log yet, each once: one statement that commits by itself. Returns
/// their message ids. Slower than [`append_new`].
///
/// # Errors
/// [`is_duplicate`] where another replica appended one of the events in the same moment: nothing is appended, and the
/// next attempt will see it. Otherwise it is not known whether they are.
pub async fn append_missing(db: impl PgExecutor<'_>, lanes: &[Lane], events: &Append) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"with locked as materialized (
            select count(pg_advisory_xact_lock($1, lane)) as n from unnest($2::int[]) as lane
        ),
        new as (
            select distinct on (message_id) *
            from unnest($3::uuid[], $4::uuid[], $5::timestamptz[], $6::smallint[], $7::text[], $8::text[])
                with ordinality as new (account_id, message_id, received_at, kind, event_id, track, position)
            order by message_id, position
        ),
        missing as materialized (
            select *, row_number() over (partition by account_id order by position) as place
            from new where not exists (select from event where event.message_id = new.message_id)
        ),
        advanced as (
            update delivery set head_seq = head_seq + counted.n
            from locked, (select account_id, count(*) as n from missing group by account_id) as counted
            where delivery.account_id = counted.account_id
            returning delivery.account_id, head_seq - counted.n as base
        )
        insert into event (account_id, seq, message_id, received_at, kind, event_id, track)
        select account_id, base + place, message_id, received_at, kind, event_id, track
        from advanced join missing using (account_id)
        returning message_id"#,
        lock::LANE,
        &Lane::locks(lanes),
        &events.account_ids,
        &events.message_ids,
        &events.received_at,
        &events.kinds,
        &events.event_ids,
        &events.tracks,
    )
    .fetch_all(db)
    .await
}

/// An event of the log, as the delivery reads it.
#[derive(Debug)]
pub struct LoggedEvent {
    /// Its place in the log.
    pub seq: i64,
    /// The id that Segment deduplicates by.
    pub message_id: MessageId,
    /// What happened.
    pub kind: Kind,
    /// Since when it waits: receipt, or replay.
    pub since: OffsetDateTime,
    /// Its track call.
    pub track: String,
}

/// Reads at most `limit` events of `account` that come after `cursor`, in order.
pub fn read_after<'e>(
    db: impl PgExecutor<'e> + 'e,
    account: Uuid,
    cursor: i64,
    limit: i64,
) -> impl Stream<Item = sqlx::Result<LoggedEvent>> + 'e {
    sqlx::query!(
        r#"
        select seq, message_id, kind, coalesce(replayed_at, received_at) as "since!", track
        from event where account_id = $1 and seq > $2 order by seq limit $3
        "#,
        account,
        cursor,
        limit
    )
    .fetch(db)
    .and_then(|row| async move {
        let kind = Kind::from_number(row.kind)
            .ok_or_else(|| sqlx::Error::Decode(format!("event kind {} of a newer version", row.kind).into()))?;
        Ok(LoggedEvent {
            seq: row.seq,
            message_id: MessageId(row.message_id),
            kind,
            since: row.since,
            track: row.track,
        })
    })
}
