//! A second kind of source: Resend (docs/contract.md, Resend body).

use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::sources::signature::{SigningScheme, sign};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::harness::{Context, Service, sender};

const SECRET: &str = "whsec_BwgJCgsMDQ4PEBESExQVFhcYGRobHB0e";

/// Posts a webhook as Resend does.
async fn post(service: &Service, path: &str, secret: &str, id: &str, body: &Value) -> (u16, Value) {
    let (secret, body) = (SigningSecret::parse(secret).expect("a secret"), body.to_string());
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let mut request = sender::http().post(format!("{}{path}", service.url)).body(body.clone());
    for (name, value) in sign(&secret, SigningScheme::Standard, id, now, body.as_bytes()) {
        request = request.header(name.replace("webhook-", "svix-"), value);
    }
    let response = request.send().await.expect("an answer");
    let (status, body) = (response.status().as_u16(), response.bytes().await.expect("a body"));
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn opened(id: &str) -> Value {
    json!({
        "type": "email.opened", "created_at": "2026-11-25T14:59:55.125Z",
        "data": {"email_id": id, "to": ["Ada Example <ada@example.com>"], "subject": "Welcome"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn its_events_reach_segment_under_the_secret_that_the_customer_entered() {
    let context = Context::new().await;
    let service = context.serve().await;
    context.create("acme", &[]).await;
    let add = ["source", "add", "acme", "--kind", "resend", "--write-key", "key-of-resend", "--json"];
    let (code, stdout, stderr) = context.try_run(&add, "").await;
    assert_eq!(code, 0, "{stderr}");
    let added: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(added.get("signing_secret"), None, "Resend makes it");
    let path = added["webhook_path"].as_str().expect("text").to_owned();
    assert!(path.starts_with("/webhooks/resend/"), "{path}");
    assert_eq!(post(&service, &path, SECRET, "msg_1", &opened("re-1")).await.0, 401, "before the secret is entered");

    let set = ["source", "set", "acme/resend", "--signing-secret", "-"];
    assert_eq!(context.try_run(&set, SECRET).await.0, 0);
    let receipt = json!({"accepted": 1, "duplicates": 0, "ignored": 0, "rejected": []});
    assert_eq!(post(&service, &path, SECRET, "msg_1", &opened("re-1")).await, (200, receipt));
    let again = post(&service, &path, SECRET, "msg_1", &opened("re-1")).await.1;
    assert_eq!(again["duplicates"], 1, "by the signed id");
    let track = context.messages(1).await.remove(0);
    assert_eq!((&track["writeKey"], &track["event"]), (&json!("key-of-resend"), &json!("Email Opened")));
    assert_eq!(track["anonymousId"], "ada@example.com");
    assert_eq!(track["context"]["integration"]["name"], "resend");
    assert_eq!(track["integrations"], json!({"All": true}));
    assert_eq!(track["properties"], json!({"email_id": "re-1", "email_subject": "Welcome"}));
    assert!(track["messageId"].as_str().is_some_and(|id| id.starts_with("nudgespot-") && id.len() == 42));

    let several = json!({"type": "email.opened", "data": {"to": ["a@b", "c@d"]}});
    let (status, receipt) = post(&service, &path, SECRET, "msg_2", &several).await;
    assert_eq!((status, &receipt["rejected"][0]["reason"]), (200, &json!("which of two recipients is not said")));
    let ignored = post(&service, &path, SECRET, "msg_3", &json!({"type": "email.sent", "data": {}})).await.1;
    assert_eq!(ignored["ignored"], 1);
    let shown = context.run(&["source", "show", "acme/resend"]).await;
    assert_eq!((&shown["kind"], &shown["ignored"], &shown["rejected"]), (&json!("resend"), &json!(1), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_customer_replaces_verifies_for_another_while() {
    let context = Context::new().await;
    let service = context.serve().await;
    context.create("acme", &[]).await;
    let add = ["source", "add", "acme", "--kind", "resend", "--signing-secret", "-", "--json"];
    let (code, stdout, stderr) = context.try_run(&add, SECRET).await;
    assert_eq!(code, 0, "{stderr}");
    let added: Value = serde_json::from_str(&stdout).expect("JSON");
    let path = added["webhook_path"].as_str().expect("text");
    let next = SigningSecret::from_random([9; 32]);
    // Refused as a whole; and entered again, it changes nothing.
    let taken = ["source", "set", "acme/resend", "--signing-secret", "-", "--name", "nudgespot"];
    assert_eq!(context.try_run(&taken, SigningSecret::from_random([8; 32]).expose()).await.0, 1);
    for _ in 0..2 {
        let set = ["source", "set", "acme/resend", "--signing-secret", "-", "--write-key", "key-of-resend"];
        let (code, _, stderr) = context.try_run(&set, next.expose()).await;
        assert_eq!(code, 0, "{stderr}");
    }
    assert_eq!(post(&service, path, next.expose(), "msg_1", &opened("re-1")).await.0, 200);
    assert_eq!(post(&service, path, SECRET, "msg_2", &opened("re-2")).await.0, 200, "the one before");
    let (code, _, stderr) = context.try_run(&["source", "rotate-secret", "acme/resend"], "").await;
    assert_eq!((code, stderr.contains("made by its sender")), (1, true), "{stderr}");
    let (code, _, stderr) =
        context.try_run(&["source", "set", "acme/nudgespot", "--signing-secret", "-"], SECRET).await;
    assert_eq!((code, stderr.contains("made here")), (1, true), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_kind_is_unknown_under_the_path_of_another() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.create("acme", &[]).await;
    let path = source.path.replace("/nudgespot/", "/resend/");
    assert_eq!(post(&service, &path, source.secret.expose(), "msg_1", &opened("re-1")).await.0, 401);
    let path = source.path.replace("/nudgespot/", "/pigeon/");
    assert_eq!(post(&service, &path, source.secret.expose(), "msg_1", &opened("re-1")).await.0, 404);
}
