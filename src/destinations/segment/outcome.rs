//! What an answer of Segment means (docs/contract.md, Segment's answers).

use std::time::{Duration, SystemTime};

/// What is to be done after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Segment took the batch.
    Delivered,
    /// Send it again, after the time that Segment asks for, or else one of our own choice.
    Retry {
        /// What `Retry-After` says.
        after: Option<Duration>,
    },
    /// An event of the batch is bad: find out which.
    Refused,
    /// The source cannot send, with this key or to this endpoint: wait for its admin.
    Pause,
}

impl Outcome {
    /// The meaning of a status, with the `Retry-After` that came along.
    #[must_use]
    pub fn of(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            200..=299 => Self::Delivered,
            400 | 413 => Self::Refused,
            501 | 505 | 511 => Self::Pause,
            408 | 410 | 429 | 460 | 500..=599 => Self::Retry { after: retry_after },
            _ => Self::Pause,
        }
    }

    /// Its name, in the log of attempts.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry { .. } => "retry",
            Self::Refused => "refused",
            Self::Pause => "paused",
        }
    }
}

/// The wait that a `Retry-After` asks for: seconds, or an HTTP date (RFC 9110, section 10.2.3).
#[must_use]
pub fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds: very long.
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(header).ok()?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
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
            assert_eq!(Outcome::of(status, None), expected, "{status}");
            let after = Some(Duration::from_secs(7));
            let asked = Outcome::of(status, after);
            let is_retry = matches!(expected, Outcome::Retry { .. });
            assert_eq!(asked, if is_retry { Outcome::Retry { after } } else { expected }, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(" 3 ", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999999999999999", now), Some(Duration::from_secs(u64::MAX)));
        for wrong in ["", "soon", "-1", "1.5"] {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }
}
