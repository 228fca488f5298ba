//! Setting a source of calls up: Nudgespot's key, what to click at Segment, a test.

use actix_web::HttpResponse;
use actix_web::web::{Data, Form};
use askama::Template;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use super::super::Console;
use super::super::failure::Failure;
use super::super::frame::{Frame, page, page_again, see_other};
use super::super::visit::Visit;
use super::checklist::{Checklist, Seen};
use crate::admin::audit::Action;
use crate::admin::{CallOptions, Edit, KeyCheck, SourceView};
use crate::domain::nudgespot_key::NudgespotKey;
use crate::sources::TEST_USER;

#[derive(Template)]
#[template(path = "set_up_calls.html", blocks = ["checklist"])]
#[expect(clippy::struct_excessive_bools, reason = "each is a condition of the template")]
struct SetUpPage {
    frame: Frame,
    id: Uuid,
    may_change: bool,
    source: SourceView,
    error: Option<String>,
    key_last4: Option<String>,
    key_check: Option<KeyCheck>,
    is_key_unknown: bool,
    seen: Seen,
    snippets: Snippets,
    test_user: &'static str,
    /// The message id of a test call that was sent.
    test: Option<String>,
    test_line: Option<String>,
    test_arrived: bool,
    is_done: bool,
}

/// What is pasted elsewhere.
struct Snippets {
    node: String,
    python: String,
    browser: String,
    function: String,
}

/// What the page sends.
#[derive(Deserialize)]
pub struct KeyForm {
    nudgespot_key: SecretString,
}

/// `POST /sources/{source}/set-up/nudgespot-key`
pub async fn save_key(console: Data<Console>, visit: Visit, form: Form<KeyForm>) -> Result<HttpResponse, Failure> {
    let source = visit.source()?;
    let key = match NudgespotKey::parse(form.nudgespot_key.expose_secret()) {
        Ok(key) => key,
        Err(error) => return again(&console, &visit, error.to_string()).await,
    };
    let detail = format!("{}: Nudgespot key …{}", source.name, key.last4());
    let edit = Edit { calls: CallOptions { nudgespot_key: Some(key), ..CallOptions::default() }, ..Edit::default() };
    console.admin.edit_source(&source.id.to_string(), edit, visit.now).await?;
    console.record(&visit, Action::SourceChanged, &detail).await?;
    console.set_up.check_write_key(source.id, visit.now).await?;
    Ok(see_other(&format!("/sources/{}/set-up?notice=rest-key-saved", source.id)))
}

/// The page.
pub(super) async fn show(console: &Console, visit: &Visit, test: Option<String>) -> Result<HttpResponse, Failure> {
    let shown = set_up(console, visit, test, None).await?;
    if visit.is_fragment { page(&shown.as_checklist()) } else { page(&shown) }
}

/// The page once more, as what was asked for cannot be done.
pub(super) async fn again(console: &Console, visit: &Visit, error: String) -> Result<HttpResponse, Failure> {
    page_again(&set_up(console, visit, None, Some(error)).await?)
}

async fn set_up(
    console: &Console,
    visit: &Visit,
    test: Option<String>,
    error: Option<String>,
) -> Result<SetUpPage, Failure> {
    let Checklist { frame, source, key_check, seen, test, test_line, test_arrived, is_done } =
        Checklist::read(console, visit, test).await?;
    let host = source.webhook_url.split("/webhooks/").next().unwrap_or_default();
    Ok(SetUpPage {
        frame,
        id: visit.source()?.id,
        may_change: visit.may_change,
        error,
        key_last4: source.calls.as_ref().and_then(|calls| calls.nudgespot_key_last4.clone()),
        is_key_unknown: key_check.as_ref().is_some_and(KeyCheck::is_unknown),
        key_check,
        seen,
        snippets: Snippets::new(host, &source.webhook_url),
        test_user: TEST_USER,
        test,
        test_line,
        test_arrived,
        is_done,
        source,
    })
}

impl Snippets {
    /// `host` is the beginning of the service's own URL.
    fn new(host: &str, webhook_url: &str) -> Self {
        let (protocol, bare_host) = host.split_once("://").unwrap_or(("https", host));
        Self {
            node: format!(
                "import {{ Analytics }} from '@segment/analytics-node'\n\n\
                 const analytics = new Analytics({{\n  writeKey: 'INGEST_KEY',\n  host: '{host}',\n}})"
            ),
            python: format!(
                "import segment.analytics as analytics\n\n\
                 analytics.write_key = 'INGEST_KEY'\nanalytics.host = '{host}'"
            ),
            browser: format!(
                "import {{ AnalyticsBrowser }} from '@segment/analytics-next'\n\n\
                 const analytics = AnalyticsBrowser.load({{\n  writeKey: 'INGEST_KEY',\n  cdnSettings: {{\n    \
                 integrations: {{\n      'Segment.io': {{\n        apiKey: 'INGEST_KEY',\n        \
                 apiHost: '{bare_host}/v1',\n        protocol: '{protocol}',\n      }},\n    }},\n  }},\n}})"
            ),
            function: format!(
                "async function send(call, settings) {{\n  const response = await fetch('{webhook_url}', {{\n    \
                 method: 'POST',\n    headers: {{\n      Authorization: `Basic ${{btoa(settings.ingestKey + ':')}}`,\n      \
                 'Content-Type': 'application/json',\n    }},\n    body: JSON.stringify(call),\n  }})\n  \
                 if (response.status >= 500 || [408, 429].includes(response.status)) {{\n    \
                 throw new RetryError(`HTTP ${{response.status}}`)\n  }}\n  if (!response.ok) {{\n    \
                 throw new Error(`HTTP ${{response.status}}: ${{await response.text()}}`)\n  }}\n}}\n\n\
                 async function onIdentify(call, settings) {{\n  await send(call, settings)\n}}\n\n\
                 async function onTrack(call, settings) {{\n  await send(call, settings)\n}}\n\n\
                 async function onDelete(call, settings) {{\n  await send(call, settings)\n}}"
            ),
        }
    }
}
