//! How the pages of a source speak of what it takes and of where that goes.

use crate::sources::Kind;

/// The words of a source.
#[derive(Debug, PartialEq, Eq)]
pub struct Terms {
    /// Where it sends.
    pub destination: &'static str,
    /// What opens the destination.
    pub key: &'static str,
    /// What it takes: one, and several.
    pub one: &'static str,
    pub many: &'static str,
    /// Whether it takes calls.
    pub are_calls: bool,
}

/// Email events, for Segment.
static EVENTS: Terms =
    Terms { destination: "Segment", key: "write key", one: "event", many: "events", are_calls: false };
/// Calls of Segment's API, for Nudgespot.
static CALLS: Terms = Terms { destination: "Nudgespot", key: "REST key", one: "call", many: "calls", are_calls: true };

impl Terms {
    /// Those of a kind of source; of one that this program does not know, those of most.
    pub fn of(kind: Option<Kind>) -> &'static Self {
        if kind.is_some_and(Kind::takes_calls) { &CALLS } else { &EVENTS }
    }
}
