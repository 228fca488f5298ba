//! The append-only log of events.
//!
//! Invariant: within an account, the order of `seq` is the order of commit, whichever replica writes, so a reader that
//! has passed a number has missed none below it. Sequence numbers are handed out before their commit; therefore an
//! append first takes the lock of its **lane**, and holds it until it has committed. Accounts map to lanes by a fixed
//! rule.

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
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Its place among all.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The number of its advisory lock.
    pub(super) fn lock(self) -> i32 {
        i32::from(self.0)
    }
}

/// Events to append, all of one lane, column by column as the statement takes them.
#[derive(Debug, Default)]
pub struct Append {
    account_ids: Vec<Uuid>,
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

/// Appends events, one statement that commits by itself. Returns the ids of those that were new, or `None` where all
/// were, as is usual; the others are there already.
///
/// # Errors
/// Where it is not known to be committed.
pub async fn append(db: impl PgExecutor<'_>, lane: Lane, events: &Append) -> sqlx::Result<Option<Vec<Uuid>>> {
    let new = sqlx::query_scalar!(
        r#"
        with lane as materialized (
            select pg_advisory_xact_lock($1, $2)
        ),
        inserted as (
            insert into event (account_id, seq, message_id, received_at, kind, event_id, track)
            select account_id, nextval('event_seq'), message_id, received_at, kind, event_id, track
            from lane, unnest($3::uuid[], $4::uuid[], $5::timestamptz[], $6::smallint[], $7::text[], $8::text[])
                as new (account_id, message_id, received_at, kind, event_id, track)
            on conflict (message_id) do nothing
            returning account_id, seq, message_id
        ),
        appended as (
            select account_id, max(seq) as head_seq, count(*) as n from inserted group by account_id
        ),
        advanced as (
            update delivery
            set head_seq = appended.head_seq, n_appended = n_appended + appended.n
            from appended where delivery.account_id = appended.account_id
        )
        select case when count(*) < cardinality($4::uuid[]) then coalesce(array_agg(message_id), '{}') end as new
        from inserted
        "#,
        lock::LANE,
        lane.lock(),
        &events.account_ids,
        &events.message_ids,
        &events.received_at,
        &events.kinds,
        &events.event_ids,
        &events.tracks,
    )
    .fetch_one(db)
    .await?;
    Ok(new)
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
