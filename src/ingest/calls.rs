//! What becomes of calls: which go into the log, which wait for their user to be identified, and which are ignored.
//!
//! Decided in a lane's turn, call by call in the order in which they came, by what the database knows of their users at that
//! moment. A user's calls that waited follow the `identify`; a call of a user some of whose calls still wait, waits behind them.

use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;
use uuid::Uuid;

use super::pending_call::{PendingAction, PendingCall};
use super::webhook::Webhook;
use crate::domain::call::{CallFields, UnknownUsers};
use crate::domain::event::Kind;
use crate::domain::json;
use crate::store::block::{Block, Record};
use crate::store::call_effects::{Effects, User, Users};
use crate::store::calls::{HeldCall, Holds, KnownUsers};
use crate::store::quarantine::QuarantineReason;

/// Why a call is ignored that nobody has told of the user of.
pub const NOT_IDENTIFIED: &str = "not_identified";
/// Why a call is kept that asks to forget a user.
const TO_BE_DELETED: &str = "to_be_deleted_at_nudgespot";

/// What became of a call, or of one that had waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is among the events to append, if the log has not got it yet.
    Appended(Kind),
    /// The same, but it came before: a `track` that had waited.
    Released,
    /// It is among those to be held, if it is not yet.
    Held(Vec<u8>),
    /// It came before a call that has its user forgotten.
    Forgotten,
    /// It has its user forgotten, and is in the log, by its id alone, so that it does so once.
    Deletion,
    /// It came before.
    Duplicate,
    /// It is set aside.
    Ignored,
}

/// The users whom these webhooks concern.
pub fn users<'a>(webhooks: impl Iterator<Item = &'a Webhook>) -> Users {
    let users: HashSet<User> = webhooks
        .flat_map(|webhook| {
            let called = webhook.calls.iter().map(|call| (webhook.source, call.user_hash));
            called.chain(webhook.release.iter().copied())
        })
        .collect();
    users.into_iter().collect()
}

/// Sorts the calls of the webhooks of a commit, one webhook after the other.
#[derive(Default)]
pub struct CallSorter {
    known: KnownUsers,
    known_deletions: HashSet<(Uuid, Vec<u8>)>,
    /// Calls that are to wait.
    holds: Holds,
    /// Of these, those behind which no other calls of their users wait: an `identify` may still come.
    held_here: HashMap<User, Vec<HeldCall>>,
    effects: Effects,
    /// Users to be forgotten, and up to which call.
    deletions: HashMap<User, CallPlace>,
    forgotten_accounts: Vec<Uuid>,
    forgotten_users: Users,
    place: CallPlace,
}

/// The how-manieth call of a commit.
type CallPlace = usize;

/// What the calls of a webhook come to.
pub struct SortedCalls {
    /// To be appended.
    pub events: Block,
    /// To be set aside.
    pub quarantine: Vec<(QuarantineReason, String)>,
    /// Of each call, and in between of those that had waited.
    pub fates: Vec<Fate>,
}

