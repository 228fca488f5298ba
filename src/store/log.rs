//! The append-only log of events.
//!
//! Invariant: an account's events are numbered without gaps, in the order of commit, whichever replica writes: a reader
//! that has passed a number has missed none below it. An append counts on from the account's `head_seq`, whose row it
//! locks until it has committed. Before that it takes the locks of its **lanes**, in order, so that appends that concern
//! several accounts cannot deadlock; accounts map to lanes by a fixed rule.

use std::collections::{HashMap, HashSet};

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::block::{Block, FULL_BYTES};
use super::lock;

/// The most events of a block.
pub const MAX_BLOCK_EVENTS: usize = 1_000;

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

/// Events that came in together, by account, each account's in order.
#[derive(Debug, Default)]
pub struct Events {
    parts: Vec<Part>,
    places: HashMap<Uuid, usize>,
}

/// The events of one account.
#[derive(Debug)]
struct Part {
    account: Uuid,
    /// When the first was received.
    since: OffsetDateTime,
    blocks: Vec<Block>,
}

impl Events {
    /// Adds events of `account`; returns the account's place among all here.
    pub fn push(&mut self, account: Uuid, received_at: OffsetDateTime, events: Block) -> usize {
        let place = *self.places.entry(account).or_insert(self.parts.len());
        if place == self.parts.len() {
            self.parts.push(Part { account, since: received_at, blocks: Vec::new() });
        }
        let blocks = &mut self.parts[place].blocks;
        let fits = |block: &Block, more: &Block| {
            block.n_bytes() + more.n_bytes() <= FULL_BYTES && block.len() + more.len() <= MAX_BLOCK_EVENTS
        };
        match blocks.last_mut() {
            Some(last) if fits(last, &events) => last.append(&events),
            None if fits(&Block::default(), &events) => blocks.push(events),
            _ => events.records().for_each(|event| match blocks.last_mut() {
                Some(last) if last.n_bytes() < FULL_BYTES && last.len() < MAX_BLOCK_EVENTS => last.push(event),
                _ => {
                    let mut block = Block::default();
                    block.push(event);
                    blocks.push(block);
                }
            }),
        }
        place
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes out the events that are in the log already, or here before. Says of each event whether it stays, by place
    /// and in order.
    ///
    /// # Errors
    /// The database's trouble.
    pub async fn without_known(&self, db: impl PgExecutor<'_>) -> sqlx::Result<(Self, Vec<Vec<bool>>)> {
        let (account_ids, event_ids) = self.ids();
        let known = sqlx::query!(
            r#"select account_id as "account_id!", event_id as "event_id!"
            from known_event join unnest($1::uuid[], $2::bytea[]) as asked (account_id, event_id)
                using (account_id, event_id)"#,
            &account_ids,
            &event_ids as _,
        )
        .fetch_all(db)
        .await?;
        let known: Vec<(Uuid, Vec<u8>)> = known.into_iter().map(|row| (row.account_id, row.event_id)).collect();
        let mut seen: HashSet<(Uuid, &[u8])> = known.iter().map(|(account, id)| (*account, id.as_slice())).collect();
        let (mut new, mut stays) = (Self::default(), Vec::new());
        for part in &self.parts {
            let mut block = Block::default();
            let mut of_part = Vec::new();
            for event in part.blocks.iter().flat_map(Block::records) {
                let is_new = seen.insert((part.account, event.event_id));
                if is_new {
                    block.push(event);
                }
                of_part.push(is_new);
            }
            if !block.is_empty() {
                new.push(part.account, part.since, block);
            }
            stays.push(of_part);
        }
        Ok((new, stays))
    }

    fn ids(&self) -> (Vec<Uuid>, Vec<&[u8]>) {
        let (mut account_ids, mut event_ids) = (Vec::with_capacity(self.len()), Vec::with_capacity(self.len()));
        for part in &self.parts {
            for event in part.blocks.iter().flat_map(Block::records) {
                account_ids.push(part.account);
                event_ids.push(event.event_id);
            }
        }
        (account_ids, event_ids)
    }
}

impl Part {
    fn len(&self) -> usize {
        self.blocks.iter().map(Block::len).sum()
    }
}

/// Events, made ready to be appended.
#[derive(Debug, Default)]
pub struct Append {
    events: Events,
    /// The events' blocks, compressed.
    stored: Vec<Vec<u8>>,
    /// Whether the events were in the log before.
    are_known: bool,
}

impl Append {
    /// Of events that come for the first time.
    #[must_use]
    pub fn new(events: Events) -> Self {
        let stored = events.parts.iter().flat_map(|part| &part.blocks).map(Block::compress).collect();
        Self { events, stored, are_known: false }
    }

