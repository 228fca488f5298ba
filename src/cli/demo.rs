//! `demo`: the whole way on one machine, with nothing real at either end.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::temporary_dir::{self, TemporaryDir};
use super::{output, sign};
use crate::admin::{Admin, NewSource};
use crate::app::App;
use crate::config::{Config, ConfigError, Environment};
use crate::domain::event::Kind;
use crate::domain::name::Name;
use crate::domain::secret::SigningSecret;
use crate::domain::timestamp::rfc3339;
use crate::domain::write_key::WriteKey;
use crate::random;
use crate::sandbox::{Faults, Sandbox};
use crate::sources;
use crate::sources::signature::{self, SigningScheme};

/// How long an event may take to arrive.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is looked whether somebody still reads stdout.
const LOOK_AT_STDOUT: Duration = Duration::from_millis(500);

/// Whether to stay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Exit when the six events have arrived: with 0 only if all did.
    #[arg(long)]
    once: bool,
}

/// One event's journey.
#[derive(Debug, Serialize)]
struct EventTrace {
    /// What Nudgespot calls it.
    event: &'static str,
    /// The track call that arrived.
    track: Option<Value>,
    /// From posting it to the 200, in milliseconds.
    stored_ms: f64,
    /// From posting it to its arrival at the stand-in, in milliseconds.
    arrived_ms: Option<f64>,
}

pub async fn run(env: &Environment, args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let stop = super::stop_signal()?;
    temporary_dir::remove_leftovers().await;
    let dir = TemporaryDir::create().context("a temporary folder for the demo's database")?;
    let shown = Box::pin(show(env, args, json, &dir, &stop)).await;
    dir.remove().await;
    match shown {
        Ok(Shown::NotAll) => bail!("not all events arrived"),
        Ok(Shown::Stopped) if args.once => bail!("interrupted"),
        Ok(Shown::All | Shown::Stopped) => Ok(ExitCode::SUCCESS),
        // Whoever reads has seen enough.
        Err(error) if is_closed_stdout(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

/// How a demo ends.
enum Shown {
    /// All six events arrived.
    All,
    /// Not all of them did.
    NotAll,
    /// A signal came before that was known.
    Stopped,
}

/// Starts everything, shows the events' ways, stays where it is to stay, and stops everything, whatever happens.
async fn show(
    env: &Environment,
    args: &Args,
    json: bool,
    dir: &TemporaryDir,
    stop: &CancellationToken,
) -> anyhow::Result<Shown> {
    let sandbox = Sandbox::new(Faults::default());
    let (server, handle, segment) = sandbox.bind(([127, 0, 0, 1], 0).into())?;
    let server = tokio::spawn(server);
    let config = Config::new(&environment(env, dir.path(), &segment.to_string())?)?;
    if !json {
        output::line("Starting a private PostgreSQL and a stand-in for Segment …")?;
    }
    let Some(app) = stop.run_until_cancelled(App::start(&config)).await else { return Ok(Shown::Stopped) };
    let app = app?;
    let url = format!("http://{}", app.public_address());
    let admin = app.admin();
    let end = CancellationToken::new();
    let mut service = tokio::spawn(app.run(end.clone()));

    let segment = segment.to_string();
    let scene = Scene { url: &url, segment: &segment, sandbox: &sandbox, json, once: args.once };
    let (shown, ended) = tokio::select! {
        shown = scene.play(&admin, stop) => {
            end.cancel();
            (shown, service.await)
        }
        ended = &mut service => (Err(anyhow::anyhow!("the service ended")), ended),
    };
    drop(admin);
    handle.stop(false).await;
    let sandbox_ended = server.await;
    let shown = shown?;
    ended??;
    sandbox_ended??;
    Ok(shown)
}

/// A running service with its stand-in, and what is to be shown with them.
struct Scene<'a> {
    url: &'a str,
    segment: &'a str,
    sandbox: &'a Sandbox,
    json: bool,
    once: bool,
}

impl Scene<'_> {
    async fn play(&self, admin: &Admin, stop: &CancellationToken) -> anyhow::Result<Shown> {
        let Some(seen) = stop.run_until_cancelled(self.traces(admin)).await else { return Ok(Shown::Stopped) };
        let (traces, invitation) = seen?;
        output::line(&if self.json { serde_json::to_string_pretty(&traces)? } else { table(&traces) })?;
        if !self.once {
            if !self.json {
                output::line(&invitation)?;
            }
            stop.run_until_cancelled(stdout_closed()).await;
        }
        let all_arrived = traces.iter().all(|trace| trace.track.is_some());
        Ok(if all_arrived { Shown::All } else { Shown::NotAll })
    }

    async fn traces(&self, admin: &Admin) -> anyhow::Result<(Vec<EventTrace>, String)> {
        let name = Name::parse("demo")?;
        let write_key = WriteKey::parse("demo-write-key")?;
        let first = NewSource { write_key: Some(write_key), ..NewSource::of(sources::Kind::Nudgespot) };
        let source = admin.create_account(&name, first).await?;
        let webhook_url = format!("{}{}", self.url, source.webhook_path);
        let secret = source.signing_secret.context("a source of this kind has a secret")?;
        let traces = traces(&webhook_url, &secret, self.sandbox).await?;
        let link = admin.first_operator_link().await?.context("a new database has no operator")?;
        Ok((traces, invitation(&admin.link_url(&link), &webhook_url, &secret, self.segment)))
    }
}

/// Waits until nobody reads stdout any more, such as a pager that was left.
async fn stdout_closed() {
    let stdout = std::io::stdout();
    loop {
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        // A signal may interrupt it; then it is asked again.
        let is_closed = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| 0 < n);
        if is_closed {
            return;
        }
        tokio::time::sleep(LOOK_AT_STDOUT).await;
    }
}

