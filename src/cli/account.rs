//! `account`: what an admin does with accounts. Works on the database; a running service takes notice by itself.

use std::io::{IsTerminal, Read, Write};

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::output;
use crate::accounts::{Admin, Edit};
use crate::backend::Backend;
use crate::config::{Config, Environment};
use crate::domain::account::{AccountName, UnsubscribeEvent};
use crate::domain::region::Region;
use crate::domain::timestamp::rfc3339;
use crate::domain::write_key::WriteKey;
use crate::store::account::{SealedAccount, Standing};

/// What to do. `A` is an account's id or its name.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create an account: prints its webhook URL and its signing secret, which is shown only now.
    Create {
        /// A unique name.
        #[arg(long, value_parser = AccountName::parse)]
        name: AccountName,
        /// The Segment write key; `-` reads it from stdin. Without one, events wait.
        #[arg(long, value_name = "K")]
        write_key: Option<String>,
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
    #[arg(long, group = "settings", value_name = "K")]
    write_key: Option<String>,
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
    waiting: i64,
    oldest_waiting_seconds: i64,
    delivered: i64,
    dead_letters: i64,
    rejected: i64,
    ignored: i64,
}

pub async fn run(env: &Environment, command: Command, json: bool) -> anyhow::Result<()> {
    let config = Config::new(env)?;
    let command = ask(command)?;
    Box::pin(super::until_stopped(async {
        let backend = Backend::open(&config.database).await?;
        let admin = Admin::new(backend.pool.clone(), std::sync::Arc::clone(&backend.vault));
        let done = Session { admin, config: &config, json }.run(command).await;
        backend.close().await?;
        done
    }))
    .await
}

/// Asks what is to be asked before the database is opened.
fn ask(command: Command) -> anyhow::Result<Command> {
    if let Command::Delete { account, yes: false } = &command {
        if !std::io::stdin().is_terminal() {
            bail!("`account delete` deletes the account and all its events; say --yes if you mean it");
        }
        eprint!("Delete account `{account}` and all its events? [y/N] ");
        std::io::stderr().flush()?;
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
            Command::RotateSecret { account } => {
                let rotated = self.admin.rotate_secret(&account, OffsetDateTime::now_utc()).await?;
                self.print(&json!({
                    "signing_secret": rotated.secret.expose(), "previous_valid_until": rfc3339(rotated.previous_until),
                }));
                Ok(())
            }
            Command::RotateUrl { account } => {
                let token = self.admin.rotate_url(&account).await?;
                self.print(&json!({"webhook_url": self.url(&token), "webhook_path": path(&token)}));
                Ok(())
            }
            Command::Delete { account, .. } => {
                self.admin.delete(&account).await?;
                self.print(&json!({"deleted": account}));
                Ok(())
            }
            Command::Rekey => {
                let accounts = self.admin.rekey().await?;
                self.print(&json!({"accounts": accounts}));
                Ok(())
            }
        }
    }

    async fn create(&self, name: &AccountName, write_key: Option<String>, region: Region) -> anyhow::Result<()> {
        let write_key = write_key.map(read_write_key).transpose()?;
        let created = self.admin.create(name, write_key.as_ref(), region).await?;
        self.print(&json!({
            "account_id": created.id.to_string(),
            "webhook_url": self.url(&created.token),
            "webhook_path": path(&created.token),
            "signing_secret": created.secret.expose(),
        }));
        Ok(())
    }

    async fn list(&self) -> anyhow::Result<()> {
        let accounts = self.admin.survey(None).await?;
        let accounts = accounts.iter().map(|(a, s)| self.shown(a, s)).collect::<anyhow::Result<Vec<_>>>()?;
        output::print(self.json, &accounts, || {
            let rows: Vec<Vec<String>> = accounts.iter().map(row).collect();
            output::table(&["name", "account_id", "region", "key", "waiting", "delivered", "dead", "state"], &rows)
        });
        Ok(())
    }

    async fn show(&self, account: &str) -> anyhow::Result<()> {
        for (account, standing) in self.admin.survey(Some(account)).await? {
            self.print(&self.shown(&account, &standing)?);
        }
        Ok(())
    }

    async fn set(&self, set: Set) -> anyhow::Result<()> {
        let edit = Edit {
            write_key: set.write_key.map(read_write_key).transpose()?,
            name: set.name,
            region: set.region,
            unsubscribe_event: set.unsubscribe_event,
            allow_untimestamped: set.allow_untimestamped,
        };
        self.admin.edit(&set.account, &edit).await?;
        let name = edit.name.as_ref().map_or(set.account.as_str(), AccountName::as_str);
        self.show(if uuid::Uuid::parse_str(&set.account).is_ok() { &set.account } else { name }).await
    }

    fn shown(&self, account: &SealedAccount, standing: &Standing) -> anyhow::Result<Shown> {
        let now = OffsetDateTime::now_utc();
        Ok(Shown {
            account_id: account.id.to_string(),
            name: account.name.clone(),
            region: account.region.clone(),
            write_key_last4: self.admin.write_key_last4(account)?,
            webhook_url: self.url(&account.token),
            unsubscribe_event: account.unsubscribe_event.clone(),
            allow_untimestamped: account.allow_untimestamped,
            paused_reason: standing.paused_reason.clone(),
            waiting: standing.waiting,
            oldest_waiting_seconds: standing.oldest_waiting_since.map_or(0, |since| (now - since).whole_seconds()),
            delivered: standing.delivered,
            dead_letters: standing.dead_letters,
            rejected: standing.rejected,
            ignored: standing.ignored,
        })
    }

    fn url(&self, token: &str) -> String {
        let base = self.config.public_url.clone().unwrap_or_else(|| format!("http://{}", self.config.bind));
        format!("{base}{}", path(token))
    }

    fn print(&self, value: &impl Serialize) {
        output::print(self.json, value, || output::fields(value));
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

fn read_write_key(argument: String) -> anyhow::Result<WriteKey> {
    let text = if argument == "-" {
        let mut text = String::new();
        // A key has at most 64 characters; a file piped in by mistake is not read to its end.
        std::io::stdin().lock().take(1024).read_to_string(&mut text)?;
        text
    } else {
        argument
    };
    Ok(WriteKey::parse(&text)?)
}
