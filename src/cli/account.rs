//! `account`: what an admin does with accounts. Works on the database; a running service takes notice by itself.

use std::io::{IsTerminal, Write};

use anyhow::bail;
use clap::Subcommand;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::{output, stdin};
use crate::accounts::{Admin, Edit, NotSealed, Rekeyed};
use crate::backend::Backend;
use crate::config::{Config, Environment};
use crate::domain::account::{AccountName, UnsubscribeEvent};
use crate::domain::region::Region;
use crate::domain::text::{visible, with_causes};
use crate::domain::timestamp::rfc3339;
use crate::domain::write_key::WriteKey;
use crate::store::account::{SealedAccount, Standing};

/// Shown where a key is there, but no master key opens it.
const UNREADABLE_KEY: &str = "????";
/// How many accounts a complaint names.
const MAX_TOLD: usize = 5;

/// What to do. `A` is an account's id or its name.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create an account: prints its webhook URL and its signing secret, which is shown only now.
    Create {
        /// A unique name.
        #[arg(long, value_parser = AccountName::parse)]
        name: AccountName,
        /// The Segment write key; `-` reads it from stdin. Without one, events wait.
        #[arg(long, value_name = "K", value_parser = stdin::secret_argument)]
        write_key: Option<SecretString>,
        /// The region of the Segment workspace.
        #[arg(long, default_value = "us")]
        region: Region,
    },
    /// List all accounts.
    List,
    /// Show one account.
    Show {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
    },
    /// Change settings.
    Set(Set),
    /// Stop delivery; webhooks are taken as ever, and their events wait.
    Pause {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
    },
    /// Let events flow again, now.
    Resume {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
    },
    /// Give up the events at the head of the queue that cannot be read, so that those behind them flow. They are kept in
    /// the table `unreadable_block`, and counted as missing.
    SkipUnreadable {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
    },
    /// Make a new signing secret; the one before verifies for another 24 hours.
    RotateSecret {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
    },
    /// Make a new webhook URL; the one before is dead at once.
    RotateUrl {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
    },
    /// Delete an account and all its events.
    Delete {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Seal all keys and secrets anew, under the first key in `MASTER_KEY`.
    Rekey,
}

/// The settings to change.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("settings").required(true).multiple(true)))]
pub struct Set {
    /// Its id or name.
    #[arg(value_name = "A")]
    account: String,
    /// A unique name.
    #[arg(long, group = "settings", value_parser = AccountName::parse)]
    name: Option<AccountName>,
    /// The Segment write key; `-` reads it from stdin.
    #[arg(long, group = "settings", value_name = "K", value_parser = stdin::secret_argument)]
    write_key: Option<SecretString>,
    /// The region of the Segment workspace: us or eu.
    #[arg(long, group = "settings")]
    region: Option<Region>,
    /// What an unsubscription is called: "Email Unsubscribed" or "Unsubscribed".
    #[arg(long, group = "settings", value_name = "NAME")]
    unsubscribe_event: Option<UnsubscribeEvent>,
    /// Whether signatures without a timestamp, which can be replayed, are accepted.
    #[arg(long, group = "settings", value_name = "BOOL")]
    allow_untimestamped: Option<bool>,
}

/// An account as `show` and `list` print it.
#[derive(Debug, Serialize)]
struct Shown {
    account_id: String,
    name: String,
    region: String,
    write_key_last4: Option<String>,
    webhook_url: String,
    unsubscribe_event: String,
    allow_untimestamped: bool,
    paused_reason: Option<String>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    waiting: i64,
    oldest_waiting_seconds: i64,
    delivered: i64,
    /// Events that the log should hold, and does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<i64>,
    dead_letters: i64,
    rejected: i64,
    ignored: i64,
}

pub async fn run(env: &Environment, command: Command, json: bool) -> anyhow::Result<()> {
    let config = Config::new(env)?;
    let command = ask(command)?;
    Box::pin(super::until_stopped(async {
        let backend = Backend::open(&config.database).await?;
        let admin = Admin::new(backend.command_connection(), std::sync::Arc::clone(&backend.vault));
        let done = Session { admin, config: &config, json }.run(command).await;
        backend.close().await?;
        done
    }))
    .await
}

