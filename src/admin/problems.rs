//! What went wrong with a source's events, by how bad that is.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Admin, AdminError};
use crate::domain::timestamp::rfc3339;
pub use crate::store::problem::NEWEST as NEWEST_LOOKED_AT;
use crate::store::problem::{self, ProblemGroup};

/// Events that were not forwarded, grouped by reason: of each kind, the newest [`NEWEST_LOOKED_AT`].
#[derive(Clone, Debug, Default)]
pub struct Problems {
    /// Given up: lost unless somebody acts.
    pub gave_up: Vec<Group>,
    /// Not usable, and so not forwarded.
    pub rejected: Vec<Group>,
    /// Of a kind that Segment has no event for.
    pub ignored: Vec<Group>,
}

/// Events that share a reason.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Group {
    /// The reason; of ignored events, what the sender calls them.
    pub reason: String,
    /// How many.
    #[serde(rename = "count")]
    pub n: i64,
    /// When the first of them came (or was given up).
    pub first_at: String,
    /// When the last of them did.
    pub last_at: String,
    /// The event id of one that was given up, the beginning of the payload of another.
    pub example: String,
}

impl Admin {
    /// What went wrong with a source's events.
    ///
    /// # Errors
    /// [`AdminError::Database`].
    pub async fn problems(&self, source: Uuid) -> Result<Problems, AdminError> {
        let groups = |found: Vec<ProblemGroup>| found.into_iter().map(group).collect();
        Ok(Problems {
            gave_up: groups(self.db(async |db| problem::dead_letters(db, source).await).await?),
            rejected: groups(self.db(async |db| problem::quarantined(db, source, "rejected").await).await?),
            ignored: groups(self.db(async |db| problem::quarantined(db, source, "ignored").await).await?),
        })
    }
}

fn group(group: ProblemGroup) -> Group {
    Group {
        reason: group.reason,
        n: group.n,
        first_at: rfc3339(group.first_at),
        last_at: rfc3339(group.last_at),
        example: String::from_utf8_lossy(&group.example).into_owned(),
    }
}
