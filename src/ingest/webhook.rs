//! A webhook's events, sorted by what is to be done with them.

use std::mem::size_of;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::pending_call::{Origin, PendingCall};
use crate::domain::event::Kind;
use crate::domain::search_key::TrackFields;
use crate::domain::{json, track};
use crate::sources::element::{BodyElement, Disposition};
use crate::store::block::{Block, Record};
use crate::store::call_effects::User;
use crate::store::quarantine::QuarantineReason;

/// About what an event, kept or set aside, takes on its way into the database beside its own texts: its place in the
/// columns of a statement, and what the allocator adds.
const EVENT_OVERHEAD_BYTES: usize = 64;
const SET_ASIDE_OVERHEAD_BYTES: usize = 256;

/// The events of one webhook, to be committed together.
#[derive(Debug)]
pub struct Webhook {
    pub(super) source: Uuid,
    pub(super) account: Uuid,
    pub(super) received_at: OffsetDateTime,
    pub(super) events: Block,
    pub(super) kinds: Vec<Kind>,
    /// Of the events: those that say an address and no user id, by their place, with the address's hash.
    pub(super) unidentified: Vec<(usize, Uuid)>,
    /// Of a source of calls; `events` is empty then.
    pub(super) calls: Vec<PendingCall>,
    /// Users whose calls wait no longer. No sender asks for that: see [`held_calls`](super::held_calls).
    pub(super) release: Vec<User>,
    pub(super) quarantine: Vec<(QuarantineReason, String)>,
    pub(super) receipt: Receipt,
}

/// What became of a webhook's events: the body of the 200.
#[derive(Debug, Default, Serialize)]
pub struct Receipt {
    /// New events, to be forwarded.
    pub accepted: usize,
    /// Events that the source has sent before.
    pub duplicates: usize,
    /// Events that are not forwarded.
    pub ignored: usize,
    /// Of calls: those that wait for their user to be identified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<usize>,
    /// Events that cannot be used.
    pub rejected: Vec<RejectedElement>,
}

/// An element of a webhook's body that cannot be used.
#[derive(Debug, Serialize)]
pub struct RejectedElement {
    /// Its place in the body, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Webhook {
    /// Sorts a body's elements into what is appended and what is set aside.
    #[must_use]
    pub fn new(origin: Origin<'_>, received_at: OffsetDateTime, elements: Vec<BodyElement<'_>>) -> Self {
        let mut webhook =
            Self { kinds: Vec::with_capacity(elements.len()), ..Self::empty(origin.source_id, received_at) };
        let tracks = elements.iter().filter_map(|element| element.track());
        webhook.events.reserve(elements.len(), tracks.map(|track| track.as_json().len()).sum());
        webhook.account = origin.account_id;
        webhook.receipt.held = origin.calls.map(|_| 0);
        for (index, element) in elements.into_iter().enumerate() {
            match element.disposition {
                Disposition::Event(kind, id, track) => {
                    let keys = Some(track.keys());
                    let (event_id, track) = (id.as_str().as_bytes(), track.as_json().as_bytes());
                    if let Some(key) = origin.identity_key
                        && let Some(address) = unidentified_address(track)
                    {
                        webhook.unidentified.push((webhook.kinds.len(), key.address_hash(&address)));
                    }
                    webhook.kinds.push(kind);
                    webhook.events.push(Record { kind, received_at, event_id, track, keys });
                }
                Disposition::Call(call) => webhook.calls.push(PendingCall::new(origin, call, element.raw)),
                Disposition::Ignored { name, reason } => {
                    webhook.receipt.ignored += 1;
                    let why = QuarantineReason::Ignored { name: name.into_owned(), reason };
                    webhook.quarantine.push((why, element.raw.into_owned()));
                }
                Disposition::Rejected(rejection) => {
                    let reason = rejection.to_string();
                    webhook.receipt.rejected.push(RejectedElement { index, reason: reason.clone() });
                    webhook.quarantine.push((QuarantineReason::Rejected { reason }, element.raw.into_owned()));
                }
            }
        }
        webhook
    }

    /// No webhook of a sender's: the calls of these users of a source go into the log, where they wait no longer.
    #[must_use]
    pub fn release(source: Uuid, received_at: OffsetDateTime, users: Vec<User>) -> Self {
        Self { release: users, ..Self::empty(source, received_at) }
    }

    fn empty(source: Uuid, received_at: OffsetDateTime) -> Self {
        Self {
            source,
            account: Uuid::nil(),
            received_at,
            events: Block::default(),
            kinds: Vec::new(),
            unidentified: Vec::new(),
            calls: Vec::new(),
            release: Vec::new(),
            quarantine: Vec::new(),
            receipt: Receipt::default(),
        }
    }

    /// About how much memory it holds until it is answered, in bytes: far more than its body, where the elements are
    /// small.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let texts = |(why, payload): &(QuarantineReason, String)| {
            let why = match why {
                QuarantineReason::Ignored { name, .. } => name.len(),
                QuarantineReason::Rejected { reason } => 2 * reason.len(),
            };
            why + payload.len() + SET_ASIDE_OVERHEAD_BYTES
        };
        let quarantine: usize = self.quarantine.iter().map(texts).sum();
        let calls: usize = self.calls.iter().map(|call| call.n_bytes() + SET_ASIDE_OVERHEAD_BYTES).sum();
        size_of::<Self>() + self.events.n_bytes() + self.events.len() * EVENT_OVERHEAD_BYTES + quarantine + calls
    }

    /// How many events there are to write.
    pub(super) fn len(&self) -> usize {
        self.events.len() + self.calls.len() + self.release.len() + self.quarantine.len()
    }

    /// Its events, those of them whose users are known by their addresses told so.
    pub(super) fn identified(&self, user_of: impl Fn(Uuid) -> Option<String>) -> Option<Block> {
        let users: Vec<(usize, String)> =
            self.unidentified.iter().filter_map(|(at, hash)| Some((*at, user_of(*hash)?))).collect();
        if users.is_empty() {
            return None;
        }
        let (mut block, mut users) = (Block::default(), users.into_iter().peekable());
        for (at, record) in self.events.records().enumerate() {
            let user = users.next_if(|(of, _)| *of == at);
            match user.and_then(|(_, user)| track::identified(record.track, &user)) {
                Some(track) => block.push(Record { track: &track, keys: None, ..record }),
                None => block.push(record),
            }
        }
        Some(block)
    }
}

/// The address of a track's recipient, where it says no user id.
fn unidentified_address(track: &[u8]) -> Option<String> {
    if !track::is_anonymous(track) {
        return None;
    }
    Some(json::string(TrackFields::parse(track)?.traits.email?)?.into_owned())
}
