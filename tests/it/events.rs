//! What the log is asked about: lists with filters, one event's journey, numbers that add up.

use std::collections::HashSet;
use std::time::Duration;

use nudgespot_source::admin::Admin;
use nudgespot_source::admin::events::{
    EventCursor, EventFilter, EventRow, EventState, ExportFormat, FoundEvent, Journey,
};
use nudgespot_source::admin::overview::{SourceState, TrafficRange};
use nudgespot_source::domain::event::Kind;
use nudgespot_source::sandbox::Fault;
use nudgespot_source::store::{retention, traffic};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::harness::{Context, Source, events};

/// All events that are meant, page by page.
async fn all(admin: &Admin, source: Uuid, filter: &EventFilter, limit: usize) -> Vec<EventRow> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    loop {
        let page = admin.events(source, filter, cursor, limit).await.expect("a page");
        assert!(page.data.len() <= limit && page.unreadable == 0);
        rows.extend(page.data);
        let Some(next) = page.next_cursor else {
            assert!(page.is_complete);
            return rows;
        };
        cursor = Some(next.parse::<EventCursor>().expect("a cursor"));
    }
}

fn ids(rows: &[EventRow]) -> Vec<&str> {
    rows.iter().map(|row| row.event_id.as_str()).collect()
}

async fn journey(admin: &Admin, source: Uuid, id: &str) -> Journey {
    match admin.find_event(source, id).await.expect("an answer") {
        FoundEvent::Journey(journey) => *journey,
        other => panic!("{id}: {other:?}"),
    }
}

