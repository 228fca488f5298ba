//! Sources of kind `segment` on the command line: what is chosen of them, their keys, and what is left when they are gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nudgespot_source::metrics::Metrics;
use nudgespot_source::secrets::vault::Vault;
use nudgespot_source::secrets::{Source, SourceCache};
use nudgespot_source::store::connection::Connector;
use nudgespot_source::store::{retention, write_key_check};
use nudgespot_source::wakeups::{WakeReason, Wakeups};
use nudgespot_source::web::console::ROUTES;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::{Context, MASTER_KEY, Service, sender};

const NEW_KEY: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const LOST_KEY: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field}: {value}"))
}

fn id(created: &Value) -> Uuid {
    Uuid::parse_str(text(created, "source_id")).expect("an id")
}

async fn add(context: &Context, account: &str, more: &[&str]) -> Value {
    context.run(&[&["source", "add", account, "--kind", "segment"], more].concat()).await
}

/// The sources, as a running program has them in memory, under these master keys.
async fn cache(context: &Context, master_keys: &str) -> (SourceCache, Arc<Metrics>) {
    let connector = Connector::new(vec![context.options.clone()]);
    let metrics = Arc::new(Metrics::default());
    let vault = Arc::new(Vault::parse(master_keys).expect("keys"));
    let sources = SourceCache::load(&connector, vault, Arc::clone(&metrics)).await.expect("loaded");
    (sources, metrics)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delivery_learns_of_a_change_although_a_webhook_has_made_the_program_see_it_first() {
    let context = Context::new().await;
    let source = context.source("acme").await;
    let (sources, _) = cache(&context, MASTER_KEY).await;
    context.run(&["source", "set", &source.id, "--region", "eu"]).await;
    // As for a signature that is about to be refused.
    sources.refresh().await.expect("an answer");
    let (wakeups, stop) = (Wakeups::default(), CancellationToken::new());
    let woken = tokio::select! {
        woken = timeout(Duration::from_secs(5), wakeups.take()) => woken.expect("woken in time"),
        () = sources.watch(&wakeups, stop) => unreachable!("before the stop"),
    };
    assert_eq!(woken, HashMap::from([(source.id.parse().expect("an id"), WakeReason::AdminChange)]));
}

fn address_hash(source: &Source) -> Option<Uuid> {
    Some(source.identity_key.as_ref()?.address_hash("ada@example.com"))
}

/// Nudgespot, as far as a key is asked about: tells of each request's head, and answers each as it says; `None`: not at all.
async fn nudgespot(status: Option<u16>) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let url = format!("http://{}/201507", listener.local_addr().expect("bound"));
    let (heads, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).await.expect("a request");
            let _ = heads.send(String::from_utf8_lossy(&head[..n]).into_owned());
            match status {
                Some(status) => {
                    let elsewhere =
                        "location: https://elsewhere.example.com/\r\ncontent-length: 0\r\nconnection: close";
                    let answer = format!("HTTP/1.1 {status} x\r\n{elsewhere}\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.expect("answered");
                }
                None => unanswered.push(stream),
            }
        }
    });
    (url, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_calls_is_administered_from_creation_to_deletion() {
    let mut context = Context::new().await;
    context.set("PUBLIC_URL", "https://hooks.example.com");
    context.source("acme").await;
    let args = ["source", "add", "acme", "--kind", "segment", "--nudgespot-key", "-", "--json"];
    let (code, stdout, stderr) = context.try_run(&args, " rest/key:1234 \n").await;
    assert_eq!(code, 0, "{stderr}");
    let created: Value = serde_json::from_str(&stdout).expect("JSON");
    let fields: Vec<&str> = created.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(fields, ["account_id", "ingest_key", "shared_secret", "source_id", "webhook_path", "webhook_url"]);
    assert!(text(&created, "shared_secret").starts_with("whsec_"));
    let ingest_key = text(&created, "ingest_key");
    assert!(ingest_key.len() == 32 && ingest_key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{ingest_key}");
    let path = text(&created, "webhook_path");
    assert!(path.starts_with("/webhooks/segment/"));
    let url = format!("https://hooks.example.com{path}");
    assert_eq!(created["webhook_url"], url);

    let shown = context.show("acme/segment").await;
    assert_eq!(
        shown,
        json!({
            "source_id": created["source_id"], "account_id": created["account_id"], "name": "segment",
            "kind": "segment", "region": "us", "endpoint": null, "write_key_last4": null, "webhook_url": url,
            "unsubscribe_event": "Email Unsubscribed", "allow_untimestamped": false, "paused_reason": null,
            "waiting": 0, "oldest_waiting_seconds": 0, "delivered": 0, "dead_letters": 0, "rejected": 0, "ignored": 0,
            "nudgespot_key_last4": "1234", "unknown_users": "hold", "event_traits": true, "carrier": null,
            "learn_identities": true, "held": 0, "identified": 0,
        })
    );
    let listed = context.run(&["source", "list", "acme"]).await;
    assert_eq!(listed[1], shown);
    for field in ["nudgespot_key_last4", "held", "identified", "unknown_users", "carrier"] {
        assert_eq!(listed[0].get(field), None, "{field}: of calls alone");
    }
    let (_, table, _) = context.try_run(&["source", "list", "acme"], "").await;
    let row = table.lines().find(|line| line.starts_with("segment")).expect("a row");
    assert_eq!(row.split_whitespace().take(4).collect::<Vec<_>>(), ["segment", "segment", "-", "…1234"], "{table}");

    let set = [
        "source",
        "set",
        "acme/segment",
        "--name",
        "calls",
        "--unknown-users",
        "ignore",
        "--event-traits",
        "false",
        "--carrier",
        "My function (acme/eu)",
        "--learn-identities",
        "false",
        "--endpoint",
        "https://api.example.com/1",
    ];
    let set = context.run(&set).await;
    let fields = ["name", "unknown_users", "event_traits", "carrier", "learn_identities", "endpoint"];
    let expected = json!(["calls", "ignore", false, "My function (acme/eu)", false, "https://api.example.com/1"]);
    assert_eq!(Value::from_iter(fields.map(|field| set[field].clone())), expected);
    assert_eq!(set["nudgespot_key_last4"], "1234", "what is not named stays");
    let again = context.run(&["source", "set", "acme/calls", "--carrier", "none", "--endpoint", "none"]).await;
    assert_eq!((&again["carrier"], &again["endpoint"], &again["name"]), (&json!(null), &json!(null), &json!("calls")));

    let rotated = context.run(&["source", "rotate-url", "acme/calls"]).await;
    assert!(text(&rotated, "webhook_path").starts_with("/webhooks/segment/") && rotated["webhook_path"] != path);
    context.run(&["source", "delete", "acme/calls", "--yes"]).await;
    assert_eq!(context.try_run(&["source", "show", "acme/calls"], "").await.0, 1);

    let more =
        ["--unknown-users", "send", "--event-traits", "false", "--carrier", "Webhooks", "--learn-identities", "false"];
    let create = ["account", "create", "--name", "other", "--kind", "segment"];
    let other = context.run(&[&create[..], &more].concat()).await;
    assert!(other["ingest_key"].is_string() && other["signing_secret"].is_null(), "{other}");
    let shown = context.show("other").await;
    let expected = json!([null, "send", false, "Webhooks", false]);
    let fields = ["nudgespot_key_last4", "unknown_users", "event_traits", "carrier", "learn_identities"];
    assert_eq!(Value::from_iter(fields.map(|field| shown[field].clone())), expected);
    let (_, table, _) = context.try_run(&["account", "list"], "").await;
    assert!(table.contains("waits for a Nudgespot key"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kind_does_not_have_is_refused_in_one_line_and_nothing_changes() {
    let mut context = Context::new().await;
    context.set("RUST_LOG", "warn");
    context.source("acme").await;
    add(&context, "acme", &[]).await;
    context.run(&["source", "add", "acme", "--kind", "resend"]).await;
    let before = context.run(&["source", "list", "acme"]).await;
    let secret = "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let of_events: [&[&str]; 5] = [
        &["--write-key", "abcdefgh1234"],
        &["--region", "us"],
        &["--unsubscribe-event", "Unsubscribed"],
        &["--allow-untimestamped", "true"],
        &["--signing-secret", secret],
    ];
    let of_calls: [&[&str]; 5] = [
        &["--nudgespot-key", "some-key"],
        &["--unknown-users", "send"],
        &["--event-traits", "true"],
        &["--carrier", "Webhooks"],
        &["--learn-identities", "true"],
    ];
    let add_segment = ["source", "add", "acme", "--kind", "segment", "--name", "more"];
    let add_resend = ["source", "add", "acme", "--kind", "resend", "--name", "more"];
    let create_segment = ["account", "create", "--name", "new", "--kind", "segment"];
    let mut cases: Vec<Vec<&str>> = Vec::new();
    for (n, args) in of_events.into_iter().enumerate() {
        cases.push([&["source", "set", "acme/segment", "--name", "other"], args].concat());
        if n != 2 && n != 3 {
            cases.push([&add_segment, args].concat());
        }
        if n < 2 {
            cases.push([&create_segment, args].concat());
        }
    }
    for args in of_calls {
        cases.push([&["source", "set", "acme/nudgespot", "--name", "other"], args].concat());
        cases.push([&["source", "set", "acme/resend"], args].concat());
        cases.push([&add_resend, args].concat());
        cases.push([&["account", "create", "--name", "new"], args].concat());
    }
    // Both at once are of no kind.
    cases.push([&add_segment[..], of_calls[0], of_events[0]].concat());
    let long = "x".repeat(201);
    for key in ["", " ", "two words", "schlüssel", &long] {
        cases.push(vec!["source", "set", "acme/segment", "--nudgespot-key", key]);
    }
    for args in cases {
        let (code, stdout, stderr) = context.try_run(&args, "").await;
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (1, "", 1), "{args:?}: {stderr}");
        assert!(!stderr.contains("abcdefgh") && !stderr.contains("some-key"), "{args:?}: {stderr}");
    }
    assert_eq!(context.run(&["source", "list", "acme"]).await, before);
    assert_eq!(context.run(&["account", "list"]).await.as_array().map(Vec::len), Some(1));
    let (_, _, stderr) = context.try_run(&["source", "set", "acme/segment", "--write-key", "abcdefgh1234"], "").await;
    assert_eq!(stderr.trim(), "error: a source of kind `segment` has no write key: its calls go to Nudgespot");
    let (_, _, stderr) = context.try_run(&["source", "set", "acme/resend", "--nudgespot-key", "-"], "some-key").await;
    assert_eq!(stderr.trim(), "error: a source of kind `resend` has no Nudgespot key: its events go to Segment");
    for wrong in [["--unknown-users", "later"], ["--event-traits", "1"], ["--carrier", ""], ["--carrier", "a\nb"]] {
        let (code, ..) = context.try_run(&[&["source", "set", "acme/segment"], &wrong[..]].concat(), "").await;
        assert_eq!(code, 2, "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entered_key_is_asked_about_and_used_whatever_is_said() {
    let mut context = Context::waiting().await;
    context.set("RUST_LOG", "warn");
    context.run(&["account", "create", "--name", "acme", "--kind", "segment"]).await;
    for (n, (status, says)) in [
        (Some(200), ""),
        (Some(404), ""),
        (Some(401), "warning: Nudgespot does not know this key"),
        (Some(403), "warning: Nudgespot does not know this key"),
        (Some(302), "note: Nudgespot could not be asked"),
        (Some(500), "note: Nudgespot could not be asked"),
        (None, "note: Nudgespot could not be asked"),
    ]
    .into_iter()
    .enumerate()
    {
        let (url, mut heads) = nudgespot(status).await;
        context.set("NUDGESPOT_URL", &url);
        let key = format!("rest-key-{n:04}");
        let began = std::time::Instant::now();
        let args = ["source", "set", "acme", "--nudgespot-key", &key, "--json"];
        let (code, stdout, stderr) = context.try_run(&args, "").await;
        assert_eq!((code, stderr.lines().count()), (0, usize::from(!says.is_empty())), "{status:?}: {stderr}");
        assert!(stderr.starts_with(says) && !stderr.contains(&key), "{status:?}: {stderr}");
        let shown: Value = serde_json::from_str(&stdout).expect("one JSON value");
        assert_eq!(shown["nudgespot_key_last4"], key[key.len() - 4..]);
        if status.is_none() {
            // 5 s, and what the command takes itself.
            assert!((5..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        }
        let head = heads.recv().await.expect("a request").to_lowercase();
        assert!(head.starts_with("get /201507/subscribers.json?uid= http/1.1\r\n"), "{head}");
        let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("api:{key}"));
        assert!(head.contains(&format!("authorization: basic {}", basic.to_lowercase())), "{head}");
        assert!(heads.try_recv().is_err(), "asked once");
    }
    // The source's own endpoint is asked where it has one, and a source that is made asks as well.
    let (own, mut heads) = nudgespot(Some(200)).await;
    context.set("NUDGESPOT_URL", "http://127.0.0.1:1");
    context.run(&["source", "set", "acme", "--endpoint", &own, "--nudgespot-key", "k"]).await;
    assert!(heads.recv().await.is_some());
    context.run(&["source", "set", "acme", "--nudgespot-key", "bad-key"]).await;
    assert!(heads.recv().await.is_some());
    context.run(&["source", "set", "acme", "--learn-identities", "true"]).await;
    assert!(heads.try_recv().is_err(), "no key was entered");
    context.set("NUDGESPOT_URL", &own);
    add(&context, "acme", &["--name", "second", "--nudgespot-key", "k"]).await;
    assert!(heads.recv().await.is_some());
    context.run(&["account", "create", "--name", "b", "--kind", "segment", "--nudgespot-key", "k"]).await;
    assert!(heads.recv().await.is_some());
    // Segment is not asked about Nudgespot's keys: it would learn them.
    let events = Uuid::parse_str(&context.source("events").await.id).expect("an id");
    let could_be_a_write_key = "rest-key-0000";
    context
        .run(&["source", "set", "acme/segment", "--endpoint", "none", "--nudgespot-key", could_be_a_write_key])
        .await;
    let due = write_key_check::due(&context.pool, &["nudgespot", "resend"], OffsetDateTime::now_utc(), 50).await;
    assert_eq!(due.expect("asked"), [events]);
    context.set("RUST_LOG", "info");
    let service = context.serve().await;
    let cookie = sign_in(&context, &service).await;
    let shown = context.show("acme/segment").await;
    assert!(heads.recv().await.is_some() && heads.try_recv().is_err(), "of the command");
    let path = format!("{}/sources/{}/set-up/check-key", service.console_url, text(&shown, "source_id"));
    let request = sender::http_without_redirects().post(path).header("Sec-Fetch-Site", "same-origin");
    let answer = request.header(COOKIE, &cookie).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 303);
    // Whoever asks for it has Nudgespot asked, and nobody else.
    assert!(heads.recv().await.is_some());
    let verdict = sqlx::query_scalar::<_, String>("select verdict from write_key_check").fetch_one(&context.pool).await;
    assert_eq!(verdict.expect("read"), "known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_ends_a_pause_that_an_answer_began() {
    let context = Context::new().await;
    context.run(&["account", "create", "--name", "acme", "--kind", "segment"]).await;
    let pause = async |by: &str| {
        let sql = format!("update delivery set paused_by = '{by}', paused_reason = 'why', paused_at = now()");
        context.execute(&sql).await;
    };
    pause("segment").await;
    let set = ["source", "set", "acme", "--unknown-users", "send"];
    assert_eq!(context.run(&set).await["paused_reason"], "why");
    let set = ["source", "set", "acme", "--nudgespot-key", "k"];
    assert_eq!(context.run(&set).await["paused_reason"], Value::Null);
    pause("admin").await;
    assert_eq!(context.run(&set).await["paused_reason"], "why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_found_by_its_ingest_key_and_for_a_day_by_the_one_before() {
    let context = Context::new().await;
    context.source("acme").await;
    let created = add(&context, "acme", &[]).await;
    let (sources, _) = cache(&context, MASTER_KEY).await;
    let found = |key: &str| sources.find_by_ingest_key(key).map(|source| source.id);
    let first = text(&created, "ingest_key");
    assert_eq!(found(first), Some(id(&created)));
    for wrong in ["", &first.to_uppercase(), &first[1..], text(&created, "shared_secret"), "key-of-acme"] {
        assert_eq!(found(wrong), None, "{wrong}");
    }
    let rotated = context.run(&["source", "rotate-secret", "acme/segment"]).await;
    let fields: Vec<&str> = rotated.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(fields, ["ingest_key", "previous_valid_until", "shared_secret"]);
    sources.refresh().await.expect("read");
    let second = text(&rotated, "ingest_key");
    assert_ne!(first, second);
    assert_eq!((found(first), found(second)), (Some(id(&created)), Some(id(&created))));
    let source = sources.find_by_id(id(&created)).expect("known");
    let keyring = source.keyring.as_ref().expect("opened");
    assert_eq!(keyring.current.expose(), text(&rotated, "shared_secret"));
    assert_eq!(keyring.previous.expose(), text(&created, "shared_secret"));
    let left = keyring.previous_until.expect("a time") - OffsetDateTime::now_utc().unix_timestamp();
    assert!((86_000..=86_400).contains(&left), "{left}");

    context
        .execute("update source set previous_secret_until = now() - interval '1 second' where kind = 'segment'")
        .await;
    sources.refresh().await.expect("read");
    assert_eq!((found(first), found(second)), (None, Some(id(&created))));
    let third = context.run(&["source", "rotate-secret", "acme/segment"]).await;
    sources.refresh().await.expect("read");
    assert_eq!((found(first), found(second)), (None, Some(id(&created))));
    // Of sources of events, the secret has no such key.
    context.run(&["source", "delete", "acme/segment", "--yes"]).await;
    sources.refresh().await.expect("read");
    assert_eq!((found(second), found(text(&third, "ingest_key"))), (None, None));
    assert!(!sources.may_miss_ingest_keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_key_may_be_that_of_a_source_whose_secret_does_not_open() {
    let mut context = Context::new().await;
    context.source("acme").await;
    context.set("MASTER_KEY", LOST_KEY);
    let lost = context.run(&["account", "create", "--name", "lost", "--kind", "segment"]).await;
    let (sources, metrics) = cache(&context, MASTER_KEY).await;
    assert!(sources.find_by_ingest_key(text(&lost, "ingest_key")).is_none() && sources.may_miss_ingest_keys());
    // The source itself is there, so that its webhooks are asked to come again.
    let source = sources.find_by_id(id(&lost)).expect("known");
    assert!(source.keyring.is_none() && source.identity_key.is_none());
    let metrics = metrics.render(None);
    for what in ["signing_secret", "identity_key"] {
        assert!(metrics.contains(&format!(r#"unopened_secrets_total{{what="{what}"}} 1"#)), "{metrics}");
    }
    context.run(&["account", "delete", "lost", "--yes"]).await;
    sources.refresh().await.expect("read");
    assert!(!sources.may_miss_ingest_keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_one_identity_key_which_all_its_sources_know() {
    let mut context = Context::new().await;
    let emails = Uuid::parse_str(&context.source("acme").await.id).expect("an id");
    let other = Uuid::parse_str(&context.source("other").await.id).expect("an id");
    let (sources, _) = cache(&context, MASTER_KEY).await;
    let hash = |source: Uuid| address_hash(&sources.find_by_id(source).expect("known"));
    assert_eq!(hash(emails), None);
    // Two who are the first.
    let (one, two) = tokio::join!(add(&context, "acme", &["--name", "one"]), add(&context, "acme", &["--name", "two"]));
    sources.refresh().await.expect("read");
    let first = hash(emails).expect("a key");
    assert_eq!((hash(id(&one)), hash(id(&two)), hash(other)), (Some(first), Some(first), None));
    add(&context, "acme", &["--learn-identities", "false"]).await;
    sources.refresh().await.expect("read");
    assert_eq!(hash(emails), Some(first), "it stays");
    let learning = |source: Uuid| sources.find_by_id(source).expect("known").learns_identities;
    let set = context.run(&["source", "set", "acme/one", "--learn-identities", "false"]).await;
    sources.refresh().await.expect("read");
    assert!(!learning(id(&set)) && learning(id(&two)));
    let created = context.run(&["account", "create", "--name", "third", "--kind", "segment"]).await;
    sources.refresh().await.expect("read");
    assert!(hash(id(&created)).is_some_and(|hash| hash != first), "each account has its own");

    // Sealed anew, it is the same; what does not open is named, and hides nothing else.
    context.set("MASTER_KEY", LOST_KEY);
    context.run(&["account", "create", "--name", "lost", "--kind", "segment"]).await;
    context.set("MASTER_KEY", &format!("{NEW_KEY},{MASTER_KEY}"));
    context.set("RUST_LOG", "warn");
    let (code, told, stderr) = context.try_run(&["account", "rekey", "--json"], "").await;
    let told: Value = serde_json::from_str(&told).expect("one JSON value");
    assert_eq!((code, &told["sources"], stderr.lines().count()), (1, &json!(6), 1), "{told} {stderr}");
    let failed = told["failed"].as_array().expect("a list");
    assert_eq!((failed.len(), &failed[0]["name"], &failed[1]["name"]), (2, &json!("lost/segment"), &json!("lost")));
    assert!(failed[0]["source_id"].is_string() && failed[1]["account_id"].is_string(), "{told}");
    assert!(text(&failed[1], "reason").contains("opens the IdentityKey of account"), "{told}");
    assert!(stderr.contains("1 of 7 sources, and 1 identity key, could not be sealed anew"), "{stderr}");
    context.run(&["account", "delete", "lost", "--yes"]).await;
    context.execute(CONFLICT_ONCE).await;
    assert_eq!(context.run(&["account", "rekey"]).await["failed"], json!([]));
    let (sources, metrics) = cache(&context, NEW_KEY).await;
    for source in [emails, id(&one), id(&two)] {
        assert_eq!(address_hash(&sources.find_by_id(source).expect("known")), Some(first));
    }
    assert!(!metrics.render(None).contains("unopened_secrets_total{"));
}

/// As if somebody else had changed each account at the same time, once.
const CONFLICT_ONCE: &str = "create sequence attempts;
    create function conflict() returns trigger language plpgsql as $$ begin
        return case when nextval('attempts') < 2 then null else new end;
    end $$;
    create trigger conflict before update on account for each row execute function conflict()";

/// Makes up what calls leave: more than one piece of it.
async fn leave_behind(context: &Context, account: &str, source: Uuid) {
    context
        .execute(&format!(
            "insert into held_call (source_id, user_hash, event_id, received_at, body)
                select '{source}', gen_random_uuid(), n::text::bytea, now(), '{{}}' from generate_series(1, 10001) n;
            insert into identified_user (source_id, user_hash)
                select '{source}', gen_random_uuid() from generate_series(1, 10002);
            insert into identity (account_id, address_hash, user_id, user_hash)
                select id, gen_random_uuid(), 'u', gen_random_uuid() from account, generate_series(1, 10003)
                where name = '{account}'"
        ))
        .await;
}

async fn left_behind(context: &Context) -> [i64; 3] {
    let count = async |table: &str| -> i64 {
        let sql = AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query_scalar(sql).fetch_one(&context.pool).await.expect("counted")
    };
    [count("held_call").await, count("identified_user").await, count("identity").await]
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_source_or_account_goes_what_was_held_and_learnt() {
    let context = Context::new().await;
    context.source("acme").await;
    let first = add(&context, "acme", &[]).await;
    add(&context, "acme", &["--name", "second"]).await;
    leave_behind(&context, "acme", id(&first)).await;
    let shown = context.show("acme/segment").await;
    assert_eq!((&shown["held"], &shown["identified"]), (&json!(10_001), &json!(10_002)));
    context.run(&["source", "delete", "acme/segment", "--yes"]).await;
    assert_eq!(left_behind(&context).await, [0, 0, 10_003], "the account's other source goes on to learn");
    context.run(&["source", "delete", "acme/second", "--yes"]).await;
    assert_eq!(left_behind(&context).await, [0, 0, 0], "nobody is left who could have it corrected");

    let third = context.run(&["account", "create", "--name", "third", "--kind", "segment"]).await;
    leave_behind(&context, "third", id(&third)).await;
    context.run(&["account", "delete", "third", "--yes"]).await;
    assert_eq!(left_behind(&context).await, [0, 0, 0]);

    // Where a removal was broken off, the retention finds what it has left.
    let fourth = context.run(&["account", "create", "--name", "fourth", "--kind", "segment"]).await;
    let month = Duration::from_hours(30 * 24);
    let forget = async || retention::forget(&mut context.connection(), OffsetDateTime::now_utc(), month).await;
    leave_behind(&context, "fourth", id(&fourth)).await;
    forget().await.expect("done");
    assert_eq!(left_behind(&context).await, [10_001, 10_002, 10_003], "of those who are there, nothing goes");
    context.execute("delete from account where name = 'fourth'").await;
    context.execute("delete from held_call").await;
    assert_eq!(left_behind(&context).await, [0, 10_002, 10_003]);
    forget().await.expect("done");
    assert_eq!(left_behind(&context).await, [0, 0, 0]);
    context
        .execute("insert into held_call values (default, gen_random_uuid(), gen_random_uuid(), 'e', now(), '{}')")
        .await;
    forget().await.expect("done");
    assert_eq!(left_behind(&context).await, [0, 0, 0]);
}

/// An operator who is signed in: his cookie.
async fn sign_in(context: &Context, service: &Service) -> String {
    let link = context.run(&["operator", "invite", "--email", "op@example.com"]).await;
    let path = text(&link, "link").split_once("/links/").expect("a link").1.to_owned();
    let request = sender::http_without_redirects().post(format!("{}/links/{path}", service.console_url));
    let request = request.header("Sec-Fetch-Site", "same-origin");
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = request.body("password=correct+horse+battery").send().await.expect("an answer");
    let cookie = answer.headers().get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok()).expect("a session");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_shows_a_source_of_calls_and_takes_what_it_has() {
    let context = Context::new().await;
    let service = context.serve().await;
    let created = context.run(&["account", "create", "--name", "acme", "--kind", "segment"]).await;
    context.run(&["source", "set", "acme", "--nudgespot-key", "rest/key:1234"]).await;
    let source = text(&created, "source_id");
    let cookie = sign_in(&context, &service).await;
    let ask = async |method: &str, path: &str, body: &'static str| {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
        let request = sender::http_without_redirects().request(method, format!("{}{path}", service.console_url));
        let request = request.header("Sec-Fetch-Site", "same-origin").header(COOKIE, &cookie);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = request.body(body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let of_source = ROUTES.iter().map(|route| (route.method, route.path.replace("{source}", source)));
    let pages: Vec<_> = of_source
        .filter(|(method, path)| *method == "get" && path.contains(source) && !path.contains(['{']))
        .filter(|(_, path)| !path.starts_with("/api/"))
        .collect();
    assert!(pages.len() > 5, "{pages:?}");
    for (method, path) in pages {
        // The export asks for its format; the others take no notice.
        let (status, body) = ask(method, &format!("{path}?format=csv"), "").await;
        assert_eq!(status, 200, "{path}: {body}");
    }
    // A form has what email events have as well: of that, only the name is taken.
    let form = "name=calls&unsubscribe_event=Unsubscribed&allow_untimestamped=true";
    assert_eq!(ask("post", &format!("/sources/{source}/settings"), form).await.0, 303);
    let form = "write_key=abcdefgh1234&region=us";
    let (status, body) = ask("post", &format!("/sources/{source}/set-up/write-key"), form).await;
    assert!(status == 422 && body.contains("has no write key"), "{status}: {body}");
    let shown = context.show("acme").await;
    let fields = ["name", "unsubscribe_event", "allow_untimestamped", "nudgespot_key_last4"];
    let expected = json!(["calls", "Email Unsubscribed", false, "1234"]);
    assert_eq!(Value::from_iter(fields.map(|field| shown[field].clone())), expected);

    let token = context.run(&["token", "create", "--name", "t"]).await;
    let api = async |method: Method, path: &str, body: &Value| {
        let request = sender::http().request(method, format!("{}/api/v1{path}", service.console_url));
        let request = request.header(AUTHORIZATION, format!("Bearer {}", text(&token, "token")));
        let answer = request.header(CONTENT_TYPE, "application/json").body(body.to_string()).send().await;
        let answer = answer.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_str::<Value>(&answer.text().await.expect("text")).expect("JSON"))
    };
    let path = format!("/sources/{source}");
    let (status, seen) = api(Method::GET, &path, &json!({})).await;
    // The command does not know on which port the service listens.
    let (seen, shown) = ([seen, shown])
        .map(|mut source| {
            source["webhook_url"].take();
            source
        })
        .into();
    assert_eq!((status, seen), (200, shown));
    let (status, rotated) = api(Method::POST, &format!("{path}/rotate-secret"), &json!({})).await;
    assert!(status == 200 && rotated["ingest_key"].is_string() && rotated["signing_secret"].is_null(), "{rotated}");
    for (field, value) in [("write_key", "abcdefgh1234"), ("region", "us"), ("unsubscribe_event", "Unsubscribed")] {
        let (status, problem) = api(Method::PATCH, &path, &json!({field: value})).await;
        assert_eq!(status, 422, "{field}: {problem}");
    }
    let path = format!("/accounts/{}/sources", text(&created, "account_id"));
    let (status, made) = api(Method::POST, &path, &json!({"kind": "segment"})).await;
    assert!(status == 201 && made["shared_secret"].is_string() && made["ingest_key"].is_string(), "{made}");
    assert_eq!(made.get("signing_secret"), None, "{made}");
    let (status, made) = api(Method::POST, &path, &json!({"kind": "nudgespot"})).await;
    assert!(status == 201 && made["signing_secret"].is_string() && made.get("ingest_key").is_none(), "{made}");
}
