use super::*;

fn words(others: Json) -> String {
    fate(&with(a_track(), others)).words()
}

#[test]
fn what_this_program_has_sent_is_kept_out() {
    for own in [
        json!({"context": {"integration": {"name": "nudgespot", "version": "1.0.0"}}}),
        json!({"context": {"library": {"name": "nudgespot-source"}}}),
        json!({"messageId": "nudgespot-13ed4cdb5448f33dc9541823980f8b1f"}),
        json!({"messageId": null, "message_id": "nudgespot-"}),
    ] {
        assert_eq!(words(own.clone()), "ignored Item Purchased: own_event", "{own}");
    }
    for other in [
        json!({"context": {"integration": {"name": "Nudgespot"}, "library": {"name": "analytics-node"}}}),
        json!({"context": {"integration": "nudgespot", "library": ["nudgespot-source"]}}),
        json!({"messageId": "nudgespot"}),
        json!({"properties": {"name": "nudgespot", "source_lib": "nudgespot-source"}}),
    ] {
        assert_eq!(words(other.clone()), "track", "{other}");
    }
}

#[test]
fn integrations_switch_nudgespot_off_or_on() {
    let carrier = CallSettings { carrier: Some("My Function".to_owned()), ..CallSettings::default() };
    for (integrations, is_on, is_on_with_carrier) in [
        (json!(null), true, true),
        (json!({}), true, true),
        (json!("x"), true, true),
        (json!({"Nudgespot": false}), false, false),
        (json!({"Nudgespot": true, "All": false}), true, true),
        (json!({"Nudgespot": {}, "All": false}), true, true),
        (json!({"Nudgespot": false, "All": true}), false, false),
        (json!({"Nudgespot": null, "All": false}), false, false),
        (json!({"nudgespot": true, "All": false}), false, false),
        (json!({"All": true}), true, true),
        (json!({"All": false}), false, false),
        (json!({"all": false}), true, true),
        (json!({"All": false, "Webhooks": true}), true, true),
        (json!({"All": false, "Webhooks (Actions)": true}), true, true),
        (json!({"All": false, "Webhooks": {"x": 1}}), true, true),
        (json!({"All": false, "Webhooks": false}), false, false),
        (json!({"All": false, "Mixpanel": true}), false, false),
        (json!({"All": false, "My Function": true}), false, true),
        (json!({"All": false, "My Function": false}), false, false),
        (json!({"All": false, "Nudgespot": false, "Webhooks": true, "My Function": true}), false, false),
    ] {
        let call = with(a_track(), json!({"integrations": integrations}));
        let expected = |is_on| if is_on { "track" } else { "ignored Item Purchased: switched_off" };
        assert_eq!(fate(&call).words(), expected(is_on), "{integrations}");
        assert_eq!(fate_with(&call, &carrier).words(), expected(is_on_with_carrier), "{integrations} with a carrier");
    }
}

#[test]
fn integrations_of_a_batch_hold_where_a_call_has_none() {
    let own = with(a_track(), json!({"integrations": {"All": true}}));
    let body = json!({"batch": [a_track(), own], "integrations": {"All": false}}).to_string();
    let words: Vec<_> = fates(&body).expect("well-formed").iter().map(Fate::words).collect();
    assert_eq!(words, ["ignored Item Purchased: switched_off", "track"]);
}

#[test]
fn what_the_browser_has_sent_itself_is_kept_out() {
    let bundled = |list: Json| words(json!({"_metadata": {"bundled": list, "unbundled": ["Nudgespot"]}}));
    assert_eq!(bundled(json!(["Segment.io", "Nudgespot"])), "ignored Item Purchased: sent_by_browser");
    for other in [json!(["Segment.io"]), json!([]), json!(null), json!("Nudgespot"), json!([["Nudgespot"], 1])] {
        assert_eq!(bundled(other.clone()), "track", "{other}");
    }
}

#[test]
fn types_that_nudgespot_has_nothing_like_are_ignored() {
    for name in ["page", "screen", "group", "alias"] {
        let call = json!({"type": name, "userId": "u1", "timestamp": "whenever", "n": 1.5}).to_string();
        let expected = Fate::Ignored(name.to_owned(), "not_forwarded".to_owned(), call.clone());
        assert_eq!(fates(&call), Ok(vec![expected]));
    }
}

#[test]
fn of_several_reasons_the_first_is_named() {
    let all = [
        ("own_event", json!({"context": {"library": {"name": "nudgespot-source"}}})),
        ("switched_off", json!({"integrations": {"All": false}})),
        ("sent_by_browser", json!({"_metadata": {"bundled": ["Nudgespot"]}})),
        ("no_user_id", json!({"userId": null})),
    ];
    for (at, (reason, _)) in all.iter().enumerate() {
        let call = all[at..].iter().fold(an_identify(), |call, (_, others)| with(call, others.clone()));
        assert_eq!(fate(&call).words(), format!("ignored identify: {reason}"));
        let page = with(call, json!({"type": "page"}));
        let reason = if *reason == "no_user_id" { "not_forwarded" } else { reason };
        assert_eq!(fate(&page).words(), format!("ignored page: {reason}"));
    }
    // What could not be used is kept out as well where it is.
    let own = json!({"type": "track", "context": {"library": {"name": "nudgespot-source"}}, "timestamp": "soon"});
    assert_eq!(fate(&own).words(), "ignored track: own_event");
}
