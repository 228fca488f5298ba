//! An account: its sources.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form};
use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, StateMark, page, page_again, see_other};
use super::super::visit::Visit;
use super::rotation::shown_once_path;
use crate::admin::audit::Action;
use crate::admin::overview::Overview;
use crate::admin::{AdminError, NewSource};
use crate::domain::name::Name;
use crate::sources::Kind;

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    is_operator: bool,
    sources: Vec<SourceRow>,
}

struct SourceRow {
    id: Uuid,
    name: String,
    kind: String,
    state: StateMark,
    waiting: i64,
    delivered: i64,
    gave_up: i64,
}

#[derive(Template)]
#[template(path = "new_source.html")]
struct NewSourcePage {
    frame: Frame,
    account: Uuid,
    error: Option<String>,
    kinds: [KindChoice; Kind::ALL.len()],
    chosen: String,
    name: String,
}

struct KindChoice {
    name: &'static str,
    title: &'static str,
    what: &'static str,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct SourceForm {
    kind: String,
    #[serde(default)]
    name: String,
}

/// `GET /accounts/{account}`
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let id = visit.account()?.id;
    let sources = console.admin.overviews(Some(id), visit.now).await?;
    page(&AccountPage {
        frame: Frame::new(&visit, "Sources"),
        id,
        may_change: visit.may_change,
        is_operator: visit.is_operator(),
        sources: sources.into_iter().map(row).collect(),
    })
}

/// `GET /accounts/{account}/new-source`
pub async fn new_source(visit: Visit) -> Result<HttpResponse, Failure> {
    page(&new_source_page(&visit, Kind::Nudgespot.as_str().to_owned(), String::new(), None)?)
}

/// `POST /accounts/{account}/new-source`
pub async fn add_source(console: Data<Console>, visit: Visit, form: Form<SourceForm>) -> Result<HttpResponse, Failure> {
    let SourceForm { kind, name } = form.into_inner();
    let account = visit.account()?;
    let parsed = parse(&kind, &name);
    let (kind_parsed, name_parsed) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return page_again(&new_source_page(&visit, kind, name, Some(error))?),
    };
    let new = NewSource { name: name_parsed, ..NewSource::of(kind_parsed) };
    let created = match console.admin.add_source_to(account.id, new).await {
        Err(error @ AdminError::SourceNameTaken(_)) => {
            return page_again(&new_source_page(&visit, kind, name, Some(error.to_string()))?);
        }
        created => created?,
    };
    console.record(&visit, Action::SourceCreated, &created.id.to_string()).await?;
    match (created.signing_secret, visit.person()) {
        (Some(secret), Some(person)) => {
            let person = person.person_id;
            let shown = console.admin.keep_for_one_look(created.id, person, secret.expose(), visit.now).await?;
            Ok(see_other(&shown_once_path(created.id, shown)))
        }
        _ => Ok(see_other(&format!("/sources/{}/set-up?notice=source-added", created.id))),
    }
}

fn parse(kind: &str, name: &str) -> Result<(Kind, Option<Name>), String> {
    let kind = kind.parse::<Kind>().map_err(|error| error.to_string())?;
    let name = if name.trim().is_empty() { None } else { Some(Name::parse(name).map_err(|error| error.to_string())?) };
    Ok((kind, name))
}

fn new_source_page(
    visit: &Visit,
    chosen: String,
    name: String,
    error: Option<String>,
) -> Result<NewSourcePage, Failure> {
    let choice = |kind: Kind| match kind {
        Kind::Nudgespot => {
            KindChoice { name: kind.as_str(), title: "Nudgespot", what: "The signing secret is made here." }
        }
        Kind::Segment => KindChoice {
            name: kind.as_str(),
            title: "Segment",
            what: "Segment's identify and track calls go to Nudgespot.",
        },
        Kind::Resend => KindChoice { name: kind.as_str(), title: "Resend", what: "Resend shows the signing secret." },
    };
    let account = visit.account()?.id;
    Ok(NewSourcePage {
        frame: Frame::new(visit, "Sources"),
        account,
        error,
        kinds: Kind::ALL.map(choice),
        chosen,
        name,
    })
}

fn row(source: Overview) -> SourceRow {
    SourceRow {
        state: (&source.judgement).into(),
        id: source.standing.source_id,
        name: source.standing.name,
        kind: source.standing.kind,
        waiting: source.standing.waiting,
        delivered: source.standing.delivered,
        gave_up: source.standing.gave_up,
    }
}
