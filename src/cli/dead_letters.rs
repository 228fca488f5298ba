//! `dead-letters`: events that were given up.

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
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
const PAGE: i64 = 500;

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
        Command::List(which) => list(&admin, backend.command_connection(), which, json).await,
        Command::Replay(which) => replay(&admin, backend.command_connection(), which, json).await,
    };
    backend.close().await?;
    done
}

async fn list(admin: &Admin, mut db: Connection, which: Which, json: bool) -> anyhow::Result<()> {
    let account = admin.find(&which.account).await?;
    let unsubscribe = account.unsubscribe_event.parse()?;
    let mut pages = Pages::begin(&mut db, account.id, filter(which)).await?;
    let mut list = output::List::new(json, &["dead_at", "event", "event_id", "reason"]);
    while let Some(page) = pages.next(&mut db).await? {
        let letters: Vec<Shown> = page.into_iter().map(|letter| shown(letter, account.id, unsubscribe)).collect();
        list.print(&letters, |l| vec![l.dead_at.clone(), l.event.clone(), l.event_id.clone(), l.reason.clone()])?;
    }
    Ok(list.end()?)
}

async fn replay(admin: &Admin, mut db: Connection, which: Which, json: bool) -> anyhow::Result<()> {
    let account = admin.find(&which.account).await?;
    let mut pages = Pages::begin(&mut db, account.id, filter(which)).await?;
    let bar = {
        let (filter, last_seq) = (&pages.filter, pages.last_seq);
        progress_bar(db.run(async |db| dead_letter::count(db, account.id, filter, last_seq).await).await?)
    };
    let mut n_replayed = 0;
    while let Some(page) = pages.next(&mut db).await? {
        let seqs: Vec<i64> = page.iter().map(|letter| letter.seq).collect();
        n_replayed += replay::replay(&mut db, account.id, &seqs).await?;
        bar.inc(u64::try_from(seqs.len())?);
    }
    bar.finish_and_clear();
    output::print(json, &json!({"replayed": n_replayed}), || format!("{n_replayed} events will be sent again."))?;
    Ok(())
}

/// An account's dead letters as they were when the command began, page by page. What dies (again) while it runs has a
/// number in the log after all of them, and is left alone: a letter is not replayed twice.
struct Pages {
    account: Uuid,
    filter: Filter,
    after: i64,
    last_seq: i64,
}

impl Pages {
    async fn begin(db: &mut Connection, account: Uuid, filter: Filter) -> sqlx::Result<Self> {
        Ok(Self {
            account,
            filter,
            after: 0,
            last_seq: db.run(async |db| dead_letter::last_seq(db, account).await).await?,
        })
    }

    async fn next(&mut self, db: &mut Connection) -> sqlx::Result<Option<Vec<DeadLetter>>> {
        let list_page = async |db: &mut PgConnection| {
            dead_letter::list_after(db, self.account, &self.filter, self.after, PAGE).await
        };
        let mut page = db.run(list_page).await?;
        page.retain(|letter| letter.seq <= self.last_seq);
        let Some(last) = page.last() else { return Ok(None) };
        self.after = last.seq;
        Ok(Some(page))
    }
}

/// On a terminal; elsewhere it is not seen.
fn progress_bar(n_all: i64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len}").expect("a constant template");
    ProgressBar::new(n_all.unsigned_abs()).with_style(style)
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
