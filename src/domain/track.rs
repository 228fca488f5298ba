//! The Segment `track` call that an event becomes (docs/contract.md, Track).
//!
//! An event is mapped once, when it is received. The log keeps the part of the call that differs from event to event;
//! [`write()`] puts the rest around it when the call is sent.

use super::event::{EmailEvent, MessageId};
use super::properties::{Properties, Value};
use super::recipient::Identity;
use super::rejection::{MAX_TRACK_BYTES, TrackTooLarge};
use super::search_key::{SearchField, SearchKey, SearchKeys, TrackFields};
use super::timestamp;

/// The most bytes that [`write()`] adds to a [`Track`].
const MAX_ENVELOPE_BYTES: usize = 400;
/// How a track begins that says no user id.
const ANONYMOUS: &str = r#"{"anonymousId":"#;
const LIBRARY: &str = concat!(
    r#"","version":"1.0.0"},"library":{"name":"nudgespot-source","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}},"integrations":"#
);

/// What is the same around all events of a kind of source.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// `context.integration.name`, by which Segment's partners name themselves.
    pub integration: &'static str,
    /// `integrations`, a JSON object: which of the other tools get the event.
    pub integrations: &'static str,
}

/// The identity, time, properties and context of a track call: a JSON object that ends with its `context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    json: String,
    keys: SearchKeys,
}

impl Track {
    /// Maps an event.
    ///
    /// # Errors
    /// [`TrackTooLarge`] where the whole call could exceed [`MAX_TRACK_BYTES`].
    pub fn of(event: &EmailEvent<'_>) -> Result<Self, TrackTooLarge> {
        let mut json = String::with_capacity(512);
        let (key, id) = match &event.recipient.identity {
            Identity::User(id) => ("userId", id),
            Identity::Anonymous(id) => ("anonymousId", id),
        };
        for part in ["{\"", key, "\":", id, r#","timestamp":""#, &timestamp::rfc3339(event.at), r#"","properties":"#] {
            json.push_str(part);
        }
        event.properties.write(&mut json);
        json.push_str(r#","context":{"#);
        let before = json.len();
        for (key, text) in [("ip", &event.client.ip), ("userAgent", &event.client.user_agent)] {
            if let Some(text) = text {
                for part in [comma(&json, before), "\"", key, "\":", text] {
                    json.push_str(part);
                }
            }
        }
        write_traits(&mut json, before, &event.recipient.traits);
        json.push_str("}}");
        if json.len() + MAX_ENVELOPE_BYTES > MAX_TRACK_BYTES {
            Err(TrackTooLarge)
        } else {
            Ok(Self { json, keys: keys(event) })
        }
    }

    /// The JSON object, for the log.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// By what it is searched for.
    #[must_use]
    pub fn keys(&self) -> SearchKeys {
        self.keys
    }
}

/// What [`SearchKeys::of_track`] would read, while it is at hand.
fn keys(event: &EmailEvent<'_>) -> SearchKeys {
    let key = |field, value: Option<&Value<'_>>| match value? {
        Value::Json(json) => SearchKey::of_json(field, json),
        Value::Digits(digits) => Some(SearchKey::new(field, digits)),
    };
    let (Identity::User(identity) | Identity::Anonymous(identity)) = &event.recipient.identity;
    let (traits, properties) = (&event.recipient.traits, &event.properties);
    SearchKeys::new([
        SearchKey::of_json(SearchField::Recipient, identity),
        key(SearchField::Recipient, traits.find("email")),
        key(SearchField::Recipient, traits.find("anon_id")),
        key(SearchField::EmailId, properties.find("email_id")),
        key(SearchField::CampaignId, properties.find("campaign_id")),
    ])
}

/// Whether a track, as [`Track::as_json`] returned it, says no user id.
#[must_use]
pub fn is_anonymous(track: &[u8]) -> bool {
    track.starts_with(ANONYMOUS.as_bytes())
}

/// An anonymous track with a user id in place of its anonymous one; `None`: it is none, or would be too large.
#[must_use]
pub fn identified(track: &[u8], user_id: &str) -> Option<Vec<u8>> {
    let anonymous_id = TrackFields::parse(track)?.anonymous_id?.get();
    let rest = track.strip_prefix(ANONYMOUS.as_bytes())?.strip_prefix(anonymous_id.as_bytes())?;
    let user_id = serde_json::to_string(user_id).ok()?;
    let identified = [br#"{"userId":"#, user_id.as_bytes(), rest].concat();
    (identified.len() + MAX_ENVELOPE_BYTES <= MAX_TRACK_BYTES).then_some(identified)
}

fn write_traits(json: &mut String, context_start: usize, traits: &Properties<'_>) {
    if !traits.is_empty() {
        json.push_str(comma(json, context_start));
        json.push_str(r#""traits":"#);
        traits.write(json);
    }
}

fn comma(json: &str, since: usize) -> &'static str {
    if json.len() > since { "," } else { "" }
}

/// Writes the whole track call to `out`, given what [`Track::as_json`] returned.
pub fn write(out: &mut Vec<u8>, message_id: MessageId, segment_event: &str, track: &[u8], envelope: Envelope) {
    let mut id = uuid::Uuid::encode_buffer();
    out.extend_from_slice(br#"{"type":"track","messageId":"nudgespot-"#);
    out.extend_from_slice(message_id.0.simple().encode_lower(&mut id).as_bytes());
    out.extend_from_slice(br#"","event":""#);
    out.extend_from_slice(segment_event.as_bytes());
    out.extend_from_slice(br#"","#);
    // Without its own braces and that of the context, whose last keys and end follow.
    let fields = track.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}}")).unwrap_or_default();
    out.extend_from_slice(fields);
    if !fields.ends_with(b"{") {
        out.push(b',');
    }
    out.extend_from_slice(br#""integration":{"name":""#);
    out.extend_from_slice(envelope.integration.as_bytes());
    out.extend_from_slice(LIBRARY.as_bytes());
    out.extend_from_slice(envelope.integrations.as_bytes());
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ENVELOPE: Envelope = Envelope { integration: "nudgespot", integrations: r#"{"All":true,"Nudgespot":false}"# };

    #[test]
    fn the_envelope_stays_within_its_allowance() {
        let mut out = Vec::new();
        let track = br#"{"context":{}}"#;
        write(&mut out, MessageId(Uuid::from_u128(u128::MAX)), "Email Marked as Spam", track, ENVELOPE);
        assert!(out.len() - track.len() <= MAX_ENVELOPE_BYTES);
        assert!(MessageId(Uuid::max()).to_string().len() < 100, "Segment's limit for a messageId");
    }

    #[test]
    fn an_empty_and_a_filled_context_are_both_closed_well() {
        for context in ["{}", r#"{"ip":"::1"}"#] {
            let mut out = Vec::new();
            let track = format!(r#"{{"userId":"u","context":{context}}}"#);
            write(&mut out, MessageId(Uuid::nil()), "Email Opened", track.as_bytes(), ENVELOPE);
            let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            assert_eq!(value["context"]["integration"]["name"], "nudgespot");
            assert_eq!(value["integrations"]["Nudgespot"], false);
        }
    }
}
