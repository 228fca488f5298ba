//! A source's settings.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form};
use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, exact, page, page_again, see_other};
use super::super::visit::Visit;
use super::rotation::last_signature;
use crate::admin::audit::Action;
use crate::admin::{AdminError, CallOptions, Edit, SourceView};
use crate::domain::call::UnknownUsers;
use crate::domain::carrier::Carrier;
use crate::domain::name::Name;
use crate::domain::unsubscribe_event::UnsubscribeEvent;
use crate::sources::Kind;

/// What may become of calls about unknown users.
pub(super) const UNKNOWN_USERS: [(&str, &str); 3] = [
    (
        UnknownUsers::Hold.as_str(),
        "They wait for an identify for 4 hours, as Segment promises no order, and are ignored then.",
    ),
    (UnknownUsers::Ignore.as_str(), "They are ignored at once."),
    (UnknownUsers::Send.as_str(), "They are sent as any other: what Nudgespot makes of that is not documented."),
];

#[derive(Template)]
#[template(path = "settings.html")]
struct Settings {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    source: SourceView,
    error: Option<String>,
    unsubscribe_choices: [(&'static str, &'static str); 2],
    unknown_choices: [(&'static str, &'static str); 3],
    makes_secret: bool,
    last_signature: String,
    /// Until when the secret before the current one works, while it does.
    previous_until: Option<String>,
    status_address: String,
}

#[derive(Template)]
#[template(path = "delete_source.html")]
struct DeleteSource {
    frame: Frame,
    id: Uuid,
    name: String,
    waiting: i64,
    error: Option<String>,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct SettingsForm {
    name: String,
    #[serde(default)]
    unsubscribe_event: String,
    /// There where it is checked.
    allow_untimestamped: Option<String>,
    // What follows is of sources of calls.
    #[serde(default)]
    unknown_users: String,
    event_traits: Option<String>,
    #[serde(default)]
    carrier: String,
    learn_identities: Option<String>,
}

/// The name that was typed.
#[derive(Deserialize)]
pub struct Typed {
    pub(super) typed: String,
}

/// `GET /sources/{source}/settings`
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    page(&settings(&console, &visit, None).await?)
}

/// `POST /sources/{source}/settings`
pub async fn save(console: Data<Console>, visit: Visit, form: Form<SettingsForm>) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let edit = match edit(source.kind, &form) {
        Ok(edit) => edit,
        Err(error) => return page_again(&settings(&console, &visit, Some(error)).await?),
    };
    match console.admin.edit_source(&source.id.to_string(), edit, visit.now).await {
        Err(error @ AdminError::SourceNameTaken(_)) => {
            return page_again(&settings(&console, &visit, Some(error.to_string())).await?);
        }
        edited => _ = edited?,
    }
    let detail = detail(visit.terms().are_calls, &form);
    console.record(&visit, Action::SourceChanged, &detail).await?;
    Ok(see_other(&format!("/sources/{}/settings?notice=saved", source.id)))
}

/// `POST /sources/{source}/pause`
pub async fn pause(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    console.admin.pause(&source.id.to_string()).await?;
    console.record(&visit, Action::SourcePaused, &source.name).await?;
    Ok(see_other(&format!("/sources/{}/settings?notice=paused", source.id)))
}

/// `POST /sources/{source}/resume`
pub async fn resume(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    console.admin.resume(&source.id.to_string()).await?;
    console.record(&visit, Action::SourceResumed, &source.name).await?;
    Ok(see_other(&format!("/sources/{}/settings?notice=resumed", source.id)))
}

/// `GET /sources/{source}/delete`
pub async fn ask_delete(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    page(&delete_page(&console, &visit, None).await?)
}

