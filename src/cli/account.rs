//! `account`: the customers of the service. Works on the database; a running service takes notice by itself.

use anyhow::bail;
use clap::Subcommand;
use secrecy::SecretString;
use serde_json::json;

use super::calls::{CallArgs, tell_of_key};
use super::session::{Session, confirm, read_write_key};
use super::{output, source, stdin};
use crate::admin::audit::Action;
use crate::admin::people::{Inviter, Role, describe_invited};
use crate::admin::{AccountView, CallOptions, NewSource, NotSealed, Rekeyed, Sealed};
use crate::config::Environment;
use crate::domain::email_address::EmailAddress;
use crate::domain::name::Name;
use crate::domain::region::Region;
use crate::domain::words::count;
use crate::domain::write_key::WriteKey;
use crate::sources::Kind;

/// How many sources a complaint names.
const MAX_TOLD: usize = 5;

/// What to do. `A` is an account's id or its name.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create an account with its first source: prints the webhook URL and the secrets, which are shown only now.
    #[command(group(clap::ArgGroup::new("settings").multiple(true)))]
    Create {
        /// A unique name.
        #[arg(long, value_parser = Name::parse)]
        name: Name,
        /// The Segment write key; `-` reads it from stdin. Without one, events wait.
        #[arg(long, value_name = "K", value_parser = stdin::secret_argument)]
        write_key: Option<SecretString>,
        /// The region of the Segment workspace: us, unless given, or eu.
        #[arg(long)]
        region: Option<Region>,
        /// What sends to its first source.
        #[arg(long, default_value = "nudgespot")]
        kind: Kind,
        #[command(flatten)]
        calls: Box<CallArgs>,
    },
    /// List all accounts.
    List,
    /// Show one account, with its sources.
    Show {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
    },
    /// Give an account another name.
    Rename {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
        /// A unique name.
        #[arg(value_name = "N", value_parser = Name::parse)]
        name: Name,
    },
    /// Delete an account, its sources and all their events.
    Delete {
        /// Its id or name.
        #[arg(value_name = "A")]
        account: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Let a person into the account's pages: makes a one-time link, which counts for a day. Who is there already keeps his
    /// role, and chooses a new password by the link; all his sessions end then.
    Invite {
        /// The account's id or name.
        #[arg(value_name = "A")]
        account: String,
        /// The person's address.
        #[arg(long, value_name = "E", value_parser = EmailAddress::parse)]
        email: EmailAddress,
        /// The person sees all, and changes nothing.
        #[arg(long)]
        viewer: bool,
    },
    /// Seal all keys and secrets anew, under the first key in `MASTER_KEY`.
    Rekey,
}

pub async fn run(env: &Environment, command: Command, json: bool) -> anyhow::Result<()> {
    // Asked, read and checked before the database is opened.
    let mut keys = (None, CallOptions::default());
    match &command {
        Command::Create { write_key, calls, .. } => {
            keys = (write_key.as_ref().map(read_write_key).transpose()?, calls.read()?);
        }
        Command::Delete { account, yes: false } => confirm("account", account)?,
        _ => {}
    }
    Session::run(env, json, async |session| execute(session, command, keys).await).await
}

