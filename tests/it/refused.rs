//! Refused webhooks: what is kept of them, and what their source's admin is told.

use nudgespot_source::admin::Admin;
use nudgespot_source::admin::doctor::{PastedWebhook, Signer, WebhooksSeen};
use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::sources::signature::{SigningScheme, sign};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::harness::{Context, Service, Source, events, until};

fn id(source: &Source) -> Uuid {
    source.id.parse().expect("an id")
}

/// Waits until what is seen of a source's webhooks is so.
async fn seen(admin: &Admin, source: &Source, is_so: impl Fn(&WebhooksSeen) -> bool) -> WebhooksSeen {
    let look = async || admin.webhooks_seen(id(source)).await.expect("an answer");
    until(async || is_so(&look().await)).await;
    look().await
}

/// Posts a webhook that is signed by another secret or at another time; it must be refused.
async fn refuse(source: &Source, service: &Service, secret: &SigningSecret, seconds_ago: i64, body: &str) {
    let at = OffsetDateTime::now_utc().unix_timestamp() - seconds_ago;
    let headers = sign(secret, SigningScheme::Standard, "msg_1", at, body.as_bytes());
    assert_eq!(source.post_signed(service, body, &headers).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_webhooks_are_all_refused_is_told_why() {
    let context = Context::new().await;
    let (service, admin) = (context.serve().await, context.admin());
    let source = context.source("acme").await;
    source.accept(&service, &events(0..1)).await;
    let before = seen(&admin, &source, |seen| seen.last_verified_at.is_some()).await;
    assert_eq!((before.last_signed_with, before.n_refused), (Some(Signer::Current), 0));
    assert!(before.likely_fault.is_none());

    let body = r#"{"id":"e7","event":"opened","uid":"u7"}"#;
    let other = SigningSecret::from_random([9; 32]);
    for _ in 0..3 {
        refuse(&source, &service, &other, 0, body).await;
    }
    let refused = seen(&admin, &source, |seen| seen.n_refused == 3 && seen.likely_fault.is_some()).await;
    assert_eq!(refused.n_refused_since_verified, 3);
    assert_eq!(refused.likely_fault.expect("a fault").code, "altered_body", "the secret signed one a moment ago");
    let page = admin.refused_webhooks(id(&source), None, 50).await.expect("a page");
    assert_eq!(page.webhooks.len(), 1, "one a second is kept");
    assert_eq!((page.webhooks[0].body.as_str(), page.webhooks[0].is_whole), (body, true));
    let names: Vec<&str> = page.webhooks[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["webhook-id", "webhook-signature", "webhook-timestamp"]);

    // One that verifies ends it.
    source.accept(&service, &events(1..2)).await;
    let after = seen(&admin, &source, |seen| seen.n_refused_since_verified == 0).await;
    assert!(after.likely_fault.is_none() && after.n_refused == 3);
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_likely_fault_is_named() {
    let context = Context::new().await;
    let (service, admin) = (context.serve().await, context.admin());
    let body = r#"{"id":"e7","event":"opened","uid":"u7"}"#;
    let unknown = SigningSecret::from_random([9; 32]);
    let [wrong, stale, unsigned, altered, neighbour] =
        ["wrong", "stale", "unsigned", "altered", "neighbour"].map(str::to_owned);
    let fault = async |source: &Source| {
        let seen = seen(&admin, source, |seen| seen.likely_fault.is_some()).await;
        seen.likely_fault.expect("a fault").code
    };
    let source = context.source(&wrong).await;
    refuse(&source, &service, &unknown, 0, body).await;
    assert_eq!(fault(&source).await, "another_secret");
    let source = context.source(&stale).await;
    // Sources are known within a second; with a webhook that verifies, at once.
    source.accept(&service, &events(0..1)).await;
    refuse(&source, &service, &source.secret, 900, body).await;
    assert_eq!(fault(&source).await, "clock_off");
    let source = context.source(&unsigned).await;
    source.accept(&service, &events(0..1)).await;
    assert_eq!(source.post_signed(&service, body, &[]).await.status, 401);
    assert_eq!(fault(&source).await, "header_missing");
    let source = context.source(&altered).await;
    let headers = source.sign(SigningScheme::Standard, body);
    assert_eq!(source.post_signed(&service, &format!("{body}\n"), &headers).await.status, 401);
    assert_eq!(fault(&source).await, "body_white_space");
    let source = context.source(&neighbour).await;
    let added = context.run(&["source", "add", "neighbour", "--kind", "nudgespot", "--name", "second"]).await;
    refuse(&Source::new("second", &added), &service, &source.secret, 0, body).await;
    assert_eq!(fault(&Source::new("second", &added)).await, "secret_of_another_source");
    // Webhooks for tokens that do not exist leave nothing.
    let nobody = Source { path: "/webhooks/nudgespot/nobody".to_owned(), ..source.clone() };
    assert_eq!(nobody.post_signed(&service, body, &headers).await.status, 401);
    assert_eq!(seen(&admin, &source, |_| true).await.n_refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_is_judged_whole_and_kept_in_part() {
    let context = Context::new().await;
    let (service, admin) = (context.serve().await, context.admin());
    let source = context.source("acme").await;
    let body = json!({"id": "e7", "event": "opened", "uid": "u7", "padding": "x".repeat(10_000)}).to_string();
    let headers = source.sign(SigningScheme::Timestamped, &body);
    assert_eq!(source.post_signed(&service, &format!("{body} "), &headers).await.status, 401);
    let seen = seen(&admin, &source, |seen| seen.likely_fault.is_some()).await;
    assert_eq!(seen.likely_fault.expect("a fault").code, "body_white_space");
    let page = admin.refused_webhooks(id(&source), None, 50).await.expect("a page");
    let kept = &page.webhooks[0];
    assert_eq!((kept.body.len(), kept.is_whole), (2_048, false));
    assert_eq!(usize::try_from(kept.body_bytes).expect("a length"), body.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_the_secret_that_signs_is_known() {
    let context = Context::new().await;
    let (service, admin) = (context.serve().await, context.admin());
    let source = context.source("acme").await;
    source.accept(&service, &events(0..1)).await;
    seen(&admin, &source, |seen| seen.last_signed_with == Some(Signer::Current)).await;
    let rotated = context.run(&["source", "rotate-secret", "acme"]).await;
    let at_once = admin.webhooks_seen(id(&source)).await.expect("an answer");
    assert_eq!(at_once.last_signed_with, Some(Signer::Previous), "what signed before is the previous one now");
    assert!(at_once.current_secret_seen_at.is_none());
    source.accept(&service, &events(1..2)).await;
    let secret = SigningSecret::parse(rotated["signing_secret"].as_str().expect("text")).expect("a secret");
    let source = Source { secret, ..source };
    source.accept(&service, &events(2..3)).await;
    let after = seen(&admin, &source, |seen| seen.last_signed_with == Some(Signer::Current)).await;
    assert!(after.current_secret_seen_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_webhook_is_judged_and_no_right_signature_shown() {
    let context = Context::new().await;
    let admin = context.admin();
    let source = context.source("acme").await;
    let body = r#"{"id":"e7","event":"opened","uid":"u7"}"#;
    let right = source.sign(SigningScheme::Standard, body);
    let pasted = |headers: &[(&str, String)], body: &str| PastedWebhook {
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        body: body.as_bytes().to_vec(),
        received_at: OffsetDateTime::now_utc(),
    };
    let judged = admin.judge_signature(id(&source), &pasted(&right, body)).await.expect("a judgement");
    assert!(judged.is_valid, "{judged:?}");
    let mut wrong = right.clone();
    wrong[2].1 = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
    let judged = admin.judge_signature(id(&source), &pasted(&wrong, body)).await.expect("a judgement");
    assert_eq!(judged.faults[0].code, "another_secret");
    let text = serde_json::to_string(&judged).expect("JSON");
    assert!(!text.contains(&right[2].1[3..]) && !text.contains(&source.secret.expose()[6..]), "{text}");
}
