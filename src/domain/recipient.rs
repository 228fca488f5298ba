//! Whom an event concerns: subscriber id, email address, anonymous id, and what else was said of the person.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{self, Object, id_text, text};
use super::properties::{Properties, Value};
use super::rejection::Rejection;

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

/// Objects that hold a recipient.
const OBJECTS: [&str; 2] = ["subscriber", "user"];
/// What may say who it is, in such an object or at the top level of an event; `id` is the recipient's only in the former.
const KEYS: [&str; 7] = ["uid", "user_id", "email", "contacts", "contact", "anon_id", "id"];

/// Whether `key`, at the top level of an event, says who the recipient is.
pub(crate) fn is_field(key: &str) -> bool {
    OBJECTS.contains(&key) || (key != "id" && KEYS.contains(&key))
}

impl<'a> Recipient<'a> {
    /// Takes the recipient out of an event: out of what it says itself, else out of what was said beside it. In each, the
    /// first of the objects under `subscriber` and `user` that says who it is, else the top level.
    pub(crate) fn take(own: &mut Object<'a>, beside: &mut [Object<'a>]) -> Result<Self, Rejection> {
        // Objects that do not say who it is still say something of the recipient.
        let mut nameless = Vec::new();
        for said in std::iter::once(own).chain(beside) {
            for key in OBJECTS {
                let Some(raw) = said.find(key) else { continue };
                let Some(mut person) = Object::parse(raw)? else { continue };
                said.take(key);
                person.drop_blank(|key| KEYS.contains(&key));
                if let Some(found) = Self::identify(&mut person, &["uid", "user_id", "id"]) {
                    return found.with_traits(person, nameless);
                }
                nameless.push(person);
            }
            if let Some(found) = Self::identify(said, &["uid", "user_id"]) {
                return found.with_traits(Object::default(), nameless);
            }
        }
        Err(Rejection::NoRecipient)
    }

    fn identify(person: &mut Object<'a>, id_keys: &[&str]) -> Option<Self> {
        let uid = person.take_first(id_keys, id_text);
        let email =
            person.take_first(&["email"], text).or_else(|| person.take_first(&["contacts", "contact"], email_contact));
        let identity = if let Some(uid) = uid {
            Identity::User(uid)
        } else if let Some(email) = &email {
            Identity::Anonymous(email.clone())
        } else {
            Identity::Anonymous(person.take_first(&["anon_id"], id_text)?)
        };
        let mut traits = Properties::default();
        if let Some(email) = email {
            traits.put_value(Cow::Borrowed("email"), Value::Json(email));
        }
        Some(Self { identity, traits })
    }

    fn with_traits(mut self, person: Object<'a>, nameless: Vec<Object<'a>>) -> Result<Self, Rejection> {
        for (key, value) in std::iter::once(person).chain(nameless).flatten() {
            self.traits.put(key, value)?;
        }
        Ok(self)
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
        ["contact_value", "value"].iter().find_map(|key| text(contact.find(key)?))
    })
}
