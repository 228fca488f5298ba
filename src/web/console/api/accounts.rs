//! Accounts.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Query};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::{ChangeProblems, Problems};
use super::source_requests::NewSourceRequest;
use super::sources::SourceCreated;
use super::{Page, Paging, created, done, invalid, json, page_of};
use crate::admin::AccountView;
use crate::admin::audit::Action;
use crate::domain::name::Name;

/// An account to be made, with its first source.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Its first source.
    #[serde(default)]
    source: NewSourceRequest,
}

/// What to change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountChange {
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
}

/// An account as it is now.
#[derive(Serialize, ToSchema)]
pub struct AccountChanged {
    /// The account.
    account_id: Uuid,
    /// Its name.
    name: String,
}

/// The accounts that the token may see, by name.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "accounts", params(Paging),
    responses((status = 200, body = Page<AccountView>), Problems))]
pub async fn list(console: Data<Console>, visit: Visit, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    let limit = paging.limit()?;
    let accounts = console.admin.accounts_after(visit.token_account(), paging.name()?, limit).await?;
    Ok(page_of(accounts))
}

/// Makes an account, with its first source.
#[utoipa::path(post, path = "/api/v1/accounts", tag = "accounts", request_body = NewAccount,
    responses((status = 201, body = SourceCreated), Problems, ChangeProblems))]
pub async fn create(console: Data<Console>, visit: Visit, body: Json<NewAccount>) -> Result<HttpResponse, Failure> {
    let NewAccount { name, source } = body.into_inner();
    let name = Name::parse(&name).map_err(|error| invalid("name", error))?;
    let made = console.admin.create_account(&name, source.parse()?).await?;
    let (account, actor) = (Some(made.account_id), visit.actor());
    console.admin.record(&actor, account, Action::AccountCreated, name.as_str()).await?;
    Ok(created(&SourceCreated::from(made)))
}

/// An account, with its sources.
#[utoipa::path(get, path = "/api/v1/accounts/{account}", tag = "accounts", params(("account" = Uuid, Path)),
    responses((status = 200, body = AccountView), Problems))]
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    Ok(json(&console.admin.show_account(&visit.account()?.id.to_string()).await?))
}

/// Gives an account another name.
#[utoipa::path(patch, path = "/api/v1/accounts/{account}", tag = "accounts", params(("account" = Uuid, Path)),
    request_body = AccountChange, responses((status = 200, body = AccountChanged), Problems, ChangeProblems))]
pub async fn rename(console: Data<Console>, visit: Visit, body: Json<AccountChange>) -> Result<HttpResponse, Failure> {
    let account = visit.account()?;
    let name = match &body.name {
        None => account.name.clone(),
        Some(name) => {
            let name = Name::parse(name).map_err(|error| invalid("name", error))?;
            console.admin.rename_account(&account.id.to_string(), &name).await?;
            console.record(&visit, Action::AccountRenamed, name.as_str()).await?;
            name.as_str().to_owned()
        }
    };
    Ok(json(&AccountChanged { account_id: account.id, name }))
}

/// Deletes an account, its sources, and all that is kept of them.
#[utoipa::path(delete, path = "/api/v1/accounts/{account}", tag = "accounts", params(("account" = Uuid, Path)),
    responses((status = 204), Problems))]
pub async fn delete(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let account = visit.account()?;
    // First: a deletion that is broken off, and goes on by itself, is told of as well.
    console.record(&visit, Action::AccountDeleted, &account.name).await?;
    console.admin.delete_account(&account.id.to_string()).await?;
    Ok(done())
}
