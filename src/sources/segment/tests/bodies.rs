use super::*;
use crate::sources::element::MAX_ELEMENTS;

#[test]
fn a_call_an_array_and_a_batch_are_bodies() {
    let (identify, track) = (an_identify(), a_track());
    for (body, expected) in [
        (identify.to_string(), vec!["identify"]),
        (format!("\u{feff} {track}\r\n"), vec!["track"]),
        (format!("[{identify},\n{track}]"), vec!["identify", "track"]),
        (
            json!({"batch": [identify, track], "sentAt": "2026-01-02T03:04:05Z", "writeKey": "k"}).to_string(),
            vec!["identify", "track"],
        ),
        (json!({"type": null, "batch": [track]}).to_string(), vec!["track"]),
        (with(a_track(), json!({"batch": [identify]})).to_string(), vec!["track"]),
        ("[]".to_owned(), vec![]),
        (r#"{"batch":[]}"#.to_owned(), vec![]),
    ] {
        let words: Vec<_> = fates(&body).expect("well-formed").iter().map(Fate::words).collect();
        assert_eq!(words, expected, "{body}");
    }
}

#[test]
fn what_is_neither_is_malformed() {
    let whole = json!([a_track()]).to_string();
    let mut bodies: Vec<&[u8]> =
        vec![b"", b" ", b"1", b"null", b"\"x\"", b"[", b"{]", b"[1,]", b"{\"type\":\"track\"}x", b"[\"\xff\"]"];
    bodies.extend((1..whole.len()).map(|end| &whole.as_bytes()[..end]));
    for body in bodies {
        let words = String::from_utf8_lossy(body).into_owned();
        assert_eq!(fates_with(body, &CallSettings::default()), Err(BodyError::Malformed), "{words}");
    }
}

#[test]
fn a_body_has_ten_thousand_calls_at_most() {
    let of = |n: usize| format!("[{}]", vec!["{}"; n].join(","));
    assert_eq!(fates(&of(MAX_ELEMENTS)).map(|fates| fates.len()), Ok(MAX_ELEMENTS));
    assert_eq!(fates(&of(MAX_ELEMENTS + 1)), Err(BodyError::TooManyElements));
    let batch = format!(r#"{{"batch":{}}}"#, of(MAX_ELEMENTS + 1));
    assert_eq!(fates(&batch), Err(BodyError::TooManyElements));
}

#[test]
fn what_cannot_be_used_is_rejected_and_the_rest_goes_on() {
    let rejected = |reason: &str| format!("rejected: {reason}");
    let no_type = rejected("no type: neither `identify` nor `track`, nor another of Segment's calls");
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let cases = [
        ("1".to_owned(), rejected("not an object")),
        ("null".to_owned(), rejected("not an object")),
        (r#""identify""#.to_owned(), rejected("not an object")),
        ("[]".to_owned(), rejected("not an object")),
        ("{}".to_owned(), no_type.clone()),
        (r#"{"userId":"u1","event":"x"}"#.to_owned(), no_type.clone()),
        (r#"{"type":" ","userId":"u1"}"#.to_owned(), no_type.clone()),
        (r#"{"type":7,"userId":"u1"}"#.to_owned(), no_type),
        (r#"{"type":"Identify","userId":"u1"}"#.to_owned(), rejected("unknown type of call: Identify")),
        (r#"{"type":"purchase","userId":"u1"}"#.to_owned(), rejected("unknown type of call: purchase")),
        (with(a_track(), json!({"event": null})).to_string(), rejected("no event name")),
        (with(a_track(), json!({"event": " "})).to_string(), rejected("no event name")),
        (with(a_track(), json!({"event": 5})).to_string(), rejected("no event name")),
        (with(a_track(), json!({"timestamp": "soon"})).to_string(), rejected("unreadable time: \"soon\"")),
        (with(a_track(), json!({"timestamp": "2026-01-02"})).to_string(), rejected("unreadable time: \"2026-01-02\"")),
        (with(a_track(), json!({"timestamp": {}})).to_string(), rejected("unreadable time: {}")),
        (with(an_identify(), json!({"timestamp": true})).to_string(), rejected("unreadable time: true")),
        (
            with(a_track(), json!({"messageId": "m".repeat(513)})).to_string(),
            rejected("the event id is longer than 512 bytes"),
        ),
        (
            r#"{"type":"track","userId":"u","messageId":"m","event":"x","properties":{"a":"\ud800"}}"#.to_owned(),
            rejected("unreadable: the value of `a` cannot be passed on"),
        ),
        (
            r#"{"type":"track","userId":"u","event":"x","properties":{"a":"\ud800"}}"#.to_owned(),
            rejected("unreadable: a string is not Unicode"),
        ),
        (
            r#"{"type":"identify","userId":"u","traits":{"a":{"b":1e999}}}"#.to_owned(),
            rejected("unreadable: the value of `a` cannot be passed on"),
        ),
        (
            format!(r#"{{"type":"identify","userId":"u","messageId":"m","traits":{{"a":{deep}}}}}"#),
            rejected("unreadable: the value of `a` cannot be passed on"),
        ),
    ];
    let body = format!("[{},{}]", cases.clone().map(|(call, _)| call).join(","), a_track());
    let fates = fates(&body).expect("well-formed");
    for ((call, expected), fate) in cases.iter().zip(&fates) {
        assert_eq!(&fate.words(), expected, "{call}");
        let Fate::Rejected(_, raw) = fate else { panic!("{call} is rejected") };
        assert_eq!(raw, call, "kept as it came");
    }
    assert_eq!(fates.last().map(Fate::words).as_deref(), Some("track"));
}

#[test]
fn a_call_has_32_000_bytes_at_most() {
    let of = |n: usize| {
        let mut call = with(a_track(), json!({"properties": {"x": ""}}));
        let rest = n - call.to_string().len();
        call["properties"]["x"] = json!("x".repeat(rest));
        assert_eq!(call.to_string().len(), n);
        call
    };
    assert_eq!(fate(&of(32_000)).words(), "track");
    assert_eq!(fate(&of(32_001)).words(), "rejected: over 32000 bytes as a call");
    // Not only the first, and not the body: its neighbours go on.
    let words: Vec<_> = fates(&json!([a_track(), of(32_001), a_track()]).to_string())
        .expect("well-formed")
        .iter()
        .map(Fate::words)
        .collect();
    assert_eq!(words, ["track", "rejected: over 32000 bytes as a call", "track"]);
}

#[test]
fn an_id_is_the_senders_or_made_of_the_call() {
    assert_eq!(fate(&a_track()).id(), "m2");
    let of = |others: Json| fate(&with(a_track(), others)).id().to_owned();
    assert_eq!(of(json!({"messageId": null, "message_id": "m3"})), "m3");
    assert_eq!(of(json!({"messageId": 12})), "12");
    assert_eq!(of(json!({"messageId": "m".repeat(512)})), "m".repeat(512));

    let without = of(json!({"messageId": " "}));
    assert!(without.starts_with("sha256:"), "{without}");
    assert_eq!(without, of(json!({"messageId": " ", "sentAt": "2026-01-02T03:04:05Z", "writeKey": "k"})));
    assert_ne!(without, of(json!({"messageId": null, "event": "Another"})));
    let spelled = |text: &str| fates(text).expect("well-formed").remove(0).id().to_owned();
    let [one, other] = [
        r#"{"type":"track","userId":"u","event":"x","properties":{"a":1,"b":[2]}}"#,
        r#" {"event":"\u0078", "properties":{"b":[2],"a":1}, "userId":"u","type":"track"}"#,
    ]
    .map(spelled);
    assert_eq!(one, other, "the same call, written otherwise");
}

#[test]
fn a_write_key_is_not_kept_with_what_is_set_aside() {
    for call in [json!({"type": "page", "writeKey": "secret", "n": 1}), json!({"writeKey": "secret", "n": 1})] {
        let (Fate::Ignored(_, _, raw) | Fate::Rejected(_, raw)) = fate(&call) else { panic!("{call} is set aside") };
        assert!(!raw.contains("secret") && raw.contains(r#""n":1"#), "{raw}");
    }
}
