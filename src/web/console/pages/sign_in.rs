//! Signing in, and out.

use actix_web::http::header::RETRY_AFTER;
use actix_web::web::{Data, Form, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use secrecy::SecretString;
use serde::Deserialize;

use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::super::{Console, cookies};
use super::{Next, client};
use crate::admin::audit::{Action, Actor, ActorKind};
use crate::admin::sessions::SignInError;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    frame: Frame,
    error: Option<String>,
    email: String,
    /// The query that leads on.
    next: String,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct Credentials {
    email: String,
    password: SecretString,
}

/// `GET /sign-in`
pub async fn show(visit: Visit, next: Query<Next>) -> Result<HttpResponse, Failure> {
    if visit.person().is_some() {
        return Ok(see_other(&next.path()));
    }
    page(&SignIn { frame: Frame::new(&visit, ""), error: None, email: String::new(), next: next.query() })
}

/// `POST /sign-in`
pub async fn submit(
    console: Data<Console>,
    visit: Visit,
    next: Query<Next>,
    request: HttpRequest,
    form: Form<Credentials>,
) -> Result<HttpResponse, Failure> {
    let Credentials { email, password } = form.into_inner();
    match console.admin.sign_in(&email, &password, client(&visit, &request)).await {
        Ok(session) => {
            let actor = Actor {
                name: email.trim().to_lowercase(),
                kind: ActorKind::Person,
                id: Some(session.person_id),
                address: visit.address,
            };
            console.admin.record(&actor, None, Action::SignedIn, "").await?;
            let mut response = see_other(&next.path());
            set(&mut response, &cookies::session(&console.origin, session.token.expose()))?;
            Ok(response)
        }
        Err(error @ SignInError::Database(_)) => Err(error.into()),
        Err(error) => {
            let failure = Failure::from(error);
            let detail = failure.detail();
            let page = SignIn { frame: Frame::new(&visit, ""), error: Some(detail), email, next: next.query() };
            let mut response = page_again(&page)?;
            *response.status_mut() = actix_web::ResponseError::status_code(&failure);
            if let Some(seconds) = failure.retry_after() {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            Ok(response)
        }
    }
}

/// `POST /sign-out`: whoever comes here is signed out afterwards, signed in or not.
pub async fn sign_out(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    if let Some(person) = visit.person() {
        console.admin.sign_out(person.person_id, person.session_id).await?;
        console.record(&visit, Action::SignedOut, "").await?;
    }
    let mut response = see_other("/sign-in?notice=signed-out");
    set(&mut response, &cookies::no_session(&console.origin))?;
    Ok(response)
}

/// Adds a cookie to an answer.
pub(super) fn set(response: &mut HttpResponse, cookie: &actix_web::cookie::Cookie<'_>) -> Result<(), Failure> {
    response.add_cookie(cookie).map_err(|error| Failure::Unavailable(error.to_string()))
}
