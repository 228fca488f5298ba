//! What people look at first in an event, whichever way it goes.

use serde_json::value::RawValue;

use crate::domain::call::CallFields;
use crate::domain::event::Kind;
use crate::domain::json;
use crate::domain::search_key::{SearchField, TrackFields, is_same};

/// An event of the log, as far as people look at it.
#[derive(Debug)]
pub(super) enum EventFields<'a> {
    /// An email event.
    Email(TrackFields<'a>),
    /// A call; `None`: it is none.
    Call(Option<CallFields<'a>>),
}

impl<'a> EventFields<'a> {
    /// Reads what the log keeps of an event.
    pub(super) fn parse(kind: Kind, stored: &'a [u8]) -> Self {
        match kind {
            Kind::Identify | Kind::Track => Self::Call(CallFields::parse(kind, stored)),
            _ => Self::Email(TrackFields::parse(stored).unwrap_or_default()),
        }
    }

    /// Whether the event's field is `text`, whatever the case.
    pub(super) fn is(&self, field: SearchField, text: &str) -> bool {
        match (self, field) {
            (Self::Email(fields), _) => fields.is(field, text),
            (Self::Call(Some(call)), SearchField::Recipient) => {
                let said = |raw: &'a RawValue| json::string(raw).is_some_and(|said| is_same(&said, text));
                said(call.user_id) || call.email().is_some_and(said)
            }
            (Self::Call(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_by_its_user_and_the_users_address() {
        let identify =
            br#"{"subscriber":{"uid":"U1","contacts":[{"contact_type":"email","contact_value":"Ann@x.org"}]}}"#;
        let fields = EventFields::parse(Kind::Identify, identify);
        assert!(fields.is(SearchField::Recipient, "u1") && fields.is(SearchField::Recipient, "ann@X.org"));
        assert!(!fields.is(SearchField::Recipient, "u2") && !fields.is(SearchField::EmailId, "U1"));
        let none = EventFields::parse(Kind::Track, identify);
        assert!(!none.is(SearchField::Recipient, "u1"), "it is no track");
    }
}
