//! Sessions of the console.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::person::Role;

/// A session that is unused for so long is over, in hours.
pub const IDLE_HOURS: i32 = 12;
/// A session is over after so long in any case, in hours.
pub const MAX_HOURS: i32 = 7 * 24;

/// A session that is about to begin.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct NewSession<'a> {
    pub id: Uuid,
    pub token_hash: &'a [u8],
    pub address: Option<&'a str>,
    pub user_agent: Option<&'a str>,
}

/// Begins a session, if the person still has the password that was verified. Does no harm when it is run twice.
///
/// # Errors
/// The database did not answer; try again.
pub async fn insert(
    db: impl PgExecutor<'_>,
    person: Uuid,
    password_hash: &str,
    session: &NewSession<'_>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"with person as (
            select id from person where id = $2 and password_hash = $3
        ),
        begun as (
            insert into session (id, person_id, token_hash, address, user_agent)
            select $1, id, $4, $5, $6 from person
            on conflict (id) do nothing
        )
        select exists (select from person) as "is_begun!""#,
        session.id,
        person,
        password_hash,
        session.token_hash,
        session.address,
        session.user_agent
    )
    .fetch_one(db)
    .await
}

/// A session that counts, with its person; a row an account of the person, one without where there is none.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct SessionRow {
    pub id: Uuid,
    pub person_id: Uuid,
    pub email: String,
    pub is_operator: bool,
    pub created_at: OffsetDateTime,
    pub password_given_at: OffsetDateTime,
    /// Whether `last_seen_at` is more than a minute old.
    pub is_stale: bool,
    pub account_id: Option<Uuid>,
    pub account_name: Option<String>,
    pub role: Option<Role>,
}

/// The session with that token, if it counts.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find(db: impl PgExecutor<'_>, token_hash: &[u8]) -> sqlx::Result<Vec<SessionRow>> {
    sqlx::query_as!(
        SessionRow,
        r#"select session.id, session.person_id, email, is_operator, session.created_at, password_given_at,
            last_seen_at < now() - interval '1 minute' as "is_stale!", account.id as "account_id?",
            account.name as "account_name?", role as "role?: Role"
        from session join person on person.id = session.person_id
        left join membership on membership.person_id = person.id
        left join account on account.id = membership.account_id
        where token_hash = $1 and last_seen_at > now() - make_interval(hours => $2)
            and session.created_at > now() - make_interval(hours => $3)
        order by account.name"#,
        token_hash,
        IDLE_HOURS,
        MAX_HOURS
    )
    .fetch_all(db)
    .await
}

/// Notes that a session was used.
///
/// # Errors
/// The database did not answer; the session may end earlier than it should.
pub async fn touch(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    let touched = sqlx::query!(
        "update session set last_seen_at = now() where id = $1 and last_seen_at < now() - interval '1 minute'",
        id
    );
    touched.execute(db).await.map(drop)
}

/// Notes that the password was given again.
///
/// # Errors
/// The database did not answer; try again.
pub async fn update_password_given(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update session set password_given_at = now() where id = $1", id).execute(db).await.map(drop)
}

/// One of a person's sessions.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct Session {
    pub id: Uuid,
    pub created_at: OffsetDateTime,
    pub last_seen_at: OffsetDateTime,
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// A person's sessions that count, the one that was used last first.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(db: impl PgExecutor<'_>, person: Uuid) -> sqlx::Result<Vec<Session>> {
    sqlx::query_as!(
        Session,
        "select id, created_at, last_seen_at, address, user_agent from session
        where person_id = $1 and last_seen_at > now() - make_interval(hours => $2)
            and created_at > now() - make_interval(hours => $3)
        order by last_seen_at desc, id",
        person,
        IDLE_HOURS,
        MAX_HOURS
    )
    .fetch_all(db)
    .await
}

/// Ends one of a person's sessions, or all. Returns how many that were.
///
/// # Errors
/// The database did not answer; try again.
pub async fn delete(db: impl PgExecutor<'_>, person: Uuid, only: Option<Uuid>) -> sqlx::Result<u64> {
    let done = sqlx::query!("delete from session where person_id = $1 and ($2::uuid is null or id = $2)", person, only);
    Ok(done.execute(db).await?.rows_affected())
}
