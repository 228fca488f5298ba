use super::*;

fn activity(others: Json) -> Json {
    fate(&with(a_track(), others)).activity()
}

#[test]
fn a_track_becomes_an_activity() {
    let fate = fates(
        r#"{"type":"track","userId":"u1","event":"Item Purchased","properties":{"revenue":39.95,"n":12345678901234567890},"context":{"traits":{"plan":"pro","revenue":1}},"timestamp":"2026-01-02T05:04:05.678+02:00"}"#,
    )
    .expect("well-formed")
    .remove(0);
    insta::assert_snapshot!(fate.body(), @r#"{"activity":{"event":"Item Purchased","timestamp":"2026-01-02T03:04:05.678Z","subscriber":{"uid":"u1"},"properties":{"revenue":39.95,"n":12345678901234567890,"plan":"pro"}}}"#);
}

#[test]
fn a_track_without_a_user_id_is_ignored_under_its_events_name() {
    for user in [json!({"userId": null, "anonymousId": "a1"}), json!({"userId": " "}), json!({"userId": {}})] {
        assert_eq!(fate(&with(a_track(), user)).words(), "ignored Item Purchased: no_user_id");
    }
    assert_eq!(activity(json!({"userId": null, "user_id": 7}))["subscriber"], json!({"uid": "7"}));
}

#[test]
fn a_time_is_written_in_utc_and_is_that_of_receipt_where_none_is_said() {
    for (timestamp, expected) in [
        (json!("2026-01-01T23:00:00-05:00"), "2026-01-02T04:00:00.000Z"),
        (json!("2026-01-02T03:04:05.123456Z"), "2026-01-02T03:04:05.123Z"),
        (json!(1_420_070_400), "2015-01-01T00:00:00.000Z"),
        (json!(1_420_070_400_001_i64), "2015-01-01T00:00:00.001Z"),
        (json!(null), "2026-01-02T03:04:05.678Z"),
        (json!(""), "2026-01-02T03:04:05.678Z"),
    ] {
        assert_eq!(activity(json!({"timestamp": timestamp}))["timestamp"], expected, "{timestamp}");
    }
    // What passed Segment is right already.
    let passed = json!({"timestamp": "2026-01-02T03:00:00Z", "sentAt": "2026-01-02T04:00:00Z"});
    assert_eq!(activity(passed)["timestamp"], "2026-01-02T03:00:00.000Z");
}

#[test]
fn traits_fill_the_properties_unless_they_are_left_out() {
    let call = with(
        a_track(),
        json!({
            "properties": {"a": 1, "b": null, "c": {"d": 1}},
            "context": {"traits": {"a": 2, "b": 2, "c": {"e": 2}, "f": {"g": [null]}}},
            "traits": {"h": 1},
        }),
    );
    let properties = json!({"a": 1, "b": null, "c": {"d": 1}, "f": {"g": [null]}});
    assert_eq!(fate(&call).activity()["properties"], properties);
    let settings = CallSettings { without_event_traits: true, ..CallSettings::default() };
    assert_eq!(fate_with(&call, &settings).activity()["properties"], call["properties"]);
    for nothing in [json!(null), json!([]), json!("x"), json!({})] {
        assert_eq!(activity(json!({"properties": nothing, "context": nothing}))["properties"], json!({}));
    }
}

#[test]
fn many_traits_are_told_apart_as_few_are() {
    let keys = |n: usize| (0..n).map(|i| (format!("k{i}"), json!(i))).collect::<serde_json::Map<_, _>>();
    for n in [1, 31, 32, 33, 34, 900] {
        let properties = json!(keys(n / 2));
        let call = with(a_track(), json!({"properties": properties, "context": {"traits": keys(n)}}));
        assert_eq!(fate(&call).activity()["properties"], json!(keys(n)));
    }
}

#[test]
fn an_activity_that_reads_as_an_email_event_is_marked() {
    let mark = json!("nudgespot-source");
    for name in ["opened", "Email Opened", "email.clicked", "Unsubscribed", "hard_bounce", "Message Delivered"] {
        assert_eq!(activity(json!({"event": name}))["properties"], json!({"source_lib": mark}), "{name}");
    }
    let said = json!({"event": "Email Opened", "properties": {"source_lib": "x", "a": 1}, "context": {"traits": {"source_lib": 7}}});
    assert_eq!(activity(said)["properties"], json!({"a": 1, "source_lib": mark}));
    let other = json!({"event": "Email Sent", "properties": {"source_lib": "x"}});
    assert_eq!(activity(other)["properties"], json!({"source_lib": "x"}));
}

#[test]
fn a_name_is_passed_on_as_it_came() {
    for name in [" Item\tPurchased ", "\u{e4}\"\\", "\u{1f600}"] {
        assert_eq!(activity(json!({"event": name}))["event"], name);
    }
}

#[test]
fn delete_forgets_a_user() {
    let call = json!({"type": "delete", "messageId": "m3", "userId": 7, "timestamp": "whenever"});
    assert_eq!(fate(&call), Fate::Delete("m3".to_owned(), "7".to_owned()));
    assert_eq!(fate(&json!({"type": "delete", "anonymousId": "a"})).words(), "ignored delete: no_user_id");
}