fn id(source: &Source) -> Uuid {
    source.id.parse().expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_found_by_what_they_say_page_by_page() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (admin, source) = (context.admin(), context.create("acme", &[]).await);
    // Several blocks; what one says is in few of them.
    for n in 0..40 {
        let event = |i: u32| {
            let n = n * 10 + i;
            json!({"id": format!("e{n}"), "event": if n.is_multiple_of(7) { "clicked" } else { "opened" },
                "subscriber": {"uid": format!("u{}", n % 50), "email": format!("Person{}@Example.com", n % 100)},
                "properties": {"email_id": n % 25, "campaign_id": format!("c{}", n / 100)}})
        };
        source.accept(&service, &(0..10).map(event).collect::<Value>()).await;
    }
    source.post(&service, &json!([{"event": "sent", "to": "person7@example.com"}, {"event": "opened"}])).await;
    let source = id(&source);
    let everything = all(&admin, source, &EventFilter::default(), 7).await;
    assert_eq!(everything.len(), 402);
    assert_eq!(ids(&everything).into_iter().collect::<HashSet<_>>().len(), 402, "each once");
    assert_eq!(everything[2].event_id, "e399");
    assert_eq!(everything.last().expect("one").event_id, "e0");
    assert!(everything[2..].iter().all(|row| row.state == EventState::Waiting), "there is no write key");

    let none = EventFilter::default;
    for (filter, n) in [
        (EventFilter { recipient: Some("U7".into()), ..none() }, 8),
        // In the log, and in one that is not forwarded.
        (EventFilter { recipient: Some("person7@example.COM".into()), ..none() }, 5),
        (EventFilter { email_id: Some("3".into()), ..none() }, 16),
        (EventFilter { campaign_id: Some("c2".into()), ..none() }, 100),
        (EventFilter { campaign_id: Some("c2".into()), email_id: Some("3".into()), ..none() }, 4),
        (EventFilter { kind: Some(Kind::Clicked), ..none() }, 58),
        (EventFilter { kind: Some(Kind::Bounced), ..none() }, 0),
        (EventFilter { state: Some(EventState::Waiting), ..none() }, 400),
        (EventFilter { state: Some(EventState::Delivered), ..none() }, 0),
        (EventFilter { state: Some(EventState::Ignored), ..none() }, 1),
        (EventFilter { state: Some(EventState::Rejected), ..none() }, 1),
        (EventFilter { recipient: Some("nobody".into()), ..none() }, 0),
        (EventFilter { since: Some(everything[0].at + Duration::from_secs(1)), ..none() }, 0),
        (EventFilter { until: Some(everything[401].at), ..none() }, 0),
        (
            EventFilter {
                since: Some(everything[401].at),
                until: Some(everything[0].at + Duration::from_secs(1)),
                ..none()
            },
            402,
        ),
    ] {
        for limit in [3, 1_000] {
            assert_eq!(all(&admin, source, &filter, limit).await.len(), n, "{filter:?}, {limit} a page");
        }
    }

    let page = admin.events(source, &none(), None, 10).await.expect("a page");
    assert_eq!(admin.new_events(source, &none(), page.place, 100).await.expect("a page").data.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_counted_and_the_list_is_exported() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (admin, acme) = (context.admin(), context.create("acme", &[]).await);
    let source = id(&acme);
    acme.accept(&service, &events(0..3)).await;
    let place = admin.events(source, &EventFilter::default(), None, 10).await.expect("a page").place;
    acme.accept(&service, &json!([{"id": "=2+3", "event": "clicked", "uid": "-u", "properties": {"x": "<script>"}}]))
        .await;
    acme.post(&service, &json!([{"event": "sent", "uid": "u1"}])).await;
    let new = async |filter: &EventFilter| {
        let page = admin.new_events(source, filter, place, 100).await.expect("a page");
        assert!(page.is_complete);
        page.data.into_iter().map(|row| row.state.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(new(&EventFilter::default()).await, ["ignored", "waiting"]);
    assert_eq!(new(&EventFilter { kind: Some(Kind::Clicked), ..EventFilter::default() }).await, ["waiting"]);
    assert!(new(&EventFilter { kind: Some(Kind::Opened), ..EventFilter::default() }).await.is_empty());
    assert_eq!(new(&EventFilter { recipient: Some("U1".into()), ..EventFilter::default() }).await, ["ignored"]);

    let export = async |format: ExportFormat| {
        let (mut text, mut cursor) = (format.head(), None);
        loop {
            let (part, next) =
                admin.export_events(source, &EventFilter::default(), format, cursor).await.expect("a part");
            text.extend(part);
            cursor = next;
            if cursor.is_none() {
                return String::from_utf8(text).expect("UTF-8");
            }
        }
    };
    let lines: Vec<Value> =
        export(ExportFormat::Ndjson).await.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0]["payload"], json!({"event": "sent", "uid": "u1"}));
    assert_eq!(lines[1]["track"]["properties"], json!({"x": "<script>"}));
    assert_eq!(lines[1]["track"]["messageId"], lines[1]["message_id"]);
    let csv = export(ExportFormat::Csv).await;
    assert_eq!(csv.lines().count(), 6);
    let clicked = csv.lines().nth(2).expect("a line");
    assert!(clicked.contains(",waiting,clicked,Email Link Clicked,'=2+3,nudgespot-"), "{clicked}");
    assert!(clicked.contains(",'-u,"), "{clicked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_tells_all_that_happened_also_after_a_replay() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (admin, acme) = (context.admin(), context.source("acme").await);
    let source = id(&acme);
    context.segment.faults.always(&acme.write_key, Some(Fault::Status(400, None)));
    acme.accept(&service, &events(1..2)).await;
    context.source_is("acme", |shown| shown["dead_letters"] == 1).await;
    let gave_up = journey(&admin, source, "e1").await;
    assert_eq!(gave_up.event.state, EventState::GaveUp);
    assert!(gave_up.summary.starts_with("Given up: "), "{}", gave_up.summary);
    let steps = |journey: &Journey| journey.steps.iter().map(|step| step.step).collect::<Vec<_>>();
    assert_eq!(steps(&gave_up), ["received", "sent", "gave_up"]);
    let sent = &gave_up.steps[1];
    assert_eq!((sent.status, sent.n_others, sent.outcome.as_deref()), (Some(400), Some(0), Some("refused")));
    let gave_up = EventFilter { state: Some(EventState::GaveUp), ..EventFilter::default() };
    let listed = all(&admin, source, &gave_up, 10).await;
    assert_eq!(ids(&listed), ["e1"]);
    assert!(listed[0].reason.is_some());
    assert_eq!(all(&admin, source, &EventFilter::default(), 10).await[0].reason, listed[0].reason);

    context.segment.faults.always(&acme.write_key, None);
    context.run(&["dead-letters", "replay", "--source", "acme"]).await;
    acme.accept(&service, &events(2..4)).await;
    context.source_is("acme", |shown| shown["delivered"] == 3).await;
    let delivered = journey(&admin, source, "e1").await;
    assert_eq!(delivered.event.state, EventState::Delivered);
    assert_eq!(steps(&delivered), ["received", "sent", "gave_up", "replayed", "sent"]);
    assert_eq!(delivered.steps[4].status, Some(200));
    let track: Value = serde_json::from_str(delivered.event.track.expect("it").get()).expect("JSON");
    assert_eq!(track["context"]["integration"]["name"], "nudgespot");
    // At its new number alone.
    let listed = all(&admin, source, &EventFilter::default(), 2).await;
    let mut found = ids(&listed);
    found.sort_unstable();
    assert_eq!(found, ["e1", "e2", "e3"]);
    assert!(listed.iter().all(|row| row.state == EventState::Delivered), "{listed:#?}");

    // What was sent again is known as long as its last number, not its first.
    context.execute("update event_block set since = now() - interval '40 days' where last_seq = 1").await;
    let month = Duration::from_hours(30 * 24);
    retention::forget(&mut context.connection(), OffsetDateTime::now_utc(), month).await.expect("done");
    assert_eq!(acme.post(&service, &events(1..2)).await.body["duplicates"], 1);
    assert_eq!(journey(&admin, source, "e1").await.event.state, EventState::Delivered);

    acme.post(&service, &json!([{"event": "sent"}, {"event": "opened"}])).await;
    for (state, begins) in
        [(EventState::Ignored, "Not forwarded: Segment has no event"), (EventState::Rejected, "Not forwarded: ")]
    {
        let filter = EventFilter { state: Some(state), ..EventFilter::default() };
        let found = all(&admin, source, &filter, 10).await;
        let aside = journey(&admin, source, &found[0].event_id).await;
        assert_eq!(aside.event.state, state);
        assert!(aside.summary.starts_with(begins) && aside.event.payload.is_some(), "{}", aside.summary);
    }
    assert!(matches!(admin.find_event(source, "e9").await, Ok(FoundEvent::Nothing)));
    assert!(matches!(admin.find_event(source, "\0").await, Ok(FoundEvent::Nothing)));
    context.execute("update event_block set events = set_byte(events, 9, get_byte(events, 9) # 4)").await;
    assert!(matches!(admin.find_event(source, "e1").await, Ok(FoundEvent::Unreadable)));
    let page = admin.events(source, &EventFilter::default(), None, 10).await.expect("a page");
    assert_eq!((page.data.len(), page.unreadable, page.is_complete), (2, 3, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_add_up_and_none_is_counted_twice() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (admin, acme) = (context.admin(), context.source("acme").await);
    let source = id(&acme);
    let now = OffsetDateTime::now_utc;
    let overview = async || admin.overview(source, now()).await.expect("an overview");
    assert_eq!(overview().await.judgement.state, SourceState::NotSetUp);
    acme.accept(&service, &events(0..5)).await;
    // Redelivered with new ones, and alone; the same ignored one twice.
    assert_eq!(acme.post(&service, &events(3..8)).await.body["duplicates"], 2);
    assert_eq!(acme.post(&service, &events(0..2)).await.body["duplicates"], 2);
    for _ in 0..2 {
        acme.post(&service, &json!([{"event": "sent", "uid": "u"}, {"event": "clicked"}])).await;
    }
    context.source_is("acme", |shown| shown["delivered"] == 8).await;
    context.segment.faults.always(&acme.write_key, Some(Fault::Status(400, None)));
    acme.accept(&service, &json!([{"id": "b", "event": "bounced", "uid": "u"}])).await;
    context.source_is("acme", |shown| shown["dead_letters"] == 1).await;
    // Rolled up by several at a time, in between and afterwards.
    let roll = async || {
        let rolls = (0..4).map(async |_| traffic::roll(&context.pool).await.expect("rolled"));
        futures_util::future::join_all(rolls).await;
    };
    roll().await;
    context.run(&["dead-letters", "replay", "--source", "acme"]).await;
    context.source_is("acme", |shown| shown["dead_letters"] == 1 && shown["waiting"] == 0).await;
    roll().await;
    roll().await;

    let standing = overview().await.standing;
    assert_eq!((standing.accepted, standing.duplicates, standing.ignored, standing.rejected), (9, 4, 1, 1));
    assert_eq!((standing.waiting, standing.delivered, standing.gave_up, standing.replayed), (0, 8, 1, 1));
    assert_eq!(standing.accepted, standing.waiting + standing.delivered + standing.gave_up + standing.missing);
    assert_eq!(standing.by_kind, [0, 8, 0, 1, 0, 0, 0, 0]);
    assert_eq!(standing.accepted_today, 9);
    for range in TrafficRange::ALL {
        let buckets = admin.traffic(source, range, now()).await.expect("buckets");
        let sum =
            |of: fn(&nudgespot_source::admin::overview::TrafficBucket) -> i64| buckets.iter().map(of).sum::<i64>();
        assert_eq!(sum(|bucket| bucket.accepted), 9, "{range:?}");
        assert_eq!(
            (sum(|bucket| bucket.duplicates), sum(|bucket| bucket.ignored), sum(|bucket| bucket.rejected)),
            (4, 1, 1)
        );
        assert_eq!((sum(|bucket| bucket.delivered), sum(|bucket| bucket.gave_up)), (8, 2));
        assert_eq!(sum(|bucket| bucket.by_kind["bounced"]), 1);
    }
    let health = admin.delivery_health(source).await.expect("health");
    assert_eq!(health.answers.iter().map(|(_, n)| n).sum::<usize>(), health.n_requests);
    assert!(health.answers.iter().any(|(status, n)| status == "400" && *n >= 2), "{health:?}");
    let shown = context.show("acme").await;
    assert_eq!((&shown["ignored"], &shown["rejected"], &shown["delivered"]), (&json!(1), &json!(1), &json!(8)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_address_says_in_words_how_a_source_is_doing() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (admin, acme) = (context.admin(), context.source("acme").await);
    let source = id(&acme);
    let token = admin.rotate_status_token(source).await.expect("a token");
    let status = async |token: &str| admin.status(token, OffsetDateTime::now_utc()).await.expect("an answer");
    assert_eq!(status("x").await, None);
    assert!(!status(&token).await.expect("it").is_ok);
    acme.accept(&service, &events(0..3)).await;
    context.source_is("acme", |shown| shown["delivered"] == 3).await;
    let delivering = status(&token).await.expect("it");
    assert_eq!((delivering.state, delivering.is_ok), (SourceState::Delivering, true));
    assert!(delivering.public_sentence.ends_with("ago; 3 today; none waiting."), "{delivering:?}");
    context.segment.faults.always(&acme.write_key, Some(Fault::Status(401, None)));
    acme.accept(&service, &events(3..5)).await;
    context.source_is("acme", |shown| !shown["paused_reason"].is_null()).await;
    let paused = status(&token).await.expect("it");
    assert_eq!((paused.state, paused.is_ok), (SourceState::Paused, false));
    assert!(
        paused.sentence.contains("401") && paused.sentence.ends_with(". 2 events wait; nothing is lost."),
        "{paused:?}"
    );
    assert!(!paused.public_sentence.contains("401"), "{paused:?}");
    context.segment.faults.always(&acme.write_key, None);
    context.run(&["source", "resume", "acme"]).await;
    context.source_is("acme", |shown| shown["delivered"] == 5).await;
    // It was silent for longer than ever.
    context.execute("update event_block set since = now() - interval '3 days'").await;
    context.execute("update webhook_activity set last_verified_at = now() - interval '3 days'").await;
    context.execute("truncate traffic").await;
    let quiet = status(&token).await.expect("it");
    assert_eq!((quiet.state, quiet.is_ok), (SourceState::Quiet, false), "{quiet:?}");
    admin.acknowledge_quiet(source).await.expect("done");
    let quiet = status(&token).await.expect("it");
    assert_eq!((quiet.state, quiet.is_ok), (SourceState::Quiet, true), "{quiet:?}");
}
