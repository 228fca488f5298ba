//! How the service as a whole is doing: its database, what waits, and how many sources need somebody.

use std::time::Duration;

use crate::admin::health::DatabaseServer;
use crate::admin::overview::{Overview, SourceState};
use crate::domain::words::{count, grouped, span};

/// The box on the operator's page.
pub(super) struct Health {
    pub database: Database,
    pub backlog: Line,
    /// How many sources are in a state that somebody should look at, the worst first; or that none is.
    pub sources: Vec<Line>,
    pub version: &'static str,
}

/// The database that answered.
pub(super) struct Database {
    pub product: String,
    pub name: String,
    pub address: String,
    /// How long it took.
    pub answered_in: String,
}

/// A state in a word, and what is to be said of it.
pub(super) struct Line {
    pub class: &'static str,
    pub word: String,
    pub text: String,
}

impl Health {
    /// Of all sources; the oldest event waits for so many seconds.
    pub fn of(server: DatabaseServer, sources: &[Overview], oldest_seconds: i64) -> Self {
        Self {
            database: database(server),
            backlog: backlog(sources, oldest_seconds),
            sources: states(sources),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn database(server: DatabaseServer) -> Database {
    let microseconds = server.answered_in.as_micros();
    Database {
        product: format!("PostgreSQL {}", server.version),
        name: server.name,
        address: server.address.map_or_else(|| "over a local socket".to_owned(), |address| format!("at {address}")),
        answered_in: format!("{}.{} ms", microseconds / 1_000, microseconds % 1_000 / 100),
    }
}

fn backlog(sources: &[Overview], oldest_seconds: i64) -> Line {
    let is_held = |source: &&Overview| source.standing.paused_reason.is_some() || !source.standing.has_write_key;
    let n_waiting = sources.iter().map(|source| source.standing.waiting).sum();
    let n_held: i64 = sources.iter().filter(is_held).map(|source| source.standing.waiting).sum();
    if n_waiting == 0 {
        return Line { class: "good", word: "Nothing waits".to_owned(), text: String::new() };
    }
    let age = span(Duration::from_secs(oldest_seconds.unsigned_abs()));
    let mut text = format!("{}, the oldest for {age}", count(n_waiting, "event waits", "events wait"));
    if n_held > 0 {
        let of_them = if n_held == n_waiting { "all".to_owned() } else { format!("{} of them", grouped(n_held)) };
        text = format!("{text}; {of_them} in sources that are paused or have no write key");
    }
    let is_behind = sources.iter().any(|source| source.judgement.state == SourceState::Behind);
    let (class, word) = match (is_behind, n_held > 0) {
        (true, _) => ("waiting", "Behind"),
        (false, true) => ("waiting", "Waits"),
        (false, false) => ("good", "In time"),
    };
    Line { class, word: word.to_owned(), text }
}

fn states(sources: &[Overview]) -> Vec<Line> {
    let n_of = |state| sources.iter().filter(|source| source.judgement.state == state).count();
    let is_losing = |source: &&Overview| {
        source.judgement.loses_events && !matches!(source.judgement.state, SourceState::Refusing | SourceState::Paused)
    };
    let n_not_set_up = n_of(SourceState::NotSetUp) - sources.iter().filter(is_losing).count();
    let lines = [
        (n_of(SourceState::Refusing), "bad", "refusing", "webhooks come, and are not taken"),
        (sources.iter().filter(is_losing).count(), "bad", "losing events", "Segment does not know the write key"),
        (n_of(SourceState::Paused), "bad", "paused", "events wait until somebody acts"),
        (n_of(SourceState::Behind), "waiting", "behind", "events wait for too long"),
        (n_of(SourceState::Quiet), "waiting", "quiet", "nothing came for longer than usual"),
        (n_not_set_up, "none", "not set up", "nothing has come, or a key or secret is missing"),
    ]
    .into_iter();
    let lines = lines.filter(|(n, ..)| *n > 0).map(|(n, class, word, text)| Line {
        class,
        word: format!("{} {word}", grouped(i64::try_from(n).unwrap_or(i64::MAX))),
        text: text.to_owned(),
    });
    let lines: Vec<Line> = lines.collect();
    if lines.is_empty() {
        let (class, word, text) = if sources.is_empty() {
            ("none", "None yet", "")
        } else {
            ("good", "All well", "no source refuses webhooks, is paused, or is behind")
        };
        return vec![Line { class, word: word.to_owned(), text: text.to_owned() }];
    }
    lines
}
