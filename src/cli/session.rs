//! What the commands that administer have in common: the database, opened and closed in good order.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use anyhow::bail;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use tracing::Instrument;
use uuid::Uuid;

use super::{output, stdin, until_stopped};
use crate::admin::audit::{Action, Actor};
use crate::admin::{Admin, OpaqueToken, Urls};
use crate::config::{Config, Environment};
use crate::database::{AdminPool, DatabaseHandle};
use crate::domain::text::visible;
use crate::domain::write_key::WriteKey;

/// What a command works with.
pub struct Session {
    pub admin: Admin,
    pub json: bool,
    /// Nudgespot's REST API.
    pub nudgespot: Url,
}

impl Session {
    /// Runs `work` on the configured database.
    pub async fn run(
        env: &Environment,
        json: bool,
        work: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let config = Config::new(env)?;
        let running = until_stopped(async {
            let database = DatabaseHandle::open(&config.database).await?;
            let urls = Urls { webhooks: config.webhook_base_url(), console: config.console_base_url() };
            let admin = Admin::new(database.admin_pool(AdminPool::Command), Arc::clone(&database.vault), urls);
            let done = work(&Self { admin, json, nudgespot: config.endpoints.nudgespot.clone() }).await;
            database.close().await?;
            done
        });
        let span = tracing::info_span!("command", source.id = tracing::field::Empty);
        Box::pin(running.instrument(span)).await
    }

    /// Prints one value: as JSON, or name by name.
    pub fn print(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(output::print(self.json, value, || output::fields(value))?)
    }

    /// Records what was done, in the audit log.
    pub async fn record(&self, account: Option<Uuid>, action: Action, detail: &str) -> anyhow::Result<()> {
        Ok(self.admin.record(&Actor::command_line(), account, action, detail).await?)
    }

    /// Prints a one-time link, which is shown only now.
    pub fn print_link(&self, link: &OpaqueToken) -> anyhow::Result<()> {
        self.print(&json!({"link": self.admin.link_url(link)}))
    }
}

/// Asks whether something is really to be deleted, with all its events.
pub fn confirm(what: &str, name: &str) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("`{what} delete` deletes the {what} and all its events; say --yes if you mean it");
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "Delete {what} `{}` and all its events? [y/N] ", visible(name))?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was deleted");
    }
    Ok(())
}

/// The write key of an argument; `-`: of stdin.
pub fn read_write_key(argument: &SecretString) -> anyhow::Result<WriteKey> {
    Ok(WriteKey::parse(stdin::argument_or_first_line(argument, "the write key")?.expose_secret())?)
}
