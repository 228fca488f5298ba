//! An account: its sources.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form};
use askama::Template;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, StateMark, page, page_again, see_other};
use super::super::visit::Visit;
use super::settings::UNKNOWN_USERS;
use super::shown_once::{self, About};
use crate::admin::audit::Action;
use crate::admin::overview::Overview;
use crate::admin::shown_once::OneLook;
use crate::admin::{AdminError, CallOptions, NewSource};
use crate::domain::call::UnknownUsers;
use crate::domain::carrier::Carrier;
use crate::domain::name::Name;
use crate::domain::nudgespot_key::NudgespotKey;
use crate::domain::words::grouped;
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
    waiting: String,
    delivered: String,
    gave_up: String,
}

#[derive(Template)]
#[template(path = "new_source.html")]
struct NewSourcePage {
    frame: Frame,
    account: Uuid,
    error: Option<String>,
    kinds: [KindChoice; Kind::ALL.len()],
    form: SourceForm,
    unknown_choices: [(&'static str, &'static str); 3],
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
    // What follows is for a source of calls, and counts for no other.
    nudgespot_key: Option<SecretString>,
    #[serde(default)]
    unknown_users: String,
    #[serde(default)]
    carrier: String,
    /// There where it is checked.
    learn_identities: Option<String>,
}

impl SourceForm {
    /// As it is before anybody has typed.
    fn empty() -> Self {
        Self {
            kind: Kind::Nudgespot.as_str().to_owned(),
            name: String::new(),
            nudgespot_key: None,
            unknown_users: UnknownUsers::default().as_str().to_owned(),
            carrier: String::new(),
            learn_identities: Some(String::new()),
        }
    }
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
    page(&new_source_page(&visit, SourceForm::empty(), None)?)
}

/// `POST /accounts/{account}/new-source`
pub async fn add_source(console: Data<Console>, visit: Visit, form: Form<SourceForm>) -> Result<HttpResponse, Failure> {
    let form = form.into_inner();
    let account = visit.account()?;
    let new = match parse(&form) {
        Ok(new) => new,
        Err(error) => return page_again(&new_source_page(&visit, form, Some(error))?),
    };
    let has_nudgespot_key = new.calls.nudgespot_key.is_some();
    let created = match console.admin.add_source_to(account.id, new).await {
        Err(error @ AdminError::SourceNameTaken(_)) => {
            return page_again(&new_source_page(&visit, form, Some(error.to_string()))?);
        }
        created => created?,
    };
    console.record(&visit, Action::SourceCreated, &created.name).await?;
    if has_nudgespot_key {
        console.set_up.check_write_key(created.id, visit.now).await?;
    }
    match created.signing_secret {
        Some(secret) => {
            let look = OneLook::SigningSecret(secret.expose().to_owned());
            shown_once::lead_to(&console, &visit, About::Source(created.id), &look).await
        }
        None => Ok(see_other(&format!("/sources/{}/set-up?notice=source-added", created.id))),
    }
}

fn parse(form: &SourceForm) -> Result<NewSource, String> {
    fn said<T, E: ToString>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, String> {
        Some(text).filter(|text| !text.trim().is_empty()).map(parse).transpose().map_err(|error| error.to_string())
    }
    let kind = form.kind.parse::<Kind>().map_err(|error| error.to_string())?;
    let new = NewSource { name: said(&form.name, Name::parse)?, ..NewSource::of(kind) };
    if !kind.takes_calls() {
        return Ok(new);
    }
    let key = form.nudgespot_key.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
    let calls = CallOptions {
        nudgespot_key: said(key, NudgespotKey::parse)?,
        unknown_users: said(&form.unknown_users, str::parse)?,
        event_traits: None,
        carrier: said(&form.carrier, Carrier::parse)?.map(Some),
        learn_identities: Some(form.learn_identities.is_some()),
    };
    Ok(NewSource { calls, ..new })
}

fn new_source_page(visit: &Visit, form: SourceForm, error: Option<String>) -> Result<NewSourcePage, Failure> {
    let choice = |kind: Kind| match kind {
        Kind::Nudgespot => {
            KindChoice { name: kind.as_str(), title: "Nudgespot", what: "The signing secret is made here." }
        }
        Kind::Segment => KindChoice {
            name: kind.as_str(),
            title: "Segment",
            what: "The other way round: its identify and track calls go to Nudgespot.",
        },
        Kind::Resend => KindChoice { name: kind.as_str(), title: "Resend", what: "Resend shows the signing secret." },
    };
    let account = visit.account()?.id;
    Ok(NewSourcePage {
        frame: Frame::new(visit, "Sources"),
        account,
        error,
        kinds: Kind::ALL.map(choice),
        form,
        unknown_choices: UNKNOWN_USERS,
    })
}

fn row(source: Overview) -> SourceRow {
    SourceRow {
        state: (&source.judgement).into(),
        id: source.standing.source_id,
        name: source.standing.name,
        kind: source.standing.kind,
        waiting: grouped(source.standing.waiting),
        delivered: grouped(source.standing.delivered),
        gave_up: grouped(source.standing.gave_up),
    }
}
