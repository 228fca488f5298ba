//! The only SQL of the program.
//!
//! Every write of the service is one statement that commits by itself: nothing can be dropped half-way and leave a
//! transaction open, and no lock is held between two statements.

pub mod account;
pub mod api_token;
pub mod append;
pub mod attempt;
pub mod audit;
pub mod block;
pub mod call_effects;
pub mod calls;
pub mod connection;
pub mod consistency;
pub mod dead_letter;
pub mod delivery;
pub mod erase_job;
pub mod erasure;
pub mod events;
pub mod filter;
pub mod forgotten_user;
pub mod held_call;
pub mod lease;
pub mod log;
pub mod one_time_link;
pub mod overview;
pub mod person;
pub mod pool;
pub mod problem;
pub mod quarantine;
pub mod refused_webhook;
pub mod removal;
pub mod replay;
pub mod replay_job;
pub mod replay_outcome;
pub mod retention;
pub mod rotation;
pub mod session;
pub mod settlement;
pub mod shown_once;
pub mod source;
pub mod stats;
pub mod traffic;
pub mod unreadable;
pub mod webhook_activity;
pub mod write_key_check;

use sqlx::migrate::Migrator;

/// The schema, forward only. Migrations of a newer program are no obstacle: replicas are replaced one by one.
#[must_use]
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.set_ignore_missing(true);
    migrator
}

/// Namespaces of PostgreSQL advisory locks, the first of their two numbers.
mod lock {
    /// The second number is a lane of the log.
    pub const LANE: i32 = 0x6e73_0001;
    /// The second number is a lease holder; held as long as the holder lives. The view `lease_owner` knows this number.
    pub const HOLDER: i32 = 0x6e73_0002;
}

/// Whether a statement for several sources failed because of the rows of one of them: what they hold (classes 22, 23 and
/// XX: data exceptions, violated constraints, damaged pages), or a lock that somebody holds on them. The same statement
/// for each source alone then does what can be done.
#[must_use]
pub fn is_of_one_source(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || ["22", "23", "XX"].iter().any(|class| code.starts_with(class)))
}

/// PostgreSQL's `text` holds every character but U+0000, for which its stand-in is stored.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
