use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use time::macros::datetime;
use uuid::Uuid;

use super::super::signature::{Keyring, Signature, SigningScheme, sign, verify};
use super::*;
use crate::domain::event::MessageId;
use crate::domain::search_key::SearchKeys;
use crate::domain::secret::SigningSecret;
use crate::domain::track;
use crate::domain::unsubscribe_event::UnsubscribeEvent;

mod batches;
mod blanks;
mod content_ids;

const RECEIVED_AT: OffsetDateTime = datetime!(2026-01-02 03:04:05.678 UTC);

/// Parses a body after signing and verifying it: there is no other way to the parser.
fn parse_body(body: &[u8], check: impl FnOnce(Result<Vec<BodyElement<'_>>, BodyError>)) {
    let secret = SigningSecret::from_random([1; 32]);
    let headers = sign(&secret, SigningScheme::Timestamped, "", 0, body);
    let keyring =
        Keyring { current: secret.clone(), previous: secret, previous_until: None, allow_untimestamped: false };
    let signature = Signature::from_headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
    check(parse(verify(&signature.expect("signed"), body, &keyring, 0).expect("verified"), RECEIVED_AT));
}

/// What becomes of each event of a body: its track call, `ignored: name`, or `rejected: reason`.
fn fates(body: &[u8]) -> Option<Vec<Json>> {
    let mut fates = None;
    parse_body(body, |elements| {
        fates = elements.ok().map(|elements| {
            elements
                .into_iter()
                .map(|element| match element.disposition {
                    Disposition::Event(kind, id, track) => {
                        assert_eq!(
                            track.keys(),
                            SearchKeys::of_track(track.as_json().as_bytes()),
                            "{}",
                            track.as_json()
                        );
                        let mut call = Vec::new();
                        let message_id = MessageId::new(Uuid::nil(), id.as_str().as_bytes());
                        let name = kind.segment_event(UnsubscribeEvent::EmailUnsubscribed);
                        track::write(&mut call, message_id, name, track.as_json().as_bytes(), ENVELOPE);
                        assert!(call.len() <= crate::domain::rejection::MAX_TRACK_BYTES);
                        serde_json::from_slice(&call).expect("a track is JSON")
                    }
                    Disposition::Call(call) => panic!("an email event became {call:?}"),
                    Disposition::Ignored { name, .. } => json!(format!("ignored: {name}")),
                    Disposition::Rejected(reason) => json!(format!("rejected: {reason}")),
                })
                .collect()
        });
    });
    fates
}

/// As kind `nudgespot` has it.
const ENVELOPE: track::Envelope =
    track::Envelope { integration: "nudgespot", integrations: r#"{"All":true,"Nudgespot":false}"# };

fn disposition(event: &Json) -> Json {
    fates(event.to_string().as_bytes()).expect("well-formed").pop().expect("one event")
}

/// A track less what is the same in each.
fn essence(mut track: Json) -> Json {
    if let Some(fields) = track.as_object_mut() {
        fields.remove("messageId");
    }
    if let Some(context) = track.get_mut("context").and_then(Json::as_object_mut) {
        context.remove("integration");
        context.remove("library");
    }
    track
}

#[test]
fn the_mixed_batch_yields_its_expected_tracks() {
    let expected: Json =
        serde_json::from_str(include_str!("../../../tests/fixtures/mixed-batch.expected.json")).expect("JSON");
    let mut fates = fates(include_bytes!("../../../tests/fixtures/mixed-batch.json")).expect("well-formed");
    assert_eq!(fates.pop(), Some(json!("rejected: no recipient: neither uid, nor email, nor anon_id")));
    assert_eq!(fates.pop(), Some(json!("ignored: sent")));
    let mut tracks: Vec<Json> = fates.into_iter().map(essence).collect();
    assert_eq!(
        tracks[4].as_object_mut().and_then(|e5| e5.remove("timestamp")),
        Some(json!("2026-01-02T03:04:05.678Z"))
    );
    assert_eq!(json!(tracks), expected["tracks"]);
}

#[test]
fn the_full_click_yields_the_contracts_track() {
    let track = fates(include_bytes!("../../../tests/fixtures/full-click.json")).expect("well-formed").remove(0);
    insta::assert_snapshot!(serde_json::to_string_pretty(&track).expect("JSON"));
}

#[test]
fn one_event_and_every_kind_of_list_are_bodies() {
    let e = r#"{"event":"open","email":"a@b"}"#;
    let ignored = r#"{"event":"sent"}"#;
    for (body, n) in [
        (e.to_owned(), 1),
        (format!("\u{feff} {e}\n"), 1),
        (format!("[{e},{e}]"), 2),
        (format!(r#"{{"activities":[{e}],"source":"x"}}"#), 1),
        (format!(r#"{{"events":[{e},{ignored}]}}"#), 2),
        (format!(r#"{{"_json":[{{"activity":{e}}}]}}"#), 1),
        (format!(r#"{{"activity":{e}}}"#), 1),
        ("[]".to_owned(), 0),
        (r#"{"events":[]}"#.to_owned(), 0),
        ("{}".to_owned(), 1),
    ] {
        let fates = fates(body.as_bytes()).expect(&body);
        assert_eq!(fates.len(), n, "{body}");
        assert!(body == "{}" || fates.iter().all(|f| f.is_object() || f == "ignored: sent"), "{body}: {fates:?}");
    }
    for body in [
        "",
        " ",
        "1",
        "null",
        "\"x\"",
        "[",
        "{",
        "{]",
        "[1,]",
        r#"{"a":1}x"#,
        "nul",
        "[}",
        r#"{"a":"\x"}"#,
        "[\"\u{1}\"]",
    ] {
        assert_eq!(fates(body.as_bytes()), None, "{body}");
    }
    assert_eq!(fates(b"[\"\xff\"]"), None, "not UTF-8");
    assert_eq!(fates(b"{\"event\":\"open\",\"email\":\"\xc3"), None, "cut UTF-8");
}

#[test]
fn what_cannot_be_used_is_rejected_with_its_reason() {
    let long = "x".repeat(40_000);
    let deep = format!(r#"{{"event":"open","email":"a@b","x":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let body = format!(
        r#"[1, "x", null, [], {{}}, {{"event":"open"}}, {{"event":"open","uid":"","email":" "}},
            {{"event":"open","uid":"u","timestamp":"yesterday"}}, {{"event":"open","uid":"u","timestamp":true}},
            {{"event":"open","uid":"u","x":"{long}"}}, {{"event":"open","uid":"u","id":"{long}"}}, {deep},
            {{"event":"open","uid":"u","x":"\ud800"}}, {{"event":"open","uid":"u","x":1e999}},
            {{"event":7,"uid":"u"}}]"#
    );
    insta::assert_snapshot!(fates(body.as_bytes()).expect("well-formed").iter().fold(
        String::new(),
        |mut text, disposition| {
            writeln!(text, "{disposition}").expect("a String takes all");
            text
        }
    ));
}

#[test]
fn the_recipient_is_found_in_every_place_and_spelling() {
    for (who, identity, traits) in [
        (
            json!({"subscriber": {"uid": 7, "email": "e", "first_name": "F"}}),
            ("userId", "7"),
            json!({"email": "e", "first_name": "F"}),
        ),
        (json!({"user": {"user_id": "u"}}), ("userId", "u"), Json::Null),
        (json!({"user": {"id": "u", "plan_id": 3}}), ("userId", "u"), json!({"plan_id": "3"})),
        (json!({"subscriber": {"uid": null, "user_id": " ", "id": "u"}}), ("userId", "u"), Json::Null),
        (
            json!({"subscriber": {"email": "e", "anon_id": "a"}}),
            ("anonymousId", "e"),
            json!({"email": "e", "anon_id": "a"}),
        ),
        (json!({"subscriber": {"anon_id": 5}}), ("anonymousId", "5"), Json::Null),
        (
            json!({"subscriber": {"contact": {"contact_type": "Email", "contact_value": "e"}}}),
            ("anonymousId", "e"),
            json!({"email": "e"}),
        ),
        (json!({"uid": "u", "email": "e"}), ("userId", "u"), json!({"email": "e"})),
        (json!({"user_id": "u"}), ("userId", "u"), Json::Null),
        (json!({"anon_id": "a"}), ("anonymousId", "a"), Json::Null),
        (json!({"subscriber": null, "email": "e"}), ("anonymousId", "e"), json!({"email": "e"})),
    ] {
        let mut event = who.clone();
        event["event"] = json!("open");
        event["id"] = json!("evt");
        let track = disposition(&event);
        assert_eq!(track[identity.0], identity.1, "{who}");
        assert_eq!(track.get("userId").is_some(), identity.0 == "userId", "{who}");
        assert_eq!(track.get("anonymousId").is_some(), identity.0 == "anonymousId", "{who}");
        assert_eq!(track["context"].get("traits").cloned().unwrap_or_default(), traits, "{who}");
    }
}

#[test]
fn what_this_program_has_sent_to_nudgespot_is_ignored() {
    let mark = json!({"source_lib": "nudgespot-source"});
    for own in [
        json!({"event": "opened", "uid": "u", "properties": mark}),
        json!({"event": "opened", "uid": "u", "source_lib": "nudgespot-source", "properties": {"source_lib": "x"}}),
        json!({"event": "opened", "properties": mark, "timestamp": "unreadable"}),
        json!({"activity": {"event": "opened", "uid": "u", "properties": mark}}),
        json!({"activity": {"event": "opened", "uid": "u", "properties": {}}, "properties": mark}),
        json!({"events": [{"event": "opened", "uid": "u", "properties": mark}]}),
        json!({"events": [{"event": "opened", "uid": "u"}], "properties": mark}),
    ] {
        parse_body(own.to_string().as_bytes(), |elements| {
            let element = elements.expect("well-formed").remove(0);
            let reason = match element.disposition {
                Disposition::Ignored { ref name, reason } => reason.filter(|_| name == "opened"),
                _ => None,
            };
            assert_eq!(reason, Some("own_event"), "{own}: {element:?}");
        });
    }
    for other in [
        json!({"event": "opened", "uid": "u", "properties": {"source_lib": "another"}}),
        json!({"event": "opened", "uid": "u", "properties": {"library": "nudgespot-source", "x": mark}}),
        json!({"event": "opened", "uid": "u", "x": mark}),
    ] {
        assert!(disposition(&other).is_object(), "{other}");
    }
}

#[test]
fn properties_are_gathered_under_segments_names_and_nothing_is_dropped() {
    let track = disposition(&json!({
        "event": "soft_bounced", "name": "not the event", "id": 1, "event_id": "other", "uid": "u",
        "created_at": 1_453_886_100, "occurred_at": "kept, though unread",
        "properties": {"mail_id": 9, "message_uid": "second", "subject": "S", "url": "U", "reason": "R",
                       "campaign_id": "from properties", "email_subject": null, "ip": "1.2.3.4", "own": {"x": null}},
        "campaign": {"id": "from campaign", "name": "C", "extra": [1.50]},
        "bounce": {"reason": "later"}, "message": "a text", "list": {"id": 3},
        "client": {"userAgent": "UA", "ip_address": "5.6.7.8", "device": "phone"},
        "own": "from the top", "order_id": 12_345_678_901_234_567_890_u64, "nothing": null
    }));
    insta::assert_snapshot!(serde_json::to_string_pretty(&essence(track)).expect("JSON"));
}

#[test]
fn numbers_and_escapes_are_passed_on_as_they_were_written() {
    let body = br#"{"event":"open","uid":1e2,"id":"\u0000","a":1.10,"b":123456789012345678901234567890,"\u0063\"":"\u0000\ud83d\ude00"}"#;
    parse_body(body, |elements| {
        let Disposition::Event(_, id, track) = elements.expect("well-formed").remove(0).disposition else {
            panic!("an event")
        };
        assert_eq!(id.as_str(), "\0");
        insta::assert_snapshot!(track.as_json(), @r#"{"userId":"1e2","timestamp":"2026-01-02T03:04:05.678Z","properties":{"a":1.10,"b":123456789012345678901234567890,"c\"":"\u0000\ud83d\ude00"},"context":{}}"#);
    });
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        prop_oneof!["opened", "email", "2016-01-27T09:15:00Z"].prop_map(Json::from),
    ];
    let keys = prop_oneof![
        any::<String>(),
        prop_oneof![
            Just("event"),
            Just("id"),
            Just("timestamp"),
            Just("subscriber"),
            Just("properties"),
            Just("uid"),
            Just("email"),
            Just("contacts"),
            Just("message"),
            Just("client"),
            Just("url"),
            Just("activity"),
            Just("activities"),
            Just("user"),
            Just("contact_type"),
            Just("contact_value"),
            Just("ip"),
        ]
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            proptest::collection::btree_map(keys.clone(), inner, 0..8)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_gets_an_answer_and_every_track_is_sound(body in any_json()) {
        for disposition in fates(body.to_string().as_bytes()).unwrap_or_default() {
            if disposition.is_object() {
                let identity = disposition.get("userId").or(disposition.get("anonymousId")).and_then(Json::as_str);
                prop_assert!(identity.is_some_and(|id| !id.trim().is_empty()));
                prop_assert!(disposition["properties"].is_object() && disposition["context"].is_object());
            }
        }
    }

    #[test]
    fn any_bytes_get_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        fates(&body);
    }

    #[test]
    fn what_is_unknown_is_passed_on_unchanged(value in any_json()) {
        let track = disposition(&json!({"event": "open", "uid": "u", "properties": {"x_own": value.clone()}}));
        // Floating-point text is not always the shortest again, so it is compared as parsed.
        prop_assert_eq!(&track["properties"]["x_own"], &serde_json::from_str::<Json>(&value.to_string()).expect("JSON"));
    }
}
