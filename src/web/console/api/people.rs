//! Who may see and change an account; the operators of the service.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::{ChangeProblems, Problems};
use super::{Page, Paging, created, done, invalid, json, page_of};
use crate::admin::audit::Action;
use crate::admin::people::{Inviter, OperatorView, PersonView, Role, describe_invited};
use crate::domain::email_address::EmailAddress;

/// Somebody to be let in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPerson {
    /// The address.
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// `admin` unless given. Who is there already keeps his role.
    #[schema(pattern = "^(admin|viewer)$")]
    role: Option<String>,
}

/// An operator to be let in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOperator {
    /// The address.
    #[schema(format = "email", max_length = 254)]
    email: String,
}

/// Somebody who was let in.
#[derive(Serialize, ToSchema)]
pub struct PersonInvited {
    /// The person.
    person_id: Uuid,
    /// A one-time link, which is shown only now.
    link: String,
}

/// What to change of a person.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonChange {
    /// What the person may do.
    #[schema(pattern = "^(admin|viewer)$")]
    role: Option<String>,
}

/// The people of an account, by address.
#[utoipa::path(get, path = "/api/v1/accounts/{account}/people", tag = "people",
    params(("account" = Uuid, Path), Paging), responses((status = 200, body = Page<PersonView>), Problems))]
pub async fn list(console: Data<Console>, visit: Visit, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    Ok(page_of(console.admin.people_after(visit.account()?.id, paging.name()?, paging.limit()?).await?))
}

/// Lets a person see an account, or makes a new link for one who does. A person who has access to anything else is let
/// in by operators only.
#[utoipa::path(post, path = "/api/v1/accounts/{account}/people", tag = "people", params(("account" = Uuid, Path)),
    request_body = NewPerson, responses((status = 201, body = PersonInvited), Problems, ChangeProblems))]
pub async fn invite(console: Data<Console>, visit: Visit, body: Json<NewPerson>) -> Result<HttpResponse, Failure> {
    let account = visit.account()?.id;
    let email = EmailAddress::parse(&body.email).map_err(|error| invalid("email", error))?;
    let role = body.role.as_deref().map_or(Ok(Role::Admin), parse_role)?;
    let by = if visit.is_operator() { Inviter::Operator } else { Inviter::AccountAdmin };
    let invited = console.admin.invite(account, &email, role, by).await?;
    let detail = describe_invited(&email, role);
    console.record(&visit, Action::PersonInvited, &detail).await?;
    let link = console.admin.link_url(&invited.link);
    Ok(created(&PersonInvited { person_id: invited.person_id, link }))
}

/// Gives a person another role. The last admin of an account stays one.
#[utoipa::path(patch, path = "/api/v1/accounts/{account}/people/{person}", tag = "people",
    params(("account" = Uuid, Path), ("person" = Uuid, Path)), request_body = PersonChange,
    responses((status = 200, body = PersonView), Problems, ChangeProblems))]
pub async fn change_role(
    console: Data<Console>,
    visit: Visit,
    path: Path<(Uuid, Uuid)>,
    body: Json<PersonChange>,
) -> Result<HttpResponse, Failure> {
    let (account, id) = (visit.account()?.id, path.1);
    let person = find(&console, account, id).await?;
    let Some(role) = body.role.as_deref().map(parse_role).transpose()? else { return Ok(json(&person)) };
    console.admin.change_role(account, id, role).await?;
    let detail = format!("{} is {} now", person.email, role.as_str());
    console.record(&visit, Action::RoleChanged, &detail).await?;
    Ok(json(&find(&console, account, id).await?))
}

/// Takes an account away from a person. The last admin stays.
#[utoipa::path(delete, path = "/api/v1/accounts/{account}/people/{person}", tag = "people",
    params(("account" = Uuid, Path), ("person" = Uuid, Path)),
    responses((status = 204), (status = 409, body = super::openapi::Problem, content_type = "application/problem+json",
        description = "It is the last admin."), Problems))]
pub async fn remove(console: Data<Console>, visit: Visit, path: Path<(Uuid, Uuid)>) -> Result<HttpResponse, Failure> {
    let (account, id) = (visit.account()?.id, path.1);
    let person = find(&console, account, id).await?;
    console.admin.remove_person(account, id).await?;
    console.record(&visit, Action::PersonRemoved, &person.email).await?;
    Ok(done())
}

/// The operators of the service, by address.
#[utoipa::path(get, path = "/api/v1/operators", tag = "people", params(Paging),
    responses((status = 200, body = Page<OperatorView>), Problems))]
pub async fn list_operators(console: Data<Console>, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    Ok(page_of(console.admin.operators_after(paging.name()?, paging.limit()?).await?))
}

/// Lets a person see and change all accounts, or makes a new link for one who does.
#[utoipa::path(post, path = "/api/v1/operators", tag = "people", request_body = NewOperator,
    responses((status = 201, body = PersonInvited), Problems, ChangeProblems))]
pub async fn invite_operator(
    console: Data<Console>,
    visit: Visit,
    body: Json<NewOperator>,
) -> Result<HttpResponse, Failure> {
    let email = EmailAddress::parse(&body.email).map_err(|error| invalid("email", error))?;
    let invited = console.admin.invite_operator(&email).await?;
    console.record(&visit, Action::OperatorInvited, email.as_str()).await?;
    let link = console.admin.link_url(&invited.link);
    Ok(created(&PersonInvited { person_id: invited.person_id, link }))
}

/// Makes an operator an ordinary person. The last one stays.
#[utoipa::path(delete, path = "/api/v1/operators/{person}", tag = "people", params(("person" = Uuid, Path)),
    responses((status = 204), (status = 409, body = super::openapi::Problem, content_type = "application/problem+json",
        description = "It is the last operator."), Problems))]
pub async fn remove_operator(
    console: Data<Console>,
    visit: Visit,
    person: Path<Uuid>,
) -> Result<HttpResponse, Failure> {
    let operators = console.admin.list_operators().await?;
    let found = operators.iter().find(|operator| operator.person_id == *person).ok_or(Failure::NotFound)?;
    console.admin.remove_operator(found.person_id).await?;
    console.record(&visit, Action::OperatorRemoved, &found.email).await?;
    Ok(done())
}

async fn find(console: &Console, account: Uuid, person: Uuid) -> Result<PersonView, Failure> {
    let people = console.admin.list_people(account).await?;
    people.into_iter().find(|found| found.person_id == person).ok_or(Failure::NotFound)
}

fn parse_role(text: &str) -> Result<Role, Failure> {
    text.parse().map_err(|error| invalid("role", error))
}
