//! What is around every page: bar, tabs, title, notice, time; and how a template becomes an answer.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use askama::Template;
use time::OffsetDateTime;
use time::macros::format_description;

use super::assets;
use super::failure::Failure;
use super::terms::Terms;
use super::visit::{AccountRef, SourceRef, Visit};
use crate::admin::overview::{Judgement, SourceState};
use crate::domain::timestamp::rfc3339;

/// Cookie: `light` or `dark`.
pub const THEME_COOKIE: &str = "theme";
/// Cookie: `off` where somebody does not want the keys.
pub const KEYS_COOKIE: &str = "keys";

/// A source's pages: what they are called, and where they are below it.
pub const SOURCE_TABS: [(&str, &str); 5] = [
    ("Overview", ""),
    ("Events", "/events"),
    ("Problems", "/problems"),
    ("Set-up", "/set-up"),
    ("Settings", "/settings"),
];
/// An account's pages.
pub const ACCOUNT_TABS: [(&str, &str); 5] =
    [("Sources", ""), ("People", "/people"), ("API tokens", "/tokens"), ("Audit log", "/audit"), ("Erase", "/erase")];

/// What is around a page.
pub struct Frame {
    pub theme: Option<&'static str>,
    pub keys_off: bool,
    pub style: String,
    pub script: String,
    /// Who is signed in.
    pub person: Option<String>,
    pub is_operator: bool,
    pub account: Option<AccountRef>,
    pub source: Option<SourceRef>,
    pub has_several_sources: bool,
    /// How the source's pages speak.
    pub terms: &'static Terms,
    pub tab: &'static str,
    pub notice: Option<&'static str>,
    /// Of the page's source: leads the title, and colours the icon.
    pub state: Option<StateMark>,
    pub as_of: String,
    pub as_of_iso: String,
}

/// A state as the title and the icon show it.
#[derive(Clone, Copy, Debug)]
pub struct StateMark {
    pub word: &'static str,
    /// `good`, `waiting`, `bad` or `none`.
    pub class: &'static str,
}

impl From<&Judgement> for StateMark {
    fn from(judgement: &Judgement) -> Self {
        let class = match judgement.state {
            SourceState::Delivering => "good",
            _ if judgement.loses_events => "bad",
            SourceState::Refusing | SourceState::Paused => "bad",
            SourceState::Quiet if judgement.is_ok => "none",
            SourceState::Behind | SourceState::Quiet => "waiting",
            SourceState::NotSetUp => "none",
        };
        Self { word: judgement.state.as_str(), class }
    }
}

impl Frame {
    /// The frame of a page, under one of the tabs.
    pub fn new(visit: &Visit, tab: &'static str) -> Self {
        Self {
            theme: visit.theme,
            keys_off: visit.keys_off,
            style: assets::url("console.css"),
            script: assets::url("console.js"),
            person: visit.person().map(|person| person.email.clone()),
            is_operator: visit.is_operator(),
            account: visit.account.clone(),
            source: visit.source.clone(),
            has_several_sources: visit.source.as_ref().is_some_and(|source| source.has_siblings),
            terms: visit.terms(),
            tab,
            notice: visit.notice.as_deref().and_then(notice),
            state: None,
            as_of: exact(visit.now),
            as_of_iso: rfc3339(visit.now),
        }
    }

    /// The same, where the source's state is known.
    #[must_use]
    pub fn with_state(mut self, judgement: &Judgement) -> Self {
        self.state = Some(judgement.into());
        self
    }

    pub fn icon(&self) -> String {
        assets::url(match self.state.map(|state| state.class) {
            Some("good") => "icon-good.svg",
            Some("waiting") => "icon-waiting.svg",
            Some("bad") => "icon-bad.svg",
            _ => "icon.svg",
        })
    }

    pub fn place_name(&self) -> Option<String> {
        let account = self.account.as_ref()?;
        match &self.source {
            Some(source) if source.has_siblings => Some(format!("{}/{}", account.name, source.name)),
            _ => Some(account.name.clone()),
        }
    }
}

/// A page.
///
/// # Errors
/// Where the template cannot be written, which none of ours does.
pub fn page(template: &impl Template) -> Result<HttpResponse, Failure> {
    let html = template.render().map_err(|error| Failure::Unavailable(error.to_string()))?;
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(html))
}

/// The same page, for a form that is to be corrected.
///
/// # Errors
/// As [`page`].
pub fn page_again(template: &impl Template) -> Result<HttpResponse, Failure> {
    let mut page = page(template)?;
    *page.status_mut() = actix_web::http::StatusCode::UNPROCESSABLE_ENTITY;
    Ok(page)
}

/// On to another page, after something was done: a reload does not do it again.
pub fn see_other(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, path)).finish()
}

/// A time to the millisecond.
pub fn exact(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

/// What was done, by the code that a redirect carries: what a page says is never taken from its URL.
fn notice(code: &str) -> Option<&'static str> {
    NOTICES.iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
}

const NOTICES: [(&str, &str); 22] = [
    ("saved", "Saved."),
    ("paused", "Paused. Webhooks are taken as ever; their events wait."),
    ("resumed", "Resumed. What waited flows now."),
    ("key-saved", "The write key is saved."),
    ("rest-key-saved", "The REST key is saved."),
    ("secret-saved", "The signing secret is saved. Webhooks that it signs are taken from now on."),
    ("secret-rotated", "There is a new signing secret. The one before works for another 24 hours."),
    ("url-rotated", "There is a new webhook URL. The one before is dead."),
    ("test-calls-sent", "The test calls are on their way."),
    ("test-sent", "The test events are on their way."),
    ("source-added", "The source is there. Set it up below."),
    ("deleted", "Deleted, with all its events."),
    ("signed-out", "You are signed out."),
    ("signed-out-everywhere", "You are signed out, here and everywhere else."),
    ("session-ended", "That session has ended."),
    ("password-set", "Your password is set, and all your other sessions have ended."),
    ("invited", "Invited."),
    ("removed", "Removed."),
    ("previous-secret-ended", "Only the current signing secret counts from now on."),
    ("left", "You have left the account."),
    ("changed", "Changed."),
    ("revoked", "Revoked. Whoever still uses it is answered 401."),
];
