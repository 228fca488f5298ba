//! A blank says nothing: `null`, and a string of white space, wherever a field has a meaning.

use super::*;

const BLANKS: [&str; 5] = ["null", r#""""#, r#""  ""#, r#""\t\n""#, r#""\u00a0""#];

#[test]
fn a_blank_leaves_its_place_to_the_next_spelling() {
    for (body, pointer, expected) in [
        (r#"{"event":B,"type":"open","uid":"u"}"#, "/event", "Email Opened"),
        (r#"{"event":B,"type":B,"name":"open","uid":"u"}"#, "/event", "Email Opened"),
        (r#"{"event":B,"activity":{"event":"open","uid":"u"}}"#, "/event", "Email Opened"),
        (r#"{"event":"open","uid":"u","timestamp":B}"#, "/timestamp", "2026-01-02T03:04:05.678Z"),
        (
            r#"{"event":"open","uid":"u","timestamp":B,"created_at":B,"occurred_at":1}"#,
            "/timestamp",
            "1970-01-01T00:00:01.000Z",
        ),
        (r#"{"event":"open","uid":B,"user_id":"u"}"#, "/userId", "u"),
        (r#"{"event":"open","uid":B,"user_id":B,"email":"e"}"#, "/anonymousId", "e"),
        (r#"{"event":"open","email":B,"contacts":B,"contact":B,"anon_id":"a"}"#, "/anonymousId", "a"),
        (r#"{"event":"open","subscriber":B,"user":{"uid":B,"user_id":B,"id":"u"}}"#, "/userId", "u"),
        (r#"{"event":"open","subscriber":{"uid":B,"email":B},"user":B,"uid":"u"}"#, "/userId", "u"),
        (
            r#"{"event":"open","contacts":[{"contact_type":"email","contact_value":B},{"contact_type":"email","contact_value":"e"}]}"#,
            "/anonymousId",
            "e",
        ),
        (r#"{"event":"open","contact":{"contact_type":"email","contact_value":B,"value":"e"}}"#, "/anonymousId", "e"),
        (
            r#"{"event":"open","uid":"u","properties":{"ip":B},"client":{"ip":B,"ip_address":"::1"}}"#,
            "/context/ip",
            "::1",
        ),
        (r#"{"event":"open","uid":"u","properties":{"user_agent":B,"userAgent":"UA"}}"#, "/context/userAgent", "UA"),
        (r#"{"event":"open","uid":"u","client":B,"user_agent":"UA"}"#, "/context/userAgent", "UA"),
        (r#"{"event":"open","uid":"u","properties":{"email_id":B},"message":{"id":"m"}}"#, "/properties/email_id", "m"),
        (r#"{"event":"open","uid":"u","properties":{"mail_id":B,"message_id":"m"}}"#, "/properties/email_id", "m"),
        (
            r#"{"event":"open","uid":"u","properties":{"email_subject":B},"subject":"S"}"#,
            "/properties/email_subject",
            "S",
        ),
        (r#"{"event":"soft_bounce","uid":"u","bounce":{"type":B}}"#, "/properties/bounce_type", "soft"),
        (
            r#"{"event":"open","uid":"u","id":B,"event_id":"e"}"#,
            "/messageId",
            "nudgespot-6162b9d2ff36cd7bacea698391f46364",
        ),
    ] {
        for blank in BLANKS {
            let body = body.replace('B', blank);
            let track = fates(body.as_bytes()).expect("well-formed").remove(0);
            let found = track.pointer(pointer).and_then(Json::as_str).unwrap_or("-");
            assert_eq!(found, expected, "{body}: {track}");
            let said = track.to_string();
            assert!(!said.contains("null") && !said.contains(blank), "blanks are not passed on: {body}: {said}");
        }
    }
}

#[test]
fn a_field_that_is_blank_is_as_one_that_is_not_there() {
    let plain = r#"{"event":"open","uid":"u"}"#;
    let expected = fates(plain.as_bytes()).expect("well-formed");
    for key in [
        "type",
        "name",
        "id",
        "event_id",
        "timestamp",
        "created_at",
        "occurred_at",
        "subscriber",
        "user",
        "user_id",
        "email",
        "contacts",
        "contact",
        "anon_id",
        "properties",
        "message",
        "campaign",
        "link",
        "list",
        "bounce",
        "client",
        "ip",
        "ip_address",
        "user_agent",
        "userAgent",
    ] {
        for blank in BLANKS {
            let body = format!(r#"{{"{key}":{blank},"event":"open","uid":"u"}}"#);
            assert_eq!(fates(body.as_bytes()).expect("well-formed"), expected, "{body}");
        }
    }
}

#[test]
fn what_is_blank_without_a_meaning_here_is_passed_on() {
    let track = disposition(&json!({
        "event": "open", "subscriber": {"uid": "u", "plan": ""}, "note": "", "properties": {"name": " ", "type": null},
        "campaign": {"tag": null}, "link": "none"
    }));
    let properties = json!({"note": "", "name": " ", "type": null, "campaign_tag": null, "link": "none"});
    assert_eq!((&track["properties"], &track["context"]["traits"]), (&properties, &json!({"plan": ""})));
}
