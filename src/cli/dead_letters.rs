//! `dead-letters`: events that were given up.

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use time::OffsetDateTime;

use super::output;
use super::session::Session;
use crate::admin::DeadLetterFilter;
use crate::admin::audit::Action;
use crate::config::Environment;
use crate::domain::event::Kind;
use crate::domain::timestamp;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them.
    List(FilterArgs),
    /// Send them again, under the same message ids.
    Replay(FilterArgs),
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
pub struct FilterArgs {
    /// The source: its id, `A/N`, or its account where that has just one.
    #[arg(long, value_name = "S")]
    source: String,
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

pub async fn run(env: &Environment, command: Command, json: bool) -> anyhow::Result<()> {
    Session::run(env, json, async |session| match command {
        Command::List(args) => list(session, args).await,
        Command::Replay(args) => replay(session, args).await,
    })
    .await
}

async fn list(session: &Session, args: FilterArgs) -> anyhow::Result<()> {
    let mut letters = session.admin.dead_letters(&args.source.clone(), filter(args)).await?;
    let mut list = output::List::new(session.json, &["dead_at", "event", "event_id", "reason"]);
    while let Some(page) = letters.next_page().await? {
        list.print(&page, |l| vec![l.dead_at.clone(), l.event.clone(), l.event_id.clone(), l.reason.clone()])?;
    }
    Ok(list.end()?)
}

async fn replay(session: &Session, args: FilterArgs) -> anyhow::Result<()> {
    let source = session.admin.find_source(&args.source).await?;
    let mut letters = session.admin.dead_letters(&source.id.to_string(), filter(args)).await?;
    let bar = progress_bar(letters.count().await?);
    let mut n_replayed = 0;
    while let Some((n_letters, n)) = letters.replay_page().await? {
        n_replayed += n;
        bar.inc(u64::try_from(n_letters)?);
    }
    bar.finish_and_clear();
    let detail = format!("{}: {n_replayed} events", source.name);
    session.record(Some(source.account_id), Action::ReplayStarted, &detail).await?;
    output::print(session.json, &json!({"replayed": n_replayed}), || {
        format!("{n_replayed} events will be sent again.")
    })?;
    Ok(())
}

/// On a terminal; elsewhere it is not seen.
fn progress_bar(n_all: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len}").expect("a constant template");
    ProgressBar::new(n_all).with_style(style)
}

fn filter(which: FilterArgs) -> DeadLetterFilter {
    DeadLetterFilter {
        kinds: which.event.into_iter().map(|kind| kind.number().into()).collect(),
        reason: which.reason,
        is_exact_reason: false,
        since: which.since,
        until: which.until,
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
