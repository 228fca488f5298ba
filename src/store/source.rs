//! Sources, as the database holds them: keys and secrets sealed.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// What a source's row holds. Sealed fields are opened by [`secrets`](crate::secrets).
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct SealedSource {
    pub id: Uuid,
    pub account_id: Uuid,
    pub account_name: String,
    pub kind: String,
    pub name: String,
    pub token: String,
    pub region: String,
    pub endpoint: Option<String>,
    /// The key of its destination, Segment or Nudgespot.
    pub write_key: Option<Vec<u8>>,
    pub secret: Option<Vec<u8>>,
    pub previous_secret: Option<Vec<u8>>,
    pub previous_secret_until: Option<OffsetDateTime>,
    pub unsubscribe_event: String,
    pub allow_untimestamped: bool,
    pub status_token: String,
    pub unknown_users: String,
    pub event_traits: bool,
    pub carrier: Option<String>,
    pub learn_identities: bool,
    pub identity_key: Option<Vec<u8>>,
}

/// Whose a new source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An account that exists.
    Existing,
    /// One that is made along with it.
    New,
}

/// Inserts a source, with nothing to deliver yet, and its account where that is new: all of it or nothing. An identity key
/// that comes with it becomes its account's, unless that has one. Does no harm when it is run twice. Says whether its account
/// is there.
///
/// # Errors
/// A unique violation of `source_name_unique` or `account_name_unique`, or the database did not answer.
pub async fn insert(db: impl PgExecutor<'_>, source: &SealedSource, owner: Owner) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"with new_account as (
            insert into account (id, name, identity_key) select $2, $12, $19 where $13 on conflict (id) do nothing
            returning id
        ),
        -- Of two who give it one at the same time, the first does.
        keyed as (
            update account set identity_key = $19 where id = $2 and identity_key is null and $19::bytea is not null
        ),
        owner as (
            select id from new_account union select id from account where id = $2
        ),
        new as (
            insert into source
                (id, account_id, kind, name, token, region, endpoint, write_key, secret, unsubscribe_event,
                allow_untimestamped, status_token, unknown_users, event_traits, carrier, learn_identities)
            select $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $14, $15, $16, $17, $18 from owner
            on conflict (id) do nothing
            returning id
        ),
        head as (
            insert into log_head (source_id) select id from new
        ),
        delivery as (
            insert into delivery (source_id) select id from new
        ),
        mark as (
            insert into traffic_mark (source_id) select id from new
        )
        select exists (select from owner) as "has_owner!""#,
        source.id,
        source.account_id,
        source.kind,
        source.name,
        source.token,
        source.region,
        source.endpoint,
        source.write_key,
        source.secret,
        source.unsubscribe_event,
        source.allow_untimestamped,
        source.account_name,
        owner == Owner::New,
        source.status_token,
        source.unknown_users,
        source.event_traits,
        source.carrier,
        source.learn_identities,
        source.identity_key,
    )
    .fetch_one(db)
    .await
}

/// Every source, or those of `ids` or of `accounts` that (still) exist, by the names of account and source.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(
    db: impl PgExecutor<'_>,
    ids: Option<&[Uuid]>,
    accounts: Option<&[Uuid]>,
) -> sqlx::Result<Vec<SealedSource>> {
    sqlx::query_as!(
        SealedSource,
        "select source.id, account_id, account.name as account_name, kind, source.name, token, region, endpoint,
            write_key, secret, previous_secret, previous_secret_until, unsubscribe_event, allow_untimestamped, status_token,
            unknown_users, event_traits, carrier, learn_identities, identity_key
        from source join account on account.id = account_id
        where ($1::uuid[] is null or source.id = any($1)) and ($2::uuid[] is null or account_id = any($2))
        order by account.name, source.name",
        ids as _,
        accounts as _,
    )
    .fetch_all(db)
    .await
}

