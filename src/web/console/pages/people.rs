//! The people of an account.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form, Path};
use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::shown_once::{About, lead_to_link};
use super::utc;
use crate::admin::AdminError;
use crate::admin::audit::Action;
use crate::admin::people::{Invited, Inviter, PersonView, Role, describe_invited};
use crate::domain::email_address::EmailAddress;

#[derive(Template)]
#[template(path = "people.html")]
struct PeoplePage {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    rows: Vec<Row>,
}

/// Somebody in the list.
struct Row {
    person: PersonView,
    is_self: bool,
    state: PersonState,
    /// When the person was seen last.
    last_seen: Option<String>,
}

/// How far a person has come.
struct PersonState {
    word: &'static str,
    class: &'static str,
}

#[derive(Template)]
#[template(path = "invite.html")]
struct Invite {
    frame: Frame,
    id: Uuid,
    email: String,
    is_viewer: bool,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "person.html")]
struct Person {
    frame: Frame,
    id: Uuid,
    row: Row,
    added: String,
    link_expires: Option<String>,
    error: Option<String>,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct InviteForm {
    email: String,
    role: String,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct RoleForm {
    role: String,
}

/// `GET /accounts/{account}/people`
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let id = visit.account()?.id;
    let people = console.admin.list_people(id).await?;
    let rows = people.into_iter().map(|person| row(&visit, person)).collect();
    page(&PeoplePage { frame: Frame::new(&visit, "People"), id, may_change: visit.may_change, rows })
}

/// `GET /accounts/{account}/invite`
pub async fn ask_invite(visit: Visit) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    page(&invite_page(&visit, String::new(), false, None)?)
}

/// `POST /accounts/{account}/invite`
pub async fn invite(console: Data<Console>, visit: Visit, form: Form<InviteForm>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let account = visit.account()?.id;
    let InviteForm { email, role } = form.into_inner();
    let role = match role.parse::<Role>() {
        Ok(role) => role,
        Err(error) => return page_again(&invite_page(&visit, email, false, Some(error.to_string()))?),
    };
    let address = match EmailAddress::parse(&email) {
        Ok(address) => address,
        Err(error) => {
            return page_again(&invite_page(&visit, email, role == Role::Viewer, Some(error.to_string()))?);
        }
    };
    let invited = match console.admin.invite(account, &address, role, inviter(&visit)).await {
        Err(error @ AdminError::BelongsElsewhere(_)) => {
            return page_again(&invite_page(&visit, email, role == Role::Viewer, Some(error.to_string()))?);
        }
        invited => invited?,
    };
    let detail = describe_invited(&address, role);
    console.record(&visit, Action::PersonInvited, &detail).await?;
    link_made(&console, &visit, account, address.as_str(), &invited).await
}

/// `GET /accounts/{account}/people/{person}`
pub async fn person(console: Data<Console>, visit: Visit, path: Path<(Uuid, Uuid)>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    page(&person_page(&console, &visit, path.1, None).await?)
}

/// `POST /accounts/{account}/people/{person}/role`
pub async fn change_role(
    console: Data<Console>,
    visit: Visit,
    path: Path<(Uuid, Uuid)>,
    form: Form<RoleForm>,
) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let (account, id) = (visit.account()?.id, path.1);
    let role: Role = form.role.parse().map_err(|_| Failure::Invalid("Choose a role.".to_owned()))?;
    let person = find(&console, account, id).await?;
    match console.admin.change_role(account, id, role).await {
        Err(error @ AdminError::LastAdmin) => {
            return page_again(&person_page(&console, &visit, id, Some(error.to_string())).await?);
        }
        changed => changed?,
    }
    let detail = format!("{} is {} now", person.email, role.as_str());
    console.record(&visit, Action::RoleChanged, &detail).await?;
    Ok(see_other(&format!("/accounts/{account}/people?notice=changed")))
}

/// `POST /accounts/{account}/people/{person}/link`
pub async fn make_link(
    console: Data<Console>,
    visit: Visit,
    path: Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let account = visit.account()?.id;
    let person = find(&console, account, path.1).await?;
    let address = EmailAddress::parse(&person.email).map_err(|error| Failure::Invalid(error.to_string()))?;
    // Who is there keeps his role.
    let invited = match console.admin.invite(account, &address, Role::Viewer, inviter(&visit)).await {
        Err(error @ AdminError::BelongsElsewhere(_)) => {
            return page_again(&person_page(&console, &visit, path.1, Some(error.to_string())).await?);
        }
        invited => invited?,
    };
    console.record(&visit, Action::LinkMade, address.as_str()).await?;
    link_made(&console, &visit, account, address.as_str(), &invited).await
}

/// `POST /accounts/{account}/people/{person}/remove`
pub async fn remove(console: Data<Console>, visit: Visit, path: Path<(Uuid, Uuid)>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let (account, id) = (visit.account()?.id, path.1);
    let person = find(&console, account, id).await?;
    match console.admin.remove_person(account, id).await {
        Err(error @ AdminError::LastAdmin) => {
            return page_again(&person_page(&console, &visit, id, Some(error.to_string())).await?);
        }
        removed => removed?,
    }
    console.record(&visit, Action::PersonRemoved, &person.email).await?;
    let is_self = visit.person().is_some_and(|own| own.person_id == id && !own.is_operator);
    let onward = if is_self { "/".to_owned() } else { format!("/accounts/{account}/people?notice=removed") };
    Ok(see_other(&onward))
}

/// As whom somebody invites: an operator's link counts for everybody.
pub fn inviter(visit: &Visit) -> Inviter {
    if visit.is_operator() { Inviter::Operator } else { Inviter::AccountAdmin }
}

async fn find(console: &Console, account: Uuid, person: Uuid) -> Result<PersonView, Failure> {
    let people = console.admin.list_people(account).await?;
    people.into_iter().find(|found| found.person_id == person).ok_or(Failure::NotFound)
}

fn invite_page(visit: &Visit, email: String, is_viewer: bool, error: Option<String>) -> Result<Invite, Failure> {
    Ok(Invite { frame: Frame::new(visit, "People"), id: visit.account()?.id, email, is_viewer, error })
}

async fn person_page(console: &Console, visit: &Visit, person: Uuid, error: Option<String>) -> Result<Person, Failure> {
    let id = visit.account()?.id;
    let found = find(console, id, person).await?;
    let (added, link_expires) = (utc(&found.added_at), found.link_expires_at.as_deref().map(utc));
    Ok(Person { frame: Frame::new(visit, "People"), id, row: row(visit, found), added, link_expires, error })
}

async fn link_made(
    console: &Console,
    visit: &Visit,
    account: Uuid,
    email: &str,
    invited: &Invited,
) -> Result<HttpResponse, Failure> {
    let onward = format!("/accounts/{account}/people");
    lead_to_link(console, visit, About::Account(account), invited, email, onward).await
}

fn row(visit: &Visit, person: PersonView) -> Row {
    let state = match (person.has_password, &person.link_expires_at) {
        (true, None) => PersonState { word: "Active", class: "good" },
        (true, Some(_)) => PersonState { word: "New link out", class: "waiting" },
        (false, Some(_)) => PersonState { word: "Invited", class: "waiting" },
        (false, None) => PersonState { word: "Link expired", class: "bad" },
    };
    Row {
        is_self: visit.person().is_some_and(|own| own.person_id == person.person_id),
        last_seen: person.last_seen_at.as_deref().map(utc),
        state,
        person,
    }
}
