//! What the stand-in for Nudgespot remembers: the newest of all that it was sent, and no more.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::rules::{Call, Fields, Identify, Refusal};
use crate::domain::text::visible_json;
use crate::domain::timestamp;

/// How many users are known, as hashes of their ids; more than are remembered.
const MAX_USERS: usize = 1_000_000;

/// A request to Nudgespot's API, and what was made of it.
#[derive(Clone, Debug)]
pub struct NudgespotRequest {
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The REST key that came along: the password of Basic authentication.
    pub key: Option<String>,
    /// The user that it is about.
    pub uid: Option<String>,
    /// The body, as far as it was read; of a very large one, the beginning.
    pub body: Arc<str>,
    /// The `Content-Type`.
    pub content_type: Option<String>,
    /// The `User-Agent`.
    pub user_agent: Option<String>,
    /// When it came.
    pub at: OffsetDateTime,
    /// What it was answered with; `None`: not at all.
    pub status: Option<u16>,
}

impl NudgespotRequest {
    /// As `GET /nudgespot/requests` lists it: without the key.
    pub(super) fn json(&self) -> String {
        let value = json!({
            "method": self.method,
            "path": self.path,
            "uid": self.uid,
            "status": self.status,
            "body": &*self.body,
            "content_type": self.content_type,
            "user_agent": self.user_agent,
            "at": timestamp::rfc3339(self.at),
        });
        visible_json(&value.to_string()).into_owned()
    }
}

/// The newest of what came.
struct Newest<T> {
    items: VecDeque<T>,
    max: usize,
    n_forgotten: usize,
}

impl<T> Newest<T> {
    fn new(max: usize) -> Self {
        Self { items: VecDeque::new(), max, n_forgotten: 0 }
    }

    /// Returns its number: how many came before.
    fn push(&mut self, item: T) -> usize {
        self.items.push_back(item);
        if self.items.len() > self.max {
            self.items.pop_front();
            self.n_forgotten += 1;
        }
        self.n_all() - 1
    }

    /// What has this number, unless it is forgotten.
    fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.items.get_mut(number.checked_sub(self.n_forgotten)?)
    }

    /// How many came, also those that are forgotten by now.
    fn n_all(&self) -> usize {
        self.n_forgotten + self.items.len()
    }

    /// What came after the first `n_seen`.
    fn after(&self, n_seen: usize) -> impl Iterator<Item = &T> {
        self.items.iter().skip(n_seen.saturating_sub(self.n_forgotten))
    }

    /// The newest, oldest first, `limit` at most.
    fn last(&self, limit: usize) -> impl Iterator<Item = &T> {
        self.after(self.n_all().saturating_sub(limit))
    }
}

/// A user, with all values as they were written.
struct Subscriber {
    uid: Box<RawValue>,
    href: Box<RawValue>,
    fields: BTreeMap<String, Box<RawValue>>,
    properties: BTreeMap<String, Box<RawValue>>,
    /// In the order in which they came.
    contacts: Vec<(String, BTreeMap<String, Box<RawValue>>)>,
}

impl Subscriber {
    fn merge(&mut self, identify: Identify) {
        merge(&mut self.fields, identify.fields);
        merge(&mut self.properties, identify.properties);
        for (kind, fields) in identify.contacts {
            let known = self.contacts.iter().position(|(known, _)| *known == kind);
            let place = known.unwrap_or_else(|| {
                self.contacts.push((kind, BTreeMap::new()));
                self.contacts.len() - 1
            });
            merge(&mut self.contacts[place].1, fields);
        }
    }

    fn json(&self) -> String {
        let raw = |value: Result<Box<RawValue>, _>| value.unwrap_or_default();
        let contacts: Vec<_> = self.contacts.iter().map(|(_, fields)| fields).collect();
        let [properties, contacts] = [raw(to_raw_value(&self.properties)), raw(to_raw_value(&contacts))];
        let mut all: BTreeMap<&str, &RawValue> =
            self.fields.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
        all.extend([
            ("uid", &*self.uid),
            ("href", &*self.href),
            ("properties", &*properties),
            ("contacts", &*contacts),
        ]);
        visible_json(&serde_json::to_string(&all).unwrap_or_default()).into_owned()
    }
}

