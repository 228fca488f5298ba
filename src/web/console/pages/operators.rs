//! One of the service's operators: a new link, and the end of it.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use askama::Template;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::shown_once::{About, lead_to_link};
use super::utc;
use crate::admin::AdminError;
use crate::admin::audit::Action;
use crate::admin::people::OperatorView;
use crate::domain::email_address::EmailAddress;

#[derive(Template)]
#[template(path = "operator_person.html")]
struct OperatorPage {
    frame: Frame,
    operator: OperatorView,
    is_self: bool,
    added: String,
    last_seen: Option<String>,
    error: Option<String>,
}

/// `GET /operator/people/{person}`
pub async fn show(console: Data<Console>, visit: Visit, person: Path<Uuid>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    page(&operator_page(&visit, find(&console, *person).await?, None))
}

/// `POST /operator/people/{person}/link`
pub async fn make_link(console: Data<Console>, visit: Visit, person: Path<Uuid>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let found = find(&console, *person).await?;
    let address = EmailAddress::parse(&found.email).map_err(|error| Failure::Invalid(error.to_string()))?;
    let invited = console.admin.invite_operator(&address).await?;
    console.record(&visit, Action::LinkMade, address.as_str()).await?;
    lead_to_link(&console, &visit, About::Service, &invited, &found.email, "/operator".to_owned()).await
}

/// `POST /operator/people/{person}/remove`
pub async fn remove(console: Data<Console>, visit: Visit, person: Path<Uuid>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let found = find(&console, *person).await?;
    match console.admin.remove_operator(*person).await {
        Err(error @ AdminError::LastOperator) => {
            return page_again(&operator_page(&visit, found, Some(error.to_string())));
        }
        removed => removed?,
    }
    console.record(&visit, Action::OperatorRemoved, &found.email).await?;
    Ok(see_other(if is_self(&visit, *person) { "/" } else { "/operator?notice=removed" }))
}

async fn find(console: &Console, person: Uuid) -> Result<OperatorView, Failure> {
    let operators = console.admin.list_operators().await?;
    operators.into_iter().find(|operator| operator.person_id == person).ok_or(Failure::NotFound)
}

fn is_self(visit: &Visit, person: Uuid) -> bool {
    visit.person().is_some_and(|own| own.person_id == person)
}

fn operator_page(visit: &Visit, operator: OperatorView, error: Option<String>) -> OperatorPage {
    OperatorPage {
        frame: Frame::new(visit, ""),
        is_self: is_self(visit, operator.person_id),
        added: utc(&operator.added_at),
        last_seen: operator.last_seen_at.as_deref().map(utc),
        operator,
        error,
    }
}
