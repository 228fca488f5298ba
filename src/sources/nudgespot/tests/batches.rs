//! One event or many, and what stands beside them.

use super::*;
use crate::sources::element::MAX_ELEMENTS;

/// The tracks of a body, less what is the same in each.
fn tracks(body: &Json) -> Vec<Json> {
    fates(body.to_string().as_bytes()).expect("well-formed").into_iter().map(essence).collect()
}

#[test]
fn an_object_that_names_an_event_is_one_whatever_lists_it_holds() {
    for body in [
        json!({"event": "opened", "uid": "u", "activities": []}),
        json!({"type": "opened", "uid": "u", "events": [{"event": "clicked", "uid": "v"}]}),
        json!({"name": "opened", "uid": "u", "_json": [1, 2], "tags": ["a"]}),
        json!({"event": null, "activity": {"event": "opened", "uid": "u"}, "events": [{"event": "clicked", "uid": "v"}]}),
        json!({"event": "opened", "uid": "u", "activity": {"event": "clicked", "uid": "v"}}),
        json!({"activity": {"event": "opened", "uid": "u"}, "activities": []}),
    ] {
        let tracks = tracks(&body);
        assert_eq!(tracks.len(), 1, "{body}");
        assert_eq!((&tracks[0]["event"], &tracks[0]["userId"]), (&json!("Email Opened"), &json!("u")), "{body}");
        for (key, value) in body.as_object().expect("an object") {
            if !["event", "type", "name", "uid"].contains(&key.as_str()) && !tracks[0]["properties"][key].is_null() {
                assert_eq!(&tracks[0]["properties"][key], value, "passed on");
            }
        }
        let lists = |json: &Json| json.as_object().map_or(0, |o| o.values().filter(|value| value.is_array()).count());
        assert_eq!(lists(&tracks[0]["properties"]), lists(&body), "no list is dropped: {body}");
    }
    assert_eq!(disposition(&json!({"event": "sent", "events": [{"event": "opened", "uid": "u"}]})), "ignored: sent");
}

#[test]
fn a_name_beside_a_wrapped_event_is_a_property_unless_it_is_surely_an_events() {
    let opened = json!({"event": "opened", "uid": "u"});
    for (body, properties) in [
        (json!({"activity": opened, "name": "Peter"}), json!({"name": "Peter"})),
        (json!({"type": "webhook", "activity": opened}), json!({"type": "webhook"})),
        (
            json!({"type": "webhook", "name": "opened", "activity": opened}),
            json!({"type": "webhook", "name": "opened"}),
        ),
        (json!({"type": "webhook", "activity": {"name": "opened", "uid": "u"}}), json!({"type": "webhook"})),
        (json!({"name": "Peter", "activity": {"name": "opened"}, "uid": "u"}), json!({"name": "Peter"})),
        (json!({"name": "Peter", "activity": {"activity": opened}}), json!({"name": "Peter"})),
        (
            json!({"name": "Peter", "activity": {"type": "webhook", "activity": opened}}),
            json!({"name": "Peter", "type": "webhook"}),
        ),
        (json!({"event": " ", "type": "webhook", "activity": opened}), json!({"type": "webhook"})),
    ] {
        for body in [body.clone(), json!([body]), json!({"events": [body]})] {
            let track = tracks(&body).remove(0);
            assert_eq!(
                (&track["event"], &track["userId"], &track["properties"]),
                (&json!("Email Opened"), &json!("u"), &properties),
                "{body}"
            );
        }
    }
    for (body, expected) in [
        (json!({"event": "sent", "activity": opened}), "ignored: sent"),
        (json!({"name": "Peter", "activity": {"uid": "u"}}), "ignored: Peter"),
        (json!({"name": "Peter", "activity": {"event": " "}}), "ignored: Peter"),
        (json!({"name": "Peter", "activity": "opened"}), "ignored: Peter"),
        (json!({"type": "webhook", "activity": {"event": "sent"}}), "ignored: sent"),
    ] {
        assert_eq!(disposition(&body), expected, "{body}");
    }
    for (key, value) in [("type", "email.opened"), ("name", "Open")] {
        let track = disposition(&json!({key: value, "uid": "u", "activity": {"event": "clicked", "uid": "v"}}));
        assert_eq!((&track["event"], &track["userId"]), (&json!("Email Opened"), &json!("u")), "{track}");
    }
}

