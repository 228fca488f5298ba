//! Whatever comes is answered; what is passed on is what came.

use proptest::prelude::*;

use super::*;

/// Keys that mean something.
const KNOWN: [&str; 25] = [
    "type",
    "userId",
    "user_id",
    "messageId",
    "event",
    "timestamp",
    "sentAt",
    "properties",
    "traits",
    "context",
    "integrations",
    "All",
    "Nudgespot",
    "_metadata",
    "bundled",
    "batch",
    "name",
    "library",
    "email",
    "phone",
    "firstName",
    "createdAt",
    "unsubscribed",
    "source_lib",
    "writeKey",
];

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        prop_oneof!["identify", "track", "delete", "page", "opened", "a@b.c", "2016-01-27T09:15:00Z", "Nudgespot"]
            .prop_map(Json::from),
    ];
    let keys = prop_oneof![any::<String>(), proptest::sample::select(&KNOWN[..]).prop_map(str::to_owned)];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            proptest::collection::btree_map(keys.clone(), inner, 0..8)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// JSON text with what no `serde_json::Value` keeps: digits, white space, escapes, repeated keys.
fn any_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "-?[1-9][0-9]{0,30}(\\.[0-9]{1,20})?",
        "[a-z ]{0,5}".prop_map(|text| format!("\"\\u0041{text}\\/\"")),
        Just("null".to_owned()),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("[ {} ]", list.join(" ,"))),
            proptest::collection::vec(("[a-c]", inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members.into_iter().map(|(key, value)| format!("\"{key}\" :{value}")).collect();
                format!("{{{}}}", members.join(",\n"))
            }),
        ]
    })
}

fn check(fate: &Fate) {
    match fate {
        Fate::Identify(id, user_id, ..) | Fate::Track(id, user_id, _) => {
            assert!(!id.trim().is_empty() && !user_id.trim().is_empty());
            let what = if matches!(fate, Fate::Track(..)) { fate.activity() } else { fate.subscriber() };
            assert!(what["properties"].is_object(), "{what}");
        }
        Fate::Delete(id, user_id) => assert!(!id.trim().is_empty() && !user_id.trim().is_empty()),
        Fate::Ignored(..) | Fate::Rejected(..) => {}
    }
}

proptest! {
    #[test]
    fn any_json_gets_an_answer_and_every_call_is_sound(body in any_json()) {
        let text = body.to_string();
        let fates = fates(&text);
        fates.iter().flatten().for_each(check);
        prop_assert_eq!(fates, super::fates(&text), "the same again");
    }

    #[test]
    fn any_call_gets_an_answer_and_is_sound(call in any_json(), name in proptest::sample::select(&["identify", "track"][..])) {
        let call = json!({
            "type": name, "userId": "u", "event": "x", "traits": call, "properties": call, "context": {"traits": call},
        });
        let fate = fate(&call);
        check(&fate);
        prop_assert_eq!(fate.words(), name);
    }

    #[test]
    fn any_bytes_get_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = fates_with(&body, &CallSettings::default());
    }

    #[test]
    fn digits_and_nesting_are_kept(value in any_text()) {
        let calls = format!(
            r#"[{{"type":"identify","userId":"u","traits":{{"own":{value}}}}},
                {{"type":"track","userId":"u","event":"x","properties":{{"own":{value}}}}},
                {{"type":"track","userId":"u","event":"x","context":{{"traits":{{"own":{value}}}}}}}]"#
        );
        for fate in fates(&calls).expect("well-formed") {
            prop_assert!(fate.body().contains(&format!(r#""properties":{{"own":{value}}}"#)), "{}", fate.body());
        }
    }

    #[test]
    fn what_was_mapped_maps_to_itself(traits in any_json()) {
        let mut traits = traits;
        if let Some(traits) = traits.as_object_mut() {
            // A second spelling counts where the first is taken.
            traits.retain(|key, _| key != "createdAt" && key != "unsubscribed");
        }
        let once = properties(&traits.to_string());
        prop_assert_eq!(properties(&once), once);
    }
}

/// The properties of a user who has these traits, as text.
fn properties(traits: &str) -> String {
    let fate =
        fates(&format!(r#"{{"type":"identify","userId":"u","traits":{traits}}}"#)).expect("well-formed").remove(0);
    let (_, properties) = fate.body().split_once(r#""properties":"#).expect("properties");
    let properties: &RawValue =
        serde_json::Deserializer::from_str(properties).into_iter().next().expect("a value").expect("JSON");
    properties.get().to_owned()
}

#[test]
fn the_longest_calls_are_stored_in_less_than_64_kib() {
    for long in ["x y".repeat(10_600), "x \u{e4}".repeat(7_950), "\u{1} ".repeat(4_500), "\" ".repeat(10_000)] {
        let call = json!({"type": "identify", "userId": "u", "traits": {"name": long}});
        let fate = fate(&call);
        assert!(call.to_string().len() <= 32_000, "{}", call.to_string().len());
        assert_eq!(fate.subscriber()["name"], long);
    }
    let call =
        json!({"type": "track", "userId": "u", "event": "opened", "context": {"traits": {"a": "\u{1}".repeat(5_300)}}});
    assert_eq!(fate(&call).activity()["properties"]["source_lib"], "nudgespot-source");
}
