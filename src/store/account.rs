//! Accounts, as the database holds them: keys and secrets sealed.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::connection::Connection;
use super::retention;

/// What an account's row holds. Sealed fields are opened by [`accounts`](crate::accounts).
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct SealedAccount {
    pub id: Uuid,
    pub name: String,
    pub token: String,
    pub region: String,
    pub write_key: Option<Vec<u8>>,
    pub secret: Vec<u8>,
    pub previous_secret: Option<Vec<u8>>,
    pub previous_secret_until: Option<OffsetDateTime>,
    pub unsubscribe_event: String,
    pub allow_untimestamped: bool,
}

/// Inserts an account, with nothing to deliver yet.
///
/// # Errors
/// A unique violation of `account_name_unique`, or the database's trouble.
pub async fn insert(db: impl PgExecutor<'_>, account: &SealedAccount) -> sqlx::Result<()> {
    sqlx::query!(
        "with new as (
            insert into account (id, name, token, region, write_key, secret, unsubscribe_event, allow_untimestamped)
            values ($1, $2, $3, $4, $5, $6, $7, $8)
            returning id
        ),
        head as (
            insert into log_head (account_id) select id from new
        )
        insert into delivery (account_id) select id from new",
        account.id,
        account.name,
        account.token,
        account.region,
        account.write_key,
        account.secret,
        account.unsubscribe_event,
        account.allow_untimestamped,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The account of that id, or of that name.
///
/// # Errors
/// The database's trouble.
pub async fn find(db: impl PgExecutor<'_>, id_or_name: &str) -> sqlx::Result<Option<SealedAccount>> {
    let id = Uuid::parse_str(id_or_name).ok();
    sqlx::query_as!(
        SealedAccount,
        "select id, name, token, region, write_key, secret, previous_secret, previous_secret_until,
            unsubscribe_event, allow_untimestamped
        from account where id = $1 or name = $2",
        id,
        id_or_name
    )
    .fetch_optional(db)
    .await
}

/// Every account, or those of `only` that (still) exist, by name.
///
/// # Errors
/// The database's trouble.
pub async fn list(db: impl PgExecutor<'_>, only: Option<&[Uuid]>) -> sqlx::Result<Vec<SealedAccount>> {
    sqlx::query_as!(
        SealedAccount,
        "select id, name, token, region, write_key, secret, previous_secret, previous_secret_until,
            unsubscribe_event, allow_untimestamped
        from account where $1::uuid[] is null or id = any($1) order by name",
        only as _
    )
    .fetch_all(db)
    .await
}

/// The version of the last change to any account.
///
/// # Errors
/// The database's trouble.
pub async fn latest_version(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select coalesce(max(version), 0) as "version!" from account_change"#).fetch_one(db).await
}

/// The changes after `version`, oldest first: their versions and accounts.
///
/// # Errors
/// The database's trouble.
pub async fn changes_after(db: impl PgExecutor<'_>, version: i64) -> sqlx::Result<Vec<(i64, Uuid)>> {
    let rows =
        sqlx::query!("select version, account_id from account_change where version > $1 order by version", version)
            .fetch_all(db)
            .await?;
    Ok(rows.into_iter().map(|row| (row.version, row.account_id)).collect())
}

/// What to change of an account; `None` leaves a field as it is.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the columns")]
pub struct Changes {
    pub name: Option<String>,
    pub region: Option<String>,
    pub write_key: Option<Vec<u8>>,
    pub unsubscribe_event: Option<String>,
    pub allow_untimestamped: Option<bool>,
}

/// Changes an account. A new write key or region is tried at once, and ends a pause that Segment's answer began. Says
/// whether the account is there.
///
/// # Errors
/// A unique violation of `account_name_unique`, or the database did not answer.
pub async fn update(db: impl PgExecutor<'_>, id: Uuid, changes: &Changes) -> sqlx::Result<bool> {
    let n_changed = sqlx::query_scalar!(
        r#"with changed as (
            update account
            set name = coalesce($2, name), region = coalesce($3, region), write_key = coalesce($4, write_key),
                unsubscribe_event = coalesce($5, unsubscribe_event),
                allow_untimestamped = coalesce($6, allow_untimestamped)
            where id = $1
            returning id
        ),
        tried as (
            update delivery
            set n_attempts = 0, n_refused = 0, next_attempt_at = now(),
                paused_by = case when paused_by <> 'segment' then paused_by end,
                paused_reason = case when paused_by <> 'segment' then paused_reason end
            from changed where account_id = changed.id and ($3::text is not null or $4::bytea is not null)
        )
        select count(*) as "n!" from changed"#,
        id,
        changes.name,
        changes.region,
        changes.write_key,
        changes.unsubscribe_event,
        changes.allow_untimestamped,
    )
    .fetch_one(db)
    .await?;
    Ok(n_changed == 1)
}

