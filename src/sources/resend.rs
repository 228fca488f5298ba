//! Resend's webhooks: one event a request, signed by Standard Webhooks under their older names (docs/contract.md, Resend
//! body).
//!
//! Keys that are not known here are passed on under their own names, but for mail bodies: Resend adds keys without notice.

use std::borrow::Cow;

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::element::{self, BodyElement, BodyError, Disposition, non_blank};
use super::signature::{Signature, Verified, VerifyError};
use super::{OWN_EVENT, TEST_USER};
use crate::domain::event::{EmailEvent, EventId, Kind};
use crate::domain::json::{self, Object};
use crate::domain::properties::{Client, Properties, Value};
use crate::domain::recipient::{Identity, Recipient};
use crate::domain::rejection::{MAX_EVENT_ID_BYTES, Rejection};
use crate::domain::timestamp::rfc3339;
use crate::domain::track::Track;

/// What an event's data is called in a track.
const PROPERTIES: [(&str, &str); 3] =
    [("email_id", "email_id"), ("subject", "email_subject"), ("broadcast_id", "campaign_id")];
/// What was in the email is nobody's business.
const MAIL_BODIES: [&str; 5] = ["html", "text", "body", "raw", "attachments"];

/// Reads the signature of a request: by Standard Webhooks, which says the event's id. No other headers count.
///
/// # Errors
/// [`VerifyError::Unreadable`].
pub fn read_signature<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Signature<'a>, VerifyError> {
    Signature::from_headers(headers.filter(|(name, _)| !name.eq_ignore_ascii_case("x-nudgespot-signature")))
}

/// Takes a body apart. `received_at` stands in for the time of an event that says none.
///
/// # Errors
/// [`BodyError::Malformed`] where it is no JSON object. What else is wrong with it is the event's `Disposition`.
pub fn parse(body: Verified<'_>, received_at: OffsetDateTime) -> Result<Vec<BodyElement<'_>>, BodyError> {
    let text = std::str::from_utf8(body.bytes()).map_err(|_| BodyError::Malformed)?;
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| BodyError::Malformed)?;
    if !raw.get().starts_with('{') {
        return Err(BodyError::Malformed);
    }
    let disposition = disposition(raw, body.id(), received_at).unwrap_or_else(Disposition::Rejected);
    Ok(vec![BodyElement { raw: Cow::Borrowed(raw.get()), disposition }])
}

fn disposition<'a>(
    raw: &'a RawValue,
    signed_id: Option<&'a str>,
    received_at: OffsetDateTime,
) -> Result<Disposition<'a>, Rejection> {
    let mut event = Object::parse(raw)?.ok_or(Rejection::NotAnObject)?;
    let name = event.take_first(&["type"], non_blank).ok_or(Rejection::NoName)?;
    let kind = match &*name {
        "email.delivered" => Kind::Delivered,
        "email.opened" => Kind::Opened,
        "email.clicked" => Kind::Clicked,
        "email.complained" => Kind::MarkedAsSpam,
        "email.bounced" => Kind::Bounced,
        _ => return Ok(Disposition::Ignored { name, reason: None }),
    };
    let mut data = take_object(&mut event, "data")?;
    if [&event, &data].into_iter().any(element::is_own) {
        return Ok(Disposition::Ignored { name, reason: Some(OWN_EVENT) });
    }
    let id = signed_id.filter(|id| !id.trim().is_empty()).ok_or(Rejection::NoId)?;
    if id.len() > MAX_EVENT_ID_BYTES {
        return Err(Rejection::IdTooLong);
    }
    let at = event.take_first(&["created_at"], |raw| (!json::is_blank(raw)).then_some(raw));
    let at = at.map_or(Ok(received_at), element::time)?;
    let recipient = recipient(&mut data)?;

    let (mut properties, mut client) = (Properties::default(), Client::default());
    for (key, name) in PROPERTIES {
        if let Some(value) = data.take(key) {
            properties.put(Cow::Borrowed(name), value)?;
        }
    }
    if kind == Kind::Bounced {
        add_bounce(&mut properties, take_object(&mut data, "bounce")?)?;
    }
    add_click(&mut properties, &mut client, take_object(&mut data, "click")?)?;
    for (key, value) in data.into_iter().chain(event) {
        if !MAIL_BODIES.contains(&&*key) {
            properties.put(key, value)?;
        }
    }
    let event = EmailEvent { kind, id: EventId(Cow::Borrowed(id)), at, recipient, properties, client };
    let track = Track::of(&event)?;
    Ok(Disposition::Event(event.kind, event.id, track))
}

