//! Another signing secret, another webhook URL.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form};
use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, exact, page, see_other};
use super::super::visit::Visit;
use super::shown_once::{self, About};
use crate::admin::Rotation;
use crate::admin::audit::Action;
use crate::admin::doctor::{Signer, WebhooksSeen};
use crate::admin::shown_once::OneLook;
use crate::domain::words::{since, span};

#[derive(Template)]
#[template(path = "rotate_secret.html")]
struct RotateSecret {
    frame: Frame,
    id: Uuid,
    /// What ends at once, where the previous secret still works.
    warning: Option<String>,
    /// Whether that is the one that signs.
    ends_secret_in_use: bool,
    /// Whether anything was signed with this source's secrets.
    is_in_use: bool,
    last_seen: String,
}

#[derive(Template)]
#[template(path = "end_previous_secret.html")]
struct EndPrevious {
    frame: Frame,
    id: Uuid,
    /// Until when the previous secret works; `None`: it does not.
    until: Option<String>,
    is_current_seen: bool,
    last_seen: String,
}

#[derive(Template)]
#[template(path = "rotate_url.html")]
struct RotateUrl {
    frame: Frame,
    id: Uuid,
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
    let (warning, last_seen) = (warning(&rotation, visit.terms().are_calls), last_signature(&rotation.seen, &visit));
    page(&RotateSecret {
        frame: Frame::new(&visit, "Settings"),
        id,
        warning,
        ends_secret_in_use: rotation.ends_secret_in_use(),
        is_in_use: rotation.seen.last_signed_with.is_some(),
        last_seen,
    })
}

/// `POST /sources/{source}/rotate-secret`
pub async fn rotate_secret(console: Data<Console>, visit: Visit, form: Form<Sure>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let source = visit.source()?;
    let rotation = console.admin.rotation(source.id, visit.now).await?;
    if form.sure != "yes" && rotation.previous_until.is_some() {
        return Ok(see_other(&format!("/sources/{}/rotate-secret", source.id)));
    }
    let rotated = console.admin.rotate_secret(&source.id.to_string(), visit.now).await?;
    console.record(&visit, Action::SecretRotated, &source.name).await?;
    let look = OneLook::SigningSecret(rotated.secret.expose().to_owned());
    shown_once::lead_to(&console, &visit, About::Source(source.id), &look).await
}

/// `GET /sources/{source}/end-previous-secret`
pub async fn ask_end_previous(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let id = visit.source()?.id;
    let rotation = console.admin.rotation(id, visit.now).await?;
    page(&EndPrevious {
        frame: Frame::new(&visit, "Settings"),
        id,
        until: rotation.previous_until.map(exact),
        is_current_seen: rotation.is_current_seen(),
        last_seen: last_signature(&rotation.seen, &visit),
    })
}

/// `POST /sources/{source}/end-previous-secret`
pub async fn end_previous(console: Data<Console>, visit: Visit, form: Form<Sure>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let source = visit.source()?;
    let rotation = console.admin.rotation(source.id, visit.now).await?;
    if form.sure != "yes" && !rotation.is_current_seen() {
        return Ok(see_other(&format!("/sources/{}/end-previous-secret", source.id)));
    }
    if console.admin.end_previous_secret(source.id).await? {
        console.record(&visit, Action::PreviousSecretEnded, &source.name).await?;
    }
    Ok(see_other(&format!("/sources/{}/settings?notice=previous-secret-ended", source.id)))
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

/// What another secret ends at once, where the previous one still works.
fn warning(rotation: &Rotation, are_calls: bool) -> Option<String> {
    let until = exact(rotation.previous_until?);
    let secret = if are_calls { "shared secret and ingest key" } else { "secret" };
    Some(match (rotation.ends_secret_in_use(), are_calls) {
        (true, false) => format!(
            "The sender still signs with the previous secret, which works until {until}. That one stops at once: webhooks are \
             refused until you have entered the newest secret at the sender."
        ),
        (true, true) => format!(
            "What comes still uses the previous {secret}, which work until {until}. Those stop at once: requests are refused \
             until you have entered the newest ones."
        ),
        (false, _) => {
            let stop = if are_calls { "stop" } else { "stops" };
            format!("The previous {secret}, which would work until {until}, {stop} at once.")
        }
    })
}

/// Which secret signed the last webhook, or made the key that came with the last call.
pub(super) fn last_signature(seen: &WebhooksSeen, visit: &Visit) -> String {
    let are_calls = visit.terms().are_calls;
    let (Some(at), Some(signer)) = (seen.last_verified_at, seen.last_signed_with) else {
        return format!("No {} was verified yet.", if are_calls { "request" } else { "webhook" });
    };
    let ago = span(since(at, visit.now));
    let signer = match signer {
        Signer::Current => "the current",
        Signer::Previous => "the previous",
        Signer::Older => "an ended",
    };
    if are_calls {
        format!("Last request: came with {signer} shared secret or ingest key, {ago} ago.")
    } else {
        format!("Last webhook: signed with {signer} secret, {ago} ago.")
    }
}
