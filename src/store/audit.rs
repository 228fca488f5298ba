//! The audit log.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// An entry.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct AuditRow {
    pub id: i64,
    pub at: OffsetDateTime,
    pub account_id: Option<Uuid>,
    /// The name of its account, while that is there.
    pub account_name: Option<String>,
    pub actor_kind: String,
    pub actor_name: String,
    pub address: Option<String>,
    pub action: String,
    pub detail: String,
}

/// An entry that is about to be written.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct NewAuditEntry<'a> {
    pub account_id: Option<Uuid>,
    pub actor_kind: &'a str,
    pub actor_name: &'a str,
    pub actor_id: Option<Uuid>,
    pub address: Option<&'a str>,
    pub action: &'a str,
    pub detail: &'a str,
}

/// Writes an entry.
///
/// # Errors
/// The database did not answer; try again.
pub async fn insert(db: impl PgExecutor<'_>, entry: &NewAuditEntry<'_>) -> sqlx::Result<()> {
    let insert = sqlx::query!(
        "insert into audit_entry (account_id, actor_kind, actor_name, actor_id, address, action, detail)
        values ($1, $2, $3, $4, $5, $6, $7)",
        entry.account_id,
        entry.actor_kind,
        super::storable(entry.actor_name),
        entry.actor_id,
        entry.address,
        entry.action,
        super::storable(entry.detail)
    );
    insert.execute(db).await.map(drop)
}

/// Writes an entry, unless the same actor has one of the same action and account within the last hour.
///
/// # Errors
/// The database did not answer; try again.
pub async fn insert_once_an_hour(db: impl PgExecutor<'_>, entry: &NewAuditEntry<'_>) -> sqlx::Result<()> {
    let insert = sqlx::query!(
        "insert into audit_entry (account_id, actor_kind, actor_name, actor_id, address, action, detail)
        select $1, $2, $3, $4, $5, $6, $7
        where not exists (
            select from audit_entry
            where account_id = $1 and actor_id = $4 and action = $6 and at > now() - interval '1 hour'
        )",
        entry.account_id,
        entry.actor_kind,
        super::storable(entry.actor_name),
        entry.actor_id,
        entry.address,
        entry.action,
        super::storable(entry.detail)
    );
    insert.execute(db).await.map(drop)
}

/// Entries of an account, or all, newest first: those before the entry `before`, at most `limit`.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(
    db: impl PgExecutor<'_>,
    account: Option<Uuid>,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<AuditRow>> {
    // Two statements: under one plan for both, an account's entries would be searched for among all.
    if let Some(account) = account {
        let list = sqlx::query_as!(
            AuditRow,
            r#"select audit_entry.id, at, account_id, account.name as "account_name?", actor_kind, actor_name, address,
                action, detail
            from audit_entry left join account on account.id = account_id
            where account_id = $1 and audit_entry.id < $2 order by audit_entry.id desc limit $3"#,
            account,
            before.unwrap_or(i64::MAX),
            limit
        );
        return list.fetch_all(db).await;
    }
    let list = sqlx::query_as!(
        AuditRow,
        r#"select audit_entry.id, at, account_id, account.name as "account_name?", actor_kind, actor_name, address,
            action, detail
        from audit_entry left join account on account.id = account_id
        where audit_entry.id < $1 order by audit_entry.id desc limit $2"#,
        before.unwrap_or(i64::MAX),
        limit
    );
    list.fetch_all(db).await
}
