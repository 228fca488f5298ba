//! What is said of an event, gathered under Segment's names for it.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::value::RawValue;

use super::json::{self, NameIndex, Object, text, write_string};
use super::rejection::Rejection;

/// Other names of a property, and Segment's name.
const SYNONYMS: [(&str, &str); 6] = [
    ("mail_id", "email_id"),
    ("message_id", "email_id"),
    ("message_uid", "email_id"),
    ("subject", "email_subject"),
    ("url", "link_url"),
    ("reason", "bounce_reason"),
];
/// Objects whose keys become properties with a prefix.
const OBJECTS: [(&str, &str); 5] =
    [("message", "email_"), ("campaign", "campaign_"), ("link", "link_"), ("list", "list_"), ("bounce", "bounce_")];
/// Properties that Segment's email events define. What says nothing in one of them is left out.
const DEFINED: [&str; 10] = [
    "email_id",
    "email_subject",
    "campaign_id",
    "campaign_name",
    "link_id",
    "link_url",
    "list_id",
    "list_name",
    "bounce_type",
    "bounce_reason",
];
const IP: [&str; 2] = ["ip", "ip_address"];
const USER_AGENT: [&str; 2] = ["user_agent", "userAgent"];

/// Names and values, each name once.
#[derive(Debug, Default)]
pub struct Properties<'a> {
    list: Vec<(Cow<'a, str>, Value<'a>)>,
    index: NameIndex<'a>,
}

/// A property's value, as JSON.
#[derive(Debug)]
pub enum Value<'a> {
    /// JSON as it stands.
    Json(Cow<'a, str>),
    /// An id that came as a number, and is written as a string of its digits.
    Digits(&'a str),
}

/// The client in which the recipient opened or clicked. The texts are JSON strings.
#[derive(Debug, Default)]
pub struct Client<'a> {
    /// Its IP address.
    pub ip: Option<Cow<'a, str>>,
    /// Its `User-Agent`.
    pub user_agent: Option<Cow<'a, str>>,
}

impl<'a> Properties<'a> {
    /// Gathers the properties out of what is left of `event` when its name, id, time and recipient are taken, and the
    /// client, which does not belong among them. What is there already stays.
    ///
    /// Nothing that the sender said is dropped: what has no name at Segment is passed on under its own.
    pub(crate) fn gather(&mut self, client: &mut Client<'a>, mut event: Object<'a>) -> Result<(), Rejection> {
        let mut non_blank = take_object(&mut event, "properties")?;
        let mut client_object = take_object(&mut event, "client")?;
        non_blank.drop_blank(is_client_key);
        client_object.drop_blank(is_client_key);
        let mut take_text = |keys: &[&str]| {
            [&mut non_blank, &mut client_object, &mut event]
                .into_iter()
                .find_map(|object| object.take_first(keys, text))
        };
        let (ip, user_agent) = (take_text(&IP), take_text(&USER_AGENT));
        client.ip = client.ip.take().or(ip);
        client.user_agent = client.user_agent.take().or(user_agent);

        self.put_all(non_blank)?;
        for (name, prefix) in OBJECTS {
            self.put_prefixed(prefix, take_object(&mut event, name)?)?;
        }
        self.put_prefixed("client_", client_object)?;
        self.put_all(event)
    }

    /// The object's own names first, then its synonyms, each where nothing has its place.
    fn put_all(&mut self, object: Object<'a>) -> Result<(), Rejection> {
        let mut synonyms = Vec::new();
        for (key, value) in object {
            match SYNONYMS.iter().position(|(synonym, _)| *synonym == key) {
                Some(rank) => synonyms.push((rank, value)),
                None => self.put(key, value).map(drop)?,
            }
        }
        synonyms.sort_unstable_by_key(|(rank, _)| *rank);
        for (rank, value) in synonyms {
            let (synonym, name) = SYNONYMS[rank];
            if !self.put(Cow::Borrowed(name), value)? {
                self.put(Cow::Borrowed(synonym), value)?;
            }
        }
        Ok(())
    }

    fn put_prefixed(&mut self, prefix: &str, object: Object<'a>) -> Result<(), Rejection> {
        for (key, value) in object {
            self.put(Cow::Owned(format!("{prefix}{key}")), value)?;
        }
        Ok(())
    }

    /// Adds a value unless the name is taken, or the value says nothing where it should; `false`: the name is taken.
    pub(crate) fn put(&mut self, name: Cow<'a, str>, raw: &'a RawValue) -> Result<bool, Rejection> {
        if json::is_blank(raw) && (name.ends_with("_id") || DEFINED.contains(&name.as_ref())) {
            return Ok(true);
        }
        if !json::is_portable(raw) {
            return Err(Rejection::Unreadable(format!("the value of `{name}` cannot be passed on")));
        }
        let value = match json::number(raw) {
            Some(digits) if name.ends_with("_id") => Value::Digits(digits),
            _ => Value::Json(Cow::Borrowed(raw.get())),
        };
        Ok(self.put_value(name, value))
    }

    /// Adds a value unless the name is taken; says whether it was added.
    pub(crate) fn put_value(&mut self, name: Cow<'a, str>, value: Value<'a>) -> bool {
        let free = self.index.position(&self.list, &name).is_none();
        if free {
            self.list.push((name, value));
        }
        free
    }

    /// A property's value.
    pub(crate) fn find(&self, name: &str) -> Option<&Value<'a>> {
        self.list.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Writes a JSON object.
    pub(crate) fn write(&self, out: &mut String) {
        out.push('{');
        for (i, (name, value)) in self.list.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_string(out, name);
            out.push(':');
            match value {
                Value::Json(json) => out.push_str(json),
                Value::Digits(digits) => write!(out, "\"{digits}\"").expect("a String takes all"),
            }
        }
        out.push('}');
    }
}

/// Whether `key`, at the top level of an event, holds properties or speaks of the client.
pub(crate) fn is_field(key: &str) -> bool {
    key == "properties" || key == "client" || OBJECTS.iter().any(|(name, _)| *name == key) || is_client_key(key)
}

fn is_client_key(key: &str) -> bool {
    IP.contains(&key) || USER_AGENT.contains(&key)
}

/// Takes the object under `key`; an empty one where there is none, or another kind of value, which stays.
fn take_object<'a>(event: &mut Object<'a>, key: &str) -> Result<Object<'a>, Rejection> {
    let Some(raw) = event.find(key) else { return Ok(Object::default()) };
    let Some(object) = Object::parse(raw)? else { return Ok(Object::default()) };
    event.take(key);
    Ok(object)
}
