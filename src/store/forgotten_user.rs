//! Users who are to be forgotten: what is known of them goes, and those of their calls that wait are not sent any more.

use std::collections::HashMap;

use sqlx::PgExecutor;
use uuid::Uuid;

use super::call_effects::Users;

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

/// Of each of these sources, users who were forgotten, and up to which number their calls are not sent any more, as far as such
/// calls may wait behind the source's cursor.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn forgotten_after(
    db: impl PgExecutor<'_>,
    cursors: &[(Uuid, i64)],
) -> sqlx::Result<HashMap<Uuid, HashMap<Uuid, i64>>> {
    let (source_ids, cursors): (Vec<Uuid>, Vec<i64>) = cursors.iter().copied().unzip();
    let rows = sqlx::query!(
        "select forgotten_user.source_id, user_hash, up_to_seq
        from forgotten_user join unnest($1::uuid[], $2::bigint[]) as asked (source_id, cursor_seq) using (source_id)
        where up_to_seq > cursor_seq",
        &source_ids,
        &cursors,
    )
    .fetch_all(db)
    .await?;
    let mut forgotten: HashMap<Uuid, HashMap<Uuid, i64>> = HashMap::new();
    for row in rows {
        forgotten.entry(row.source_id).or_default().insert(row.user_hash, row.up_to_seq);
    }
    Ok(forgotten)
}

/// Deletes what is remembered of users to forget whose calls wait no longer.
///
/// # Errors
/// The database did not answer; try again.
pub async fn delete_passed(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
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
