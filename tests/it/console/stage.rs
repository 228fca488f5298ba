//! Where a test of pages plays: a service, and a browser that looks at it.

use super::browser::{Browser, Scripts};
use super::driver;
use crate::harness::{Context, Service};

/// A password that anybody on the stage has.
pub const PASSWORD: &str = "correct horse battery staple";

/// A running service, its surroundings, and a browser.
pub struct Stage {
    pub context: Context,
    pub service: Service,
    pub browser: Browser,
    /// Whether they run in the browser.
    pub scripts: Scripts,
    driver_url: &'static str,
}

/// Plays a test, where there is a browser. At its end the browser must have had nothing to complain of.
pub async fn play(scripts: Scripts, test: impl AsyncFnOnce(&Stage)) {
    let Some(driver_url) = driver::url() else { return };
    let context = Context::new().await;
    let service = context.serve().await;
    let browser = Browser::start(driver_url, &service.console_url, scripts).await;
    let stage = Stage { context, service, browser, scripts, driver_url };
    test(&stage).await;
    stage.browser.close().await;
}

impl Stage {
    /// Another browser, such as another person has. It is to be closed.
    pub async fn another_browser(&self) -> Browser {
        Browser::start(self.driver_url, &self.service.console_url, Scripts::On).await
    }

    /// Signs an operator in, by a link that the command line makes.
    pub async fn enter_as_operator(&self, email: &str) {
        let invited = self.context.run(&["operator", "invite", "--email", email]).await;
        enter(&self.browser, invited["link"].as_str().expect("a link")).await;
    }

    /// Signs an admin of an account in, by a link that the command line makes.
    pub async fn enter_as_admin(&self, account: &str, email: &str) {
        enter(&self.browser, &self.invite(account, email, &[]).await).await;
    }

    /// A one-time link for somebody of an account.
    pub async fn invite(&self, account: &str, email: &str, more: &[&str]) -> String {
        let invited = self.context.run(&[&["account", "invite", account, "--email", email], more].concat()).await;
        invited["link"].as_str().expect("a link").to_owned()
    }
}

/// Uses a one-time link. The host in it may be another: the command line does not know on which port the service listens.
pub async fn enter(browser: &Browser, link: &str) {
    let path = link.find("/links/").map(|at| &link[at..]).expect("a link");
    browser.go(path).await;
    browser.fill("Password", PASSWORD).await;
    browser.click("Begin").await;
    browser.see("Sign out").await;
}
