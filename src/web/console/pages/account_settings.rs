//! An account's name, and its end.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form};
use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::settings::Typed;
use crate::admin::AdminError;
use crate::admin::audit::Action;
use crate::domain::name::Name;

#[derive(Template)]
#[template(path = "rename_account.html")]
struct RenameAccount {
    frame: Frame,
    id: Uuid,
    name: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "delete_account.html")]
struct DeleteAccount {
    frame: Frame,
    id: Uuid,
    name: String,
    error: Option<String>,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct NameForm {
    name: String,
}

/// `GET /accounts/{account}/rename`
pub async fn ask_name(visit: Visit) -> Result<HttpResponse, Failure> {
    let name = visit.account()?.name.clone();
    page(&rename_page(&visit, name, None)?)
}

/// `POST /accounts/{account}/rename`
pub async fn rename(console: Data<Console>, visit: Visit, form: Form<NameForm>) -> Result<HttpResponse, Failure> {
    let (account, typed) = (visit.account()?, form.into_inner().name);
    let name = match Name::parse(&typed) {
        Ok(name) => name,
        Err(error) => return page_again(&rename_page(&visit, typed, Some(error.to_string()))?),
    };
    match console.admin.rename_account(&account.id.to_string(), &name).await {
        Err(error @ AdminError::AccountNameTaken(_)) => {
            return page_again(&rename_page(&visit, typed, Some(error.to_string()))?);
        }
        renamed => renamed?,
    }
    console.admin.record(&visit.actor(), Some(account.id), Action::AccountRenamed, name.as_str()).await?;
    Ok(see_other(&format!("/accounts/{}?notice=saved", account.id)))
}

/// `GET /accounts/{account}/delete`
pub async fn ask_delete(visit: Visit) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    page(&delete_page(&visit, None)?)
}

/// `POST /accounts/{account}/delete`
pub async fn delete(console: Data<Console>, visit: Visit, form: Form<Typed>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let account = visit.account()?;
    if form.typed.trim() != account.name {
        return page_again(&delete_page(&visit, Some("That is another name. Nothing was deleted.".to_owned()))?);
    }
    // First: a deletion that is broken off, and goes on by itself, is told of as well.
    console.admin.record(&visit.actor(), Some(account.id), Action::AccountDeleted, &account.name).await?;
    console.admin.delete_account(&account.id.to_string()).await?;
    Ok(see_other("/operator?notice=deleted"))
}

fn rename_page(visit: &Visit, name: String, error: Option<String>) -> Result<RenameAccount, Failure> {
    Ok(RenameAccount { frame: Frame::new(visit, "Sources"), id: visit.account()?.id, name, error })
}

fn delete_page(visit: &Visit, error: Option<String>) -> Result<DeleteAccount, Failure> {
    let account = visit.account()?;
    Ok(DeleteAccount { frame: Frame::new(visit, "Sources"), id: account.id, name: account.name.clone(), error })
}
