//! Contract, section 1: what a sender may post, and what it is answered.

use std::collections::HashSet;
use std::time::Duration;

use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::sources::signature::{SigningScheme, sign};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Answer, Context, Source, events, sender, texts, until};

const MIXED: &str = include_str!("../fixtures/mixed-batch.json");
const MIXED_EXPECTED: &str = include_str!("../fixtures/mixed-batch.expected.json");

fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["status"], status);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mixed_batch_yields_exactly_its_receipt_and_tracks() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let mut expected: Value = serde_json::from_str(MIXED_EXPECTED).expect("JSON");

    let before = OffsetDateTime::now_utc() - time::Duration::SECOND;
    let mut answer = source.post_text(&service, MIXED).await;
    assert_eq!(answer.status, 200);
    let reason = answer.body["rejected"][0].as_object_mut().and_then(|rejected| rejected.remove("reason"));
    assert_eq!(reason, Some(json!("no recipient: neither uid, nor email, nor anon_id")));
    assert_eq!(answer.body, expected["receipt"]);

    let mut tracks = context.messages(6).await;
    for track in &mut tracks {
        let fields = track.as_object_mut().expect("an object");
        for own_to_the_stand_in in ["writeKey", "receivedAt", "sentAt"] {
            fields.remove(own_to_the_stand_in);
        }
        assert!(fields.remove("messageId").is_some_and(|id| id.as_str().is_some_and(|id| id.len() == 42)));
        let context = fields["context"].as_object_mut().expect("an object");
        assert_eq!(context.remove("integration"), Some(json!({"name": "nudgespot", "version": "1.0.0"})));
        let library = json!({"name": "nudgespot-source", "version": env!("CARGO_PKG_VERSION")});
        assert_eq!(context.remove("library"), Some(library));
    }
    let e5 = tracks[4].as_object_mut().and_then(|track| track.remove("timestamp")).expect("e5 has a time");
    let e5 = nudgespot_source::domain::timestamp::parse(e5.as_str().expect("text")).expect("a time");
    assert!(before < e5 && e5 <= OffsetDateTime::now_utc(), "the time of receipt: {e5}");
    assert_eq!(json!(tracks), expected["tracks"].take());

    let shown = context.source_is("acme", |shown| shown["delivered"] == 6).await;
    assert_eq!((&shown["ignored"], &shown["rejected"], &shown["waiting"]), (&json!(1), &json!(1), &json!(0)));

    let mut again = source.post_text(&service, MIXED).await.body;
    again["rejected"][0].as_object_mut().and_then(|rejected| rejected.remove("reason"));
    let duplicates = json!({"accepted": 0, "duplicates": 6, "ignored": 1, "rejected": [{"index": 7}]});
    assert_eq!(again, duplicates, "a redelivery");
    let shown = context.show("acme").await;
    assert_eq!((&shown["ignored"], &shown["rejected"]), (&json!(1), &json!(1)), "counted once");
    assert_eq!(context.segment.requests().iter().map(|request| request.n_events).sum::<usize>(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_sent_again_is_stored_and_delivered_once() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (source, other) = (context.source("acme").await, context.source("other").await);
    let one = json!({"id": 7, "event": "opened", "uid": "u"});
    let same_id = json!({"event_id": "7", "event": "clicked", "uid": "v"});
    assert_eq!(source.post(&service, &json!([one, same_id, one])).await.body["duplicates"], 2);
    assert_eq!(source.post(&service, &same_id).await.body["duplicates"], 1);
    let mixed = source.post(&service, &json!([one, {"id": 8, "event": "opened", "uid": "u"}, same_id])).await.body;
    assert_eq!((&mixed["accepted"], &mixed["duplicates"]), (&json!(1), &json!(2)));
    assert_eq!(other.post(&service, &one).await.body["accepted"], 1, "each account has its own ids");
    let without_id = json!({"event": "opened", "uid": "u", "timestamp": 1_453_886_100});
    assert_eq!(source.post(&service, &without_id).await.body["accepted"], 1);
    assert_eq!(source.post(&service, &json!({"events": [without_id]})).await.body["duplicates"], 1);
    context.source_is("acme", |shown| shown["delivered"] == 3 && shown["waiting"] == 0).await;
    let ids: std::collections::BTreeSet<String> =
        crate::harness::texts(&context.messages(4).await, "/messageId").into_iter().collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(context.segment.requests().iter().map(|request| request.n_events).sum::<usize>(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_without_an_id_is_taken_for_another() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let bodies = [
        r#"{"activity":{"event":"opened","x":9007199254740992},"uid":"a"}"#,
        r#"{"activity":{"event":"opened","x":9007199254740993},"uid":"a"}"#,
        r#"{"activity":{"event":"opened","x":9007199254740993},"uid":"b"}"#,
        r#"{"activity":{"event":"opened","x":9007199254740993},"uid":"b","timestamp":1}"#,
        r#"{"activity":{"event":"opened","x":1.0},"uid":"b","timestamp":1}"#,
        r#"{"activity":{"event":"opened","x":1.00},"uid":"b","timestamp":1}"#,
        r#"{"events":[{"event":"clicked"}],"uid":"c"}"#,
        r#"{"events":[{"event":"clicked"}],"uid":"d"}"#,
        r#"{"events":[{"event":"delivered","uid":"e"},{"event":"delivered","uid":"f"}],"id":"batch"}"#,
    ];
    for body in bodies {
        let answer = source.post_text(&service, body).await;
        let n = if body.contains("batch") { 2 } else { 1 };
        assert_eq!((&answer.body["accepted"], &answer.body["duplicates"]), (&json!(n), &json!(0)), "{body}");
    }
    for again in [
        r#"{"uid":"b","x":1.00,"timestamp":1,"event":"opened"}"#,
        r#"[{"timestamp":1,"activity":{"event":"opened","uid":"b"},"x":1.00}]"#,
        r#"{"uid":"b","activities":[{"event":"opened","timestamp":1,"x":1.00}]}"#,
    ] {
        assert_eq!(source.post_text(&service, again).await.body["duplicates"], 1, "{again}");
    }
    let recipients = texts(&context.messages(10).await, "/userId");
    assert_eq!(recipients, ["a", "a", "b", "b", "b", "b", "c", "d", "e", "f"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_body_says_is_counted() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    for (body, counts) in [
        (json!({"event": "opened", "uid": "u", "activities": []}), (1, 0, 0)),
        (json!({"event": "opened", "uid": "v", "timestamp": "", "id": " "}), (1, 0, 0)),
        (json!({"event": "sent", "events": [{"event": "opened", "uid": "u"}]}), (0, 1, 0)),
        (json!({"activities": [], "uid": "u"}), (0, 0, 1)),
        (json!({"events": [{"event": "sent"}, {"event": "sent"}], "account": "x"}), (0, 2, 0)),
        (json!({"events": [{"event": "sent"}], "account": "y"}), (0, 1, 0)),
        (json!({"events": []}), (0, 0, 0)),
    ] {
        let answer = source.post(&service, &body).await.body;
        let rejected = answer["rejected"].as_array().map(Vec::len);
        let expected = (&json!(counts.0), &json!(counts.1), Some(counts.2));
        assert_eq!((&answer["accepted"], &answer["ignored"], rejected), expected, "{body}");
    }
    let shown = context.source_is("acme", |shown| shown["delivered"] == 2).await;
    assert_eq!((&shown["ignored"], &shown["rejected"]), (&json!(3), &json!(1)), "kept: the same, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn event_ids_are_told_apart_to_the_last_character() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let ids = ["a", "A", "a ", "a\0", "a\u{fffd}", "ä", "a\u{308}", "1", "01"];
    let events: Vec<_> = ids.iter().map(|id| json!({"id": id, "event": "opened", "uid": "u"})).collect();
    source.accept(&service, &json!(events)).await;
    assert_eq!(source.post(&service, &json!(events)).await.body["duplicates"], ids.len());
    let unique: HashSet<_> = texts(&context.messages(ids.len()).await, "/messageId").into_iter().collect();
    assert_eq!(unique.len(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_senders_of_the_same_events_get_each_accepted_once() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let batch = events(0..50);
    let answers = futures_util::future::join_all((0..20).map(|_| source.post(&service, &batch))).await;
    let sum = |field: &str| answers.iter().map(|a| a.body[field].as_u64().expect("a number")).sum::<u64>();
    assert_eq!((sum("accepted"), sum("duplicates")), (50, 950));
    context.source_is("acme", |shown| shown["delivered"] == 50 && shown["waiting"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scheme_of_signature_is_accepted_as_the_account_allows() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let body = events(0..1).to_string();
    for (scheme, status) in
        [(SigningScheme::Standard, 200), (SigningScheme::Timestamped, 200), (SigningScheme::Body, 401)]
    {
        let answer = source.post_signed(&service, &body, &source.sign(scheme, &body)).await;
        assert_eq!(answer.status, status, "{scheme:?}");
    }
    let standard = source.sign(SigningScheme::Standard, &body);
    let old_names = ["svix-id", "svix-timestamp", "svix-signature"];
    let svix: Vec<_> = old_names.into_iter().zip(&standard).map(|(name, (_, value))| (name, value.clone())).collect();
    for (headers, status) in [
        (svix.clone(), 200),
        ([svix.clone(), standard.clone()].concat(), 401),
        ([svix[..2].to_vec(), standard[2..].to_vec()].concat(), 401),
        ([svix.clone(), svix[..1].to_vec()].concat(), 401),
    ] {
        assert_eq!(source.post_signed(&service, &body, &headers).await.status, status, "{headers:?}");
    }
    context.run(&["source", "set", "acme", "--allow-untimestamped", "true"]).await;
    let by_body = source.sign(SigningScheme::Body, &body);
    assert_eq!(source.post_signed(&service, &body, &by_body).await.status, 200, "from the moment it is allowed");
    context.run(&["source", "set", "acme", "--allow-untimestamped", "false"]).await;
    assert_eq!(source.post_signed(&service, &body, &source.sign(SigningScheme::Standard, &body)).await.status, 200);
    until(async || source.post_signed(&service, &body, &by_body).await.status == 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_looks_the_same() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let nobody = Source { path: "/webhooks/nudgespot/AAAAAAAAAAAAAAAAAAAAAA".to_owned(), ..source.clone() };
    let body = "[]";
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let signed_at = |at| sign(&source.secret, SigningScheme::Standard, "msg", at, body.as_bytes());
    let good = signed_at(now);
    let wrong_secret = SigningSecret::from_random([3; 32]);
    let cases = [
        ("no signature", &source, vec![]),
        ("a wrong secret", &source, sign(&wrong_secret, SigningScheme::Standard, "msg", now, body.as_bytes())),
        ("another body", &source, sign(&source.secret, SigningScheme::Standard, "msg", now, b"{}")),
        ("too old", &source, signed_at(now - 310)),
        ("too new", &source, signed_at(now + 310)),
        ("twice", &source, [good.clone(), vec![good[2].clone()]].concat()),
        ("garbage", &source, vec![("x-nudgespot-signature", "t=1,v1=".to_owned() + &"f".repeat(60_000))]),
        ("no such token", &nobody, good),
        ("no such token, no signature", &nobody, vec![]),
    ];
    let mut seen = Vec::new();
    for (name, source, headers) in cases {
        let answer = source.post_signed(&service, body, &headers).await;
        assert_problem(&answer, 401, "invalid_signature");
        let mut headers = answer.headers.clone();
        headers.remove("date");
        seen.push((format!("{headers:?}"), answer.body, name));
    }
    for (headers, body, name) in &seen {
        assert_eq!((headers, body), (&seen[0].0, &seen[0].1), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_both_secrets_verify_and_a_new_url_replaces_the_old() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let rotated = context.run(&["source", "rotate-secret", "acme"]).await;
    let secret = SigningSecret::parse(rotated["signing_secret"].as_str().expect("text")).expect("a secret");
    let end = nudgespot_source::domain::timestamp::parse(rotated["previous_valid_until"].as_str().expect("text"));
    let overlap = end.expect("a time") - OffsetDateTime::now_utc();
    assert!((time::Duration::hours(23)..=time::Duration::hours(24)).contains(&overlap), "{overlap}");
    let renewed = Source { secret, ..source.clone() };
    assert_eq!(renewed.post(&service, &events(0..1)).await.status, 200);
    assert_eq!(source.post(&service, &events(1..2)).await.status, 200);
    sqlx::query("update source set previous_secret_until = now()").execute(&context.pool).await.expect("updated");
    until(async || source.post(&service, &events(2..3)).await.status == 401).await;

    let moved = context.run(&["source", "rotate-url", "acme"]).await;
    let moved = Source { path: moved["webhook_path"].as_str().expect("text").to_owned(), ..renewed.clone() };
    assert_eq!(moved.post(&service, &events(3..4)).await.status, 200);
    assert_eq!(renewed.post(&service, &events(4..5)).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_list_of_events_is_malformed() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    for body in ["", "null", "7", "\"text\"", "[1,", "{\"event\":", "[]x", "{\"a\":\"\u{1}\"}"] {
        assert_problem(&source.post_text(&service, body).await, 400, "malformed_body");
    }
    for body in ["[]", r#"{"activities":[]}"#] {
        let answer = source.post_text(&service, body).await;
        assert_eq!(answer.body, json!({"accepted": 0, "duplicates": 0, "ignored": 0, "rejected": []}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_get_an_answer_and_do_no_harm() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let event = |more: &str| format!(r#"{{"event":"opened","uid":"u",{more}}}"#);
    let keys: Vec<String> = (0..20_000).map(|i| format!(r#""k{i}":0"#)).collect();
    let bodies = [
        deep(400_000),
        event(&format!(r#""x":{}"#, deep(400_000))),
        event(r#""id":"\u0000","x":"\u0000""#),
        event(r#""id":"\ud800","x":"\udfff""#),
        event(r#""x":1e999999,"timestamp":1e400"#),
        event(r#""timestamp":99999999999999999999999"#),
        event(r#""id":-0,"id":1,"uid":"v","uid":"w""#),
        event(&keys.join(",")),
        event(&format!(r#""id":"{}""#, "i".repeat(900_000))),
        format!(r#"{{"event":"{}","uid":"u"}}"#, "e".repeat(900_000)),
        format!("[{}]", vec!["0"; 10_000].join(",")),
        r#"{"event":"sent\u0000","uid":"u"}"#.to_owned(),
    ];
    for body in &bodies {
        let answer = source.post_text(&service, body).await;
        assert_eq!(answer.status, 200, "{}: {:?}", &body[..60.min(body.len())], answer.headers);
    }
    let tiny: Vec<String> = (0..10_000).map(|i| format!(r#"{{"event":"open","uid":{i}}}"#)).collect();
    let answer = source.post_text(&service, &format!("[{}]", tiny.join(","))).await;
    assert_eq!(answer.body["accepted"], 10_000);

    let not_utf8 = b"[{\"event\":\"open\xff\"}]";
    let headers =
        sign(&source.secret, SigningScheme::Standard, "m", OffsetDateTime::now_utc().unix_timestamp(), not_utf8);
    let mut request = sender::http().post(format!("{}{}", service.url, source.path)).body(not_utf8.to_vec());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    assert_eq!(request.send().await.expect("an answer").status(), 400);
    let shown = context.source_is("acme", |shown| shown["waiting"] == 0).await;
    assert_eq!(shown["dead_letters"], 0, "nothing was accepted that Segment refuses");
    assert!(!service.log().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
    let mut context = Context::new().await;
    context.set("MAX_BODY_BYTES", "1000");
    let service = context.serve().await;
    let source = context.source("acme").await;
    let padded = |n: usize| format!("[]{}", " ".repeat(n - 2));
    assert_eq!(source.post_text(&service, &padded(1000)).await.status, 200);
    assert_problem(&source.post_text(&service, &padded(1001)).await, 413, "body_too_large");

    // In chunks, without a length said beforehand, and far beyond the limit.
    let stream = "1000\r\n".to_owned() + &"x".repeat(0x1000) + "\r\n";
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", source.path);
    let mut connection = tokio::net::TcpStream::connect(service.url.trim_start_matches("http://")).await.expect("up");
    connection.write_all((head + &stream).as_bytes()).await.expect("written");
    // No more of it is sent, nor waited for.
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), connection.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection stays open");
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_ends_the_connection() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n", source.path);
    let mut connection = tokio::net::TcpStream::connect(service.url.trim_start_matches("http://")).await.expect("up");
    connection.write_all((head + &"x".repeat(10_000)).as_bytes()).await.expect("written");
    // No more of it is sent, nor waited for.
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection stays open");
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_ten_thousand_events_at_most() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let list = |n: usize| format!("[{}]", vec!["{}"; n].join(","));
    let answer = source.post_text(&service, &list(10_000)).await;
    assert_eq!(answer.body["rejected"].as_array().map(Vec::len), Some(10_000));
    for n in [10_001, 349_000] {
        assert_problem(&source.post_text(&service, &list(n)).await, 413, "too_many_events");
    }
    let batch = format!(r#"{{"account":"x","events":{}}}"#, list(10_001));
    assert_problem(&source.post_text(&service, &batch).await, 413, "too_many_events");
    let defaults = format!(r#"{{"x":"{}","events":{}}}"#, "x".repeat(30_000), list(1_000));
    assert_problem(&source.post_text(&service, &defaults).await, 413, "body_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_webhooks_that_wait_is_bounded_by_what_they_hold() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let mut stalled = context.pool.begin().await.expect("a transaction");
    sqlx::query("select from log_head for update").execute(&mut *stalled).await.expect("locked");
    // Each of these bodies is of 20 KB, and holds 15 MiB: two dozen are too many.
    let body = format!(r#"{{"x":"{}","events":[{}]}}"#, "x".repeat(15_000), vec!["{}"; 1_000].join(","));
    let mut posts = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (source, url, body) = (source.clone(), service.url.clone(), body.clone());
        posts.spawn(async move {
            let mut request = sender::http().post(format!("{url}{}", source.path)).body(body.clone());
            for (name, value) in source.sign(SigningScheme::Standard, &body) {
                request = request.header(name, value);
            }
            request.send().await.expect("an answer").status().as_u16()
        });
    }
    until(async || service.log().contains("TooManyWaiting")).await;
    assert_eq!(posts.join_next().await.expect("24").expect("no panic"), 503, "before anything is stored");
    stalled.rollback().await.expect("free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let context = Context::waiting().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let mut connection = tokio::net::TcpStream::connect(service.url.trim_start_matches("http://")).await.expect("up");
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n[", source.path);
    connection.write_all(head.as_bytes()).await.expect("written");
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_places_are_told_so() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let get = async |path: &str| {
        let response = sender::http().get(format!("{}{path}", service.url)).send().await.expect("an answer");
        let status = response.status().as_u16();
        let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
        (status, body["code"].as_str().map(str::to_owned))
    };
    assert_eq!(get(&source.path).await, (405, Some("method_not_allowed".to_owned())));
    assert_eq!(get("/nowhere").await, (404, Some("not_found".to_owned())));
    let deeper = Source { path: source.path.clone() + "/x", ..source.clone() };
    assert_problem(&deeper.post(&service, &json!([])).await, 404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_webhooks_than_may_wait_are_sent_back_for_later() {
    let mut context = Context::new().await;
    context.set("MAX_WAITING", "2");
    let service = context.serve().await;
    let source = context.source("acme").await;
    // Another writer holds the source's row: commits wait.
    let mut stalled = context.pool.begin().await.expect("a transaction");
    sqlx::query("select from log_head for update").execute(&mut *stalled).await.expect("locked");
    let posts: Vec<_> = (0..4)
        .map(|n| {
            let (source, url) = (source.clone(), service.url.clone());
            tokio::spawn(async move {
                let body = events(n..=n).to_string();
                let mut request = sender::http().post(format!("{url}{}", source.path)).body(body.clone());
                for (name, value) in source.sign(SigningScheme::Standard, &body) {
                    request = request.header(name, value);
                }
                let response = request.send().await.expect("an answer");
                (response.status().as_u16(), response.headers().contains_key("retry-after"))
            })
        })
        .collect();
    let metrics =
        async || sender::http().get(&service.metrics_url).send().await.expect("up").text().await.expect("text");
    until(async || metrics().await.contains("webhooks_total{status=\"503\"} 2")).await;
    stalled.rollback().await.expect("free");
    let mut answers = Vec::new();
    for post in posts {
        answers.push(post.await.expect("no panic"));
    }
    answers.sort_unstable();
    assert_eq!(answers, [(200, false), (200, false), (503, true), (503, true)]);
}
