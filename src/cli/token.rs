//! `token`: what opens the console's API to programs.

use clap::Subcommand;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::output;
use super::session::Session;
use crate::admin::audit::{Action, Actor};
use crate::admin::tokens::{TokenRequest, TokenView, TokensOf};
use crate::config::Environment;
use crate::domain::name::Name;
use crate::domain::timestamp;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token, which is shown only now.
    Create {
        /// What it is for.
        #[arg(long, value_name = "N", value_parser = Name::parse)]
        name: Name,
        /// The account that it opens, by id or name. Without one it opens all, as an operator.
        #[arg(long, value_name = "A")]
        account: Option<String>,
        /// It changes nothing.
        #[arg(long)]
        read_only: bool,
        /// Until when it counts (ISO 8601 with zone). Without a time, until it is revoked.
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        until: Option<OffsetDateTime>,
    },
    /// List all tokens, without what proves them.
    List,
    /// Revoke a token, which counts no more at once.
    Revoke {
        /// Its id.
        #[arg(value_name = "T")]
        token: Uuid,
    },
}

fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    let at = timestamp::parse(text).ok_or("a time reads like 2026-01-27T09:15:00Z")?;
    if at > OffsetDateTime::now_utc() { Ok(at) } else { Err("this time is over".to_owned()) }
}

pub async fn run(env: &Environment, command: Command, json: bool) -> anyhow::Result<()> {
    Session::run(env, json, async |session| execute(session, command).await).await
}

async fn execute(session: &Session, command: Command) -> anyhow::Result<()> {
    let admin = &session.admin;
    match command {
        Command::Create { name, account, read_only, until } => {
            let account = match account {
                Some(account) => Some(admin.find_account(&account).await?.id),
                None => None,
            };
            let request = TokenRequest { name, account, may_write: !read_only, expires_at: until };
            let created = admin.create_token(&request, &Actor::command_line().name).await?;
            session.record(account, Action::TokenCreated, &request.describe()).await?;
            session.print(&json!({"token_id": created.token_id.to_string(), "token": created.token.expose()}))
        }
        Command::List => {
            let tokens = admin.list_tokens(TokensOf::Everybody).await?;
            output::print(session.json, &tokens, || {
                let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
                output::table(&["name", "account", "access", "last_used_at", "expires_at", "token_id"], &rows)
            })?;
            Ok(())
        }
        Command::Revoke { token } => {
            let (name, account) = admin.revoke_token(token, None).await?;
            session.record(account, Action::TokenRevoked, &name).await?;
            session.print(&json!({"revoked": token.to_string()}))
        }
    }
}

fn row(token: &TokenView) -> Vec<String> {
    let text = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    let expires_at = if token.is_expired { "expired".to_owned() } else { text(&token.expires_at, "-") };
    vec![
        token.name.clone(),
        text(&token.account_name, "(all)"),
        token.access.to_owned(),
        text(&token.last_used_at, "-"),
        expires_at,
        token.token_id.to_string(),
    ]
}
