//! `demo`: the whole way on one machine, in both directions, with nothing real at either end.

mod calls;
mod events;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::output;
use super::temporary_dir::{self, TemporaryDir};
use crate::admin::{Admin, NewSource};
use crate::app::App;
use crate::config::{Config, ConfigError, Environment};
use crate::domain::name::Name;
use crate::domain::secret::SigningSecret;
use crate::domain::write_key::WriteKey;
use crate::sandbox::{Faults, Sandbox};
use crate::sources;

/// How long an event may take to arrive.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is looked whether somebody still reads stdout.
const LOOK_AT_STDOUT: Duration = Duration::from_millis(500);

/// Whether to stay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Exit when the events and calls have arrived: with 0 only if all did.
    #[arg(long)]
    once: bool,
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
    /// All events and calls arrived.
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
        output::line("Starting a private PostgreSQL and a stand-in for Segment and Nudgespot …")?;
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
        let Some(seen) = stop.run_until_cancelled(self.events(admin)).await else { return Ok(Shown::Stopped) };
        let Seen { account, traces, webhook_url, secret } = seen?;
        output::line(&if self.json { serde_json::to_string_pretty(&traces)? } else { events::table(&traces) })?;
        let mut all_arrived = traces.iter().all(|trace| trace.track.is_some());
        let http = http()?;
        let calls = calls::traces(admin, account, self, &http, &webhook_url, &secret);
        let Some(back) = stop.run_until_cancelled(calls).await else { return Ok(Shown::Stopped) };
        let back = back?;
        all_arrived &= back.all_arrived();
        if !self.json {
            output::line(&back.table())?;
        }
        if !self.once {
            if !self.json {
                let link = admin.first_operator_link().await?.context("a new database has no operator")?;
                output::line(&invitation(&admin.link_url(&link), &webhook_url, &secret, self.segment))?;
            }
            stop.run_until_cancelled(stdout_closed()).await;
        }
        Ok(if all_arrived { Shown::All } else { Shown::NotAll })
    }

    async fn events(&self, admin: &Admin) -> anyhow::Result<Seen> {
        let write_key = WriteKey::parse("demo-write-key")?;
        let first = NewSource { write_key: Some(write_key), ..NewSource::of(sources::Kind::Nudgespot) };
        let source = admin.create_account(&Name::parse("demo")?, first).await?;
        let webhook_url = format!("{}{}", self.url, source.webhook_path);
        let secret = source.signing_secret.context("a source of this kind has a secret")?;
        let traces = events::traces(&http()?, &webhook_url, &secret, self.sandbox).await?;
        Ok(Seen { account: source.account_id, traces, webhook_url, secret })
    }
}

/// What came of the six events, and what is needed to go on.
struct Seen {
    account: Uuid,
    traces: Vec<events::EventTrace>,
    webhook_url: String,
    secret: SigningSecret,
}

fn http() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build()
}

/// Waits until the stand-in has got something, of which `requests` tells; not for ever.
async fn arrives(requests: &mut watch::Receiver<usize>, is_there: impl Fn() -> bool) -> bool {
    tokio::time::timeout(ANSWER_TIMEOUT, requests.wait_for(|_| is_there())).await.is_ok()
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e4).round() / 10.0
}

/// A time in a table.
fn cell(milliseconds: Option<f64>) -> String {
    milliseconds.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.1} ms"))
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

fn invitation(console: &str, webhook_url: &str, secret: &SigningSecret, segment: &str) -> String {
    format!(
        "\nThe console shows each event's journey. This link lets you in, once; choose any address and password:\n\n\
         \x20 {console}\n\n\
         Now you. Post an event of your own, and look at what Segment got (Ctrl-C ends the demo):\n\n\
         \x20 echo '{{\"event\":\"opened\",\"email\":\"me@example.com\"}}' > event.json\n\
         \x20 nudgespot-source sign --secret {} < event.json |\n\
         \x20   curl -H @- --data-binary @event.json {webhook_url}\n\
         \x20 curl http://{segment}/messages\n\n\
         What Nudgespot got: curl http://{segment}/nudgespot/requests",
        secret.expose()
    )
}