#[test]
fn a_name_beside_a_list_of_objects_is_a_property_unless_it_is_surely_an_events() {
    let (opened, clicked) = (json!({"event": "opened", "uid": "u"}), json!({"name": "clicked", "uid": "v"}));
    for key in BATCH_KEYS {
        let tracks = tracks(&json!({"name": "Acme", "type": "webhook.batch", key: [opened, clicked, {"uid": "u"}, 7]}));
        assert_eq!(tracks.len(), 4, "{tracks:?}");
        assert_eq!((&tracks[0]["event"], &tracks[1]["event"]), (&json!("Email Opened"), &json!("Email Link Clicked")));
        assert_eq!(tracks[0]["properties"], json!({"name": "Acme", "type": "webhook.batch"}));
        assert_eq!(tracks[1]["properties"], json!({"type": "webhook.batch"}), "its own name stays its own");
        assert_eq!(tracks[2..], ["rejected: no event name", "rejected: not an object"]);
    }
    for (body, expected) in [
        (json!({"event": "sent", "events": [opened]}), "ignored: sent"),
        (json!({"name": "Acme", "events": []}), "ignored: Acme"),
        (json!({"type": "tagged", "events": ["a", 1]}), "ignored: tagged"),
        (json!({"name": "Acme", "events": [opened], "tags": []}), "ignored: Acme"),
    ] {
        assert_eq!(tracks(&body), [expected], "{body}");
    }
    let many = format!(r#"{{"type":"tagged","events":[{}]}}"#, vec!["1"; MAX_ELEMENTS + 1].join(","));
    assert_eq!(fates(many.as_bytes()), Some(vec![json!("ignored: tagged")]));
}

#[test]
fn what_is_kept_of_a_batch_with_a_name_means_the_same_when_it_is_sent_again() {
    let body = json!({"name": "Acme", "x": 1, "events": [{"event": "sent"}, {"uid": "u"}, 7, null, {"event": "open"}]});
    let body = body.to_string();
    let mut kept = Vec::new();
    parse_body(body.as_bytes(), |elements| {
        kept = elements.expect("well-formed").into_iter().map(|element| element.raw.into_owned()).collect();
    });
    let again: Vec<Json> = kept.iter().flat_map(|raw| fates(raw.as_bytes()).expect("well-formed")).collect();
    assert_eq!(Some(again), fates(body.as_bytes()));
}

#[test]
fn what_a_batch_says_of_a_recipient_without_saying_who_it_is_becomes_traits() {
    for (defaults, event, traits) in [
        (json!({"subscriber": {"plan": "p"}}), json!({"uid": "u"}), json!({"plan": "p"})),
        (json!({"user": {"plan": "p", "uid": ""}}), json!({"uid": "u"}), json!({"plan": "p"})),
        (json!({"subscriber": {"plan": "p"}}), json!({"subscriber": {"uid": "u"}}), json!({"plan": "p"})),
        (
            json!({"subscriber": {"plan": "p", "x": 1}}),
            json!({"subscriber": {"uid": "u", "plan": "own"}}),
            json!({"plan": "own", "x": 1}),
        ),
        (json!({"user": {"plan": "p"}}), json!({"subscriber": {"uid": "u"}}), json!({"plan": "p"})),
        (
            json!({"subscriber": {"plan": "p"}, "user": {"x": 1}}),
            json!({"user": {"uid": "u"}}),
            json!({"plan": "p", "x": 1}),
        ),
        (json!({"user": {"plan": "p"}, "uid": "d"}), json!({"uid": "u"}), json!({"plan": "p"})),
        (json!({"subscriber": {"uid": "d", "plan": "p"}}), json!({"uid": "u"}), Json::Null),
        (json!({"subscriber": {"email": "d@x", "plan": "p"}}), json!({"uid": "u"}), Json::Null),
    ] {
        let mut event = event;
        event["event"] = json!("open");
        for element in [event.clone(), json!({"activity": event})] {
            let mut batch = defaults.clone();
            batch["events"] = json!([element]);
            let track = tracks(&batch).remove(0);
            assert_eq!(track["userId"], "u", "{batch}");
            assert_eq!(track["context"].get("traits").cloned().unwrap_or_default(), traits, "{batch}");
            assert_eq!(track["properties"], json!({}), "{batch}");
        }
    }
}

#[test]
fn a_body_that_says_something_leaves_a_trace() {
    for (body, expected) in [
        (json!([]), vec![]),
        (json!({"events": []}), vec![]),
        (json!({"activities": [], "source": null, "uid": " "}), vec![]),
        (json!({"events": [], "source": "x"}), vec!["rejected: no events: the list is empty"]),
        (json!({"activities": [], "uid": "u"}), vec!["rejected: no events: the list is empty"]),
        (json!({"_json": [], "page": 0}), vec!["rejected: no events: the list is empty"]),
        (json!({"events": [], "activities": []}), vec!["rejected: no event name"]),
        (json!({"events": [1], "uid": "u"}), vec!["rejected: not an object"]),
        (json!({"activity": []}), vec!["rejected: no event name"]),
        (json!({}), vec!["rejected: no event name"]),
    ] {
        assert_eq!(tracks(&body), expected, "{body}");
    }
}

#[test]
fn keys_beside_a_list_hold_where_an_event_says_nothing_of_its_own() {
    let person = json!({"uid": "d", "email": "d@x", "plan": "p"});
    for (defaults, event, expected) in [
        (json!({"uid": "d"}), json!({}), json!({"userId": "d"})),
        (json!({"uid": "d"}), json!({"uid": ""}), json!({"userId": "d"})),
        (json!({"uid": "d"}), json!({"uid": "u"}), json!({"userId": "u"})),
        (json!({"uid": "d"}), json!({"email": "u@x"}), json!({"anonymousId": "u@x"})),
        (json!({"subscriber": person}), json!({"uid": "u"}), json!({"userId": "u"})),
        (json!({"subscriber": person}), json!({"user": {"uid": "u"}}), json!({"userId": "u"})),
        (json!({"subscriber": person}), json!({"subscriber": {"uid": "u"}}), json!({"userId": "u"})),
        (json!({"subscriber": person}), json!({"subscriber": null}), json!({"userId": "d"})),
        (json!({"user": person}), json!({"subscriber": {"uid": " "}}), json!({"userId": "d"})),
        (json!({"timestamp": 1}), json!({"uid": "u"}), json!({"timestamp": "1970-01-01T00:00:01.000Z"})),
        (
            json!({"timestamp": 1}),
            json!({"uid": "u", "created_at": 2}),
            json!({"timestamp": "1970-01-01T00:00:02.000Z"}),
        ),
        (
            json!({"created_at": 1}),
            json!({"uid": "u", "timestamp": ""}),
            json!({"timestamp": "1970-01-01T00:00:01.000Z"}),
        ),
        (json!({"x": 1}), json!({"uid": "u"}), json!({"properties": {"x": 1}})),
        (json!({"x": 1}), json!({"uid": "u", "x": null}), json!({"properties": {"x": null}})),
        (
            json!({"properties": {"a": 1, "b": 1}}),
            json!({"uid": "u", "properties": {"b": 2}}),
            json!({"properties": {"a": 1, "b": 2}}),
        ),
        (
            json!({"properties": {"campaign_id": "d"}}),
            json!({"uid": "u", "campaign": {"id": "c"}}),
            json!({"properties": {"campaign_id": "c"}}),
        ),
        (
            json!({"campaign": {"id": "d", "name": "D"}}),
            json!({"uid": "u", "campaign": {"id": "c"}}),
            json!({"properties": {"campaign_id": "c"}}),
        ),
        (
            json!({"campaign": {"id": "d"}, "subject": "D"}),
            json!({"uid": "u", "message": {"subject": "S"}}),
            json!({"properties": {"campaign_id": "d", "email_subject": "S", "subject": "D"}}),
        ),
        (json!({"properties": {"ip": "::d"}}), json!({"uid": "u", "ip": "::1"}), json!({"context": {"ip": "::1"}})),
        (json!({"client": {"userAgent": "D"}}), json!({"uid": "u"}), json!({"context": {"userAgent": "D"}})),
        (
            json!({"bounce_type": "soft"}),
            json!({"uid": "u", "event": "hard_bounced"}),
            json!({"properties": {"bounce_type": "hard"}}),
        ),
        (json!({"activity": {"x": 1}}), json!({"uid": "u"}), json!({"properties": {"activity": {"x": 1}}})),
    ] {
        let mut event = event;
        if event.get("event").is_none() {
            event["event"] = json!("open");
        }
        for element in [event.clone(), json!({"activity": event})] {
            let mut batch = defaults.clone();
            batch["activities"] = json!([element]);
            let track = tracks(&batch).remove(0);
            for (key, expected) in expected.as_object().expect("an object") {
                assert_eq!(&track[key], expected, "{batch}");
            }
            if !expected["anonymousId"].is_null() || expected["userId"] == "u" {
                assert!(!track.to_string().contains("\"d\""), "nothing of another recipient: {batch}");
            }
        }
    }
}

#[test]
fn an_id_beside_a_list_is_not_the_id_of_all_its_events() {
    let body =
        json!({"id": "batch", "event_id": 7, "events": [{"event": "open", "uid": "a"}, {"event": "open", "uid": "b"}]});
    let fates = fates(body.to_string().as_bytes()).expect("well-formed");
    assert_ne!(fates[0]["messageId"], fates[1]["messageId"]);
    assert_eq!(fates[0]["properties"], json!({"id": "batch", "event_id": "7"}), "but it is passed on");
}

#[test]
fn a_traits_only_object_does_not_hide_a_recipient() {
    for body in [
        json!({"event": "open", "subscriber": {"plan": "p", "uid": ""}, "uid": "u"}),
        json!({"event": "open", "subscriber": {"plan": "p"}, "user": {"uid": "u", "id": ""}}),
        json!({"events": [{"event": "open", "subscriber": {"plan": "p"}}], "subscriber": {"uid": "u"}}),
    ] {
        let track = tracks(&body).remove(0);
        assert_eq!((&track["userId"], &track["context"]["traits"]), (&json!("u"), &json!({"plan": "p"})), "{body}");
    }
}

#[test]
fn what_is_set_aside_of_a_batch_is_kept_with_its_defaults() {
    let event = r#"{"event":"sent","n":1.50}"#;
    let body = format!(r#"{{"a":"x","events":[{event},7,{{"event":"open","uid":"u"}}],"b\"":{{"c":[]}}}}"#);
    parse_body(body.as_bytes(), |elements| {
        let raw: Vec<_> = elements.expect("well-formed").into_iter().map(|element| element.raw).collect();
        assert_eq!(raw[0], format!(r#"{{"a":"x","b\"":{{"c":[]}},"activities":[{event}]}}"#));
        assert_eq!(raw[1], r#"{"a":"x","b\"":{"c":[]},"activities":[7]}"#);
        assert_eq!(raw[2], r#"{"event":"open","uid":"u"}"#);
    });
    let without = format!(r#"{{"events":[{event}]}}"#);
    parse_body(without.as_bytes(), |elements| assert_eq!(elements.expect("well-formed")[0].raw, event));
}

#[test]
fn a_body_has_ten_thousand_elements_at_most() {
    let error = |body: String| {
        let mut error = None;
        parse_body(body.as_bytes(), |elements| error = elements.err());
        error
    };
    let list = |n: usize| format!("[{}]", vec!["{}"; n].join(","));
    assert_eq!(fates(list(MAX_ELEMENTS).as_bytes()).map(|fates| fates.len()), Some(MAX_ELEMENTS));
    for n in [MAX_ELEMENTS + 1, 350_000] {
        assert_eq!(error(list(n)), Some(BodyError::TooManyElements));
        assert_eq!(error(format!(r#"{{"events":{},"x":1}}"#, list(n))), Some(BodyError::TooManyElements));
        assert_eq!(error(list(n) + "x"), Some(BodyError::Malformed));
    }
    let listed = format!(r#"{{"event":"open","uid":"u","events":{}}}"#, list(MAX_ELEMENTS + 1));
    assert_eq!(error(listed), None, "one event, though it is too large");
}

#[test]
fn defaults_do_not_make_much_of_little() {
    let list = vec!["{}"; 5_000].join(",");
    let batch = |n_bytes: usize| format!(r#"{{"x":"{}","events":[{list}]}}"#, "x".repeat(n_bytes));
    assert_eq!(fates(batch(3_000).as_bytes()).map(|fates| fates.len()), Some(5_000));
    parse_body(batch(3_500).as_bytes(), |elements| assert_eq!(elements.err(), Some(BodyError::DefaultsTooLarge)));
}
