//! How a source is doing, in a word and a sentence: judged from both ends, the worst first.

use std::time::Duration;

use time::OffsetDateTime;

use super::words::{clock, count, grouped, since, span};

/// How many webhooks in a row are refused before that is the source's state at once.
const REFUSED_IN_A_ROW: i64 = 3;
/// One that is refused is its state when none has been verified for so long.
const VERIFIED_LATELY: Duration = Duration::from_mins(1);
/// An event that waits longer than this is late.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// Nobody misses events for less than this.
const MIN_QUIET: Duration = Duration::from_hours(24);

/// A source's state, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceState {
    /// Its webhooks are refused.
    Refusing,
    /// Its events wait until somebody does something.
    Paused,
    /// Its events wait for too long.
    Behind,
    /// Nothing has come for longer than usual.
    Quiet,
    /// It lacks something, or no webhook has come yet.
    NotSetUp,
    /// Events come and go.
    Delivering,
}

impl SourceState {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refusing => "Refusing",
            Self::Paused => "Paused",
            Self::Behind => "Behind",
            Self::Quiet => "Quiet",
            Self::NotSetUp => "Not set up",
            Self::Delivering => "Delivering",
        }
    }
}

/// What has been seen of a source's webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenWebhooks {
    /// When one was verified last.
    pub last_verified_at: Option<OffsetDateTime>,
    /// When one was refused last.
    pub last_refused_at: Option<OffsetDateTime>,
    /// How many were refused since one was verified.
    pub n_refused_since_verified: i64,
    /// What seems to be wrong with them, as a part of a sentence: `another secret signs them`.
    pub likely_fault: Option<String>,
}

/// What a source is judged by.
#[derive(Clone, Debug, Default)]
pub struct SourceFacts {
    /// Whether it has a write key.
    pub has_write_key: bool,
    /// Whether it has a signing secret.
    pub has_secret: bool,
    /// Why and since when it is paused.
    pub paused: Option<(String, Option<OffsetDateTime>)>,
    /// Events that wait.
    pub waiting: i64,
    /// Since when the first of them waits.
    pub oldest_waiting_since: Option<OffsetDateTime>,
    /// Why the last attempt failed, until one succeeds.
    pub last_error: Option<String>,
    /// When the last event came.
    pub last_event_at: Option<OffsetDateTime>,
    /// Events that came today (UTC).
    pub accepted_today: i64,
    /// The longest time between two events, in the 14 days before the last.
    pub longest_gap: Option<Duration>,
    /// Since when somebody knows that nothing comes.
    pub quiet_acknowledged_at: Option<OffsetDateTime>,
    /// What has been seen of its webhooks.
    pub webhooks: SeenWebhooks,
}

/// A source's state and what there is to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The state.
    pub state: SourceState,
    /// A sentence or more.
    pub sentence: String,
    /// The same for everybody: without what Segment said, which may speak of a person.
    pub public_sentence: String,
    /// Whether nobody needs to look: it delivers, or somebody knows that nothing comes.
    pub is_ok: bool,
}

impl SourceFacts {
    /// When something came last that was its own.
    #[must_use]
    pub fn last_seen_at(&self) -> Option<OffsetDateTime> {
        self.last_event_at.max(self.webhooks.last_verified_at)
    }

    /// How long it has been silent, where that is longer than anybody would expect without a look at its past.
    #[must_use]
    pub fn silence(&self, now: OffsetDateTime) -> Option<Duration> {
        self.last_seen_at().map(|at| since(at, now)).filter(|silence| *silence >= MIN_QUIET)
    }

    /// Judges the source.
    #[must_use]
    pub fn judge(&self, now: OffsetDateTime) -> Judgement {
        let (state, sentence, public) = self.worst(now);
        let knows = state == SourceState::Quiet && self.quiet_acknowledged_at > self.last_seen_at();
        let public_sentence = public.unwrap_or_else(|| sentence.clone());
        Judgement { state, sentence, public_sentence, is_ok: knows || state == SourceState::Delivering }
    }

    /// The worst that there is to say; and what of it everybody may know, where that is less.
    fn worst(&self, now: OffsetDateTime) -> (SourceState, String, Option<String>) {
        if let Some(lacks) = self.lacks().filter(|_| !self.has_secret) {
            return (SourceState::NotSetUp, lacks, None);
        }
        if let Some(refusing) = self.refusing(now) {
            return (SourceState::Refusing, refusing, None);
        }
        if let Some((reason, at)) = &self.paused {
            let paused = |why: Option<&str>| self.paused_sentence(why, *at, now);
            return (SourceState::Paused, paused(Some(reason)), Some(paused(None)));
        }
        if let Some(lacks) = self.lacks() {
            return (SourceState::NotSetUp, lacks, None);
        }
        if let Some(behind) = self.behind(now) {
            let error = self.last_error.as_ref().map(|error| format!(" Last error: {}.", error.trim_end_matches('.')));
            return (SourceState::Behind, format!("{behind}{}", error.unwrap_or_default()), Some(behind));
        }
        match self.quiet(now) {
            Some(quiet) => (SourceState::Quiet, quiet, None),
            None => (SourceState::Delivering, self.delivering(now), None),
        }
    }

