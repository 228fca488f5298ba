//! What an answer of Segment means (docs/contract.md, Segment's answers).

use std::time::Duration;

use crate::destinations::outcome::Outcome;

/// The meaning of a status, with the `Retry-After` that came along.
#[must_use]
pub fn outcome(status: u16, retry_after: Option<Duration>) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered,
        400 | 413 => Outcome::Refused,
        501 | 505 | 511 => Outcome::Pause,
        408 | 410 | 429 | 460 | 500..=599 => Outcome::Retry { after: retry_after },
        _ => Outcome::Pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_contracts_meaning() {
        for status in 100..1000 {
            let expected = match status {
                200..=299 => Outcome::Delivered,
                400 | 413 => Outcome::Refused,
                408 | 410 | 429 | 460 => Outcome::Retry { after: None },
                500..=599 if ![501, 505, 511].contains(&status) => Outcome::Retry { after: None },
                _ => Outcome::Pause,
            };
            assert_eq!(outcome(status, None), expected, "{status}");
            let after = Some(Duration::from_secs(7));
            let asked = outcome(status, after);
            let is_retry = matches!(expected, Outcome::Retry { .. });
            assert_eq!(asked, if is_retry { Outcome::Retry { after } } else { expected }, "{status}");
        }
    }
}
