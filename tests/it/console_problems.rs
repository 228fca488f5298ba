//! The console's pages and API of problems, replays, the signature doctor and erasure, as a browser without script and a
//! program see them.

use std::time::Duration;

use nudgespot_source::sources::signature::{SigningScheme, sign};
use nudgespot_source::store::retention;
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::console_people::{Browser, MARKUP, PASSWORD, start};
use crate::harness::{Context, Service, Source, sender, until};

/// What Segment refuses it for.
const REASON: &str = "Segment answered 400: \"<b>no</b>\"";

/// A source in that account, with three dead letters.
async fn source_with_dead_letters(context: &Context, account: &str) -> Source {
    let added = ["source", "add", account, "--kind", "nudgespot", "--name", "mail", "--write-key", "key-of-mail"];
    let source = Source::new("mail", &context.run(&added).await);
    let id = &source.id;
    context
        .execute(&format!(
            r#"insert into dead_letter (source_id, seq, kind, event_id, received_at, track, reason)
            select '{id}', n, 2, convert_to('e/' || n, 'UTF8'), now(), '{{"userId":"u' || n || '","context":{{}}}}',
                case when n = 3 then 'expired' else '{REASON}' end
            from generate_series(1, 3) as n;
            update log_head set head_seq = 3 where source_id = '{id}';
            update delivery set cursor_seq = 3, n_dead = 3 where source_id = '{id}'"#
        ))
        .await;
    source
}