impl CallSorter {
    /// A sorter that knows this of the users of all these webhooks, and which calls to forget users came before.
    pub fn new<'a>(
        known: KnownUsers,
        known_deletions: HashSet<(Uuid, Vec<u8>)>,
        webhooks: impl Iterator<Item = &'a Webhook>,
    ) -> Self {
        let mut deletions = HashMap::new();
        let calls = webhooks.flat_map(|webhook| webhook.calls.iter().map(|call| (webhook.source, call)));
        for (place, (source, call)) in calls.enumerate() {
            if call.is_delete() && !known_deletions.contains(&(source, call.event_id.clone())) {
                deletions.insert((source, call.user_hash), place);
            }
        }
        Self { known, known_deletions, deletions, ..Self::default() }
    }

    /// Sorts the calls of the next webhook.
    pub fn sort(&mut self, webhook: &Webhook) -> SortedCalls {
        let mut sorted = SortedCalls {
            events: Block::default(),
            quarantine: Vec::new(),
            fates: Vec::with_capacity(webhook.calls.len()),
        };
        for user in &webhook.release {
            // Of users who are about to be forgotten, nothing is.
            if !self.deletions.contains_key(user) {
                self.release(*user, &mut sorted);
            }
        }
        for call in &webhook.calls {
            let fate = self.fate(webhook, call, &mut sorted);
            // An `identify` stands before what it releases.
            sorted.fates.push(fate);
            if matches!(call.action, PendingAction::Identify { .. }) {
                self.release((webhook.source, call.user_hash), &mut sorted);
            }
            self.place += 1;
        }
        sorted
    }

    fn fate(&mut self, webhook: &Webhook, call: &PendingCall, sorted: &mut SortedCalls) -> Fate {
        let user = (webhook.source, call.user_hash);
        let is_forgotten = self.deletions.get(&user).is_some_and(|deletion| self.place < *deletion);
        match &call.action {
            PendingAction::Delete { .. } if self.known_deletions.contains(&(webhook.source, call.event_id.clone())) => {
                Fate::Duplicate
            }
            PendingAction::Delete { raw } => {
                self.forget(webhook.account, user);
                append(sorted, Kind::Track, &call.event_id, webhook.received_at, "");
                let why = QuarantineReason::Ignored { name: "delete".to_owned(), reason: Some(TO_BE_DELETED) };
                sorted.quarantine.push((why, raw.clone()));
                Fate::Deletion
            }
            _ if is_forgotten => Fate::Forgotten,
            PendingAction::Identify { body, lesson } => {
                self.known.identified.insert(user);
                self.effects.users.push(user);
                self.effects.lessons.extend(lesson.clone());
                append(sorted, Kind::Identify, &call.event_id, webhook.received_at, body)
            }
            PendingAction::Track { body, raw } => {
                let is_known = self.known.identified.contains(&user);
                if is_known {
                    self.release(user, sorted);
                }
                match call.unknown_users {
                    UnknownUsers::Ignore if !is_known => {
                        let fields = CallFields::parse(Kind::Track, body.as_bytes());
                        let name = fields.and_then(|fields| Some(json::string(fields.event?)?.into_owned()));
                        let why =
                            QuarantineReason::Ignored { name: name.unwrap_or_default(), reason: Some(NOT_IDENTIFIED) };
                        sorted.quarantine.push((why, raw.clone().unwrap_or_else(|| body.clone())));
                        Fate::Ignored
                    }
                    UnknownUsers::Hold if !is_known || self.known.cut.contains(&user) => {
                        let (event_id, received_at) = (call.event_id.clone(), webhook.received_at);
                        let held = HeldCall { event_id, received_at, body: body.clone() };
                        if !self.known.cut.contains(&user) {
                            self.held_here.entry(user).or_default().push(held.clone());
                        }
                        self.holds.push(user, held);
                        Fate::Held(call.event_id.clone())
                    }
                    _ => append(sorted, Kind::Track, &call.event_id, webhook.received_at, body),
                }
            }
        }
    }

    /// Appends the calls of a user that wait, in the order in which they came.
    fn release(&mut self, user: User, sorted: &mut SortedCalls) {
        let waiting = self.known.held.remove(&user).unwrap_or_default();
        for call in waiting.into_iter().chain(self.held_here.remove(&user).unwrap_or_default()) {
            append(sorted, Kind::Track, &call.event_id, call.received_at, &call.body);
            sorted.fates.push(Fate::Released);
            self.effects.released.push(user.0, call.event_id);
        }
    }

    fn forget(&mut self, account: Uuid, user: User) {
        self.known.identified.remove(&user);
        self.known.held.remove(&user);
        self.known.cut.remove(&user);
        self.forgotten_accounts.push(account);
        self.forgotten_users.push(user);
    }

    /// What is to be done beside appending.
    pub fn finish(self) -> CallEffects {
        CallEffects {
            holds: self.holds,
            effects: self.effects,
            forgotten: (self.forgotten_accounts, self.forgotten_users),
        }
    }
}

/// What calls do beside being appended.
#[derive(Default)]
pub struct CallEffects {
    /// Those that are to wait.
    pub holds: Holds,
    /// What is done along with the append.
    pub effects: Effects,
    /// Users to forget, with their accounts.
    pub forgotten: (Vec<Uuid>, Users),
}

/// A body that is empty is one that was erased: it keeps the call's id.
fn append(sorted: &mut SortedCalls, kind: Kind, event_id: &[u8], received_at: OffsetDateTime, body: &str) -> Fate {
    sorted.events.push(Record { kind, received_at, event_id, track: body.as_bytes(), keys: None });
    Fate::Appended(kind)
}
