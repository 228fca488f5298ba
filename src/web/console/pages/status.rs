//! The status address: how a source is doing, for whoever knows the address, an uptime monitor above all.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};

use super::super::Console;
use super::super::failure::Failure;
use super::super::visit::Visit;

/// `GET /status/{token}`: 200, or 503 where somebody should look; and why, in a sentence that names nobody.
pub async fn show(console: Data<Console>, visit: Visit, token: Path<String>) -> Result<HttpResponse, Failure> {
    let judgement = console.admin.status(&token, visit.now).await?.ok_or(Failure::NotFound)?;
    let status = if judgement.is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = format!("{}: {}\n", judgement.state.as_str(), judgement.public_sentence);
    Ok(HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text))
}
