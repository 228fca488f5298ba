//! The people who use the console, and which accounts they may see.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

/// What a person may do in an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(type_name = "account_role", rename_all = "lowercase")]
pub enum Role {
    /// Sees all, changes nothing.
    Viewer,
    /// Everything.
    Admin,
}

/// What is needed to let a person in.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct Credentials {
    pub id: Uuid,
    pub password_hash: Option<String>,
    /// Whether the person has a session that was begun at the address.
    pub is_known_there: bool,
}

/// The credentials of the person with that address; `from` is where he signs in.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find_credentials(
    db: impl PgExecutor<'_>,
    email: &str,
    from: Option<&str>,
) -> sqlx::Result<Option<Credentials>> {
    sqlx::query_as!(
        Credentials,
        r#"select id, password_hash, exists (
            select from session where person_id = person.id and address = $2
        ) as "is_known_there!"
        from person where email = $1"#,
        email,
        from
    )
    .fetch_optional(db)
    .await
}

/// A person's password, hashed; `None`: the person is not there, or has none.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find_password_hash(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<String>> {
    let hash = sqlx::query_scalar!("select password_hash from person where id = $1", id).fetch_optional(db).await?;
    Ok(hash.flatten())
}

/// Sets a person's password, and ends all sessions but `session`, where it counts as given just now. Says whether the
/// person is there.
///
/// # Errors
/// The database did not answer; try again.
pub async fn update_password(
    db: impl PgExecutor<'_>,
    id: Uuid,
    password_hash: &str,
    session: Uuid,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"with updated as (
            update person set password_hash = $2 where id = $1 returning id
        ),
        ended as (
            delete from session using updated where person_id = updated.id and session.id <> $3
        ),
        old_link as (
            delete from one_time_link using updated where person_id = updated.id
        ),
        kept as (
            update session set password_given_at = now() from updated
            where person_id = updated.id and session.id = $3
        )
        select exists (select from updated) as "is_there!""#,
        id,
        password_hash,
        session
    )
    .fetch_one(db)
    .await
}

/// Whether there is an operator who can sign in.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn has_operator(db: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from person where is_operator and password_hash is not null) as "has_operator!""#
    )
    .fetch_one(db)
    .await
}

/// Somebody who may use an account.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct Member {
    pub id: Uuid,
    pub email: String,
    pub role: Role,
    /// Whether the person has chosen a password.
    pub has_password: bool,
    pub is_operator: bool,
    pub added_at: OffsetDateTime,
    pub last_seen_at: Option<OffsetDateTime>,
    /// Until when an unused link of the person counts.
    pub link_expires_at: Option<OffsetDateTime>,
}

/// The people of an account, by address.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_members(
    db: impl PgExecutor<'_>,
    account: Uuid,
    after: &str,
    limit: Option<i64>,
) -> sqlx::Result<Vec<Member>> {
    sqlx::query_as!(
        Member,
        r#"select person.id, email, role as "role: Role", password_hash is not null as "has_password!", is_operator,
            membership.created_at as added_at,
            (select max(last_seen_at) from session where person_id = person.id) as last_seen_at,
            (select max(expires_at) from one_time_link where person_id = person.id and expires_at > now())
                as link_expires_at
        from membership join person on person.id = person_id
        where membership.account_id = $1 and email > $2 order by email limit $3"#,
        account,
        after,
        limit,
    )
    .fetch_all(db)
    .await
}

/// An operator.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct Operator {
    pub id: Uuid,
    pub email: String,
    pub has_password: bool,
    pub created_at: OffsetDateTime,
    pub last_seen_at: Option<OffsetDateTime>,
}

/// The operators whose addresses come after that one, by address; so many at most.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_operators(db: impl PgExecutor<'_>, after: &str, limit: Option<i64>) -> sqlx::Result<Vec<Operator>> {
    sqlx::query_as!(
        Operator,
        r#"select id, email, password_hash is not null as "has_password!", created_at,
            (select max(last_seen_at) from session where person_id = person.id) as last_seen_at
        from person where is_operator and email > $1 order by email limit $2"#,
        after,
        limit,
    )
    .fetch_all(db)
    .await
}

