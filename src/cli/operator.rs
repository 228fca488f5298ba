//! `operator`: the people who may see and change all accounts.

use clap::Subcommand;

use super::output;
use super::session::Session;
use crate::admin::audit::Action;
use crate::config::Environment;
use crate::domain::email_address::EmailAddress;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a one-time link for a person, which counts for a day. Who has one already gets another, and chooses a new
    /// password by it; all his sessions end then.
    Invite {
        /// The person's address.
        #[arg(long, value_name = "E", value_parser = EmailAddress::parse)]
        email: EmailAddress,
    },
    /// List all operators.
    List,
    /// Make an operator an ordinary person again.
    Remove {
        /// The person's address.
        #[arg(long, value_name = "E", value_parser = EmailAddress::parse)]
        email: EmailAddress,
    },
}

pub async fn run(env: &Environment, command: Command, json: bool) -> anyhow::Result<()> {
    Session::run(env, json, async |session| execute(session, command).await).await
}

async fn execute(session: &Session, command: Command) -> anyhow::Result<()> {
    let admin = &session.admin;
    match command {
        Command::Invite { email } => {
            let invited = admin.invite_operator(&email).await?;
            session.record(None, Action::OperatorInvited, email.as_str()).await?;
            session.print_link(&invited.link)
        }
        Command::List => {
            let operators = admin.list_operators().await?;
            output::print(session.json, &operators, || {
                let rows: Vec<Vec<String>> = operators
                    .iter()
                    .map(|operator| {
                        let state = if operator.has_password { "active" } else { "invited" };
                        let last_seen_at = operator.last_seen_at.clone().unwrap_or_else(|| "-".to_owned());
                        vec![operator.email.clone(), state.to_owned(), operator.added_at.clone(), last_seen_at]
                    })
                    .collect();
                output::table(&["email", "state", "added_at", "last_seen_at"], &rows)
            })?;
            Ok(())
        }
        Command::Remove { email } => {
            let id = admin.find_operator(&email).await?;
            admin.remove_operator(id).await?;
            session.record(None, Action::OperatorRemoved, email.as_str()).await?;
            session.print(&serde_json::json!({"removed": email.as_str()}))
        }
    }
}
