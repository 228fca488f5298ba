//! What of Nudgespot's REST API is known: which calls it takes.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;

/// A JSON object whose values are as they were written.
pub type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// A request, as far as it could be read.
pub struct Reading<'a> {
    /// The user that it names, also where it is refused.
    pub uid: Option<String>,
    pub call: Result<Call<'a>, Refusal>,
}

/// A request that could be read.
pub enum Call<'a> {
    Identify(Identify<'a>),
    /// An activity, as it was written.
    Activity(String, &'a RawValue),
    /// A question for this user.
    Subscriber(String),
}

/// What a user shall be from now on; what is not named here stays.
pub struct Identify<'a> {
    pub uid: String,
    /// All but those below.
    pub fields: Fields<'a>,
    pub properties: Fields<'a>,
    /// By type.
    pub contacts: Vec<(String, Fields<'a>)>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// The error's type.
    pub kind: &'static str,
    pub message: &'static str,
}

impl Refusal {
    pub const UNAUTHORIZED: Self =
        Self { status: 401, kind: "unauthorized", message: "Basic authentication: user api, the REST key as password" };
    pub const UNKNOWN_USER: Self = Self { status: 404, kind: "not_found", message: "no user has this uid" };
    pub const TOO_LARGE: Self = Self { status: 413, kind: "too_large", message: "the request is over 128 KiB" };
    const NOT_JSON: Self = Self { status: 400, kind: "bad_request", message: "the request is not JSON" };

    const fn invalid(message: &'static str) -> Self {
        Self { status: 422, kind: "invalid", message }
    }
}

/// Reads the body of `POST /subscribers/identify`.
pub fn identify(body: &[u8]) -> Reading<'_> {
    let (uid, fields) = match wrapped(body, "subscriber") {
        Ok((_, fields)) => (filled(&fields, "uid"), fields),
        Err(refusal) => return Reading { uid: None, call: Err(refusal) },
    };
    Reading { call: subscriber(uid.clone(), fields).map(Call::Identify), uid }
}

fn subscriber(uid: Option<String>, mut fields: Fields) -> Result<Identify, Refusal> {
    let uid = uid.ok_or(Refusal::invalid("the subscriber has no uid"))?;
    is_time_or_none(&fields, "signed_up_at").ok_or(Refusal::invalid("signed_up_at is no time in ISO 8601, UTC"))?;
    let properties =
        object_or_none(&fields, "properties").ok_or(Refusal::invalid("the properties are not an object"))?;
    let contacts = contacts(&fields).ok_or(Refusal::invalid(
        "contacts: a list of {contact_type: email or phone, contact_value, subscription_status: active or inactive}",
    ))?;
    // The first two are merged by what is in them; the others are the API's to say.
    fields.retain(|name, _| !["properties", "contacts", "uid", "href"].contains(&name.as_str()));
    Ok(Identify { uid, fields, properties, contacts })
}

/// Reads the body of `POST /activities`.
pub fn activity(body: &[u8]) -> Reading<'_> {
    let (raw, fields) = match wrapped(body, "activity") {
        Ok(activity) => activity,
        Err(refusal) => return Reading { uid: None, call: Err(refusal) },
    };
    let uid = object_or_none(&fields, "subscriber").and_then(|subscriber| filled(&subscriber, "uid"));
    let refusal = if filled(&fields, "event").is_none() {
        Some("the activity has no event")
    } else if is_time_or_none(&fields, "timestamp").is_none() {
        Some("timestamp is no time in ISO 8601, UTC")
    } else if object_or_none(&fields, "properties").is_none() {
        Some("the properties are not an object")
    } else {
        None
    };
    let call = match (refusal, &uid) {
        (Some(message), _) => Err(Refusal::invalid(message)),
        (None, Some(uid)) => Ok(Call::Activity(uid.clone(), raw)),
        (None, None) => Err(Refusal::invalid("the activity has no subscriber with a uid")),
    };
    Reading { uid, call }
}

/// The object that a body holds under this name, as it was written, and its fields.
fn wrapped<'a>(body: &'a [u8], name: &str) -> Result<(&'a RawValue, Fields<'a>), Refusal> {
    let body = serde_json::from_slice::<&RawValue>(body).map_err(|_| Refusal::NOT_JSON)?;
    let raw = object(body).and_then(|mut fields| fields.remove(name));
    let read = raw.and_then(|raw| Some((raw, object(raw)?)));
    read.ok_or(Refusal::invalid("the request holds neither a subscriber nor an activity, where one is due"))
}

fn object(value: &RawValue) -> Option<Fields<'_>> {
    serde_json::from_str(value.get()).ok()
}

/// A field that is there, and not null.
fn given<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.get(name).copied().filter(|value| value.get() != "null")
}

/// The object in a field, or an empty one where nothing is in it; `None`: it holds something else.
fn object_or_none<'a>(fields: &Fields<'a>, name: &str) -> Option<Fields<'a>> {
    given(fields, name).map_or_else(|| Some(Fields::new()), object)
}

fn text(fields: &Fields, name: &str) -> Option<String> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

/// A text that is more than blanks.
fn filled(fields: &Fields, name: &str) -> Option<String> {
    text(fields, name).filter(|text| !text.trim().is_empty())
}

