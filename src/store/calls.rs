//! What calls go by: users who are identified, whose an email address is, and calls that wait.

use std::collections::{HashMap, HashSet};

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::call_effects::{User, Users};

/// The most calls that wait for one user and are read at a time, and of all users together about, and their bytes.
const MAX_HELD_OF_USER: usize = 500;
const MAX_HELD: usize = 4_000;
const MAX_HELD_BYTES: i64 = 4 << 20;
/// How many calls that wait are looked at at a time.
const LOOKED_AT: i64 = 10_000;

/// A call that waits for its user to be identified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of `held_call`, which migrations/0005_calls.sql explains")]
pub struct HeldCall {
    pub event_id: Vec<u8>,
    pub received_at: OffsetDateTime,
    pub body: String,
}

/// What is known of users.
#[derive(Debug, Default)]
pub struct KnownUsers {
    /// Those who are identified.
    pub identified: HashSet<User>,
    /// Their calls that wait, each user's in the order in which they came.
    pub held: HashMap<User, Vec<HeldCall>>,
    /// Those of whose calls not all are in `held`.
    pub cut: HashSet<User>,
}

/// What is known of these users.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn known_users(db: impl PgExecutor<'_>, users: &Users) -> sqlx::Result<KnownUsers> {
    let limit = (MAX_HELD / users.source_ids.len().max(1)).clamp(1, MAX_HELD_OF_USER);
    let rows = sqlx::query!(
        r#"select asked.source_id as "source_id!", asked.user_hash as "user_hash!",
            identified.is_so is not null as "is_identified!",
            held.event_id as "event_id?", held.received_at as "received_at?",
            case when sum(octet_length(held.body)) over (order by held.id) <= $4::bigint then held.body end as "body?"
        from unnest($1::uuid[], $2::uuid[]) as asked (source_id, user_hash)
        -- A look-up for each: as `exists`, all users there are would be read into a hash table.
        left join lateral (
            select true as is_so from identified_user
            where identified_user.source_id = asked.source_id and identified_user.user_hash = asked.user_hash
            limit 1
        ) as identified on true
        left join lateral (
            select id, event_id, received_at, body from held_call
            where held_call.source_id = asked.source_id and held_call.user_hash = asked.user_hash
            order by id limit $3
        ) as held on true
        order by held.id"#,
        &users.source_ids,
        &users.user_hashes,
        i64::try_from(limit).unwrap_or(i64::MAX),
        MAX_HELD_BYTES,
    )
    .fetch_all(db)
    .await?;
    let mut known = KnownUsers::default();
    for row in rows {
        let user = (row.source_id, row.user_hash);
        if row.is_identified {
            known.identified.insert(user);
        }
        let Some((event_id, received_at)) = row.event_id.zip(row.received_at) else { continue };
        let Some(body) = row.body else {
            known.cut.insert(user);
            continue;
        };
        let calls = known.held.entry(user).or_default();
        calls.push(HeldCall { event_id, received_at, body });
        if calls.len() == limit {
            known.cut.insert(user);
        }
    }
    Ok(known)
}

/// Those of these calls, each by its source and id, that are in the log.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn known_calls(
    db: impl PgExecutor<'_>,
    sources: &[Uuid],
    event_ids: &[&[u8]],
) -> sqlx::Result<HashSet<(Uuid, Vec<u8>)>> {
    let rows = sqlx::query!(
        r#"select asked.source_id as "source_id!", asked.event_id as "event_id!"
        from unnest($1::uuid[], $2::bytea[]) as asked (source_id, event_id)
        join lateral (
            select from known_event
            where known_event.event_id = asked.event_id and known_event.source_id = asked.source_id limit 1
        ) as known on true"#,
        sources,
        event_ids as _,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.source_id, row.event_id)).collect())
}

/// Calls that are to wait, column by column.
#[derive(Debug, Default)]
pub struct Holds {
    source_ids: Vec<Uuid>,
    user_hashes: Vec<Uuid>,
    event_ids: Vec<Vec<u8>>,
    received_at: Vec<OffsetDateTime>,
    bodies: Vec<String>,
}

impl Holds {
    /// Adds a call.
    pub fn push(&mut self, (source, user): User, call: HeldCall) {
        self.source_ids.push(source);
        self.user_hashes.push(user);
        self.event_ids.push(call.event_id);
        self.received_at.push(call.received_at);
        self.bodies.push(call.body);
    }

    /// The source of each.
    #[must_use]
    pub fn sources(&self) -> &[Uuid] {
        &self.source_ids
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.event_ids.is_empty()
    }
}

