//! Segment's documented rules for `/v1/batch` and `/v1/track`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::destinations::segment::{MAX_BATCH_BYTES, MAX_BATCH_EVENTS};
use crate::domain::rejection::MAX_TRACK_BYTES;

/// A JSON object whose values are as they were written.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// What Segment would make of a request.
pub struct Verdict<'a> {
    pub status: u16,
    pub message: &'static str,
    pub write_key: Option<String>,
    pub sent_at: Option<String>,
    pub n_events: usize,
    /// The messages that are not dropped.
    pub keep: Vec<Message<'a>>,
}

/// A message with an id.
pub struct Message<'a> {
    pub id: String,
    pub fields: Fields<'a>,
}

/// Judges a body. `basic_user` is the write key, unless the body has one.
pub fn judge(body: &[u8], is_batch: bool, basic_user: Option<String>) -> Verdict<'_> {
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
    let Ok(Some(fields)) = serde_json::from_slice::<&RawValue>(body).map(object) else {
        return refuse(400, "the request is not a JSON object", basic_user);
    };
    let write_key = basic_user.or_else(|| text(&fields, "writeKey"));
    if write_key.is_none() {
        return refuse(401, "no write key", None);
    }
    let sent_at = text(&fields, "sentAt");
    let taken =
        |n_events, keep| Verdict { status: 200, message: "", write_key: write_key.clone(), sent_at, n_events, keep };
    if !is_batch {
        if body.trim_ascii().len() > MAX_TRACK_BYTES {
            return refuse(400, "the event is over 32 KB", write_key);
        }
        return taken(1, message(fields).into_iter().collect());
    }
    let Some(Ok(events)) = fields.get("batch").map(|batch| serde_json::from_str::<Vec<&RawValue>>(batch.get())) else {
        return refuse(400, "there is no batch", write_key);
    };
    if events.iter().any(|event| event.get().len() > MAX_TRACK_BYTES) {
        return refuse(400, "an event is over 32 KB", write_key);
    }
    // Answered with 200 all the same: too many events, and those without an id or an identity, are dropped in silence.
    let n_events = events.len();
    let events = if n_events > MAX_BATCH_EVENTS { Vec::new() } else { events };
    taken(n_events, events.into_iter().filter_map(object).filter_map(message).collect())
}

fn object(value: &RawValue) -> Option<Fields<'_>> {
    serde_json::from_str(value.get()).ok()
}

fn text(fields: &Fields, name: &str) -> Option<String> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

fn message(fields: Fields) -> Option<Message> {
    let filled = |name: &str| text(&fields, name).filter(|text| !text.is_empty());
    let id = filled("messageId")?;
    filled("userId").or_else(|| filled("anonymousId"))?;
    Some(Message { id, fields })
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
        let exactly = |n: usize| {
            let event = r#"{"messageId":"m","userId":"u","x":""}"#;
            event.replace(r#""x":""#, &format!(r#""x":"{}"#, "x".repeat(n - event.len())))
        };
        assert_eq!(verdict(&format!(r#"{{"batch":[{}]}}"#, exactly(32_000))), (200, 1));
        assert_eq!(verdict(&format!(r#"{{"batch":[{}]}}"#, exactly(32_001))).0, 400);
        let track = |body: &str| judge(body.as_bytes(), false, Some("key".to_owned())).status;
        assert_eq!((track(&exactly(32_000)), track(&exactly(32_001))), (200, 400));
        for bad in ["{", "", "[]", "{}", r#"{"batch":{}}"#, r#"{"batch":[{]}"#, r#"{"batch":[]} x"#] {
            assert_eq!(verdict(bad).0, 400, "{bad}");
        }
        assert_eq!(judge(b"{\"batch\":[\"\xff\"]}", true, Some("key".to_owned())).status, 400, "not UTF-8");
        assert_eq!(verdict(r#"{"batch":[7,null,"x",{"messageId":7,"userId":"u"}]}"#), (200, 0));
        assert_eq!(verdict(r#"{"batch":[{"userId":"u"},{"messageId":"m"}]}"#), (200, 0));
    }

    #[test]
    fn the_write_key_comes_by_basic_auth_or_in_the_body() {
        assert_eq!(judge(br#"{"batch":[]}"#, true, None).status, 401);
        assert_eq!(judge(br#"{"batch":[],"writeKey":"k"}"#, true, None).write_key.as_deref(), Some("k"));
        assert_eq!(judge(br#"{"messageId":"m","userId":"u"}"#, false, Some("k".to_owned())).keep.len(), 1);
    }
}
