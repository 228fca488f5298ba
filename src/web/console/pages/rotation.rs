//! Another signing secret, another webhook URL.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form, Path};
use askama::Template;
use serde::Deserialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, exact, page, see_other};
use super::super::visit::Visit;
use crate::admin::Rotation;
use crate::admin::audit::Action;
use crate::admin::doctor::{Signer, WebhooksSeen};
use crate::domain::secret::SigningSecret;
use crate::domain::words::{since, span};

#[derive(Template)]
#[template(path = "rotate_secret.html")]
struct RotateSecret {
    frame: Frame,
    id: Uuid,
    /// What ends at once, where a rotation is under way.
    warning: Option<String>,
    last_seen: String,
}

#[derive(Template)]
#[template(path = "rotate_url.html")]
struct RotateUrl {
    frame: Frame,
    id: Uuid,
}

#[derive(Template)]
#[template(path = "shown_once.html")]
struct ShownOnce {
    frame: Frame,
    id: Uuid,
    source: String,
    secret: Option<String>,
    /// Of a source of calls.
    calls: Option<CallSecrets>,
}

/// What a source of calls has beside its secret.
struct CallSecrets {
    webhook_url: String,
    ingest_key: String,
}

impl CallSecrets {
    /// `None`: the source takes no calls, or there is no secret to be shown.
    async fn of(console: &Console, visit: &Visit, secret: Option<&str>) -> Result<Option<Self>, Failure> {
        let Some(secret) = secret.filter(|_| visit.terms().are_calls) else { return Ok(None) };
        let Ok(secret) = SigningSecret::parse(secret) else { return Ok(None) };
        let webhook_url = console.admin.source_page_view(visit.source()?.id).await?.webhook_url;
        Ok(Some(Self { webhook_url, ingest_key: secret.ingest_key() }))
    }
}

/// What the page sends.
#[derive(Deserialize)]
pub struct Sure {
    #[serde(default)]
    sure: String,
}

/// `GET /sources/{source}/rotate-secret`
pub async fn ask_secret(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let id = visit.source()?.id;
    let rotation = console.admin.rotation(id, visit.now).await?;
    let (warning, last_seen) = (warning(&rotation), last_signature(&rotation.seen, visit.now));
    page(&RotateSecret { frame: Frame::new(&visit, "Settings"), id, warning, last_seen })
}

/// `POST /sources/{source}/rotate-secret`
pub async fn rotate_secret(console: Data<Console>, visit: Visit, form: Form<Sure>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let (source, person) = (visit.source()?, visit.person().ok_or(Failure::SignedOut)?);
    let rotation = console.admin.rotation(source.id, visit.now).await?;
    if form.sure != "yes" && rotation.previous_until.is_some() {
        return Ok(see_other(&format!("/sources/{}/rotate-secret", source.id)));
    }
    let rotated = console.admin.rotate_secret(&source.id.to_string(), visit.now).await?;
    console.record(&visit, Action::SecretRotated, &source.name).await?;
    let secret = rotated.secret.expose();
    let shown = console.admin.keep_for_one_look(source.id, person.person_id, secret, visit.now).await?;
    Ok(see_other(&shown_once_path(source.id, shown)))
}

/// `GET /sources/{source}/shown-once/{id}`: works once.
pub async fn shown_once(
    console: Data<Console>,
    visit: Visit,
    path: Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, Failure> {
    let (source, person) = (visit.source()?, visit.person().ok_or(Failure::SignedOut)?);
    let secret = console.admin.look_once(source.id, path.1, person.person_id, visit.now).await?;
    if secret.is_some() {
        console.record(&visit, Action::SecretShown, &source.name).await?;
    }
    let calls = CallSecrets::of(&console, &visit, secret.as_deref()).await?;
    page(&ShownOnce {
        frame: Frame::new(&visit, "Settings"),
        id: source.id,
        source: source.name.clone(),
        secret,
        calls,
    })
}

/// `GET /sources/{source}/rotate-url`
pub async fn ask_url(visit: Visit) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    page(&RotateUrl { frame: Frame::new(&visit, "Settings"), id: visit.source()?.id })
}

/// `POST /sources/{source}/rotate-url`
pub async fn rotate_url(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let source = visit.source()?;
    console.admin.rotate_url(&source.id.to_string()).await?;
    console.record(&visit, Action::UrlRotated, &source.name).await?;
    Ok(see_other(&format!("/sources/{}/set-up?notice=url-rotated", source.id)))
}

/// Where a secret is shown, once.
pub(super) fn shown_once_path(source: Uuid, shown: Uuid) -> String {
    format!("/sources/{source}/shown-once/{shown}")
}

/// What a rotation ends at once, where the one before is not over.
fn warning(rotation: &Rotation) -> Option<String> {
    let until = exact(rotation.previous_until?);
    Some(if rotation.ends_secret_in_use() {
        format!(
            "A rotation is under way, and the sender still signs with the secret before it, which works until {until}. \
             That one stops at once: webhooks are refused until you have entered the newest secret at the sender."
        )
    } else {
        format!("A rotation is under way. The secret before it, which would work until {until}, stops at once.")
    })
}

/// Which secret signed the last webhook.
pub(super) fn last_signature(seen: &WebhooksSeen, now: OffsetDateTime) -> String {
    let (Some(at), Some(signer)) = (seen.last_verified_at, seen.last_signed_with) else {
        return "No webhook was verified yet.".to_owned();
    };
    let signer = match signer {
        Signer::Current => "the current secret",
        Signer::Previous => "the previous secret",
        Signer::Older => "a secret that does not count any more",
    };
    format!("Last webhook: signed with {signer}, {} ago.", span(since(at, now)))
}
