//! The filters of a list of events, as they stand in a URL.

use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};
use utoipa::IntoParams;

use super::failure::Failure;
use crate::admin::events::{EventFilter, EventState};
use crate::domain::event::Kind;

/// Which events are meant. What is left out, or empty, may be anything.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// The recipient's `uid`, email address or anonymous id, whatever the case; of calls, the user's id or address (of those that
    /// are held, the id as it was written).
    pub recipient: Option<String>,
    /// `delivered`, `opened`, `clicked`, `bounced`, `marked_as_spam` or `unsubscribed`; of a source of calls, `identify` or
    /// `track`.
    #[param(pattern = "^(|delivered|opened|clicked|bounced|marked_as_spam|unsubscribed|identify|track)$")]
    pub kind: Option<String>,
    /// `waiting`, `delivered`, `gave_up`, `ignored` or `rejected`; of a source of calls also `held`: those that wait for their
    /// user to be identified. They are in no other list.
    #[param(pattern = "^(|held|waiting|delivered|gave_up|ignored|rejected)$")]
    pub state: Option<String>,
    /// The email.
    pub email_id: Option<String>,
    /// The campaign.
    pub campaign_id: Option<String>,
    /// Received, or sent again, at this time or later: RFC 3339, or without a zone in UTC.
    #[param(example = "2026-01-27T09:15:00Z")]
    pub since: Option<String>,
    /// Received, or sent again, before this time.
    #[param(example = "2026-01-28")]
    pub until: Option<String>,
}

fn said(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

impl EventQuery {
    /// The filter that it spells.
    ///
    /// # Errors
    /// [`Failure::Malformed`] says which part is none.
    pub fn parse(&self) -> Result<EventFilter, Failure> {
        let kind = |name: &str| {
            let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
            known.ok_or_else(|| malformed("kind", "no kind of event has this name"))
        };
        let state = |name: &str| {
            EventState::parse(name)
                .ok_or_else(|| malformed("state", "it is one of held, waiting, delivered, gave_up, ignored, rejected"))
        };
        let time = |field: &'static str, text: &str| {
            parse_time(text).ok_or_else(|| malformed(field, "a time is written as 2026-01-27T09:15:00Z"))
        };
        let text = |text: &Option<String>| said(text.as_deref()).map(str::to_owned);
        Ok(EventFilter {
            kind: said(self.kind.as_deref()).map(kind).transpose()?,
            state: said(self.state.as_deref()).map(state).transpose()?,
            recipient: text(&self.recipient),
            email_id: text(&self.email_id),
            campaign_id: text(&self.campaign_id),
            since: said(self.since.as_deref()).map(|text| time("since", text)).transpose()?,
            until: said(self.until.as_deref()).map(|text| time("until", text)).transpose()?,
        })
    }

    /// The query that says it again, to be followed by more; empty, or ending in `&`.
    pub fn to_query(&self) -> String {
        let mut url = reqwest::Url::parse("http://host/").expect("a constant URL");
        {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in [
                ("recipient", &self.recipient),
                ("kind", &self.kind),
                ("state", &self.state),
                ("email_id", &self.email_id),
                ("campaign_id", &self.campaign_id),
                ("since", &self.since),
                ("until", &self.until),
            ] {
                if let Some(value) = said(value.as_deref()) {
                    pairs.append_pair(name, value);
                }
            }
        }
        url.query().filter(|query| !query.is_empty()).map_or_else(String::new, |query| format!("{query}&"))
    }
}

fn malformed(field: &str, why: &str) -> Failure {
    Failure::Malformed(format!("`{field}`: {why}."))
}

fn parse_time(text: &str) -> Option<OffsetDateTime> {
    let in_utc = |text: &str| {
        let minutes = format_description!("[year]-[month]-[day]T[hour]:[minute]");
        let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        PrimitiveDateTime::parse(text, seconds).or_else(|_| PrimitiveDateTime::parse(text, minutes)).ok()
    };
    let day = |text: &str| Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .or_else(|| in_utc(text).map(PrimitiveDateTime::assume_utc))
        .or_else(|| day(text).map(|day| PrimitiveDateTime::new(day, Time::MIDNIGHT).assume_utc()))?;
    // What the database can compare with, with room for what is added to it.
    (1970..=9000).contains(&at.year()).then_some(at)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn times_are_read_as_programs_and_browsers_write_them() {
        for (text, expected) in [
            ("2026-01-27T10:15:00.5+01:00", Some(datetime!(2026-01-27 09:15:00.5 UTC))),
            ("2026-01-27T09:15", Some(datetime!(2026-01-27 09:15 UTC))),
            ("2026-01-27T09:15:07", Some(datetime!(2026-01-27 09:15:07 UTC))),
            ("2026-01-27", Some(datetime!(2026-01-27 00:00 UTC))),
            ("yesterday", None),
            ("9999-12-31", None),
            ("0001-01-01", None),
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
    }

    #[test]
    fn a_query_is_written_again_as_it_was_meant() {
        let text = |text: &str| Some(text.to_owned());
        let query = EventQuery {
            recipient: text(" a&b=c@x "),
            kind: text(""),
            state: text("gave_up"),
            ..EventQuery::default()
        };
        assert_eq!(query.to_query(), "recipient=a%26b%3Dc%40x&state=gave_up&");
        assert_eq!(EventQuery::default().to_query(), "");
        let filter = query.parse().expect("a filter");
        assert_eq!((filter.recipient.as_deref(), filter.state), (Some("a&b=c@x"), Some(EventState::GaveUp)));
        for wrong in [
            EventQuery { kind: text("x"), ..EventQuery::default() },
            EventQuery { state: text("gave up"), ..EventQuery::default() },
            EventQuery { since: text("now"), ..EventQuery::default() },
        ] {
            assert!(wrong.parse().is_err(), "{wrong:?}");
        }
    }
}
