//! The other direction: Segment's calls reach Nudgespot, and tell who is who (docs/contract.md, The other direction).

use nudgespot_source::sandbox::{Fault, NudgespotRequest, Sandbox};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Context, PATIENCE, Service, sender};

/// A source of calls, as its senders know it.
pub struct CallSource {
    pub name: String,
    pub path: String,
    pub secret: String,
    pub ingest_key: String,
}

impl CallSource {
    /// Adds one to an account, with a REST key that the stand-in takes.
    pub async fn add(context: &Context, account: &str, args: &[&str]) -> Self {
        let add = ["source", "add", account, "--kind", "segment", "--nudgespot-key", "-", "--json"];
        let (code, stdout, stderr) = context.try_run(&[&add[..], args].concat(), "rest-key-1").await;
        assert_eq!(code, 0, "{stderr}");
        let added: Value = serde_json::from_str(&stdout).expect("JSON");
        let text = |field: &str| added[field].as_str().unwrap_or_else(|| panic!("{field}: {added}")).to_owned();
        Self {
            name: format!("{account}/segment"),
            path: text("webhook_path"),
            secret: text("shared_secret"),
            ingest_key: text("ingest_key"),
        }
    }

    /// Posts what a destination function would.
    pub async fn post(&self, service: &Service, body: &str) -> (u16, Value) {
        let url = format!("{}{}", service.url, self.path);
        answer(sender::http().post(url).basic_auth(&self.ingest_key, Some("")).body(body.to_owned())).await
    }

    /// Posts calls, which must be answered 200.
    pub async fn accept(&self, service: &Service, body: &str) -> Value {
        let (status, receipt) = self.post(service, body).await;
        assert_eq!(status, 200, "{receipt}");
        receipt
    }

    /// Posts what Segment's libraries would.
    pub async fn post_sdk(&self, service: &Service, path: &str, body: &str) -> (u16, Value) {
        let url = format!("{}{path}", service.url);
        answer(sender::http().post(url).basic_auth(&self.ingest_key, Some("")).body(body.to_owned())).await
    }
}

/// What a request is answered.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let (status, body) = (response.status().as_u16(), response.bytes().await.expect("a body"));
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// The calls that Nudgespot was sent. Its key was asked for, as well.
pub fn calls_of(sandbox: &Sandbox) -> Vec<NudgespotRequest> {
    sandbox.nudgespot_requests().into_iter().filter(|request| request.method == "POST").collect()
}

/// Waits until Nudgespot was sent so many calls, and returns their paths and bodies in the order in which they came.
pub async fn sent(context: &Context, n: usize) -> Vec<(String, Value)> {
    context.segment_has(|sandbox| calls_of(sandbox).len() >= n).await;
    let requests = calls_of(&context.segment);
    requests.into_iter().map(|r| (r.path, serde_json::from_str(&r.body).unwrap_or_default())).collect()
}

pub const IDENTIFY: &str = r#"{"type":"identify","userId":"u1","traits":{"email":"ada@example.com","firstName":"Ada","lastName":"Lovelace","phone":"+15550100","createdAt":"2015-01-01T00:00:00Z","plan":"pro"}}"#;

/// A service with an account that has a source of email events and one of calls.
pub async fn world() -> (Context, Service, CallSource) {
    world_in(Context::new().await).await
}

