//! Contract, section 2: what Segment is sent, when, and in which order.

use std::time::{Duration, Instant};

use nudgespot_source::sandbox::Fault;
use serde_json::json;

use crate::harness::{Context, events, texts};

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_delivered_in_order_and_within_segments_limits() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.create("acme", &[]).await;
    let large = "x".repeat(5_000);
    for piece in 0..40 {
        let mut batch = events(piece * 100..piece * 100 + 100);
        if piece % 4 == 0 {
            for event in batch.as_array_mut().expect("a list") {
                event["properties"] = json!({"large": large});
            }
        }
        source.accept(&service, &batch).await;
    }
    let shown = context.show("acme").await;
    assert_eq!((&shown["waiting"], &shown["write_key_last4"]), (&json!(4000), &json!(null)));
    assert!(context.segment.requests().is_empty(), "without a key, events wait");

    let (code, _, stderr) = context.try_run(&["source", "set", "acme", "--write-key", "-"], "key-from-stdin\n").await;
    assert_eq!(code, 0, "{stderr}");
    let delivered = texts(&context.messages(4_000).await, "/userId");
    assert_eq!(delivered, (0..4_000).map(|n| format!("u{n}")).collect::<Vec<_>>());
    for request in context.segment.requests() {
        assert!(request.n_bytes <= 500_000 && request.n_events <= 2_500 && request.status == Some(200), "{request:?}");
        assert_eq!(request.write_key.as_deref(), Some("key-from-stdin"));
        let expected = concat!("nudgespot-source/", env!("CARGO_PKG_VERSION"));
        assert_eq!(request.user_agent.as_deref(), Some(expected));
    }
    context.source_is("acme", |shown| shown["delivered"] == 4000 && shown["waiting"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_on_an_idle_system_is_sent_at_once() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    source.accept(&service, &events(0..1)).await;
    context.messages(1).await;
    // Polled twice a second, an event would wait up to half a second, evenly spread; woken, a busy machine may hold up
    // some. One after the other, and three at a time: while the first is under way, and just after it.
    let mut waits = Vec::new();
    let mut n_sent = 1;
    for at_a_time in [1; 20].into_iter().chain([3; 20]) {
        for n in n_sent..n_sent + at_a_time {
            source.accept(&service, &events(n..=n)).await;
        }
        n_sent += at_a_time;
        let accepted = Instant::now();
        context.messages(usize::try_from(n_sent).expect("small")).await;
        waits.push(accepted.elapsed());
    }
    for waits in waits.chunks_mut(20) {
        waits.sort_unstable();
        assert!(waits[7] < Duration::from_millis(100), "{waits:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_segment_hangs_delays_no_other() {
    let context = Context::new().await;
    let service = context.serve().await;
    let mut sources = Vec::new();
    for n in 0..20 {
        sources.push(context.source(&format!("acme-{n}")).await);
    }
    let (hanging, others) = sources.split_first().expect("twenty");
    context.segment.faults.always(&hanging.write_key, Some(Fault::Hang));
    hanging.accept(&service, &events(0..100)).await;
    context.segment_has(|segment| !segment.requests().is_empty()).await;
    let began = Instant::now();
    for source in others {
        source.accept(&service, &events(0..100)).await;
    }
    context.messages(1_900).await;
    assert!(began.elapsed() < Duration::from_secs(12), "well before the hanging request is given up");
    let shown = context.show(&hanging.name).await;
    assert_eq!((&shown["waiting"], &shown["delivered"]), (&json!(100), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_account_takes_webhooks_and_flows_when_resumed() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let paused = context.run(&["source", "pause", "acme"]).await;
    assert_eq!(paused["paused_reason"], "paused by an admin");
    source.accept(&service, &events(0..3)).await;
    context.run(&["source", "set", "acme", "--write-key", "another-key"]).await;
    let shown = context.show("acme").await;
    assert_eq!(shown["paused_reason"], "paused by an admin", "a new key does not overrule an admin's own pause");
    assert_eq!((&shown["waiting"], &shown["write_key_last4"]), (&json!(3), &json!("-key")));
    assert!(shown["oldest_waiting_seconds"].is_u64());
    context.run(&["source", "resume", "acme"]).await;
    context.messages(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_goes_to_its_region_and_names_unsubscriptions_as_it_chooses() {
    let mut context = Context::new().await;
    let elsewhere = nudgespot_source::sandbox::Sandbox::new(nudgespot_source::sandbox::Faults::default());
    let (server, _, address) = elsewhere.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    tokio::spawn(server);
    context.set("SEGMENT_EU_URL", &format!("http://{address}/"));
    let service = context.serve().await;
    let (us, eu) =
        (context.source("us").await, context.create("eu", &["--write-key", "key-of-eu", "--region", "eu"]).await);
    context.run(&["source", "set", "eu", "--unsubscribe-event", "Unsubscribed"]).await;
    let unsubscribed = json!({"id": 1, "event": "unsubscribed", "uid": "u"});
    us.accept(&service, &unsubscribed).await;
    eu.accept(&service, &unsubscribed).await;
    assert_eq!(texts(&context.messages(1).await, "/event"), ["Email Unsubscribed"]);
    let mut requests = elsewhere.subscribe();
    requests.wait_for(|n| *n > 0).await.expect("alive");
    assert_eq!(texts(&elsewhere.messages(), "/event"), ["Unsubscribed"]);
    assert_eq!(texts(&elsewhere.messages(), "/writeKey"), ["key-of-eu"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_forgotten_and_what_waits_is_not() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (flows, waits) = (context.source("flows").await, context.create("waits", &[]).await);
    flows.accept(&service, &events(0..10)).await;
    waits.accept(&service, &events(0..10)).await;
    flows.post(&service, &json!([{"event": "sent"}, 1])).await;
    context.source_is("flows", |shown| shown["delivered"] == 10 && shown["waiting"] == 0).await;
    let now = time::OffsetDateTime::now_utc();
    let days = |n: i64| now + time::Duration::days(n);
    let month = Duration::from_hours(30 * 24);
    let forget = async |at, retention| {
        nudgespot_source::store::retention::forget(&mut context.connection(), at, retention).await.expect("forgotten");
        let count = "select coalesce(sum(n_events), 0) from event_block union all select count(*) from known_event
            union all select count(*) from quarantine";
        sqlx::query_scalar::<_, i64>(count).fetch_all(&context.pool).await.expect("counted")
    };
    assert_eq!(forget(days(29), month).await, [20, 20, 2]);
    assert_eq!(forget(days(6), Duration::from_hours(24)).await, [20, 20, 0], "ids are kept for a week at least");
    assert_eq!(forget(days(31), month).await, [10, 10, 0]);
    assert_eq!(context.show("waits").await["waiting"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_as_old_as_their_death() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    context.segment.faults.plan(&source.write_key, [Fault::Status(400, None)]);
    source.accept(&service, &events(0..1)).await;
    context.source_is("acme", |shown| shown["dead_letters"] == 1).await;
    sqlx::query("update dead_letter set received_at = received_at - interval '90 days'")
        .execute(&context.pool)
        .await
        .expect("they waited for long");
    let forget = async |days, retention| {
        let (at, day) = (time::OffsetDateTime::now_utc() + time::Duration::days(days), Duration::from_hours(24));
        nudgespot_source::store::retention::forget(&mut context.connection(), at, day * retention)
            .await
            .expect("forgotten");
        context.show("acme").await["dead_letters"].as_i64()
    };
    assert_eq!(forget(0, 30).await, Some(1));
    assert_eq!(forget(29, 30).await, Some(1));
    assert_eq!(forget(2, 1).await, Some(0), "kept for as long as is set, and no longer");
}
