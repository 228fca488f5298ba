//! The operator's page: how the service is doing, and each source in it.

use serde_json::json;

use crate::console_people::start;
use crate::harness::{Context, events, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_how_the_service_is_doing() {
    let context = Context::new().await;
    let (service, operator, _) = start(&context).await;
    let page = async || operator.get("/operator").await.body;
    let body = page().await;
    let database = context.options.get_database().expect("a name");
    let health = body.split("Health of the service").nth(1).expect("a box");
    for part in [
        "Answers",
        "PostgreSQL 1",
        database,
        "at 127.0.0.1:",
        "Nothing waits",
        "1 not set up",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(health.contains(part), "{part}: {body}");
    }

    // One that flows, one that is paused with events, one whose webhooks are refused.
    let (flows, paused, refuses) = (context.source("f").await, context.source("p").await, context.source("r").await);
    flows.accept(&service, &events(1..=600)).await;
    context.run(&["source", "pause", "p"]).await;
    paused.accept(&service, &events(1..=2)).await;
    let other = crate::harness::Source { secret: flows.secret.clone(), ..refuses.clone() };
    until(async || {
        other.post(&service, &json!({"event": "opened", "uid": "u"})).await;
        page().await.contains("1 refusing")
    })
    .await;
    context.source_is("f", |shown| shown["delivered"] == 600).await;
    let body = page().await;
    let health = body.split("Health of the service").nth(1).expect("a box");
    for part in ["1 refusing", "1 paused", "Waits", "2 events wait, the oldest for", "all in sources that are paused"] {
        assert!(health.contains(part), "{part}: {body}");
    }
    // By the minute, over one to two hours.
    let row = body.split(&format!("href=\"/sources/{}\"", flows.id)).nth(1).expect("a row");
    let rate = row.split("<span class=\"unit\"> a minute").next().and_then(|before| before.rsplit('>').next());
    let rate: f64 = rate.expect("a rate").parse().expect("a number");
    assert!((5.0..=10.0).contains(&rate), "{rate}");
    assert!(!body.contains("Events that wait"), "what waits is in the box: {body}");
}
