//! Segment's documented rules for `/v1/batch` and `/v1/track`.

use serde_json::Value;

use crate::domain::track::MAX_TRACK_BYTES;
use crate::segment::{MAX_BATCH_BYTES, MAX_BATCH_EVENTS};

/// What Segment would make of a request.
pub struct Verdict {
    pub status: u16,
    pub message: &'static str,
    pub write_key: Option<String>,
    pub sent_at: Option<String>,
    pub n_events: usize,
    /// The messages that are not dropped.
    pub keep: Vec<Value>,
}

/// Judges a body. `basic_user` is the write key, unless the body has one.
pub fn judge(body: &[u8], is_batch: bool, basic_user: Option<String>) -> Verdict {
    let refuse = |status, message, write_key| Verdict {
        status,
        message,
        write_key,
        sent_at: None,
        n_events: 0,
        keep: Vec::new(),
    };
    if body.len() > MAX_BATCH_BYTES {
        return refuse(400, "the request is over 500 KB", basic_user);
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(body) else {
        return refuse(400, "the request is not a JSON object", basic_user);
    };
    let text = |fields: &serde_json::Map<String, Value>, name: &str| Some(fields.get(name)?.as_str()?.to_owned());
    let write_key = basic_user.or_else(|| text(&fields, "writeKey"));
    if write_key.is_none() {
        return refuse(401, "no write key", None);
    }
    let sent_at = text(&fields, "sentAt");
    let events = match (is_batch, fields.remove("batch")) {
        (false, _) => vec![Value::Object(fields)],
        (true, Some(Value::Array(events))) => events,
        (true, _) => return refuse(400, "there is no batch", write_key),
    };
    if events.iter().any(|event| event.to_string().len() > MAX_TRACK_BYTES) {
        return refuse(400, "an event is over 32 KB", write_key);
    }
    let n_events = events.len();
    // Answered with 200 all the same: too many events, and those without an id or an identity, are dropped in silence.
    let keep = if n_events > MAX_BATCH_EVENTS { Vec::new() } else { events.into_iter().filter(is_kept).collect() };
    Verdict { status: 200, message: "", write_key, sent_at, n_events, keep }
}

fn is_kept(event: &Value) -> bool {
    let has = |name: &str| event.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    has("messageId") && (has("userId") || has("anonymousId"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(body: &str) -> (u16, usize) {
        let verdict = judge(body.as_bytes(), true, Some("key".to_owned()));
        (verdict.status, verdict.keep.len())
    }

    #[test]
    fn the_documented_limits_hold() {
        let event = r#"{"messageId":"m","userId":"u"}"#;
        let many = |n: usize| format!(r#"{{"batch":[{}]}}"#, vec![event; n].join(","));
        assert_eq!(verdict(&many(2_500)), (200, 2_500));
        assert_eq!(verdict(&many(2_501)), (200, 0), "dropped in silence");
        assert_eq!(verdict(&format!(r#"{{"batch":[{event}],"x":"{}"}}"#, "x".repeat(500_000))).0, 400);
        let large = format!(r#"{{"batch":[{{"messageId":"m","userId":"u","x":"{}"}}]}}"#, "x".repeat(32_000));
        assert_eq!(verdict(&large).0, 400);
        assert_eq!(verdict("{").0, 400);
        assert_eq!(verdict(r#"{"batch":[{"userId":"u"},{"messageId":"m"}]}"#), (200, 0));
    }

    #[test]
    fn the_write_key_comes_by_basic_auth_or_in_the_body() {
        assert_eq!(judge(br#"{"batch":[]}"#, true, None).status, 401);
        assert_eq!(judge(br#"{"batch":[],"writeKey":"k"}"#, true, None).write_key.as_deref(), Some("k"));
        assert_eq!(judge(br#"{"messageId":"m","userId":"u"}"#, false, Some("k".to_owned())).keep.len(), 1);
    }
}
