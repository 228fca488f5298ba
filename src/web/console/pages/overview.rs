//! A source at a glance: how it is doing, what came and what became of it.

use std::fmt::Write;

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;
use time::UtcOffset;
use uuid::Uuid;

use super::super::Console;
use super::super::chart::Chart;
use super::super::failure::Failure;
use super::super::frame::{Frame, StateMark, page, see_other};
use super::super::visit::Visit;
use crate::admin::audit::Action;
use crate::admin::overview::{DeliveryHealth, MANY, Overview, SourceState, Standing, TrafficBucket, TrafficRange};
use crate::domain::event::Kind;
use crate::domain::source_state::PAUSED_BY_ADMIN;
use crate::domain::text::visible;
use crate::domain::words::{grouped, since, span};

#[derive(Template)]
#[template(path = "overview.html", blocks = ["now", "past"])]
struct OverviewPage {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    /// Where the live parts stand, so that they are sent again only when something is new.
    now_place: String,
    past_place: String,
    state: StateMark,
    sentence: String,
    what: Offer,
    /// Whether the quiet may be acknowledged.
    can_acknowledge: bool,
    cards: [Card; 4],
    sums: [Vec<Term>; 2],
    n_replayed: Option<String>,
    /// Of a source of calls: how many users it knows, and how many calls wait for one.
    users: Option<Users>,
    range: &'static str,
    ranges: [(&'static str, &'static str); 4],
    chart: Chart,
    kinds: Vec<(&'static str, &'static str, String)>,
    health: DeliveryHealth,
}

/// The users of a source of calls.
struct Users {
    identified: String,
    held: Option<String>,
}

/// What may be done about the state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offer {
    Nothing,
    SetUp,
    Problems,
    /// It is paused as well.
    ProblemsOrResume,
    /// It was paused by hand.
    Resume,
    /// The destination did not take what was sent: with this key, or at all.
    ResumeOrNewKey,
}

struct Card {
    name: &'static str,
    figure: String,
    note: String,
    query: String,
}

/// A term of a sum.
struct Term {
    name: &'static str,
    figure: String,
    class: &'static str,
    /// Of the list that it opens.
    query: Option<&'static str>,
}

/// What is asked.
#[derive(Deserialize)]
pub struct Asked {
    range: Option<String>,
    part: Option<String>,
    after: Option<String>,
}

/// `GET /sources/{source}`
pub async fn show(console: Data<Console>, visit: Visit, asked: Query<Asked>) -> Result<HttpResponse, Failure> {
    let id = visit.source()?.id;
    let range = asked.range.as_deref().and_then(TrafficRange::parse).unwrap_or_default();
    let overview = console.admin.overview(id, visit.now).await?;
    let buckets = console.admin.traffic(id, range, visit.now).await?;
    let health = console.admin.delivery_health(id).await?;
    let shown = fill(&visit, id, range, &overview, &buckets, health);
    let is_known = |place: &str| asked.after.as_deref() == Some(place);
    match (visit.is_fragment, asked.part.as_deref()) {
        (true, Some("past")) if is_known(&shown.past_place) => Ok(HttpResponse::NoContent().finish()),
        (true, Some("past")) => page(&shown.as_past()),
        (true, _) if is_known(&shown.now_place) => Ok(HttpResponse::NoContent().finish()),
        (true, _) => page(&shown.as_now()),
        (false, _) => page(&shown),
    }
}

/// `POST /sources/{source}/acknowledge-quiet`
pub async fn acknowledge_quiet(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    console.admin.acknowledge_quiet(source.id).await?;
    console.record(&visit, Action::QuietAcknowledged, &source.name).await?;
    Ok(see_other(&format!("/sources/{}", source.id)))
}

/// `POST /sources/{source}/rotate-status-address`
pub async fn rotate_status_address(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    console.admin.rotate_status_token(source.id).await?;
    console.record(&visit, Action::StatusAddressReplaced, &source.name).await?;
    Ok(see_other(&format!("/sources/{}/settings?notice=changed", source.id)))
}

fn fill(
    visit: &Visit,
    id: Uuid,
    range: TrafficRange,
    overview: &Overview,
    buckets: &[TrafficBucket],
    health: DeliveryHealth,
) -> OverviewPage {
    let (standing, judgement) = (&overview.standing, &overview.judgement);
    let state = StateMark::from(judgement);
    // With the minute: what it says of "now" is never older than that, though nothing came.
    let minute = visit.now.unix_timestamp().div_euclid(60);
    let mut now_place = format!("{}.{}.{minute}", state.word, judgement.sentence.len());
    let Standing { held, identified, waiting, delivered, gave_up, forgotten, replayed, .. } = *standing;
    for n in [overview.received(), held, identified, waiting, delivered, gave_up, forgotten, replayed] {
        let _ = write!(now_place, ".{n}");
    }
    let sum = |of: fn(&TrafficBucket) -> i64| buckets.iter().map(of).sum::<i64>();
    let past_place = format!(
        "{}.{}.{}.{}",
        buckets.last().map_or("", |bucket| &bucket.starts_at),
        sum(|bucket| bucket.accepted),
        sum(|bucket| bucket.delivered),
        sum(|bucket| bucket.gave_up)
    );
    let source_kind = visit.source.as_ref().and_then(|source| source.kind);
    let kinds = source_kind.map_or(&Kind::EMAIL[..], crate::sources::Kind::event_kinds).iter().map(|kind| {
        let n = buckets.iter().map(|bucket| bucket.by_kind.get(kind.as_str()).copied().unwrap_or_default()).sum();
        (kind.as_str(), title(*kind), grouped(n))
    });
    OverviewPage {
        frame: Frame::new(visit, "Overview").with_state(judgement),
        id,
        may_change: visit.may_change,
        now_place: query_text(&now_place),
        past_place: query_text(&past_place),
        state,
        sentence: visible(&judgement.sentence).into_owned(),
        what: match judgement.state {
            SourceState::Refusing if standing.paused_reason.is_some() => Offer::ProblemsOrResume,
            SourceState::Refusing => Offer::Problems,
            SourceState::Paused if standing.paused_reason.as_deref() == Some(PAUSED_BY_ADMIN) => Offer::Resume,
            SourceState::Paused => Offer::ResumeOrNewKey,
            SourceState::NotSetUp => Offer::SetUp,
            _ => Offer::Nothing,
        },
        can_acknowledge: judgement.state == SourceState::Quiet && !judgement.is_ok,
        cards: cards(visit, overview),
        sums: sums(overview.received(), standing, visit.terms().are_calls),
        n_replayed: (standing.replayed > 0).then(|| grouped(standing.replayed)),
        users: visit
            .terms()
            .are_calls
            .then(|| Users { identified: users_identified(identified), held: (held > 0).then(|| held_words(held)) }),
        range: range.as_str(),
        ranges: [("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days")],
        chart: Chart::new(range, buckets, visit.terms().are_calls),
        kinds: kinds.collect(),
        health,
    }
}

