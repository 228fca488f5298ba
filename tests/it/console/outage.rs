//! Segment refuses, or the webhooks do not verify: what the console says, and what is done about it.

use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::sandbox::Fault;
use nudgespot_source::sources::signature::SigningScheme;
use serde_json::json;

use super::browser::Scripts;
use super::stage::{Stage, play};
use crate::harness::{Source, events, sender, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_key_is_told_and_a_new_one_lets_all_flow() {
    play(Scripts::On, new_key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_key_is_told_and_a_new_one_lets_all_flow_without_scripts() {
    play(Scripts::Off, new_key).await;
}

async fn new_key(stage: &Stage) {
    let Stage { context, service, browser, .. } = stage;
    let source = context.source("acme").await;
    let overview = format!("/sources/{}", source.id);
    stage.enter_as_admin("acme", "ann@example.com").await;
    browser.see("No webhook has come yet").await;
    source.accept(service, &events(1..=2)).await;
    context.messages(2).await;
    browser.see_at(&overview, "Delivering").await;
    assert!(browser.title().await.starts_with("Delivering · Overview · acme"), "{}", browser.title().await);

    context.segment.faults.always(&source.write_key, Some(Fault::Status(401, None)));
    source.accept(service, &events(3..=5)).await;
    browser.see_at(&overview, "Segment refused the write key (401). 3 events wait; nothing is lost.").await;
    assert!(browser.title().await.starts_with("Paused"), "{}", browser.title().await);
    browser.click("Enter a new key").await;
    browser.click("Enter another write key").await;
    browser.fill("Write key", "key:with:colons").await;
    browser.click("Save the write key").await;
    browser.see("only letters, digits").await;
    browser.fill("Write key", "another-write-key").await;
    browser.click("Save the write key").await;
    browser.see("The write key is saved.").await;
    context.messages(5).await;
    browser.see_at(&overview, "none waiting").await;
    browser.see("Delivering").await;

    // The journey tells both requests.
    browser.go(&format!("{overview}/events")).await;
    browser.fill("Recipient", "u3").await;
    browser.click("Filter").await;
    browser.see("That is all.").await;
    assert_eq!(browser.count("table.folds tbody tr").await, 1);
    browser.click_on("table.folds tbody a.cover").await;
    browser.see("refused, 401").await;
    browser.see("delivery paused").await;
    browser.see("accepted, 200").await;
    browser.see("\"userId\": \"u3\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_webhooks_are_told_here_and_at_the_status_address() {
    play(Scripts::On, async |stage| {
        let Stage { context, service, browser, .. } = stage;
        let source = context.source("acme").await;
        let other = context.source("zenith").await;
        let overview = format!("/sources/{}", source.id);
        stage.enter_as_admin("acme", "ann@example.com").await;
        browser.go(&format!("{overview}/settings")).await;
        let address = browser.content("#status-address").await;
        let status = async || {
            let path = &address[address.find("/status/").expect("its path")..];
            let answer = sender::http().get(format!("{}{path}", service.console_url)).send().await.expect("an answer");
            (answer.status().as_u16(), answer.text().await.expect("text"))
        };
        source.accept(service, &events(1..=1)).await;
        browser.see_at(&overview, "Delivering").await;
        assert_eq!(status().await.0, 200);

        let body = events(2..=2).to_string();
        for _ in 0..3 {
            let refused = source.post_signed(service, &body, &other.sign(SigningScheme::Standard, &body)).await;
            assert_eq!(refused.status, 401);
        }
        browser.see_at(&overview, "3 refused").await;
        browser.see("Refusing").await;
        assert!(browser.title().await.starts_with("Refusing"), "{}", browser.title().await);
        let (code, text) = status().await;
        assert_eq!((code, text.starts_with("Refusing: No webhook verified since ")), (503, true), "{text}");
        // The secret of another account is not told from any other.
        browser.see_no("zenith").await;

        source.accept(service, &events(3..=3)).await;
        browser.see_at(&overview, "Delivering").await;
        assert_eq!(status().await.0, 200);
        browser.go(&format!("{overview}/settings")).await;
        browser.click("Make a new address…").await;
        browser.click("Make a new address").await;
        browser.see("Changed.").await;
        assert_ne!(browser.content("#status-address").await, address);
        assert_eq!(status().await.0, 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_shows_which_secret_signs() {
    play(Scripts::On, async |stage| {
        let Stage { context, service, browser, .. } = stage;
        let source = context.source("acme").await;
        let settings = format!("/sources/{}/settings", source.id);
        stage.enter_as_admin("acme", "ann@example.com").await;
        browser.go(&settings).await;
        browser.see("No webhook was verified yet.").await;
        browser.click("Make a new signing secret").await;
        browser.click("Make a new secret").await;
        browser.see("It is shown only now.").await;
        let secret = browser.content("#secret").await;
        let rotated = Source { secret: SigningSecret::parse(&secret).expect("a secret"), ..source.clone() };
        let once = browser.path().await;
        browser.go(&once).await;
        browser.see("was shown once, or waited for too long").await;
        browser.see_no(&secret).await;

        source.accept(service, &events(1..=1)).await;
        browser.see_at(&settings, "Last webhook: signed with the previous secret").await;
        // Another one now would end the secret that is in use.
        browser.click("Make a new signing secret").await;
        browser.see("The sender still signs with the previous secret").await;
        browser.see("That one stops at once").await;
        browser.click("Make a new secret").await;
        browser.see("The sender still signs with the previous secret").await;
        browser.click("Cancel").await;
        rotated.accept(service, &events(2..=2)).await;
        browser.see_at(&settings, "Last webhook: signed with the current secret").await;
        browser.click("Make a new signing secret").await;
        browser.see("stops at once").await;
        browser.see_no("still signs").await;
        browser.choose("End the previous secret at once").await;
        browser.click("Make a new secret").await;
        browser.see("It is shown only now.").await;
        let body = json!([{"event": "opened", "uid": "u1"}]);
        until(async || source.post(service, &body).await.status == 401).await;
        assert_eq!(rotated.post(service, &body).await.status, 200);
    })
    .await;
}