/// The same, in surroundings of the test's choice.
pub async fn world_in(context: Context) -> (Context, Service, CallSource) {
    let service = context.serve().await;
    context.create("acme", &["--write-key", "key-of-acme"]).await;
    let source = CallSource::add(&context, "acme", &[]).await;
    (context, service, source)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identify_makes_a_user_and_a_track_what_the_user_did() {
    let (context, service, source) = world().await;
    let receipt = source.accept(&service, IDENTIFY).await;
    assert_eq!(receipt, json!({"accepted": 1, "duplicates": 0, "ignored": 0, "held": 0, "rejected": []}));
    let (path, body) = sent(&context, 1).await.remove(0);
    assert!(path.ends_with("/subscribers/identify"), "{path}");
    assert_eq!(
        body,
        json!({"subscriber": {
            "uid": "u1", "first_name": "Ada", "last_name": "Lovelace", "signed_up_at": "2015-01-01T00:00:00.000Z",
            "contacts": [
                {"contact_type": "email", "contact_value": "ada@example.com"},
                {"contact_type": "phone", "contact_value": "+15550100"},
            ],
            "properties": {"plan": "pro"},
        }})
    );
    // Numbers stay as they were written, and the time is in UTC.
    let track = r#"{"type":"track","userId":"u1","event":"Item Purchased","properties":{"revenue":39.95,"n":12345678901234567890},"context":{"traits":{"plan":"pro","revenue":1}},"timestamp":"2026-01-02T05:04:05.678+02:00"}"#;
    source.accept(&service, track).await;
    sent(&context, 2).await;
    let request = calls_of(&context.segment).remove(1);
    assert!(request.path.ends_with("/activities"), "{}", request.path);
    assert!(request.body.contains(r#""n":12345678901234567890"#), "{}", request.body);
    assert_eq!(
        serde_json::from_str::<Value>(&request.body).expect("JSON"),
        json!({"activity": {
            "event": "Item Purchased", "timestamp": "2026-01-02T03:04:05.678Z", "subscriber": {"uid": "u1"},
            "properties": {"revenue": 39.95, "n": 12_345_678_901_234_567_890_u64, "plan": "pro"},
        }})
    );
    let shown = context.source_is(&source.name, |shown| shown["delivered"] == 2).await;
    assert_eq!((&shown["identified"], &shown["held"], &shown["waiting"]), (&json!(1), &json!(0), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_about_nobody_is_ignored_with_its_reason() {
    let (context, service, source) = world().await;
    let receipt =
        source.accept(&service, r#"{"type":"identify","anonymousId":"a1","traits":{"email":"x@example.com"}}"#).await;
    assert_eq!((&receipt["accepted"], &receipt["ignored"]), (&json!(0), &json!(1)));
    let shown = context.source_is(&source.name, |shown| shown["ignored"] == 1).await;
    assert_eq!((&shown["waiting"], &shown["identified"]), (&json!(0), &json!(0)));
    assert_eq!(calls_of(&context.segment).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_waits_for_the_identify_of_its_user_and_follows_it() {
    let (context, service, source) = world().await;
    let track = |user: &str, n: u32| {
        format!(
            r#"{{"type":"track","userId":"{user}","event":"Signed Up {n}","messageId":"{user}-{n}","timestamp":"2026-01-02T03:04:0{n}Z"}}"#
        )
    };
    for n in 1..=2 {
        assert_eq!(source.accept(&service, &track("u9", n)).await["held"], 1);
    }
    let again = source.accept(&service, &track("u9", 2)).await;
    assert_eq!((&again["held"], &again["duplicates"]), (&json!(0), &json!(1)), "it waits already");
    // Others are not held up; and within one body, an identify counts for what follows.
    let both = format!(r#"[{},{{"type":"identify","userId":"u2"}},{}]"#, track("u2", 1), track("u2", 2));
    let receipt = source.accept(&service, &both).await;
    assert_eq!((&receipt["held"], &receipt["accepted"]), (&json!(1), &json!(2)));
    let names = |requests: &[(String, Value)]| -> Vec<Value> {
        requests
            .iter()
            .map(|(_, body)| match &body["activity"] {
                Value::Null => body["subscriber"]["uid"].clone(),
                activity => json!(format!("{} {}", activity["subscriber"]["uid"], activity["event"])),
            })
            .collect()
    };
    let requests = sent(&context, 3).await;
    assert_eq!(names(&requests), ["u2", "\"u2\" \"Signed Up 1\"", "\"u2\" \"Signed Up 2\""]);
    assert_eq!(context.show(&source.name).await["held"], 2);

    source.accept(&service, r#"{"type":"identify","userId":"u9"}"#).await;
    source.accept(&service, &track("u9", 3)).await;
    let requests = sent(&context, 7).await;
    assert_eq!(
        names(&requests[3..]),
        ["u9", "\"u9\" \"Signed Up 1\"", "\"u9\" \"Signed Up 2\"", "\"u9\" \"Signed Up 3\""]
    );
    assert_eq!(requests[4].1["activity"]["timestamp"], "2026-01-02T03:04:01.000Z");
    let shown = context.source_is(&source.name, |shown| shown["delivered"] == 7).await;
    assert_eq!(shown["held"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_once_also_after_a_restart() {
    let (context, service, source) = world().await;
    let call = r#"{"type":"identify","userId":"u1","messageId":"m1"}"#;
    let receipt = source.accept(&service, &format!("[{call},{call}]")).await;
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(1), &json!(1)));
    context.source_is(&source.name, |shown| shown["delivered"] == 1).await;
    service.kill().await;
    let service = context.serve().await;
    assert_eq!(source.accept(&service, call).await["duplicates"], 1);
    assert_eq!(calls_of(&context.segment).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_address_is_known_by_the_identify_that_told_it() {
    let (context, service, calls) = world().await;
    let created = context.create("other", &["--write-key", "key-of-other"]).await;
    let (code, stdout, _) = context.try_run(&["source", "rotate-secret", "acme/nudgespot", "--json"], "").await;
    assert_eq!(code, 0);
    let rotated: Value = serde_json::from_str(&stdout).expect("JSON");
    let shown = context.show("acme/nudgespot").await;
    let url = shown["webhook_url"].as_str().expect("text");
    let mut acme = created.clone();
    acme.path = url[url.find("/webhooks").expect("a path")..].to_owned();
    acme.secret =
        nudgespot_source::domain::secret::SigningSecret::parse(rotated["signing_secret"].as_str().expect("text"))
            .expect("a secret");

    let event = |id: &str, email: &str| json!({"id": id, "event": "opened", "email": email});
    acme.accept(&service, &event("before", "ada@example.com")).await;
    calls.accept(&service, IDENTIFY).await;
    acme.accept(&service, &json!([event("after", " Ada@Example.com "), event("nobody", "x@example.com")])).await;
    acme.accept(&service, &json!({"id": "own", "event": "opened", "email": "ada@example.com", "uid": "own-uid"})).await;
    created.accept(&service, &event("of another account", "ada@example.com")).await;
    let messages = context.messages(5).await;
    let by_event =
        |key: &str, value: &str| -> Vec<&Value> { messages.iter().filter(|message| message[key] == value).collect() };
    let known = by_event("userId", "u1");
    let [known] = &known[..] else { panic!("one: {messages:?}") };
    assert_eq!(known["context"]["traits"]["email"], " Ada@Example.com ");
    assert_eq!(known.get("anonymousId"), None);
    assert_eq!(by_event("userId", "own-uid").len(), 1);
    assert_eq!(by_event("anonymousId", "ada@example.com").len(), 2, "before it was known, and of another account");

    // The newest identify owns an address.
    calls.accept(&service, r#"{"type":"identify","userId":"u2","traits":{"email":"ADA@example.com"}}"#).await;
    acme.accept(&service, &event("newest", "ada@example.com")).await;
    assert_eq!(context.messages(6).await[5]["userId"], "u2");

    // What is told of a user is forgotten with the user.
    calls.accept(&service, r#"{"type":"delete","userId":"u2"}"#).await;
    acme.accept(&service, &event("forgotten", "ada@example.com")).await;
    assert_eq!(context.messages(7).await[6]["anonymousId"], "ada@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_call_holds_up_no_other_and_a_wait_is_obeyed() {
    let (context, service, source) = world().await;
    context.segment.nudgespot_faults.plan("rest-key-1", [Fault::Status(429, Some("2".to_owned()))]);
    source.accept(&service, IDENTIFY).await;
    let requests = sent(&context, 2).await;
    assert_eq!(requests[0], requests[1], "the same call");
    let times: Vec<_> = calls_of(&context.segment).into_iter().map(|request| request.at).collect();
    assert!((times[1] - times[0]).as_seconds_f64() >= 1.9, "{times:?}");

    context.segment.nudgespot_faults.when_body_holds("Second", Some(Fault::Status(422, None)));
    let tracks: Vec<String> = ["First", "Second", "Third"]
        .map(|event| format!(r#"{{"type":"track","userId":"u1","event":"{event}","messageId":"{event}"}}"#))
        .to_vec();
    source.accept(&service, &format!("[{}]", tracks.join(","))).await;
    let shown = context.source_is(&source.name, |shown| shown["waiting"] == 0).await;
    assert_eq!((&shown["delivered"], &shown["dead_letters"]), (&json!(3), &json!(1)));
    assert_eq!(context.segment.nudgespot_activities().len(), 2);
    let letters = context.run(&["dead-letters", "list", "--source", &source.name]).await;
    assert_eq!((&letters[0]["event_id"], &letters[0]["event"]), (&json!("Second"), &json!("track")));
    assert!(letters[0]["reason"].as_str().is_some_and(|reason| reason.contains("422")), "{letters}");
    context.segment.nudgespot_faults.when_body_holds("Second", None);
    context.run(&["dead-letters", "replay", "--source", &source.name]).await;
    context.source_is(&source.name, |shown| shown["delivered"] == 4 && shown["dead_letters"] == 0).await;
    assert_eq!(context.segment.nudgespot_activities().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nudgespot_refuses_pauses_the_source_alone() {
    let (context, service, source) = world().await;
    let (code, ..) = context.try_run(&["source", "set", &source.name, "--nudgespot-key", "-"], "bad-key").await;
    assert_eq!(code, 0, "a hint, never a gate");
    context.create("other", &[]).await;
    let other = CallSource::add(&context, "other", &[]).await;
    source.accept(&service, IDENTIFY).await;
    other.accept(&service, IDENTIFY).await;
    let shown = context.source_is(&source.name, |shown| shown["paused_reason"].is_string()).await;
    assert!(shown["paused_reason"].as_str().is_some_and(|reason| reason.contains("401")), "{shown}");
    context.source_is(&other.name, |shown| shown["delivered"] == 1).await;
    let (code, ..) = context.try_run(&["source", "set", &source.name, "--nudgespot-key", "-"], "rest-key-1").await;
    assert_eq!(code, 0);
    context.source_is(&source.name, |shown| shown["delivered"] == 1 && shown["paused_reason"].is_null()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_each_users_calls_keep_their_order_when_the_service_is_killed() {
    const USERS: usize = 20;
    const CALLS: usize = 30;
    let (context, mut service, source) = world().await;
    let identifies: Vec<String> =
        (0..USERS).map(|user| format!(r#"{{"type":"identify","userId":"k{user}","messageId":"i{user}"}}"#)).collect();
    source.accept(&service, &format!("[{}]", identifies.join(","))).await;
    for n in 0..CALLS {
        let tracks: Vec<String> = (0..USERS)
            .map(|user| format!(r#"{{"type":"track","userId":"k{user}","event":"e","messageId":"{user}-{n}","properties":{{"n":{n}}}}}"#))
            .collect();
        source.accept(&service, &format!("[{}]", tracks.join(","))).await;
        if n % 10 == 9 {
            service.kill().await;
            service = context.serve().await;
        }
    }
    let n_all = i64::try_from(USERS * (CALLS + 1)).expect("small");
    let delivered = context.source_is(&source.name, |shown| shown["waiting"] == 0).await;
    assert_eq!(delivered["delivered"], n_all);
    let mut repeats = 0;
    for user in 0..USERS {
        let uid = json!(format!("k{user}"));
        let mut highest = -1;
        for activity in context.segment.nudgespot_activities() {
            if activity["activity"]["subscriber"]["uid"] == uid || activity["subscriber"]["uid"] == uid {
                let properties = if activity["activity"].is_null() { &activity } else { &activity["activity"] };
                let n = properties["properties"]["n"].as_i64().expect("a number");
                // A repeat begins again somewhere, and goes on in order.
                assert!(n <= highest + 1, "{uid}: {n} after {highest}");
                repeats += i64::from(n <= highest);
                highest = highest.max(n);
            }
        }
        assert_eq!(highest, i64::try_from(CALLS - 1).expect("small"), "{uid}");
    }
    println!("{repeats} of {n_all} calls were sent again");
    let drained = timeout(PATIENCE, service.terminate()).await.expect("in time");
    assert!(drained.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_libraries_are_taken_for_what_they_are() {
    let (context, service, source) = world().await;
    let body = r#"{"batch":[{"type":"identify","userId":"s1"},{"type":"track","userId":"s1","event":"A"}],"sentAt":"2026-01-02T03:04:05Z"}"#;
    assert_eq!(source.post_sdk(&service, "/v1/batch", body).await, (200, json!({"success": true})));
    assert_eq!(source.post_sdk(&service, "/v1/track", r#"{"userId":"s1","event":"B"}"#).await.0, 200);
    assert_eq!(source.post_sdk(&service, "/v1/i", r#"{"userId":"s2"}"#).await.0, 200);
    // The key in the body, as browsers send it.
    let url = format!("{}/v1/t", service.url);
    let text = format!(r#"{{"userId":"s1","event":"C","writeKey":"{}"}}"#, source.ingest_key);
    let request =
        sender::http().post(&url).header("content-type", "text/plain").header("origin", "https://shop.example");
    let response = request.body(text).send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let preflight = sender::http()
        .request(reqwest::Method::OPTIONS, &url)
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,authorization");
    let preflight = preflight.send().await.expect("an answer");
    assert!(preflight.status().is_success());
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    let unknown = sender::http().post(&url).basic_auth("not-a-key", Some("")).body("{}");
    let (status, problem) = answer(unknown).await;
    assert_eq!((status, &problem["code"]), (401, &json!("invalid_signature")));
    assert_eq!(problem["message"], problem["detail"], "Segment shows it");
    sent(&context, 5).await;
    context.source_is(&source.name, |shown| shown["delivered"] == 5).await;
    assert_ne!(source.secret, source.ingest_key);
}