    fn refusing(&self, now: OffsetDateTime) -> Option<String> {
        let SeenWebhooks { last_verified_at, n_refused_since_verified: n, likely_fault, .. } = &self.webhooks;
        let lately = last_verified_at.is_some_and(|at| since(at, now) < VERIFIED_LATELY);
        if *n == 0 || lately && *n < REFUSED_IN_A_ROW {
            return None;
        }
        let when = last_verified_at.map_or_else(|| "yet".to_owned(), |at| format!("since {}", clock(at, now)));
        let fault = likely_fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
        Some(format!("No webhook verified {when}; {} refused{fault}.", grouped(*n)))
    }

    fn paused_sentence(&self, reason: Option<&str>, at: Option<OffsetDateTime>, now: OffsetDateTime) -> String {
        let since = at.map(|at| format!("ince {}", clock(at, now)));
        let what = match (since, reason.map(in_words)) {
            (Some(since), Some(reason)) => format!("S{since}: {reason}."),
            (None, Some(reason)) => format!("{reason}."),
            (Some(since), None) => format!("Delivery is paused s{since}."),
            (None, None) => "Delivery is paused.".to_owned(),
        };
        format!("{what} {}; nothing is lost.", waiting(self.waiting))
    }

    fn lacks(&self) -> Option<String> {
        let lacks = match (self.has_secret, self.has_write_key) {
            (false, false) => "No signing secret and no write key yet",
            (false, true) => "No signing secret yet",
            (true, false) => "No write key yet",
            (true, true) if self.last_seen_at().is_none() && self.waiting == 0 => {
                return Some("No webhook has come yet.".to_owned());
            }
            (true, true) => return None,
        };
        Some(if self.waiting > 0 {
            format!("{lacks}. {}; nothing is lost.", waiting(self.waiting))
        } else {
            format!("{lacks}.")
        })
    }

    fn behind(&self, now: OffsetDateTime) -> Option<String> {
        let wait = since(self.oldest_waiting_since.filter(|_| self.waiting > 0)?, now);
        if wait < MAX_WAIT {
            return None;
        }
        let oldest = if self.waiting == 1 {
            "One event waits".to_owned()
        } else {
            format!("{}, the oldest", waiting(self.waiting))
        };
        Some(format!("{oldest} for {}; it is tried again and again.", span(wait)))
    }

    fn quiet(&self, now: OffsetDateTime) -> Option<String> {
        let silence = self.silence(now)?;
        if self.longest_gap.is_some_and(|gap| silence < gap.saturating_mul(2)) {
            return None;
        }
        let gap = self.longest_gap.map(|gap| format!("; the longest gap of the 14 days before was {}", span(gap)));
        Some(format!("Nothing for {}{}.", span(silence), gap.unwrap_or_default()))
    }

    fn delivering(&self, now: OffsetDateTime) -> String {
        let last =
            self.last_seen_at().map_or_else(String::new, |at| format!("Last event {} ago; ", span(since(at, now))));
        let waiting =
            if self.waiting == 0 { "none waiting".to_owned() } else { format!("{} waiting", grouped(self.waiting)) };
        format!("{last}{} today; {waiting}.", grouped(self.accepted_today))
    }
}

/// Why delivery is paused. What Segment answers to a key that it does not take says less than the status.
fn in_words(reason: &str) -> &str {
    match reason.strip_prefix("Segment answered ").and_then(|answer| answer.get(..3)) {
        Some("401") => "Segment refused the write key (401)",
        Some("403") => "Segment refused the write key (403)",
        _ => reason.trim_end_matches('.'),
    }
}