async fn viewer(service: &Service, operator: &Browser, account: &str) -> Browser {
    let form = [("email", "vera@example.com"), ("role", "viewer")];
    let made = operator.shown_after(&format!("/accounts/{account}/invite"), &form).await;
    let link = made.between("<code id=\"link\">", "</code>").to_owned();
    Browser::join(service, &link, &[("password", PASSWORD)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_grouped_and_sent_again_from_the_page() {
    let context = Context::new().await;
    let (service, operator, account) = start(&context).await;
    let source = source_with_dead_letters(&context, &account).await;
    let at = format!("/sources/{}", source.id);
    let problems = operator.get(&format!("{at}/problems")).await;
    assert!(problems.status == 200 && problems.body.contains("3 events were given up"), "{}", problems.body);
    assert!(problems.body.contains("Send 2 again") && !problems.body.contains("<b>no"), "{}", problems.body);
    assert!(problems.body.contains(&format!("{at}/events/e%2F2")), "{}", problems.body);
    // A viewer sees them, and has no button.
    let viewer = viewer(&service, &operator, &account).await;
    let seen = viewer.get(&format!("{at}/problems")).await;
    assert!(seen.body.contains("3 events were given up") && !seen.body.contains("Send 2 again"), "{}", seen.body);
    assert_eq!(viewer.post(&format!("{at}/replays"), &[]).await.status, 403);

    let none = operator.post(&format!("{at}/replays"), &[("reason", "nothing like this")]).await;
    assert!(none.status == 422 && none.body.contains("nothing is sent again"), "{}", none.body);
    // A group is of one reason, and not of all that contain it.
    let part = operator.post(&format!("{at}/replays"), &[("reason", "Segment answered 400")]).await;
    assert!(part.status == 422 && part.body.contains("nothing is sent again"), "{}", part.body);
    let started = operator.post(&format!("{at}/replays"), &[("reason", REASON)]).await;
    assert_eq!(started.status, 303, "{}", started.body);
    until(async || !operator.get(&started.location).await.body.contains("data-live")).await;
    let done = operator.get(&started.location).await;
    assert!(done.body.contains("Done") && done.body.contains("2 sent again"), "{}", done.body);
    context.messages(2).await;
    assert_eq!(operator.get("/sources/not-an-id/replays/x").await.status, 404);
    assert_eq!(operator.get(&format!("{at}/replays/{account}")).await.status, 404);
    let log = operator.get(&format!("/accounts/{account}/audit")).await.body;
    assert!(log.contains("Started a replay") && log.contains("mail: 2 that had been given up"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_webhook_is_judged_and_shown_harmlessly() {
    let context = Context::new().await;
    let (service, operator, account) = start(&context).await;
    let source = source_with_dead_letters(&context, &account).await;
    let at = format!("/sources/{}", source.id);
    let body = format!("{{\"event\":\"opened\",\"uid\":{}}}", json!(MARKUP));
    let headers = |body: &str| -> String {
        let signed = source.sign(SigningScheme::Standard, body);
        signed.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
    };
    let judge = async |headers: &str, body: &str| {
        operator.post(&format!("{at}/doctor"), &[("headers", headers), ("body", body)]).await
    };
    assert!(judge(&headers(&body), &body).await.body.contains("It verifies"));
    let altered = judge(&headers(&body), &format!("{body}\n")).await;
    assert!(altered.body.contains("White space or a line end") && !altered.body.contains("<script>alert"));
    let signed_at = OffsetDateTime::now_utc().unix_timestamp() - 4_000;
    let late = sign(&source.secret, SigningScheme::Timestamped, "", signed_at, body.as_bytes());
    let late = judge(&format!("{}: {}", late[0].0, late[0].1), &body).await;
    assert!(late.body.contains("4000 s behind") || late.body.contains("4001 s behind"), "{}", late.body);
    assert!(late.body.contains("the signature is right"), "{}", late.body);
    assert!(judge("", &body).await.body.contains("has no header"));
    assert_eq!(judge("no header", &body).await.status, 422);
    // A viewer may ask: it changes nothing.
    let viewer = viewer(&service, &operator, &account).await;
    let judged = viewer.post(&format!("{at}/doctor"), &[("headers", ""), ("body", "")]).await;
    assert!(judged.status == 200 && judged.body.contains("It is refused"), "{}", judged.body);

    // One that came, with markup in its headers and its body.
    let marked = vec![("webhook-signature", MARKUP.to_owned()), ("webhook-id", MARKUP.to_owned())];
    source.post(&service, &json!({"event": "opened", "uid": "u1"})).await;
    assert_eq!(source.post_signed(&service, &body, &marked).await.status, 401);
    until(async || operator.get(&format!("{at}/problems")).await.body.contains("What came")).await;
    let problems = operator.get(&format!("{at}/problems")).await;
    assert!(!problems.body.contains("<script>alert"), "{}", problems.body);
    assert!(problems.body.contains("webhook-timestamp"), "the header that is missing: {}", problems.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_is_erased_from_the_page_with_a_receipt() {
    let context = Context::new().await;
    let (service, operator, account) = start(&context).await;
    let source = source_with_dead_letters(&context, &account).await;
    source.accept(&service, &json!({"id": "e9", "event": "opened", "email": "jane@example.com"})).await;
    context.messages(1).await;
    let path = format!("/accounts/{account}/erase");
    let form = |recipient: &'static str, by: &'static str, sure: &'static str| {
        [("recipient", recipient), ("by", by), ("sure", sure)]
    };
    assert!(operator.get(&path).await.body.contains("Nobody was erased yet"));
    for wrong in [form(MARKUP, "email", "yes"), form("jane@example.com", "email", ""), form(" ", "uid", "yes")] {
        let answer = operator.post(&path, &wrong).await;
        assert!(answer.status == 422 && answer.body.contains("Nothing was erased"), "{}", answer.body);
        assert!(!answer.body.contains("<script>alert"));
    }
    let viewer = viewer(&service, &operator, &account).await;
    assert_eq!(viewer.post(&path, &form("jane@example.com", "email", "yes")).await.status, 403);
    let started = operator.post(&path, &form("Jane@Example.com", "email", "yes")).await;
    assert_eq!(started.status, 303, "{}", started.body);
    until(async || operator.get(&started.location).await.body.contains("Done")).await;
    let receipt = operator.get(&started.location).await.body;
    assert!(receipt.contains("j…@example.com") && !receipt.contains("jane@"), "{receipt}");
    assert!(receipt.contains("What stays") && receipt.contains("Segment"), "{receipt}");
    let event = operator.get(&format!("/sources/{}/events/e9", source.id)).await;
    assert!(event.status == 410 && event.body.contains("was erased"), "{}", event.body);
    assert!(!operator.get(&format!("/sources/{}/events", source.id)).await.body.contains("jane@"));
    let log = operator.get(&format!("/accounts/{account}/audit")).await.body;
    assert!(log.contains("Erased a recipient") && !log.contains("jane@example"), "{log}");
    assert!(operator.get(&path).await.body.contains("j…@example.com"));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_do_the_same_by_token() {
    let context = Context::new().await;
    let (service, _, account) = start(&context).await;
    let source = source_with_dead_letters(&context, &account).await;
    let token = context.run(&["token", "create", "--name", "robot", "--account", &account]).await["token"].clone();
    let http = sender::http();
    let ask = async |method: Method, path: &str, body: Option<Value>| -> (u16, Value) {
        let url = format!("{}/api/v1{path}", service.console_url);
        let mut request = http.request(method, url).bearer_auth(token.as_str().expect("text"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.expect("text")).unwrap_or_default())
    };
    let at = format!("/sources/{}", source.id);
    let (status, page) = ask(Method::GET, &format!("{at}/dead-letters?limit=2&reason=SEGMENT"), None).await;
    assert_eq!((status, page["data"].as_array().map(Vec::len), &page["next_cursor"]), (200, Some(2), &Value::Null));
    let (_, first) = ask(Method::GET, &format!("{at}/dead-letters?limit=2"), None).await;
    let cursor = first["next_cursor"].as_str().expect("another page");
    let (_, second) = ask(Method::GET, &format!("{at}/dead-letters?limit=2&cursor={cursor}"), None).await;
    assert_eq!((second["data"][0]["event_id"].as_str(), &second["next_cursor"]), (Some("e/3"), &Value::Null));
    assert_eq!(ask(Method::GET, &format!("{at}/dead-letters?kind=nonsense"), None).await.0, 400);

    let (status, none) =
        ask(Method::POST, &format!("{at}/dead-letters/replay"), Some(json!({"reason": "x y z"}))).await;
    assert_eq!((status, &none["code"]), (422, &json!("invalid")));
    assert_eq!(ask(Method::POST, &format!("{at}/dead-letters/replay"), Some(json!({"reasons": 1}))).await.0, 422);
    let (status, replay) = ask(Method::POST, &format!("{at}/dead-letters/replay"), Some(json!({}))).await;
    assert_eq!((status, &replay["total"], &replay["asked_by"]), (202, &json!(3), &json!("robot")));
    let job = format!("{at}/replays/{}", replay["replay_id"].as_str().expect("an id"));
    until(async || ask(Method::GET, &job, None).await.1["state"] == "done").await;
    assert_eq!(ask(Method::GET, &job, None).await.1["sent"], 3);
    assert_eq!(ask(Method::GET, &format!("{at}/replays"), None).await.1["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(ask(Method::POST, &format!("{job}/cancel"), None).await.1["state"], "done", "it has ended");

    let webhook = json!({"headers": {"X-Nudgespot-Signature": "t=1,v1=00"}, "body": "{}"});
    let (status, judged) = ask(Method::POST, &format!("{at}/judge-signature"), Some(webhook)).await;
    assert_eq!((status, &judged["is_valid"]), (200, &json!(false)));
    assert_eq!(judged["faults"][0]["code"], "unreadable_signature");
    assert_eq!(
        ask(Method::GET, &format!("{at}/refused-webhooks"), None).await.1,
        json!({"data": [], "next_cursor": null})
    );

    let erase = format!("/accounts/{account}/erase");
    for wrong in [json!({}), json!({"email": "a@b", "uid": "x"}), json!({"email": "nobody"})] {
        assert_eq!(ask(Method::POST, &erase, Some(wrong)).await.0, 422);
    }
    let (status, erasure) = ask(Method::POST, &erase, Some(json!({"uid": "u1"}))).await;
    assert_eq!((status, &erasure["state"]), (202, &json!("running")));
    let receipt = format!("/accounts/{account}/erasures/{}", erasure["erasure_id"].as_str().expect("an id"));
    until(async || ask(Method::GET, &receipt, None).await.1["state"] == "done").await;
    assert_eq!(ask(Method::GET, &receipt, None).await.1["removed"]["events"], 1, "that it was sent again");
    let listed = ask(Method::GET, &format!("/accounts/{account}/erasures"), None).await.1;
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_to_be_sent_again_is_not_said_to_be_there() {
    let context = Context::new().await;
    let (_service, operator, account) = start(&context).await;
    let source = source_with_dead_letters(&context, &account).await;
    let path = format!("/sources/{}", source.id);
    let (later, month) = (OffsetDateTime::now_utc() + time::Duration::days(31), Duration::from_hours(30 * 24));
    retention::forget(&mut context.connection(), later, month).await.expect("forgotten");
    let problems = operator.get(&format!("{path}/problems")).await.body;
    assert!(problems.contains("3 events that were given up are no longer kept"), "{problems}");
    assert!(!problems.contains("can be sent again. <a") && !problems.contains("state bad\">Lost"), "{problems}");
    let (id, now) = (source.id.parse().expect("an id"), OffsetDateTime::now_utc());
    let shown = context.admin().overview(id, now).await.expect("there").standing;
    let became = [shown.waiting, shown.delivered, shown.gave_up, shown.forgotten, shown.missing, shown.erased];
    assert_eq!((shown.accepted, became), (3, [0, 0, 0, 3, 0, 0]));
    let overview = operator.get(&path).await.body;
    assert!(overview.contains("<span class=\"figure \">3</span> forgotten"), "{overview}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_key_that_segment_does_not_know_shows_everywhere_until_there_is_another() {
    let context = Context::new().await;
    let (_service, operator, account) = start(&context).await;
    let source = source_with_dead_letters(&context, &account).await;
    let unknown = format!(
        "insert into write_key_check values ('{}', now(), 'unknown')
        on conflict (source_id) do update set checked_at = excluded.checked_at, verdict = excluded.verdict",
        source.id
    );
    context.execute(&unknown).await;
    let path = format!("/sources/{}", source.id);
    let overview = operator.get(&path).await.body;
    assert!(overview.contains("<title>Not set up") && overview.contains("icon-bad"), "{overview}");
    assert!(overview.contains("Segment does not know the write key"), "{overview}");
    let today = OffsetDateTime::now_utc().date();
    assert!(overview.contains(&format!("{path}/events?since={today}\">Accepted today")), "{overview}");
    let fragment = overview.split("data-live=").nth(1).expect("a live part");
    assert!(fragment.contains("data-state=\"Not set up\"") && fragment.contains("icon-bad"), "{fragment}");
    let all = operator.get("/operator").await.body;
    assert!(all.contains("Need a look<span class=\"figure\">2<") && all.contains("Accepted since "), "{all}");
    context.run(&["source", "set", &source.id, "--endpoint", "http://127.0.0.1:1"]).await;
    context.execute(&unknown).await;
    assert!(!operator.get(&path).await.body.contains("Segment does not know the write key"), "its endpoint is its own");
    context.run(&["source", "set", &source.id, "--endpoint", "none"]).await;
    assert!(!operator.get(&path).await.body.contains("Segment does not know the write key"), "it is asked anew");
}
