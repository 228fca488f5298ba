//! The audit log.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::Problems;
use super::{Page, Paging, json};
use crate::admin::audit::AuditView;

/// What was done to an account, newest first.
#[utoipa::path(get, path = "/api/v1/accounts/{account}/audit", tag = "audit", params(("account" = Uuid, Path), Paging),
    responses((status = 200, body = Page<AuditView>), Problems))]
pub async fn list(console: Data<Console>, visit: Visit, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    let account = visit.account()?.id;
    page(&console, Some(account), &paging).await
}

/// All that was done, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Paging),
    responses((status = 200, body = Page<AuditView>), Problems))]
pub async fn list_all(console: Data<Console>, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    page(&console, None, &paging).await
}

async fn page(console: &Console, account: Option<Uuid>, paging: &Paging) -> Result<HttpResponse, Failure> {
    let before = paging.cursor()?;
    let found = console.admin.audit_log(account, before, paging.limit()?).await?;
    Ok(json(&Page { data: found.entries, next_cursor: found.next.map(|next| next.to_string()) }))
}
