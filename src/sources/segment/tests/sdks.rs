use super::*;

fn sdk_fates(body: &Json, endpoint_type: Option<&str>) -> Vec<Fate> {
    verified(body.to_string().as_bytes(), |body| {
        let elements = parse_sdk(body, endpoint_type, RECEIVED_AT, &CallSettings::default());
        elements.expect("well-formed").into_iter().map(Fate::of).collect()
    })
}

fn timestamp(body: &Json) -> Json {
    sdk_fates(body, None).pop().expect("one call").activity()["timestamp"].take()
}

#[test]
fn a_path_says_the_type_of_calls_that_say_none() {
    let call = json!({"userId": "u1", "event": "Item Purchased", "traits": {}, "writeKey": "k"});
    for (path, endpoint_type) in SDK_PATHS {
        let words = sdk_fates(&call, endpoint_type).pop().expect("one call").words();
        match endpoint_type {
            None => assert!(words.starts_with("rejected: no type"), "{path}: {words}"),
            Some(name @ ("identify" | "track")) => assert_eq!(words, name, "{path}"),
            Some(name) => assert_eq!(words, format!("ignored {name}: not_forwarded"), "{path}"),
        }
    }
    let own = with(call.clone(), json!({"type": "track"}));
    assert_eq!(sdk_fates(&own, Some("identify")).pop().expect("one call").words(), "track", "its own type counts");
    let [identify, track] = ["identify", "track"].map(|name| sdk_fates(&call, Some(name)).remove(0).id().to_owned());
    assert_ne!(identify, track, "two calls, though their bodies are the same");
}

#[test]
fn a_batch_is_taken_apart() {
    let batch = json!({"batch": [an_identify(), a_track()], "writeKey": "k", "sentAt": "2026-01-02T03:04:05Z"});
    assert_eq!(sdk_fates(&batch, None).iter().map(Fate::words).collect::<Vec<_>>(), ["identify", "track"]);
}

#[test]
fn a_clock_that_is_off_is_set_right_by_when_the_call_was_sent() {
    // The sender's clock is an hour ahead; the event was 10 s before it was sent.
    let call = with(a_track(), json!({"timestamp": "2026-01-02T04:03:55.678Z"}));
    let right = "2026-01-02T03:03:55.678Z";
    let sent_at = json!("2026-01-02T04:04:05.678Z");
    assert_eq!(timestamp(&with(call.clone(), json!({"sentAt": sent_at}))), right);
    assert_eq!(timestamp(&with(call.clone(), json!({"sent_at": sent_at}))), right);
    assert_eq!(timestamp(&json!({"batch": [call], "sentAt": sent_at})), right);
    let queued = with(call.clone(), json!({"sentAt": "2026-01-02T09:00:00Z"}));
    assert_eq!(timestamp(&json!({"batch": [queued], "sentAt": sent_at})), right, "the batch was sent last");
    for unreadable in [json!(null), json!("soon"), json!({})] {
        assert_eq!(timestamp(&with(call.clone(), json!({"sentAt": unreadable}))), "2026-01-02T04:03:55.678Z");
    }
    // Out of all bounds: as it was said.
    let ages_ago = with(a_track(), json!({"timestamp": "0001-01-01T00:00:00Z", "sentAt": "9999-12-31T23:59:59Z"}));
    assert_eq!(timestamp(&ages_ago), "0001-01-01T00:00:00.000Z");
    let none = with(a_track(), json!({"sentAt": sent_at}));
    assert_eq!(timestamp(&none), "2026-01-02T03:04:05.678Z", "when it was received");
}