/// The sources that `text` may mean: one by its id, those of the account of that id or name, and the one that is called
/// `account/source`.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn candidates(db: impl PgExecutor<'_>, text: &str) -> sqlx::Result<Vec<SealedSource>> {
    let id = Uuid::parse_str(text).ok();
    let (account, name) = text.rsplit_once('/').unzip();
    let account_id = account.and_then(|account| Uuid::parse_str(account).ok());
    sqlx::query_as!(
        SealedSource,
        "select source.id, account_id, account.name as account_name, kind, source.name, token, region, endpoint,
            write_key, secret, previous_secret, previous_secret_until, unsubscribe_event, allow_untimestamped, status_token,
            unknown_users, event_traits, carrier, learn_identities, identity_key
        from source join account on account.id = account_id
        where source.id = $1 or account_id = $1 or account.name = $2
            or (account.name = $3 or account_id = $4) and source.name = $5
        order by account.name, source.name",
        id,
        text,
        account,
        account_id,
        name,
    )
    .fetch_all(db)
    .await
}

/// The version of the last change to any source.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn latest_version(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select coalesce(max(version), 0) as "version!" from source_change"#).fetch_one(db).await
}

/// The changes after `version`, oldest first: their versions and sources.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn changes_after(db: impl PgExecutor<'_>, version: i64) -> sqlx::Result<Vec<(i64, Uuid)>> {
    let rows =
        sqlx::query!("select version, source_id from source_change where version > $1 order by version", version)
            .fetch_all(db)
            .await?;
    Ok(rows.into_iter().map(|row| (row.version, row.source_id)).collect())
}

/// What to change of a source; `None` leaves a field as it is.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the columns")]
pub struct Changes {
    pub name: Option<String>,
    pub region: Option<String>,
    /// `Some(None)`: that of the region.
    pub endpoint: Option<Option<String>>,
    pub write_key: Option<Vec<u8>>,
    pub unsubscribe_event: Option<String>,
    pub allow_untimestamped: Option<bool>,
    pub unknown_users: Option<String>,
    pub event_traits: Option<bool>,
    /// `Some(None)`: none.
    pub carrier: Option<Option<String>>,
    pub learn_identities: Option<bool>,
}

/// Changes a source. A new key, region or endpoint is tried at once, and ends a pause that the destination's answer began.
/// Says whether the source is there.
///
/// # Errors
/// A unique violation of `source_name_unique`, or the database did not answer.
pub async fn update(db: impl PgExecutor<'_>, id: Uuid, changes: &Changes) -> sqlx::Result<bool> {
    let n_changed = sqlx::query_scalar!(
        r#"with changed as (
            update source
            set name = coalesce($2, name), region = coalesce($3, region), write_key = coalesce($4, write_key),
                unsubscribe_event = coalesce($5, unsubscribe_event),
                allow_untimestamped = coalesce($6, allow_untimestamped),
                endpoint = case when $7 then $8 else endpoint end,
                unknown_users = coalesce($9, unknown_users), event_traits = coalesce($10, event_traits),
                carrier = case when $11 then $12 else carrier end,
                learn_identities = coalesce($13, learn_identities)
            where id = $1
            returning id
        ),
        tried as (
            update delivery
            set n_attempts = 0, n_refused = 0, next_attempt_at = now(),
                paused_by = case when paused_by <> 'segment' then paused_by end,
                paused_reason = case when paused_by <> 'segment' then paused_reason end,
                paused_at = case when paused_by <> 'segment' then paused_at end
            from changed where source_id = changed.id and ($3::text is not null or $4::bytea is not null or $7)
        ),
        written_anew as (
            -- Whoever has a lease, or is taking one, writes what comes from now on by the new name.
            update delivery set next_attempt_at = now()
            from changed where source_id = changed.id
                and $5::text is not null and not ($3::text is not null or $4::bytea is not null or $7)
        ),
        -- What Segment said was of the key before.
        asked_anew as (
            delete from write_key_check using changed
            where source_id = changed.id and ($4::bytea is not null or $7)
        )
        select count(*) as "n!" from changed"#,
        id,
        changes.name,
        changes.region,
        changes.write_key,
        changes.unsubscribe_event,
        changes.allow_untimestamped,
        changes.endpoint.is_some(),
        changes.endpoint.clone().flatten(),
        changes.unknown_users,
        changes.event_traits,
        changes.carrier.is_some(),
        changes.carrier.clone().flatten(),
        changes.learn_identities,
    )
    .fetch_one(db)
    .await?;
    Ok(n_changed == 1)
}