fn merge(known: &mut BTreeMap<String, Box<RawValue>>, new: Fields) {
    known.extend(new.into_iter().map(|(name, value)| (name, value.to_owned())));
}

pub struct Memory {
    subscribers: Newest<Subscriber>,
    /// The number of each user who was ever identified, also of one who is forgotten but for this.
    numbers: HashMap<[u8; 16], usize>,
    /// Oldest first.
    numbers_in_order: VecDeque<([u8; 16], usize)>,
    /// JSON texts.
    activities: Newest<Arc<str>>,
    requests: Newest<NudgespotRequest>,
}

impl Memory {
    /// Remembers this many of everything.
    pub fn new(max: usize) -> Self {
        Self {
            subscribers: Newest::new(max),
            numbers: HashMap::new(),
            numbers_in_order: VecDeque::new(),
            activities: Newest::new(max),
            requests: Newest::new(max),
        }
    }

    /// Does what a call says, and returns the answer: the user or the activity, as JSON. `href` is where a new user is
    /// to be found.
    ///
    /// # Errors
    /// Where nobody knows the user.
    pub fn take(&mut self, call: Call, href: &str) -> Result<String, Refusal> {
        match call {
            Call::Identify(identify) => Ok(self.identify(identify, href)),
            Call::Activity(uid, raw) => {
                self.numbers.get(&hash(&uid)).ok_or(Refusal::UNKNOWN_USER)?;
                let text = visible_json(raw.get()).into_owned();
                self.activities.push(text.as_str().into());
                Ok(format!(r#"{{"activity":{text}}}"#))
            }
            Call::Subscriber(uid) => {
                let number = self.numbers.get(&hash(&uid)).copied();
                let known = number.and_then(|number| self.subscribers.get_mut(number));
                Ok(answer(known.ok_or(Refusal::UNKNOWN_USER)?))
            }
        }
    }

    fn identify(&mut self, identify: Identify, href: &str) -> String {
        let id = hash(&identify.uid);
        if let Some(known) = self.numbers.get(&id).copied().and_then(|number| self.subscribers.get_mut(number)) {
            known.merge(identify);
            return answer(known);
        }
        let raw = |text: &str| to_raw_value(text).unwrap_or_default();
        let mut subscriber = Subscriber {
            uid: raw(&identify.uid),
            href: raw(href),
            fields: BTreeMap::new(),
            properties: BTreeMap::new(),
            contacts: Vec::new(),
        };
        subscriber.merge(identify);
        let answer = answer(&subscriber);
        let number = self.subscribers.push(subscriber);
        self.numbers.insert(id, number);
        self.numbers_in_order.push_back((id, number));
        if self.numbers_in_order.len() > MAX_USERS
            && let Some((oldest, number)) = self.numbers_in_order.pop_front()
            // Unless he came again.
            && self.numbers.get(&oldest) == Some(&number)
        {
            self.numbers.remove(&oldest);
        }
        answer
    }

    pub fn record(&mut self, request: NudgespotRequest) {
        self.requests.push(request);
    }

    /// The newest users as JSON, in the order in which they were first identified.
    pub fn subscribers(&self, limit: usize) -> Vec<String> {
        self.subscribers.last(limit).map(Subscriber::json).collect()
    }

    /// The newest activities as JSON, as they were written, in order.
    pub fn activities(&self, limit: usize) -> Vec<Arc<str>> {
        self.activities.last(limit).cloned().collect()
    }

    /// The newest requests, in order.
    pub fn requests(&self, limit: usize) -> Vec<NudgespotRequest> {
        self.requests.last(limit).cloned().collect()
    }

    /// The requests after the first `n_seen`, as far as they are remembered, and how many there were in all.
    pub fn requests_after(&self, n_seen: usize) -> (Vec<NudgespotRequest>, usize) {
        (self.requests.after(n_seen).cloned().collect(), self.requests.n_all())
    }
}

fn answer(subscriber: &Subscriber) -> String {
    format!(r#"{{"subscriber":{}}}"#, subscriber.json())
}

fn hash(uid: &str) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&Sha256::digest(uid)[..16]);
    id
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::rules;
    use super::*;

    fn identify(memory: &mut Memory, subscriber: &str) -> String {
        let body = format!(r#"{{"subscriber":{subscriber}}}"#);
        let call = rules::identify(body.as_bytes()).call.expect("a call");
        memory.take(call, "http://x/u").expect("taken")
    }

    fn activity(memory: &mut Memory, uid: &str, more: &str) -> Result<String, Refusal> {
        let body = format!(r#"{{"activity":{{"event":"e","subscriber":{{"uid":"{uid}"}}{more}}}}}"#);
        memory.take(rules::activity(body.as_bytes()).call.expect("a call"), "")
    }

    #[test]
    fn a_user_is_merged_and_an_activity_kept_as_they_were_written() {
        let mut memory = Memory::new(10);
        identify(
            &mut memory,
            r#"{"uid":"u","href":"mine","first_name":"Ada","name":"A","properties":{"n":12345678901234567890.10,"o":{"a":1},"k":1},
                "contacts":[{"contact_type":"email","contact_value":"a@example.com","subscription_status":"inactive"}]}"#,
        );
        let answer = identify(
            &mut memory,
            r#"{"uid":"u","first_name":"Eva","name":null,"properties":{"o":{"b":null},"l":[1e400]},
                "contacts":[{"contact_type":"phone","contact_value":"1"},{"contact_type":"email","contact_value":"b@example.com"}]}"#,
        );
        let [known] = &memory.subscribers(9)[..] else { panic!("one user") };
        assert_eq!(answer, format!(r#"{{"subscriber":{known}}}"#));
        assert!(known.contains(r#""n":12345678901234567890.10"#) && known.contains("[1e400]"), "{known}");
        let known: Value = serde_json::from_str(&known.replace("1e400", "2")).expect("JSON");
        assert_eq!(
            known,
            json!({
                "uid": "u", "href": "http://x/u", "first_name": "Eva", "name": null,
                "properties": {"n": 12_345_678_901_234_567_890.1, "o": {"b": null}, "k": 1, "l": [2]},
                "contacts": [
                    {"contact_type": "email", "contact_value": "b@example.com", "subscription_status": "inactive"},
                    {"contact_type": "phone", "contact_value": "1"},
                ],
            })
        );
        let answer = activity(&mut memory, "u", r#","properties":{"n":12345678901234567890 }"#).expect("taken");
        let [kept] = &memory.activities(9)[..] else { panic!("one activity") };
        assert_eq!(&**kept, r#"{"event":"e","subscriber":{"uid":"u"},"properties":{"n":12345678901234567890 }}"#);
        assert_eq!(answer, format!(r#"{{"activity":{kept}}}"#));
    }

    #[test]
    fn an_activity_of_nobody_makes_no_user() {
        let mut memory = Memory::new(10);
        assert_eq!(activity(&mut memory, "u", ""), Err(Refusal::UNKNOWN_USER));
        assert_eq!(memory.take(Call::Subscriber("u".to_owned()), ""), Err(Refusal::UNKNOWN_USER));
        assert_eq!((memory.subscribers(9).len(), memory.activities(9).len()), (0, 0));
    }

    #[test]
    fn the_newest_are_listed_in_order_and_all_users_known() {
        let mut memory = Memory::new(3);
        for n in 0..5 {
            identify(&mut memory, &format!(r#"{{"uid":"u{n}"}}"#));
            activity(&mut memory, "u0", &format!(r#","n":{n}"#)).expect("a known user");
        }
        let uids = |memory: &Memory, limit| {
            let texts = memory.subscribers(limit).into_iter();
            texts.map(|text| serde_json::from_str::<Value>(&text).expect("JSON")["uid"].clone()).collect::<Vec<_>>()
        };
        identify(&mut memory, r#"{"uid":"u2"}"#);
        assert_eq!(uids(&memory, 9), ["u2", "u3", "u4"]);
        assert_eq!(uids(&memory, 1), ["u4"]);
        assert!(memory.activities(9)[0].contains(r#""n":2"#), "{:?}", memory.activities(9));
        assert_eq!(memory.take(Call::Subscriber("u0".to_owned()), ""), Err(Refusal::UNKNOWN_USER), "forgotten");
        identify(&mut memory, r#"{"uid":"u0"}"#);
        assert_eq!(uids(&memory, 9), ["u3", "u4", "u0"], "as a new one");
    }
}
