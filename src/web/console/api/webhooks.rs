//! Webhooks that were refused, and what is wrong with signatures.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Query};
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::{ChangeProblems, Problems};
use super::{Page, Paging, invalid, json};
use crate::admin::doctor::{Judgement, PastedWebhook, REFUSED_PAGE, RefusedWebhookView};
use crate::domain::timestamp;

/// A webhook that is to be judged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookToJudge {
    /// Its headers, by name.
    #[schema(example = json!({"webhook-id": "msg_1", "webhook-timestamp": "1800000000", "webhook-signature": "v1,…"}))]
    headers: BTreeMap<String, String>,
    /// Its body, byte for byte.
    body: String,
    /// When it was received (ISO 8601 with zone): now, unless given.
    received_at: Option<String>,
}

/// The last webhooks that were refused because of their signature, newest first: one a second, 50 at most, for a day.
#[utoipa::path(get, path = "/api/v1/sources/{source}/refused-webhooks", tag = "signatures",
    params(("source" = Uuid, Path), Paging), responses((status = 200, body = Page<RefusedWebhookView>), Problems))]
pub async fn refused(console: Data<Console>, visit: Visit, paging: Query<Paging>) -> Result<HttpResponse, Failure> {
    let before = paging.cursor()?;
    let limit = paging.limit()?.min(REFUSED_PAGE);
    let found = console.admin.refused_webhooks(visit.source()?.id, before, limit).await?;
    Ok(json(&Page { data: found.webhooks, next_cursor: found.next.map(|next| next.to_string()) }))
}

/// Says what is wrong with a webhook's signature; never, which one would be right. Changes nothing.
#[utoipa::path(post, path = "/api/v1/sources/{source}/judge-signature", tag = "signatures",
    params(("source" = Uuid, Path)), request_body = WebhookToJudge,
    responses((status = 200, body = Judgement), Problems, ChangeProblems))]
pub async fn judge(console: Data<Console>, visit: Visit, body: Json<WebhookToJudge>) -> Result<HttpResponse, Failure> {
    let WebhookToJudge { headers, body, received_at } = body.into_inner();
    let parse = |text: String| {
        timestamp::parse(&text).ok_or_else(|| invalid("received_at", "a time reads like 2016-01-27T09:15:00Z"))
    };
    let received_at = received_at.map(parse).transpose()?.unwrap_or(visit.now);
    let webhook = PastedWebhook { headers: headers.into_iter().collect(), body: body.into_bytes(), received_at };
    Ok(json(&console.admin.judge_signature(visit.source()?.id, &webhook).await?))
}
