//! A webhook's events, sorted by what is to be done with them.

use std::mem::size_of;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::event::Kind;
use crate::sources::element::{BodyElement, Disposition};
use crate::store::block::{Block, Record};
use crate::store::quarantine::QuarantineReason;

/// About what an event, kept or set aside, takes on its way into the database beside its own texts: its place in the
/// columns of a statement, and what the allocator adds.
const EVENT_OVERHEAD_BYTES: usize = 64;
const SET_ASIDE_OVERHEAD_BYTES: usize = 256;

/// The events of one webhook, to be committed together.
#[derive(Debug)]
pub struct Webhook {
    pub(super) source: Uuid,
    pub(super) received_at: OffsetDateTime,
    pub(super) events: Block,
    pub(super) kinds: Vec<Kind>,
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
    /// Events that Segment has no name for.
    pub ignored: usize,
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
    pub fn new(source: Uuid, received_at: OffsetDateTime, elements: Vec<BodyElement<'_>>) -> Self {
        let (mut events, mut kinds) = (Block::default(), Vec::with_capacity(elements.len()));
        let (mut quarantine, mut receipt) = (Vec::new(), Receipt::default());
        for (index, element) in elements.into_iter().enumerate() {
            match element.disposition {
                Disposition::Event(kind, id, track) => {
                    kinds.push(kind);
                    let keys = Some(track.keys());
                    let (event_id, track) = (id.as_str().as_bytes(), track.as_json().as_bytes());
                    events.push(Record { kind, received_at, event_id, track, keys });
                }
                Disposition::Call(_) => {}
                Disposition::Ignored { name, reason } => {
                    receipt.ignored += 1;
                    let why = QuarantineReason::Ignored { name: name.into_owned(), reason };
                    quarantine.push((why, element.raw.into_owned()));
                }
                Disposition::Rejected(rejection) => {
                    let reason = rejection.to_string();
                    receipt.rejected.push(RejectedElement { index, reason: reason.clone() });
                    quarantine.push((QuarantineReason::Rejected { reason }, element.raw.into_owned()));
                }
            }
        }
        Self { source, received_at, events, kinds, quarantine, receipt }
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
        size_of::<Self>() + self.events.n_bytes() + self.events.len() * EVENT_OVERHEAD_BYTES + quarantine
    }

    /// How many events there are to write.
    pub(super) fn len(&self) -> usize {
        self.events.len() + self.quarantine.len()
    }
}
