//! The only SQL of the program.
//!
//! Every write outside the command line is one statement that commits by itself: nothing can be dropped half-way and
//! leave a transaction open on a pooled connection (sqlx issues 4385 and 4393).

pub mod account;
pub mod append;
pub mod block;
pub mod connection;
pub mod dead_letter;
pub mod delivery;
pub mod lease;
pub mod log;
pub mod replay;
pub mod retention;
pub mod set_aside;
pub mod settlement;
pub mod stats;

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
    /// The second number is a lease holder; held as long as the holder lives.
    pub const HOLDER: i32 = 0x6e73_0002;
}

/// PostgreSQL's `text` holds every character but U+0000, for which its stand-in is stored.
fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}
