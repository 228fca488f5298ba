//! The tokens that open the API: those of an account, and (for operators) those for all.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form, Path};
use askama::Template;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::shown_once::{self, About};
use super::utc;
use crate::admin::audit::Action;
use crate::admin::shown_once::OneLook;
use crate::admin::tokens::{TokenRequest, TokenView, TokensOf};
use crate::domain::name::Name;

/// In how many days a token may expire; 0: never.
const DAYS: [(i64, &str); 4] = [(0, "never"), (30, "in 30 days"), (90, "in 90 days"), (365, "in a year")];

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokensPage {
    frame: Frame,
    base: String,
    is_for_all: bool,
    may_change: bool,
    rows: Vec<Row>,
}

/// A token in the list.
struct Row {
    token: TokenView,
    created: String,
    last_used: Option<String>,
    expires: Option<String>,
}

#[derive(Template)]
#[template(path = "new_token.html")]
struct NewToken {
    frame: Frame,
    base: String,
    is_for_all: bool,
    name: String,
    may_write: bool,
    days: i64,
    choices: [(i64, &'static str); 4],
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "revoke_token.html")]
struct RevokeToken {
    frame: Frame,
    base: String,
    row: Row,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct TokenForm {
    name: String,
    access: String,
    days: i64,
}

/// `GET /accounts/{account}/tokens`, `GET /operator/tokens`
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let rows = list(&console, &visit).await?.into_iter().map(row).collect();
    let (base, is_for_all) = (base(&visit), visit.account.is_none());
    let frame = Frame::new(&visit, "API tokens");
    page(&TokensPage { frame, base, is_for_all, may_change: visit.may_change, rows })
}

/// `GET /accounts/{account}/new-token`, `GET /operator/new-token`
pub async fn ask_new(visit: Visit) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    page(&new_page(&visit, TokenForm { name: String::new(), access: "read".to_owned(), days: 0 }, None))
}

/// `POST /accounts/{account}/new-token`, `POST /operator/new-token`
pub async fn create(console: Data<Console>, visit: Visit, form: Form<TokenForm>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let form = form.into_inner();
    let account = visit.account.as_ref().map(|account| account.id);
    let request = match parse(&form, account, visit.now) {
        Ok(request) => request,
        Err(error) => return page_again(&new_page(&visit, form, Some(error))),
    };
    let actor = visit.actor();
    let made = console.admin.create_token(&request, &actor.name).await?;
    console.admin.record(&actor, account, Action::TokenCreated, &request.describe()).await?;
    let look = OneLook::Token { name: request.name.as_str().to_owned(), token: made.token.expose().to_owned() };
    shown_once::lead_to(&console, &visit, account.map_or(About::Service, About::Account), &look).await
}

/// `GET /accounts/{account}/tokens/{token}`, `GET /operator/tokens/{token}`
pub async fn ask_revoke(console: Data<Console>, visit: Visit, path: Path<Place>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    let found = list(&console, &visit).await?.into_iter().find(|token| token.token_id == path.token);
    let row = row(found.ok_or(Failure::NotFound)?);
    page(&RevokeToken { frame: Frame::new(&visit, "API tokens"), base: base(&visit), row })
}

/// `POST /accounts/{account}/tokens/{token}`, `POST /operator/tokens/{token}`
pub async fn revoke(console: Data<Console>, visit: Visit, path: Path<Place>) -> Result<HttpResponse, Failure> {
    visit.needs_password()?;
    // Of an operator's page, only what it lists.
    if !list(&console, &visit).await?.iter().any(|token| token.token_id == path.token) {
        return Err(Failure::NotFound);
    }
    let account = visit.account.as_ref().map(|account| account.id);
    let (name, account) = console.admin.revoke_token(path.token, account).await?;
    console.admin.record(&visit.actor(), account, Action::TokenRevoked, &name).await?;
    Ok(see_other(&format!("{}/tokens?notice=revoked", base(&visit))))
}

/// Which token.
#[derive(Deserialize)]
pub struct Place {
    token: Uuid,
}

/// The tokens of the account, or those for all accounts.
async fn list(console: &Console, visit: &Visit) -> Result<Vec<TokenView>, Failure> {
    let which = visit.account.as_ref().map_or(TokensOf::Operators, |account| TokensOf::Account(account.id));
    Ok(console.admin.list_tokens(which).await?)
}

fn parse(form: &TokenForm, account: Option<Uuid>, now: OffsetDateTime) -> Result<TokenRequest, String> {
    let days = DAYS.iter().find(|(days, _)| *days == form.days).ok_or("Choose when it expires.")?.0;
    let may_write = match form.access.as_str() {
        "read" => false,
        "write" => true,
        _ => return Err("Choose its access.".to_owned()),
    };
    let name = Name::parse(&form.name).map_err(|error| error.to_string())?;
    Ok(TokenRequest { name, account, may_write, expires_at: (days > 0).then(|| now + Duration::days(days)) })
}

fn new_page(visit: &Visit, form: TokenForm, error: Option<String>) -> NewToken {
    NewToken {
        frame: Frame::new(visit, "API tokens"),
        base: base(visit),
        is_for_all: visit.account.is_none(),
        name: form.name,
        may_write: form.access == "write",
        days: form.days,
        choices: DAYS,
        error,
    }
}

/// Where these pages are.
fn base(visit: &Visit) -> String {
    visit.account.as_ref().map_or_else(|| "/operator".to_owned(), |account| format!("/accounts/{}", account.id))
}

fn row(token: TokenView) -> Row {
    Row {
        created: utc(&token.created_at),
        last_used: token.last_used_at.as_deref().map(utc),
        expires: token.expires_at.as_deref().map(utc),
        token,
    }
}
