//! One-time links: how people get in first, and again. To look at one does not use it up: mail programs look, too.

use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::super::failure::Failure;
use super::super::frame::{Frame, exact, page, page_again, see_other};
use super::super::visit::Visit;
use super::super::{Console, cookies};
use super::{client, sign_in};
use crate::admin::audit::{Action, Actor, ActorKind};
use crate::admin::links::LinkInfo;
use crate::admin::sessions::SignInError;
use crate::domain::email_address::EmailAddress;
use crate::domain::password::Password;
use crate::domain::timestamp::rfc3339;

#[derive(Template)]
#[template(path = "link.html")]
struct LinkPage {
    frame: Frame,
    error: Option<String>,
    is_first: bool,
    has_password: bool,
    account_name: Option<String>,
    email: String,
    expires: String,
    expires_iso: String,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct NewPassword {
    email: Option<String>,
    password: SecretString,
}

/// `GET /links/{token}`
pub async fn show(console: Data<Console>, visit: Visit, token: Path<String>) -> Result<HttpResponse, Failure> {
    let link = console.admin.find_link(&token).await?.ok_or_else(void)?;
    let email = link.email.clone().unwrap_or_default();
    page(&link_page(&visit, link, email, None))
}

/// `POST /links/{token}`
pub async fn redeem(
    console: Data<Console>,
    visit: Visit,
    token: Path<String>,
    request: HttpRequest,
    form: Form<NewPassword>,
) -> Result<HttpResponse, Failure> {
    let link = console.admin.find_link(&token).await?.ok_or_else(void)?;
    let typed = form.email.clone().unwrap_or_default();
    let email = link.email.clone().unwrap_or_else(|| typed.clone());
    let parsed = (EmailAddress::parse(&email), Password::parse(form.password.expose_secret()));
    let (address, password) = match parsed {
        (Ok(address), Ok(password)) => (address, password),
        (Err(error), _) => return page_again(&link_page(&visit, link, email, Some(error.to_string()))),
        (_, Err(error)) => return page_again(&link_page(&visit, link, email, Some(error.to_string()))),
    };
    let session = console.admin.redeem_link(&token, Some(&address), &password, client(&visit, &request)).await;
    let session = session.map_err(|error| match error {
        SignInError::LinkIsVoid => void(),
        error => error.into(),
    })?;
    let (kind, id) = (ActorKind::Person, Some(session.person_id));
    let actor = Actor { name: address.as_str().to_owned(), kind, id, address: visit.address };
    console.admin.record(&actor, None, Action::PasswordSet, "").await?;
    let mut response = see_other("/");
    sign_in::set(&mut response, &cookies::session(&console.origin, session.token.expose()))?;
    Ok(response)
}

fn link_page(visit: &Visit, link: LinkInfo, email: String, error: Option<String>) -> LinkPage {
    LinkPage {
        // Whoever is signed in here may be somebody else.
        frame: Frame::new(&Visit { who: None, ..visit.clone() }, ""),
        error,
        is_first: link.email.is_none(),
        has_password: link.has_password,
        account_name: link.account_name,
        email,
        expires: exact(link.expires_at),
        expires_iso: rfc3339(link.expires_at),
    }
}

fn void() -> Failure {
    Failure::Gone(
        "It has been used already, or is older than a day. Ask whoever sent it for another one; if you have used it, sign in."
            .to_owned(),
    )
}
