//! Accounts, as the database holds them.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::connection::Connection;
use super::{removal, source};

/// An account's row.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct Account {
    pub id: Uuid,
    pub name: String,
    pub created_at: OffsetDateTime,
}

/// The account of that id, or of that name.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find(db: impl PgExecutor<'_>, id_or_name: &str) -> sqlx::Result<Option<Account>> {
    let id = Uuid::parse_str(id_or_name).ok();
    sqlx::query_as!(Account, "select id, name, created_at from account where id = $1 or name = $2", id, id_or_name)
        .fetch_optional(db)
        .await
}

/// The account of that id.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn by_id(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Account>> {
    sqlx::query_as!(Account, "select id, name, created_at from account where id = $1", id).fetch_optional(db).await
}

/// A source by name, and the account that it is in.
#[derive(Clone, Debug)]
pub struct SourcePlace {
    /// The source.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What sends to it.
    pub kind: String,
    /// Its account.
    pub account: Account,
    /// Whether the account has other sources.
    pub has_siblings: bool,
}

/// Where a source is.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn of_source(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Option<SourcePlace>> {
    let row = sqlx::query!(
        r#"select source.id, source.name, kind, account_id, account.name as account_name,
            account.created_at as account_created_at,
            exists (select from source as other where other.account_id = account.id and other.id <> source.id)
                as "has_siblings!"
        from source join account on account.id = account_id where source.id = $1"#,
        source
    );
    let row = row.fetch_optional(db).await?;
    Ok(row.map(|row| SourcePlace {
        id: row.id,
        name: row.name,
        kind: row.kind,
        account: Account { id: row.account_id, name: row.account_name, created_at: row.account_created_at },
        has_siblings: row.has_siblings,
    }))
}

/// Every account, by name.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Account>> {
    sqlx::query_as!(Account, "select id, name, created_at from account order by name").fetch_all(db).await
}

/// Accounts by name, from the one after `after`; only that of id `only`, where one is meant.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_after(
    db: impl PgExecutor<'_>,
    only: Option<Uuid>,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<Account>> {
    sqlx::query_as!(
        Account,
        "select id, name, created_at from account
        where name > $1 and ($2::uuid is null or id = $2) order by name limit $3",
        after,
        only,
        limit
    )
    .fetch_all(db)
    .await
}

/// Gives an account another name. Says whether the account is there.
///
/// # Errors
/// A unique violation of `account_name_unique`, or the database did not answer.
pub async fn rename(db: impl PgExecutor<'_>, id: Uuid, name: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("update account set name = $2 where id = $1", id, name).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes an account, its sources and the people who belong to no other at once, then all that is kept of them, in pieces that lock nothing for long.
///
/// # Errors
/// The database did not answer. The account may be gone and some of its events still there: they are forgotten in time.
pub async fn delete(db: &mut Connection, id: Uuid) -> sqlx::Result<()> {
    let sources = db.run(async |db| source::list(db, None, Some(&[id])).await).await?;
    db.run(async |db| delete_row(db, id).await).await?;
    for source in sources {
        removal::remove_source(db, source.id).await?;
    }
    removal::remove_identities(db, id).await
}

/// Deletes an account's row, and the people who belong to no other.
async fn delete_row(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    let delete = sqlx::query!(
        "with orphan as (
            delete from person using membership
            where membership.account_id = $1 and person.id = membership.person_id and not is_operator
                and not exists (
                    select from membership as other where other.person_id = person.id and other.account_id <> $1
                )
        )
        delete from account where id = $1",
        id
    );
    delete.execute(db).await.map(drop)
}

/// An account's key for the hashes of its users' addresses, sealed.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns")]
pub struct SealedIdentityKey {
    pub account_id: Uuid,
    pub account_name: String,
    pub identity_key: Vec<u8>,
}

/// The identity keys of all accounts that have one, or that of account `only`.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_identity_keys(db: impl PgExecutor<'_>, only: Option<Uuid>) -> sqlx::Result<Vec<SealedIdentityKey>> {
    sqlx::query_as!(
        SealedIdentityKey,
        r#"select id as account_id, name as account_name, identity_key as "identity_key!" from account
        where identity_key is not null and ($1::uuid is null or id = $1) order by name"#,
        only
    )
    .fetch_all(db)
    .await
}

/// Replaces an account's identity key with the same one, sealed anew, unless somebody else did in the meantime; says whether
/// it did.
///
/// # Errors
/// The database did not answer; look at the account.
pub async fn reseal_identity_key(db: impl PgExecutor<'_>, old: &SealedIdentityKey, new: &[u8]) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update account set identity_key = $2
        -- Sealed anew, the same text is another: where it is there already, this statement has done it before.
        where id = $1 and identity_key in ($2, $3)",
        old.account_id,
        new,
        old.identity_key
    );
    Ok(done.execute(db).await?.rows_affected() == 1)
}
