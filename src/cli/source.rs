//! `source`: what sends to the service. Works on the database; a running service takes notice by itself.

use clap::Subcommand;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::calls::{CallArgs, tell_of_key};
use super::session::{Session, confirm, read_write_key};
use super::{output, stdin};
use crate::admin::audit::Action;
use crate::admin::{CallOptions, Created, Edit, NewSource, SourceView};
use crate::config::{Environment, endpoint};
use crate::domain::name::Name;
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::domain::timestamp::rfc3339;
use crate::domain::unsubscribe_event::UnsubscribeEvent;
use crate::domain::write_key::WriteKey;
use crate::sources::Kind;

/// What to do. `S` is a source's id, `A/N` (account and source by name), or just `A` where the account has one source.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a source to an account: prints its webhook URL and, where they are made here, its secrets, once.
    #[command(group(clap::ArgGroup::new("settings").multiple(true)))]
    Add {
        /// The account's id or name.
        #[arg(value_name = "A")]
        account: String,
        /// What sends to it.
        #[arg(long)]
        kind: Kind,
        /// A name, unique in the account; its kind, where none is given.
        #[arg(long, value_name = "N", value_parser = Name::parse)]
        name: Option<Name>,
        /// The Segment write key; `-` reads it from stdin. Without one, events wait.
        #[arg(long, value_name = "K", value_parser = stdin::secret_argument)]
        write_key: Option<SecretString>,
        /// The region of the Segment workspace: us, unless given, or eu.
        #[arg(long)]
        region: Option<Region>,
        /// The signing secret, where the sender makes it; `-` reads it from stdin (after the write key).
        #[arg(long, value_name = "S", value_parser = stdin::secret_argument)]
        signing_secret: Option<SecretString>,
        #[command(flatten)]
        calls: Box<CallArgs>,
    },
    /// List an account's sources.
    List {
        /// The account's id or name.
        #[arg(value_name = "A")]
        account: String,
    },
    /// Show one source.
    Show {
        /// Which.
        #[arg(value_name = "S")]
        source: String,
    },
    /// Change settings.
    Set(Box<Set>),
    /// Stop delivery; webhooks are taken as ever, and their events wait.
    Pause {
        /// Which.
        #[arg(value_name = "S")]
        source: String,
    },
    /// Let events flow again, now.
    Resume {
        /// Which.
        #[arg(value_name = "S")]
        source: String,
    },
    /// Give up the next events of a source, where the log cannot be read there, so that those behind them flow.
    SkipUnreadable {
        /// Which.
        #[arg(value_name = "S")]
        source: String,
    },
    /// Make a new signing secret; the one before verifies for another 24 hours.
    RotateSecret {
        /// Which.
        #[arg(value_name = "S")]
        source: String,
    },
    /// Make a new webhook URL; the one before is dead at once.
    RotateUrl {
        /// Which.
        #[arg(value_name = "S")]
        source: String,
    },
    /// Delete a source and all its events.
    Delete {
        /// Which.
        #[arg(value_name = "S")]
        source: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// The settings to change.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("settings").required(true).multiple(true)))]
pub struct Set {
    /// Which.
    #[arg(value_name = "S")]
    source: String,
    /// A name, unique in the account.
    #[arg(long, group = "settings", value_parser = Name::parse)]
    name: Option<Name>,
    /// The Segment write key; `-` reads it from stdin.
    #[arg(long, group = "settings", value_name = "K", value_parser = stdin::secret_argument)]
    write_key: Option<SecretString>,
    /// The region of the Segment workspace: us or eu.
    #[arg(long, group = "settings")]
    region: Option<Region>,
    /// A compatible API instead of Segment (of a `segment` source: of Nudgespot): https, or http to loopback. `none`: the
    /// real one again.
    #[arg(long, group = "settings", value_name = "URL", value_parser = parse_endpoint)]
    endpoint: Option<Endpoint>,
    /// What an unsubscription is called: "Email Unsubscribed" or "Unsubscribed".
    #[arg(long, group = "settings", value_name = "NAME")]
    unsubscribe_event: Option<UnsubscribeEvent>,
    /// Whether signatures without a timestamp, which can be replayed, are accepted.
    #[arg(long, group = "settings", value_name = "BOOL")]
    allow_untimestamped: Option<bool>,
    /// The signing secret, where the sender makes it; `-` reads it from stdin (after the write key).
    #[arg(long, group = "settings", value_name = "S", value_parser = stdin::secret_argument)]
    signing_secret: Option<SecretString>,
    #[command(flatten)]
    calls: CallArgs,
}

/// Where events go; `None`: to the region's endpoint, or Nudgespot's.
#[derive(Clone, Debug)]
struct Endpoint(Option<Url>);

/// What is read from stdin, or from arguments that may be secrets.
#[derive(Default)]
struct Secrets {
    write_key: Option<WriteKey>,
    signing_secret: Option<SigningSecret>,
    calls: CallOptions,
}

impl Secrets {
    fn read(
        write_key: Option<&SecretString>,
        signing_secret: Option<&SecretString>,
        calls: &CallArgs,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            calls: calls.read()?,
            write_key: write_key.map(read_write_key).transpose()?,
            signing_secret: signing_secret.map(read_signing_secret).transpose()?,
        })
    }
}

