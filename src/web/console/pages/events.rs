//! The list of a source's events, its filters, and its files.

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::web::{Bytes, Data, Query};
use askama::Template;
use futures_util::stream::try_unfold;
use serde::Deserialize;
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

use super::super::Console;
use super::super::event_query::EventQuery;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::{SourceRef, Visit};
use super::overview::{held_words, title};
use super::utc;
use crate::admin::audit::Action;
use crate::admin::events::{EventCursor, EventFilter, EventRow, EventState, EventsPage, ExportFormat, ListPlace};
use crate::domain::event::Kind;
use crate::domain::text::{visible, with_causes};
use crate::domain::timestamp::rfc3339;
use crate::domain::words::{clock, count, span};

/// How many events a page has.
const PAGE: usize = 50;
/// How many new ones are shown at a time.
const MAX_NEW: usize = 100;
/// How many characters of a stranger's text a list shows.
const MAX_CHARS: usize = 120;

#[derive(Template)]
#[template(path = "events.html", blocks = ["found", "rows"])]
struct EventsList {
    frame: Frame,
    id: Uuid,
    fields: Fields,
    kinds: Vec<(&'static str, &'static str, bool)>,
    states: Vec<(&'static str, &'static str, bool)>,
    has_filter: bool,
    /// Of a source of calls: how many wait for their user to be identified.
    held: Option<String>,
    is_held_list: bool,
    /// The filters as a query, to be followed by more.
    query: String,
    error: Option<String>,
    rows: Vec<Line>,
    /// Below new rows: that more may have come between them and those of before.
    gap: Option<String>,
    /// What there is to say of a list without events, and where it may lead.
    empty: Option<String>,
    is_new_source: bool,
    unreadable: Option<String>,
    /// Where the list began, where it is the newest.
    place: Option<ListPlace>,
    progress: Progress,
}

/// What is typed into the filters.
#[derive(Default)]
struct Fields {
    recipient: String,
    email_id: String,
    campaign_id: String,
    since: String,
    until: String,
}

/// How far the list is.
#[derive(Default)]
struct Progress {
    next: Option<String>,
    /// It goes on by itself, having looked so far.
    searching: Option<String>,
}

/// An event.
pub struct Line {
    pub path: String,
    pub at_iso: String,
    pub at: String,
    pub what: String,
    pub recipient: String,
    pub about: String,
    /// Where there is little room, the recipient stands for it.
    pub is_minor: bool,
    pub state: &'static str,
    pub class: &'static str,
}

/// What is asked beside the filters.
#[derive(Deserialize)]
pub struct Place {
    cursor: Option<String>,
    after: Option<String>,
    event_id: Option<String>,
}

/// `GET /sources/{source}/events`
pub async fn show(
    console: Data<Console>,
    visit: Visit,
    query: Query<EventQuery>,
    place: Query<Place>,
) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    if let Some(event_id) = place.event_id.as_deref().map(str::trim).filter(|id| !id.is_empty()) {
        return Ok(see_other(&journey_path(source.id, event_id)));
    }
    let filter = match query.parse() {
        Ok(filter) => filter,
        Err(Failure::Malformed(error)) => return page_again(&unread(&visit, source.id, &query, error)),
        Err(error) => return Err(error),
    };
    let none = |_| Failure::Malformed("This link is none that the list gave. Begin anew.".to_owned());
    if let Some(after) = &place.after {
        let after: ListPlace = after.parse().map_err(none)?;
        let new = console.admin.new_events(source.id, &filter, after, MAX_NEW).await?;
        if new.data.is_empty() && new.is_complete {
            return Ok(HttpResponse::NoContent().finish());
        }
        let mut shown = list(&visit, source.id, &query, &filter, &new, None);
        shown.gap = (!new.is_complete).then(|| gap(new.data.len()));
        return page(&shown.as_rows());
    }
    let cursor: Option<EventCursor> = place.cursor.as_deref().map(|text| text.parse().map_err(none)).transpose()?;
    let found = console.admin.events(source.id, &filter, cursor, PAGE).await?;
    let oldest = if found.is_complete { None } else { console.admin.oldest_event_at(source.id).await? };
    let mut shown = list(&visit, source.id, &query, &filter, &found, oldest);
    if cursor.is_some() {
        shown.place = None;
        shown.is_new_source = false;
        shown.empty = shown.empty.map(|_| "Nothing is older than that.".to_owned());
        return if visit.is_fragment { page(&shown.as_found()) } else { page(&shown) };
    }
    let overview = console.admin.overview(source.id, visit.now).await?;
    shown.frame = shown.frame.with_state(&overview.judgement);
    shown.held = Some(overview.standing.held).filter(|held| *held > 0).map(held_words);
    page(&shown)
}

