//! Leaving an account: what a person may do without its admins.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use askama::Template;
use uuid::Uuid;

use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::super::{Console, cookies};
use super::sign_in;
use crate::admin::AdminError;
use crate::admin::audit::Action;
use crate::admin::sessions::{Membership, SignedIn};

#[derive(Template)]
#[template(path = "leave.html")]
struct Leave {
    frame: Frame,
    membership: Membership,
    /// Whether nothing is left of the person then.
    is_all: bool,
    error: Option<String>,
}

/// `GET /profile/leave/{membership}`
pub async fn ask(visit: Visit, account: Path<Uuid>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    page(&leave_page(&visit, *account, None)?)
}

/// `POST /profile/leave/{membership}`
pub async fn leave(console: Data<Console>, visit: Visit, account: Path<Uuid>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let (person, membership) = find(&visit, *account)?;
    match console.admin.remove_person(membership.account_id, person.person_id).await {
        Err(error @ AdminError::LastAdmin) => {
            return page_again(&leave_page(&visit, *account, Some(format!("Nothing was changed: {error}.")))?);
        }
        removed => removed?,
    }
    let detail = format!("{}, who was {}", person.email, membership.role.as_str());
    console.admin.record(&visit.actor(), Some(membership.account_id), Action::AccountLeft, &detail).await?;
    if !is_all(person) {
        return Ok(see_other("/profile?notice=left"));
    }
    // Forgotten, with all sessions.
    let mut response = see_other("/sign-in?notice=left");
    sign_in::set(&mut response, &cookies::no_session(&console.origin))?;
    Ok(response)
}

/// Who asks, and what he has in that account.
fn find(visit: &Visit, account: Uuid) -> Result<(&SignedIn, &Membership), Failure> {
    let person = visit.person().ok_or(Failure::SignedOut)?;
    let membership = person.memberships.iter().find(|membership| membership.account_id == account);
    Ok((person, membership.ok_or(Failure::NotFound)?))
}

fn is_all(person: &SignedIn) -> bool {
    !person.is_operator && person.memberships.len() == 1
}

fn leave_page(visit: &Visit, account: Uuid, error: Option<String>) -> Result<Leave, Failure> {
    let (person, membership) = find(visit, account)?;
    Ok(Leave { frame: Frame::new(visit, ""), membership: membership.clone(), is_all: is_all(person), error })
}