async fn execute(
    session: &Session,
    command: Command,
    (write_key, calls): (Option<WriteKey>, CallOptions),
) -> anyhow::Result<()> {
    let admin = &session.admin;
    match command {
        Command::Create { name, region, kind, .. } => {
            let nudgespot_key = calls.nudgespot_key.clone();
            let first = NewSource { write_key, region, calls, ..NewSource::of(kind) };
            let created = admin.create_account(&name, first).await?;
            session.record(Some(created.account_id), Action::AccountCreated, name.as_str()).await?;
            source::print_created(session, &created)?;
            tell_of_key(&session.nudgespot, None, nudgespot_key.as_ref()).await
        }
        Command::List => {
            let accounts = admin.show_accounts().await?;
            for account in &accounts {
                source::warn(&account.sources);
            }
            output::print(session.json, &accounts, || {
                let rows: Vec<Vec<String>> = accounts.iter().flat_map(rows).collect();
                let headings = [
                    "account",
                    "source",
                    "kind",
                    "region",
                    "key",
                    "waiting",
                    "delivered",
                    "dead",
                    "state",
                    "source_id",
                ];
                output::table(&headings, &rows)
            })?;
            Ok(())
        }
        Command::Show { account } => show(session, &account).await,
        Command::Rename { account, name } => {
            let id = admin.find_account(&account).await?.id;
            admin.rename_account(&id.to_string(), &name).await?;
            session.record(Some(id), Action::AccountRenamed, name.as_str()).await?;
            show(session, &id.to_string()).await
        }
        Command::Delete { account, .. } => {
            let found = admin.find_account(&account).await?;
            admin.delete_account(&found.id.to_string()).await?;
            session.record(Some(found.id), Action::AccountDeleted, &found.name).await?;
            session.print(&json!({"deleted": account}))
        }
        Command::Invite { account, email, viewer } => {
            let account = admin.find_account(&account).await?.id;
            let role = if viewer { Role::Viewer } else { Role::Admin };
            let invited = admin.invite(account, &email, role, Inviter::Operator).await?;
            let detail = describe_invited(&email, role);
            session.record(Some(account), Action::PersonInvited, &detail).await?;
            session.print_link(&invited.link)
        }
        Command::Rekey => {
            let rekeyed = admin.rekey().await?;
            session.record(None, Action::Rekeyed, &format!("{} sources", rekeyed.n_sealed)).await?;
            print_rekeyed(session, &rekeyed)
        }
    }
}

async fn show(session: &Session, account: &str) -> anyhow::Result<()> {
    let account = session.admin.show_account(account).await?;
    source::warn(&account.sources);
    output::print(session.json, &account, || {
        let own = json!({"account_id": account.account_id, "name": account.name, "created_at": account.created_at});
        let sources = account.sources.iter().map(output::fields);
        std::iter::once(output::fields(&own)).chain(sources).collect::<Vec<_>>().join("\n")
    })?;
    Ok(())
}

/// A row a source; one that is empty for an account without.
fn rows(account: &AccountView) -> Vec<Vec<String>> {
    if account.sources.is_empty() {
        let empty = std::iter::repeat_n(String::new(), 7);
        let rest = [String::from("no source"), String::new()];
        return vec![std::iter::once(account.name.clone()).chain(empty).chain(rest).collect()];
    }
    let row = |source| std::iter::once(account.name.clone()).chain(source::row(source)).collect();
    account.sources.iter().map(row).collect()
}

fn print_rekeyed(session: &Session, rekeyed: &Rekeyed) -> anyhow::Result<()> {
    let failed: Vec<_> = rekeyed
        .failed
        .iter()
        .map(|f| {
            let (field, id) = what(f);
            json!({field: id, "name": f.name, "reason": f.reason})
        })
        .collect();
    let value = json!({"sources": rekeyed.n_sealed, "failed": failed});
    let printed = output::print(session.json, &value, || {
        let sealed = format!("{} sources are sealed under the first key now.", rekeyed.n_sealed);
        if rekeyed.failed.is_empty() {
            return sealed;
        }
        let row = |f: &NotSealed| vec![f.name.clone(), what(f).1, f.reason.clone()];
        let rows: Vec<Vec<String>> = rekeyed.failed.iter().map(row).collect();
        format!("{sealed}\n\n{}", output::table(&["not sealed", "id", "reason"], &rows))
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
    let n_sources = rekeyed.failed.iter().filter(|f| matches!(f.what, Sealed::Source(_))).count();
    let (n_all, n_accounts) = (rekeyed.n_sealed + n_sources, rekeyed.failed.len() - n_sources);
    let identity_keys = if n_accounts == 0 {
        String::new()
    } else {
        format!(", and {},", count(i64::try_from(n_accounts)?, "identity key", "identity keys"))
    };
    bail!("{n_sources} of {n_all} sources{identity_keys} could not be sealed anew: {}", told.join("; "))
}

/// The name and value of the id of what is not sealed.
fn what(failed: &NotSealed) -> (&'static str, String) {
    match failed.what {
        Sealed::Source(id) => ("source_id", id.to_string()),
        Sealed::IdentityKey(account) => ("account_id", account.to_string()),
    }
}
