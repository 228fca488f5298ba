//! The page that shows a secret, link or token, once. Forms lead to it by a redirect: loaded again, or gone back to, it has
//! nothing to show, and makes nothing anew.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, see_other};
use super::super::visit::Visit;
use crate::admin::audit::Action;
use crate::admin::people::Invited;
use crate::admin::shown_once::OneLook;
use crate::domain::secret::SigningSecret;

#[derive(Template)]
#[template(path = "shown_once.html")]
struct SecretPage {
    frame: Frame,
    id: Uuid,
    source: String,
    secret: String,
    /// Of a source of calls.
    calls: Option<CallSecrets>,
}

/// What a source of calls has beside its secret.
struct CallSecrets {
    webhook_url: String,
    ingest_key: String,
}

impl CallSecrets {
    /// `None`: the source takes no calls.
    async fn of(console: &Console, visit: &Visit, secret: &str) -> Result<Option<Self>, Failure> {
        let Some(secret) = SigningSecret::parse(secret).ok().filter(|_| visit.terms().are_calls) else {
            return Ok(None);
        };
        let webhook_url = console.admin.source_page_view(visit.source()?.id).await?.webhook_url;
        Ok(Some(Self { webhook_url, ingest_key: secret.ingest_key() }))
    }
}

#[derive(Template)]
#[template(path = "link_made.html")]
struct LinkPage {
    frame: Frame,
    email: String,
    link: String,
    onward: String,
}

#[derive(Template)]
#[template(path = "token_made.html")]
struct TokenPage {
    frame: Frame,
    base: String,
    name: String,
    token: String,
    example: String,
}

#[derive(Template)]
#[template(path = "shown_already.html")]
struct ShownAlready {
    frame: Frame,
    is_of_source: bool,
    base: String,
}

/// What a secret is about.
#[derive(Clone, Copy)]
pub(super) enum About {
    Source(Uuid),
    Account(Uuid),
    Service,
}

impl About {
    /// What the request's path names.
    fn of(visit: &Visit) -> Self {
        match (&visit.source, &visit.account) {
            (Some(source), _) => Self::Source(source.id),
            (None, Some(account)) => Self::Account(account.id),
            (None, None) => Self::Service,
        }
    }

    fn id(self) -> Uuid {
        match self {
            Self::Source(id) | Self::Account(id) => id,
            Self::Service => Uuid::nil(),
        }
    }

    fn base(self) -> String {
        match self {
            Self::Source(id) => format!("/sources/{id}"),
            Self::Account(id) => format!("/accounts/{id}"),
            Self::Service => "/operator".to_owned(),
        }
    }
}

/// Which secret.
#[derive(Deserialize)]
pub struct Place {
    id: Uuid,
}

/// Leads to the page that shows this, once, to who asks.
pub(super) async fn lead_to(
    console: &Console,
    visit: &Visit,
    about: About,
    look: &OneLook,
) -> Result<HttpResponse, Failure> {
    let person = visit.person().ok_or(Failure::SignedOut)?.person_id;
    let id = console.admin.keep_for_one_look(about.id(), person, look, visit.now).await?;
    Ok(see_other(&format!("{}/shown-once/{id}", about.base())))
}

/// Leads to the page that shows a one-time link, once. From there it goes on to a path.
pub(super) async fn lead_to_link(
    console: &Console,
    visit: &Visit,
    about: About,
    invited: &Invited,
    email: &str,
    onward: String,
) -> Result<HttpResponse, Failure> {
    let link = console.admin.link_url(&invited.link);
    lead_to(console, visit, about, &OneLook::Link { email: email.to_owned(), link, onward }).await
}

/// `GET /sources/{source}/shown-once/{id}`, and the same of an account and of the service: works once.
pub async fn show(console: Data<Console>, visit: Visit, path: Path<Place>) -> Result<HttpResponse, Failure> {
    let person = visit.person().ok_or(Failure::SignedOut)?.person_id;
    let about = About::of(&visit);
    let base = about.base();
    match console.admin.look_once(about.id(), path.id, person, visit.now).await? {
        Some(OneLook::SigningSecret(secret)) => {
            let source = visit.source()?;
            console.record(&visit, Action::SecretShown, &source.name).await?;
            let (id, source) = (source.id, source.name.clone());
            let calls = CallSecrets::of(&console, &visit, &secret).await?;
            page(&SecretPage { frame: Frame::new(&visit, "Settings"), id, source, secret, calls })
        }
        Some(OneLook::Link { email, link, onward }) => {
            page(&LinkPage { frame: Frame::new(&visit, "People"), email, link, onward })
        }
        Some(OneLook::Token { name, token }) => {
            let path = base.replace("/operator", "/accounts");
            let example = format!("{}/api/v1{path}", console.admin.console_url());
            page(&TokenPage { frame: Frame::new(&visit, "API tokens"), base, name, token, example })
        }
        None => {
            let is_of_source = matches!(about, About::Source(_));
            page(&ShownAlready { frame: Frame::new(&visit, ""), is_of_source, base })
        }
    }
}