/// Has calls wait; returns those that did not wait before, by source and id. One statement that commits by itself.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn hold(db: impl PgExecutor<'_>, holds: &Holds) -> sqlx::Result<HashSet<(Uuid, Vec<u8>)>> {
    let rows = sqlx::query!(
        r#"insert into held_call (source_id, user_hash, event_id, received_at, body)
        select source_id, user_hash, event_id, received_at, body
        from unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::timestamptz[], $5::text[]) with ordinality
            as new (source_id, user_hash, event_id, received_at, body, place)
        -- A source that was just deleted has no row in log_head.
        where exists (select from log_head where log_head.source_id = new.source_id)
        order by place
        on conflict (source_id, event_id) do nothing
        returning source_id, event_id"#,
        &holds.source_ids,
        &holds.user_hashes,
        &holds.event_ids,
        &holds.received_at,
        &holds.bodies,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.source_id, row.event_id)).collect())
}

/// A place among the calls that wait.
pub type HeldPlace = (Uuid, Vec<u8>);

/// Looks at some of the calls that wait, from the one after `after` on: users among theirs who are identified all the same, as an
/// `identify` was taken by another program at the same time, or there are many calls of theirs. And where to go on; `None`: this
/// was the end.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn overlooked(
    db: impl PgExecutor<'_>,
    after: &HeldPlace,
) -> sqlx::Result<(HashSet<User>, Option<HeldPlace>)> {
    let rows = sqlx::query!(
        r#"select held.source_id, held.event_id, held.user_hash, identified.is_so is not null as "is_identified!"
        from (
            select source_id, event_id, user_hash from held_call
            where (source_id, event_id) > ($1, $2) order by source_id, event_id limit $3
        ) as held
        left join lateral (
            select true as is_so from identified_user join log_head using (source_id)
            where identified_user.source_id = held.source_id and identified_user.user_hash = held.user_hash
            limit 1
        ) as identified on true
        order by held.source_id, held.event_id"#,
        after.0,
        after.1,
        LOOKED_AT,
    )
    .fetch_all(db)
    .await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|n| n == LOOKED_AT);
    let next = rows.last().filter(|_| is_full).map(|row| (row.source_id, row.event_id.clone()));
    let identified = rows.into_iter().filter(|row| row.is_identified);
    Ok((identified.map(|row| (row.source_id, row.user_hash)).collect(), next))
}

/// A source with calls that have waited since before `since` for a user whom nobody has told of.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn source_with_expired(db: impl PgExecutor<'_>, since: OffsetDateTime) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select source_id from held_call
        where received_at < $1
            and not exists (
                select from identified_user
                where identified_user.source_id = held_call.source_id and identified_user.user_hash = held_call.user_hash
            )
        order by received_at limit 1",
        since
    )
    .fetch_optional(db)
    .await
}

/// Sets aside such calls of a source, as ignored with that reason. Some at a time.
///
/// # Errors
/// The database did not answer; try again.
pub async fn expire(db: impl PgExecutor<'_>, source: Uuid, since: OffsetDateTime, reason: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "with locked as materialized (
            -- First, as appends do, so that they never wait for each other.
            select source_id from log_head where source_id = $1 for update
        ),
        old as (
            delete from held_call where (source_id, event_id) in (
                select source_id, event_id from held_call
                where source_id = $1 and received_at < $2
                    and not exists (
                        select from identified_user
                        where identified_user.source_id = $1 and identified_user.user_hash = held_call.user_hash
                    )
                order by id limit 1000
            ) and (select count(*) from locked) >= 0
            returning source_id, event_id, received_at, body
        ),
        kept as (
            insert into quarantine (source_id, digest, disposition, received_at, event_name, reason, payload)
            select old.source_id, md5(old.event_id)::uuid, 'ignored', received_at, 'track', $3, body
            from old join locked using (source_id)
            on conflict do nothing
            returning source_id
        )
        update log_head set n_ignored = n_ignored + (select count(*) from kept) where source_id = $1",
        source,
        since,
        reason,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whose these addresses are, as far as that is known: by account and address, the user's id.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn identities(
    db: impl PgExecutor<'_>,
    accounts: &[Uuid],
    address_hashes: &[Uuid],
) -> sqlx::Result<HashMap<(Uuid, Uuid), String>> {
    let rows = sqlx::query!(
        r#"select asked.account_id as "account_id!", asked.address_hash as "address_hash!", known.user_id
        from unnest($1::uuid[], $2::uuid[]) as asked (account_id, address_hash)
        -- A look-up for each, see `known_users`.
        join lateral (
            select user_id from identity
            where identity.account_id = asked.account_id and identity.address_hash = asked.address_hash
            limit 1
        ) as known on true"#,
        accounts,
        address_hashes,
    )
    .fetch_all(db)
    .await?;
    let identities = rows.into_iter().filter_map(|row| {
        // It was text when it was written.
        Some(((row.account_id, row.address_hash), String::from_utf8(row.user_id).ok()?))
    });
    Ok(identities.collect())
}
