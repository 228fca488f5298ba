//! What an orchestrator and a Prometheus ask.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use tokio::time::timeout;

use super::problem::Problem;
use super::state::State;
use crate::store::stats;

/// How long the database may take to answer here, however many ask.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Of how many sources the backlog is shown.
const WORST: i64 = 10;

/// `GET /healthz`: the process runs.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "ok"}))
}

/// `GET /readyz`: the database can be reached, and has the schema that the program needs.
pub async fn readyz(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let is_ready = async { state.health.lock().await.run(async |db| stats::is_ready(db).await).await };
    match timeout(ANSWER_TIMEOUT, is_ready).await {
        Ok(Ok(true)) if !state.is_stopping() => Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ready"}))),
        _ => Err(Problem::NotReady),
    }
}

/// `GET /metrics`. Without the database, all but the backlog.
pub async fn metrics(state: web::Data<State>) -> HttpResponse {
    let backlog = async {
        let mut metrics = state.backlog.lock().await;
        metrics.run(async |db| Ok((stats::backlog(&mut *db).await?, stats::worst_sources(db, WORST).await?))).await
    };
    let backlog = timeout(ANSWER_TIMEOUT, backlog).await.ok().and_then(Result::ok);
    let text = state.metrics.render(backlog.as_ref().map(|(total, worst)| (total, worst.as_slice())));
    HttpResponse::Ok().content_type("application/openmetrics-text; version=1.0.0; charset=utf-8").body(text)
}
