//! Which events are meant.

use time::OffsetDateTime;

use super::fields::EventFields;
use crate::domain::event::Kind;
use crate::domain::search_key::{SearchField, SearchKey, is_same};

/// What has become of an event, in the words that there are for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventState {
    /// It is a call that waits for its user to be identified.
    Held,
    /// It is to be sent.
    Waiting,
    /// The destination's API accepted it.
    Delivered,
    /// It was not accepted, and is not tried any more.
    GaveUp,
    /// It is not meant to be forwarded.
    Ignored,
    /// It cannot be used.
    Rejected,
}

impl EventState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Held, Self::Waiting, Self::Delivered, Self::GaveUp, Self::Ignored, Self::Rejected];

    /// Its name in URLs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::GaveUp => "gave_up",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
        }
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::GaveUp => "gave up",
            _ => self.as_str(),
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether such an event is forwarded, and so in the log.
    #[must_use]
    pub fn is_of_log(self) -> bool {
        matches!(self, Self::Waiting | Self::Delivered | Self::GaveUp)
    }
}

impl serde::Serialize for EventState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Which events are meant; what is `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// What happened.
    pub kind: Option<Kind>,
    /// What has become of it.
    pub state: Option<EventState>,
    /// The recipient's `uid`, email address or anonymous id, whatever the case.
    pub recipient: Option<String>,
    /// The email.
    pub email_id: Option<String>,
    /// The campaign.
    pub campaign_id: Option<String>,
    /// Received, or sent again, at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Received, or sent again, before this time.
    pub until: Option<OffsetDateTime>,
}

impl EventFilter {
    /// Whether everything is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it looks for what an event says.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.texts().next().is_some()
    }

    /// What it looks for in an event.
    pub(super) fn texts(&self) -> impl Iterator<Item = (SearchField, &str)> {
        let fields = [
            (SearchField::Recipient, &self.recipient),
            (SearchField::EmailId, &self.email_id),
            (SearchField::CampaignId, &self.campaign_id),
        ];
        fields.into_iter().filter_map(|(field, text)| Some((field, text.as_deref()?)))
    }

    /// The keys that a block must have.
    pub(super) fn keys(&self) -> Vec<Vec<u8>> {
        let texts = self.texts().map(|(field, text)| SearchKey::new(field, text));
        texts.chain(self.kind.map(SearchKey::of_kind)).map(|key| key.to_bytes().to_vec()).collect()
    }

    /// Whether an event of the log is meant, by what it says.
    pub(super) fn is_meant(&self, kind: Kind, at: OffsetDateTime, fields: &EventFields<'_>) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
            && self.is_in_time(at)
            && self.texts().all(|(field, text)| fields.is(field, text))
    }

    pub(super) fn is_in_time(&self, at: OffsetDateTime) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }

    /// Whether events of the log may be meant.
    pub(super) fn wants_log(&self) -> bool {
        self.state.is_none_or(EventState::is_of_log)
    }

    /// The dispositions of the events beside the log that may be meant. They are of no kind.
    pub(super) fn dispositions(&self) -> Vec<String> {
        if self.kind.is_some() {
            return Vec::new();
        }
        let states = [EventState::Ignored, EventState::Rejected].into_iter();
        let wanted = states.filter(|state| self.state.is_none_or(|wanted| wanted == *state));
        wanted.map(|state| state.as_str().to_owned()).collect()
    }

    /// Whether an event that was not understood may be meant: whether it says what is looked for, wherever.
    pub(super) fn is_said_in(&self, payload: &str) -> bool {
        if !self.has_text() {
            return true;
        }
        let Ok(value) = serde_json::from_str::<serde_json::Value>(payload) else { return false };
        self.texts().all(|(_, text)| says(&value, text))
    }
}

/// Whether a JSON value is, or holds, this text.
fn says(value: &serde_json::Value, text: &str) -> bool {
    match value {
        serde_json::Value::String(said) => is_same(said, text),
        serde_json::Value::Number(said) => said.to_string() == text,
        serde_json::Value::Array(values) => values.iter().any(|value| says(value, text)),
        serde_json::Value::Object(values) => values.values().any(|value| says(value, text)),
        serde_json::Value::Null | serde_json::Value::Bool(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_takes_events_from_one_side_and_a_kind_from_the_log() {
        let of = |state| EventFilter { state: Some(state), ..EventFilter::default() };
        assert_eq!((EventFilter::default().wants_log(), EventFilter::default().dispositions().len()), (true, 2));
        assert_eq!((of(EventState::GaveUp).wants_log(), of(EventState::GaveUp).dispositions().len()), (true, 0));
        assert_eq!(
            (of(EventState::Ignored).wants_log(), of(EventState::Ignored).dispositions()),
            (false, vec!["ignored".into()])
        );
        let kind = EventFilter { kind: Some(Kind::Opened), ..EventFilter::default() };
        assert!(kind.wants_log() && kind.dispositions().is_empty());
        for state in EventState::ALL {
            assert_eq!(EventState::parse(state.as_str()), Some(state));
        }
    }

    #[test]
    fn what_was_not_understood_is_found_by_what_it_says_anywhere() {
        let filter = |text: &str| EventFilter { recipient: Some(text.into()), ..EventFilter::default() };
        let payload = r#"{"event":"sent","to":[{"email":"Ann@example.com"}],"id":7}"#;
        assert!(filter("ann@EXAMPLE.com").is_said_in(payload) && filter("7").is_said_in(payload));
        assert!(!filter("nn@example.com").is_said_in(payload));
        assert!(EventFilter::default().is_said_in("no JSON") && !filter("no JSON").is_said_in("no JSON"));
    }
}
