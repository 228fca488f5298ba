//! The tokens that open this API.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::{ChangeProblems, Problems};
use super::{Page, Paging, created, done, invalid, page_of};
use crate::admin::audit::Action;
use crate::admin::tokens::{TokenRequest, TokenView, TokensOf};
use crate::domain::name::Name;
use crate::domain::timestamp;

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for: 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `write` unless given: `read` changes nothing.
    #[schema(pattern = "^(read|write)$")]
    access: Option<String>,
    /// Until when it counts; until it is revoked, unless given.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// A token that was made.
#[derive(Serialize, ToSchema)]
pub struct TokenCreated {
    /// Its id.
    token_id: Uuid,
    /// The token, which is shown only now.
    token: String,
}

/// The tokens of an account, newest first, without what proves them.
#[utoipa::path(get, path = "/api/v1/accounts/{account}/tokens", tag = "tokens",
    params(("account" = Uuid, Path), Paging), responses((status = 200, body = Page<TokenView>), Problems))]
pub async fn list(console: Data<Console>, visit: Visit, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    let which = TokensOf::Account(visit.account()?.id);
    Ok(page_of(console.admin.tokens_after(which, paging.cursor()?, paging.limit()?).await?))
}

/// Makes a token for an account.
#[utoipa::path(post, path = "/api/v1/accounts/{account}/tokens", tag = "tokens", params(("account" = Uuid, Path)),
    request_body = NewToken, responses((status = 201, body = TokenCreated), Problems, ChangeProblems))]
pub async fn create(console: Data<Console>, visit: Visit, body: Json<NewToken>) -> Result<HttpResponse, Failure> {
    let account = visit.account()?.id;
    make(&console, &visit, Some(account), &body).await
}

/// Revokes a token of an account. It counts no more at once.
#[utoipa::path(delete, path = "/api/v1/accounts/{account}/tokens/{token}", tag = "tokens",
    params(("account" = Uuid, Path), ("token" = Uuid, Path)), responses((status = 204), Problems))]
pub async fn revoke(console: Data<Console>, visit: Visit, path: Path<(Uuid, Uuid)>) -> Result<HttpResponse, Failure> {
    let account = visit.account()?.id;
    let (name, account) = console.admin.revoke_token(path.1, Some(account)).await?;
    console.admin.record(&visit.actor(), account, Action::TokenRevoked, &name).await?;
    Ok(done())
}

/// The tokens for all accounts, newest first, without what proves them.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", params(Paging),
    responses((status = 200, body = Page<TokenView>), Problems))]
pub async fn list_for_all(console: Data<Console>, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    let which = TokensOf::Operators;
    Ok(page_of(console.admin.tokens_after(which, paging.cursor()?, paging.limit()?).await?))
}

/// Makes a token for all accounts.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, body = TokenCreated), Problems, ChangeProblems))]
pub async fn create_for_all(
    console: Data<Console>,
    visit: Visit,
    body: Json<NewToken>,
) -> Result<HttpResponse, Failure> {
    make(&console, &visit, None, &body).await
}

/// Revokes a token for all accounts. It counts no more at once.
#[utoipa::path(delete, path = "/api/v1/tokens/{token}", tag = "tokens", params(("token" = Uuid, Path)),
    responses((status = 204), Problems))]
pub async fn revoke_for_all(console: Data<Console>, visit: Visit, token: Path<Uuid>) -> Result<HttpResponse, Failure> {
    let tokens = console.admin.list_tokens(TokensOf::Operators).await?;
    let found = tokens.iter().find(|found| found.token_id == *token).ok_or(Failure::NotFound)?;
    let (name, account) = console.admin.revoke_token(found.token_id, None).await?;
    console.admin.record(&visit.actor(), account, Action::TokenRevoked, &name).await?;
    Ok(done())
}

async fn make(
    console: &Console,
    visit: &Visit,
    account: Option<Uuid>,
    new: &NewToken,
) -> Result<HttpResponse, Failure> {
    let name = Name::parse(&new.name).map_err(|error| invalid("name", error))?;
    let may_write = match new.access.as_deref() {
        None | Some("write") => true,
        Some("read") => false,
        Some(_) => return Err(invalid("access", "it is `read` or `write`")),
    };
    let expires_at = match &new.expires_at {
        None => None,
        Some(text) => {
            let at = timestamp::parse(text)
                .ok_or_else(|| invalid("expires_at", "a time reads like 2026-01-27T09:15:00Z"))?;
            if at <= visit.now {
                return Err(invalid("expires_at", "this time is over"));
            }
            Some(at)
        }
    };
    let (request, actor) = (TokenRequest { name, account, may_write, expires_at }, visit.actor());
    let made = console.admin.create_token(&request, &actor.name).await?;
    console.admin.record(&actor, account, Action::TokenCreated, &request.describe()).await?;
    Ok(created(&TokenCreated { token_id: made.token_id, token: made.token.expose().to_owned() }))
}
