//! The journey of one event.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use askama::Template;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page};
use super::super::terms::Terms;
use super::super::visit::Visit;
use super::events::class;
use super::overview::title;
use crate::admin::events::{EventRow, EventState, FoundEvent, Journey, JourneyStep};
use crate::domain::event::Kind;
use crate::domain::json_text::indented;
use crate::domain::text::{visible, visible_json};
use crate::domain::words::{grouped, span};

#[derive(Template)]
#[template(path = "journey.html")]
struct JourneyPage {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    title: String,
    state: &'static str,
    class: &'static str,
    summary: String,
    is_given_up: bool,
    facts: Vec<Fact>,
    steps: Vec<Step>,
    /// The track, or what the sender sent.
    json: String,
    json_title: &'static str,
}

/// What is said of an event.
struct Fact {
    name: &'static str,
    value: String,
    /// The query of the list of those that have the same.
    same: Option<String>,
    /// The name by which it is copied.
    copy: Option<&'static str>,
}

struct Step {
    class: &'static str,
    what: String,
    at: String,
    at_iso: String,
    /// How long after the one before.
    after: String,
    reason: String,
}

/// The event cannot be shown.
#[derive(Template)]
#[template(path = "no_event.html")]
struct NoEvent {
    frame: Frame,
    id: Uuid,
    event_id: String,
    why: Missing,
}

/// Why an event cannot be shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Unreadable,
    Erased,
    Unknown,
}

/// `GET /sources/{source}/events/{event_id}`
pub async fn show(console: Data<Console>, visit: Visit, path: Path<(Uuid, String)>) -> Result<HttpResponse, Failure> {
    let id = visit.source()?.id;
    let event_id = path.into_inner().1;
    let no_event = |why, status| {
        let frame = Frame::new(&visit, "Events");
        let mut none = page(&NoEvent { frame, id, event_id: visible(&event_id).into_owned(), why })?;
        *none.status_mut() = status;
        Ok(none)
    };
    match console.admin.find_event(id, &event_id).await? {
        FoundEvent::Journey(journey) => page(&fill(&visit, id, *journey)),
        FoundEvent::Unreadable => no_event(Missing::Unreadable, StatusCode::OK),
        FoundEvent::Erased => no_event(Missing::Erased, StatusCode::GONE),
        FoundEvent::Nothing => no_event(Missing::Unknown, StatusCode::NOT_FOUND),
    }
}

fn fill(visit: &Visit, id: Uuid, journey: Journey) -> JourneyPage {
    let Journey { event, summary, steps } = journey;
    let kind = event.kind.and_then(|name| Kind::ALL.into_iter().find(|kind| kind.as_str() == name));
    let of_track = event.event.as_deref().filter(|_| kind == Some(Kind::Track));
    let name = of_track.or(kind.map(title)).or(event.event.as_deref()).unwrap_or("Event that cannot be used");
    let is_request = |payload: &RawValue| visit.terms().are_calls && payload.get().starts_with(r#"{"activity":"#);
    let (json, json_title) = match (&event.track, &event.request, &event.payload) {
        (Some(track), ..) => (track.get(), "The track call, as it is sent"),
        (None, Some(request), _) => (request.get(), request_title(kind)),
        // It waited for its user in vain, as it was to be sent.
        (None, None, Some(payload)) if is_request(payload) => (payload.get(), request_title(Some(Kind::Track))),
        (None, None, Some(payload)) => (payload.get(), "What the sender sent"),
        (None, None, None) => ("", ""),
    };
    JourneyPage {
        frame: Frame::new(visit, "Events"),
        id,
        may_change: visit.may_change,
        title: visible(name).into_owned(),
        state: event.state.word(),
        class: class(event.state),
        // Its state says the rest.
        summary: visible(summary.strip_prefix("Given up: ").unwrap_or(&summary)).into_owned(),
        is_given_up: event.state == EventState::GaveUp,
        json: visible_json(&indented(json)).into_owned(),
        json_title,
        steps: steps_shown(&steps, visit.terms(), kind),
        facts: facts(event, visit.terms()),
    }
}

fn request_title(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Identify) => "The request to Nudgespot: POST /subscribers/identify",
        _ => "The request to Nudgespot: POST /activities",
    }
}

