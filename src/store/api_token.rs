//! Bearer tokens of the API.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// A token, without what proves it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct ApiToken {
    pub id: Uuid,
    pub account_id: Option<Uuid>,
    pub account_name: Option<String>,
    pub name: String,
    pub may_write: bool,
    pub created_at: OffsetDateTime,
    pub created_by: String,
    pub last_used_at: Option<OffsetDateTime>,
    pub expires_at: Option<OffsetDateTime>,
    /// Whether its time is up.
    pub is_expired: bool,
}

/// A token that is about to be made.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct NewApiToken<'a> {
    pub id: Uuid,
    pub account_id: Option<Uuid>,
    pub token_hash: &'a [u8],
    pub name: &'a str,
    pub may_write: bool,
    pub created_by: &'a str,
    pub expires_at: Option<OffsetDateTime>,
}

/// Inserts a token. Does no harm when it is run twice.
///
/// # Errors
/// A violation of `api_token_account_id_fkey` where there is no such account, or the database did not answer.
pub async fn insert(db: impl PgExecutor<'_>, token: &NewApiToken<'_>) -> sqlx::Result<()> {
    let insert = sqlx::query!(
        "insert into api_token (id, account_id, token_hash, name, may_write, created_by, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7) on conflict (id) do nothing",
        token.id,
        token.account_id,
        token.token_hash,
        token.name,
        token.may_write,
        token.created_by,
        token.expires_at
    );
    insert.execute(db).await.map(drop)
}

/// Whom a token that counts stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct TokenIdentity {
    pub token_id: Uuid,
    /// `None`: all accounts, as an operator.
    pub account_id: Option<Uuid>,
    pub name: String,
    pub may_write: bool,
    /// Whether `last_used_at` is more than a minute old.
    pub(super) is_stale: bool,
}

impl TokenIdentity {
    /// Whether its use should be noted.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }
}

/// The token with that hash, if it counts.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find(db: impl PgExecutor<'_>, token_hash: &[u8]) -> sqlx::Result<Option<TokenIdentity>> {
    sqlx::query_as!(
        TokenIdentity,
        r#"select id as token_id, account_id, name, may_write,
            coalesce(last_used_at < now() - interval '1 minute', true) as "is_stale!"
        from api_token where token_hash = $1 and (expires_at is null or expires_at > now())"#,
        token_hash
    )
    .fetch_optional(db)
    .await
}

/// Notes that a token was used.
///
/// # Errors
/// The database did not answer; the use stays unnoted.
pub async fn touch(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    let touched = sqlx::query!(
        "update api_token set last_used_at = now()
        where id = $1 and (last_used_at is null or last_used_at < now() - interval '1 minute')",
        id
    );
    touched.execute(db).await.map(drop)
}

/// Which tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokensOf {
    /// Those of one account.
    Account(Uuid),
    /// Those that stand for all accounts.
    Operators,
    /// All there are.
    Everybody,
}

/// Tokens, newest first: of those that were made before a place (a time and an id), where one is named, so many at most.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(
    db: impl PgExecutor<'_>,
    which: TokensOf,
    before: Option<(OffsetDateTime, Uuid)>,
    limit: Option<i64>,
) -> sqlx::Result<Vec<ApiToken>> {
    let account = match which {
        TokensOf::Account(account) => Some(account),
        TokensOf::Operators | TokensOf::Everybody => None,
    };
    sqlx::query_as!(
        ApiToken,
        r#"select api_token.id, account_id, account.name as "account_name?", api_token.name, may_write,
            api_token.created_at, created_by, last_used_at, expires_at,
            coalesce(expires_at <= now(), false) as "is_expired!"
        from api_token left join account on account.id = account_id
        where ($1::uuid is null or account_id = $1) and (not $2 or account_id is null)
            and ($3::timestamptz is null or (api_token.created_at, api_token.id) < ($3, $4))
        order by api_token.created_at desc, api_token.id desc limit $5"#,
        account,
        which == TokensOf::Operators,
        before.map(|(at, _)| at),
        before.map(|(_, id)| id),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Deletes a token: of that account, where one is named. Returns its name and account.
///
/// # Errors
/// The database did not answer; try again.
pub async fn delete(
    db: impl PgExecutor<'_>,
    id: Uuid,
    account: Option<Uuid>,
) -> sqlx::Result<Option<(String, Option<Uuid>)>> {
    let deleted = sqlx::query!(
        "delete from api_token where id = $1 and ($2::uuid is null or account_id = $2) returning name, account_id",
        id,
        account
    );
    Ok(deleted.fetch_optional(db).await?.map(|token| (token.name, token.account_id)))
}
