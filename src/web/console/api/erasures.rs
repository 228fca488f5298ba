//! Erasing recipients.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::{ChangeProblems, Problems};
use super::{Page, Paging, accepted, invalid, json, page_of};
use crate::admin::audit::Action;
use crate::admin::{ErasureView, Recipient};

/// Who is to be erased: by one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// Every event in which the address stands, whatever the case.
    #[schema(example = "jane@example.com")]
    email: Option<String>,
    /// Every event whose recipient has exactly this id at the sender.
    uid: Option<String>,
}

/// Erases a recipient from all sources of the account, for good. In the background; the receipt says what was removed,
/// what stays, and what cannot be reached.
#[utoipa::path(post, path = "/api/v1/accounts/{account}/erase", tag = "erasure", params(("account" = Uuid, Path)),
    request_body = EraseRequest, responses((status = 202, body = ErasureView), Problems, ChangeProblems))]
pub async fn erase(console: Data<Console>, visit: Visit, body: Json<EraseRequest>) -> Result<HttpResponse, Failure> {
    let account = visit.account()?.id;
    let recipient = match (&body.email, &body.uid) {
        (Some(email), None) => Recipient::email(email).map_err(|error| invalid("email", error))?,
        (None, Some(uid)) => Recipient::uid(uid).map_err(|error| invalid("uid", error))?,
        _ => return Err(Failure::Invalid("Say whom: `email` or `uid`, one of the two.".to_owned())),
    };
    let actor = visit.actor();
    let erasure = console.admin.erase(account, &recipient, &actor.name).await?;
    console.admin.record(&actor, Some(account), Action::RecipientErased, &recipient.masked()).await?;
    Ok(accepted(&erasure))
}

/// The erasures of an account, newest first.
#[utoipa::path(get, path = "/api/v1/accounts/{account}/erasures", tag = "erasure",
    params(("account" = Uuid, Path), Paging), responses((status = 200, body = Page<ErasureView>), Problems))]
pub async fn list(console: Data<Console>, visit: Visit, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    let account = visit.account()?.id;
    Ok(page_of(console.admin.erasures_after(account, paging.cursor()?, paging.limit()?).await?))
}

/// How an erasure stands: its receipt, once it is done.
#[utoipa::path(get, path = "/api/v1/accounts/{account}/erasures/{erasure}", tag = "erasure",
    params(("account" = Uuid, Path), ("erasure" = Uuid, Path)),
    responses((status = 200, body = ErasureView), Problems))]
pub async fn show(console: Data<Console>, visit: Visit, at: Path<(Uuid, Uuid)>) -> Result<HttpResponse, Failure> {
    Ok(json(&console.admin.erasure(visit.account()?.id, at.1).await?.ok_or(Failure::NotFound)?))
}
