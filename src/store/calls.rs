//! What calls go by: users who are identified, whose an email address is, and calls that wait.

use std::collections::{HashMap, HashSet};

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::call_effects::{User, Users};

/// The most calls that wait for one user and are read at a time, and of all users together about.
const MAX_HELD_OF_USER: usize = 500;
const MAX_HELD: usize = 4_000;

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
            held.event_id as "event_id?", held.received_at as "received_at?", held.body as "body?"
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
    )
    .fetch_all(db)
    .await?;
    let mut known = KnownUsers::default();
    for row in rows {
        let user = (row.source_id, row.user_hash);
        if row.is_identified {
            known.identified.insert(user);
        }
        if let (Some(event_id), Some(received_at), Some(body)) = (row.event_id, row.received_at, row.body) {
            let calls = known.held.entry(user).or_default();
            calls.push(HeldCall { event_id, received_at, body });
            if calls.len() == limit {
                known.cut.insert(user);
            }
        }
    }
    Ok(known)
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

    /// The sources, each once.
    #[must_use]
    pub fn sources(&self) -> Vec<Uuid> {
        let mut sources = self.source_ids.clone();
        sources.sort_unstable();
        sources.dedup();
        sources
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

/// Forgets users of sources, each with the source's account: who they are, their calls that wait to be identified, and those
/// that wait to be sent. One statement that commits by itself, and does no harm when it is run twice.
///
/// # Errors
/// Where it is not known to be committed: try again.
pub async fn forget(db: impl PgExecutor<'_>, accounts: &[Uuid], users: &Users) -> sqlx::Result<()> {
    sqlx::query!(
        "with asked as materialized (
            select distinct * from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as asked (account_id, source_id, user_hash)
        ),
        unidentified as (
            delete from identified_user using asked
            where identified_user.source_id = asked.source_id and identified_user.user_hash = asked.user_hash
        ),
        unlearnt as (
            delete from identity using asked
            where identity.account_id = asked.account_id and identity.user_hash = asked.user_hash
        ),
        dropped as (
            delete from held_call using asked
            where held_call.source_id = asked.source_id and held_call.user_hash = asked.user_hash
        )
        insert into forgotten_user (source_id, user_hash, up_to_seq)
        select source_id, user_hash, head_seq from asked join log_head using (source_id)
        on conflict (source_id, user_hash) do update set up_to_seq = excluded.up_to_seq",
        accounts,
        &users.source_ids,
        &users.user_hashes,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Users who are identified, and whose calls wait all the same: an `identify` was taken by another program at the same time,
/// or there are many of them.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn overlooked(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<User>> {
    let rows = sqlx::query!(
        r#"select distinct source_id as "source_id!", user_hash as "user_hash!"
        from (select source_id, user_hash from held_call order by id limit 10000) as held
        join identified_user using (source_id, user_hash) join log_head using (source_id) limit 100"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.source_id, row.user_hash)).collect())
}

/// Sets aside calls that have waited since before `since`, as ignored with that reason; returns how many. Some at a time: call
/// it until it returns 0.
///
/// # Errors
/// The database did not answer; try again.
pub async fn expire(db: impl PgExecutor<'_>, since: OffsetDateTime, reason: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"with old as (
            delete from held_call where (source_id, event_id) in (
                select source_id, event_id from held_call where received_at < $1 order by received_at limit 1000
                for update skip locked
            )
            returning source_id, event_id, received_at, body
        ),
        kept as (
            insert into quarantine (source_id, digest, disposition, received_at, event_name, reason, payload)
            select old.source_id, md5(old.event_id)::uuid, 'ignored', received_at, 'track', $2, body
            from old join log_head using (source_id)
            on conflict do nothing
            returning source_id
        ),
        counted as (
            select source_id, count(*) as n from kept group by source_id
        ),
        updated as (
            update log_head set n_ignored = n_ignored + counted.n
            from counted where log_head.source_id = counted.source_id
        )
        select count(*) as "n!" from old"#,
        since,
        reason,
    )
    .fetch_one(db)
    .await
}

/// Deletes what is remembered of users to forget whose calls wait no longer.
///
/// # Errors
/// The database did not answer; try again.
pub async fn delete_passed_deletions(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from forgotten_user
        where not exists (
            select from delivery where delivery.source_id = forgotten_user.source_id and cursor_seq < up_to_seq
        )"
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

/// Erases what is known of a person in an account: by the user, or by the address, and then also calls that wait and name it.
///
/// # Errors
/// The database did not answer; try again.
pub async fn erase(
    db: impl PgExecutor<'_>,
    account: Uuid,
    user: Option<Uuid>,
    address: Option<Uuid>,
    email: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with unlearnt as (
            delete from identity where account_id = $1 and (user_hash = $2 or address_hash = $3)
        ),
        unidentified as (
            delete from identified_user using source
            where source.account_id = $1 and identified_user.source_id = source.id and identified_user.user_hash = $2
        )
        delete from held_call using source
        where source.account_id = $1 and held_call.source_id = source.id
            and (held_call.user_hash = $2 or position(lower($4) in lower(body)) > 0)",
        account,
        user,
        address,
        email,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Users of a source who were forgotten, and up to which number their calls are not sent any more, as far as such calls may
/// wait behind `cursor`.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn forgotten_after(db: impl PgExecutor<'_>, source: Uuid, cursor: i64) -> sqlx::Result<HashMap<Uuid, i64>> {
    let rows = sqlx::query!(
        "select user_hash, up_to_seq from forgotten_user where source_id = $1 and up_to_seq > $2",
        source,
        cursor
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.user_hash, row.up_to_seq)).collect())
}
