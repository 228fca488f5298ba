//! When webhooks of a source were last verified, and refused.

use std::collections::BTreeMap;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::secret::SecretId;

/// What a program has seen of a source's webhooks since it last wrote it down.
#[derive(Clone, Debug)]
pub struct ActivityDelta {
    /// The source.
    pub source_id: Uuid,
    /// The secrets that signed webhooks, and when they last did.
    pub verified: Vec<(SecretId, OffsetDateTime)>,
    /// When the last one was refused.
    pub last_refused_at: Option<OffsetDateTime>,
    /// How many were refused.
    pub n_refused: i64,
    /// How many of them after the last one was verified.
    pub n_refused_since_verified: i64,
}

impl ActivityDelta {
    /// Adds what was seen after this.
    fn add(&mut self, later: &Self) {
        if !later.verified.is_empty() {
            self.n_refused_since_verified = 0;
        }
        for (secret, at) in &later.verified {
            match self.verified.iter_mut().find(|(known, _)| known == secret) {
                Some((_, known_at)) => *known_at = (*known_at).max(*at),
                None => self.verified.push((*secret, *at)),
            }
        }
        self.last_refused_at = self.last_refused_at.max(later.last_refused_at);
        self.n_refused += later.n_refused;
        self.n_refused_since_verified += later.n_refused_since_verified;
    }
}

/// One delta a source: of one whose secrets have changed meanwhile, there are several.
fn one_each(deltas: &[ActivityDelta]) -> Vec<ActivityDelta> {
    let mut sums: BTreeMap<Uuid, ActivityDelta> = BTreeMap::new();
    for delta in deltas {
        sums.entry(delta.source_id).and_modify(|sum| sum.add(delta)).or_insert_with(|| delta.clone());
    }
    sums.into_values().collect()
}

/// What is known of a source's webhooks.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// When the last one was verified.
    pub last_verified_at: Option<OffsetDateTime>,
    /// When the last one was refused.
    pub last_refused_at: Option<OffsetDateTime>,
    /// How many were refused, ever.
    pub n_refused: i64,
    /// How many of them after the last one was verified.
    pub n_refused_since_verified: i64,
}

/// Writes down what was seen; of a source, the earlier before the later. What is older than what is known already says
/// nothing.
///
/// # Errors
/// Where it is not known to be committed. Run again, it counts refused webhooks twice where it was.
pub async fn write(db: impl PgExecutor<'_>, deltas: &[ActivityDelta]) -> sqlx::Result<()> {
    let deltas = one_each(deltas);
    let source_ids: Vec<Uuid> = deltas.iter().map(|delta| delta.source_id).collect();
    let last_verified: Vec<Option<OffsetDateTime>> =
        deltas.iter().map(|delta| delta.verified.iter().map(|(_, at)| *at).max()).collect();
    let last_refused: Vec<Option<OffsetDateTime>> = deltas.iter().map(|delta| delta.last_refused_at).collect();
    let n_refused: Vec<i64> = deltas.iter().map(|delta| delta.n_refused).collect();
    let n_since: Vec<i64> = deltas.iter().map(|delta| delta.n_refused_since_verified).collect();
    let secrets: Vec<(Uuid, i64, OffsetDateTime)> =
        deltas.iter().flat_map(|delta| delta.verified.iter().map(|(id, at)| (delta.source_id, id.0, *at))).collect();
    let secret_sources: Vec<Uuid> = secrets.iter().map(|secret| secret.0).collect();
    let secret_ids: Vec<i64> = secrets.iter().map(|secret| secret.1).collect();
    let verified_at: Vec<OffsetDateTime> = secrets.iter().map(|secret| secret.2).collect();
    sqlx::query!(
        r#"with activity as (
            insert into webhook_activity as known
                (source_id, last_verified_at, last_refused_at, n_refused, n_refused_since_verified)
            select seen.* from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::bigint[])
                as seen (source_id, last_verified_at, last_refused_at, n_refused, n_since)
            -- In an order that all programs have, so that none waits for another in a circle.
            join source on source.id = seen.source_id order by seen.source_id
            on conflict (source_id) do update
            set last_verified_at = greatest(known.last_verified_at, excluded.last_verified_at),
                last_refused_at = greatest(known.last_refused_at, excluded.last_refused_at),
                n_refused = known.n_refused + excluded.n_refused,
                n_refused_since_verified = excluded.n_refused_since_verified + case
                    when excluded.last_verified_at > coalesce(known.last_verified_at, '-infinity') then 0
                    else known.n_refused_since_verified
                end
        )
        insert into secret_activity as known (source_id, secret_id, last_verified_at)
        select seen.* from unnest($6::uuid[], $7::bigint[], $8::timestamptz[])
            as seen (source_id, secret_id, last_verified_at)
        join source on source.id = seen.source_id order by seen.source_id, secret_id
        on conflict (source_id, secret_id) do update
        set last_verified_at = greatest(known.last_verified_at, excluded.last_verified_at)"#,
        &source_ids,
        &last_verified as _,
        &last_refused as _,
        &n_refused,
        &n_since,
        &secret_sources,
        &secret_ids,
        &verified_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What is known of a source's webhooks.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn find(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Activity> {
    let found = sqlx::query_as!(
        Activity,
        "select last_verified_at, last_refused_at, n_refused, n_refused_since_verified
        from webhook_activity where source_id = $1",
        source
    );
    Ok(found.fetch_optional(db).await?.unwrap_or_default())
}

