//! The stand-in for Nudgespot: the rules of its API through the real binary, and the failures that tests ask it for.

use std::sync::Arc;
use std::time::Duration;

use nudgespot_source::sandbox::{Fault, Faults, Odds, Sandbox};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{PATIENCE, sender};
use crate::sandbox::StandIn;

const IDENTIFY: &str = "/subscribers/identify";
const ACTIVITIES: &str = "/activities";

async fn post(url: &str, path: &str, key: &str, body: &str) -> Response {
    let request = sender::http().post(format!("{url}{path}")).basic_auth("api", Some(key));
    request.header("user-agent", "me/1").body(body.to_owned()).send().await.expect("an answer")
}

/// The status of an answer, and its body. One without an `error` is a 200, and the other way round.
async fn answer(response: Response) -> (u16, Value) {
    let (status, body) = (response.status(), response.text().await.expect("a body"));
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(body.get("error").is_none(), status == StatusCode::OK, "{status} {body}");
    (status.as_u16(), body)
}

async fn get(url: &str, path: &str, user: &str, key: &str) -> (u16, Value) {
    let request = sender::http().get(format!("{url}{path}")).basic_auth(user, Some(key));
    answer(request.send().await.expect("an answer")).await
}

async fn text(url: &str, path: &str) -> String {
    sender::http().get(format!("{url}{path}")).send().await.expect("an answer").text().await.expect("a body")
}

fn identify(uid: &str) -> String {
    json!({"subscriber": {"uid": uid}}).to_string()
}

