//! `/`: where a person belongs.

use actix_web::HttpResponse;
use askama::Template;

use super::super::failure::Failure;
use super::super::frame::{Frame, page, see_other};
use super::super::visit::{AccountRef, Visit};

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    accounts: Vec<AccountRef>,
}

/// The only account, the operator's page, or a choice.
pub async fn show(visit: Visit) -> Result<HttpResponse, Failure> {
    let person = visit.person().ok_or(Failure::SignedOut)?;
    let accounts: Vec<_> = person
        .memberships
        .iter()
        .map(|membership| AccountRef { id: membership.account_id, name: membership.account_name.clone() })
        .collect();
    match accounts.as_slice() {
        [] if person.is_operator => Ok(see_other("/operator")),
        [only] => Ok(see_other(&format!("/accounts/{}", only.id))),
        _ => page(&Home { frame: Frame::new(&visit, ""), accounts }),
    }
}
