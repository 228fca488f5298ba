//! How sources are doing.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;
use super::openapi::Problems;
use super::{done, json};
use crate::admin::audit::Action;
use crate::admin::overview::{DeliveryHealth, Overview, TrafficBucket, TrafficRange};
use crate::domain::timestamp::rfc3339;

/// How a source is doing. The counts add up: `received` is `duplicates + ignored + rejected + held + accepted`, and `accepted`
/// is `waiting + delivered + gave_up + forgotten + missing + erased`.
#[derive(Serialize, ToSchema)]
pub struct SourceOverview {
    source_id: Uuid,
    /// `Refusing`, `Paused`, `Behind`, `Quiet`, `Not set up` or `Delivering`.
    state: &'static str,
    /// What there is to say of it.
    sentence: String,
    /// Whether nobody needs to look.
    is_ok: bool,
    /// When something of its own came last.
    last_seen_at: Option<String>,
    received: i64,
    duplicates: i64,
    ignored: i64,
    rejected: i64,
    /// Of a source of calls: those that wait for their user to be identified, counted up to 10,001.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<i64>,
    /// Of a source of calls: the users who are identified, counted up to 10,001.
    #[serde(skip_serializing_if = "Option::is_none")]
    identified: Option<i64>,
    accepted: i64,
    accepted_today: i64,
    waiting: i64,
    delivered: i64,
    /// Events that were given up, and can be sent again.
    gave_up: i64,
    /// Events that were given up, and are not kept any more.
    forgotten: i64,
    missing: i64,
    /// Events that were erased before they were delivered.
    erased: i64,
    /// Events that had been given up and were sent again.
    replayed: i64,
    /// How Segment answered lately, where events go there.
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<DeliveryHealth>,
    /// How Nudgespot answered lately, where calls go there.
    #[serde(skip_serializing_if = "Option::is_none")]
    nudgespot: Option<DeliveryHealth>,
    /// Answers 200 or 503 to whoever knows it.
    status_address: String,
}

/// What came to a source, and what became of it.
#[derive(Serialize, ToSchema)]
pub struct Traffic {
    /// What was asked for.
    range: &'static str,
    /// Its parts, oldest first; the last is the one that it is now.
    data: Vec<TrafficBucket>,
}

/// Which part of the past.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RangeParams {
    /// `1h` (by minute), `24h` (by hour; unless given), `7d` (by hour) or `30d` (by day).
    #[param(pattern = "^(1h|24h|7d|30d)$")]
    range: Option<String>,
}

/// A new status address. The one before is dead.
#[derive(Serialize, ToSchema)]
pub struct StatusAddress {
    status_address: String,
}

/// How a source is doing, in a word, a sentence, and numbers that add up.
#[utoipa::path(get, path = "/api/v1/sources/{source}/overview", tag = "sources", params(("source" = Uuid, Path)),
    responses((status = 200, body = SourceOverview), Problems))]
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let (source, are_calls) = (visit.source()?.id, visit.terms().are_calls);
    let overview = console.admin.overview(source, visit.now).await?;
    let health = console.admin.delivery_health(source).await?;
    let (segment, nudgespot) = if are_calls { (None, Some(health)) } else { (Some(health), None) };
    let status_address = console.admin.status_address(source).await?;
    let received = overview.received();
    let Overview { standing, judgement, last_seen_at, .. } = overview;
    Ok(json(&SourceOverview {
        source_id: source,
        state: judgement.state.as_str(),
        sentence: judgement.sentence,
        is_ok: judgement.is_ok,
        last_seen_at: last_seen_at.map(rfc3339),
        received,
        duplicates: standing.duplicates,
        ignored: standing.ignored,
        rejected: standing.rejected,
        held: are_calls.then_some(standing.held),
        identified: are_calls.then_some(standing.identified),
        accepted: standing.accepted,
        accepted_today: standing.accepted_today,
        waiting: standing.waiting,
        delivered: standing.delivered,
        gave_up: standing.gave_up,
        forgotten: standing.forgotten,
        missing: standing.missing,
        erased: standing.erased,
        replayed: standing.replayed,
        segment,
        nudgespot,
        status_address,
    }))
}

/// What came to a source and what became of it, by minute, hour or day.
#[utoipa::path(get, path = "/api/v1/sources/{source}/traffic", tag = "sources",
    params(("source" = Uuid, Path), RangeParams), responses((status = 200, body = Traffic), Problems))]
pub async fn traffic(console: Data<Console>, visit: Visit, asked: Query<RangeParams>) -> Result<HttpResponse, Failure> {
    let range = asked.range.as_deref().map(|text| {
        TrafficRange::parse(text).ok_or_else(|| Failure::Malformed("`range` is 1h, 24h, 7d or 30d.".to_owned()))
    });
    let range = range.transpose()?.unwrap_or_default();
    let data = console.admin.traffic(visit.source()?.id, range, visit.now).await?;
    Ok(json(&Traffic { range: range.as_str(), data }))
}

/// Somebody knows that nothing comes: until something does, that is no trouble.
#[utoipa::path(post, path = "/api/v1/sources/{source}/acknowledge-quiet", tag = "sources",
    params(("source" = Uuid, Path)), responses((status = 204), Problems))]
pub async fn acknowledge_quiet(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    console.admin.acknowledge_quiet(source.id).await?;
    console.record(&visit, Action::QuietAcknowledged, &source.name).await?;
    Ok(done())
}

/// Makes another status address. The one before is dead at once.
#[utoipa::path(post, path = "/api/v1/sources/{source}/rotate-status-address", tag = "sources",
    params(("source" = Uuid, Path)), responses((status = 200, body = StatusAddress), Problems))]
pub async fn rotate_status_address(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    console.admin.rotate_status_token(source.id).await?;
    console.record(&visit, Action::StatusAddressReplaced, &source.name).await?;
    Ok(json(&StatusAddress { status_address: console.admin.status_address(source.id).await? }))
}
