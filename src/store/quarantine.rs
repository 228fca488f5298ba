//! Events that are not forwarded, kept for the source's admin to see.

use sha2::{Digest, Sha256};
use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::log::Lane;
use super::{lock, storable};

/// Why an event is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuarantineReason {
    /// It is not forwarded.
    Ignored {
        /// What the sender calls it.
        name: String,
        /// Why not, in a word; `None`: Segment has no event of this name.
        reason: Option<&'static str>,
    },
    /// It cannot be used.
    Rejected {
        /// In words for the source's admin.
        reason: String,
    },
}

/// Events to set aside, column by column.
#[derive(Debug, Default)]
pub struct Quarantine {
    source_ids: Vec<Uuid>,
    digests: Vec<Uuid>,
    dispositions: Vec<String>,
    received_at: Vec<OffsetDateTime>,
    names: Vec<Option<String>>,
    reasons: Vec<Option<String>>,
    payloads: Vec<String>,
}

impl Quarantine {
    /// Adds an event of `source`, with its JSON text as it came.
    pub fn push(&mut self, source: Uuid, received_at: OffsetDateTime, why: QuarantineReason, payload: String) {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(&payload)[..16]);
        let (disposition, name, reason) = match why {
            QuarantineReason::Ignored { name, reason } => ("ignored", Some(storable(&name)), reason.map(str::to_owned)),
            QuarantineReason::Rejected { reason } => ("rejected", None, Some(storable(&reason))),
        };
        self.source_ids.push(source);
        self.digests.push(Uuid::from_bytes(digest));
        self.dispositions.push(disposition.to_owned());
        self.received_at.push(received_at);
        self.names.push(name);
        self.reasons.push(reason);
        self.payloads.push(payload);
    }

    /// The sources, each once.
    #[must_use]
    pub fn sources(&self) -> Vec<Uuid> {
        let mut sources = self.source_ids.clone();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }
}

/// Sets events aside, one statement that commits by itself. What is there already is not counted again. Says whether all
/// sources are there: one that was just deleted gets none of its events.
///
/// # Errors
/// Where it is not known to be committed.
pub async fn insert(db: impl PgExecutor<'_>, lanes: &[Lane], events: &Quarantine) -> sqlx::Result<bool> {
    let sources = events.sources();
    let n_existing = sqlx::query_scalar!(
        r#"
        with locked as materialized (
            -- Appends hold them too: nobody else updates several rows of `log_head` in a statement, so none deadlock.
            select count(pg_advisory_xact_lock($1, lane)) as n from unnest($2::int[]) as lane
        ),
        inserted as (
            insert into quarantine (source_id, digest, disposition, received_at, event_name, reason, payload)
            select source_id, digest, disposition, received_at, event_name, reason, payload
            from locked, unnest($3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[], $7::text[], $8::text[], $9::text[])
                as new (source_id, digest, disposition, received_at, event_name, reason, payload)
            where exists (select from log_head where log_head.source_id = new.source_id)
            on conflict do nothing
            returning source_id, disposition
        ),
        counted as (
            select source_id, count(*) filter (where disposition = 'ignored') as n_ignored,
                count(*) filter (where disposition = 'rejected') as n_rejected
            from inserted group by source_id
        ),
        updated as (
            update log_head
            set n_ignored = log_head.n_ignored + counted.n_ignored, n_rejected = log_head.n_rejected + counted.n_rejected
            from counted where log_head.source_id = counted.source_id
        )
        select count(*) as "n!" from log_head where source_id = any($10)
        "#,
        lock::LANE,
        &Lane::locks(lanes),
        &events.source_ids,
        &events.digests,
        &events.dispositions,
        &events.received_at,
        &events.names as _,
        &events.reasons as _,
        &events.payloads,
        &sources,
    )
    .fetch_one(db)
    .await?;
    Ok(usize::try_from(n_existing) == Ok(sources.len()))
}