fn activity(uid: &str) -> String {
    json!({"activity": {"event": "Signed Up", "subscriber": {"uid": uid}}}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_merged_by_uid_and_listed_in_the_order_of_their_first_identify() {
    let sandbox = StandIn::start(&[]).await;
    let url = &sandbox.url;
    let first = r#"{"subscriber":{"uid":"u 1","first_name":"Ada","last_name":"Lovelace","signed_up_at":"2015-01-01T00:00:00.000Z",
        "contacts":[{"contact_type":"email","contact_value":"ada@example.com","subscription_status":"inactive"}],
        "properties":{"plan":"free","n":12345678901234567890,"amount":1.50,"nested":{"a":[null]}}}}"#;
    let (status, body) = answer(post(url, IDENTIFY, "k", first).await).await;
    let known = &body["subscriber"];
    assert_eq!((status, &known["uid"], &known["first_name"]), (200, &json!("u 1"), &json!("Ada")));
    let href = known["href"].as_str().expect("a URL").to_owned();
    assert_eq!(href, format!("{url}/subscribers.json?uid=u+1"));
    assert_eq!(get(&href, "", "api", "k").await, (200, body.clone()));

    assert_eq!(answer(post(url, &format!("/201507{IDENTIFY}"), "k", &identify("u2")).await).await.0, 200);
    let again = r#"{"subscriber":{"uid":"u 1","first_name":"Augusta","properties":{"plan":"pro"},
        "contacts":[{"contact_type":"phone","contact_value":"+15550100"},{"contact_type":"email","contact_value":"a@example.com"}]}}"#;
    assert_eq!(answer(post(url, IDENTIFY, "another key", again).await).await.0, 200);

    let listed = text(url, "/nudgespot/subscribers").await;
    assert!(listed.contains(r#""n":12345678901234567890"#) && listed.contains(r#""amount":1.50"#), "{listed}");
    let mut ada = known.clone();
    ada["first_name"] = json!("Augusta");
    ada["properties"]["plan"] = json!("pro");
    ada["contacts"] = json!([
        {"contact_type": "email", "contact_value": "a@example.com", "subscription_status": "inactive"},
        {"contact_type": "phone", "contact_value": "+15550100"},
    ]);
    let other =
        json!({"uid": "u2", "href": format!("{url}/201507/subscribers.json?uid=u2"), "properties": {}, "contacts": []});
    assert_eq!(serde_json::from_str::<Value>(&listed).expect("JSON"), json!([ada, other]));
    for path in ["/subscribers.json?uid=u%201", "/201507/subscribers.json?uid=u+1"] {
        assert_eq!(get(url, path, "api", "k").await, (200, json!({"subscriber": ada})), "{path}");
    }
    for path in ["/subscribers.json?uid=u3", "/subscribers.json?uid=", "/subscribers.json"] {
        assert_eq!(get(url, path, "api", "k").await.0, 404, "{path}");
    }
    assert_eq!(sandbox.get("/messages").await.1, json!([]));
    sandbox.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn activities_are_listed_as_they_came_and_those_of_nobody_make_no_user() {
    let sandbox = StandIn::start(&[]).await;
    let url = &sandbox.url;
    let purchase = r#"{"event":"Item Purchased","timestamp":"2026-01-02T03:04:05.678Z","subscriber":{"uid":"u1"},"properties":{"n":12345678901234567890,"revenue":39.950}}"#;
    let body = format!(r#"{{"activity":{purchase}}}"#);
    assert_eq!(answer(post(url, ACTIVITIES, "k", &body).await).await.0, 404);
    for path in ["/nudgespot/activities", "/nudgespot/subscribers"] {
        assert_eq!(text(url, path).await, "[]");
    }
    assert_eq!(answer(post(url, IDENTIFY, "k", &identify("u1")).await).await.0, 200);
    for path in [ACTIVITIES, "/201507/activities"] {
        assert_eq!(answer(post(url, path, "k", &body).await).await.0, 200);
    }
    assert_eq!(text(url, "/nudgespot/activities").await, format!("[{purchase},{purchase}]"));
    sandbox.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_or_call_is_refused_with_an_error_and_nothing_is_kept() {
    let sandbox = StandIn::start(&[]).await;
    let url = &sandbox.url;
    for key in ["bad-key", ""] {
        for (path, body) in [(IDENTIFY, identify("u")), (ACTIVITIES, activity("u")), (IDENTIFY, "{".to_owned())] {
            assert_eq!(answer(post(url, path, key, &body).await).await.0, 401, "{path} {key}");
        }
        assert_eq!(get(url, "/201507/subscribers.json?uid=", "api", key).await.0, 401);
    }
    assert_eq!(get(url, "/subscribers.json?uid=", "k", "").await.0, 401, "another user");
    let anonymous = sender::http().post(format!("{url}{IDENTIFY}")).body(identify("u")).send().await;
    assert_eq!(answer(anonymous.expect("an answer")).await.0, 401);

    let timed = |at: &str| activity("u").replace(r#""event""#, &format!(r#""timestamp":"{at}","event""#));
    for (path, body, status) in [
        (IDENTIFY, "subscriber[uid]=u".to_owned(), 400),
        (IDENTIFY, r#"{"subscriber":{"name":"Ada"}}"#.to_owned(), 422),
        (IDENTIFY, r#"{"uid":"u"}"#.to_owned(), 422),
        (IDENTIFY, r#"{"subscriber":{"uid":"u","signed_up_at":"yesterday"}}"#.to_owned(), 422),
        (IDENTIFY, format!(r#"{{"subscriber":{{"uid":"u","x":"{}"}}}}"#, "x".repeat(200_000)), 413),
        (ACTIVITIES, String::new(), 400),
        (ACTIVITIES, r#"{"activity":{"subscriber":{"uid":"u"}}}"#.to_owned(), 422),
        (ACTIVITIES, r#"{"activity":{"event":"e"}}"#.to_owned(), 422),
        (ACTIVITIES, timed("2026-01-02T05:04:05.678+02:00"), 422),
        (ACTIVITIES, timed("2026-01-02"), 422),
        (ACTIVITIES, timed("2026-01-02T03:04:05.678Z"), 404),
    ] {
        assert_eq!(answer(post(url, path, "k", &body).await).await.0, status, "{path} {body:.200}");
    }
    for path in ["/nudgespot/activities", "/nudgespot/subscribers"] {
        assert_eq!(text(url, path).await, "[]");
    }
    let (_, requests) = sandbox.get("/nudgespot/requests").await;
    let requests = requests.as_array().expect("a list");
    assert_eq!(requests.len(), 21);
    let last = &requests[20];
    assert_eq!(
        [&last["method"], &last["path"], &last["uid"], &last["status"], &last["body"], &last["user_agent"]],
        [
            &json!("POST"),
            &json!(ACTIVITIES),
            &json!("u"),
            &json!(404),
            &json!(timed("2026-01-02T03:04:05.678Z")),
            &json!("me/1")
        ]
    );
    assert!(!requests.iter().any(|request| request.to_string().contains("bad-key")), "keys are not listed");
    sandbox.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_aimed_at_either_api() {
    let batch = r#"{"batch":[{"messageId":"m","userId":"u"}]}"#;
    for (aim, at_segment, at_nudgespot) in
        [(&[][..], 429, 429), (&["segment"], 429, 200), (&["nudgespot"], 200, 429), (&["both"], 429, 429)]
    {
        let aim: Vec<&str> = aim.iter().flat_map(|which| ["--faults-for", which]).collect();
        let sandbox = StandIn::start(&[&["--fail", "429", "--retry-after", "7"], &aim[..]].concat()).await;
        assert_eq!(sandbox.post("/v1/batch", batch.to_owned()).await.status(), at_segment, "{aim:?}");
        let response = post(&sandbox.url, IDENTIFY, "k", &identify("u")).await;
        let after = response.headers().get("retry-after").cloned();
        assert_eq!(after.is_some_and(|after| after == "7"), at_nudgespot == 429, "{aim:?}");
        assert_eq!(answer(response).await.0, at_nudgespot, "{aim:?}");
        let n_kept = usize::from(at_nudgespot == 200);
        assert_eq!(sandbox.get("/nudgespot/subscribers").await.1.as_array().map(Vec::len), Some(n_kept));
        sandbox.terminate().await;
    }
}

fn started(sandbox: &Arc<Sandbox>) -> String {
    let (server, _, address) = sandbox.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    tokio::spawn(server);
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_what_nudgespot_answers() {
    let sandbox = Sandbox::new(Faults::default());
    let url = started(&sandbox);
    let status = async |key: &str, uid: &str| post(&url, IDENTIFY, key, &identify(uid)).await.status().as_u16();
    let faults = &sandbox.nudgespot_faults;

    faults.plan("k", [Fault::Status(429, Some("2".to_owned()))]);
    assert_eq!(status("other", "u1").await, 200);
    let response = post(&url, IDENTIFY, "k", &identify("u2")).await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"2".parse().expect("a value")));
    assert_eq!(status("k", "u2").await, 200, "only once");

    faults.when_body_holds("u3", Some(Fault::Status(422, None)));
    assert_eq!((status("k", "u3").await, status("k", "u4").await), (422, 200));

    faults.always("k", Some(Fault::Status(401, None)));
    assert_eq!((status("k", "u5").await, status("k", "u5").await, status("new", "u5").await), (401, 401, 200));
    faults.always("k", None);

    // A success with an error in it: by a status, or word for word.
    faults.plan("k", [Fault::Status(200, None), Fault::Body(200, r#"{"error":"no"}"#.to_owned())]);
    for expected in [json!({"type": "fault", "message": "a fault on demand"}), json!("no")] {
        let response = post(&url, IDENTIFY, "k", &identify("u6")).await;
        assert_eq!(response.status(), 200);
        let body: Value = serde_json::from_str(&response.text().await.expect("a body")).expect("JSON");
        assert_eq!(body["error"], expected);
    }

    faults.plan("k", [Fault::Drop, Fault::Hang]);
    let send = |timeout| {
        let request = sender::http().post(format!("{url}{IDENTIFY}")).basic_auth("api", Some("k")).body(identify("u7"));
        request.timeout(timeout).send()
    };
    let broken = send(PATIENCE).await.and_then(Response::error_for_status);
    let broken = match broken {
        Ok(response) => response.text().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(broken.is_err_and(|error| !error.is_timeout()));
    assert!(send(Duration::from_millis(200)).await.is_err_and(|error| error.is_timeout()));

    let uids: Vec<Value> = sandbox.nudgespot_subscribers().iter().map(|user| user["uid"].clone()).collect();
    assert_eq!(uids, ["u1", "u2", "u4", "u5"], "what failed is not kept");
    let requests = sandbox.nudgespot_requests();
    let statuses: Vec<_> = requests.iter().map(|request| request.status.unwrap_or_default()).collect();
    assert_eq!(statuses, [200, 429, 200, 422, 200, 401, 401, 200, 200, 200, 0, 0]);
    assert_eq!((requests[1].key.as_deref(), requests[1].uid.as_deref()), (Some("k"), Some("u2")));
    assert_eq!((&*requests[1].body, requests[1].user_agent.as_deref()), (&*identify("u2"), Some("me/1")));
    assert_eq!(sandbox.requests().len(), 0, "none was Segment's");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_hears_of_nudgespots_requests() {
    let by_chance = Faults::by_chance(Odds { refuse: Some(("poison".to_owned(), 400)), ..Odds::default() });
    let sandbox = Sandbox::with_both(Faults::default(), by_chance);
    let url = started(&sandbox);
    let mut heard = sandbox.subscribe();
    let waits = heard.wait_for(|_| sandbox.nudgespot_activities().len() == 1);
    let posts = async {
        for (path, body, status) in
            [(IDENTIFY, identify("u"), 200), (ACTIVITIES, activity("poison"), 400), (ACTIVITIES, activity("u"), 200)]
        {
            assert_eq!(answer(post(&url, path, "k", &body).await).await.0, status);
        }
    };
    let (heard, ()) = timeout(PATIENCE, async { tokio::join!(waits, posts) }).await.expect("in time");
    assert!(heard.is_ok());
    assert_eq!((sandbox.nudgespot_requests_after(2).0.len(), sandbox.nudgespot_requests_after(2).1), (1, 3));
}
