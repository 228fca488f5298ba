//! The rules of the other direction, one by one, through the real program.

use hmac::{Hmac, KeyInit, Mac};
use nudgespot_source::admin::Recipient;
use nudgespot_source::sandbox::Fault;
use serde_json::{Value, json};
use sha1::Sha1;

use crate::calls::{CallSource, IDENTIFY, answer, calls_of, sent, world, world_in};
use crate::harness::{Context, Service, sender};

fn signature(secret: &str, bytes: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(bytes.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// Posts with these headers and nothing else that proves who it is.
async fn post_with(service: &Service, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut request = sender::http().post(format!("{}{path}", service.url)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request).await
}

fn track(user: &str, event: &str) -> String {
    format!(r#"{{"type":"track","userId":"{user}","event":"{event}","messageId":"{user}-{event}"}}"#)
}

/// Adds a further source of calls with these settings to the account.
async fn with_settings(context: &Context, name: &str, args: &[&str]) -> CallSource {
    context.create(name, &["--write-key", "key-of-another"]).await;
    CallSource::add(context, name, args).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_believed_by_its_signature_or_by_the_ingest_key() {
    let (context, service, source) = world().await;
    let array = format!("[{IDENTIFY}, {}]", track("u1", "A"));
    let of = |bytes: &str| signature(&source.secret, bytes);
    let post = async |headers: &[(&str, &str)], body: &str| post_with(&service, &source.path, headers, body).await;
    let (whole, first, single) = (of(&array), of(IDENTIFY), of(IDENTIFY));
    assert_eq!(post(&[("X-Signature", &single)], IDENTIFY).await.0, 200);
    assert_eq!(post(&[("X-Signature", &whole)], &array).await.0, 200, "of the whole body");
    assert_eq!(post(&[("X-Signature", &first)], &array).await.0, 200, "of the first element");
    let key = format!("Basic {}", base64(&format!("{}:", source.ingest_key)));
    assert_eq!(post(&[("Authorization", &key)], IDENTIFY).await.0, 200);
    assert_eq!(post(&[("Authorization", &key), ("X-Signature", &single)], IDENTIFY).await.0, 200);

    let changed = IDENTIFY.replace("Ada", "Eda");
    let prefixed = format!("sha1={single}");
    let with_password = format!("Basic {}", base64(&format!("{}:x", source.ingest_key)));
    let refused = [
        ("one byte changed", vec![("X-Signature", single.as_str())], changed.as_str()),
        ("twice", vec![("X-Signature", &single), ("X-Signature", &single)], IDENTIFY),
        ("with a prefix", vec![("X-Signature", &prefixed)], IDENTIFY),
        ("nothing at all", vec![], IDENTIFY),
        ("a signature that is there must hold", vec![("Authorization", &key), ("X-Signature", &whole)], IDENTIFY),
        ("a password", vec![("Authorization", &with_password)], IDENTIFY),
        ("a signature of the second element", vec![("X-Signature", "00")], &array),
    ];
    let mut bodies = Vec::new();
    for (why, headers, body) in refused {
        let (status, problem) = post(&headers, body).await;
        assert_eq!(status, 401, "{why}");
        bodies.push(problem);
    }
    let unknown = "/webhooks/segment/AAAAAAAAAAAAAAAAAAAAAA";
    let (status, problem) = post_with(&service, unknown, &[("X-Signature", &single)], IDENTIFY).await;
    assert_eq!(status, 401);
    bodies.push(problem);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "all alike: {bodies:?}");

    // A rotation renews both, and both hold for another while.
    let rotated = context.run(&["source", "rotate-secret", &source.name]).await;
    let renewed = rotated["shared_secret"].as_str().expect("text");
    assert_eq!(post(&[("X-Signature", &signature(renewed, IDENTIFY))], IDENTIFY).await.0, 200);
    assert_eq!(post(&[("X-Signature", &single)], IDENTIFY).await.0, 200, "the one before");
    let renewed = format!("Basic {}", base64(&format!("{}:", rotated["ingest_key"].as_str().expect("text"))));
    assert_eq!(post(&[("Authorization", &renewed)], IDENTIFY).await.0, 200);
    assert_eq!(post(&[("Authorization", &key)], IDENTIFY).await.0, 200, "the one before");
    assert_eq!(source.post_sdk(&service, "/v1/identify", r#"{"userId":"u1"}"#).await.0, 200, "also for libraries");
}

fn base64(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_out_says_why() {
    let (context, service, source) = world().await;
    source.accept(&service, r#"{"type":"identify","userId":"u1"}"#).await;
    let with = |more: &str| format!(r#"{{"type":"track","userId":"u1","event":"E",{more}}}"#);
    let kept_out = [
        with(r#""context":{"integration":{"name":"nudgespot"}}"#),
        with(r#""context":{"library":{"name":"nudgespot-source"}}"#),
        with(r#""messageId":"nudgespot-0123""#),
        with(r#""integrations":{"Nudgespot":false}"#),
        with(r#""integrations":{"All":false}"#),
        with(r#""_metadata":{"bundled":["Nudgespot"]}"#),
        r#"{"type":"page","userId":"u1"}"#.to_owned(),
        r#"{"type":"group","userId":"u1"}"#.to_owned(),
        r#"{"type":"alias","userId":"u1"}"#.to_owned(),
        r#"{"type":"screen","userId":"u1"}"#.to_owned(),
    ];
    for call in &kept_out {
        assert_eq!(source.accept(&service, call).await["ignored"], 1, "{call}");
    }
    // A carrier outweighs `All`: a replay by Segment says nothing else.
    let carried = [
        with(r#""messageId":"c1","integrations":{"All":false,"Webhooks (Actions)":true}"#),
        with(r#""messageId":"c2","integrations":{"All":false,"Nudgespot":{}}"#),
    ];
    for call in &carried {
        assert_eq!(source.accept(&service, call).await["accepted"], 1, "{call}");
    }
    for bad in [
        r#"{"type":"track","userId":"u1"}"#,
        r#"{"type":"track","userId":"u1","event":"E","timestamp":"soon"}"#,
        "7",
        &with(&format!(r#""properties":{{"x":"{}"}}"#, "x".repeat(32_000))),
    ] {
        let receipt = source.accept(&service, &format!("[{bad}]")).await;
        assert_eq!(receipt["rejected"].as_array().map(Vec::len), Some(1), "{bad}: {receipt}");
    }
    let shown = context.source_is(&source.name, |shown| shown["delivered"] == 3).await;
    assert_eq!((&shown["ignored"], &shown["rejected"]), (&json!(kept_out.len()), &json!(4)));
    let reasons: Vec<(String,)> =
        sqlx::query_as("select distinct reason from quarantine where disposition = 'ignored' order by 1")
            .fetch_all(&context.pool)
            .await
            .expect("rows");
    let reasons: Vec<&str> = reasons.iter().map(|(reason,)| reason.as_str()).collect();
    assert_eq!(reasons, ["not_forwarded", "own_event", "sent_by_browser", "switched_off"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nudgespot_answers_decides_what_becomes_of_a_call() {
    let (context, service, source) = world().await;
    source.accept(&service, r#"{"type":"identify","userId":"u1"}"#).await;
    sent(&context, 1).await;
    let faults = &context.segment.nudgespot_faults;
    // Each is a dead letter of its own; the others go on.
    let bad = [
        ("a", Fault::Status(400, None)),
        ("b", Fault::Status(409, None)),
        ("c", Fault::Status(413, None)),
        ("d", Fault::Status(415, None)),
        ("e", Fault::Status(422, None)),
        ("f", Fault::Body(200, r#"{"error":"no such thing"}"#.to_owned())),
        ("g", Fault::Body(404, r#"{"error":{"type":"x","message":"unknown user"}}"#.to_owned())),
    ];
    for (event, fault) in &bad {
        faults.when_body_holds(&format!(r#""event":"{event}""#), Some(fault.clone()));
    }
    let tracks: Vec<String> = ["a", "b", "c", "d", "e", "f", "g", "good"].map(|event| track("u1", event)).to_vec();
    source.accept(&service, &format!("[{}]", tracks.join(","))).await;
    let shown = context.source_is(&source.name, |shown| shown["waiting"] == 0).await;
    assert_eq!((&shown["dead_letters"], &shown["delivered"]), (&json!(7), &json!(2)));
    let letters = context.run(&["dead-letters", "list", "--source", &source.name]).await;
    let reasons: Vec<&str> = letters.as_array().expect("a list").iter().filter_map(|l| l["reason"].as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("unknown user")), "{reasons:?}");

    // Each is tried again, until it is taken.
    let again = [408, 423, 425, 429, 500, 503, 504].map(|status| Fault::Status(status, None));
    for (n, fault) in again.into_iter().chain([Fault::Drop]).enumerate() {
        let n_before = calls_of(&context.segment).len();
        faults.plan("rest-key-1", [fault]);
        source.accept(&service, &track("u1", &format!("again{n}"))).await;
        context.source_is(&source.name, |shown| shown["delivered"] == n + 3 && shown["waiting"] == 0).await;
        assert_eq!(calls_of(&context.segment).len(), n_before + 2);
    }

    // Each pauses the source with its reason.
    for status in [401, 402, 403, 405, 410, 302, 501, 505, 418] {
        faults.plan("rest-key-1", [Fault::Status(status, None)]);
        source.accept(&service, &track("u1", &format!("pause{status}"))).await;
        let shown = context.source_is(&source.name, |shown| shown["paused_reason"].is_string()).await;
        let reason = shown["paused_reason"].as_str().expect("text");
        assert!(reason.contains("Nudgespot") && reason.contains(&status.to_string()), "{reason}");
        context.run(&["source", "resume", &source.name]).await;
        context.source_is(&source.name, |shown| shown["waiting"] == 0 && shown["paused_reason"].is_null()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_one_that_fails_are_not_repeated() {
    let (context, service, source) = world().await;
    let faults = &context.segment.nudgespot_faults;
    faults.when_body_holds(r#""uid":"bad""#, Some(Fault::Status(500, None)));
    let users = ["bad", "a", "b", "c"];
    let calls: Vec<String> = users.map(|user| format!(r#"{{"type":"identify","userId":"{user}"}}"#)).to_vec();
    source.accept(&service, &format!("[{}]", calls.join(","))).await;
    let shown = context.source_is(&source.name, |shown| shown["delivered"] == 3).await;
    assert_eq!(shown["waiting"], 1, "{shown}");
    // After a restart, too.
    service.kill().await;
    let service = context.serve().await;
    let of = |user: &str| calls_of(&context.segment).iter().filter(|call| call.uid.as_deref() == Some(user)).count();
    let n_before = of("bad");
    context.segment_has(|_| of("bad") > n_before + 1).await;
    assert_eq!(["a", "b", "c"].map(of), [1, 1, 1]);
    faults.when_body_holds(r#""uid":"bad""#, None);
    source.accept(&service, &track("a", "later")).await;
    let shown = context.source_is(&source.name, |shown| shown["waiting"] == 0).await;
    assert_eq!(shown["delivered"], 5);
    assert_eq!(["a", "b", "c"].map(of), [2, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_users_are_dealt_with_as_the_source_says() {
    let (context, service, _) = world().await;
    let ignoring = with_settings(&context, "ignoring", &["--unknown-users", "ignore"]).await;
    assert_eq!(ignoring.accept(&service, &track("u1", "E")).await["ignored"], 1);
    let sending = with_settings(&context, "sending", &["--unknown-users", "send"]).await;
    assert_eq!(sending.accept(&service, &track("u1", "E")).await["accepted"], 1);
    // The stand-in knows no such user: the call is given up, and no user made.
    let shown = context.source_is(&sending.name, |shown| shown["dead_letters"] == 1).await;
    assert_eq!(shown["identified"], 0);
    let plain = with_settings(&context, "plain", &["--event-traits", "false"]).await;
    let call = r#"[{"type":"identify","userId":"p"},{"type":"track","userId":"p","event":"E","context":{"traits":{"plan":"pro"}}}]"#;
    plain.accept(&service, call).await;
    context.source_is(&plain.name, |shown| shown["delivered"] == 2).await;
    let activity = calls_of(&context.segment)
        .into_iter()
        .find(|call| call.body.contains("\"p\"") && call.path.ends_with("/activities"));
    assert!(!activity.expect("sent").body.contains("plan"));
    assert_eq!(context.show(&ignoring.name).await["held"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_for_an_identify_is_ignored_and_kept() {
    let (context, service, source) = world().await;
    assert_eq!(source.accept(&service, &track("u1", "E")).await["held"], 1);
    context.execute("update held_call set received_at = received_at - interval '4 hours 1 second'").await;
    // It is looked for at the start, and then every half a minute.
    service.kill().await;
    let service = context.serve().await;
    let shown = context.source_is(&source.name, |shown| shown["held"] == 0).await;
    assert_eq!((&shown["ignored"], &shown["waiting"]), (&json!(1), &json!(0)));
    source.accept(&service, r#"{"type":"identify","userId":"u1"}"#).await;
    context.source_is(&source.name, |shown| shown["delivered"] == 1).await;
    assert_eq!(calls_of(&context.segment).len(), 1, "it is too late for the event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_another_program_held_meanwhile_is_found() {
    let (context, service, source) = world().await;
    assert_eq!(source.accept(&service, &track("u1", "E")).await["held"], 1);
    // As if the identify had been taken by a program that had not seen it yet.
    context
        .execute("insert into identified_user (source_id, user_hash) select source_id, user_hash from held_call")
        .await;
    let shown = context.source_is(&source.name, |shown| shown["held"] == 0).await;
    assert_eq!(shown["identified"], 1);
    context.segment_has(|sandbox| !calls_of(sandbox).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_to_be_forgotten_is_forgotten_with_what_waits() {
    let (context, service, source) = world().await;
    context.run(&["source", "pause", &source.name]).await;
    source.accept(&service, &format!("[{IDENTIFY},{},{}]", track("u1", "waits"), track("u2", "held"))).await;
    source.accept(&service, r#"{"type":"identify","userId":"u3"}"#).await;
    let receipt = source.accept(&service, r#"[{"type":"delete","userId":"u1"},{"type":"delete","userId":"u2"}]"#).await;
    assert_eq!(receipt["ignored"], 2);
    let shown = context.show(&source.name).await;
    assert_eq!((&shown["held"], &shown["identified"]), (&json!(0), &json!(1)));
    // Who comes again is a user as any other, also where what had them forgotten comes again.
    source.accept(&service, r#"{"type":"identify","userId":"u1","messageId":"again"}"#).await;
    let again = source.accept(&service, r#"{"type":"delete","userId":"u1"}"#).await;
    assert_eq!((&again["ignored"], &again["duplicates"]), (&json!(0), &json!(1)));
    assert_eq!(context.show(&source.name).await["identified"], 2);
    context.run(&["source", "resume", &source.name]).await;
    context.source_is(&source.name, |shown| shown["waiting"] == 0).await;
    let users: Vec<_> = calls_of(&context.segment).into_iter().map(|call| (call.path, call.uid)).collect();
    assert_eq!(users.len(), 2, "{users:?}");
    assert!(users.iter().all(|(path, uid)| path.ends_with("identify") && uid.as_deref() != Some("u2")), "{users:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_reads_as_an_email_event_does_not_come_back() {
    let (context, service, source) = world().await;
    let call = r#"[{"type":"identify","userId":"u1"},{"type":"track","userId":"u1","event":"Email Opened"}]"#;
    source.accept(&service, call).await;
    let activity = sent(&context, 2).await.remove(1).1;
    assert_eq!(activity["activity"]["properties"]["source_lib"], "nudgespot-source");
    let email = context.create("other", &["--write-key", "key-of-other"]).await;
    let event = json!({"event": "opened", "uid": "u1", "properties": {"source_lib": "nudgespot-source"}});
    assert_eq!(email.post(&service, &event).await.body["ignored"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_limits_of_their_own() {
    let (context, service, source) = world().await;
    let many: Vec<String> = (0..10_000).map(|n| format!(r#"{{"type":"page","userId":"{n}"}}"#)).collect();
    assert_eq!(source.accept(&service, &format!("[{}]", many.join(","))).await["ignored"], 10_000);
    let (status, problem) = source.post(&service, &format!("[{},{{}}]", many.join(","))).await;
    assert_eq!((status, &problem["code"]), (413, &json!("too_many_events")));
    // More than a webhook of email events may have.
    let large = format!(r#"[{{"type":"page","userId":"u","x":"{}"}}]"#, "x".repeat(2 << 20));
    assert_eq!(source.post(&service, &large).await.0, 200);
    let (status, problem) = source.post(&service, &"x".repeat((16 << 20) + 1)).await;
    assert_eq!((status, &problem["code"]), (413, &json!("body_too_large")));
    assert_eq!(source.post(&service, "{").await.0, 400);

    // Libraries may compress; what grows beyond the limit is refused as it grows.
    let gzip = async |bytes: Vec<u8>| {
        let request = sender::http().post(format!("{}/v1/batch", service.url)).header("content-encoding", "gzip");
        answer(request.basic_auth(&source.ingest_key, Some("")).body(bytes)).await.0
    };
    let pack = |text: &str| {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("packed");
        encoder.finish().expect("packed")
    };
    assert_eq!(gzip(pack(r#"{"batch":[{"type":"identify","userId":"zipped"}]}"#)).await, 200);
    assert_eq!(gzip(pack(&" ".repeat(64 << 20))).await, 413);
    assert_eq!(gzip(b"not packed".to_vec()).await, 400);
    context.source_is(&source.name, |shown| shown["delivered"] == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_still_at_nudgespot_holds_up_neither_intake_nor_other_sources() {
    let (context, service, source) = world_in(Context::waiting().await).await;
    context.segment.nudgespot_faults.always("rest-key-1", Some(Fault::Hang));
    source.accept(&service, IDENTIFY).await;
    context.segment_has(|sandbox| !calls_of(sandbox).is_empty()).await;
    let email = context.create("other", &["--write-key", "key-of-other"]).await;
    email.accept(&service, &json!({"event": "opened", "uid": "u"})).await;
    context.messages(1).await;
    source.accept(&service, &track("u1", "E")).await;
    context.segment.nudgespot_faults.always("rest-key-1", None);
    context.source_is(&source.name, |shown| shown["delivered"] == 2).await;
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_recipient_is_known_no_more() {
    let (context, service, source) = world().await;
    source.accept(&service, IDENTIFY).await;
    let held = r#"{"type":"track","userId":"u2","event":"E","properties":{"to":"Ada@example.com"}}"#;
    assert_eq!(source.accept(&service, held).await["held"], 1);
    let account = context.show(&source.name).await["account_id"].as_str().expect("text").parse().expect("an id");
    let identities = async || -> i64 {
        let (n,) = sqlx::query_as("select count(*) from identity").fetch_one(&context.pool).await.expect("a row");
        n
    };
    assert_eq!(identities().await, 1);
    let ada = Recipient::email("ada@example.com").expect("an address");
    context.admin().erase(account, &ada, "a test").await.expect("erased");
    assert_eq!(identities().await, 0);
    assert_eq!(context.show(&source.name).await["held"], 0);
    let user = Recipient::uid("u1").expect("an id");
    context.admin().erase(account, &user, "a test").await.expect("erased");
    assert_eq!(context.show(&source.name).await["identified"], 0);
}
