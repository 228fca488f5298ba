//! How a [`Failure`] is written: as a page for people, as problem details for programs.

use actix_web::http::Method;
use actix_web::http::header::{LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use askama::Template;

use super::failure::Failure;
use super::frame::Frame;
use super::routes;
use super::visit::Visit;

/// What is asked, as far as it matters for how it is refused.
pub struct Asked {
    pub path: String,
    pub method: Method,
    pub surface: Surface,
    /// Path and query.
    target: String,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// By a person.
    Page,
    /// A part of a page, by its script.
    Fragment,
    /// By a program.
    Api,
    /// A file that is the same for everybody.
    Static,
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage<'a> {
    frame: Frame,
    title: &'a str,
    detail: String,
    /// Where to go on.
    onward: &'a str,
    onward_text: &'a str,
}

impl Asked {
    /// What this request asks.
    pub fn of(request: &HttpRequest) -> Self {
        // As the routes are found by: decoded. Judged by any other spelling, a route could be had that was not judged.
        let path = request.match_info().as_str().to_owned();
        let surface = match () {
            () if path.starts_with("/static/") => Surface::Static,
            () if path.starts_with("/api/") => Surface::Api,
            () if request.headers().contains_key("x-fragment") => Surface::Fragment,
            () => Surface::Page,
        };
        Self {
            surface,
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or_else(|| path.clone(), ToString::to_string),
            path,
        }
    }

    /// Whether the answer is the same for everybody: who asks is not looked up.
    pub fn is_of_nobody(&self) -> bool {
        self.surface == Surface::Static || self.path.starts_with("/status/") || self.path == "/api/v1/openapi.json"
    }

    /// Where somebody who is sent to the sign-in page wanted to go.
    fn wanted(&self) -> String {
        if self.method == Method::GET {
            return next_query(&self.target);
        }
        // The page that the form stands on: of this path, or of one above it.
        let mut paths = std::iter::successors(Some(self.path.as_str()), |path| Some(path.rsplit_once('/')?.0));
        next_query(paths.find(|path| routes::find(&Method::GET, path).is_some()).unwrap_or("/"))
    }
}

/// A query that holds where somebody wanted to go.
pub fn next_query(text: &str) -> String {
    let mut url = reqwest::Url::parse("http://host/").expect("a constant URL");
    url.query_pairs_mut().append_pair("next", text);
    url.query().unwrap_or_default().to_owned()
}

/// Writes it.
pub fn write(failure: &Failure, visit: &Visit, asked: &Asked) -> HttpResponse {
    match failure {
        Failure::Unavailable(cause) => tracing::warn!(cause, "the console cannot answer"),
        failure => tracing::debug!(code = failure.code(), "the console refused a request"),
    }
    let mut response = if asked.surface == Surface::Api { problem(failure) } else { page(failure, visit, asked) };
    if let Some(seconds) = failure.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if let Failure::MethodNotAllowed(methods) = failure
        && let Ok(methods) = methods.parse()
    {
        response.headers_mut().insert(actix_web::http::header::ALLOW, methods);
    }
    response
}

/// RFC 9457.
fn problem(failure: &Failure) -> HttpResponse {
    let status = failure.status_code();
    let mut response = HttpResponse::build(status);
    if matches!(failure, Failure::SignedOut) {
        response.insert_header((WWW_AUTHENTICATE, "Bearer"));
    }
    let detail = match failure {
        Failure::SignedOut => "Send a token that is valid: `Authorization: Bearer nss_…`.".to_owned(),
        failure => failure.detail(),
    };
    response.content_type("application/problem+json").body(
        serde_json::json!({
            "type": "about:blank", "title": failure.title(), "status": status.as_u16(), "code": failure.code(),
            "detail": detail,
        })
        .to_string(),
    )
}

fn page(failure: &Failure, visit: &Visit, asked: &Asked) -> HttpResponse {
    let is_read = asked.method.is_safe();
    match failure {
        // A page of its own, and back here afterwards.
        Failure::SignedOut if is_read && asked.surface == Surface::Page => {
            return to(&format!("/sign-in?{}", asked.wanted()));
        }
        Failure::PasswordNeeded if asked.surface == Surface::Page => {
            return to(&format!("/confirm?{}", asked.wanted()));
        }
        _ => {}
    }
    let (title, onward, onward_text) = match (failure, &visit.who) {
        (Failure::SignedOut, _) => ("You were signed out; nothing was changed", "/sign-in", "Sign in"),
        (_, None) => (failure.title(), "/", "To the console"),
        _ => (failure.title(), "/", "To your accounts"),
    };
    let page = FailurePage { frame: Frame::new(visit, ""), title, detail: failure.detail(), onward, onward_text };
    let html = page.render().unwrap_or_else(|_| title.to_owned());
    HttpResponse::build(failure.status_code()).content_type("text/html; charset=utf-8").body(html)
}

fn to(location: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, location)).finish()
}