fn facts(event: EventRow, terms: &Terms) -> Vec<Fact> {
    // Those that are held are in a list of their own.
    let state = (event.state == EventState::Held).then_some(("state", event.state.as_str()));
    let list = |field: &str, value: &str| {
        let mut url = reqwest::Url::parse("http://host/").expect("a constant URL");
        url.query_pairs_mut().append_pair(field, value).extend_pairs(state);
        url.query().unwrap_or_default().to_owned()
    };
    let own = event.kind.is_some().then_some("event-id");
    let name_of_event = match (terms.are_calls, &event.track) {
        (true, _) => "Event",
        (false, Some(_)) => "Segment's name",
        (false, None) => "Sender's name",
    };
    let facts = [
        (name_of_event, event.event, None, None),
        (
            if terms.are_calls { "Message id" } else { "Event id" },
            Some(event.event_id).filter(|_| own.is_some()),
            None,
            own,
        ),
        ("Message id", event.message_id, None, Some("message-id")),
        (if terms.are_calls { "User id" } else { "Recipient's id" }, event.user_id, Some("recipient"), None),
        ("User's hash", event.user_hash.map(|hash| hash.simple().to_string()), None, None),
        ("Anonymous id", event.anonymous_id, Some("recipient"), None),
        ("Address", event.email, Some("recipient"), None),
        ("Email id", event.email_id, Some("email_id"), None),
        ("Subject", event.email_subject, None, None),
        ("Campaign id", event.campaign_id, Some("campaign_id"), None),
        ("Campaign", event.campaign_name, None, None),
        ("Link", event.link_url, None, Some("link-url")),
        ("Happened", event.timestamp.as_deref().map(exact), None, None),
    ];
    let there = facts.into_iter().filter_map(|(name, value, field, copy)| Some((name, value?, field, copy)));
    there
        .map(|(name, value, field, copy)| Fact {
            name,
            same: field.map(|field| list(field, &value)),
            value: visible(&value).into_owned(),
            copy,
        })
        .collect()
}

fn steps_shown(steps: &[JourneyStep], terms: &Terms, kind: Option<Kind>) -> Vec<Step> {
    let mut before: Option<OffsetDateTime> = None;
    let (mut shown, mut said) = (Vec::new(), None);
    for step in steps {
        let (class, what) = told(step, terms, kind);
        let after = step.time.zip(before).filter(|(at, before)| at != before);
        let after = after.map(|(at, before)| format!("+{}", between(at, before)));
        before = step.time.or(before);
        // Why it was given up, its last request has said.
        let reason = step.reason.as_deref().filter(|reason| step.step != "gave_up" || said != Some(*reason));
        said = step.reason.as_deref();
        shown.push(Step {
            class,
            what,
            at: exact(&step.at),
            at_iso: step.at.clone(),
            after: after.unwrap_or_default(),
            reason: reason.map(|reason| visible(reason).into_owned()).unwrap_or_default(),
        });
    }
    shown
}

fn told(step: &JourneyStep, terms: &Terms, kind: Option<Kind>) -> (&'static str, String) {
    let to = terms.destination;
    // Each call is a request of its own.
    let others = match step.n_others.filter(|_| !terms.are_calls) {
        None if terms.are_calls => String::new(),
        None | Some(..=0) => ", alone".to_owned(),
        Some(n) => match (step.n_requests, n) {
            (Some(requests), n) => format!(", in one of {requests} requests with {} events", grouped(n + 1)),
            (None, 1) => ", with one other".to_owned(),
            (None, n) => format!(", with {} others", grouped(n)),
        },
    };
    let within = if step.n_requests.is_some() { "within" } else { "in" };
    let took = step.duration_ms.map(|ms| match ms {
        ..=0 => " in under 1 ms".to_owned(),
        ms => format!(" {within} {} ms", grouped(ms.into())),
    });
    let took = took.unwrap_or_default();
    let answer = step.status.map_or_else(|| format!("no answer{took}"), |status| format!("{status}{took}"));
    match (step.step, step.outcome.as_deref()) {
        ("received", _) => ("good", "Received".to_owned()),
        ("mapped", _) if kind == Some(Kind::Identify) => ("good", "Mapped to a user of Nudgespot".to_owned()),
        ("mapped", _) => ("good", "Mapped to an activity of Nudgespot".to_owned()),
        ("held", _) => ("waiting", "Held: no identify had told of its user yet".to_owned()),
        ("stored", _) => ("good", "Stored, to be sent".to_owned()),
        ("sent", Some("delivered")) => ("good", format!("Sent to {to}{others}: accepted, {answer}")),
        ("sent", Some("refused")) => ("bad", format!("Sent to {to}{others}: refused, {answer}")),
        ("sent", Some("paused")) => ("bad", format!("Sent to {to}{others}: refused, {answer}; delivery paused")),
        ("sent", _) => ("waiting", format!("Sent to {to}{others}: {answer}; to be sent again")),
        ("gave_up", _) => ("bad", "Given up".to_owned()),
        ("replayed", _) => ("waiting", "Put back, to be sent again".to_owned()),
        ("left_out", _) => ("waiting", format!("… {} more requests …", grouped(step.n_others.unwrap_or_default()))),
        (other, _) => ("", other.to_owned()),
    }
}

/// A time as it is shown exactly: `2026-01-27 09:15:00.123 UTC`.
fn exact(rfc3339: &str) -> String {
    rfc3339.replace('T', " ").replace('Z', " UTC")
}

fn between(at: OffsetDateTime, before: OffsetDateTime) -> String {
    let between = std::time::Duration::try_from(at - before).unwrap_or_default();
    match between.as_millis() {
        ms @ ..1_000 => format!("{ms} ms"),
        ms @ ..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => span(between),
    }
}