/// See [`Kind::test_event`](super::Kind::test_event). The event's id is in the signed headers.
pub(super) fn test_event(event: Kind, now: OffsetDateTime) -> Option<String> {
    let name = match event {
        Kind::Delivered => "email.delivered",
        Kind::Opened => "email.opened",
        Kind::Clicked => "email.clicked",
        Kind::Bounced => "email.bounced",
        Kind::MarkedAsSpam => "email.complained",
        _ => return None,
    };
    let mut data = serde_json::json!({
        "email_id": TEST_USER, "subject": "A test event of the console", "to": ["test@example.com"],
        "tags": {"user_id": TEST_USER}, "test": true,
    });
    match event {
        Kind::Clicked => data["click"] = serde_json::json!({"link": "https://example.com/"}),
        Kind::Bounced => data["bounce"] = serde_json::json!({"type": "Permanent", "message": "a test"}),
        _ => {}
    }
    Some(serde_json::json!({"type": name, "created_at": rfc3339(now), "data": data}).to_string())
}

/// The one address that the email went to, and the user id that the sender of the email put among its tags.
fn recipient<'a>(data: &mut Object<'a>) -> Result<Recipient<'a>, Rejection> {
    let addresses = data.take("to").map(addresses).unwrap_or_default();
    let email = match addresses.as_slice() {
        [] => None,
        [address] => Some(serde_json::to_string(address).expect("a string is always JSON")),
        several => return Err(Rejection::SeveralRecipients(several.len())),
    };
    let identity = match (data.find("tags").map(user_id).transpose()?.flatten(), &email) {
        (Some(user_id), _) => Identity::User(user_id),
        (None, Some(email)) => Identity::Anonymous(Cow::Owned(email.clone())),
        (None, None) => return Err(Rejection::NoRecipient),
    };
    let mut traits = Properties::default();
    if let Some(email) = email {
        traits.put_value(Cow::Borrowed("email"), Value::Json(Cow::Owned(email)));
    }
    Ok(Recipient { identity, traits })
}

/// The addresses of a list of recipients, or of one alone: each perhaps as `Name <address>`.
fn addresses(to: &RawValue) -> Vec<String> {
    let recipients =
        if to.get().starts_with('[') { serde_json::from_str(to.get()).unwrap_or_default() } else { vec![to] };
    let address = |recipient: &RawValue| {
        let text = non_blank(recipient)?;
        let text = text.trim();
        let inner = text.strip_suffix('>').and_then(|text| Some(text.rsplit_once('<')?.1));
        Some(inner.unwrap_or(text).trim().to_owned()).filter(|address| !address.is_empty())
    };
    let mut addresses: Vec<_> = recipients.into_iter().filter_map(address).collect();
    // Whoever is named twice is one recipient.
    addresses.dedup();
    addresses
}

/// The tag `user_id`, where tags are an object, or a list of names and values.
fn user_id(tags: &RawValue) -> Result<Option<Cow<'_, str>>, Rejection> {
    if let Some(mut tags) = Object::parse(tags)? {
        return Ok(tags.take_first(&["user_id"], json::id_text));
    }
    let tags: Vec<&RawValue> = serde_json::from_str(tags.get()).unwrap_or_default();
    for tag in tags {
        let Some(tag) = Object::parse(tag)? else { continue };
        if tag.find("name").and_then(json::string).is_some_and(|name| name == "user_id") {
            return Ok(tag.find("value").and_then(json::id_text));
        }
    }
    Ok(None)
}

/// Only a permanent bounce is hard; one of a type that is not known may pass.
fn add_bounce<'a>(properties: &mut Properties<'a>, mut bounce: Object<'a>) -> Result<(), Rejection> {
    let is_permanent = bounce.take_first(&["type"], non_blank).is_some_and(|kind| kind == "Permanent");
    let kind = if is_permanent { r#""hard""# } else { r#""soft""# };
    properties.put_value(Cow::Borrowed("bounce_type"), Value::Json(Cow::Borrowed(kind)));
    if let Some(message) = bounce.take("message") {
        properties.put(Cow::Borrowed("bounce_reason"), message)?;
    }
    for (key, value) in bounce {
        properties.put(Cow::Owned(format!("bounce_{key}")), value)?;
    }
    Ok(())
}

fn add_click<'a>(
    properties: &mut Properties<'a>,
    client: &mut Client<'a>,
    mut click: Object<'a>,
) -> Result<(), Rejection> {
    client.ip = click.take_first(&["ipAddress"], json::text);
    client.user_agent = click.take_first(&["userAgent"], json::text);
    if let Some(link) = click.take("link") {
        properties.put(Cow::Borrowed("link_url"), link)?;
    }
    for (key, value) in click {
        properties.put(Cow::Owned(format!("click_{key}")), value)?;
    }
    Ok(())
}

