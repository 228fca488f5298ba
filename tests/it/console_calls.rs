//! The console's pages and API of a source of calls, which go to Nudgespot.

use nudgespot_source::admin::events::{EventFilter, EventRow, EventState, FoundEvent};
use nudgespot_source::domain::event::Kind;
use nudgespot_source::sandbox::Fault;
use nudgespot_source::store::calls;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::console_events::Visitor;
use crate::harness::{Context, Service, sender};

/// A key that the stand-in takes.
const KEY: &str = "rest-key-1";

/// A source of calls, as its senders know it.
struct Calls {
    id: String,
    path: String,
    ingest_key: String,
}

impl Calls {
    async fn add(context: &Context, more: &[&str]) -> Self {
        context.source("acme").await;
        Self::of(&context.run(&[&["source", "add", "acme", "--kind", "segment"], more].concat()).await)
    }

    fn of(made: &Value) -> Self {
        let text = |field: &str| made[field].as_str().unwrap_or_else(|| panic!("{field}: {made}")).to_owned();
        Self { id: text("source_id"), path: text("webhook_path"), ingest_key: text("ingest_key") }
    }

    fn uuid(&self) -> Uuid {
        self.id.parse().expect("an id")
    }

    async fn accept(&self, service: &Service, calls: Value) {
        let request = sender::http().post(format!("{}{}", service.url, self.path));
        let answer = request.basic_auth(&self.ingest_key, Some("")).body(calls.to_string()).send().await;
        assert_eq!(answer.expect("an answer").status().as_u16(), 200, "{calls}");
    }
}

fn identify(user: &str, id: &str) -> Value {
    json!({"type": "identify", "userId": user, "messageId": id, "traits": {"email": format!("{user}@example.com")}})
}

fn track(user: &str, id: &str, event: &str) -> Value {
    json!({"type": "track", "userId": user, "messageId": id, "event": event, "properties": {"n": 7}})
}

