//! The stand-in for Nudgespot's REST API, at `/` and below `/201507`.
//!
//! `POST /subscribers/identify`, `POST /activities` and `GET /subscribers.json`; what it has is at `/nudgespot/…`.

mod memory;
mod rules;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ContentType, HeaderName, USER_AGENT};
use actix_web::{HttpRequest, HttpResponse, web};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

pub use memory::{Memory, NudgespotRequest};
use rules::{Call, Reading, Refusal};

use super::{MAX_MESSAGES, Sandbox, basic, list, read};

/// The version of the API, which comes first in its paths.
const VERSION: &str = "/201507";
/// No call is so large.
const MAX_BODY_BYTES: usize = 128 << 10;

pub fn routes(config: &mut web::ServiceConfig) {
    for base in ["", VERSION] {
        config
            .route(&format!("{base}/subscribers/identify"), web::post().to(identify))
            .route(&format!("{base}/activities"), web::post().to(activity))
            .route(&format!("{base}/subscribers.json"), web::get().to(subscriber));
    }
    config
        .route("/nudgespot/subscribers", web::get().to(subscribers))
        .route("/nudgespot/activities", web::get().to(activities))
        .route("/nudgespot/requests", web::get().to(requests));
}

async fn identify(sandbox: web::Data<Sandbox>, request: HttpRequest, body: web::Payload) -> HttpResponse {
    receive(&sandbox, &request, body, rules::identify).await
}

async fn activity(sandbox: web::Data<Sandbox>, request: HttpRequest, body: web::Payload) -> HttpResponse {
    receive(&sandbox, &request, body, rules::activity).await
}

#[derive(Deserialize)]
struct Question {
    uid: Option<String>,
}

async fn subscriber(sandbox: web::Data<Sandbox>, request: HttpRequest) -> HttpResponse {
    let uid = web::Query::<Question>::from_query(request.query_string()).ok().and_then(|query| query.into_inner().uid);
    let call = Ok(Call::Subscriber(uid.clone().unwrap_or_default()));
    answer(&sandbox, &request, Reading { uid, call }, b"").await
}

async fn receive(
    sandbox: &Sandbox,
    request: &HttpRequest,
    body: web::Payload,
    judge: impl Fn(&[u8]) -> Reading<'_>,
) -> HttpResponse {
    let Ok((body, is_whole)) = read(body, MAX_BODY_BYTES).await else { return HttpResponse::BadRequest().finish() };
    let reading = if is_whole { judge(&body) } else { Reading { uid: None, call: Err(Refusal::TOO_LARGE) } };
    let mut response = answer(sandbox, request, reading, &body[..body.len().min(MAX_BODY_BYTES)]).await;
    if !is_whole {
        response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    response
}

async fn answer(sandbox: &Sandbox, request: &HttpRequest, reading: Reading<'_>, body: &[u8]) -> HttpResponse {
    let key = basic(request.headers()).filter(|(user, key)| user == "api" && !key.is_empty()).map(|(_, key)| key);
    let fault = sandbox.nudgespot_faults.next(key.as_deref(), body);
    let header =
        |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let answer = {
        let mut memory = sandbox.nudgespot();
        let answer = match (&fault, &key, reading.call) {
            (Some(_), ..) => Ok(String::new()),
            (None, Some(key), call) if key != "bad-key" => {
                call.and_then(|call| memory.take(call, &href(request, reading.uid.as_deref().unwrap_or_default())))
            }
            _ => Err(Refusal::UNAUTHORIZED),
        };
        let status = answer.as_ref().map_or_else(|refusal| refusal.status, |_| 200);
        memory.record(NudgespotRequest {
            method: request.method().to_string(),
            path: request.path().to_owned(),
            key,
            uid: reading.uid,
            body: String::from_utf8_lossy(body).into(),
            content_type: header(CONTENT_TYPE),
            user_agent: header(USER_AGENT),
            at: OffsetDateTime::now_utc(),
            status: fault.as_ref().map_or(Some(status), super::Fault::status),
        });
        answer
    };
    sandbox.tell();
    match (fault, answer) {
        (Some(fault), _) => fault.answer(&error("fault", "a fault on demand")).await,
        (None, Ok(body)) => HttpResponse::Ok().content_type(ContentType::json()).body(body),
        (None, Err(refusal)) => {
            let status = StatusCode::from_u16(refusal.status).unwrap_or_default();
            HttpResponse::build(status).json(error(refusal.kind, refusal.message))
        }
    }
}

fn error(kind: &str, message: &str) -> Value {
    json!({"error": {"type": kind, "message": message}})
}

/// Where a user is to be found: beside the path that was called.
fn href(request: &HttpRequest, uid: &str) -> String {
    let version = if request.path().starts_with(VERSION) { VERSION } else { "" };
    let connection = request.connection_info();
    let url = format!("{}://{}{version}/subscribers.json", connection.scheme(), connection.host());
    Url::parse_with_params(&url, [("uid", uid)]).map_or(url, String::from)
}

async fn subscribers(sandbox: web::Data<Sandbox>) -> HttpResponse {
    let subscribers = sandbox.nudgespot().subscribers(MAX_MESSAGES);
    list(subscribers)
}

async fn activities(sandbox: web::Data<Sandbox>) -> HttpResponse {
    let activities = sandbox.nudgespot().activities(MAX_MESSAGES);
    list(activities)
}

async fn requests(sandbox: web::Data<Sandbox>) -> HttpResponse {
    let requests = sandbox.nudgespot().requests(MAX_MESSAGES);
    list(requests.into_iter().map(|request| request.json()))
}
