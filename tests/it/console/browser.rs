//! A browser of a test's own, and what a person does with it.

use std::str::FromStr;
use std::time::{Duration, Instant};

use fantoccini::error::{CmdError, ErrorStatus};
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::harness::ask_again;

/// Longer than a page takes on a busy machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// What an element's text is looked for in: what is seen on the page, not what is hidden in it.
const BODY: Locator<'static> = Locator::Css("body");

/// A browser without a past, at one console.
pub struct Browser {
    client: Client,
    console_url: String,
}

/// Whether pages' scripts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripts {
    On,
    /// By the browser's content settings, as a person would switch them off.
    Off,
}

/// A command that only Chromium knows.
#[derive(Debug)]
struct Special {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Special {
    fn endpoint(&self, base_url: &Url, session: Option<&str>) -> Result<Url, <Url as FromStr>::Err> {
        base_url.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// Starts a browser, 1280 pixels wide.
    pub async fn start(driver_url: &str, console_url: &str, scripts: Scripts) -> Self {
        let setting = if scripts == Scripts::On { 1 } else { 2 };
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-breakpad",
            "--no-first-run",
            "--force-prefers-reduced-motion",
            "--window-size=1280,900",
        ];
        let capabilities: Capabilities = [
            ("goog:loggingPrefs", json!({"browser": "ALL"})),
            (
                "goog:chromeOptions",
                json!({"args": args, "prefs": {"profile.managed_default_content_settings.javascript": setting}}),
            ),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(driver_url).await.expect("a browser");
        Self { client, console_url: console_url.to_owned() }
    }

    /// Opens a page by its path, or by its whole URL.
    pub async fn go(&self, path: &str) {
        let url = if path.starts_with('/') { format!("{}{path}", self.console_url) } else { path.to_owned() };
        self.client.goto(&url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// The path of the page, with its query.
    pub async fn path(&self) -> String {
        let url = self.client.current_url().await.expect("a URL");
        url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
    }

    pub async fn title(&self) -> String {
        self.client.title().await.expect("a title")
    }

    /// What is seen of the page, on one line.
    pub async fn text(&self) -> String {
        let text = async { self.client.find(BODY).await?.text().await };
        let text = text.await.unwrap_or_else(|error| format!("no text: {error}"));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Waits until the page shows this text.
    pub async fn see(&self, wanted: &str) {
        self.wait_until(&format!("shows {wanted:?}"), async || self.text().await.contains(wanted)).await;
    }

    /// Opens a page again and again, until it shows this text: for what comes by itself, at its own time.
    pub async fn see_at(&self, path: &str, wanted: &str) {
        let is_so = async || {
            self.go(path).await;
            self.text().await.contains(wanted)
        };
        self.wait_until(&format!("shows {wanted:?}"), is_so).await;
    }

    /// The page must not show this text.
    pub async fn see_no(&self, unwanted: &str) {
        let text = self.text().await;
        assert!(!text.contains(unwanted), "{unwanted:?} on {}: {text}", self.path().await);
    }

    /// Waits until the page is at a path that begins like this.
    pub async fn arrive(&self, path: &str) {
        self.wait_until(&format!("is at {path}"), async || self.path().await.starts_with(path)).await;
    }

    async fn wait_until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !is_so().await {
            assert!(
                began.elapsed() < PATIENCE,
                "never: the page {what}. It is {} ({}): {}\n{:?}",
                self.path().await,
                self.title().await,
                self.text().await,
                self.log().await
            );
            ask_again().await;
        }
    }

    /// Writes into the field with this label.
    pub async fn fill(&self, label: &str, text: &str) {
        let label = literal(label);
        let field = format!("//*[@id=//label[starts-with(normalize-space(.), {label})]/@for]");
        self.act(&field, async |element: &Element| {
            element.clear().await?;
            element.send_keys(text).await
        })
        .await;
    }

    /// Ticks what has this label.
    pub async fn choose(&self, label: &str) {
        let choice = format!("//label[contains(normalize-space(.), {})]//input", literal(label));
        self.act(&choice, async |element: &Element| element.click().await).await;
    }

    /// Clicks on the button, link or summary that reads like this.
    pub async fn click(&self, text: &str) {
        let text = literal(text);
        let xpath = format!("//*[self::button or self::a or self::summary][normalize-space(.) = {text}]");
        self.act(&xpath, async |element: &Element| element.click().await).await;
    }

    /// Clicks on what a selector finds.
    pub async fn click_on(&self, css: &str) {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("{css}: {error}")).click().await.expect("clicked");
    }

    /// Does something to the first element that takes it. A live part of the page may be replaced in between: then it is
    /// looked for once more.
    async fn act(&self, xpath: &str, action: impl AsyncFn(&Element) -> Result<(), CmdError>) {
        let began = Instant::now();
        loop {
            let mut last = None;
            for element in self.client.find_all(Locator::XPath(xpath)).await.expect("a list") {
                if !element.is_displayed().await.unwrap_or_default() {
                    continue;
                }
                match action(&element).await {
                    Ok(()) => return,
                    Err(error) if is_passing(&error) => last = Some(error),
                    Err(error) => panic!("{xpath}: {error}"),
                }
            }
            assert!(
                began.elapsed() < PATIENCE,
                "never: {xpath} ({last:?}) on {}: {}",
                self.path().await,
                self.text().await
            );
            ask_again().await;
        }
    }

    /// How many elements a selector finds.
    pub async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.expect("a list").len()
    }

    /// What an element holds, as text.
    pub async fn content(&self, css: &str) -> String {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        found.unwrap_or_else(|error| panic!("{css}: {error}")).text().await.expect("text")
    }

    /// Runs a script in the page.
    pub async fn run(&self, script: &str, args: Vec<Value>) -> Value {
        self.client.execute(script, args).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a script in the page, which calls its last argument when it is done.
    pub async fn run_async(&self, script: &str, args: Vec<Value>) -> Value {
        self.client.execute_async(script, args).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes the page this wide: a window cannot be as narrow as a phone.
    pub async fn set_width(&self, width: u32) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        let body = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": size});
        self.special("goog/cdp/execute", body).await;
    }

    /// Runs a script in every page before its own, whatever the page's policy is.
    pub async fn add_to_every_page(&self, script: &str) {
        let cmd = "Page.addScriptToEvaluateOnNewDocument";
        self.special("goog/cdp/execute", json!({"cmd": cmd, "params": {"source": script}})).await;
    }

    /// Says from now on that it is another browser.
    pub async fn set_user_agent(&self, user_agent: &str) {
        let cmd = "Network.setUserAgentOverride";
        self.special("goog/cdp/execute", json!({"cmd": cmd, "params": {"userAgent": user_agent}})).await;
    }

    async fn special(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Special { path, body }).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// What the browser has complained of since it was asked last: what a page's policy forbids, errors of its script.
    async fn log(&self) -> Vec<String> {
        let entries = self.special("se/log", json!({"type": "browser"})).await;
        let entries = entries.as_array().expect("a list").iter();
        let is_complaint = |entry: &&Value| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            // That an answer was 404 or 422 is for the test to judge.
            let is_status = text("source") == "network" && text("message").contains("responded with a status of");
            matches!(text("level"), "SEVERE" | "WARNING") && !is_status
        };
        entries.filter(is_complaint).map(ToString::to_string).collect()
    }

    /// Ends the browser, which must have had nothing to complain of.
    pub async fn close(self) {
        let log = self.log().await;
        self.client.close().await.expect("closed");
        assert!(log.is_empty(), "the browser complains: {log:#?}");
    }
}

/// Whether an element may be there, or be ready, in the next moment.
fn is_passing(error: &CmdError) -> bool {
    matches!(
        error,
        CmdError::Standard(error) if matches!(
            error.error,
            ErrorStatus::StaleElementReference
                | ErrorStatus::ElementNotInteractable
                | ErrorStatus::ElementClickIntercepted
                | ErrorStatus::NoSuchElement
        )
    )
}

/// A text inside an `XPath`.
fn literal(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
}
