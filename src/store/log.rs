//! The append-only log of events.
//!
//! Invariant: a source's events are numbered without gaps, in the order of commit, whichever replica writes: a reader
//! that has passed a number has missed none below it. An append counts on from the source's `head_seq`, whose row it
//! locks until it has committed. Before that it takes the locks of its **lanes**, in order, so that appends that concern
//! several sources cannot deadlock; sources map to lanes by a fixed rule.

use std::collections::HashSet;

use sqlx::PgExecutor;
use uuid::Uuid;

use super::append::Append;
use super::call_effects::{Effects, Learnt};
use super::lock;

/// One of the few parts of the log that are written independently of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(u8);

impl Lane {
    /// How many there are. All replicas must agree on it: change it only with the program stopped.
    pub const COUNT: u8 = 4;

    /// The lane of a source.
    #[must_use]
    pub fn of(source: Uuid) -> Self {
        // Source ids are random, so any byte spreads them evenly.
        Self(source.as_bytes()[15] % Self::COUNT)
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

/// What a commit saw of the lease of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSeen {
    /// The number of the last lease.
    pub number: i64,
    /// Whether somebody has changed since what is delivered with it, or how.
    pub is_changed: bool,
}

impl LeaseSeen {
    /// Whether what was committed may be delivered under this lease, as far as the commit knows: where it began before the
    /// lease was taken, the lease knows more.
    #[must_use]
    pub fn counts_for(self, lease: i64) -> bool {
        self.number < lease || self.number == lease && !self.is_changed
    }
}

/// Where the events of a source were appended.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// The source.
    pub source_id: Uuid,
    /// The number before that of the first event.
    pub base: i64,
    /// The source's lease.
    pub lease: LeaseSeen,
}

/// Appends; `$effects` are further parts of the statement, and `$values` their parameters, from $23 on. A macro, as each
/// statement is checked when the program is built.
macro_rules! append {
    ($db:expr, $lanes:expr, $append:expr, $effects:tt, [$($values:tt)*]) => {{
        let (lanes, append) = ($lanes, $append);
        let blocks = append.columns();
        let (source_ids, event_ids) = append.events().ids();
        let [delivered, opened, clicked, bounced, marked_as_spam, unsubscribed, identify, track] =
            &blocks.counts_by_kind;
        let rows = sqlx::query!(
        r#"with locked as materialized (
            select count(pg_advisory_xact_lock($1, lane)) as n from unnest($2::int[]) as lane
        ),
        advanced as (
            update log_head
            set head_seq = head_seq + counted.n,
                n_duplicates = log_head.n_duplicates + counted.n_duplicates,
                n_email_delivered = n_email_delivered + delivered, n_opened = n_opened + opened,
                n_clicked = n_clicked + clicked, n_bounced = n_bounced + bounced,
                n_marked_as_spam = n_marked_as_spam + marked_as_spam,
                n_unsubscribed = n_unsubscribed + unsubscribed, n_identify = n_identify + identify,
                n_track = n_track + track
            from locked, unnest($3::uuid[], $4::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
                $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $21::bigint[], $22::bigint[])
                as counted (source_id, n, n_before, n_duplicates, delivered, opened, clicked, bounced, marked_as_spam,
                    unsubscribed, identify, track)
            where log_head.source_id = counted.source_id
            returning log_head.source_id, head_seq - counted.n as base, counted.n_before
        ),
        stored as (
            -- A source that was just deleted has no row in log_head, and gets none of its events.
            insert into event_block (source_id, last_seq, n_events, since, events, filter)
            select source_id, base + last_place, n_events, since, events, filter
            from advanced join unnest($5::uuid[], $6::bigint[], $7::int[], $8::timestamptz[], $9::bytea[], $20::bytea[])
                as block (source_id, last_place, n_events, since, events, filter) using (source_id)
        ),
        known as (
            insert into known_event (source_id, seq, event_id)
            select source_id, base + place - n_before, event_id
            from advanced join unnest($10::uuid[], $11::bytea[]) with ordinality as new (source_id, event_id, place)
                using (source_id)
        )"#
                + $effects
                + r#" select source_id as "source_id!", base as "base!", lease as "lease!",
                    next_attempt_at > '-infinity' as "is_changed!"
                from advanced join delivery using (source_id)"#,
        lock::LANE,
        &Lane::locks(lanes),
        &blocks.sources,
        &blocks.counts,
        &blocks.block_sources,
        &blocks.last_places,
        &blocks.sizes,
        &blocks.since,
        append.stored(),
        &source_ids,
        &event_ids as _,
        &blocks.n_before,
        &blocks.n_duplicates,
        delivered,
        opened,
        clicked,
        bounced,
        marked_as_spam,
        unsubscribed,
        append.filters(),
        identify,
        track,
            $($values)*
        )
        .fetch_all($db)
        .await?;
        let appended = rows.into_iter().map(|row| Appended {
            source_id: row.source_id,
            base: row.base,
            lease: LeaseSeen { number: row.lease, is_changed: row.is_changed },
        });
        let appended: Vec<_> = appended.collect();
        Ok((appended.len() == blocks.sources.len()).then_some(appended))
    }};
}

