//! What an answer of Nudgespot means (docs/contract.md, Nudgespot's answers).

use std::time::Duration;

use serde_json::Value;

use super::Operation;
use crate::destinations::outcome::Outcome;

/// The meaning of a status and a body, with the `Retry-After` that came along.
#[must_use]
pub fn outcome(operation: Operation, status: u16, retry_after: Option<Duration>, body: &[u8]) -> Outcome {
    match status {
        200..=299 if says_error(body) => Outcome::Refused,
        200..=299 => Outcome::Delivered,
        400 | 409 | 413 | 415 | 422 => Outcome::Refused,
        // The user that an activity is about is not known there. Without words of Nudgespot's own, the address is wrong.
        404 if operation == Operation::Activity && says_error(body) => Outcome::Refused,
        501 | 505 => Outcome::Pause,
        408 | 423 | 425 | 429 | 500..=599 => Outcome::Retry { after: retry_after },
        _ => Outcome::Pause,
    }
}

/// Whether a body is a JSON object with an `error` that says something.
fn says_error(body: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(body)) => body.get("error").is_some_and(|error| match error {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            _ => true,
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_contracts_meaning() {
        for operation in [Operation::Identify, Operation::Activity] {
            for status in 100..1000 {
                let expected = match status {
                    200..=299 => Outcome::Delivered,
                    400 | 409 | 413 | 415 | 422 => Outcome::Refused,
                    408 | 423 | 425 | 429 => Outcome::Retry { after: None },
                    500..=599 if ![501, 505].contains(&status) => Outcome::Retry { after: None },
                    _ => Outcome::Pause,
                };
                assert_eq!(outcome(operation, status, None, b"x"), expected, "{status}");
            }
        }
        let after = Some(Duration::from_secs(7));
        assert_eq!(outcome(Operation::Activity, 429, after, b""), Outcome::Retry { after });
    }

    #[test]
    fn an_error_in_the_body_outweighs_success_and_tells_who_does_not_know_the_user() {
        for body in [r#"{"error":"no"}"#, r#"{"error":{"type":"x","message":"y"}}"#] {
            assert_eq!(outcome(Operation::Identify, 200, None, body.as_bytes()), Outcome::Refused, "{body}");
            assert_eq!(outcome(Operation::Activity, 404, None, body.as_bytes()), Outcome::Refused, "{body}");
            assert_eq!(outcome(Operation::Identify, 404, None, body.as_bytes()), Outcome::Pause, "{body}");
        }
        for body in ["", "{}", r#"{"error":null}"#, r#"{"error":""}"#, r#"["error"]"#, "error"] {
            assert_eq!(outcome(Operation::Activity, 200, None, body.as_bytes()), Outcome::Delivered, "{body}");
            assert_eq!(outcome(Operation::Activity, 404, None, body.as_bytes()), Outcome::Pause, "{body}");
        }
    }
}
