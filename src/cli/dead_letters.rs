//! `dead-letters`: events that were given up.

use std::io::{IsTerminal, Write};

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::output;
use crate::accounts::Admin;
use crate::backend::Backend;
use crate::config::{Config, Environment};
use crate::domain::account::UnsubscribeEvent;
use crate::domain::event::{Kind, MessageId};
use crate::domain::timestamp;
use crate::store::connection::Connection;
use crate::store::dead_letter::{self, DeadLetter, Filter};
use crate::store::replay;

/// How many are read or replayed at a time.
const PIECE: i64 = 500;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them.
    List(Which),
    /// Send them again, under the same message ids.
    Replay(Which),
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The account's id or name.
    #[arg(long, value_name = "A")]
    account: String,
    /// Only this kind of event: delivered, opened, clicked, bounced, spam or unsubscribed, or Segment's name for it.
    #[arg(long, value_parser = kind)]
    event: Vec<Kind>,
    /// Only where the reason contains this text.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only what died at this time or later (ISO 8601 with zone).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<OffsetDateTime>,
    /// Only what died before this time (ISO 8601 with zone).
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<OffsetDateTime>,
}

#[derive(Debug, Serialize)]
struct Shown {
    event_id: String,
    message_id: String,
    event: String,
    reason: String,
    received_at: String,
    dead_at: String,
}

pub async fn run(env: &Environment, command: Command, json: bool) -> anyhow::Result<()> {
    let config = Config::new(env)?;
    let backend = Backend::open(&config.database).await?;
    let admin = Admin::new(backend.command_connection(), std::sync::Arc::clone(&backend.vault));
    let done = match command {
        Command::List(which) => list(&admin, &backend, which, json).await,
        Command::Replay(which) => replay(&admin, &backend, which, json).await,
    };
    backend.close().await?;
    done
}

async fn list(admin: &Admin, backend: &Backend, which: Which, json: bool) -> anyhow::Result<()> {
    let account = admin.find(&which.account).await?;
    let unsubscribe = account.unsubscribe_event.parse()?;
    let mut db = backend.command_connection();
    let letters: Vec<Shown> = all(&mut db, account.id, &filter(which))
        .await?
        .into_iter()
        .map(|letter| shown(letter, account.id, unsubscribe))
        .collect();
    output::print(json, &letters, || {
        let row = |l: &Shown| vec![l.dead_at.clone(), l.event.clone(), l.event_id.clone(), l.reason.clone()];
        let rows: Vec<Vec<String>> = letters.iter().map(row).collect();
        output::table(&["dead_at", "event", "event_id", "reason"], &rows)
    });
    Ok(())
}

async fn replay(admin: &Admin, backend: &Backend, which: Which, json: bool) -> anyhow::Result<()> {
    let account = admin.find(&which.account).await?;
    let (mut n_replayed, mut db) = (0, backend.command_connection());
    let seqs: Vec<i64> = all(&mut db, account.id, &filter(which)).await?.into_iter().map(|letter| letter.seq).collect();
    for piece in seqs.chunks(usize::try_from(PIECE)?) {
        n_replayed += replay::replay(&mut db, account.id, piece).await?;
        show_progress(n_replayed, seqs.len())?;
    }
    output::print(json, &json!({"replayed": n_replayed}), || format!("{n_replayed} events will be sent again."));
    Ok(())
}

async fn all(db: &mut Connection, account: Uuid, filter: &Filter) -> sqlx::Result<Vec<DeadLetter>> {
    let mut letters: Vec<DeadLetter> = Vec::new();
    loop {
        let after = letters.last().map_or(0, |letter| letter.seq);
        let page = db.run(async |db| dead_letter::list_after(db, account, filter, after, PIECE).await);
        let piece = page.await?;
        if piece.is_empty() {
            return Ok(letters);
        }
        letters.extend(piece);
    }
}

/// A bar on a terminal; nothing elsewhere.
fn show_progress(n_done: usize, n_all: usize) -> anyhow::Result<()> {
    const WIDTH: usize = 40;
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let n_done = n_done.min(n_all);
        let filled = n_done * WIDTH / n_all.max(1);
        write!(stderr, "\r[{:<WIDTH$}] {n_done} of {n_all}", "=".repeat(filled))?;
        if n_done == n_all {
            writeln!(stderr)?;
        }
        stderr.flush()?;
    }
    Ok(())
}

fn filter(which: Which) -> Filter {
    Filter {
        kinds: which.event.into_iter().map(|kind| kind.number().into()).collect(),
        reason: which.reason,
        since: which.since,
        until: which.until,
    }
}

fn shown(letter: DeadLetter, account: Uuid, unsubscribe: UnsubscribeEvent) -> Shown {
    Shown {
        event: Kind::from_number(letter.kind).map_or_else(String::new, |k| k.segment_event(unsubscribe).to_owned()),
        event_id: String::from_utf8_lossy(&letter.event_id).into_owned(),
        message_id: MessageId::new(account, &letter.event_id).to_string(),
        reason: letter.reason,
        received_at: timestamp::rfc3339(letter.received_at),
        dead_at: timestamp::rfc3339(letter.dead_at),
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_name(text)
        .map(|(kind, _)| kind)
        .ok_or_else(|| "an event is delivered, opened, clicked, bounced, spam or unsubscribed".to_owned())
}

fn time(text: &str) -> Result<OffsetDateTime, String> {
    timestamp::parse(text).ok_or_else(|| "a time reads like 2016-01-27T09:15:00Z".to_owned())
}
