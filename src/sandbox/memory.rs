//! What the stand-in remembers: the newest of all that it was sent, and no more.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::rules::{Message, Verdict};
use crate::domain::text::visible_json;
use crate::domain::timestamp;

/// How many requests are remembered.
const MAX_REQUESTS: usize = 100_000;
/// How many message ids are remembered, as hashes.
const MAX_IDS: usize = 1_000_000;
/// How much of a text is remembered that says who sent a request.
const MAX_TEXT_CHARS: usize = 200;

/// What the stand-in was sent, and what it made of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The write key that came along.
    pub write_key: Option<String>,
    /// The body's size, as far as it was read.
    pub n_bytes: usize,
    /// The events in it.
    pub n_events: usize,
    /// The body's `sentAt`.
    pub sent_at: Option<String>,
    /// The `User-Agent`.
    pub user_agent: Option<String>,
    /// When it came.
    pub at: OffsetDateTime,
    /// What it was answered with; `None`: not at all.
    pub status: Option<u16>,
}

pub struct Memory {
    /// JSON texts: numbers stay as they were written, and take less room than when parsed.
    messages: VecDeque<Arc<str>>,
    max_messages: usize,
    n_kept: usize,
    ids: HashSet<[u8; 16]>,
    /// Oldest first.
    ids_in_order: VecDeque<[u8; 16]>,
    requests: VecDeque<Request>,
    n_requests: usize,
}

impl Memory {
    pub fn new(max_messages: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            max_messages,
            n_kept: 0,
            ids: HashSet::new(),
            ids_in_order: VecDeque::new(),
            requests: VecDeque::new(),
            n_requests: 0,
        }
    }

    /// The newest messages, oldest first, `limit` at most.
    pub fn messages(&self, limit: usize) -> Vec<Arc<str>> {
        let n_left_out = self.messages.len().saturating_sub(limit);
        self.messages.iter().skip(n_left_out).cloned().collect()
    }

    /// How many messages were kept, also those that are forgotten by now.
    pub fn n_kept(&self) -> usize {
        self.n_kept
    }

    /// How many requests there were.
    pub fn n_requests(&self) -> usize {
        self.n_requests
    }

    /// The requests after the first `n_seen`, as far as they are remembered.
    pub fn requests_after(&self, n_seen: usize) -> Vec<Request> {
        let n_forgotten = self.n_requests - self.requests.len();
        self.requests.iter().skip(n_seen.saturating_sub(n_forgotten)).cloned().collect()
    }

    /// Remembers a request, and what is to be kept of it.
    pub fn record(&mut self, verdict: Verdict, n_bytes: usize, user_agent: Option<&str>, status: Option<u16>) {
        let now = OffsetDateTime::now_utc();
        let shortened = |text: &str| text.chars().take(MAX_TEXT_CHARS).collect::<String>();
        if status == Some(200) {
            let [write_key, received_at, sent_at] =
                [json!(verdict.write_key), json!(timestamp::rfc3339(now)), json!(verdict.sent_at)]
                    .map(|value| to_raw_value(&value).unwrap_or_default());
            let more: [(&str, &RawValue); 3] =
                [("writeKey", &write_key), ("receivedAt", &received_at), ("sentAt", &sent_at)];
            for message in verdict.keep {
                self.keep(message, more);
            }
        }
        self.requests.push_back(Request {
            write_key: verdict.write_key.as_deref().map(shortened),
            n_bytes,
            n_events: verdict.n_events,
            sent_at: verdict.sent_at.as_deref().map(shortened),
            user_agent: user_agent.map(shortened),
            at: now,
            status,
        });
        self.n_requests += 1;
        if self.requests.len() > MAX_REQUESTS {
            self.requests.pop_front();
        }
    }

    fn keep<'a>(&mut self, mut message: Message<'a>, more: [(&str, &'a RawValue); 3]) {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(&message.id)[..16]);
        if !self.ids.insert(id) {
            return;
        }
        self.ids_in_order.push_back(id);
        if self.ids_in_order.len() > MAX_IDS
            && let Some(oldest) = self.ids_in_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        message.fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
        let text = serde_json::to_string(&message.fields).unwrap_or_default();
        self.messages.push_back(visible_json(&text).into());
        self.n_kept += 1;
        if self.messages.len() > self.max_messages {
            self.messages.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::rules::judge;

    fn record(memory: &mut Memory, body: &str) {
        let verdict = judge(body.as_bytes(), true, Some("key".to_owned()));
        memory.record(verdict, body.len(), None, Some(200));
    }

    #[test]
    fn the_newest_messages_and_requests_are_remembered() {
        let mut memory = Memory::new(10);
        for n in 0..25 {
            record(&mut memory, &format!(r#"{{"batch":[{{"messageId":"m{n}","userId":"u"}}]}}"#));
        }
        assert_eq!((memory.n_kept(), memory.n_requests(), memory.messages(100).len()), (25, 25, 10));
        assert!(memory.messages(1)[0].contains(r#""messageId":"m24""#));
        assert_eq!((memory.requests_after(20).len(), memory.requests_after(25).len()), (5, 0));
        memory.requests.drain(..22);
        assert_eq!(memory.requests_after(0).len(), 3, "the others are forgotten");
    }

    #[test]
    fn a_message_is_kept_once_and_as_it_was_written() {
        let mut memory = Memory::new(10);
        let event = r#"{"messageId":"m","userId":"u","n":12345678901234567890.10,"s":"a\u009bb","sentAt":"mine"}"#;
        record(&mut memory, &format!(r#"{{"batch":[{event},{event}],"sentAt":"now"}}"#));
        record(&mut memory, &format!(r#"{{"batch":[{event}]}}"#).replace(r"\u009b", "\u{9b}"));
        let [message] = &memory.messages(10)[..] else { panic!("one message") };
        assert!(
            message.contains(r#""n":12345678901234567890.10"#) && message.contains(r#""s":"a\u009bb""#),
            "{message}"
        );
        assert!(message.contains(r#""sentAt":"now""#) && message.contains(r#""writeKey":"key""#), "{message}");
        assert_eq!(memory.n_requests(), 2);
    }
}
