//! What went wrong, and what a person does about it.

use nudgespot_source::sandbox::Fault;
use nudgespot_source::sources::signature::{SigningScheme, sign};
use time::OffsetDateTime;

use super::browser::Scripts;
use super::stage::{Stage, play};
use crate::harness::{events, texts};

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_sent_again() {
    play(Scripts::On, send_again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_sent_again_without_scripts() {
    play(Scripts::Off, send_again).await;
}

async fn send_again(stage: &Stage) {
    let Stage { context, service, browser, .. } = stage;
    let source = context.source("acme").await;
    let base = format!("/sources/{}", source.id);
    stage.enter_as_admin("acme", "ann@example.com").await;
    browser.click("Problems").await;
    browser.see("No event was given up.").await;
    context.segment.faults.always(&source.write_key, Some(Fault::Status(400, None)));
    source.accept(service, &events(1..=3)).await;
    browser.see_at(&format!("{base}/events/e1"), "gave up Segment answered 400").await;
    browser.click("Send again, under Problems").await;
    browser.arrive(&format!("{base}/problems")).await;
    context.source_is(&source.id, |shown| shown["dead_letters"] == 3).await;
    browser.go(&format!("{base}/problems")).await;
    browser.click("Send 3 again").await;
    browser.arrive(&format!("{base}/replays/")).await;
    let refused = browser.path().await;
    browser.see_at(&refused, "Done 0 sent again, 3 refused again.").await;

    // While delivery is paused, none is sent; a cancellation leaves them where they are.
    browser.go(&format!("{base}/settings")).await;
    browser.click("Pause").await;
    browser.see("Paused. Webhooks are taken as ever").await;
    browser.go(&format!("{base}/problems")).await;
    browser.click("Send 3 again").await;
    browser.arrive(&format!("{base}/replays/")).await;
    let cancelled = browser.path().await;
    browser.see_at(&cancelled, "Nothing is sent again at the moment").await;
    browser.click("Cancel").await;
    browser.see_at(&cancelled, "Cancelled 0 sent again, 3 not sent.").await;

    browser.go(&format!("{base}/problems")).await;
    browser.click("Send 3 again").await;
    browser.see("0 sent again, 3 to go").await;
    assert_eq!(browser.count("progress").await, 1);
    let replay = browser.path().await;
    context.segment.faults.always(&source.write_key, None);
    let elsewhere = stage.another_browser().await;
    super::stage::enter(&elsewhere, &stage.invite("acme", "bob@example.com", &[]).await).await;
    elsewhere.go(&format!("{base}/settings")).await;
    elsewhere.click("Resume").await;
    elsewhere.see("Resumed. What waited flows now.").await;
    elsewhere.close().await;
    if stage.scripts == Scripts::On {
        // By itself.
        browser.see("Done 3 sent again.").await;
    } else {
        browser.see_at(&replay, "Done 3 sent again.").await;
    }
    let mut users = texts(&context.messages(3).await, "/userId");
    users.sort();
    assert_eq!(users, ["u1", "u2", "u3"]);
    browser.go(&format!("{base}/events/e2")).await;
    browser.see("Put back, to be sent again").await;
    browser.see("Segment's API has accepted it.").await;
    browser.click("Problems").await;
    browser.see("No event was given up.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_with_a_signature() {
    play(Scripts::On, async |stage| {
        let Stage { context, service, browser, .. } = stage;
        let (source, other) = (context.source("acme").await, context.source("zenith").await);
        let base = format!("/sources/{}", source.id);
        stage.enter_as_admin("acme", "ann@example.com").await;
        let body = events(1..=1).to_string();
        // By what was refused.
        let wrong = other.sign(SigningScheme::Standard, &body);
        assert_eq!(source.post_signed(service, &body, &wrong).await.status, 401);
        browser
            .see_at(&format!("{base}/problems"), "It is signed with another secret: none that this account has")
            .await;
        browser.see("No event was given up.").await;
        // By what is pasted.
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let headers = |at: i64| {
            let signed = sign(&source.secret, SigningScheme::Standard, "msg_1", at, body.as_bytes());
            signed.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
        };
        let altered = body.replace(':', ": ");
        for (at, body, verdict) in [
            (now, body.as_str(), "This source's secret makes this signature."),
            (now, &altered, "The body is not the text that was signed, but the same JSON written anew."),
            (now, &format!("{body}\n"), "White space or a line end was added to the body"),
            (now - 4000, &body, "s behind this server's clock; 300 s are allowed."),
        ] {
            browser.go(&format!("{base}/doctor")).await;
            browser.fill("Headers, one a line", &headers(at)).await;
            browser.fill("Body, byte for byte", body).await;
            browser.click("Judge it").await;
            browser.see(verdict).await;
        }
        // What is shown would let nobody sign.
        browser.fill("Headers, one a line", &headers(now).replace("v1,", "v1,AAAA")).await;
        browser.click("Judge it").await;
        browser.see("It is refused").await;
        let right = headers(now);
        let right = right.lines().find_map(|line| line.split_once("v1,")).expect("a signature").1;
        assert!(!browser.content("div.sentence").await.contains(right));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_is_erased() {
    play(Scripts::On, async |stage| {
        let Stage { context, service, browser, .. } = stage;
        let source = context.source("acme").await;
        let base = format!("/sources/{}", source.id);
        stage.enter_as_admin("acme", "ann@example.com").await;
        let event = |id: &str, email: &str| serde_json::json!({"id": id, "event": "opened", "email": email});
        let all = [
            event("e1", "forget.me@example.com"),
            event("e2", "keep.me@example.com"),
            event("e3", "Forget.Me@example.com"),
        ];
        source.accept(service, &serde_json::Value::from(all.to_vec())).await;
        context.messages(3).await;
        browser.go(&format!("{base}/events?recipient=forget.me%40example.com")).await;
        assert_eq!(browser.count("table.folds tbody tr").await, 2);
        browser.click("acme").await;
        browser.click("Erase").await;
        browser.fill("Address or uid", "forget.me@example.com").await;
        browser.choose("Yes, erase it for good").await;
        browser.click_on("form button.danger").await;
        browser.see("Receipt of an erasure").await;
        // By itself.
        browser.see("1 source was looked through.").await;
        browser.see("f…@example.com").await;
        browser.see_no("forget.me").await;
        browser.see("What Segment or Nudgespot has received").await;
        browser.go(&format!("{base}/events?recipient=forget.me%40example.com")).await;
        browser.see("Nothing matches these filters.").await;
        browser.go(&format!("{base}/events?recipient=keep.me%40example.com")).await;
        assert_eq!(browser.count("table.folds tbody tr").await, 1);
        browser.click("acme").await;
        browser.click("Audit log").await;
        browser.see("f…@example.com").await;
        browser.see_no("forget.me").await;
        // What is sent again stays out.
        let again = source.post(service, &event("e1", "forget.me@example.com")).await;
        assert_eq!(again.body["duplicates"], 1, "{}", again.body);
    })
    .await;
}