/// Replaces the token in the source's webhook URL. Says whether the source is there.
///
/// # Errors
/// The database did not answer; try again.
pub async fn update_token(db: impl PgExecutor<'_>, id: Uuid, token: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("update source set token = $2 where id = $1", id, token).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Replaces the sealed fields of `source` with those of `new`, unless somebody else did in the meantime; says whether it
/// did.
///
/// # Errors
/// The database did not answer; look at the source.
pub async fn reseal(db: impl PgExecutor<'_>, source: &SealedSource, new: &SealedSource) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update source
        set secret = $2, previous_secret = $3, previous_secret_until = $4, write_key = $5
        where id = $1
            -- Sealed anew, the same text is another: where it is there already, this statement has done it before.
            and (secret = $2 or secret is not distinct from $6 and previous_secret is not distinct from $7
                and write_key is not distinct from $8)",
        source.id,
        new.secret,
        new.previous_secret,
        new.previous_secret_until,
        new.write_key,
        source.secret,
        source.previous_secret,
        source.write_key,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How a source stands: its settings without keys, and its counts.
#[derive(Debug)]
#[expect(missing_docs, reason = "docs/contract.md, Command line")]
pub struct SourceStatus {
    pub id: Uuid,
    pub paused_reason: Option<String>,
    pub waiting: i64,
    pub oldest_waiting_since: Option<OffsetDateTime>,
    pub delivered: i64,
    /// Events that the log should hold, and does not.
    pub missing: i64,
    /// Why the last attempt failed; `None`: it did not.
    pub last_error: Option<String>,
    pub dead_letters: i64,
    pub rejected: i64,
    pub ignored: i64,
    /// Calls that wait for an `identify`.
    pub held: i64,
    /// Users whom an `identify` has told of.
    pub identified: i64,
}

/// How the sources stand: one of them, or all. Where `max_counted` is given, no more held calls and identified users are counted.
///
/// # Errors
/// The database did not answer; try again.
pub async fn list_with_status(
    db: impl PgExecutor<'_>,
    only: Option<&[Uuid]>,
    max_counted: Option<i64>,
) -> sqlx::Result<Vec<SourceStatus>> {
    sqlx::query_as!(
        SourceStatus,
        r#"
        select source_id as id, paused_reason, head_seq - cursor_seq - cardinality(done_ahead) as "waiting!", oldest.since as "oldest_waiting_since?",
            n_delivered as delivered, n_missing as missing, last_error, n_rejected as rejected, n_ignored as ignored,
            (select count(*) from dead_letter where dead_letter.source_id = delivery.source_id) as "dead_letters!",
            (
                select count(*) from (
                    select from held_call where held_call.source_id = delivery.source_id limit $2
                ) as held
            ) as "held!",
            (
                select count(*) from (
                    select from identified_user where identified_user.source_id = delivery.source_id limit $2
                ) as identified
            ) as "identified!"
        from delivery join log_head using (source_id)
        left join lateral (
            select since from event_block
            where event_block.source_id = delivery.source_id and last_seq > cursor_seq order by last_seq limit 1
        ) as oldest on true
        where $1::uuid[] is null or source_id = any($1)
        "#,
        only as _,
        max_counted,
    )
    .fetch_all(db)
    .await
}
