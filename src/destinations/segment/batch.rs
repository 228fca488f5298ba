//! The body of a `/v1/batch` request, within Segment's limits by construction.

use time::OffsetDateTime;

use crate::domain::event::MessageId;
use crate::domain::rejection::MAX_TRACK_BYTES;
use crate::domain::timestamp;
use crate::domain::track::{self, Envelope};

/// The most bytes that Segment takes for a batch: "500 KB", read as the smaller of its meanings.
pub const MAX_BATCH_BYTES: usize = 500_000;
/// The most events of a batch. Segment answers 200 to a larger one, and drops it.
pub const MAX_BATCH_EVENTS: usize = 2_500;
const PREFIX: &[u8] = br#"{"batch":["#;
const SUFFIX_BYTES: usize = br#"],"sentAt":"2016-01-27T09:15:00.000Z"}"#.len();

/// Track calls, to be sent together.
#[derive(Debug)]
pub struct Batch {
    body: Vec<u8>,
    n_events: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self { body: PREFIX.to_vec(), n_events: 0 }
    }
}

impl Batch {
    /// Adds a track call, if there is room for it; says whether there was.
    #[must_use]
    pub fn push(&mut self, message_id: MessageId, segment_event: &str, track: &[u8], envelope: Envelope) -> bool {
        let before = self.body.len();
        if self.n_events > 0 {
            self.body.push(b',');
        }
        let start = self.body.len();
        track::write(&mut self.body, message_id, segment_event, track, envelope);
        let fits = self.body.len() + SUFFIX_BYTES <= MAX_BATCH_BYTES
            && self.body.len() - start <= MAX_TRACK_BYTES
            && self.n_events < MAX_BATCH_EVENTS;
        if fits {
            self.n_events += 1;
        } else {
            self.body.truncate(before);
        }
        fits
    }

    /// How many track calls there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_events
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_events == 0
    }

    /// The request's body. Segment corrects the events' times by `sent_at`, so it must be the time of this attempt.
    #[must_use]
    pub fn into_body(mut self, sent_at: OffsetDateTime) -> Vec<u8> {
        self.body.extend_from_slice(br#"],"sentAt":""#);
        self.body.extend_from_slice(timestamp::rfc3339(sent_at).as_bytes());
        self.body.extend_from_slice(br#""}"#);
        self.body
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ENVELOPE: Envelope = Envelope { integration: "nudgespot", integrations: "{}" };

    proptest! {
        #[test]
        fn a_batch_keeps_to_segments_limits_and_loses_nothing(sizes in proptest::collection::vec(0usize..33_000, 1..80)) {
            let mut batch = Batch::default();
            let mut n_pushed = 0;
            for size in &sizes {
                let track = format!(r#"{{"properties":{{"x":"{}"}},"context":{{}}}}"#, "x".repeat(*size));
                n_pushed += usize::from(batch.push(MessageId(Uuid::nil()), "Email Opened", track.as_bytes(), ENVELOPE));
            }
            prop_assert_eq!(n_pushed, batch.len());
            let body = batch.into_body(OffsetDateTime::UNIX_EPOCH);
            prop_assert!(body.len() <= MAX_BATCH_BYTES);
            let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            prop_assert_eq!(json["batch"].as_array().map(Vec::len), Some(n_pushed));
            prop_assert_eq!(&json["sentAt"], "1970-01-01T00:00:00.000Z");
            for event in json["batch"].as_array().into_iter().flatten() {
                prop_assert!(event.to_string().len() <= MAX_TRACK_BYTES);
            }
        }
    }

    #[test]
    fn a_batch_holds_2500_events_at_most() {
        let mut batch = Batch::default();
        let n = (0..3_000).filter(|_| batch.push(MessageId(Uuid::nil()), "X", br#"{"context":{}}"#, ENVELOPE)).count();
        assert!(n <= MAX_BATCH_EVENTS && n == batch.len());
    }
}