fn cards(visit: &Visit, overview: &Overview) -> [Card; 4] {
    let standing = &overview.standing;
    let ago = |at| format!("{} ago", span(since(at, visit.now)));
    let oldest = standing.oldest_waiting_since.filter(|_| standing.waiting > 0);
    [
        Card {
            name: "Accepted today (UTC)",
            figure: grouped(standing.accepted_today),
            note: overview.last_seen_at.map_or_else(|| "nothing yet".to_owned(), |at| format!("last {}", ago(at))),
            query: format!("since={}", visit.now.to_offset(UtcOffset::UTC).date()),
        },
        Card {
            name: "Waiting",
            figure: grouped(standing.waiting),
            note: oldest.map_or_else(|| "none".to_owned(), |at| format!("oldest {}", span(since(at, visit.now)))),
            query: "state=waiting".to_owned(),
        },
        Card {
            name: "Delivered",
            figure: grouped(standing.delivered),
            note: format!("accepted by {}'s API", visit.terms().destination),
            query: "state=delivered".to_owned(),
        },
        Card {
            name: "Gave up",
            figure: grouped(standing.gave_up),
            note: if standing.gave_up > 0 { "lost unless you act" } else { "none" }.to_owned(),
            query: "state=gave_up".to_owned(),
        },
    ]
}

/// The sums that every event is in.
fn sums(received: i64, standing: &Standing, are_calls: bool) -> [Vec<Term>; 2] {
    let term = |name, n, class, query| Term { name, figure: grouped(n), class, query };
    let mut came = vec![
        term("received", received, "", None),
        term(if standing.duplicates == 1 { "duplicate" } else { "duplicates" }, standing.duplicates, "", None),
        term("ignored", standing.ignored, "", Some("state=ignored")),
        term("rejected", standing.rejected, if standing.has_rejected { "waiting" } else { "" }, Some("state=rejected")),
        term("accepted", standing.accepted, "", Some("")),
    ];
    if are_calls {
        let (class, is_cut) = (if standing.held > 0 { "waiting" } else { "" }, standing.held > MANY);
        came.insert(2, Term { figure: at_most_many(standing.held), ..term("held", 0, class, Some("state=held")) });
        if is_cut {
            came[0].figure = format!("over {}", came[0].figure);
        }
    }
    let mut became = vec![
        term("accepted", standing.accepted, "", Some("")),
        term("waiting", standing.waiting, "", Some("state=waiting")),
        term(
            "delivered",
            standing.delivered,
            if standing.delivered > 0 { "good" } else { "" },
            Some("state=delivered"),
        ),
        term("gave up", standing.gave_up, if standing.gave_up > 0 { "bad" } else { "" }, Some("state=gave_up")),
    ];
    if standing.forgotten > 0 {
        became.push(term("forgotten: given up, and no longer kept", standing.forgotten, "", None));
    }
    if standing.missing > 0 {
        became.push(term("missing from the log", standing.missing, "bad", None));
    }
    if standing.erased > 0 {
        became.push(term("erased", standing.erased, "", None));
    }
    [came, became]
}

/// A number that is not counted on when it is large.
fn at_most_many(n: i64) -> String {
    if n > MANY { format!("over {}", grouped(MANY)) } else { grouped(n) }
}

fn users_identified(n: i64) -> String {
    match n {
        0 => "No user is identified yet.".to_owned(),
        1 => "1 user is identified.".to_owned(),
        n => format!("{} users are identified.", at_most_many(n)).replacen("over", "Over", 1),
    }
}

/// How many calls wait for their user to be identified.
pub fn held_words(n: i64) -> String {
    match n {
        1 => "1 call waits for an identify of its user".to_owned(),
        n => format!("{} calls wait for an identify of their users", at_most_many(n)).replacen("over", "Over", 1),
    }
}

/// What a kind of event is called.
pub fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Delivered => "Email delivered",
        Kind::Opened => "Opened",
        Kind::Clicked => "Link clicked",
        Kind::Bounced => "Bounced",
        Kind::MarkedAsSpam => "Marked as spam",
        Kind::Unsubscribed => "Unsubscribed",
        Kind::Identify => "Identify",
        Kind::Track => "Track",
    }
}

/// Text as a part of a query: what has a meaning there, or in a path, becomes a dash.
fn query_text(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}
