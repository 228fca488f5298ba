//! Replays: dead letters that are sent again, as a job.

use std::fmt::Write;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::listed::{Listed, MadeAt, one_more};
use super::{Admin, AdminError, DeadLetterFilter, new_id, violates};
use crate::domain::timestamp::rfc3339;
use crate::domain::words::grouped;
use crate::store::replay_job::{self, ReplayJob};

/// How many replays of a source are listed.
const LISTED: i64 = 20;

/// A replay as people see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReplayView {
    /// The job.
    pub replay_id: Uuid,
    /// The source.
    pub source_id: Uuid,
    /// Who asked for it.
    pub asked_by: String,
    /// When.
    pub created_at: String,
    /// When it ended; null: it goes on.
    pub ended_at: Option<String>,
    /// `running`, `cancelling`, `done` or `cancelled`.
    pub state: String,
    /// Why nothing is put back at the moment; null: something is.
    pub waits_for: Option<String>,
    /// How many dead letters were meant when it was asked for.
    pub total: i64,
    /// Of these, how many Segment has taken since.
    pub sent: i64,
    /// How many were refused again, and are dead letters again.
    pub refused: i64,
    /// How many were erased before they were sent, or after they were refused.
    pub erased: i64,
    /// How many the log has lost, as far as a part of the database was restored or could not be read.
    pub missing: i64,
    /// How many are on their way. Also after a cancellation, until it is known what became of them.
    pub in_flight: i64,
    /// How many are dead letters still: not yet sent again, or kept by a cancellation.
    pub remaining: i64,
    /// How many were no dead letters any more when their turn came: erased, forgotten, or sent again by somebody else.
    /// Known when it is done.
    pub gone: i64,
}

impl Admin {
    /// Asks for a replay of those of a source's dead letters that the filter says: those that there are now.
    ///
    /// # Errors
    /// [`AdminError::NoDeadLetters`], [`AdminError::ReplayGoesOn`], [`AdminError::Database`].
    pub async fn start_replay(
        &self,
        source: Uuid,
        filter: &DeadLetterFilter,
        asked_by: &str,
    ) -> Result<ReplayView, AdminError> {
        let id = new_id();
        let inserted = self.db(async |db| replay_job::insert(db, id, source, filter, asked_by).await).await;
        match inserted {
            Ok(0) => Err(AdminError::NoDeadLetters),
            Ok(_) => self.replay(source, id).await?.ok_or(AdminError::Conflict),
            Err(error) if violates(&error, "replay_job_running_idx") => Err(AdminError::ReplayGoesOn),
            Err(error) => Err(error.into()),
        }
    }

    /// A replay of a source.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn replay(&self, source: Uuid, id: Uuid) -> Result<Option<ReplayView>, AdminError> {
        Ok(self.db(async |db| replay_job::find(db, source, id).await).await?.map(view))
    }

    /// The last replays of a source, the newest first.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn replays(&self, source: Uuid) -> Result<Vec<ReplayView>, AdminError> {
        let jobs = self.db(async |db| replay_job::list(db, source, None, LISTED).await).await?;
        Ok(jobs.into_iter().map(view).collect())
    }

    /// So many replays of a source at most, the newest first, after a place in the list.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn replays_after(
        &self,
        source: Uuid,
        after: Option<MadeAt>,
        limit: usize,
    ) -> Result<Listed<ReplayView, MadeAt>, AdminError> {
        let before = after.map(|place| (place.at, place.id));
        let found = self.db(async |db| replay_job::list(db, source, before, one_more(limit)).await).await?;
        Ok(Listed::cut(found, limit, |job| MadeAt { at: job.created_at, id: job.id }).map(view))
    }

    /// Ends a replay: what is not yet put back stays a dead letter. Says whether it went on until now.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn cancel_replay(&self, source: Uuid, id: Uuid) -> Result<bool, AdminError> {
        Ok(self.db(async |db| replay_job::cancel(db, source, id).await).await?)
    }
}

impl ReplayView {
    /// What was asked for, for the audit log.
    #[must_use]
    pub fn described(&self, source_name: &str) -> String {
        format!("{source_name}: {} that had been given up", self.total)
    }

    /// Whether it goes on.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.ended_at.is_none()
    }

    /// Whether its counts will still change.
    #[must_use]
    pub fn is_counting(&self) -> bool {
        self.goes_on() || self.in_flight > 0
    }

    /// What came of it so far, in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = format!("{} sent again", grouped(self.sent));
        let left = if self.goes_on() { "to go" } else { "not sent" };
        for (n, what) in [
            (self.refused, "refused again"),
            (self.erased, "erased"),
            (self.missing, "missing in the log"),
            (self.gone, "no longer there when their turn came"),
            (self.in_flight, "on their way"),
            (self.remaining, left),
        ] {
            if n > 0 {
                write!(text, ", {} {what}", grouped(n)).expect("a String takes all");
            }
        }
        text
    }
}

fn view(job: ReplayJob) -> ReplayView {
    let in_flight = job.n_moved - job.n_sent - job.n_refused - job.n_erased - job.n_missing;
    let not_moved = (job.n_total - job.n_moved).max(0);
    let (remaining, gone) = if job.state == "done" { (0, not_moved) } else { (not_moved, 0) };
    ReplayView {
        replay_id: job.id,
        source_id: job.source_id,
        asked_by: job.asked_by,
        created_at: rfc3339(job.created_at),
        ended_at: job.ended_at.map(rfc3339),
        waits_for: job.waits_for.filter(|_| job.ended_at.is_none()),
        state: job.state,
        total: job.n_total,
        sent: job.n_sent,
        refused: job.n_refused,
        erased: job.n_erased,
        missing: job.n_missing,
        in_flight,
        remaining,
        gone,
    }
}
