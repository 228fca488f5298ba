//! Setting a source up: a checklist that ticks itself off by what was seen.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form, Query};
use askama::Template;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::checklist::{Checklist, Seen};
use super::set_up_calls;
use crate::admin::audit::Action;
use crate::admin::{Edit, KeyCheck, SourceView};
use crate::domain::event;
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::domain::write_key::WriteKey;
use crate::sources::Kind;

#[derive(Template)]
#[template(path = "set_up.html", blocks = ["checklist"])]
#[expect(clippy::struct_excessive_bools, reason = "each is a condition of the template")]
struct SetUpPage {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    source: SourceView,
    error: Option<String>,
    key_check: Option<KeyCheck>,
    is_key_unknown: bool,
    regions: [(&'static str, &'static str); 2],
    sender: &'static str,
    sender_steps: &'static str,
    makes_secret: bool,
    can_test: bool,
    seen: Seen,
    /// The event id of a test event that was sent.
    test: Option<String>,
    test_line: Option<String>,
    test_arrived: bool,
    is_done: bool,
}

/// What the page is asked with.
#[derive(Deserialize)]
pub struct Asked {
    test: Option<String>,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct KeyForm {
    write_key: SecretString,
    region: String,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct SecretForm {
    signing_secret: SecretString,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct TestForm {
    #[serde(default)]
    kinds: String,
    #[serde(default)]
    sure: String,
}

/// `GET /sources/{source}/set-up`
pub async fn show(console: Data<Console>, visit: Visit, asked: Query<Asked>) -> Result<HttpResponse, Failure> {
    if visit.terms().are_calls {
        return set_up_calls::show(&console, &visit, asked.into_inner().test).await;
    }
    let shown = set_up(&console, &visit, asked.into_inner().test, None).await?;
    if visit.is_fragment { page(&shown.as_checklist()) } else { page(&shown) }
}

/// `POST /sources/{source}/set-up/write-key`
pub async fn save_write_key(
    console: Data<Console>,
    visit: Visit,
    form: Form<KeyForm>,
) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let key = WriteKey::parse(form.write_key.expose_secret()).map_err(|error| error.to_string());
    let region = form.region.parse::<Region>().map_err(|_| "Choose a region.".to_owned());
    let (key, region) = match (key, region) {
        (Ok(key), Ok(region)) => (key, region),
        (Err(error), _) | (_, Err(error)) => {
            return again(&console, &visit, error).await;
        }
    };
    let detail = format!("{}: write key …{}, region {}", source.name, key.last4(), region.as_str());
    let edit = Edit { write_key: Some(key), region: Some(region), ..Edit::default() };
    console.admin.edit_source(&source.id.to_string(), edit, visit.now).await?;
    console.record(&visit, Action::SourceChanged, &detail).await?;
    console.set_up.check_write_key(source.id, visit.now).await?;
    Ok(see_other(&format!("/sources/{}/set-up?notice=key-saved", source.id)))
}

/// `POST /sources/{source}/set-up/check-key`
pub async fn check_key(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let id = visit.source()?.id;
    console.set_up.check_write_key(id, visit.now).await?;
    Ok(see_other(&format!("/sources/{id}/set-up#write-key")))
}

/// `POST /sources/{source}/set-up/signing-secret`
pub async fn save_signing_secret(
    console: Data<Console>,
    visit: Visit,
    form: Form<SecretForm>,
) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let source = visit.source()?;
    let secret = match SigningSecret::parse(form.signing_secret.expose_secret().trim()) {
        Ok(secret) => secret,
        Err(error) => return again(&console, &visit, error.to_string()).await,
    };
    let edit = Edit { signing_secret: Some(secret), ..Edit::default() };
    console.admin.edit_source(&source.id.to_string(), edit, visit.now).await?;
    let detail = format!("{}: signing secret", source.name);
    console.record(&visit, Action::SourceChanged, &detail).await?;
    Ok(see_other(&format!("/sources/{}/set-up?notice=secret-saved", source.id)))
}

/// `POST /sources/{source}/set-up/test-events`
pub async fn send_test_events(
    console: Data<Console>,
    visit: Visit,
    form: Form<TestForm>,
) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let are_calls = visit.terms().are_calls;
    if form.sure != "yes" {
        let whom = if are_calls { "Nudgespot" } else { "all tools behind Segment" };
        return again(&console, &visit, format!("Nothing was sent: say that it may go to {whom}.")).await;
    }
    let kinds: &[event::Kind] = match (are_calls, form.kinds.as_str()) {
        (true, _) => &event::Kind::CALLS,
        (false, "all") => &event::Kind::EMAIL,
        (false, _) => &[event::Kind::Delivered],
    };
    let ids = console.set_up.send_test_events(source.id, kinds, visit.now).await?;
    let detail = format!("{}: {} events", source.name, ids.len());
    console.record(&visit, Action::TestEventsSent, &detail).await?;
    let notice = if are_calls { "test-calls-sent" } else { "test-sent" };
    let last = ids.last().map(String::as_str).unwrap_or_default();
    Ok(see_other(&format!("/sources/{}/set-up?notice={notice}&test={last}#test", source.id)))
}

/// The page once more, as what was asked for cannot be done.
async fn again(console: &Console, visit: &Visit, error: String) -> Result<HttpResponse, Failure> {
    if visit.terms().are_calls {
        set_up_calls::again(console, visit, error).await
    } else {
        page_again(&set_up(console, visit, None, Some(error)).await?)
    }
}

async fn set_up(
    console: &Console,
    visit: &Visit,
    test: Option<String>,
    error: Option<String>,
) -> Result<SetUpPage, Failure> {
    let Checklist { frame, source, key_check, seen, test, test_line, test_arrived, is_done } =
        Checklist::read(console, visit, test).await?;
    let kind = source.kind.parse::<Kind>().ok();
    let (sender, sender_steps) = match kind {
        Some(Kind::Resend) => (
            "Resend",
            "In Resend: Webhooks → Add webhook. Enter the address, choose the email events, and copy the signing secret that \
             it shows then.",
        ),
        _ => (
            "Nudgespot",
            "In Nudgespot: Settings → Integrations → Webhooks. Enter the address and the signing secret, and choose the \
             email events. Programs of your own can send as well: they sign as standardwebhooks.com describes.",
        ),
    };
    Ok(SetUpPage {
        frame,
        id: visit.source()?.id,
        may_change: visit.may_change,
        error,
        is_key_unknown: key_check.as_ref().is_some_and(KeyCheck::is_unknown),
        key_check,
        regions: [("us", "United States"), ("eu", "European Union")],
        sender,
        sender_steps,
        makes_secret: kind.is_none_or(|kind| !kind.sender_makes_secret()),
        can_test: source.has_signing_secret && source.write_key_last4.is_some(),
        seen,
        test,
        test_line,
        test_arrived,
        is_done,
        source,
    })
}
