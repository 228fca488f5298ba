//! Requests to a destination, as they are written down.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::storable;

/// No row is about numbers that are further apart: the most that a step of delivery reads, what was left to be settled with it,
/// and some more.
pub(super) const MAX_ATTEMPT_SPAN: i64 = 10_000;

/// A request, or several that went well.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, which migrations/0001_init.sql explains")]
pub struct Attempt {
    pub from_seq: i64,
    pub to_seq: i64,
    pub n_events: i32,
    pub n_requests: i32,
    pub started_at: OffsetDateTime,
    pub duration: Duration,
    pub status: Option<u16>,
    pub outcome: &'static str,
    pub reason: Option<String>,
}

impl Attempt {
    /// Requests that went well, told in one where their numbers follow each other: what is told of a number, its own request
    /// is in. The time is that of the last to be made, so that none of its events came later, and of the one that took longest.
    #[must_use]
    pub fn joined(attempts: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut told: Vec<Self> = Vec::new();
        for one in attempts {
            match told.last_mut() {
                Some(run) if run.is_followed_by(&one) => {
                    run.to_seq = one.to_seq;
                    run.n_events += one.n_events;
                    run.n_requests += one.n_requests;
                    run.started_at = run.started_at.max(one.started_at);
                    run.duration = run.duration.max(one.duration);
                }
                _ => told.push(one),
            }
        }
        told
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        let went_well = self.reason.is_none() && next.reason.is_none();
        went_well && (self.to_seq + 1, self.status, self.outcome) == (next.from_seq, next.status, next.outcome)
    }
}

/// Requests, column by column.
#[derive(Default)]
pub(super) struct Attempts {
    pub source_ids: Vec<Uuid>,
    pub from_seqs: Vec<i64>,
    pub to_seqs: Vec<i64>,
    pub n_events: Vec<i32>,
    pub n_requests: Vec<i32>,
    pub started_at: Vec<OffsetDateTime>,
    pub duration_ms: Vec<i32>,
    pub statuses: Vec<Option<i16>>,
    pub outcomes: Vec<String>,
    pub reasons: Vec<Option<String>>,
}

impl Attempts {
    pub fn push(&mut self, source: Uuid, attempt: &Attempt) {
        self.source_ids.push(source);
        self.from_seqs.push(attempt.from_seq);
        self.to_seqs.push(attempt.to_seq);
        self.n_events.push(attempt.n_events);
        self.n_requests.push(attempt.n_requests);
        self.started_at.push(attempt.started_at);
        self.duration_ms.push(milliseconds(attempt.duration));
        self.statuses.push(attempt.status.and_then(|status| i16::try_from(status).ok()));
        self.outcomes.push(attempt.outcome.to_owned());
        self.reasons.push(attempt.reason.as_deref().map(storable));
    }
}

/// Whole milliseconds, as the database stores durations.
fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_number_its_request_is_in() {
        let request = |n: i64, status| Attempt {
            from_seq: n,
            to_seq: n,
            n_events: 1,
            n_requests: 1,
            started_at: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(n.unsigned_abs()),
            duration: Duration::from_millis(10 - n.unsigned_abs()),
            status: Some(status),
            outcome: "delivered",
            reason: None,
        };
        let failed =
            Attempt { outcome: "retry", reason: Some("Segment answered 200 in vain".into()), ..request(7, 201) };
        let told = Attempt::joined([
            request(1, 200),
            request(2, 200),
            request(3, 201),
            request(5, 201),
            request(6, 201),
            failed.clone(),
            Attempt { from_seq: 8, to_seq: 8, ..failed },
        ]);
        let runs: Vec<_> = told.iter().map(|run| (run.from_seq, run.to_seq, run.n_events, run.n_requests)).collect();
        assert_eq!(runs, [(1, 2, 2, 2), (3, 3, 1, 1), (5, 6, 2, 2), (7, 7, 1, 1), (8, 8, 1, 1)]);
        assert_eq!((told[0].started_at.unix_timestamp(), told[0].duration), (2, Duration::from_millis(9)));
        assert!(Attempt::joined([]).is_empty());
    }
}
