//! What went wrong, in three severities, and what can be done about it.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page};
use super::super::terms::Terms;
use super::super::visit::Visit;
use super::utc;
use crate::admin::ReplayView;
use crate::admin::doctor::{REFUSED_PAGE, RefusedWebhookView, WebhooksSeen};
use crate::admin::problems::{Group, NEWEST_LOOKED_AT, Problems};
use crate::domain::ignored;
use crate::domain::text::visible;
use crate::domain::words::{count, grouped};

/// How many replays are shown.
const REPLAYS: usize = 5;

#[derive(Template)]
#[template(path = "problems.html")]
pub(super) struct ProblemsPage {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    error: Option<String>,
    gave_up: Severity,
    /// Those that were given up and are not kept any more.
    forgotten: Option<String>,
    rejected: Severity,
    ignored: Severity,
    refused: Vec<Refused>,
    refused_sentence: String,
    refused_class: &'static str,
    replays: Vec<ReplayView>,
    /// A replay that goes on.
    running: Option<ReplayView>,
}

/// Events that share a severity.
struct Severity {
    n: i64,
    words: String,
    groups: Vec<Row>,
    /// Whether the groups are of the newest only.
    is_cut: bool,
}

/// Events that share a reason.
struct Row {
    reason: String,
    /// The same as it is stored, to be asked for by it.
    exact_reason: String,
    n: String,
    first_at: String,
    first: String,
    last_at: String,
    last: String,
    example: String,
    /// Its id as a part of a path.
    example_id: String,
}

/// A webhook that was refused.
struct Refused {
    at: String,
    shown_at: String,
    explanation: String,
    headers: Vec<(String, String)>,
    body: String,
    /// What is not shown of it.
    more: Option<String>,
}

/// `GET /sources/{source}/problems`
pub async fn show(console: Data<Console>, visit: Visit) -> Result<HttpResponse, Failure> {
    page(&problems(&console, &visit, None).await?)
}

pub(super) async fn problems(console: &Console, visit: &Visit, error: Option<String>) -> Result<ProblemsPage, Failure> {
    let (id, admin) = (visit.source()?.id, &console.admin);
    let overview = admin.overview(id, visit.now).await?;
    let Problems { gave_up, rejected, ignored } = admin.problems(id).await?;
    let refused = admin.refused_webhooks(id, None, REFUSED_PAGE).await?.webhooks;
    let seen = admin.webhooks_seen(id).await?;
    let mut replays = admin.replays(id).await?;
    replays.truncate(REPLAYS);
    let running = replays.iter().find(|replay| replay.goes_on()).cloned();
    let (standing, terms) = (&overview.standing, visit.terms());
    Ok(ProblemsPage {
        frame: Frame::new(visit, "Problems").with_state(&overview.judgement),
        id,
        may_change: visit.may_change,
        error,
        gave_up: severity(standing.gave_up, gave_up, terms, "given up"),
        forgotten: (standing.forgotten > 0).then(|| {
            let (n, Terms { one, many, .. }) = (standing.forgotten, terms);
            let what = count(n, &format!("{one} that was given up is"), &format!("{many} that were given up are"));
            format!("{what} no longer kept, and cannot be sent again.")
        }),
        rejected: severity(standing.rejected, rejected, terms, "rejected"),
        ignored: severity(standing.ignored, ignored, terms, "ignored"),
        refused_sentence: refused_sentence(&seen, if terms.are_calls { "request" } else { "webhook" }),
        refused_class: match (seen.n_refused_since_verified, seen.n_refused) {
            (0, _) => "none",
            _ => "bad",
        },
        refused: refused.into_iter().map(row_of_refused).collect(),
        replays,
        running,
    })
}

fn severity(n: i64, groups: Vec<Group>, terms: &Terms, became: &str) -> Severity {
    let is_cut = n > NEWEST_LOOKED_AT;
    let groups: Vec<Row> = groups.into_iter().map(row).collect();
    let (one, many) = (format!("{} was {became}", terms.one), format!("{} were {became}", terms.many));
    Severity { n, words: count(n, &one, &many), groups, is_cut }
}

fn row(group: Group) -> Row {
    Row {
        reason: visible(ignored::in_words(&group.reason).unwrap_or(&group.reason)).into_owned(),
        exact_reason: group.reason,
        n: grouped(group.n),
        first: utc(&group.first_at),
        first_at: group.first_at,
        last: utc(&group.last_at),
        last_at: group.last_at,
        example_id: path_part(&group.example),
        example: visible(&group.example).into_owned(),
    }
}

/// An id as a part of a path.
fn path_part(event_id: &str) -> String {
    let mut url = reqwest::Url::parse("http://host/").expect("a constant URL");
    if let Ok(mut path) = url.path_segments_mut() {
        path.push(event_id);
    }
    url.path().trim_start_matches('/').to_owned()
}

fn refused_sentence(seen: &WebhooksSeen, what: &str) -> String {
    if seen.n_refused == 0 {
        return format!("No {what} was refused.");
    }
    let all = count(seen.n_refused, &format!("{what} was refused"), &format!("{what}s were refused"));
    match (seen.n_refused_since_verified, seen.last_verified_at) {
        (0, _) => format!("{all} in all, none since the last one that was verified."),
        (n, Some(_)) => format!("{all} in all, {} of them since the last one that was verified.", grouped(n)),
        (_, None) => format!("{all}, and none was ever verified."),
    }
}

fn row_of_refused(refused: RefusedWebhookView) -> Refused {
    let more = (!refused.is_whole)
        .then(|| format!("Only the beginning was kept; it had {} bytes.", grouped(refused.body_bytes)));
    Refused {
        shown_at: utc(&refused.received_at),
        at: refused.received_at,
        explanation: refused.explanation,
        headers: refused
            .headers
            .iter()
            .map(|(name, value)| (visible(name).into_owned(), visible(value).into_owned()))
            .collect(),
        body: in_lines(&refused.body),
        more,
    }
}

/// A body with its lines. The other half of a CR LF is spelled out: it may be what was changed.
fn in_lines(body: &str) -> String {
    body.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_keeps_its_lines_and_gives_no_orders() {
        assert_eq!(in_lines("{\n  \"a\": 1\r\n}\u{1b}"), "{\n  \"a\": 1\\u{d}\n}\\u{1b}");
    }

    #[test]
    fn whatever_an_id_holds_it_stays_one_part_of_the_path() {
        for (id, expected) in
            [("evt_1", "evt_1"), ("a/b?c#d e%", "a%2Fb%3Fc%23d%20e%25"), ("<script>\"'", "%3Cscript%3E%22'")]
        {
            assert_eq!(path_part(id), expected);
        }
    }
}
