//! What a `track` is to Nudgespot: an activity of a user.

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::members::{self, Members};
use crate::domain::call::Action;
use crate::domain::event::Kind;
use crate::domain::json::{Object, write_string};
use crate::domain::rejection::Rejection;
use crate::domain::timestamp;
use crate::sources::OWN_MARK;

/// What happened.
pub(super) struct Event<'e> {
    /// Its name, as JSON.
    pub raw: &'e RawValue,
    /// Its name.
    pub name: &'e str,
    /// When it happened.
    pub at: OffsetDateTime,
    /// To whom.
    pub user_id: &'e str,
}

/// The body of `POST /activities`: the properties as they came, and the traits that they lack. An activity that has the name
/// of an email event is marked, so that it is known should Nudgespot report it as one.
///
/// # Errors
/// [`Rejection::Unreadable`] where a value cannot be passed on.
pub(super) fn action<'a>(
    event: &Event<'_>,
    mut properties: Object<'a>,
    mut traits: Object<'a>,
) -> Result<Action, Rejection> {
    let mark = Kind::from_name(event.name).and(Some(OWN_MARK));
    if let Some((key, _)) = mark {
        properties.take(key);
        traits.take(key);
    }
    let mut members = Members::default();
    members.add(properties)?;
    members.add(traits)?;

    let mut body = String::with_capacity(512);
    body.push_str(r#"{"activity":{"event":"#);
    body.push_str(event.raw.get());
    body.push_str(r#","timestamp":""#);
    body.push_str(&timestamp::rfc3339(event.at));
    body.push_str(r#"","subscriber":{"uid":"#);
    write_string(&mut body, event.user_id);
    body.push_str(r#"},"properties":"#);
    members::write(&mut body, members.iter());
    if let Some((key, value)) = mark {
        body.pop();
        if members.iter().next().is_some() {
            body.push(',');
        }
        write_string(&mut body, key);
        body.push(':');
        write_string(&mut body, value);
        body.push('}');
    }
    body.push_str("}}");
    Ok(Action::Track { body })
}