fn ids(rows: &[EventRow]) -> Vec<&str> {
    rows.iter().map(|row| row.event_id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_followed_from_its_receipt_to_nudgespot() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = Calls::add(&context, &["--nudgespot-key", KEY]).await;
    let visitor = Visitor::operator(&context, &service).await;
    let list = format!("/sources/{}/events", source.id);
    assert!(visitor.get(&list).await.has("Every call will stand here"));
    source.accept(&service, json!([identify("u1", "i1"), track("u1", "t1", "Item <Purchased>")])).await;
    context.source_is(&source.id, |shown| shown["delivered"] == 2).await;
    context.segment.nudgespot_faults.plan(KEY, [Fault::Status(422, None)]);
    source.accept(&service, track("u1", "dead", "Refused")).await;
    context.source_is(&source.id, |shown| shown["dead_letters"] == 1).await;
    let kept_out = json!([
        {"type": "page", "userId": "u1"}, {"type": "identify", "anonymousId": "a"}, {"type": "delete", "userId": "u2"},
        {"type": "track", "userId": "u1", "event": "x", "integrations": {"Nudgespot": false}},
        {"type": "track", "userId": "u1", "event": "y", "_metadata": {"bundled": ["Nudgespot"]}},
        {"type": "track", "userId": "u1", "event": "z", "messageId": "nudgespot-1"},
    ]);
    source.accept(&service, kept_out).await;

    let shown = visitor.get(&list).await;
    assert!(shown.has("Item &#60;Purchased&#62;") && shown.has("u1@example.com"), "{}", shown.body);
    let problems = visitor.get(&format!("/sources/{}/problems", source.id)).await;
    for words in [
        "Nudgespot has nothing like this type of call",
        "it has no userId",
        "its user is forgotten here",
        "its integrations switch Nudgespot off",
        "Nudgespot&#39;s own script has sent it",
        "it came from here",
    ] {
        assert!(shown.has(words) && problems.has(words), "{words}: {}", problems.body);
    }
    assert!(problems.has("refused by Nudgespot") && !problems.has("Segment"), "{}", problems.body);
    for (kind, n) in [("identify", 1), ("track", 2), ("opened", 0)] {
        let rows = visitor.get(&format!("{list}?kind={kind}")).await.body.matches("class=\"linked\"").count();
        assert_eq!(rows, n, "{kind}");
    }
    assert_eq!(
        visitor.get(&format!("{list}?recipient=U1@example.com")).await.body.matches("class=\"linked\"").count(),
        1
    );

    let journey = visitor.get(&format!("{list}/i1")).await;
    for words in [
        "Received",
        "Mapped to a user of Nudgespot",
        "Stored, to be sent",
        "Sent to Nudgespot: accepted, 200",
        "POST /subscribers/identify",
        "contact_value",
        "Nudgespot&#39;s API has accepted it",
    ] {
        assert!(journey.has(words), "{words}: {}", journey.body);
    }
    let dead = visitor.get(&format!("{list}/dead")).await;
    assert!(dead.has("Sent to Nudgespot: refused, 422") && dead.has("POST /activities"), "{}", dead.body);
    let overview = visitor.get(&format!("/sources/{}", source.id)).await;
    assert!(
        overview.has("accepted by Nudgespot&#39;s API") && overview.has("1 user is identified."),
        "{}",
        overview.body
    );
    assert!(overview.has("kind=identify") && !overview.has("kind=opened") && !overview.has("Segment"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_its_user_is_found_and_so_is_one_that_waited_in_vain() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (source, admin) = (Calls::add(&context, &["--nudgespot-key", KEY]).await, context.admin());
    let visitor = Visitor::operator(&context, &service).await;
    let list = format!("/sources/{}/events", source.id);
    source.accept(&service, json!([track("ghost", "h1", "Signed Up"), track("ghost", "h2", "Bought")])).await;
    source.accept(&service, json!([track("other", "h3", "Signed Up")])).await;
    let shown = visitor.get(&list).await;
    assert!(shown.has("3 calls wait for an identify of their users") && shown.has("Nothing yet."), "{}", shown.body);
    let held = visitor.get(&format!("{list}?state=held")).await;
    assert_eq!(held.body.matches("class=\"linked\"").count(), 3, "{}", held.body);
    assert!(visitor.get(&format!("/sources/{}", source.id)).await.has("state=held"));

    let page = async |filter: EventFilter, limit: usize| {
        let filter = EventFilter { state: Some(EventState::Held), ..filter };
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let page = admin.events(source.uuid(), &filter, cursor, limit).await.expect("a page");
            rows.extend(page.data);
            match page.next_cursor {
                Some(next) => cursor = Some(next.parse().expect("a cursor")),
                None => return rows,
            }
        }
    };
    for limit in [1, 2, 3, 100] {
        assert_eq!(ids(&page(EventFilter::default(), limit).await), ["h3", "h2", "h1"], "{limit} a page");
    }
    let of = |user: &str| EventFilter { recipient: Some(user.to_owned()), ..EventFilter::default() };
    assert_eq!(ids(&page(of("ghost"), 10).await), ["h2", "h1"]);
    assert!(page(of("nobody"), 10).await.is_empty());
    assert!(page(EventFilter { kind: Some(Kind::Identify), ..EventFilter::default() }, 10).await.is_empty());

    let found = visitor.get(&format!("{list}?event_id=h2")).await;
    let journey = visitor.get(&found.location).await;
    assert!(journey.has("No identify has told of its user yet.") && journey.has("Held: "), "{}", journey.body);
    // What waited follows its user's identify.
    source.accept(&service, identify("ghost", "i1")).await;
    context.source_is(&source.id, |shown| shown["delivered"] == 3).await;
    assert!(visitor.get(&format!("{list}/h2")).await.has("Nudgespot&#39;s API has accepted it"));
    // And what waited in vain is found by its id as well.
    let after = OffsetDateTime::now_utc() + time::Duration::hours(1);
    let id = source.id.parse().expect("an id");
    let expired = context.connection().run(async |db| calls::expire(db, id, after, "not_identified").await).await;
    expired.expect("expired");
    let journey = visitor.get(&format!("{list}/h3")).await;
    assert!(journey.has("Not forwarded: no identify has told of its user.") && journey.has("POST /activities"));
    assert_eq!(visitor.get(&format!("{list}/nothing")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_beyond_the_cursor_is_delivered() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (source, admin) = (Calls::add(&context, &[]).await, context.admin());
    source.accept(&service, json!([identify("a", "1"), identify("b", "2"), identify("c", "3")])).await;
    // Which would settle what it has seen.
    assert!(service.terminate().await.success());
    context.execute(&format!("update delivery set done_ahead = '{{2}}' where source_id = '{}'", source.id)).await;
    for (state, expected) in [(EventState::Waiting, vec!["3", "1"]), (EventState::Delivered, vec!["2"])] {
        let filter = EventFilter { state: Some(state), ..EventFilter::default() };
        let page = admin.events(source.uuid(), &filter, None, 10).await.expect("a page");
        assert_eq!(ids(&page.data), expected, "{state:?}");
    }
    let summary = async |id: &str| match admin.find_event(source.uuid(), id).await.expect("an answer") {
        FoundEvent::Journey(journey) => journey.summary,
        other => panic!("{id}: {other:?}"),
    };
    assert_eq!(summary("1").await, "It is next to be sent; the source has no REST key yet.");
    assert_eq!(summary("2").await, "Nudgespot's API has accepted it.");
    assert_eq!(summary("3").await, "It waits behind one other call; the source has no REST key yet.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_calls_is_made_and_set_up_on_pages() {
    let context = Context::new().await;
    let service = context.serve().await;
    let account = context.source("acme").await;
    let account = context.show(&account.id).await["account_id"].as_str().expect("an id").to_owned();
    let visitor = Visitor::operator(&context, &service).await;
    let new = format!("/accounts/{account}/new-source");
    let refused = visitor.send(&new, "kind=segment&name=&nudgespot_key=a+b&carrier=Mine").await;
    assert!(
        refused.status == 422 && refused.has("no white space") && refused.has("value=\"Mine\""),
        "{}",
        refused.body
    );
    assert!(!refused.has("a b"), "a key is not shown");
    let made =
        visitor.send(&new, "kind=segment&name=calls&nudgespot_key=bad-key&unknown_users=ignore&carrier=Mine").await;
    let once = visitor.get(&made.location).await;
    let secret = |id: &str| once.between(&format!("<code id=\"{id}\">"), "<");
    let (url, ingest_key) = (secret("webhook-url"), secret("ingest-key"));
    assert!(secret("secret").starts_with("whsec_") || !secret("secret").is_empty(), "{}", once.body);
    assert!(!visitor.get(&made.location).await.has(&ingest_key), "once");
    let set_up = once.between("class=\"button primary\" href=\"", "\"");
    let id = set_up.split('/').nth(2).expect("an id").to_owned();
    let shown = context.show(&id).await;
    assert_eq!((&shown["unknown_users"], &shown["carrier"]), (&json!("ignore"), &json!("Mine")));
    assert_eq!(shown["learn_identities"], json!(false), "it was not ticked");

    let page = visitor.get(&set_up).await;
    assert!(page.has("Unknown to Nudgespot") && page.has("No request came yet."), "{}", page.body);
    for words in [
        "Webhooks (Actions)",
        "Shared Secret",
        "@segment/analytics-node",
        "segment.analytics",
        "apiHost",
        "RetryError",
        &url,
    ] {
        assert!(page.has(words), "{words}");
    }
    assert!(!page.has(&ingest_key) && !page.has("write key</"));
    assert_eq!(visitor.send(&format!("{set_up}/nudgespot-key"), "nudgespot_key=").await.status, 422);
    assert_eq!(visitor.send(&format!("{set_up}/nudgespot-key"), &format!("nudgespot_key={KEY}")).await.status, 303);
    assert!(visitor.get(&set_up).await.has("Known to Nudgespot"));

    let unsure = visitor.send(&format!("{set_up}/test-events"), "").await;
    assert!(unsure.status == 422 && unsure.has("say that it may go to Nudgespot"), "{}", unsure.body);
    let sent = visitor.send(&format!("{set_up}/test-events"), "sure=yes").await;
    context.source_is(&id, |shown| shown["delivered"] == 2).await;
    let page = visitor.get(sent.location.split('#').next().expect("a path")).await;
    assert!(page.has("Nudgespot&#39;s API has accepted it.") && page.has("What is left is the first call of Segment."));
    let sent = context.segment.nudgespot_requests().into_iter().filter(|request| request.method == "POST");
    assert!(sent.clone().count() == 2 && sent.clone().all(|sent| sent.body.contains("nudgespot-source-test")));

    // The first call of somebody else.
    let calls = Calls { id: id.clone(), path: url[url.find("/webhooks/").expect("a path")..].to_owned(), ingest_key };
    calls.accept(&service, identify("u1", "i1")).await;
    let is_done = async || visitor.get(&set_up).await.has("Calls are verified");
    crate::harness::until(is_done).await;

    let settings = format!("/sources/{id}/settings");
    let form = "name=calls&unknown_users=send&event_traits=true&carrier=&learn_identities=true";
    assert_eq!(visitor.send(&settings, form).await.status, 303);
    let shown = context.show(&id).await;
    assert_eq!((&shown["unknown_users"], &shown["carrier"]), (&json!("send"), &Value::Null));
    assert_eq!((&shown["learn_identities"], &shown["event_traits"]), (&json!(true), &json!(true)));
    let wrong = visitor.send(&settings, "name=calls&unknown_users=eat").await;
    assert!(wrong.status == 422 && wrong.has("`hold`, `ignore` or `send`"), "{}", wrong.body);
    assert!(visitor.get(&format!("/sources/{id}/rotate-secret")).await.has("shared secret and ingest key"));
    let rotated = visitor.send(&format!("/sources/{id}/rotate-secret"), "").await;
    assert!(visitor.get(&rotated.location).await.has("id=\"ingest-key\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_makes_and_changes_such_a_source_as_the_command_line_does() {
    let context = Context::new().await;
    let service = context.serve().await;
    let account =
        context.show(&context.source("acme").await.id).await["account_id"].as_str().expect("an id").to_owned();
    let token = context.run(&["token", "create", "--name", "all"]).await["token"].as_str().expect("a token").to_owned();
    let ask = async |method: reqwest::Method, path: &str, body: Value| {
        let request = sender::http().request(method, format!("{}/api/v1/{path}", service.console_url));
        let request = request.bearer_auth(&token).header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("text");
        (status, serde_json::from_str::<Value>(&text).unwrap_or_default())
    };
    let sources = format!("accounts/{account}/sources");
    for (body, why) in [
        (json!({"kind": "segment", "write_key": "abcdefgh"}), "a source of kind `segment` has no write key"),
        (json!({"kind": "segment", "region": "eu"}), "a source of kind `segment` has no region"),
        (json!({"kind": "resend", "nudgespot_key": KEY}), "a source of kind `resend` has no Nudgespot key"),
        (json!({"kind": "segment", "nudgespot_key": "a b"}), "`nudgespot_key`"),
        (json!({"kind": "segment", "unknown_users": "eat"}), "`unknown_users`"),
        (json!({"kind": "segment", "carrier": ""}), "`carrier`"),
    ] {
        let (status, problem) = ask(reqwest::Method::POST, &sources, body.clone()).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 422 && detail.contains(why), "{body}: {problem}");
    }
    let new =
        json!({"kind": "segment", "name": "calls", "nudgespot_key": KEY, "carrier": "Mine", "event_traits": false});
    let (status, made) = ask(reqwest::Method::POST, &sources, new).await;
    assert_eq!(status, 201, "{made}");
    assert!(made["shared_secret"].is_string() && made["signing_secret"].is_null());
    let source = Calls::of(&made);
    let path = format!("sources/{}", source.id);
    let (_, shown) = ask(reqwest::Method::GET, &path, json!({})).await;
    assert_eq!((&shown["carrier"], &shown["event_traits"]), (&json!("Mine"), &json!(false)));
    let (status, shown) = ask(reqwest::Method::PATCH, &path, json!({"carrier": null, "unknown_users": "send"})).await;
    assert_eq!((status, &shown["carrier"], &shown["unknown_users"]), (200, &Value::Null, &json!("send")));
    let (_, shown) = ask(reqwest::Method::PATCH, &path, json!({"learn_identities": false})).await;
    assert_eq!((&shown["learn_identities"], &shown["unknown_users"]), (&json!(false), &json!("send")));

    let (status, sent) = ask(reqwest::Method::POST, &format!("{path}/test-events"), json!({})).await;
    assert_eq!((status, sent["event_ids"].as_array().map(Vec::len)), (200, Some(2)), "{sent}");
    let (status, _) = ask(reqwest::Method::POST, &format!("{path}/test-events"), json!({"kinds": ["opened"]})).await;
    assert_eq!(status, 422);
    context.source_is(&source.id, |shown| shown["delivered"] == 2).await;
    let (_, events) = ask(reqwest::Method::GET, &format!("{path}/events?kind=track"), json!({})).await;
    let event = &events["data"][0];
    assert_eq!((&event["user_id"], &event["event"]), (&json!("nudgespot-source-test"), &json!("Test of the console")));
    assert_eq!(
        (&event["message_id"], &event["kind"], &event["state"]),
        (&Value::Null, &json!("track"), &json!("delivered"))
    );
    let (_, journey) =
        ask(reqwest::Method::GET, &format!("{path}/events/{}", event["event_id"].as_str().expect("an id")), json!({}))
            .await;
    assert_eq!(journey["request"]["activity"]["properties"]["test"], json!(true), "{journey}");
    let (_, overview) = ask(reqwest::Method::GET, &format!("{path}/overview"), json!({})).await;
    assert_eq!((&overview["identified"], &overview["held"]), (&json!(1), &json!(0)));
    assert!(overview["nudgespot"].is_object() && overview["segment"].is_null(), "{overview}");
}