fn waiting(n: i64) -> String {
    let wait = if n == 1 { "waits" } else { "wait" };
    if n == 0 { "No events wait".to_owned() } else { format!("{} {wait}", count(n, "event", "events")) }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-05-03 14:02:11 UTC);

    fn healthy() -> SourceFacts {
        SourceFacts {
            has_write_key: true,
            has_secret: true,
            last_event_at: Some(NOW - Duration::from_secs(3)),
            accepted_today: 1_204,
            ..SourceFacts::default()
        }
    }

    fn judged(facts: &SourceFacts) -> (SourceState, String, bool) {
        let Judgement { state, sentence, is_ok, .. } = facts.judge(NOW);
        (state, sentence, is_ok)
    }

    #[test]
    fn each_state_says_what_is_the_matter() {
        let minutes = |n: u64| Some(NOW - Duration::from_mins(n));
        let refused = |n, verified| SeenWebhooks {
            last_verified_at: verified,
            n_refused_since_verified: n,
            likely_fault: Some("another secret signs them".to_owned()),
            ..SeenWebhooks::default()
        };
        let paused =
            Some(("Segment answered 401: {\"success\":false}".to_owned(), Some(datetime!(2026-05-03 14:01 UTC))));
        let gap = Some(Duration::from_hours(5));
        let quiet = SourceFacts { last_event_at: minutes(3 * 24 * 60), longest_gap: gap, ..healthy() };
        for (facts, state, sentence, is_ok) in [
            (healthy(), SourceState::Delivering, "Last event 3 s ago; 1,204 today; none waiting.", true),
            (
                SourceFacts { webhooks: refused(38, Some(datetime!(2026-05-03 06:35 UTC))), ..healthy() },
                SourceState::Refusing,
                "No webhook verified since 06:35; 38 refused: another secret signs them.",
                false,
            ),
            (
                SourceFacts { webhooks: refused(1, None), last_event_at: None, ..healthy() },
                SourceState::Refusing,
                "No webhook verified yet; 1 refused: another secret signs them.",
                false,
            ),
            (
                SourceFacts { paused: paused.clone(), waiting: 312, ..healthy() },
                SourceState::Paused,
                "Since 14:01: Segment refused the write key (401). 312 events wait; nothing is lost.",
                false,
            ),
            (
                SourceFacts {
                    waiting: 312,
                    oldest_waiting_since: minutes(4),
                    last_error: Some("no answer".into()),
                    ..healthy()
                },
                SourceState::Behind,
                "312 events wait, the oldest for 4 min; it is tried again and again. Last error: no answer.",
                false,
            ),
            (
                quiet.clone(),
                SourceState::Quiet,
                "Nothing for 3 days; the longest gap of the 14 days before was 5 h.",
                false,
            ),
            (
                SourceFacts { quiet_acknowledged_at: minutes(1), ..quiet.clone() },
                SourceState::Quiet,
                "Nothing for 3 days; the longest gap of the 14 days before was 5 h.",
                true,
            ),
            (
                SourceFacts { has_write_key: false, waiting: 1, ..healthy() },
                SourceState::NotSetUp,
                "No write key yet. 1 event waits; nothing is lost.",
                false,
            ),
            (
                SourceFacts { last_event_at: None, ..healthy() },
                SourceState::NotSetUp,
                "No webhook has come yet.",
                false,
            ),
        ] {
            assert_eq!(judged(&facts), (state, sentence.to_owned(), is_ok));
        }
    }

    #[test]
    fn what_segment_said_is_not_for_everybody() {
        let said = "400: no such user ann@example.com".to_owned();
        let paused = SourceFacts { paused: Some((said.clone(), Some(NOW))), waiting: 2, ..healthy() };
        let behind = SourceFacts {
            last_error: Some(said),
            waiting: 1,
            oldest_waiting_since: Some(NOW - Duration::from_mins(5)),
            ..healthy()
        };
        let public = [paused, behind].map(|facts| facts.judge(NOW).public_sentence);
        assert_eq!(
            public,
            [
                "Delivery is paused since 14:02. 2 events wait; nothing is lost.",
                "One event waits for 5 min; it is tried again and again.",
            ]
        );
    }

    #[test]
    fn the_worst_comes_first() {
        let mut facts = SourceFacts {
            paused: Some(("paused by an admin".into(), None)),
            waiting: 5,
            oldest_waiting_since: Some(NOW - Duration::from_hours(50)),
            last_event_at: Some(NOW - Duration::from_hours(50)),
            webhooks: SeenWebhooks { n_refused_since_verified: 2, ..SeenWebhooks::default() },
            ..healthy()
        };
        let mut states = vec![facts.judge(NOW).state];
        facts.webhooks.n_refused_since_verified = 0;
        states.push(facts.judge(NOW).state);
        facts.paused = None;
        states.push(facts.judge(NOW).state);
        facts.waiting = 0;
        states.push(facts.judge(NOW).state);
        facts.last_event_at = Some(NOW);
        states.push(facts.judge(NOW).state);
        let words: Vec<_> = states.iter().map(|state| state.as_str()).collect();
        assert_eq!(words, ["Refusing", "Paused", "Behind", "Quiet", "Delivering"]);
        assert!(states.is_sorted());
    }

    #[test]
    fn one_bad_webhook_among_good_ones_is_no_state() {
        let seen = |n| SeenWebhooks {
            last_verified_at: Some(NOW - Duration::from_secs(5)),
            n_refused_since_verified: n,
            ..SeenWebhooks::default()
        };
        let state = |n| SourceFacts { webhooks: seen(n), ..healthy() }.judge(NOW).state;
        assert_eq!(
            (state(1), state(2), state(3)),
            (SourceState::Delivering, SourceState::Delivering, SourceState::Refusing)
        );
    }

    #[test]
    fn who_sends_once_a_week_is_not_quiet_after_two_days() {
        let facts =
            |gap| SourceFacts { last_event_at: Some(NOW - Duration::from_hours(48)), longest_gap: gap, ..healthy() };
        assert_eq!(facts(Some(Duration::from_hours(7 * 24))).judge(NOW).state, SourceState::Delivering);
        assert_eq!(facts(None).judge(NOW).state, SourceState::Quiet);
        assert_eq!(facts(Some(Duration::from_hours(23))).judge(NOW).state, SourceState::Quiet);
    }
}