/// `POST /sources/{source}/delete`
pub async fn delete(console: Data<Console>, visit: Visit, form: Form<Typed>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let source = visit.source()?;
    if form.typed.trim() != source.name {
        let error = "That is another name. Nothing was deleted.".to_owned();
        return page_again(&delete_page(&console, &visit, Some(error)).await?);
    }
    // First: a deletion that is broken off, and goes on by itself, is told of as well.
    console.record(&visit, Action::SourceDeleted, &source.name).await?;
    console.admin.delete_source(&source.id.to_string()).await?;
    Ok(see_other(&format!("/accounts/{}?notice=deleted", source.account_id)))
}

fn edit(kind: Option<Kind>, form: &SettingsForm) -> Result<Edit, String> {
    let name = Some(Name::parse(&form.name).map_err(|error| error.to_string())?);
    if kind.is_some_and(Kind::takes_calls) {
        // Without it, this is not the form of such a source: the boxes that are not ticked were not there.
        if form.unknown_users.is_empty() {
            return Ok(Edit { name, ..Edit::default() });
        }
        let carrier = match form.carrier.trim() {
            "" => None,
            name => Some(Carrier::parse(name).map_err(|error| error.to_string())?),
        };
        let calls = CallOptions {
            unknown_users: Some(form.unknown_users.parse::<UnknownUsers>().map_err(|error| error.to_string())?),
            event_traits: Some(form.event_traits.is_some()),
            carrier: Some(carrier),
            learn_identities: Some(form.learn_identities.is_some()),
            ..CallOptions::default()
        };
        return Ok(Edit { name, calls, ..Edit::default() });
    }
    Ok(Edit {
        name,
        unsubscribe_event: Some(form.unsubscribe_event.parse().map_err(|_| "Choose one of the two names.".to_owned())?),
        allow_untimestamped: Some(form.allow_untimestamped.is_some()),
        ..Edit::default()
    })
}

/// What is set, for the audit log.
fn detail(are_calls: bool, form: &SettingsForm) -> String {
    let SettingsForm { name, unsubscribe_event, unknown_users, carrier, .. } = form;
    if are_calls && unknown_users.is_empty() {
        name.clone()
    } else if are_calls {
        let (traits, learns) = (form.event_traits.is_some(), form.learn_identities.is_some());
        format!(
            "{name}: unknown_users {unknown_users}, event_traits {traits}, carrier {}, learn_identities {learns}",
            if carrier.trim().is_empty() { "none" } else { carrier.trim() }
        )
    } else {
        let allow = form.allow_untimestamped.is_some();
        format!("{name}: unsubscribe_event {unsubscribe_event}, allow_untimestamped {allow}")
    }
}

async fn settings(console: &Console, visit: &Visit, error: Option<String>) -> Result<Settings, Failure> {
    let id = visit.source()?.id;
    let source = console.admin.source_page_view(id).await?;
    let judgement = console.admin.overview(id, visit.now).await?.judgement;
    let rotation = console.admin.rotation(id, visit.now).await?;
    Ok(Settings {
        frame: Frame::new(visit, "Settings").with_state(&judgement),
        id,
        may_change: visit.may_change,
        makes_secret: source.kind.parse::<Kind>().is_ok_and(|kind| !kind.sender_makes_secret()),
        status_address: console.admin.status_address(id).await?,
        last_signature: last_signature(&rotation.seen, visit),
        previous_until: rotation.previous_until.map(exact),
        source,
        error,
        unknown_choices: UNKNOWN_USERS,
        unsubscribe_choices: [
            (UnsubscribeEvent::EmailUnsubscribed.as_str(), "as Segment's page on the Nudgespot source has it"),
            (UnsubscribeEvent::Unsubscribed.as_str(), "as Segment's email spec has it"),
        ],
    })
}

async fn delete_page(console: &Console, visit: &Visit, error: Option<String>) -> Result<DeleteSource, Failure> {
    let source = visit.source()?;
    let waiting = console.admin.source_page_view(source.id).await?.waiting;
    let frame = Frame::new(visit, "Settings");
    Ok(DeleteSource { frame, id: source.id, name: source.name.clone(), waiting, error })
}
