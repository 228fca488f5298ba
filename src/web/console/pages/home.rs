//! `/`: where a person belongs.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, see_other};
use super::super::visit::{AccountRef, Visit};

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    accounts: Vec<AccountRef>,
}

/// The only source, the only account, the operator's page, or a choice.
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let person = visit.person().ok_or(Failure::SignedOut)?;
    let accounts: Vec<_> = person
        .memberships
        .iter()
        .map(|membership| AccountRef { id: membership.account_id, name: membership.account_name.clone() })
        .collect();
    match accounts.as_slice() {
        [] if person.is_operator => Ok(see_other("/operator")),
        [only] => match console.admin.sources_of(only.id).await?.as_slice() {
            [source] => Ok(see_other(&format!("/sources/{}", source.source_id))),
            _ => Ok(see_other(&format!("/accounts/{}", only.id))),
        },
        _ => page(&Home { frame: Frame::new(&visit, ""), accounts }),
    }
}
