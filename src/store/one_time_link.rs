//! Links by which a person chooses a password, once.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::person::Role;
use super::session::NewSession;

/// How long a link counts, in hours.
pub const LINK_HOURS: i32 = 24;

/// What a person is invited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invitation {
    /// All accounts.
    Operator,
    /// One account.
    Account(Uuid, Role),
}

/// Who invites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inviter {
    /// An operator, or whoever may use the command line.
    Operator,
    /// An admin of the account that he invites to, and of no other.
    AccountAdmin,
}

/// Lets a person in, whom it creates with `new_id` where nobody has that address, and makes a link, which takes the place
/// of earlier ones. Who is a member already keeps his role. Does no harm when it is run twice. Returns the person; `None`,
/// and nothing is done, where the person has access to more than the inviter may give: by the link he could enter there.
///
/// # Errors
/// A violation of `membership_account_id_fkey` where there is no such account, or the database did not answer.
pub async fn invite(
    db: impl PgExecutor<'_>,
    new_id: Uuid,
    email: &str,
    to: Invitation,
    by: Inviter,
    token_hash: &[u8],
) -> sqlx::Result<Option<Uuid>> {
    let (account, role) = match to {
        Invitation::Operator => (None, None),
        Invitation::Account(account, role) => (Some(account), Some(role)),
    };
    let scope = account.filter(|_| by == Inviter::AccountAdmin);
    sqlx::query_scalar!(
        r#"with invited as (
            insert into person (id, email, is_operator) values ($1, $2, $3)
            on conflict (email) do update set is_operator = person.is_operator or excluded.is_operator
            returning id, is_operator
        ),
        allowed as (
            select id from invited
            where $6::uuid is null or not is_operator and not exists (
                select from membership where person_id = invited.id and account_id <> $6
            )
        ),
        member as (
            insert into membership (account_id, person_id, role)
            select $4, id, $5 from allowed where $4::uuid is not null
            on conflict do nothing
        ),
        old_link as (
            delete from one_time_link using allowed where person_id = allowed.id and token_hash <> $7
        ),
        link as (
            insert into one_time_link (token_hash, person_id, account_id, expires_at)
            select $7, id, $6, now() + make_interval(hours => $8) from allowed
            on conflict do nothing
        )
        select id from allowed"#,
        new_id,
        email,
        account.is_none(),
        account,
        role as _,
        scope,
        token_hash,
        LINK_HOURS
    )
    .fetch_optional(db)
    .await
}

/// Makes a link for the first operator, while there is none. Says whether it counts.
///
/// # Errors
/// The database did not answer; try again.
pub async fn insert_first(db: impl PgExecutor<'_>, token_hash: &[u8]) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"with allowed as (
            select where not exists (select from person where is_operator and password_hash is not null)
        ),
        link as (
            insert into one_time_link (token_hash, expires_at)
            select $1, now() + make_interval(hours => $2) from allowed
            on conflict do nothing
        )
        select exists (select from allowed) as "is_made!""#,
        token_hash,
        LINK_HOURS
    )
    .fetch_one(db)
    .await
}

/// A link that counts.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0002_people.sql explains")]
pub struct Link {
    /// `None`: it is the first operator's.
    pub email: Option<String>,
    pub has_password: bool,
    pub expires_at: OffsetDateTime,
    /// The account that the person was invited to, where it is only one.
    pub account_name: Option<String>,
}

/// The link with that token, if it counts. Looking does not use it up.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find(db: impl PgExecutor<'_>, token_hash: &[u8]) -> sqlx::Result<Option<Link>> {
    sqlx::query_as!(
        Link,
        r#"select email as "email?", coalesce(password_hash is not null, false) as "has_password!", expires_at,
            (select min(account.name) from membership join account on account.id = membership.account_id
            where membership.person_id = person.id having count(*) = 1) as account_name
        from one_time_link left join person on person.id = one_time_link.person_id
        where token_hash = $1 and expires_at > now()
            and (one_time_link.account_id is null or not is_operator and not exists (
                select from membership
                where membership.person_id = person.id and membership.account_id <> one_time_link.account_id
            ))
            and (one_time_link.person_id is not null
                or not exists (select from person where is_operator and password_hash is not null))"#,
        token_hash
    )
    .fetch_optional(db)
    .await
}

/// Uses a link up: sets its person's password, ends all his sessions, and begins a new one. Does no harm when it is run
/// twice. Returns the person; `None`: the link does not count.
///
/// # Errors
/// The database did not answer; try again.
pub async fn redeem(
    db: impl PgExecutor<'_>,
    token_hash: &[u8],
    password_hash: &str,
    session: &NewSession<'_>,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        r#"with used as (
            delete from one_time_link where token_hash = $1 and expires_at > now() returning person_id, account_id
        ),
        updated as (
            update person set password_hash = $2 from used
            where person.id = used.person_id
                and (used.account_id is null or not is_operator and not exists (
                    select from membership
                    where membership.person_id = person.id and membership.account_id <> used.account_id
                ))
            returning person.id
        ),
        ended as (
            delete from session using updated where person_id = updated.id
        ),
        other_link as (
            delete from one_time_link using updated where person_id = updated.id and token_hash <> $1
        ),
        begun as (
            insert into session (id, person_id, token_hash, address, user_agent)
            select $3, id, $4, $5, $6 from updated
        )
        select id as "person!" from updated
        -- Where this was run before, and its answer was lost.
        union select person_id from session where id = $3"#,
        token_hash,
        password_hash,
        session.id,
        session.token_hash,
        session.address,
        session.user_agent
    )
    .fetch_optional(db)
    .await
}

/// Uses up a link for the first operator: creates him with `new_id`, and begins a session. Where somebody has that address
/// already, this is who becomes operator; his sessions end. Does no harm when it is run twice. Returns the person; `None`:
/// the link does not count, or there is an operator by now.
///
/// # Errors
/// The database did not answer; try again.
pub async fn redeem_first(
    db: impl PgExecutor<'_>,
    token_hash: &[u8],
    (new_id, email): (Uuid, &str),
    password_hash: &str,
    session: &NewSession<'_>,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        r#"with used as (
            delete from one_time_link
            where person_id is null and expires_at > now()
                and exists (
                    select from one_time_link as this
                    where this.token_hash = $1 and this.person_id is null and this.expires_at > now()
                )
                and not exists (select from person where is_operator and password_hash is not null)
            returning token_hash
        ),
        operator as (
            insert into person (id, email, password_hash, is_operator)
            select $2, $3, $4, true from used where token_hash = $1
            on conflict (email) do update set password_hash = excluded.password_hash, is_operator = true
            returning id
        ),
        ended as (
            delete from session using operator where person_id = operator.id
        ),
        begun as (
            insert into session (id, person_id, token_hash, address, user_agent)
            select $5, id, $6, $7, $8 from operator
        )
        select id as "person!" from operator
        union select person_id from session where id = $5"#,
        token_hash,
        new_id,
        email,
        password_hash,
        session.id,
        session.token_hash,
        session.address,
        session.user_agent
    )
    .fetch_optional(db)
    .await
}