/// Appends events, one statement that commits by itself. Says where they are now; `None`: a source was just
/// deleted, and got none of its events.
///
/// # Errors
/// [`is_duplicate`] tells whether one of the events is in the log, or here twice; [`is_lock_timeout`] whether another
/// session holds one of the sources: nothing is appended then. Otherwise it is not known whether they are.
///
/// [`is_lock_timeout`]: super::connection::is_lock_timeout
pub async fn append(db: impl PgExecutor<'_>, lanes: &[Lane], append: &Append) -> sqlx::Result<Option<Vec<Appended>>> {
    let Effects { users, lessons, released } = &append.effects;
    if users.is_empty() && released.is_empty() {
        // Email events have none, and are spared what a statement costs that has nothing to do.
        return append!(db, lanes, append, "", []);
    }
    let learnt = Learnt::new(lessons);
    append!(
        db,
        lanes,
        append,
        r#",
        identified as (
            insert into identified_user (source_id, user_hash)
            select source_id, user_hash
            from advanced join unnest($23::uuid[], $24::uuid[]) as new (source_id, user_hash) using (source_id)
            on conflict do nothing
        ),
        learnt as (
            insert into identity (account_id, address_hash, user_id, user_hash)
            select account_id, address_hash, user_id, user_hash
            from advanced join unnest($25::uuid[], $26::uuid[], $27::uuid[], $28::bytea[], $29::uuid[])
                as new (source_id, account_id, address_hash, user_id, user_hash) using (source_id)
            order by account_id, address_hash
            on conflict (account_id, address_hash)
                do update set user_id = excluded.user_id, user_hash = excluded.user_hash
        ),
        released as (
            delete from held_call
            using advanced join unnest($30::uuid[], $31::bytea[]) as done (source_id, event_id) using (source_id)
            where held_call.source_id = done.source_id and held_call.event_id = done.event_id
        )"#,
        [
            &users.source_ids,
            &users.user_hashes,
            &learnt.source_ids,
            &learnt.account_ids,
            &learnt.address_hashes,
            &learnt.user_ids as _,
            &learnt.user_hashes,
            &released.source_ids,
            &released.event_ids as _,
        ]
    )
}

/// Those of the sources that there are.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn existing(db: impl PgExecutor<'_>, sources: &[Uuid]) -> sqlx::Result<HashSet<Uuid>> {
    let ids = sqlx::query_scalar!("select source_id from log_head where source_id = any($1)", sources);
    Ok(ids.fetch_all(db).await?.into_iter().collect())
}

/// Those of the sources whose row no other session holds. It waits for nothing, and holds nothing when it returns.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn appendable(db: impl PgExecutor<'_>, sources: &[Uuid]) -> sqlx::Result<HashSet<Uuid>> {
    let free =
        sqlx::query_scalar!("select source_id from log_head where source_id = any($1) for update skip locked", sources);
    Ok(free.fetch_all(db).await?.into_iter().collect())
}

/// Whether an append failed because an event is in the log already.
#[must_use]
pub fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) == Some("known_event_pkey")
}
