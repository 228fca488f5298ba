//! Events without an id: two are the same where the same was said of them, and only there.

use std::collections::BTreeSet;

use super::*;

/// The id of the only event of a body.
fn id(body: &str) -> String {
    let mut id = None;
    parse_body(body.as_bytes(), |elements| {
        let disposition = elements.expect("well-formed").remove(0).disposition;
        id = if let Disposition::Event(_, id, _) = disposition {
            Some(id.as_str().to_owned())
        } else {
            panic!("{disposition:?}: {body}")
        };
    });
    id.expect("checked")
}

fn assert_all_differ(bodies: &[&str]) {
    let ids: BTreeSet<String> = bodies.iter().map(|body| id(body)).collect();
    assert_eq!(ids.len(), bodies.len(), "{bodies:#?}");
}

#[test]
fn the_order_of_keys_and_the_spelling_of_strings_do_not_matter() {
    let one = id(r#"{"event":"open","uid":"u","properties":{"b":[{"y":1,"x":2}],"a":"\u00e4"}}"#);
    assert_eq!(one, id(r#" { "properties":{"a":"ä","b":[{"x":2,"y":1}]}, "uid":"u","\u0065vent":"open"} "#));
    assert_ne!(one, id(r#"{"event":"open","uid":"u","properties":{"b":[{"y":1,"x":3}],"a":"ä"}}"#));
    assert_eq!(id(r#"{"event":"open","uid":"v","uid":"u"}"#), id(r#"{"event":"open","uid":"u"}"#), "the last counts");
    assert_eq!(id(r#"{"event":"open","uid":"u","id":4}"#), id(r#"{"event":"opened","uid":"v","event_id":"4"}"#));
}

#[test]
fn the_wrapping_does_not_matter_and_what_is_beside_it_belongs_to_the_event() {
    let one = id(r#"{"event":"open","uid":"u","timestamp":1,"x":{"y":2}}"#);
    for wrapped in [
        r#"{"activity":{"event":"open","uid":"u","timestamp":1,"x":{"y":2}}}"#,
        r#"[{"activity":{"x":{"y":2},"event":"open"},"uid":"u","timestamp":1}]"#,
        r#"{"timestamp":1,"activity":{"activity":{"event":"open"},"x":{"y":2}},"uid":"u"}"#,
        r#"{"timestamp":1,"activity":{"event":"open","uid":"u","x":{"y":2},"timestamp":1},"uid":"u"}"#,
        r#"{"timestamp":1,"activity":{"event":"open","uid":"","x":{"y":2}},"uid":"u","type":null,"id":" "}"#,
        r#"{"events":[{"event":"open","x":{"y":2}}],"uid":"u","timestamp":1}"#,
        r#"{"_json":[{"activity":{"event":"open","x":{"y":2}},"uid":"u"}],"timestamp":1,"id":null}"#,
    ] {
        assert_eq!(id(wrapped), one, "{wrapped}");
    }
    assert_all_differ(&[
        r#"{"activity":{"event":"open","uid":"u"}}"#,
        r#"{"activity":{"event":"open"},"uid":"v"}"#,
        r#"{"activity":{"event":"open"},"subscriber":{"uid":"u"}}"#,
        r#"{"activity":{"event":"open"},"subscriber":{"uid":"v"}}"#,
        r#"{"activity":{"event":"open","uid":"u"},"timestamp":1}"#,
        r#"{"activity":{"event":"open","uid":"u"},"timestamp":2}"#,
        r#"{"activity":{"event":"open","uid":"u"},"ip":"::1"}"#,
        r#"{"activity":{"event":"open","uid":"u"},"x":1}"#,
        r#"{"activity":{"event":"open","uid":"u","x":1},"x":2}"#,
        r#"{"activity":{"event":"open","uid":"u","x":1},"x":3}"#,
        r#"{"activity":{"event":"open","uid":"u","properties":{"x":1}},"properties":{"y":1}}"#,
        r#"{"activity":{"event":"open","uid":"u","properties":{"x":1}},"properties":{"y":2}}"#,
        r#"{"activity":{"activity":{"event":"open","uid":"u","x":1},"x":2},"x":5}"#,
        r#"{"activity":{"activity":{"event":"open","uid":"u","x":1},"x":3},"x":5}"#,
        r#"{"activity":{"activity":{"event":"open","uid":"u","x":1},"x":5},"x":2}"#,
    ]);
}

#[test]
fn the_defaults_of_a_batch_belong_to_the_events_that_say_nothing_of_their_own() {
    assert_all_differ(&[
        r#"{"events":[{"event":"open"}],"uid":"u"}"#,
        r#"{"events":[{"event":"open"}],"uid":"v"}"#,
        r#"{"events":[{"event":"open"}],"subscriber":{"uid":"u"}}"#,
        r#"{"events":[{"event":"open"}],"uid":"u","timestamp":1}"#,
        r#"{"events":[{"event":"open"}],"uid":"u","timestamp":2}"#,
        r#"{"events":[{"event":"open","properties":{"a":1}}],"uid":"u","properties":{"b":1}}"#,
        r#"{"events":[{"event":"open","properties":{"a":1}}],"uid":"u","properties":{"b":2}}"#,
        r#"{"events":[{"event":"open"}],"uid":"u","id":"batch 1"}"#,
        r#"{"events":[{"event":"open"}],"uid":"u","id":"batch 2"}"#,
    ]);
    let alone = id(r#"{"event":"open","uid":"u","created_at":1}"#);
    for batch in [
        r#"{"events":[{"event":"open","uid":"u","created_at":1}],"timestamp":9}"#,
        r#"{"events":[{"event":"open","uid":"u","created_at":1}],"uid":"v","timestamp":10}"#,
        r#"{"events":[{"event":"open","uid":"u","created_at":1}],"subscriber":{"uid":"v"}}"#,
    ] {
        assert_eq!(id(batch), alone, "sent again with another batch: {batch}");
    }
}

#[test]
fn numbers_are_told_apart_as_they_were_written() {
    for numbers in [
        ["9007199254740992", "9007199254740993"],
        ["1", "1.0"],
        ["1.0", "1.00"],
        ["0.30000000000000004", "0.300000000000000041"],
        ["12345678901234567890123456789", "12345678901234567890123456788"],
        ["1e2", "100"],
        ["0", "-0"],
    ] {
        for body in [
            r#"{"event":"open","uid":"u","x":N}"#,
            r#"{"event":"open","uid":N}"#,
            r#"{"activity":{"event":"open","uid":"u"},"properties":{"x":[{"y":N}]}}"#,
            r#"{"events":[{"event":"open","uid":"u"}],"x":N}"#,
        ] {
            assert_all_differ(&numbers.map(|number| body.replace('N', number)).each_ref().map(String::as_str));
        }
    }
}

/// An event without an id that says something.
fn any_event() -> impl Strategy<Value = Json> {
    proptest::collection::btree_map("[a-f]{1,3}", any_json(), 0..6).prop_map(|keys| {
        let mut event = Json::Object(keys.into_iter().map(|(key, value)| (format!("x_{key}"), value)).collect());
        event["event"] = json!("open");
        event["uid"] = json!("u");
        event["timestamp"] = json!(1_453_886_100);
        event["campaign"] = json!({"id": 7});
        event
    })
}

/// The texts and numbers in `value`, each changed a little in turn.
fn changes(value: &Json) -> Vec<Json> {
    match value {
        Json::String(text) => vec![json!(format!("{text}x")), json!(format!("x{text}"))],
        Json::Number(number) => vec![json!(format!("{number}"))],
        Json::Bool(is) => vec![json!(!is)],
        Json::Null => vec![json!("x")],
        Json::Array(list) => {
            let changed = |i: usize| {
                changes(&list[i]).into_iter().map(move |change| {
                    let mut list = list.clone();
                    list[i] = change;
                    Json::Array(list)
                })
            };
            (0..list.len()).flat_map(changed).collect()
        }
        Json::Object(members) => members
            .iter()
            .filter(|(key, _)| *key != "event")
            .flat_map(|(key, value)| {
                changes(value).into_iter().map(move |change| {
                    let mut members = members.clone();
                    members.insert(key.clone(), change);
                    Json::Object(members)
                })
            })
            .collect(),
    }
}

proptest! {
    #[test]
    fn an_event_is_the_same_however_it_is_wrapped(event in any_event(), inside in any::<u64>()) {
        let alone = id(&event.to_string());
        let (mut own, mut beside) = (json!({"event": "open"}), json!({}));
        for (i, (key, value)) in event.as_object().expect("an object").iter().enumerate() {
            let to = if inside >> (i % 64) & 1 == 1 || key == "event" { &mut own } else { &mut beside };
            to[key] = value.clone();
        }
        let mut wrapped = beside.clone();
        wrapped["activity"] = own.clone();
        prop_assert_eq!(&id(&wrapped.to_string()), &alone);
        prop_assert_eq!(&id(&json!({"_json": [wrapped]}).to_string()), &alone);
        // A list beside the batch's would make it none.
        if beside.as_object().is_some_and(|beside| beside.values().all(|value| !value.is_array())) {
            let mut batch = beside;
            batch["activities"] = json!([own]);
            prop_assert_eq!(&id(&batch.to_string()), &alone);
        }
    }

    #[test]
    fn any_change_of_a_value_makes_another_event(event in any_event()) {
        let alone = id(&event.to_string());
        for changed in changes(&event) {
            if changed["timestamp"] == event["timestamp"] {
                prop_assert_ne!(&id(&changed.to_string()), &alone, "{}", changed);
            }
        }
    }

    #[test]
    fn any_change_of_a_digit_makes_another_event(digits in "[1-9][0-9]{0,40}(\\.[0-9]{1,40})?", at in any::<prop::sample::Index>()) {
        let body = |digits: &str| format!(r#"{{"activity":{{"event":"open","uid":"u"}},"x":[{{"y":{digits}}}]}}"#);
        let at = at.index(digits.len());
        let digit = digits.as_bytes()[at];
        if digit.is_ascii_digit() {
            let mut changed = digits.clone();
            changed.replace_range(at..=at, if digit == b'7' { "8" } else { "7" });
            prop_assert_ne!(id(&body(&changed)), id(&body(&digits)));
        }
        prop_assert_ne!(id(&body(&format!("{digits}{}", if digits.contains('.') { "0" } else { ".0" }))), id(&body(&digits)));
    }
}
