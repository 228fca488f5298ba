//! Erasing a recipient: asked for, followed, and its receipt.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form, Path};
use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::utc;
use crate::admin::audit::Action;
use crate::admin::{ErasureView, Recipient};
use crate::domain::words::{count, grouped};

#[derive(Template)]
#[template(path = "erase.html")]
struct Erase {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    error: Option<String>,
    recipient: String,
    by: String,
    erasures: Vec<(ErasureView, String)>,
}

#[derive(Template)]
#[template(path = "erasure.html", blocks = ["receipt"])]
struct ErasurePage {
    frame: Frame,
    id: Uuid,
    erasure: ErasureView,
    created: String,
    ended: Option<String>,
    sources_done: String,
    removed: [(&'static str, String); 6],
}

/// Whom.
#[derive(Default, Deserialize)]
pub struct Whom {
    recipient: String,
    /// `email` or `uid`.
    by: String,
    #[serde(default)]
    sure: String,
}

/// `GET /accounts/{account}/erase`
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    page(&erase(&console, &visit, Whom { by: "email".to_owned(), ..Whom::default() }, None).await?)
}

/// `POST /accounts/{account}/erase`
pub async fn start(console: Data<Console>, visit: Visit, form: Form<Whom>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let account = visit.account()?.id;
    let whom = form.into_inner();
    let recipient = match whom.by.as_str() {
        "uid" => Recipient::uid(&whom.recipient),
        _ => Recipient::email(&whom.recipient),
    };
    let error = match (&recipient, whom.sure.as_str()) {
        (Err(error), _) => Some(format!("{error}. Nothing was erased.")),
        (Ok(_), "yes") => None,
        (Ok(_), _) => Some("Nothing was erased: say that it is to be erased for good.".to_owned()),
    };
    let (Ok(recipient), None) = (&recipient, &error) else {
        return page_again(&erase(&console, &visit, whom, error).await?);
    };
    let actor = visit.actor();
    let erasure = console.admin.erase(account, recipient, &actor.name).await?;
    console.admin.record(&actor, Some(account), Action::RecipientErased, &recipient.masked()).await?;
    Ok(see_other(&format!("/accounts/{account}/erase/{}", erasure.erasure_id)))
}

/// `GET /accounts/{account}/erase/{erasure}`
pub async fn receipt(console: Data<Console>, visit: Visit, at: Path<(Uuid, Uuid)>) -> Result<HttpResponse, Failure> {
    let id = visit.account()?.id;
    let erasure = console.admin.erasure(id, at.1).await?.ok_or(Failure::NotFound)?;
    let removed = &erasure.removed;
    let shown = ErasurePage {
        frame: Frame::new(&visit, "Erase"),
        id,
        created: utc(&erasure.created_at),
        ended: erasure.ended_at.as_deref().map(utc),
        sources_done: count(erasure.sources_done.into(), "source was", "sources were") + " looked through",
        removed: [
            ("Events, whatever became of them", grouped(removed.events)),
            ("Of these, waiting: not sent any more, unless on their way", grouped(removed.waiting)),
            ("Given up", grouped(removed.dead_letters)),
            ("Ignored and rejected events", grouped(removed.ignored_or_rejected)),
            ("Refused webhooks", grouped(removed.refused_webhooks)),
            ("Answers of Segment or Nudgespot that named them", grouped(removed.answers)),
        ],
        erasure,
    };
    if visit.is_fragment { page(&shown.as_receipt()) } else { page(&shown) }
}

async fn erase(console: &Console, visit: &Visit, whom: Whom, error: Option<String>) -> Result<Erase, Failure> {
    let id = visit.account()?.id;
    let erasures = console.admin.erasures(id).await?;
    let with_time = |erasure: ErasureView| {
        let created = utc(&erasure.created_at);
        (erasure, created)
    };
    Ok(Erase {
        frame: Frame::new(visit, "Erase"),
        id,
        may_change: visit.may_change,
        error,
        recipient: whom.recipient,
        by: whom.by,
        erasures: erasures.into_iter().map(with_time).collect(),
    })
}