fn list(
    visit: &Visit,
    id: Uuid,
    query: &EventQuery,
    filter: &EventFilter,
    found: &EventsPage,
    oldest: Option<OffsetDateTime>,
) -> EventsList {
    let mut list = frame(visit, id, query);
    let is_full = found.data.len() >= PAGE;
    list.rows = found.data.iter().map(|row| line(id, row)).collect();
    list.place = (filter.until.is_none() && filter.state != Some(EventState::Held)).then_some(found.place);
    list.unreadable = (found.unreadable > 0).then(|| {
        format!(
            "{} could not be read: the log is damaged there. The operator of the service can say more.",
            count(found.unreadable, "event", "events")
        )
    });
    if list.rows.is_empty() && found.is_complete {
        list.is_new_source = filter.is_empty();
        list.empty = Some(if filter.is_empty() { "Nothing yet." } else { "Nothing matches these filters." }.to_owned());
    }
    if let Some(next) = &found.next_cursor {
        list.progress.next = Some(next.clone());
        if !is_full {
            list.progress.searching = found.searched_back_to_at.map(|at| searched(at, oldest, visit.now));
        }
    }
    list
}

fn gap(n_found: usize) -> String {
    match n_found {
        MAX_NEW.. => format!("{MAX_NEW} or more are new, and only the newest {MAX_NEW} are shown."),
        _ => "Not all that is new was looked through.".to_owned(),
    }
}

/// How far back it was looked: `back to 3 May, 14:02 UTC, 12 of 30 days`.
fn searched(at: OffsetDateTime, oldest: Option<OffsetDateTime>, now: OffsetDateTime) -> String {
    let back = format!("back to {} UTC", clock(at, now));
    let span_since = |at| crate::domain::words::since(at, now);
    match oldest.filter(|oldest| *oldest < at) {
        Some(oldest) => format!("{back}, {} of {}", span(span_since(at)), span(span_since(oldest))),
        None => back,
    }
}

/// A list without events.
fn frame(visit: &Visit, id: Uuid, query: &EventQuery) -> EventsList {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    // A field for times shows nothing else.
    let input = |at: Option<OffsetDateTime>| {
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        at.and_then(|at| at.to_offset(time::UtcOffset::UTC).format(format).ok()).unwrap_or_default()
    };
    let filter = query.parse().unwrap_or_default();
    let of = visit.source.as_ref().and_then(|source| source.kind);
    let kinds = of.map_or(&Kind::EMAIL[..], crate::sources::Kind::event_kinds).iter();
    let kinds = kinds.map(|kind| (kind.as_str(), title(*kind), filter.kind == Some(*kind)));
    let are_calls = visit.terms().are_calls;
    let states = EventState::ALL.into_iter().filter(|of| *of != EventState::Held || are_calls);
    let states = states.map(|of| (of.as_str(), of.word(), filter.state == Some(of)));
    EventsList {
        frame: Frame::new(visit, "Events"),
        id,
        fields: Fields {
            recipient: text(&query.recipient),
            email_id: text(&query.email_id),
            campaign_id: text(&query.campaign_id),
            since: input(filter.since),
            until: input(filter.until),
        },
        kinds: kinds.collect(),
        states: states.collect(),
        held: None,
        is_held_list: filter.state == Some(EventState::Held),
        has_filter: !query.to_query().is_empty(),
        query: query.to_query(),
        error: None,
        rows: Vec::new(),
        gap: None,
        empty: None,
        is_new_source: false,
        unreadable: None,
        place: None,
        progress: Progress::default(),
    }
}