pub async fn run(env: &Environment, command: Command, json: bool) -> anyhow::Result<()> {
    // Asked, read and checked before the database is opened.
    let mut secrets = Secrets::default();
    match &command {
        Command::Add { write_key, signing_secret, calls, .. } => {
            secrets = Secrets::read(write_key.as_ref(), signing_secret.as_ref(), calls)?;
        }
        Command::Set(set) => secrets = Secrets::read(set.write_key.as_ref(), set.signing_secret.as_ref(), &set.calls)?,
        Command::Delete { source, yes: false } => confirm("source", source)?,
        _ => {}
    }
    Session::run(env, json, async |session| execute(session, command, secrets).await).await
}

async fn execute(session: &Session, command: Command, secrets: Secrets) -> anyhow::Result<()> {
    let admin = &session.admin;
    match command {
        Command::Add { account, kind, name, region, .. } => {
            let account = admin.find_account(&account).await?;
            let Secrets { write_key, signing_secret, calls } = secrets;
            let nudgespot_key = calls.nudgespot_key.clone();
            let new = NewSource { kind, name, write_key, region, signing_secret, calls };
            let created = admin.add_source(&account, new).await?;
            session.record(Some(account.id), Action::SourceCreated, &created.name).await?;
            print_created(session, &created)?;
            tell_of_key(&session.nudgespot, None, nudgespot_key.as_ref()).await
        }
        Command::List { account } => {
            let sources = admin.show_sources(&account).await?;
            warn(&sources);
            output::print(session.json, &sources, || {
                let rows: Vec<Vec<String>> = sources.iter().map(|source| row(source).collect()).collect();
                let headings =
                    ["source", "kind", "region", "key", "waiting", "delivered", "dead", "state", "source_id"];
                output::table(&headings, &rows)
            })?;
            Ok(())
        }
        Command::Show { source } => show(session, &source).await.map(drop),
        Command::Set(set) => {
            let edit = Edit {
                name: set.name,
                write_key: secrets.write_key,
                region: set.region,
                endpoint: set.endpoint.map(|endpoint| endpoint.0),
                unsubscribe_event: set.unsubscribe_event,
                allow_untimestamped: set.allow_untimestamped,
                signing_secret: secrets.signing_secret,
                calls: secrets.calls,
            };
            let nudgespot_key = edit.calls.nudgespot_key.clone();
            let detail = format!(": {}", edit.names().join(", "));
            let found = Found::new(session, &set.source).await?;
            admin.edit_source(&found.id, edit, OffsetDateTime::now_utc()).await?;
            found.record(session, Action::SourceChanged, &detail).await?;
            let source = show(session, &found.id).await?;
            tell_of_key(&session.nudgespot, source.endpoint.as_deref(), nudgespot_key.as_ref()).await
        }
        Command::Pause { source } => {
            let found = Found::new(session, &source).await?;
            admin.pause(&found.id).await?;
            found.record(session, Action::SourcePaused, "").await?;
            show(session, &found.id).await.map(drop)
        }
        Command::Resume { source } => {
            let found = Found::new(session, &source).await?;
            admin.resume(&found.id).await?;
            found.record(session, Action::SourceResumed, "").await?;
            show(session, &found.id).await.map(drop)
        }
        Command::SkipUnreadable { source } => {
            let found = Found::new(session, &source).await?;
            let n_skipped = admin.skip_unreadable(&found.id).await?;
            found.record(session, Action::UnreadableSkipped, &format!(": {n_skipped}")).await?;
            session.print(&json!({"skipped": n_skipped}))
        }
        Command::RotateSecret { source } => {
            let found = Found::new(session, &source).await?;
            let rotated = admin.rotate_secret(&found.id, OffsetDateTime::now_utc()).await?;
            found.record(session, Action::SecretRotated, "").await?;
            let mut value = json!({"previous_valid_until": rfc3339(rotated.previous_until)});
            add_secrets(&mut value, rotated.kind, &rotated.secret);
            session.print(&value)
        }
        Command::RotateUrl { source } => {
            let found = Found::new(session, &source).await?;
            let (path, url) = admin.rotate_url(&found.id).await?;
            found.record(session, Action::UrlRotated, "").await?;
            session.print(&json!({"webhook_url": url, "webhook_path": path}))
        }
        Command::Delete { source, .. } => {
            let found = Found::new(session, &source).await?;
            admin.delete_source(&found.id).await?;
            found.record(session, Action::SourceDeleted, "").await?;
            session.print(&json!({"deleted": source}))
        }
    }
}