    /// Of events that are to be delivered once more.
    #[must_use]
    pub fn again(events: Events) -> Self {
        Self { are_known: true, ..Self::new(events) }
    }

    /// What is to be appended.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }
}

/// Appends events, one statement that commits by itself.
///
/// # Errors
/// [`is_duplicate`] tells whether one of the events is in the log, or here twice: nothing is appended then. Otherwise it
/// is not known whether they are.
pub async fn append(db: impl PgExecutor<'_>, lanes: &[Lane], append: &Append) -> sqlx::Result<()> {
    let (mut accounts, mut counts) = (Vec::new(), Vec::new());
    let (mut block_accounts, mut last_places, mut sizes, mut since) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for part in &append.events.parts {
        let mut place = 0;
        for block in &part.blocks {
            place += i64::try_from(block.len()).unwrap_or(i64::MAX);
            block_accounts.push(part.account);
            last_places.push(place);
            sizes.push(i32::try_from(block.len()).unwrap_or(i32::MAX));
            since.push(part.since);
        }
        accounts.push(part.account);
        counts.push(place);
    }
    let (account_ids, event_ids) = if append.are_known { (vec![], vec![]) } else { append.events.ids() };
    sqlx::query!(
        "with locked as materialized (
            select count(pg_advisory_xact_lock($1, lane)) as n from unnest($2::int[]) as lane
        ),
        advanced as (
            update log_head set head_seq = head_seq + counted.n
            from locked, unnest($3::uuid[], $4::bigint[]) as counted (account_id, n)
            where log_head.account_id = counted.account_id
            returning log_head.account_id, head_seq - counted.n as base
        ),
        stored as (
            -- An account that was just deleted has no row in log_head, and gets none of its events.
            insert into event_block (account_id, last_seq, n_events, since, events)
            select account_id, base + last_place, n_events, since, events
            from advanced join unnest($5::uuid[], $6::bigint[], $7::int[], $8::timestamptz[], $9::bytea[])
                as block (account_id, last_place, n_events, since, events) using (account_id)
        )
        insert into known_event (account_id, event_id)
        select account_id, event_id
        from advanced join unnest($10::uuid[], $11::bytea[]) as new (account_id, event_id) using (account_id)",
        lock::LANE,
        &Lane::locks(lanes),
        &accounts,
        &counts,
        &block_accounts,
        &last_places,
        &sizes,
        &since,
        &append.stored,
        &account_ids,
        &event_ids as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether an append failed because an event is in the log already.
#[must_use]
pub fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) == Some("known_event_pkey")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::Kind;
    use crate::store::block::Record;

    proptest! {
        #[test]
        fn blocks_keep_the_order_of_their_events_and_stay_within_their_bounds(
            webhooks in proptest::collection::vec((0u8..3, 1usize..300, 1usize..32_000), 1..30)
        ) {
            let (mut events, mut expected, mut n) = (Events::default(), HashMap::<Uuid, Vec<u64>>::new(), 0u64);
            for (account, n_events, size) in webhooks {
                let account = Uuid::from_u128(account.into());
                // A webhook is not larger than a few MiB.
                let n_events = n_events.min(3_000_000 / size).max(1);
                let mut block = Block::default();
                for _ in 0..n_events {
                    n += 1;
                    expected.entry(account).or_default().push(n);
                    let (event_id, track) = (n.to_le_bytes(), vec![b'x'; size]);
                    let received_at = OffsetDateTime::UNIX_EPOCH;
                    block.push(Record { kind: Kind::Opened, received_at, event_id: &event_id, track: &track });
                }
                events.push(account, OffsetDateTime::UNIX_EPOCH, block);
            }
            prop_assert_eq!(events.len(), expected.values().map(Vec::len).sum::<usize>());
            for part in &events.parts {
                let mut ids = Vec::new();
                for block in &part.blocks {
                    prop_assert!(block.len() <= MAX_BLOCK_EVENTS && block.n_bytes() < FULL_BYTES + 33_000);
                    ids.extend(block.records().map(|e| u64::from_le_bytes(e.event_id.try_into().expect("8 bytes"))));
                }
                prop_assert_eq!(Some(&ids), expected.get(&part.account));
            }
        }
    }
}
