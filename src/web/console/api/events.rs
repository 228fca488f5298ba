//! A source's events.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::super::Console;
use super::super::event_query::EventQuery;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::Problems;
use super::{Paging, json};
use crate::admin::events::{EventsPage, FoundEvent, Journey};

/// How a file is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the page's handler, and described here")]
pub struct ExportParams {
    /// `ndjson`: everything, an event a line; `csv`: the main fields.
    #[param(pattern = "^(ndjson|csv)$")]
    format: String,
}

/// A source's events, newest first. Each call looks for a fraction of a second: where `is_complete` is false, go on with
/// `next_cursor`, also after a page without events.
#[utoipa::path(get, path = "/api/v1/sources/{source}/events", tag = "events",
    params(("source" = Uuid, Path), EventQuery, Paging), responses((status = 200, body = EventsPage), Problems))]
pub async fn list(
    console: Data<Console>,
    visit: Visit,
    query: Query<EventQuery>,
    paging: Query<Paging>,
) -> Result<HttpResponse, Failure> {
    let cursor = paging.cursor.as_deref().map(str::parse).transpose();
    let cursor = cursor.map_err(|_| Failure::Malformed("`cursor` is not one that this list gave.".to_owned()))?;
    Ok(json(&console.admin.events(visit.source()?.id, &query.parse()?, cursor, paging.limit()?).await?))
}

/// An event by its id, whatever its age, and all that is recorded of what happened to it.
#[utoipa::path(get, path = "/api/v1/sources/{source}/events/{event_id}", tag = "events",
    params(("source" = Uuid, Path), ("event_id" = String, Path)), responses((status = 200, body = Journey), Problems))]
pub async fn show(console: Data<Console>, visit: Visit, path: Path<(Uuid, String)>) -> Result<HttpResponse, Failure> {
    match console.admin.find_event(visit.source()?.id, &path.1).await? {
        FoundEvent::Journey(journey) => Ok(json(&journey)),
        FoundEvent::Nothing | FoundEvent::Erased => Err(Failure::NotFound),
        FoundEvent::Unreadable => {
            Err(Failure::Unavailable("an event of the log cannot be read: its block is damaged".to_owned()))
        }
    }
}

/// A source's events as a file, newest first. Two at a time an account; each is written into the audit log.
#[utoipa::path(get, path = "/api/v1/sources/{source}/export", tag = "events",
    params(("source" = Uuid, Path), EventQuery, ExportParams),
    responses((status = 200, content((String = "application/x-ndjson"), (String = "text/csv"))), Problems))]
pub async fn export(
    console: Data<Console>,
    visit: Visit,
    query: Query<EventQuery>,
    format: Query<super::super::pages::events::Format>,
) -> Result<HttpResponse, Failure> {
    super::super::pages::events::export(console, visit, query, format).await
}