/// A source that is about to be changed, by what stays the same.
struct Found {
    id: String,
    account: Uuid,
    name: String,
}

impl Found {
    async fn new(session: &Session, text: &str) -> anyhow::Result<Self> {
        let source = session.admin.find_source(text).await?;
        Ok(Self { id: source.id.to_string(), account: source.account_id, name: source.name })
    }

    async fn record(&self, session: &Session, action: Action, detail: &str) -> anyhow::Result<()> {
        session.record(Some(self.account), action, &format!("{}{detail}", self.name)).await
    }
}

/// Prints a source as it is now, and returns it.
async fn show(session: &Session, source: &str) -> anyhow::Result<SourceView> {
    let source = session.admin.show_source(source).await?;
    warn(std::slice::from_ref(&source));
    session.print(&source)?;
    Ok(source)
}

/// Prints a new source, with the secrets that were made for it.
pub fn print_created(session: &Session, created: &Created) -> anyhow::Result<()> {
    let mut value = json!({
        "account_id": created.account_id.to_string(),
        "source_id": created.id.to_string(),
        "webhook_url": created.webhook_url,
        "webhook_path": created.webhook_path,
    });
    if let Some(secret) = &created.signing_secret {
        add_secrets(&mut value, created.kind, secret);
    }
    session.print(&value)
}

/// Adds a secret that is shown only now, and what belongs to it.
fn add_secrets(value: &mut Value, kind: Kind, secret: &SigningSecret) {
    if kind.takes_calls() {
        value["shared_secret"] = secret.expose().into();
        value["ingest_key"] = secret.ingest_key().into();
    } else {
        value["signing_secret"] = secret.expose().into();
    }
}

/// Tells of sources whose keys cannot be read.
pub fn warn(sources: &[SourceView]) {
    for source in sources {
        if let Some(warning) = &source.warning {
            output::complain(&format!("warning: {}/{}: {warning}", source.account_name, source.name));
        }
    }
}

/// A source's cells in a table.
pub fn row(source: &SourceView) -> impl Iterator<Item = String> {
    let (last4, what, region) = match &source.calls {
        Some(calls) => (&calls.nudgespot_key_last4, "Nudgespot key", "-"),
        None => (&source.write_key_last4, "write key", source.region.as_str()),
    };
    let key = last4.as_ref().map_or_else(|| "none".to_owned(), |last4| format!("…{last4}"));
    let state = match (&source.paused_reason, last4) {
        (Some(reason), _) => format!("paused: {reason}"),
        (None, None) => format!("waits for a {what}"),
        (None, Some(_)) => "flowing".to_owned(),
    };
    let [waiting, delivered, dead] = [source.waiting, source.delivered, source.dead_letters].map(|n| n.to_string());
    let (name, kind, region) = (source.name.clone(), source.kind.clone(), region.to_owned());
    [name, kind, region, key, waiting, delivered, dead, state, source.source_id.clone()].into_iter()
}

fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    if text == "none" { Ok(Endpoint(None)) } else { Ok(Endpoint(Some(endpoint(text)?))) }
}

fn read_signing_secret(argument: &SecretString) -> anyhow::Result<SigningSecret> {
    Ok(SigningSecret::parse(stdin::argument_or_first_line(argument, "the signing secret")?.expose_secret())?)
}
