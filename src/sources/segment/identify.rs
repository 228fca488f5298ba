//! What an `identify` is to Nudgespot: a user to be created or updated.

use std::borrow::Cow;

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::members::{self, Members};
use crate::domain::call::Action;
use crate::domain::email_address::EmailAddress;
use crate::domain::json::{self, Object, write_string};
use crate::domain::rejection::Rejection;
use crate::domain::timestamp;
use crate::sources::element::{self, non_blank};

/// The body of `POST /subscribers/identify`. A trait that has a field of its own there is taken out of the traits; all
/// others, and what a field cannot take, are properties.
///
/// # Errors
/// [`Rejection::Unreadable`] where a trait cannot be passed on.
pub(super) fn action(mut traits: Object<'_>, user_id: &str) -> Result<Action, Rejection> {
    let name = traits.take_first(&["name"], non_blank);
    let mut first_name = traits.take_first(&["firstName", "first_name"], non_blank);
    let mut last_name = traits.take_first(&["lastName", "last_name"], non_blank);
    if let Some(name) = &name {
        let (first, rest) = split(name);
        first_name = first_name.or(Some(first));
        last_name = last_name.or(rest);
    }
    let signed_up_at = traits.take_first(&["createdAt", "created_at", "created"], |raw| element::time(raw).ok());
    let email = traits.take_first(&["email"], address).or_else(|| address_of_user(user_id));
    let phone = traits.take_first(&["phone"], phone_number);
    // Only where a trait says so: whoever has unsubscribed must not be subscribed again by a mere update.
    let is_subscribed = email.as_ref().and_then(|_| {
        let unsubscribed = traits.take_first(&["unsubscribed"], boolean);
        unsubscribed.map(|unsubscribed| !unsubscribed).or_else(|| traits.take_first(&["subscribed"], boolean))
    });

    let mut body = String::with_capacity(512);
    body.push_str(r#"{"subscriber":{"uid":"#);
    write_string(&mut body, user_id);
    for (field, text) in [("name", &name), ("first_name", &first_name), ("last_name", &last_name)] {
        if let Some(text) = text {
            write_field(&mut body, field);
            write_string(&mut body, text);
        }
    }
    if let Some(at) = signed_up_at {
        write_time(&mut body, at);
    }
    let mut properties = Members::default();
    properties.add(traits)?;
    write_field(&mut body, "properties");
    members::write(&mut body, properties.iter());
    write_contacts(&mut body, email.as_deref(), is_subscribed, phone.as_deref());
    body.push_str("}}");
    Ok(Action::Identify { body, email: email.map(Cow::into_owned) })
}

fn write_field(body: &mut String, field: &str) {
    body.push_str(",\"");
    body.push_str(field);
    body.push_str("\":");
}

fn write_time(body: &mut String, at: OffsetDateTime) {
    write_field(body, "signed_up_at");
    write_string(body, &timestamp::rfc3339(at));
}

fn write_contacts(body: &mut String, email: Option<&str>, is_subscribed: Option<bool>, phone: Option<&str>) {
    let status = match is_subscribed {
        Some(true) => r#","subscription_status":"active""#,
        Some(false) => r#","subscription_status":"inactive""#,
        None => "",
    };
    let mut before = r#","contacts":["#;
    for (kind, value, status) in [("email", email, status), ("phone", phone, "")] {
        let Some(value) = value else { continue };
        body.push_str(before);
        body.push_str(r#"{"contact_type":""#);
        body.push_str(kind);
        body.push_str(r#"","contact_value":"#);
        write_string(body, value);
        body.push_str(status);
        body.push('}');
        before = ",";
    }
    if before == "," {
        body.push(']');
    }
}

/// The first word of a name, and the rest.
fn split(name: &str) -> (Cow<'_, str>, Option<Cow<'_, str>>) {
    let name = name.trim();
    match name.split_once(char::is_whitespace) {
        Some((first, rest)) => (Cow::Borrowed(first), Some(Cow::Borrowed(rest.trim_start()))),
        None => (Cow::Borrowed(name), None),
    }
}

/// An email address, as it is written.
fn address(raw: &RawValue) -> Option<Cow<'_, str>> {
    json::string(raw).filter(|text| EmailAddress::parse(text).is_ok())
}

fn address_of_user(user_id: &str) -> Option<Cow<'_, str>> {
    EmailAddress::parse(user_id).is_ok().then_some(Cow::Borrowed(user_id))
}

/// A number as people write it, or one of digits alone.
fn phone_number(raw: &RawValue) -> Option<Cow<'_, str>> {
    let digits = json::number(raw).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    digits.map(Cow::Borrowed).or_else(|| non_blank(raw))
}

fn boolean(raw: &RawValue) -> Option<bool> {
    match raw.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
