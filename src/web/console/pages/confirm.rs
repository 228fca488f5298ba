//! The password, once more.

use actix_web::web::{Data, Form, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use secrecy::SecretString;
use serde::Deserialize;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::{Next, client};
use crate::admin::sessions::SignInError;

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm {
    frame: Frame,
    error: Option<String>,
    next: String,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct Given {
    password: SecretString,
}

/// `GET /confirm`
pub async fn show(visit: Visit, next: Query<Next>) -> Result<HttpResponse, Failure> {
    page(&Confirm { frame: Frame::new(&visit, ""), error: None, next: next.query() })
}

/// `POST /confirm`
pub async fn submit(
    console: Data<Console>,
    visit: Visit,
    next: Query<Next>,
    request: HttpRequest,
    form: Form<Given>,
) -> Result<HttpResponse, Failure> {
    let person = visit.person().ok_or(Failure::SignedOut)?;
    match console.admin.confirm_password(person, &form.password, client(&visit, &request)).await {
        Ok(()) => Ok(see_other(&next.path())),
        Err(SignInError::Wrong) => {
            let error = Some("That is not your password.".to_owned());
            page_again(&Confirm { frame: Frame::new(&visit, ""), error, next: next.query() })
        }
        Err(error) => Err(error.into()),
    }
}
