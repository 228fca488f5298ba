//! How a source is doing, in a word and a sentence: judged from both ends, the worst first.

use std::time::Duration;

use time::OffsetDateTime;

use super::words::{clock, count, grouped, since, span};

/// The reason of an admin's own pause, as it is stored.
pub const PAUSED_BY_ADMIN: &str = "paused by an admin";

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
    /// It lacks something, Segment does not know its write key, or no webhook has come yet.
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
    /// What seems to be wrong with the last of them, as a part of a sentence: `another secret signs them`.
    pub likely_fault: Option<String>,
    /// Whether something else was wrong with others.
    pub has_other_faults: bool,
}

/// What a source is judged by.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct SourceFacts {
    /// Whether what it takes are calls, which go to Nudgespot.
    pub are_calls: bool,
    /// Whether it has a write key, or a REST key of Nudgespot.
    pub has_write_key: bool,
    /// Whether Segment does not know this key.
    pub is_write_key_unknown: bool,
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
    /// Whether what is sent is lost meanwhile: worse than any waiting.
    pub loses_events: bool,
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
        let (state, mut sentence, public) = self.worst(now);
        let knows = state == SourceState::Quiet && self.quiet_acknowledged_at > self.last_seen_at();
        if knows {
            sentence.push_str(" Somebody has said that nothing is to come.");
        }
        let public_sentence = public.unwrap_or_else(|| sentence.clone());
        let loses_events = state == SourceState::NotSetUp && self.unknown_key().is_some();
        let is_ok = knows || state == SourceState::Delivering;
        Judgement { state, sentence, public_sentence, is_ok, loses_events }
    }

    /// The worst that there is to say; and what of it everybody may know, where that is less.
    fn worst(&self, now: OffsetDateTime) -> (SourceState, String, Option<String>) {
        if let Some(lacks) = self.lacks().filter(|_| !self.has_secret) {
            return (SourceState::NotSetUp, lacks, None);
        }
        if let Some(refusing) = self.refusing(now) {
            let paused =
                self.paused.as_ref().map(|_| format!(" Delivery is paused as well. {}.", self.waiting_words()));
            return (SourceState::Refusing, refusing + &paused.unwrap_or_default(), None);
        }
        if let Some((reason, at)) = &self.paused {
            let paused = |why: Option<&str>| self.paused_sentence(why, *at, now);
            return (SourceState::Paused, paused(Some(reason)), Some(paused(None)));
        }
        if let Some(lacks) = self.unknown_key().or_else(|| self.lacks()) {
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
        let SeenWebhooks { last_verified_at, n_refused_since_verified: n, likely_fault, has_other_faults, .. } =
            &self.webhooks;
        let lately = last_verified_at.is_some_and(|at| since(at, now) < VERIFIED_LATELY);
        if *n == 0 || lately && *n < REFUSED_IN_A_ROW {
            return None;
        }
        let when = last_verified_at.map_or_else(|| "yet".to_owned(), |at| format!("since {}", clock(at, now)));
        let because = if *has_other_faults { " for several reasons, the last:" } else { ":" };
        let fault = likely_fault.as_ref().map(|fault| format!("{because} {fault}")).unwrap_or_default();
        let what = if self.are_calls { "request" } else { "webhook" };
        Some(format!("No {what} verified {when}; {} refused{fault}.", grouped(*n)))
    }

    fn paused_sentence(&self, reason: Option<&str>, at: Option<OffsetDateTime>, now: OffsetDateTime) -> String {
        let since = at.map(|at| format!("ince {}", clock(at, now)));
        let what = match (since, reason.map(in_words)) {
            (Some(since), Some(reason)) => format!("S{since}: {reason}."),
            (None, Some(reason)) => format!("{reason}."),
            (Some(since), None) => format!("Delivery is paused s{since}."),
            (None, None) => "Delivery is paused.".to_owned(),
        };
        format!("{what} {}; nothing is lost.", self.waiting_words())
    }

    fn unknown_key(&self) -> Option<String> {
        let drops = self.has_secret && self.has_write_key && self.is_write_key_unknown;
        drops.then(|| {
            "Segment does not know the write key: it answers 200 and drops what comes with it. Enter another."
                .to_owned()
        })
    }

    fn lacks(&self) -> Option<String> {
        let lacks = match (self.has_secret, self.has_write_key) {
            (false, false) => "No signing secret and no write key yet",
            (false, true) => "No signing secret yet",
            (true, false) if self.are_calls => "No REST key yet",
            (true, false) => "No write key yet",
            (true, true) if self.last_seen_at().is_none() && self.waiting == 0 => {
                return Some(
                    if self.are_calls { "No call has come yet." } else { "No webhook has come yet." }.to_owned(),
                );
            }
            (true, true) => return None,
        };
        Some(if self.waiting > 0 {
            format!("{lacks}. {}; nothing is lost.", self.waiting_words())
        } else {
            format!("{lacks}.")
        })
    }

    /// What it takes: one, and several.
    fn nouns(&self) -> (&'static str, &'static str) {
        if self.are_calls { ("call", "calls") } else { ("event", "events") }
    }

    fn waiting_words(&self) -> String {
        let (one, many) = self.nouns();
        match self.waiting {
            0 => format!("No {many} wait"),
            1 => format!("1 {one} waits"),
            n => format!("{} wait", count(n, one, many)),
        }
    }

    fn behind(&self, now: OffsetDateTime) -> Option<String> {
        let wait = since(self.oldest_waiting_since.filter(|_| self.waiting > 0)?, now);
        if wait < MAX_WAIT {
            return None;
        }
        let oldest = if self.waiting == 1 {
            self.waiting_words().replacen('1', "One", 1)
        } else {
            format!("{}, the oldest", self.waiting_words())
        };
        let they = if self.waiting == 1 { "it is" } else { "they are" };
        Some(format!("{oldest} for {}; {they} tried again and again.", span(wait)))
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
        let last = self
            .last_seen_at()
            .map_or_else(String::new, |at| format!("Last {} {} ago; ", self.nouns().0, span(since(at, now))));
        let waiting =
            if self.waiting == 0 { "none waiting".to_owned() } else { format!("{} waiting", grouped(self.waiting)) };
        format!("{last}{} today; {waiting}.", grouped(self.accepted_today))
    }
}

/// Why delivery is paused. What Segment answers to a key that it does not take says less than the status.
#[must_use]
pub fn in_words(reason: &str) -> &str {
    let status = |who: &str| reason.strip_prefix(who).and_then(|answer| answer.get(..3));
    match (status("Segment answered "), status("Nudgespot answered ")) {
        (Some("401"), _) => "Segment refused the write key (401)",
        (Some("403"), _) => "Segment refused the write key (403)",
        (_, Some("401")) => "Nudgespot refused the REST key (401)",
        (_, Some("403")) => "Nudgespot refused the REST key (403)",
        _ if reason == PAUSED_BY_ADMIN => "an admin paused it",
        _ => reason.trim_end_matches('.'),
    }
}

#[cfg(test)]
mod tests;
