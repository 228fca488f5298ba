//! What went wrong with a source's events, and whether Segment knows its write key.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::json;
use super::openapi::Problems;
use crate::admin::KeyCheck;
use crate::admin::problems::{Group, NEWEST_LOOKED_AT};

/// Events that were not forwarded.
#[derive(Serialize, ToSchema)]
pub struct NotForwarded {
    /// How many there are in all.
    total: i64,
    /// The largest groups, at most 50, of the newest 2,000 of them.
    groups: Vec<Group>,
    /// Whether older ones than those 2,000 are in no group.
    is_cut: bool,
}

/// What went wrong, in three severities.
#[derive(Serialize, ToSchema)]
pub struct SourceProblems {
    /// Given up: lost unless they are sent again.
    gave_up: NotForwarded,
    /// Not usable, and so not forwarded.
    rejected: NotForwarded,
    /// Of a kind that Segment has no event for; of calls, those that are not meant for Nudgespot.
    ignored: NotForwarded,
}

/// What Segment said of a write key, or Nudgespot of a REST key.
#[derive(Serialize, ToSchema)]
pub struct WriteKeyCheck {
    /// `known`, `unknown` (events sent to Segment with it are answered 200, and lost; calls to Nudgespot wait), or `unclear`: there
    /// was no clear answer. Null: nobody was asked, as there is no key yet, or one for another API than Segment's.
    #[schema(pattern = "^(known|unknown|unclear)$")]
    verdict: Option<String>,
    /// When it was asked.
    checked_at: Option<String>,
}

/// Events that were given up, rejected and ignored, grouped by reason. Refused webhooks are listed apart.
#[utoipa::path(get, path = "/api/v1/sources/{source}/problems", tag = "events", params(("source" = Uuid, Path)),
    responses((status = 200, body = SourceProblems), Problems))]
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?.id;
    let standing = console.admin.overview(source, visit.now).await?.standing;
    let found = console.admin.problems(source).await?;
    let of = |total, groups| NotForwarded { total, groups, is_cut: total > NEWEST_LOOKED_AT };
    Ok(json(&SourceProblems {
        gave_up: of(standing.gave_up, found.gave_up),
        rejected: of(standing.rejected, found.rejected),
        ignored: of(standing.ignored, found.ignored),
    }))
}

/// What Segment said last of the source's write key, or Nudgespot of its REST key. They are asked when the key is entered on a
/// page; Segment also daily.
#[utoipa::path(get, path = "/api/v1/sources/{source}/write-key-check", tag = "sources",
    params(("source" = Uuid, Path)), responses((status = 200, body = WriteKeyCheck), Problems))]
pub async fn last_key_check(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    Ok(json(&WriteKeyCheck::from(console.admin.key_check(visit.source()?.id).await?)))
}

/// Asks Segment whether it knows the source's write key, or Nudgespot of its REST key. A hint: whatever is said, events are sent.
#[utoipa::path(post, path = "/api/v1/sources/{source}/write-key-check", tag = "sources",
    params(("source" = Uuid, Path)), responses((status = 200, body = WriteKeyCheck), Problems))]
pub async fn check_key(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?.id;
    let is_asked = console.set_up.check_write_key(source, visit.now).await?.is_some();
    let check = if is_asked { console.admin.key_check(source).await? } else { None };
    Ok(json(&WriteKeyCheck::from(check)))
}

impl From<Option<KeyCheck>> for WriteKeyCheck {
    fn from(check: Option<KeyCheck>) -> Self {
        let checked_at = check.as_ref().map(KeyCheck::checked_at_text);
        Self { verdict: check.map(|check| check.verdict), checked_at }
    }
}