/// Takes the object under `key`; an empty one where there is none, or another kind of value, which stays.
fn take_object<'a>(object: &mut Object<'a>, key: &str) -> Result<Object<'a>, Rejection> {
    let Some(raw) = object.find(key) else { return Ok(Object::default()) };
    let Some(inner) = Object::parse(raw)? else { return Ok(Object::default()) };
    object.take(key);
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};
    use time::macros::datetime;
    use uuid::Uuid;

    use super::super::signature::{Keyring, SigningScheme, sign, verify};
    use super::*;
    use crate::domain::event::MessageId;
    use crate::domain::secret::SigningSecret;
    use crate::domain::track;
    use crate::domain::unsubscribe_event::UnsubscribeEvent;

    const RECEIVED_AT: OffsetDateTime = datetime!(2026-11-25 15:00 UTC);
    const FIXTURES: &str = include_str!("../../tests/fixtures/resend.json");

    fn keyring(secret: &SigningSecret) -> Keyring {
        let secret = secret.clone();
        Keyring { current: secret.clone(), previous: secret, previous_until: None, allow_untimestamped: false }
    }

    /// The event's id and track call, `ignored: name`, or `rejected: reason`.
    fn fate(body: &str, id: &str) -> Result<(Option<String>, Json), BodyError> {
        let secret = SigningSecret::from_random([1; 32]);
        let headers = sign(&secret, SigningScheme::Standard, id, 0, body.as_bytes());
        let headers: Vec<_> = headers.into_iter().map(|(n, v)| (n.replace("webhook-", "svix-"), v)).collect();
        let signature = read_signature(headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes()))).expect("signed");
        let verified = verify(&signature, body.as_bytes(), &keyring(&secret), 0).expect("verified");
        let element = parse(verified, RECEIVED_AT)?.pop().expect("one event");
        Ok(match element.disposition {
            Disposition::Event(kind, id, track) => {
                let mut call = Vec::new();
                let message_id = MessageId::new(Uuid::nil(), id.as_str().as_bytes());
                let name = kind.segment_event(UnsubscribeEvent::EmailUnsubscribed);
                let envelope = super::super::Kind::Resend.envelope();
                track::write(&mut call, message_id, name, track.as_json().as_bytes(), envelope);
                (Some(id.as_str().to_owned()), serde_json::from_slice(&call).expect("JSON"))
            }
            Disposition::Call(call) => panic!("an email event became {call:?}"),
            Disposition::Ignored { name, .. } => (None, json!(format!("ignored: {name}"))),
            Disposition::Rejected(reason) => (None, json!(format!("rejected: {reason}"))),
        })
    }

    fn of(kind: &str, data: &Json) -> Json {
        fate(&json!({"type": kind, "created_at": "2026-11-25T14:59:55Z", "data": data}).to_string(), "msg_1")
            .expect("well-formed")
            .1
    }

    #[test]
    fn the_fixtures_become_what_they_should() {
        let fixtures: Json = serde_json::from_str(FIXTURES).expect("JSON");
        for case in fixtures["payloads"].as_array().expect("cases") {
            let (body, id) = (case["body"].as_str().expect("text"), case["headers"]["svix-id"].as_str().expect("text"));
            let (event_id, track) = fate(body, id).expect("well-formed");
            let expected = &case["expect"][0];
            if let Some(reason) = expected["rejected"].as_str() {
                assert_eq!(track, format!("rejected: {reason}"));
                continue;
            }
            assert_eq!((event_id.as_deref(), &track["timestamp"]), (expected["event_id"].as_str(), &expected["at"]));
            assert_eq!(track["userId"], expected["identity"]["userId"]);
            assert_eq!(track["context"]["traits"]["email"], expected["email"]);
            for (name, value) in expected["properties"].as_object().expect("properties") {
                assert_eq!(&track["properties"][name], value, "{name}");
            }
            assert_eq!(track["context"]["integration"]["name"], "resend");
            assert_eq!(track["integrations"], json!({"All": true}));
        }
    }

    #[test]
    fn the_signed_requests_are_judged_as_they_should_be() {
        let fixtures: Json = serde_json::from_str(FIXTURES).expect("JSON");
        for case in fixtures["vectors"].as_array().expect("cases") {
            let secret = SigningSecret::parse(case["key"]["secret"].as_str().expect("text")).expect("a secret");
            let headers = case["request"]["headers"].as_object().expect("headers");
            let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text").as_bytes()));
            let body = case["request"]["body"].as_str().expect("text").as_bytes();
            let now = case["now"].as_i64().expect("seconds");
            let judged = read_signature(headers).and_then(|signature| verify(&signature, body, &keyring(&secret), now));
            assert_eq!(json!(judged.is_ok()), case["accept"], "{}", case["name"]);
        }
    }

    #[test]
    fn only_standard_webhooks_count_under_one_set_of_names() {
        let secret = SigningSecret::from_random([1; 32]);
        let read = |headers: &[(&str, String)]| {
            read_signature(headers.iter().map(|(name, value)| (*name, value.as_bytes()))).map(drop)
        };
        for scheme in [SigningScheme::Timestamped, SigningScheme::Body] {
            assert_eq!(read(&sign(&secret, scheme, "msg_1", 0, b"{}")), Err(VerifyError::Unreadable), "{scheme:?}");
        }
        let mut headers = sign(&secret, SigningScheme::Standard, "msg_1", 0, b"{}");
        headers.push(("X-Nudgespot-Signature", "sha256=00".to_owned()));
        assert_eq!(read(&headers), Ok(()));
        headers.push(("svix-id", "msg_1".to_owned()));
        assert_eq!(read(&headers), Err(VerifyError::Unreadable), "mixed");
    }

    #[test]
    fn kinds_recipients_and_what_else_is_said() {
        let to = json!(["Ada \"A\" <ada@example.com>"]);
        assert_eq!(of("email.complained", &json!({"to": to}))["event"], "Email Marked as Spam");
        assert_eq!(of("email.sent", &json!({"to": to})), "ignored: email.sent");
        assert_eq!(of("contact.created", &json!({})), "ignored: contact.created");
        assert_eq!(of("email.opened", &json!({"to": "ada@example.com"}))["anonymousId"], "ada@example.com");
        let twice = json!(["a@b", "Ada <a@b>"]);
        assert_eq!(of("email.opened", &json!({"to": twice}))["anonymousId"], "a@b");
        assert_eq!(of("email.opened", &json!({"tags": [{"name": "user_id", "value": 7}]}))["userId"], "7");
        assert_eq!(
            of("email.opened", &json!({"to": [" "]})),
            "rejected: no recipient: neither uid, nor email, nor anon_id"
        );
        for (bounce, kind) in [
            (json!({"type": "Permanent"}), "hard"),
            (json!({"type": "Transient"}), "soft"),
            (json!({}), "soft"),
            (Json::Null, "soft"),
        ] {
            let track = of("email.bounced", &json!({"to": to, "bounce": bounce}));
            assert_eq!(track["properties"]["bounce_type"], kind);
        }
        let track = of(
            "email.clicked",
            &json!({
                "to": to, "broadcast_id": 12, "message_id": "<m@x>", "html": "<p>", "new_key": {"x": [1.50]},
                "click": {"link": "https://x", "ipAddress": "::1", "userAgent": "Mozilla", "timestamp": "t"},
            }),
        );
        let expected = json!({
            "campaign_id": "12", "link_url": "https://x", "click_timestamp": "t", "message_id": "<m@x>",
            "new_key": {"x": [1.5]},
        });
        assert_eq!(track["properties"], expected);
        assert_eq!((&track["context"]["ip"], &track["context"]["userAgent"]), (&json!("::1"), &json!("Mozilla")));
    }

    #[test]
    fn what_this_program_has_sent_to_nudgespot_is_ignored() {
        let mark = json!("nudgespot-source");
        for data in [json!({"to": ["a@b"], "source_lib": mark}), json!({"properties": {"source_lib": mark}})] {
            assert_eq!(of("email.opened", &data), "ignored: email.opened");
        }
        assert_eq!(of("email.opened", &json!({"to": ["a@b"], "source_lib": "x"}))["properties"]["source_lib"], "x");
    }

    #[test]
    fn what_is_no_event_is_refused_or_rejected() {
        for body in ["", "[]", "1", "{", "[{\"type\":\"email.opened\"}]"] {
            assert_eq!(fate(body, "msg_1"), Err(BodyError::Malformed), "{body}");
        }
        for (body, reason) in [
            ("{}", "rejected: no event name"),
            (
                r#"{"type":"email.opened","created_at":"soon","data":{"to":["a@b"]}}"#,
                "rejected: unreadable time: \"soon\"",
            ),
        ] {
            assert_eq!(fate(body, "msg_1").expect("well-formed").1, reason, "{body}");
        }
        let without_time = fate(r#"{"type":"email.opened","data":{"to":["a@b"]}}"#, "msg_1").expect("well-formed").1;
        assert_eq!(without_time["timestamp"], "2026-11-25T15:00:00.000Z");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered(body in "\\PC{0,200}", key in "\\PC{0,20}", value in "\\PC{0,40}") {
            let _ = fate(&body, "msg_1");
            let event = json!({"type": "email.clicked", "data": {"to": ["a@b"], &key: value, "click": {&key: [1]}}});
            let _ = fate(&event.to_string(), "msg_1");
        }
    }
}
