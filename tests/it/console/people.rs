//! Who may come in, and how they are let out.

use super::browser::Scripts;
use super::scene::Scene;
use super::stage::{PASSWORD, enter, play};

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_gets_a_new_link_which_ends_all_sessions() {
    play(Scripts::On, async |stage| {
        let browser = &stage.browser;
        stage.context.source("acme").await;
        let elsewhere = stage.another_browser().await;
        enter(&elsewhere, &stage.invite("acme", "bob@example.com", &[]).await).await;
        browser.go("/sign-in").await;
        browser.click("Forgotten your password?").await;
        browser.see("Ask another admin of your account").await;

        stage.enter_as_admin("acme", "ann@example.com").await;
        browser.click("acme").await;
        browser.click("People").await;
        browser.click("bob@example.com").await;
        browser.click("Make a new link").await;
        browser.see("A one-time link for bob@example.com").await;
        let link = browser.content("#link").await;
        browser.click("Sign out").await;
        browser.see("You are signed out.").await;
        browser.go(&link).await;
        browser.see("Choose a new password").await;
        elsewhere.go("/profile").await;
        elsewhere.see("bob@example.com").await;
        browser.fill("New password", "another horse battery staple").await;
        browser.click("Set password and sign in").await;
        browser.see("Sign out").await;
        // His sessions elsewhere have ended, and with them the old password.
        elsewhere.go("/profile").await;
        elsewhere.arrive("/sign-in?next=").await;
        elsewhere.fill("Email address", "bob@example.com").await;
        elsewhere.fill("Password", PASSWORD).await;
        elsewhere.click("Sign in").await;
        elsewhere.see("The address or the password is wrong").await;
        elsewhere.fill("Password", "another horse battery staple").await;
        elsewhere.click("Sign in").await;
        elsewhere.arrive("/profile").await;
        browser.go(&link).await;
        browser.see("This link does not count any more").await;
        elsewhere.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_everywhere_ends_the_sessions_of_all_browsers() {
    play(Scripts::On, async |stage| {
        let browser = &stage.browser;
        let source = stage.context.source("acme").await;
        stage.enter_as_admin("acme", "ann@example.com").await;
        let elsewhere = stage.another_browser().await;
        elsewhere.go("/sign-in").await;
        elsewhere.fill("Email address", "ann@example.com").await;
        elsewhere.fill("Password", PASSWORD).await;
        elsewhere.click("Sign in").await;
        elsewhere.see("Sign out").await;
        elsewhere.go(&format!("/sources/{}/settings", source.id)).await;
        elsewhere.fill("Name", "renamed").await;
        browser.go("/profile").await;
        browser.click("Sign out everywhere").await;
        browser.arrive("/sign-in").await;
        // What was typed meanwhile is not done, and not silently lost.
        elsewhere.click("Save").await;
        elsewhere.see("You were signed out; nothing was changed").await;
        elsewhere.click("Sign in").await;
        elsewhere.arrive("/sign-in").await;
        assert_eq!(stage.context.show(&source.id).await["name"], "nudgespot");
        elsewhere.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_finds_nothing_to_change() {
    play(Scripts::On, async |stage| {
        let browser = &stage.browser;
        let scene = Scene::set(&stage.context, &stage.service).await;
        enter(browser, &stage.invite(&scene.account, "vera@example.com", &["--viewer"]).await).await;
        let mut n_seen = 0;
        for path in scene.pages() {
            browser.go(&path).await;
            let text = browser.text().await;
            // What concerns only oneself, and what changes nothing.
            let is_own = path.starts_with("/profile") || path == "/confirm" || path.ends_with("/doctor");
            if is_own || text.contains("This is not yours to do") {
                continue;
            }
            n_seen += 1;
            let n_changes = browser.count("main form[method=post] button:not(:disabled)").await;
            assert_eq!(n_changes, 0, "{path}: {text}");
        }
        assert!(10 < n_seen, "{n_seen}");
    })
    .await;
}
