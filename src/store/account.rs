//! Accounts, as the database holds them.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::connection::Connection;
use super::source;

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
        r#"select source.id, source.name, account_id, account.name as account_name,
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
        source::delete(db, source.id).await?;
    }
    Ok(())
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
