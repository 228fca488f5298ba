//! What people do with accounts and their sources: each use case once, for whatever asks for it.
//!
//! Works on the database alone; running programs take notice by themselves.

mod accounts;
pub mod audit;
mod dead_letters;
pub mod doctor;
mod erasure;
pub mod events;
pub mod health;
pub mod links;
mod listed;
mod opaque_token;
pub mod overview;
mod passwords;
pub mod people;
pub mod principal;
pub mod problems;
mod rekey;
mod replays;
mod rotation;
pub mod sessions;
mod set_up;
pub mod shown_once;
mod source_options;
mod sources;
mod throttle;
pub mod tokens;
mod view;

use std::sync::Arc;

use sqlx::PgConnection;
use uuid::Uuid;

pub use crate::destinations::segment::KeyVerdict;
use crate::random;
use crate::secrets::DecryptError;
use crate::secrets::vault::{Field, Vault};
use crate::store::pool::{Lent, Pool};
pub use accounts::{Account, SourcePlace};
pub use dead_letters::{DeadLetterFilter, DeadLetterView, DeadLetters};
pub use erasure::{ErasureView, InvalidRecipient, Recipient, Removed};
use events::Exports;
pub use listed::{Listed, MadeAt};
pub use opaque_token::OpaqueToken;
use passwords::Passwords;
pub use rekey::{NotSealed, Rekeyed, Sealed};
pub use replays::ReplayView;
pub use rotation::Rotation;
pub use set_up::{KeyCheck, OWN_POST_HEADER, OwnPosts, SetUp, check_nudgespot_key};
pub use source_options::{CallOptions, Edit, NewSource};
pub use sources::{Created, Rotated};
use throttle::Throttle;
pub use view::{AccountView, CallsView, SourceView};

/// Administers the accounts of a database, and their sources.
pub struct Admin {
    db: Pool,
    vault: Arc<Vault>,
    urls: Urls,
    passwords: Passwords,
    throttle: Throttle,
    exports: Exports,
}

/// How the URLs that are shown begin, each without a slash at the end.
#[derive(Clone, Debug)]
pub struct Urls {
    /// Of webhooks.
    pub webhooks: String,
    /// Of the console.
    pub console: String,
}

/// Why something could not be done, in words for the person who asked for it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each says it in its words")]
pub enum AdminError {
    #[error("there is no account `{0}`; `account list` shows them all")]
    NoSuchAccount(String),
    #[error("there is no source `{0}`; `source list` shows those of an account")]
    NoSuchSource(String),
    #[error("account `{0}` has several sources; say which, as in `{0}/{1}`")]
    WhichSource(String, String),
    #[error("account `{0}` has no source; `source add` makes one")]
    NoSource(String),
    #[error("there is an account `{0}` already; choose another name")]
    AccountNameTaken(String),
    #[error("the account has a source `{0}` already; choose another name")]
    SourceNameTaken(String),
    #[error("there is no such person: {0}")]
    NoSuchPerson(String),
    #[error("`{0}` has access to more than this account; only an operator of the service can invite, or make a link")]
    BelongsElsewhere(String),
    #[error("this is the account's only admin; make somebody else an admin first")]
    LastAdmin,
    #[error("this is the only operator; invite another one first")]
    LastOperator,
    #[error("there is no token `{0}`; `token list` shows them all")]
    NoSuchToken(String),
    #[error("no dead letter is like that; nothing is sent again")]
    NoDeadLetters,
    #[error("another replay of this source goes on; wait for its end, or cancel it")]
    ReplayGoesOn,
    #[error("somebody else changed it at the same time; look at it, and try again")]
    Conflict,
    #[error("a source of kind `{kind}` has no {what}: {does}")]
    NotOfKind { kind: &'static str, what: &'static str, does: &'static str },
    #[error("the signing secret of a source of this kind is made here; `source rotate-secret` makes another")]
    SecretIsMadeHere,
    #[error(
        "the signing secret of a source of this kind is made by its sender; enter it with `source set S --signing-secret -`"
    )]
    SecretIsEntered,
    #[error("the source's next events can be read; nothing was skipped")]
    Readable,
    #[error(
        "the source's next events were written by a newer version of the program, which can read them; use that one"
    )]
    NewerVersion,
    #[error("a newer version of the program made this: {0}")]
    UnknownSetting(String),
    #[error("the source has no signing secret yet; enter the one that its sender shows")]
    NoSigningSecret,
    #[error("a test event was not taken: {0}")]
    TestNotAccepted(String),
    /// The master keys do not fit the database.
    #[error("MASTER_KEY")]
    Decrypt(#[from] DecryptError),
    /// It did not answer. Try again.
    #[error("the database")]
    Database(#[from] sqlx::Error),
}

impl Admin {
    /// Administers over these connections.
    #[must_use]
    pub fn new(db: Pool, vault: Arc<Vault>, urls: Urls) -> Self {
        Self { db, vault, urls, passwords: Passwords::new(), throttle: Throttle::new(), exports: Exports::default() }
    }

    async fn connection(&self) -> Lent<'_> {
        self.db.lend().await
    }

    async fn db<T>(&self, statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Copy) -> sqlx::Result<T> {
        self.connection().await.run(statement).await
    }

    fn seal(&self, owner: Uuid, field: Field, text: &str) -> Vec<u8> {
        self.vault.seal(owner, field, text, random::bytes())
    }
}

fn new_id() -> Uuid {
    uuid::Builder::from_random_bytes(random::bytes()).into_uuid()
}

/// Whether a statement failed because of that constraint.
fn violates(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) == Some(constraint)
}