fn is_closed_stdout(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

/// The demo's own database and ports, whatever the environment says of real ones.
fn environment(env: &Environment, dir: &Path, segment: &str) -> Result<Environment, ConfigError> {
    let free = "127.0.0.1:0";
    let variables = [
        ("DATA_DIR", dir.to_str().unwrap_or_default()),
        ("BIND", env.get("BIND")?.unwrap_or(free)),
        ("CONSOLE_BIND", env.get("CONSOLE_BIND")?.unwrap_or(free)),
        ("INTERNAL_BIND", env.get("INTERNAL_BIND")?.unwrap_or(free)),
        ("SEGMENT_US_URL", &format!("http://{segment}")),
        ("SEGMENT_CDN_URL", &format!("http://{segment}")),
        ("NUDGESPOT_URL", &format!("http://{segment}")),
    ];
    Ok(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The six events, as Nudgespot would report them.
fn events() -> [Value; 6] {
    let person = json!({"uid": "019mr8mf4r", "email": "pgibbons@example.com", "first_name": "Peter"});
    let email = json!({"email_id": "18vzF7u3z", "email_subject": "First shirt on us!", "campaign_id": "123",
                       "campaign_name": "New Customer Discount"});
    let event = |name: &str, more: Value| {
        let mut properties = email.clone();
        if let (Some(all), Value::Object(more)) = (properties.as_object_mut(), more) {
            all.extend(more);
        }
        json!({
            "id": format!("evt_{}", hex::encode(random::bytes::<8>())), "event": name,
            "timestamp": rfc3339(OffsetDateTime::now_utc()), "subscriber": person, "properties": properties,
        })
    };
    [
        event("delivered", json!({})),
        event("opened", json!({"ip": "67.207.109.102", "user_agent": "Mozilla/5.0 (Macintosh)"})),
        event("clicked", json!({"link_id": "101", "link_url": "https://www.buymyshirts.com?promo=NEWCUSTOMER"})),
        event("hard_bounced", json!({"reason": "550 5.1.1 no such user"})),
        event("marked_as_spam", json!({})),
        event("unsubscribed", json!({"list_id": "1425", "list_name": "New customers"})),
    ]
}

/// Posts the events, one after the other, and waits for each to arrive.
async fn traces(url: &str, secret: &SigningSecret, sandbox: &Sandbox) -> anyhow::Result<Vec<EventTrace>> {
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build()?;
    let mut requests = sandbox.subscribe();
    let mut traces = Vec::new();
    for (event, kind) in events().into_iter().zip(Kind::EMAIL) {
        let body = event.to_string();
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let headers = signature::sign(secret, SigningScheme::Standard, &sign::new_webhook_id(), now, body.as_bytes());
        let began = Instant::now();
        let mut request = http.post(url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.context("posting a webhook")?;
        anyhow::ensure!(answer.status().is_success(), "a webhook was answered with {}", answer.status());
        let stored_ms = milliseconds(began);
        let n_before = traces.len();
        let arrived = requests.wait_for(|_| sandbox.messages().len() > n_before);
        let arrived = tokio::time::timeout(ANSWER_TIMEOUT, arrived).await.is_ok();
        let arrived_ms = arrived.then(|| milliseconds(began));
        traces.push(EventTrace { event: kind.as_str(), track: sandbox.messages().pop(), stored_ms, arrived_ms });
    }
    Ok(traces)
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e4).round() / 10.0
}

fn table(traces: &[EventTrace]) -> String {
    let rows: Vec<Vec<String>> = traces
        .iter()
        .map(|trace| {
            let text = |pointer: &str| {
                let value = trace.track.as_ref().and_then(|track| track.pointer(pointer)).and_then(Value::as_str);
                value.unwrap_or("-").to_owned()
            };
            let detail = ["/properties/link_url", "/properties/bounce_reason", "/properties/list_name"].map(text);
            let [id, event, user] = ["/messageId", "/event", "/userId"].map(text);
            vec![
                trace.event.to_owned(),
                event,
                user,
                id.chars().take(18).chain(['…']).collect(),
                format!("{:.1} ms", trace.stored_ms),
                trace.arrived_ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.1} ms")),
                detail.into_iter().find(|detail| detail != "-").unwrap_or_else(|| text("/properties/email_subject")),
            ]
        })
        .collect();
    let headings = ["Nudgespot says", "Segment hears", "userId", "messageId", "stored", "arrived", "about"];
    let n_arrived = traces.iter().filter(|trace| trace.arrived_ms.is_some()).count();
    format!(
        "\n{}\n\n{n_arrived} of {} events arrived: signed, stored in PostgreSQL, sent to the stand-in for Segment.",
        output::table(&headings, &rows),
        traces.len()
    )
}

fn invitation(console: &str, webhook_url: &str, secret: &SigningSecret, segment: &str) -> String {
    format!(
        "\nThe console shows each event's journey. This link lets you in, once; choose any address and password:\n\n\
         \x20 {console}\n\n\
         Now you. Post an event of your own, and look at what Segment got (Ctrl-C ends the demo):\n\n\
         \x20 echo '{{\"event\":\"opened\",\"email\":\"me@example.com\"}}' > event.json\n\
         \x20 nudgespot-source sign --secret {} < event.json |\n\
         \x20   curl -H @- --data-binary @event.json {webhook_url}\n\
         \x20 curl http://{segment}/messages",
        secret.expose()
    )
}
