//! What an operator sees and relies on: health, metrics, logs, and configuration that explains itself.

use serde_json::json;

use crate::harness::{Context, OwnCluster, Service, events, sender, until};

async fn get(url: &str) -> (u16, String) {
    let response = sender::http().get(url).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_it_is_alive_not_ready_and_takes_nothing() {
    let mut cluster = OwnCluster::start().await;
    let context = Context::waiting_on(&cluster.options).await;
    let source = context.source("acme").await;
    let service = context.serve().await;
    assert_eq!(get(&format!("{}/readyz", service.url)).await.0, 200);
    cluster.signal("QUIT");
    until(async || get(&format!("{}/readyz", service.url)).await.0 == 503).await;
    assert_eq!(get(&format!("{}/healthz", service.url)).await.0, 200);
    assert_eq!(get(&service.metrics_url).await.0, 200);
    let answer = source.post(&service, &events(0..1)).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("not_stored")));
    assert!(answer.headers["retry-after"].to_str().is_ok_and(|seconds| seconds.parse::<u32>().is_ok()));
    assert!(!answer.body.to_string().to_lowercase().contains("sql"), "no inner error: {}", answer.body);
    cluster.restart().await;
    until(async || get(&format!("{}/readyz", service.url)).await.0 == 200).await;
    until(async || source.post(&service, &events(0..1)).await.status == 200).await;
    context.messages(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_of_webhooks_events_commits_backlog_and_segment() {
    let context = Context::new().await;
    let service = context.serve().await;
    let (source, waits) = (context.source("acme").await, context.create("waits", &[]).await);
    source.accept(&service, &events(0..3)).await;
    source.post(&service, &json!([{"event": "sent"}, 7, events(0..1)[0]])).await;
    waits.accept(&service, &events(0..2)).await;
    context.run(&["source", "pause", "waits"]).await;
    source.post_signed(&service, "[]", &[]).await;
    context.source_is("acme", |shown| shown["delivered"] == 3 && shown["waiting"] == 0).await;
    let (status, text) = get(&service.metrics_url).await;
    assert_eq!(status, 200);
    for line in [
        r#"nudgespot_source_webhooks_total{status="200"} 3"#,
        r#"nudgespot_source_webhooks_total{status="401"} 1"#,
        r#"nudgespot_source_events_total{kind="opened",disposition="accepted"} 5"#,
        r#"nudgespot_source_events_total{kind="opened",disposition="duplicate"} 1"#,
        r#"nudgespot_source_events_total{kind="opened",disposition="delivered"} 3"#,
        r#"nudgespot_source_events_total{kind="other",disposition="ignored"} 1"#,
        r#"nudgespot_source_events_total{kind="other",disposition="rejected"} 1"#,
        r#"nudgespot_source_segment_answers_total{status="200"}"#,
        "nudgespot_source_commit_events_count",
        "nudgespot_source_commit_seconds_sum",
        "nudgespot_source_segment_seconds_count",
        "nudgespot_source_delivery_seconds_count",
        "nudgespot_source_backlog_events 2",
        "nudgespot_source_backlog_oldest_seconds ",
        "nudgespot_source_sources 2",
        "nudgespot_source_paused_sources 1",
        &format!(r#"nudgespot_source_source_backlog_events{{source="{}"}} 2"#, waits.id),
        &format!(r#"nudgespot_source_source_backlog_oldest_seconds{{source="{}"}}"#, waits.id),
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(get(&format!("{}/metrics", service.url)).await.0, 404, "not on the public address");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_secret_or_token_is_logged_or_stored_in_clear() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    context.segment.faults.plan(&source.write_key, [nudgespot_source::sandbox::Fault::Status(401, None)]);
    source.accept(&service, &events(0..2)).await;
    source.post_signed(&service, "[]", &[]).await;
    context.source_is("acme", |shown| !shown["paused_reason"].is_null()).await;
    let rotated = context.run(&["source", "rotate-secret", "acme"]).await;
    let rows: Vec<String> =
        sqlx::query_scalar("select source::text from source union all select attempt::text from attempt")
            .fetch_all(&context.pool)
            .await
            .expect("read");
    let log = service.log();
    assert!(log.contains("delivery paused"), "{log}");
    let token = source.path.rsplit('/').next().expect("a token");
    let secrets =
        [source.write_key.as_str(), source.secret.expose(), rotated["signing_secret"].as_str().expect("text")];
    for secret in secrets {
        assert!(!log.contains(secret), "logged: {secret}");
        assert!(
            rows.iter().all(|row| !row.contains(secret) && !row.contains(&hex::encode(secret))),
            "stored: {secret}"
        );
    }
    assert!(!log.contains(token));
    let shown = context.show("acme").await.to_string();
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_stops_the_start_with_one_line_that_says_what_to_do() {
    let context = Context::new().await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    for (variable, value, says) in [
        ("MASTER_KEY", "", "MASTER_KEY: is set, but empty; unset it, or give it a value"),
        ("DATABASE_URL", "", "DATABASE_URL: is set, but empty"),
        ("RUST_LOG", " ", "RUST_LOG: is set, but empty"),
        ("LOG_FORMAT", "", "LOG_FORMAT: is set, but empty"),
        ("MASTER_KEY", "short", "MASTER_KEY: not base64 of 32 bytes"),
        ("SEGMENT_US_URL", "http://example.com", "SEGMENT_US_URL: "),
        ("BIND", &taken, "BIND: cannot listen there"),
        ("DATABASE_URL", "postgres://nobody:x@127.0.0.1:1/none", "DATABASE_URL: cannot connect"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT: `xml` is neither"),
        ("RUST_LOG", "=x=", "RUST_LOG: "),
        ("BIND", "\u{1b}]0;x\u{7}\u{202e}", "BIND: `\\u{1b}]0;x\\u{7}\\u{202e}` is no address"),
    ] {
        let mut env = context.env.clone();
        env.retain(|(name, _)| name != variable);
        env.push((variable.to_owned(), value.to_owned()));
        let Err(log) = Service::try_start(&env).await else { panic!("{variable} is wrong") };
        let line = log.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{variable}: {log}"));
        assert!(line.contains(says), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_that_does_not_fit_is_named_and_rekey_replaces_it() {
    let mut context = Context::new().await;
    let old = crate::harness::MASTER_KEY;
    let new = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    let source = context.source("acme").await;
    context.run(&["source", "rotate-secret", "acme"]).await;
    context.set("MASTER_KEY", new);
    let Err(log) = Service::try_start(&context.env).await else { panic!("the key does not fit") };
    assert!(log.contains("error: MASTER_KEY: no key in MASTER_KEY opens"), "{log}");
    context.set("MASTER_KEY", &format!("{new},{old}"));
    assert_eq!(context.run(&["account", "rekey"]).await, json!({"sources": 1, "failed": []}));
    context.set("MASTER_KEY", new);
    let service = context.serve().await;
    source.accept(&service, &events(0..1)).await;
    context.messages(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_and_stops_when_nobody_reads_its_logs_any_more() {
    let context = Context::new().await;
    let mut service = context.serve().await;
    let source = context.source("acme").await;
    service.lose_log().await;
    source.accept(&service, &events(0..10)).await;
    context.messages(10).await;
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_and_stops_when_whoever_collects_its_logs_hangs() {
    let context = Context::new().await;
    let mut service = context.serve().await;
    let source = context.source("acme").await;
    let log = service.stall_log().await;
    // Each makes several lines at `debug`: far more than the 64 KiB that a pipe holds.
    for n in 0..600 {
        source.accept(&service, &events(n..=n)).await;
    }
    context.messages(600).await;
    assert!(service.terminate().await.success());
    drop(log);
}
