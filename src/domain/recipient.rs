//! Whom an event concerns: subscriber id, email address, anonymous id, and what else was said of the person.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{self, Object};
use super::payload::Rejection;
use super::properties::{Properties, Value};

/// The recipient of the email. At least one of the three identities is there.
#[derive(Debug)]
pub struct Recipient<'a> {
    /// The id that Segment knows the person by, or one to go by without it.
    pub identity: Identity<'a>,
    /// What else is known of the person: `email` first.
    pub traits: Properties<'a>,
}

/// Who it is, for Segment: `userId`, or without one `anonymousId`. The text is a JSON string.
#[derive(Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// The subscriber's id.
    User(Cow<'a, str>),
    /// The email address, or without one the sender's own anonymous id.
    Anonymous(Cow<'a, str>),
}

impl<'a> Recipient<'a> {
    /// Takes the recipient out of `event`: the object under `subscriber` or `user`, else keys at the top level.
    pub(super) fn take(event: &mut Object<'a>) -> Result<Self, Rejection> {
        for key in ["subscriber", "user"] {
            let Some(raw) = event.find(key) else { continue };
            let Some(mut person) = Object::parse(raw)? else { continue };
            event.take(key);
            let (identity, email) = Self::identify(&mut person, &["uid", "user_id", "id"])?;
            let mut traits = Properties::default();
            traits.put_email(email);
            for (key, value) in person {
                traits.put(key, value)?;
            }
            return Ok(Self { identity, traits });
        }
        let (identity, email) = Self::identify(event, &["uid", "user_id"])?;
        let mut traits = Properties::default();
        traits.put_email(email);
        Ok(Self { identity, traits })
    }

    fn identify(person: &mut Object<'a>, id_keys: &[&str]) -> Result<(Identity<'a>, Option<Cow<'a, str>>), Rejection> {
        let uid = person.take_first(id_keys, id_text);
        let email =
            person.take_first(&["email"], text).or_else(|| person.take_first(&["contacts", "contact"], email_contact));
        let identity = if let Some(uid) = uid {
            Identity::User(uid)
        } else if let Some(email) = &email {
            Identity::Anonymous(email.clone())
        } else if let Some(anon_id) = person.take_first(&["anon_id"], id_text) {
            Identity::Anonymous(anon_id)
        } else {
            return Err(Rejection::NoRecipient);
        };
        Ok((identity, email))
    }
}

/// A string that says something, as the JSON it is written in.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let says_something = json::string(raw).is_some_and(|text| !text.trim().is_empty());
    says_something.then_some(Cow::Borrowed(raw.get()))
}

/// An id, which may come as a number, as a JSON string.
fn id_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    match json::number(raw) {
        Some(digits) => Some(Cow::Owned(format!("\"{digits}\""))),
        None => text(raw),
    }
}

/// The first contact of type `email`, in a list of contacts or a contact alone.
fn email_contact(raw: &RawValue) -> Option<Cow<'_, str>> {
    let contacts =
        if raw.get().starts_with('[') { serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok()? } else { vec![raw] };
    contacts.into_iter().find_map(|contact| {
        let contact = Object::parse(contact).ok()??;
        let kind = json::string(contact.find("contact_type")?)?;
        if !kind.eq_ignore_ascii_case("email") {
            return None;
        }
        contact.find("contact_value").or_else(|| contact.find("value")).and_then(text)
    })
}

impl<'a> Properties<'a> {
    fn put_email(&mut self, email: Option<Cow<'a, str>>) {
        if let Some(email) = email {
            self.put_value(Cow::Borrowed("email"), Value::Json(email));
        }
    }
}