/// The secrets that have signed webhooks of a source, the last one first, and when they last did.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list_secrets(db: impl PgExecutor<'_>, source: Uuid) -> sqlx::Result<Vec<(SecretId, OffsetDateTime)>> {
    let rows = sqlx::query!(
        "select secret_id, last_verified_at from secret_activity where source_id = $1 order by last_verified_at desc",
        source
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (SecretId(row.secret_id), row.last_verified_at)).collect())
}

/// What is known of the webhooks of these sources, what is probably wrong with the last that was refused, by name, and whether
/// something else was wrong with others since one was verified.
///
/// # Errors
/// The database did not answer; ask again.
pub async fn list(
    db: impl PgExecutor<'_>,
    sources: &[Uuid],
) -> sqlx::Result<Vec<(Uuid, Activity, Option<String>, bool)>> {
    let rows = sqlx::query!(
        r#"select source_id, last_verified_at, last_refused_at, n_refused, n_refused_since_verified,
            case when n_refused_since_verified > 0 then (
                select fault from refused_webhook
                where refused_webhook.source_id = webhook_activity.source_id order by id desc limit 1
            ) end as fault,
            case when n_refused_since_verified > 1 then (
                select count(distinct fault) > 1 from refused_webhook
                where refused_webhook.source_id = webhook_activity.source_id
                    and received_at > coalesce(last_verified_at, '-infinity')
            ) end as has_other_faults
        from webhook_activity where source_id = any($1)"#,
        sources
    );
    let rows = rows.fetch_all(db).await?.into_iter().map(|row| {
        let activity = Activity {
            last_verified_at: row.last_verified_at,
            last_refused_at: row.last_refused_at,
            n_refused: row.n_refused,
            n_refused_since_verified: row.n_refused_since_verified,
        };
        (row.source_id, activity, row.fault, row.has_other_faults.unwrap_or(false))
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn what_was_seen_before_and_after_a_change_of_secrets_is_one() {
        let (source_id, at) = (Uuid::from_u128(1), datetime!(2026-11-25 12:00 UTC));
        let later = at + time::Duration::SECOND;
        let delta = |verified: &[(i64, OffsetDateTime)], n| ActivityDelta {
            source_id,
            verified: verified.iter().map(|(id, at)| (SecretId(*id), *at)).collect(),
            last_refused_at: (n > 0).then_some(at),
            n_refused: n,
            n_refused_since_verified: n,
        };
        let sum = one_each(&[delta(&[(1, at)], 2), delta(&[(2, later), (1, later)], 1)]);
        let [sum] = sum.as_slice() else { panic!("{sum:?}") };
        assert_eq!(sum.verified, [(SecretId(1), later), (SecretId(2), later)]);
        assert_eq!((sum.n_refused, sum.n_refused_since_verified), (3, 1));
        let sum = one_each(&[delta(&[(1, at)], 2), delta(&[], 1)]);
        assert_eq!(sum[0].n_refused_since_verified, 3, "nothing was verified since");
    }
}
