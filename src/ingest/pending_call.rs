//! Calls on their way into the database.

use std::borrow::Cow;

use uuid::Uuid;

use crate::domain::call::{Action, Call, CallSettings, UnknownUsers, user_hash};
use crate::domain::identity_key::IdentityKey;
use crate::store::call_effects::Lesson;

/// Whose a webhook is, and how its events are taken.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The source.
    pub source_id: Uuid,
    /// Its account.
    pub account_id: Uuid,
    /// How it takes calls; `None`: it takes email events.
    pub calls: Option<&'a CallSettings>,
    /// What its account's addresses are hashed under; `None`: the account has had no source of calls yet.
    pub identity_key: Option<&'a IdentityKey>,
    /// Whether its calls tell whose addresses are.
    pub learns_identities: bool,
}

/// A call on its way into the database.
#[derive(Debug)]
pub struct PendingCall {
    pub(super) event_id: Vec<u8>,
    pub(super) user_hash: Uuid,
    pub(super) unknown_users: UnknownUsers,
    pub(super) action: PendingAction,
}

/// What is to be done for it.
#[derive(Debug)]
pub(super) enum PendingAction {
    Identify {
        body: String,
        lesson: Option<Lesson>,
    },
    /// With the call as it came, where it may be set aside.
    Track {
        body: String,
        raw: Option<String>,
    },
    Delete {
        raw: String,
    },
}

impl PendingCall {
    /// A call of this source, with its text as it came.
    pub fn new(origin: Origin<'_>, call: Call<'_>, raw: Cow<'_, str>) -> Self {
        let Call { id, user_id, action } = call;
        let (event_id, user_hash) = (id.as_str().as_bytes().to_vec(), user_hash(&user_id));
        let unknown_users = origin.calls.map(|calls| calls.unknown_users).unwrap_or_default();
        let action = match action {
            Action::Identify { body, email } => {
                let key = origin.identity_key.filter(|_| origin.learns_identities);
                let lesson = key.zip(email).map(|(key, email)| Lesson {
                    source_id: origin.source_id,
                    event_id: event_id.clone(),
                    account_id: origin.account_id,
                    address_hash: key.address_hash(&email),
                    user_id: user_id.as_bytes().to_vec(),
                    user_hash,
                });
                PendingAction::Identify { body, lesson }
            }
            Action::Track { body } => {
                let raw = (unknown_users == UnknownUsers::Ignore).then(|| raw.into_owned());
                PendingAction::Track { body, raw }
            }
            Action::Delete => PendingAction::Delete { raw: raw.into_owned() },
        };
        Self { event_id, user_hash, unknown_users, action }
    }

    /// Whether it asks to forget a user.
    pub fn is_delete(&self) -> bool {
        matches!(self.action, PendingAction::Delete { .. })
    }

    /// Its id.
    pub fn event_id(&self) -> &[u8] {
        &self.event_id
    }

    /// About how many bytes it holds.
    pub fn n_bytes(&self) -> usize {
        let texts = match &self.action {
            PendingAction::Identify { body, .. } => body.len(),
            PendingAction::Track { body, raw } => body.len() + raw.as_ref().map_or(0, String::len),
            PendingAction::Delete { raw } => raw.len(),
        };
        size_of::<Self>() + self.event_id.len() + texts
    }
}