/// Replaces the token in the account's webhook URL. Says whether the account is there.
///
/// # Errors
/// The database did not answer; try again.
pub async fn update_token(db: impl PgExecutor<'_>, id: Uuid, token: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("update account set token = $2 where id = $1", id, token).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Replaces the sealed fields of `account` with those of `new`, unless somebody else did in the meantime; says whether
/// it did.
///
/// # Errors
/// The database's trouble.
pub async fn reseal(db: impl PgExecutor<'_>, account: &SealedAccount, new: &SealedAccount) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update account
        set secret = $2, previous_secret = $3, previous_secret_until = $4, write_key = $5
        where id = $1
            -- Sealed anew, the same text is another: where it is there already, this statement has done it before.
            and (secret = $2 or secret = $6 and previous_secret is not distinct from $7
                and write_key is not distinct from $8)",
        account.id,
        new.secret,
        new.previous_secret,
        new.previous_secret_until,
        new.write_key,
        account.secret,
        account.previous_secret,
        account.write_key,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes an account at once, then all that is kept of it, in pieces that lock nothing for long.
///
/// # Errors
/// The database's trouble. The account may be gone and some of its events still there: they are forgotten in time.
pub async fn delete(db: &mut Connection, id: Uuid) -> sqlx::Result<()> {
    db.run(async |db| sqlx::query!("delete from account where id = $1", id).execute(db).await).await?;
    loop {
        let n_deleted = db.run(async |db| {
            sqlx::query_scalar!(
                r#"with old_dead_letter as (
                delete from dead_letter where (account_id, seq) in
                    (select account_id, seq from dead_letter where account_id = $1 limit 10000)
                returning 1
            ),
            old_set_aside as (
                delete from set_aside where (account_id, digest) in
                    (select account_id, digest from set_aside where account_id = $1 limit 10000)
                returning 1
            ),
            old_attempt as (
                delete from attempt where id in (select id from attempt where account_id = $1 order by id limit 10000)
                returning 1
            ),
            old_unreadable_block as (
                delete from unreadable_block where (account_id, last_seq) in
                    (select account_id, last_seq from unreadable_block where account_id = $1 limit 1000)
                returning 1
            )
            select (select count(*) from old_dead_letter) + (select count(*) from old_set_aside)
                + (select count(*) from old_attempt) + (select count(*) from old_unreadable_block) as "n!""#,
                id
            )
            .fetch_one(db)
            .await
        });
        if n_deleted.await? == 0 {
            break;
        }
    }
    // Last, as the retention finds by them what a deletion that was broken off has left.
    retention::delete_blocks(db, id).await
}

/// How an account stands: its settings without keys, and its counts.
#[derive(Debug)]
#[expect(missing_docs, reason = "contract, section 4")]
pub struct Standing {
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
}

/// How the accounts stand: one of them, or all.
///
/// # Errors
/// The database's trouble.
pub async fn standings(db: impl PgExecutor<'_>, only: Option<Uuid>) -> sqlx::Result<Vec<Standing>> {
    sqlx::query_as!(
        Standing,
        r#"
        select account_id as id, paused_reason, head_seq - cursor_seq as "waiting!", oldest.since as "oldest_waiting_since?",
            n_delivered as delivered, n_missing as missing, last_error, n_rejected as rejected, n_ignored as ignored,
            (select count(*) from dead_letter where dead_letter.account_id = delivery.account_id) as "dead_letters!"
        from delivery join log_head using (account_id)
        left join lateral (
            select since from event_block
            where event_block.account_id = delivery.account_id and last_seq > cursor_seq order by last_seq limit 1
        ) as oldest on true
        where $1::uuid is null or account_id = $1
        "#,
        only
    )
    .fetch_all(db)
    .await
}
