//! Dead letters that are sent again: asked for, followed, cancelled.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form, Path};
use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::problems::problems;
use super::utc;
use crate::admin::audit::Action;
use crate::admin::{AdminError, DeadLetterFilter, ReplayView};
use crate::domain::words::count;

#[derive(Template)]
#[template(path = "replay.html", blocks = ["progress"])]
struct ReplayPage {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    replay: ReplayView,
    sentence: String,
    total: String,
    n_done: i64,
    created: String,
    ended: Option<String>,
}

/// Which dead letters: those of a reason, or all.
#[derive(Deserialize)]
pub struct Which {
    reason: Option<String>,
}

/// `POST /sources/{source}/replays`
pub async fn start(console: Data<Console>, visit: Visit, form: Form<Which>) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let reason = form.into_inner().reason;
    let filter = DeadLetterFilter { reason, is_exact_reason: true, ..DeadLetterFilter::default() };
    let started = console.admin.start_replay(source.id, &filter, &visit.actor().name).await;
    let replay = match started {
        Err(error @ (AdminError::NoDeadLetters | AdminError::ReplayGoesOn)) => {
            return page_again(&problems(&console, &visit, Some(error.to_string())).await?);
        }
        started => started?,
    };
    console.record(&visit, Action::ReplayStarted, &replay.described(&source.name)).await?;
    Ok(see_other(&path(source.id, replay.replay_id)))
}

/// `GET /sources/{source}/replays/{replay}`
pub async fn show(console: Data<Console>, visit: Visit, at: Path<(Uuid, Uuid)>) -> Result<HttpResponse, Failure> {
    let id = visit.source()?.id;
    let replay = console.admin.replay(id, at.1).await?.ok_or(Failure::NotFound)?;
    let shown = ReplayPage {
        frame: Frame::new(&visit, "Problems"),
        id,
        may_change: visit.may_change,
        sentence: replay.sentence(),
        total: count(replay.total, visit.terms().one, visit.terms().many),
        n_done: replay.sent + replay.refused + replay.erased + replay.missing,
        created: utc(&replay.created_at),
        ended: replay.ended_at.as_deref().map(utc),
        replay,
    };
    if visit.is_fragment { page(&shown.as_progress()) } else { page(&shown) }
}

/// `POST /sources/{source}/replays/{replay}/cancel`
pub async fn cancel(console: Data<Console>, visit: Visit, at: Path<(Uuid, Uuid)>) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    if console.admin.cancel_replay(source.id, at.1).await? {
        console.record(&visit, Action::ReplayCancelled, &source.name).await?;
    }
    Ok(see_other(&path(source.id, at.1)))
}

fn path(source: Uuid, replay: Uuid) -> String {
    format!("/sources/{source}/replays/{replay}")
}
