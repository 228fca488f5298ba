//! What the checklists of sources have in common: what was seen of their requests, and of a test.

use time::OffsetDateTime;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::Frame;
use super::super::visit::Visit;
use crate::admin::doctor::WebhooksSeen;
use crate::admin::events::{EventState, FoundEvent};
use crate::admin::{KeyCheck, SourceView};
use crate::domain::words::{count, since, span};

/// What was seen of a source's requests.
pub(super) struct Seen {
    pub(super) word: &'static str,
    pub(super) class: &'static str,
    pub(super) sentence: String,
    pub(super) is_verified: bool,
    pub(super) is_refused: bool,
    pub(super) is_nothing: bool,
}

/// What both checklists show.
pub(super) struct Checklist {
    pub(super) frame: Frame,
    pub(super) source: SourceView,
    pub(super) key_check: Option<KeyCheck>,
    pub(super) seen: Seen,
    /// The id of a test that was sent.
    pub(super) test: Option<String>,
    pub(super) test_line: Option<String>,
    pub(super) test_arrived: bool,
    pub(super) is_done: bool,
}

impl Checklist {
    /// What is seen of the visited source by now, and of this test.
    pub(super) async fn read(console: &Console, visit: &Visit, test: Option<String>) -> Result<Self, Failure> {
        let id = visit.source()?.id;
        let source = console.admin.source_page_view(id).await?;
        let overview = console.admin.overview(id, visit.now).await?;
        let called = if visit.terms().are_calls { ("request", "requests") } else { ("webhook", "webhooks") };
        let seen = Seen::of(&console.admin.webhooks_seen(id).await?, called, visit.now);
        let test = test.filter(|test| is_of_test(test));
        let (test_line, test_arrived) = match &test {
            Some(test) => test_event(console, id, test).await?,
            None => (None, false),
        };
        let is_done = seen.is_verified && source.delivered > 0;
        Ok(Self {
            frame: Frame::new(visit, "Set-up").with_state(&overview.judgement),
            key_check: console.admin.key_check(id).await?,
            source,
            seen,
            test,
            test_line,
            test_arrived: test_arrived || is_done,
            is_done,
        })
    }
}

/// Whether a text is the id of one of our test events: it comes back in a URL.
fn is_of_test(text: &str) -> bool {
    text.strip_prefix("test_").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What has become of a test event, and whether it has arrived.
async fn test_event(console: &Console, source: Uuid, event_id: &str) -> Result<(Option<String>, bool), Failure> {
    let found = console.admin.find_event(source, event_id).await?;
    let FoundEvent::Journey(journey) = found else { return Ok((None, false)) };
    Ok((Some(journey.summary), journey.event.state == EventState::Delivered))
}

impl Seen {
    /// What was seen of requests, which are called so: one, and several.
    pub(super) fn of(seen: &WebhooksSeen, (one, many): (&str, &str), now: OffsetDateTime) -> Self {
        let n_refused = seen.n_refused_since_verified;
        let refused = count(n_refused, &format!("{one} was refused"), &format!("{many} were refused"));
        let fault = seen.likely_fault.as_ref().map_or("", |fault| fault.explanation.as_str());
        let (word, class, sentence) = match (seen.last_verified_at, seen.n_refused_since_verified) {
            (Some(at), 0) => ("Verified", "good", format!("The last {one} was verified {} ago.", span(since(at, now)))),
            (Some(at), _) => {
                let ago = span(since(at, now));
                ("Refused", "bad", format!("The last {one} was verified {ago} ago; {refused} since. {fault}"))
            }
            (None, 0) => ("Nothing yet", "none", format!("No {one} came yet.")),
            (None, _) => ("Refused", "bad", format!("All that came was refused: {refused}. {fault}")),
        };
        let (is_verified, is_refused) = (seen.last_verified_at.is_some(), seen.n_refused_since_verified > 0);
        Self { word, class, sentence, is_verified, is_refused, is_nothing: !is_verified && !is_refused }
    }
}
