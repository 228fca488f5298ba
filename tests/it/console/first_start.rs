//! From a service that nobody runs yet to the first event that arrives.

use serde_json::json;

use super::browser::Scripts;
use super::stage::{PASSWORD, Stage, play};
use crate::harness::{Source, events, texts};

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_start_to_six_test_events() {
    play(Scripts::On, set_up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_without_scripts() {
    play(Scripts::Off, set_up).await;
}

async fn set_up(stage: &Stage) {
    let Stage { context, service, browser, .. } = stage;
    let link = service.first_operator_link().await;
    browser.go(&link).await;
    browser.see("Whoever uses this link becomes its operator").await;
    // To look does not use it up.
    browser.go(&link).await;
    browser.fill("Your email address", "olga@example.com").await;
    browser.fill("Password", "short").await;
    browser.fill("Password", PASSWORD).await;
    browser.click("Begin").await;
    browser.arrive("/operator").await;
    browser.see("No account yet").await;

    browser.click("New account").await;
    browser.fill("Name", "Acme & Sons").await;
    browser.fill("Email address of its first admin", "ann@example.com").await;
    browser.click("Make the account").await;
    browser.see("A one-time link for ann@example.com").await;
    let invitation = browser.content("#link").await;
    browser.click("Sign out").await;
    browser.see("You are signed out.").await;

    browser.go(&link).await;
    browser.see("This link does not count any more").await;
    browser.go(&invitation).await;
    browser.see("This link lets you into the account Acme & Sons").await;
    browser.fill("Password", PASSWORD).await;
    browser.click("Begin").await;
    browser.arrive("/sources/").await;
    browser.click("Set-up").await;
    browser.see("No webhook came yet").await;
    browser.fill("Write key", "known-write-key").await;
    browser.click("Save the write key").await;
    browser.see("Known to Segment").await;
    browser.see_no("known-write-key").await;

    browser.choose("All kinds").await;
    browser.choose("Yes, send it to all tools").await;
    browser.click("Send a test event").await;
    browser.see("The test events are on their way").await;
    let messages = context.messages(6).await;
    assert_eq!(messages.len(), 6);
    assert!(texts(&messages, "/userId").iter().all(|user| user == "nudgespot-source-test"), "{messages:?}");
    assert!(messages.iter().all(|message| message["properties"]["test"] == true), "{messages:?}");
    let set_up = browser.path().await;
    browser.see_at(&set_up, "Segment's API has accepted the test event").await;
    // The sender itself has not come yet.
    browser.see("No webhook came yet").await;
    browser.see_no("Webhooks are verified").await;
    browser.click("Its journey").await;
    browser.see("Received").await;
    browser.see("accepted, 200").await;
    browser.see("\"test\": true").await;
    browser.go(&set_up).await;
    let url = browser.content("#webhook-url").await;
    browser.click("Make a signing secret and see it").await;
    browser.click("Make a new secret").await;
    browser.see("It is shown only now.").await;
    let created = json!({
        "source_id": "", "signing_secret": browser.content("#secret").await,
        "webhook_path": url[url.find("/webhooks/").expect("its path")..],
    });
    Source::new("acme", &created).accept(service, &events(1..=1)).await;
    context.messages(7).await;
    browser.see_at(&set_up, "Webhooks are verified, and Segment's API has accepted events").await;
    browser.click("Overview").await;
    browser.see("Delivering").await;
    browser.see("7 delivered").await;
}
