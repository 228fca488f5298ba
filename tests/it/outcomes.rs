//! Contract, section 2: what each of Segment's answers leads to.

use std::time::{Duration, SystemTime};

use nudgespot_source::sandbox::Fault;
use serde_json::json;

use crate::harness::{Context, events, texts};

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_may_change_are_asked_for_again() {
    let context = Context::new().await;
    let service = context.serve().await;
    let mut waits = Vec::new();
    for status in [408, 410, 429, 460, 500, 502, 503, 504] {
        let source = context.source(&format!("acme-{status}")).await;
        context.segment.faults.plan(&source.write_key, [Fault::Status(status, None)]);
        source.accept(&service, &events(0..3)).await;
        waits.push(source);
    }
    context.messages(24).await;
    for source in waits {
        context.source_is(&source.name, |shown| shown["delivered"] == 3 && shown["waiting"] == 0).await;
        let requests: Vec<_> = context
            .segment
            .requests()
            .into_iter()
            .filter(|request| request.write_key.as_ref() == Some(&source.write_key))
            .collect();
        assert_eq!(requests.len(), 2, "{}: {requests:?}", source.name);
        assert!(requests[1].at - requests[0].at >= Duration::from_millis(500), "{requests:?}");
        assert_ne!(requests[0].sent_at, requests[1].sent_at, "sentAt is the time of the attempt");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_and_no_answer_lead_to_another_attempt() {
    let context = Context::waiting().await;
    let service = context.serve().await;
    let (dropped, hung) = (context.source("dropped").await, context.source("hung").await);
    context.segment.faults.plan(&dropped.write_key, [Fault::Drop, Fault::Drop]);
    context.segment.faults.plan(&hung.write_key, [Fault::Hang]);
    dropped.accept(&service, &events(0..1)).await;
    hung.accept(&service, &events(0..1)).await;
    context.messages(2).await;
    let at = |key: &str| -> Vec<_> {
        let requests = context.segment.requests().into_iter();
        requests.filter(|request| request.write_key.as_deref() == Some(key)).map(|request| request.at).collect()
    };
    let [first, second, third] = at(&dropped.write_key)[..] else { panic!("three attempts") };
    assert!(second - first >= Duration::from_millis(500) && third - second >= Duration::from_secs(1), "doubling");
    let [first, second] = at(&hung.write_key)[..] else { panic!("two attempts") };
    assert!(service.log().contains("no answer from 127.0.0.1"));
    assert!((second - first) >= Duration::from_secs(15), "no answer in 15 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_obeyed_in_seconds_and_as_a_date() {
    let context = Context::waiting().await;
    let service = context.serve().await;
    let (seconds, date) = (context.source("seconds").await, context.source("date").await);
    context.segment.faults.plan(&seconds.write_key, [Fault::Status(429, Some("3".to_owned()))]);
    let at = SystemTime::now() + Duration::from_secs(6);
    context.segment.faults.plan(&date.write_key, [Fault::Status(503, Some(httpdate::fmt_http_date(at)))]);
    seconds.accept(&service, &events(0..1)).await;
    date.accept(&service, &events(0..1)).await;
    // What arrives meanwhile does not shorten the wait.
    seconds.accept(&service, &events(1..2)).await;
    context.messages(3).await;
    let times = |key: &str| -> Vec<_> {
        let requests = context.segment.requests().into_iter();
        requests.filter(|request| request.write_key.as_deref() == Some(key)).map(|request| request.at).collect()
    };
    let [first, second] = times(&seconds.write_key)[..] else { panic!("two attempts") };
    assert!((Duration::from_secs(3)..Duration::from_secs(5)).contains(&(second - first).unsigned_abs()), "3 s");
    let [_, second] = times(&date.write_key)[..] else { panic!("two attempts") };
    let asked = at - Duration::from_secs(1);
    assert!(SystemTime::from(second) >= asked, "not before the date");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_is_found_and_the_others_go_on_in_order() {
    for status in [400, 413] {
        let mut context = Context::new().await;
        context.segment = nudgespot_source::sandbox::Sandbox::new(nudgespot_source::sandbox::Faults::by_chance(
            nudgespot_source::sandbox::Odds { refuse: Some(("poison".to_owned(), status)), ..Default::default() },
        ));
        let (server, _, address) = context.segment.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        tokio::spawn(server);
        context.set("SEGMENT_US_URL", &format!("http://{address}"));
        let service = context.serve().await;
        let source = context.source("acme").await;
        let mut batch = events(0..200);
        for bad in [0, 77, 78, 199] {
            batch[bad]["properties"] = json!({"x": "poison"});
        }
        source.accept(&service, &batch).await;
        let delivered = texts(&context.messages(196).await, "/userId");
        let good: Vec<String> = (0..200).filter(|n| ![0, 77, 78, 199].contains(n)).map(|n| format!("u{n}")).collect();
        assert_eq!(delivered, good);
        let shown = context.source_is("acme", |shown| shown["dead_letters"] == 4).await;
        assert_eq!((&shown["waiting"], &shown["delivered"]), (&json!(0), &json!(196)));
        let dead = context.run(&["dead-letters", "list", "--source", "acme"]).await;
        let ids = texts(dead.as_array().expect("a list"), "/event_id");
        assert_eq!(ids, ["e0", "e77", "e78", "e199"]);
        let reason = dead[0]["reason"].as_str().expect("text");
        assert!(reason.starts_with(&format!("Segment answered {status}")), "{reason}");
        assert!(
            context.segment.requests().len() < 80,
            "halving, not trying each: {}",
            context.segment.requests().len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_filtered_and_sent_again() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    context.segment.faults.always(&source.write_key, Some(Fault::Status(400, None)));
    let clicked = json!({"id": "c", "event": "clicked", "uid": "u"});
    source.accept(&service, &json!([clicked, {"id": "o", "event": "opened", "uid": "u"}])).await;
    context.source_is("acme", |shown| shown["dead_letters"] == 2).await;
    let list = async |more: &[&str]| {
        let all = context.run(&[&["dead-letters", "list", "--source", "acme"], more].concat()).await;
        texts(all.as_array().expect("a list"), "/event_id")
    };
    assert_eq!(list(&[]).await, ["c", "o"]);
    assert_eq!(list(&["--event", "clicked"]).await, ["c"]);
    assert_eq!(list(&["--event", "Email Opened"]).await, ["o"]);
    assert_eq!(list(&["--reason", "ANSWERED 400"]).await, ["c", "o"]);
    assert_eq!(list(&["--reason", "expired"]).await, [""; 0]);
    assert_eq!(list(&["--until", "2020-01-01T00:00:00Z"]).await, [""; 0]);
    assert_eq!(list(&["--since", "2020-01-01T00:00:00Z"]).await, ["c", "o"]);
    let shown = context.run(&["dead-letters", "list", "--source", "acme"]).await;
    let fields: Vec<&String> = shown[0].as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["dead_at", "event", "event_id", "message_id", "reason", "received_at"]);
    assert_eq!(shown[0]["event"], "Email Link Clicked");

    context.segment.faults.always(&source.write_key, None);
    let replay = ["dead-letters", "replay", "--source", "acme", "--event", "clicked"];
    assert_eq!(context.run(&replay).await, json!({"replayed": 1}));
    let arrived = context.messages(1).await;
    assert_eq!(arrived[0]["messageId"], shown[0]["message_id"], "under its old id");
    let standing = context.source_is("acme", |shown| shown["delivered"] == 1 && shown["waiting"] == 0).await;
    assert_eq!(standing["dead_letters"], 1);
    assert_eq!(source.post(&service, &clicked).await.body["duplicates"], 1, "still known");
    assert_eq!(context.run(&["dead-letters", "replay", "--source", "acme"]).await, json!({"replayed": 1}));
    context.source_is("acme", |shown| shown["delivered"] == 2 && shown["dead_letters"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_answers_pause_the_account_until_an_admin_acts() {
    let context = Context::new().await;
    let service = context.serve().await;
    let statuses = [401, 403, 404, 301, 501, 505, 511];
    let mut sources = Vec::new();
    for status in statuses {
        let source = context.source(&format!("acme-{status}")).await;
        context.segment.faults.plan(&source.write_key, [Fault::Status(status, None)]);
        source.accept(&service, &events(0..2)).await;
        sources.push(source);
    }
    for (source, status) in sources.iter().zip(statuses) {
        let shown = context.source_is(&source.name, |shown| !shown["paused_reason"].is_null()).await;
        let reason = shown["paused_reason"].as_str().expect("text");
        assert!(reason.starts_with(&format!("Segment answered {status}")), "{reason}");
        assert_eq!(source.post(&service, &events(2..3)).await.status, 200, "webhooks are taken as ever");
        let shown = context.show(&source.name).await;
        assert_eq!((&shown["waiting"], &shown["delivered"]), (&json!(3), &json!(0)));
    }
    assert_eq!(context.segment.requests().len(), statuses.len(), "nothing is sent while paused");
    context.run(&["source", "resume", &sources[0].name]).await;
    let resumed = context.source_is(&sources[0].name, |shown| shown["delivered"] == 3).await;
    assert!(resumed["paused_reason"].is_null());
    context.run(&["source", "set", &sources[1].name, "--write-key", "another-key"]).await;
    let saved = context.source_is(&sources[1].name, |shown| shown["delivered"] == 3).await;
    assert!(saved["paused_reason"].is_null());
    let keys = texts(&context.messages(6).await, "/writeKey");
    assert_eq!(keys.iter().filter(|key| *key == "another-key").count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_too_old_is_given_up_paused_or_not() {
    let mut context = Context::waiting().await;
    context.set("MAX_DELIVERY_AGE", "2s");
    let service = context.serve().await;
    let (failing, keyless) = (context.source("failing").await, context.create("keyless", &[]).await);
    context.segment.faults.always(&failing.write_key, Some(Fault::Status(503, None)));
    failing.accept(&service, &events(0..3)).await;
    keyless.accept(&service, &events(0..3)).await;
    for source in [&failing, &keyless] {
        let shown = context.source_is(&source.name, |shown| shown["dead_letters"] == 3).await;
        assert_eq!((&shown["waiting"], &shown["delivered"]), (&json!(0), &json!(0)));
        let dead = context.run(&["dead-letters", "list", "--source", &source.name]).await;
        assert!(dead[0]["reason"].as_str().is_some_and(|reason| reason.starts_with("expired")), "{dead}");
    }
    // Given up is not gone: with a key that works, they can be sent after all.
    context.run(&["source", "set", "keyless", "--write-key", "good-key-1"]).await;
    context.run(&["dead-letters", "replay", "--source", "keyless"]).await;
    context.source_is("keyless", |shown| shown["delivered"] == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_everything_is_refused_the_account_is_paused() {
    let context = Context::new().await;
    let service = context.serve().await;
    for status in [400, 413] {
        let source = context.source(&format!("acme-{status}")).await;
        context.segment.faults.always(&source.write_key, Some(Fault::Status(status, None)));
        source.accept(&service, &events(0..1_000)).await;
        let shown = context.source_is(&source.name, |shown| !shown["paused_reason"].is_null()).await;
        let reason = shown["paused_reason"].as_str().expect("text");
        assert!(reason.contains("ten events in a row") && reason.contains(&format!("answered {status}")), "{reason}");
        assert_eq!((&shown["dead_letters"], &shown["waiting"]), (&json!(9), &json!(991)));
        let requests = context.segment.requests();
        let n = requests.iter().filter(|request| request.write_key.as_ref() == Some(&source.write_key)).count();
        assert!(n <= 25, "{n} requests");

        // Each call of an admin is another chance.
        context.run(&["source", "resume", &source.name]).await;
        context.source_is(&source.name, |shown| shown["dead_letters"] == 18 && !shown["paused_reason"].is_null()).await;
        context.run(&["source", "set", &source.name, "--write-key", "right-key"]).await;
        let shown = context.source_is(&source.name, |shown| shown["waiting"] == 0).await;
        assert_eq!((&shown["dead_letters"], &shown["delivered"]), (&json!(18), &json!(982)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_events_are_counted_whenever_they_come_and_whichever_program_sends_them() {
    let context = Context::new().await;
    let mut service = context.serve().await;
    let source = context.source("acme").await;
    context.segment.faults.always(&source.write_key, Some(Fault::Status(400, None)));
    for n in 0..9 {
        source.accept(&service, &events(n..=n)).await;
        context.source_is("acme", |shown| shown["dead_letters"] == n + 1).await;
        if n == 4 {
            assert!(service.terminate().await.success());
            service = context.serve().await;
        }
    }
    source.accept(&service, &events(9..=9)).await;
    let shown = context.source_is("acme", |shown| !shown["paused_reason"].is_null()).await;
    assert_eq!((&shown["dead_letters"], &shown["waiting"]), (&json!(9), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_events_among_good_ones_pause_nothing() {
    let mut context = Context::new().await;
    context.segment = nudgespot_source::sandbox::Sandbox::new(nudgespot_source::sandbox::Faults::by_chance(
        nudgespot_source::sandbox::Odds { refuse: Some(("poison".to_owned(), 400)), ..Default::default() },
    ));
    let (server, _, address) = context.segment.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    tokio::spawn(server);
    context.set("SEGMENT_US_URL", &format!("http://{address}"));
    let service = context.serve().await;
    let source = context.source("acme").await;
    let mut batch = events(0..100);
    for n in (0..100).filter(|n| n % 5 < 2) {
        batch[n]["properties"] = json!({"x": "poison"});
    }
    source.accept(&service, &batch).await;
    let shown = context.source_is("acme", |shown| shown["waiting"] == 0).await;
    assert_eq!(
        (&shown["dead_letters"], &shown["delivered"], &shown["paused_reason"]),
        (&json!(40), &json!(60), &json!(null))
    );
}