/// What became of a change that must leave an account (or the service) with somebody who can administer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is done.
    Done,
    /// There is no such person.
    NotFound,
    /// It would have left nobody.
    IsLast,
}

impl Changed {
    fn new(is_there: bool, is_done: bool) -> Self {
        match (is_there, is_done) {
            (_, true) => Self::Done,
            (true, false) => Self::IsLast,
            (false, false) => Self::NotFound,
        }
    }
}

/// Gives a member of an account another role. The last admin stays one.
///
/// # Errors
/// The database did not answer; try again.
pub async fn update_role(db: impl PgExecutor<'_>, account: Uuid, person: Uuid, role: Role) -> sqlx::Result<Changed> {
    let changed = sqlx::query!(
        r#"with member as (
            -- All of them, in one order: two admins who demote each other at once wait for one another.
            select person_id, role from membership where account_id = $1 order by person_id for update
        ),
        updated as (
            update membership set role = $3::account_role
            where account_id = $1 and person_id = $2
                and ($3::account_role = 'admin' or exists (select from member where person_id <> $2 and role = 'admin')
                    or not exists (select from member where person_id = $2 and role = 'admin'))
            returning 1
        )
        select exists (select from member where person_id = $2) as "is_there!",
            exists (select from updated) as "is_done!""#,
        account,
        person,
        role as _
    )
    .fetch_one(db)
    .await?;
    Ok(Changed::new(changed.is_there, changed.is_done))
}

/// Takes an account away from a person, who is deleted where that was all. The last admin stays.
///
/// # Errors
/// The database did not answer; try again.
pub async fn remove_member(db: impl PgExecutor<'_>, account: Uuid, person: Uuid) -> sqlx::Result<Changed> {
    let changed = sqlx::query!(
        r#"with member as (
            select person_id, role from membership where account_id = $1 order by person_id for update
        ),
        removed as (
            delete from membership
            where account_id = $1 and person_id = $2
                and (exists (select from member where person_id <> $2 and role = 'admin')
                    or not exists (select from member where person_id = $2 and role = 'admin'))
            returning person_id
        ),
        old_link as (
            delete from one_time_link using removed
            where one_time_link.person_id = removed.person_id and account_id = $1
        ),
        gone as (
            delete from person using removed
            where person.id = removed.person_id and not is_operator and not exists (
                select from membership where membership.person_id = person.id and account_id <> $1
            )
        )
        select exists (select from member where person_id = $2) as "is_there!",
            exists (select from removed) as "is_done!""#,
        account,
        person
    )
    .fetch_one(db)
    .await?;
    Ok(Changed::new(changed.is_there, changed.is_done))
}

/// Makes an operator an ordinary person, who is deleted where he belongs to no account. The last one stays.
///
/// # Errors
/// The database did not answer; try again.
pub async fn remove_operator(db: impl PgExecutor<'_>, person: Uuid) -> sqlx::Result<Changed> {
    let changed = sqlx::query!(
        r#"with operator as (
            select id, password_hash from person where is_operator order by id for update
        ),
        allowed as (
            select id from operator
            where id = $1 and exists (select from operator where id <> $1 and password_hash is not null)
        ),
        gone as (
            delete from person using allowed
            where person.id = allowed.id
                and not exists (select from membership where membership.person_id = person.id)
        ),
        demoted as (
            update person set is_operator = false from allowed
            where person.id = allowed.id and exists (select from membership where membership.person_id = person.id)
        )
        select exists (select from operator where id = $1) as "is_there!",
            exists (select from allowed) as "is_done!""#,
        person
    )
    .fetch_one(db)
    .await?;
    Ok(Changed::new(changed.is_there, changed.is_done))
}
