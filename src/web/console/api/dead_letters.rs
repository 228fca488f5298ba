//! Events that were given up, and how they are sent again.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::{ChangeProblems, Problems};
use super::{Page, Paging, accepted, invalid, json, page_of};
use crate::admin::audit::Action;
use crate::admin::{DeadLetterFilter, DeadLetterView, ReplayView};
use crate::domain::event::Kind;
use crate::domain::timestamp;

/// Which events that were given up.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// A kind of event: `delivered`, `opened`, `clicked`, `bounced`, `marked_as_spam` or `unsubscribed`; of a source of calls,
    /// `identify` or `track`.
    kind: Option<String>,
    /// A text that the reason contains, whatever the case.
    reason: Option<String>,
    /// Given up at this time or later (ISO 8601 with zone).
    since: Option<String>,
    /// Given up before this time.
    until: Option<String>,
}

/// Which events that were given up are to be sent again. Without anything, all that there are now.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Kinds of events: `delivered`, `opened`, `clicked`, `bounced`, `marked_as_spam`, `unsubscribed`; of a source of calls,
    /// `identify`, `track`.
    #[schema(example = json!(["opened"]))]
    kinds: Option<Vec<String>>,
    /// A text that the reason contains, whatever the case.
    reason: Option<String>,
    /// Given up at this time or later (ISO 8601 with zone).
    since: Option<String>,
    /// Given up before this time.
    until: Option<String>,
}

/// Events that were given up, in the order in which they came.
#[utoipa::path(get, path = "/api/v1/sources/{source}/dead-letters", tag = "dead letters",
    params(("source" = Uuid, Path), Which, Paging),
    responses((status = 200, body = Page<DeadLetterView>), Problems))]
pub async fn list(
    console: Data<Console>,
    visit: Visit,
    which: Query<Which>,
    paging: Query<Paging>,
) -> Result<HttpResponse, Failure> {
    let Which { kind, reason, since, until } = which.into_inner();
    let malformed = |failure: Failure| Failure::Malformed(failure.detail());
    let filter = filter(kind.as_slice(), reason, [since, until]).map_err(malformed)?;
    let after = paging.cursor()?.unwrap_or(0);
    let (data, next) = console.admin.list_dead_letters(visit.source()?.id, &filter, after, paging.limit()?).await?;
    Ok(json(&Page { data, next_cursor: next.map(|next| next.to_string()) }))
}

/// Sends events again that were given up: those that there are now. In the background, behind live events, one replay of a
/// source at a time.
#[utoipa::path(post, path = "/api/v1/sources/{source}/dead-letters/replay", tag = "dead letters",
    params(("source" = Uuid, Path)), request_body = ReplayRequest,
    responses((status = 202, body = ReplayView), Problems, ChangeProblems))]
pub async fn replay(console: Data<Console>, visit: Visit, body: Json<ReplayRequest>) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let ReplayRequest { kinds, reason, since, until } = body.into_inner();
    let filter = filter(&kinds.unwrap_or_default(), reason, [since, until])?;
    let replay = console.admin.start_replay(source.id, &filter, &visit.actor().name).await?;
    console.record(&visit, Action::ReplayStarted, &replay.described(&source.name)).await?;
    Ok(accepted(&replay))
}

/// The replays of a source, newest first.
#[utoipa::path(get, path = "/api/v1/sources/{source}/replays", tag = "dead letters",
    params(("source" = Uuid, Path), Paging), responses((status = 200, body = Page<ReplayView>), Problems))]
pub async fn replays(console: Data<Console>, visit: Visit, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    let source = visit.source()?.id;
    Ok(page_of(console.admin.replays_after(source, paging.cursor()?, paging.limit()?).await?))
}

/// How a replay stands.
#[utoipa::path(get, path = "/api/v1/sources/{source}/replays/{replay}", tag = "dead letters",
    params(("source" = Uuid, Path), ("replay" = Uuid, Path)), responses((status = 200, body = ReplayView), Problems))]
pub async fn show_replay(
    console: Data<Console>,
    visit: Visit,
    at: Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, Failure> {
    Ok(json(&console.admin.replay(visit.source()?.id, at.1).await?.ok_or(Failure::NotFound)?))
}

/// Ends a replay. What is not yet sent stays given up. Does nothing where it has ended.
#[utoipa::path(post, path = "/api/v1/sources/{source}/replays/{replay}/cancel", tag = "dead letters",
    params(("source" = Uuid, Path), ("replay" = Uuid, Path)), responses((status = 200, body = ReplayView), Problems))]
pub async fn cancel_replay(
    console: Data<Console>,
    visit: Visit,
    at: Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    if console.admin.cancel_replay(source.id, at.1).await? {
        console.record(&visit, Action::ReplayCancelled, &source.name).await?;
    }
    Ok(json(&console.admin.replay(source.id, at.1).await?.ok_or(Failure::NotFound)?))
}

fn filter(
    kinds: &[String],
    reason: Option<String>,
    [since, until]: [Option<String>; 2],
) -> Result<DeadLetterFilter, Failure> {
    let kind = |name: &String| {
        let call = Kind::CALLS.into_iter().find(|kind| kind.as_str() == name);
        let kind = call.or_else(|| Some(Kind::from_name(name)?.0)).map(|kind| i16::from(kind.number()));
        kind.ok_or_else(|| invalid("kind", "no kind of event is called so"))
    };
    Ok(DeadLetterFilter {
        kinds: kinds.iter().map(kind).collect::<Result<_, _>>()?,
        reason,
        is_exact_reason: false,
        since: time("since", since)?,
        until: time("until", until)?,
    })
}

fn time(field: &str, text: Option<String>) -> Result<Option<OffsetDateTime>, Failure> {
    let parse =
        |text: String| timestamp::parse(&text).ok_or_else(|| invalid(field, "a time reads like 2016-01-27T09:15:00Z"));
    text.map(parse).transpose()
}
