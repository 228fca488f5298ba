//! Events that are not forwarded, kept for the account's admin to see.

use sha2::{Digest, Sha256};
use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::log::Lane;
use super::{lock, storable};

/// Why an event is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Segment has no event of this name.
    Ignored {
        /// What the sender calls it.
        name: String,
    },
    /// It cannot be used.
    Rejected {
        /// In words for the account's admin.
        reason: String,
    },
}

/// Events to set aside, column by column.
#[derive(Debug, Default)]
pub struct SetAside {
    account_ids: Vec<Uuid>,
    digests: Vec<Uuid>,
    fates: Vec<String>,
    received_at: Vec<OffsetDateTime>,
    names: Vec<Option<String>>,
    reasons: Vec<Option<String>>,
    payloads: Vec<String>,
}

impl SetAside {
    /// Adds an event of `account`, with its JSON text as it came.
    pub fn push(&mut self, account: Uuid, received_at: OffsetDateTime, why: Why, payload: String) {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(&payload)[..16]);
        let (fate, name, reason) = match why {
            Why::Ignored { name } => ("ignored", Some(storable(&name)), None),
            Why::Rejected { reason } => ("rejected", None, Some(storable(&reason))),
        };
        self.account_ids.push(account);
        self.digests.push(Uuid::from_bytes(digest));
        self.fates.push(fate.to_owned());
        self.received_at.push(received_at);
        self.names.push(name);
        self.reasons.push(reason);
        self.payloads.push(payload);
    }

    /// The accounts, each once.
    #[must_use]
    pub fn accounts(&self) -> Vec<Uuid> {
        let mut accounts = self.account_ids.clone();
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }
}

/// Sets events aside, one statement that commits by itself. What is there already is not counted again. Says whether all
/// accounts are there: one that was just deleted gets none of its events.
///
/// # Errors
/// Where it is not known to be committed.
pub async fn insert(db: impl PgExecutor<'_>, lanes: &[Lane], events: &SetAside) -> sqlx::Result<bool> {
    let accounts = events.accounts();
    let n_existing = sqlx::query_scalar!(
        r#"
        with locked as materialized (
            -- Appends hold them too: nobody else updates several rows of `log_head` in a statement, so none deadlock.
            select count(pg_advisory_xact_lock($1, lane)) as n from unnest($2::int[]) as lane
        ),
        inserted as (
            insert into set_aside (account_id, digest, fate, received_at, event_name, reason, payload)
            select account_id, digest, fate, received_at, event_name, reason, payload
            from locked, unnest($3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[], $7::text[], $8::text[], $9::text[])
                as new (account_id, digest, fate, received_at, event_name, reason, payload)
            where exists (select from log_head where log_head.account_id = new.account_id)
            on conflict do nothing
            returning account_id, fate
        ),
        counted as (
            select account_id, count(*) filter (where fate = 'ignored') as n_ignored,
                count(*) filter (where fate = 'rejected') as n_rejected
            from inserted group by account_id
        ),
        updated as (
            update log_head
            set n_ignored = log_head.n_ignored + counted.n_ignored, n_rejected = log_head.n_rejected + counted.n_rejected
            from counted where log_head.account_id = counted.account_id
        )
        select count(*) as "n!" from log_head where account_id = any($10)
        "#,
        lock::LANE,
        &Lane::locks(lanes),
        &events.account_ids,
        &events.digests,
        &events.fates,
        &events.received_at,
        &events.names as _,
        &events.reasons as _,
        &events.payloads,
        &accounts,
    )
    .fetch_one(db)
    .await?;
    Ok(usize::try_from(n_existing) == Ok(accounts.len()))
}