/// The page for filters that cannot be read.
fn unread(visit: &Visit, id: Uuid, query: &EventQuery, error: String) -> EventsList {
    EventsList { error: Some(error), ..frame(visit, id, query) }
}

/// The address of an event's journey.
pub fn journey_path(source: Uuid, event_id: &str) -> String {
    let mut url = reqwest::Url::parse("http://host/").expect("a constant URL");
    url.path_segments_mut().expect("it has a path").extend(["sources", &source.to_string(), "events", event_id]);
    url.path().to_owned()
}

/// The mark of an event's state.
pub fn class(state: EventState) -> &'static str {
    match state {
        EventState::Held | EventState::Waiting | EventState::Rejected => "waiting",
        EventState::Delivered => "good",
        EventState::GaveUp => "bad",
        EventState::Ignored => "none",
    }
}

/// A stranger's text, short and harmless.
fn short(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    visible(&short).into_owned()
}

fn line(source: Uuid, row: &EventRow) -> Line {
    let kind = row.kind.and_then(|name| Kind::ALL.into_iter().find(|kind| kind.as_str() == name));
    let of_track = row.event.as_deref().filter(|_| kind == Some(Kind::Track));
    let what = of_track.or(kind.map(title)).or(row.event.as_deref()).unwrap_or("Event that cannot be used");
    let about = row.reason.as_deref().or(row.email_subject.as_deref()).or(row.campaign_name.as_deref());
    let at_iso = rfc3339(row.at);
    Line {
        path: journey_path(source, &row.event_id),
        at: utc(&at_iso),
        at_iso,
        what: short(what),
        recipient: short(row.recipient().unwrap_or_default()),
        about: short(about.unwrap_or_default()),
        is_minor: row.reason.is_none() && row.recipient().is_some(),
        state: row.state.word(),
        class: class(row.state),
    }
}

/// How a file is asked for.
#[derive(Deserialize)]
pub struct Format {
    format: String,
}

/// `GET /sources/{source}/export`
pub async fn export(
    console: Data<Console>,
    visit: Visit,
    query: Query<EventQuery>,
    format: Query<Format>,
) -> Result<HttpResponse, Failure> {
    let source = visit.source()?.clone();
    let format = ExportFormat::parse(&format.format)
        .ok_or_else(|| Failure::Malformed("`format` is ndjson or csv.".to_owned()))?;
    let filter = query.parse()?;
    let permit = console.admin.begin_export(source.account_id).ok_or(Failure::Busy)?;
    // What was looked for is personal, and stays for as long as the entry does: only by what it was.
    let by = query.to_query();
    let by: Vec<&str> = by.split('&').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
    let detail = format!("{}: {} {}", source.name, format.extension(), by.join(", "));
    console.record(&visit, Action::EventsExported, detail.trim_end()).await?;
    let name = file_name(&source, format);
    let parts = try_unfold(Some((console, None)), move |state| {
        let (filter, source) = (filter.clone(), source.id);
        // Another may be written when the last part was.
        let _ = &permit;
        async move {
            let Some((console, cursor)) = state else { return Ok(None) };
            let head = if cursor.is_none() { format.head() } else { Vec::new() };
            let written = console.admin.export_events(source, &filter, format, cursor).await;
            let (rows, next) = written.map_err(|error| {
                tracing::warn!(source.id = %source, error = with_causes(&error), "an export was broken off");
                std::io::Error::other("the database did not answer")
            })?;
            let part = Bytes::from([head, rows].concat());
            Ok::<_, std::io::Error>(Some((part, next.map(|next| (console, Some(next))))))
        }
    });
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [(CONTENT_TYPE, format.media_type().to_owned()), (CONTENT_DISPOSITION, disposition)];
    let mut response = HttpResponse::Ok();
    for header in headers {
        response.insert_header(header);
    }
    Ok(response.streaming(parts))
}

fn file_name(source: &SourceRef, format: ExportFormat) -> String {
    let name: String = source.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("events-{name}.{}", format.extension())
}