/// Asks, reads from stdin and checks what is the person's to say, before the database is opened.
fn ask(mut command: Command) -> anyhow::Result<Command> {
    if let Command::Create { write_key: Some(key), .. } | Command::Set(Set { write_key: Some(key), .. }) = &mut command
    {
        if key.expose_secret() == "-" {
            *key = stdin::first_line("the write key")?;
        }
        parse_write_key(key)?;
    }
    if let Command::Delete { account, yes: false } = &command {
        if !std::io::stdin().is_terminal() {
            bail!("`account delete` deletes the account and all its events; say --yes if you mean it");
        }
        let mut stderr = std::io::stderr();
        write!(stderr, "Delete account `{}` and all its events? [y/N] ", visible(account))?;
        stderr.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("nothing was deleted");
        }
    }
    Ok(command)
}

struct Session<'a> {
    admin: Admin,
    config: &'a Config,
    json: bool,
}

impl Session<'_> {
    async fn run(&self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Create { name, write_key, region } => self.create(&name, write_key, region).await,
            Command::List => self.list().await,
            Command::Show { account } => self.show(&account).await,
            Command::Set(set) => self.set(set).await,
            Command::Pause { account } => {
                self.admin.pause(&account).await?;
                self.show(&account).await
            }
            Command::Resume { account } => {
                self.admin.resume(&account).await?;
                self.show(&account).await
            }
            Command::SkipUnreadable { account } => {
                let n_skipped = self.admin.skip_unreadable(&account).await?;
                self.print(&json!({"skipped": n_skipped}))?;
                Ok(())
            }
            Command::RotateSecret { account } => {
                let rotated = self.admin.rotate_secret(&account, OffsetDateTime::now_utc()).await?;
                self.print(&json!({
                    "signing_secret": rotated.secret.expose(), "previous_valid_until": rfc3339(rotated.previous_until),
                }))
            }
            Command::RotateUrl { account } => {
                let token = self.admin.rotate_url(&account).await?;
                self.print(&json!({"webhook_url": self.url(&token), "webhook_path": path(&token)}))
            }
            Command::Delete { account, .. } => {
                self.admin.delete(&account).await?;
                self.print(&json!({"deleted": account}))
            }
            Command::Rekey => self.rekey(&self.admin.rekey().await?),
        }
    }

    async fn create(&self, name: &AccountName, write_key: Option<SecretString>, region: Region) -> anyhow::Result<()> {
        let write_key = write_key.as_ref().map(parse_write_key).transpose()?;
        let created = self.admin.create(name, write_key.as_ref(), region).await?;
        self.print(&json!({
            "account_id": created.id.to_string(),
            "webhook_url": self.url(&created.token),
            "webhook_path": path(&created.token),
            "signing_secret": created.secret.expose(),
        }))
    }

    async fn list(&self) -> anyhow::Result<()> {
        let accounts = self.admin.survey(None).await?;
        let accounts: Vec<Shown> = accounts.iter().map(|(a, s)| self.shown(a, s)).collect();
        output::print(self.json, &accounts, || {
            let rows: Vec<Vec<String>> = accounts.iter().map(row).collect();
            output::table(&["name", "account_id", "region", "key", "waiting", "delivered", "dead", "state"], &rows)
        })?;
        Ok(())
    }

    async fn show(&self, account: &str) -> anyhow::Result<()> {
        for (account, standing) in self.admin.survey(Some(account)).await? {
            self.print(&self.shown(&account, &standing))?;
        }
        Ok(())
    }

    async fn set(&self, set: Set) -> anyhow::Result<()> {
        let edit = Edit {
            write_key: set.write_key.as_ref().map(parse_write_key).transpose()?,
            name: set.name,
            region: set.region,
            unsubscribe_event: set.unsubscribe_event,
            allow_untimestamped: set.allow_untimestamped,
        };
        self.admin.edit(&set.account, &edit).await?;
        let name = edit.name.as_ref().map_or(set.account.as_str(), AccountName::as_str);
        self.show(if uuid::Uuid::parse_str(&set.account).is_ok() { &set.account } else { name }).await
    }

    fn shown(&self, account: &SealedAccount, standing: &Standing) -> Shown {
        let now = OffsetDateTime::now_utc();
        // One key that does not open hides neither the other accounts nor the rest of this one.
        let write_key_last4 = self.admin.write_key_last4(account).unwrap_or_else(|error| {
            output::complain(&format!("warning: {}", with_causes(&error)));
            Some(UNREADABLE_KEY.to_owned())
        });
        Shown {
            account_id: account.id.to_string(),
            name: account.name.clone(),
            region: account.region.clone(),
            write_key_last4,
            webhook_url: self.url(&account.token),
            unsubscribe_event: account.unsubscribe_event.clone(),
            allow_untimestamped: account.allow_untimestamped,
            paused_reason: standing.paused_reason.clone(),
            last_error: standing.last_error.clone(),
            waiting: standing.waiting,
            oldest_waiting_seconds: standing.oldest_waiting_since.map_or(0, |since| (now - since).whole_seconds()),
            delivered: standing.delivered,
            missing: Some(standing.missing).filter(|missing| *missing > 0),
            dead_letters: standing.dead_letters,
            rejected: standing.rejected,
            ignored: standing.ignored,
        }
    }

    fn rekey(&self, rekeyed: &Rekeyed) -> anyhow::Result<()> {
        let failed: Vec<_> = rekeyed
            .failed
            .iter()
            .map(|f| json!({"account_id": f.id.to_string(), "name": f.name, "reason": f.reason}))
            .collect();
        let value = json!({"accounts": rekeyed.n_sealed, "failed": failed});
        let printed = output::print(self.json, &value, || {
            let sealed = format!("{} accounts are sealed under the first key now.", rekeyed.n_sealed);
            if rekeyed.failed.is_empty() {
                return sealed;
            }
            let row = |f: &NotSealed| vec![f.name.clone(), f.id.to_string(), f.reason.clone()];
            let rows: Vec<Vec<String>> = rekeyed.failed.iter().map(row).collect();
            format!("{sealed}\n\n{}", output::table(&["name", "account_id", "reason"], &rows))
        });
        if rekeyed.failed.is_empty() {
            return Ok(printed?);
        }
        // Told even where nobody reads stdout.
        let mut told: Vec<String> =
            rekeyed.failed.iter().take(MAX_TOLD).map(|f| format!("`{}` ({})", f.name, f.reason)).collect();
        if rekeyed.failed.len() > MAX_TOLD {
            told.push(format!("and {} more", rekeyed.failed.len() - MAX_TOLD));
        }
        let n_all = rekeyed.n_sealed + rekeyed.failed.len();
        bail!("{} of {n_all} accounts could not be sealed anew: {}", rekeyed.failed.len(), told.join("; "))
    }

    fn url(&self, token: &str) -> String {
        let base = self.config.public_url.clone().unwrap_or_else(|| format!("http://{}", self.config.bind));
        format!("{base}{}", path(token))
    }

    fn print(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(output::print(self.json, value, || output::fields(value))?)
    }
}

fn row(account: &Shown) -> Vec<String> {
    let key = account.write_key_last4.as_ref().map_or_else(|| "none".to_owned(), |last4| format!("…{last4}"));
    let state = match (&account.paused_reason, &account.write_key_last4) {
        (Some(reason), _) => format!("paused: {reason}"),
        (None, None) => "waits for a write key".to_owned(),
        (None, Some(_)) => "flowing".to_owned(),
    };
    let counts = [account.waiting, account.delivered, account.dead_letters].map(|n| n.to_string());
    let [waiting, delivered, dead] = counts;
    vec![account.name.clone(), account.account_id.clone(), account.region.clone(), key, waiting, delivered, dead, state]
}

fn path(token: &str) -> String {
    format!("/webhooks/nudgespot/{token}")
}

fn parse_write_key(text: &SecretString) -> anyhow::Result<WriteKey> {
    Ok(WriteKey::parse(text.expose_secret())?)
}
