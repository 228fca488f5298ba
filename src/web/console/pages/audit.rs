//! The audit log: that of an account, and (for operators) all of it.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page};
use super::super::visit::Visit;
use super::utc;
use crate::admin::audit::{AUDIT_PAGE, AuditView};

#[derive(Template)]
#[template(path = "audit.html")]
struct Audit {
    frame: Frame,
    is_of_all: bool,
    is_first: bool,
    entries: Vec<Row>,
    next: Option<i64>,
}

/// An entry.
struct Row {
    at: String,
    who: &'static str,
    entry: AuditView,
}

/// Where the page before ended.
#[derive(Deserialize)]
pub struct Before {
    before: Option<i64>,
}

/// `GET /accounts/{account}/audit`, `GET /operator/audit`
pub async fn show(console: Data<Console>, visit: Visit, place: Query<Before>) -> Result<HttpResponse, Failure> {
    let account = visit.account.as_ref().map(|account| account.id);
    let found = console.admin.audit_log(account, place.before, AUDIT_PAGE).await?;
    page(&Audit {
        frame: Frame::new(&visit, "Audit log"),
        is_of_all: account.is_none(),
        is_first: place.before.is_none(),
        entries: found.entries.into_iter().map(row).collect(),
        next: found.next,
    })
}

fn row(entry: AuditView) -> Row {
    let who = match entry.actor_kind.as_str() {
        "token" => "API token",
        "system" => "by itself",
        _ => "",
    };
    Row { at: utc(&entry.at), who, entry }
}