/// `None` where the field holds something else than a time in ISO 8601 and UTC.
fn is_time_or_none(fields: &Fields, name: &str) -> Option<()> {
    let Some(value) = given(fields, name) else { return Some(()) };
    let at: String = serde_json::from_str(value.get()).ok()?;
    OffsetDateTime::parse(&at, &Iso8601::DEFAULT).is_ok_and(|at| at.offset().is_utc()).then_some(())
}

fn contacts<'a>(fields: &Fields<'a>) -> Option<Vec<(String, Fields<'a>)>> {
    let contacts = given(fields, "contacts").map_or(Some(Vec::new()), |list| serde_json::from_str(list.get()).ok())?;
    let contact = |fields: Fields<'a>| {
        let kind = text(&fields, "contact_type").filter(|kind| kind == "email" || kind == "phone")?;
        filled(&fields, "contact_value")?;
        let has_status = given(&fields, "subscription_status").is_some();
        let status = text(&fields, "subscription_status");
        (!has_status || status.is_some_and(|status| status == "active" || status == "inactive")).then_some(())?;
        Some((kind, fields))
    };
    contacts.into_iter().map(contact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(reading: Reading) -> u16 {
        reading.call.map_or_else(|refusal| refusal.status, |_| 200)
    }

    #[test]
    fn a_user_needs_a_uid_and_nothing_else() {
        for (subscriber, expected) in [
            (r#"{"uid":"u"}"#, 200),
            (r#"{"uid":"u","name":null,"properties":null,"contacts":null,"signed_up_at":null}"#, 200),
            (r#"{"uid":"u","signed_up_at":"2015-01-01T00:00:00.000Z","properties":{"a":[{"b":null}]}}"#, 200),
            (r#"{"uid":"u","contacts":[{"contact_type":"email","contact_value":"a@example.com"}]}"#, 200),
            ("{}", 422),
            (r#"{"uid":null}"#, 422),
            (r#"{"uid":" "}"#, 422),
            (r#"{"uid":7}"#, 422),
            (r#"{"uid":"u","properties":[]}"#, 422),
            (r#"{"uid":"u","contacts":{}}"#, 422),
            (r#"{"uid":"u","contacts":[{"contact_type":"fax","contact_value":"1"}]}"#, 422),
            (r#"{"uid":"u","contacts":[{"contact_type":"phone"}]}"#, 422),
            (
                r#"{"uid":"u","contacts":[{"contact_type":"phone","contact_value":"1","subscription_status":"on"}]}"#,
                422,
            ),
            (r#"{"uid":"u","signed_up_at":1420070400}"#, 422),
            (r#"{"uid":"u","signed_up_at":"yesterday"}"#, 422),
            ("[]", 422),
            ("7", 422),
        ] {
            let body = format!(r#"{{"subscriber":{subscriber}}}"#);
            assert_eq!(status(identify(body.as_bytes())), expected, "{subscriber}");
        }
        assert_eq!(identify(br#"{"subscriber":{"uid":"u","properties":7}}"#).uid.as_deref(), Some("u"));
    }

    #[test]
    fn an_activity_needs_an_event_and_a_user_and_its_time_is_utc() {
        for (activity, expected) in [
            (r#""event":"e","subscriber":{"uid":"u"}"#, 200),
            (r#""event":"e","subscriber":{"uid":"u"},"properties":{},"timestamp":"2026-01-02T03:04:05.678Z""#, 200),
            (r#""event":"e","subscriber":{"uid":"u"},"timestamp":"2026-01-02T03:04:05+00:00""#, 200),
            (r#""event":"e","subscriber":{"uid":"u"},"timestamp":"2026-01-02T05:04:05.678+02:00""#, 422),
            (r#""event":"e","subscriber":{"uid":"u"},"timestamp":"2026-01-02T03:04:05.678""#, 422),
            (r#""event":"e","subscriber":{"uid":"u"},"timestamp":"2026-01-02 03:04:05.678Z""#, 422),
            (r#""event":"e","subscriber":{"uid":"u"},"timestamp":"2026-02-30T03:04:05.678Z""#, 422),
            (r#""event":"e","subscriber":{"uid":"u"},"timestamp":"""#, 422),
            (r#""event":"e","subscriber":{"uid":"u"},"timestamp":1767322800"#, 422),
            (r#""event":"e","subscriber":{"uid":"u"},"properties":"p""#, 422),
            (r#""subscriber":{"uid":"u"}"#, 422),
            (r#""event":"","subscriber":{"uid":"u"}"#, 422),
            (r#""event":{},"subscriber":{"uid":"u"}"#, 422),
            (r#""event":"e""#, 422),
            (r#""event":"e","subscriber":"u""#, 422),
        ] {
            let body = format!(r#"{{"activity":{{{activity}}}}}"#);
            assert_eq!(status(super::activity(body.as_bytes())), expected, "{activity}");
        }
        assert_eq!(super::activity(br#"{"activity":{"subscriber":{"uid":"u"}}}"#).uid.as_deref(), Some("u"));
    }

    #[test]
    fn what_is_no_json_is_told_from_what_is_no_call() {
        for read in [identify, super::activity] {
            for body in [&b""[..], b"{", b"subscriber[uid]=u", b"{\"subscriber\":\"\xff\"}", b"{} x"] {
                assert_eq!(status(read(body)), 400, "{}", String::from_utf8_lossy(body));
            }
            for body in ["{}", "[]", "7", "null", r#"{"uid":"u"}"#] {
                assert_eq!(status(read(body.as_bytes())), 422, "{body}");
            }
        }
    }
}
