//! By what events are searched for: recipient, email, campaign and kind, as small hashes.
//!
//! The log keeps the keys of a block's events beside it, so that a search passes over blocks that cannot hold what it looks
//! for without reading them. A key says that a block may hold it, never that it does: whoever searches compares the event.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::call::CallFields;
use super::event::Kind;
use super::json;

/// What is searched for. The numbers are part of the stored hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SearchField {
    /// The recipient's `uid`, email address or anonymous id.
    Recipient = 1,
    /// `email_id`.
    EmailId = 2,
    /// `campaign_id`.
    CampaignId = 3,
    /// The kind of event, by [`Kind::as_str`].
    Kind = 4,
}

/// A hash of a field's value. Stored: how it is made must stay as it is. Upper and lower case have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SearchKey(u16);

impl SearchKey {
    /// The key of `text`.
    #[must_use]
    pub fn new(field: SearchField, text: &str) -> Self {
        if text.is_ascii() { Self::of(field, text) } else { Self::of(field, &text.to_lowercase()) }
    }

    /// Eight bytes at a time: every event has some of these.
    fn of(field: SearchField, text: &str) -> Self {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        // Makes ASCII letters lower case. Some other characters become one, as well: a few more keys are the same.
        const CASE: u64 = 0x2020_2020_2020_2020;
        #[expect(clippy::as_conversions, reason = "the only way to read an enum's number")]
        let mut hash = u64::from(field as u8).wrapping_mul(FACTOR);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ (u64::from_le_bytes(word) | CASE)).wrapping_mul(FACTOR);
            hash ^= hash >> 32;
        }
        let key = u16::try_from(hash.wrapping_mul(FACTOR) >> 48).unwrap_or_default();
        // 0 stands for none.
        Self(key.max(1))
    }

    /// The key of a kind of event.
    #[must_use]
    pub fn of_kind(kind: Kind) -> Self {
        Self::new(SearchField::Kind, kind.as_str())
    }

    /// The key of a text that is written as JSON; `None`: it is no string.
    #[must_use]
    pub fn of_json(field: SearchField, text: &str) -> Option<Self> {
        let inner = text.strip_prefix('"')?.strip_suffix('"')?;
        if json::has_escape(inner) {
            return Some(Self::new(field, &serde_json::from_str::<Cow<'_, str>>(text).ok()?));
        }
        Some(Self::new(field, inner))
    }

    /// As it is stored, two bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

/// The keys of one event, but for its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchKeys([u16; 5]);

impl SearchKeys {
    /// The keys of an event: of its identity, email address, anonymous id, email and campaign.
    #[must_use]
    pub fn new(keys: [Option<SearchKey>; 5]) -> Self {
        Self(keys.map(|key| key.map_or(0, |key| key.0)))
    }

    /// The keys of an event or call, read from what the log keeps of it.
    #[must_use]
    pub fn of(kind: Kind, stored: &[u8]) -> Self {
        match kind {
            Kind::Identify | Kind::Track => Self::of_call(kind, stored),
            _ => Self::of_track(stored),
        }
    }

    fn of_call(kind: Kind, body: &[u8]) -> Self {
        let Some(call) = CallFields::parse(kind, body) else { return Self::default() };
        let key = |raw: &RawValue| SearchKey::of_json(SearchField::Recipient, raw.get());
        Self::new([key(call.user_id), call.email().and_then(key), None, None, None])
    }

    /// The keys of an event, read from its track (see [`Track::as_json`](super::track::Track::as_json)).
    #[must_use]
    pub fn of_track(track: &[u8]) -> Self {
        let Some(said) = TrackFields::parse(track) else { return Self::default() };
        let key = |field, raw: Option<&RawValue>| raw.and_then(|raw| SearchKey::of_json(field, raw.get()));
        Self::new([
            key(SearchField::Recipient, said.user_id.or(said.anonymous_id)),
            key(SearchField::Recipient, said.traits.email),
            key(SearchField::Recipient, said.traits.anon_id),
            key(SearchField::EmailId, said.properties.email_id),
            key(SearchField::CampaignId, said.properties.campaign_id),
        ])
    }

    /// Each key.
    pub fn iter(&self) -> impl Iterator<Item = SearchKey> + use<> {
        self.0.into_iter().filter(|key| *key != 0).map(SearchKey)
    }
}

/// What people look at first in a track, each as the JSON that stands there.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the fields of a track: docs/contract.md")]
pub struct TrackFields<'a> {
    pub user_id: Option<&'a RawValue>,
    pub anonymous_id: Option<&'a RawValue>,
    pub timestamp: Option<&'a RawValue>,
    pub properties: PropertyFields<'a>,
    pub traits: TraitFields<'a>,
}

/// Of its properties.
#[derive(Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "Segment's own names")]
pub struct PropertyFields<'a> {
    #[serde(borrow)]
    pub email_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub email_subject: Option<&'a RawValue>,
    #[serde(borrow)]
    pub campaign_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub campaign_name: Option<&'a RawValue>,
    #[serde(borrow)]
    pub link_url: Option<&'a RawValue>,
}

/// Of its traits.
#[derive(Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "their own names")]
pub struct TraitFields<'a> {
    #[serde(borrow)]
    pub email: Option<&'a RawValue>,
    #[serde(borrow)]
    pub anon_id: Option<&'a RawValue>,
}

impl<'a> TrackFields<'a> {
    /// Reads a track; `None`: it is none.
    #[must_use]
    pub fn parse(track: &'a [u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Context<'a> {
            #[serde(borrow, default)]
            traits: TraitFields<'a>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Said<'a> {
            #[serde(borrow)]
            user_id: Option<&'a RawValue>,
            #[serde(borrow)]
            anonymous_id: Option<&'a RawValue>,
            #[serde(borrow)]
            timestamp: Option<&'a RawValue>,
            #[serde(borrow, default)]
            properties: PropertyFields<'a>,
            #[serde(borrow)]
            context: Option<Context<'a>>,
        }
        let said: Said<'a> = serde_json::from_slice(track).ok()?;
        Some(Self {
            user_id: said.user_id,
            anonymous_id: said.anonymous_id,
            timestamp: said.timestamp,
            properties: said.properties,
            traits: said.context.map(|context| context.traits).unwrap_or_default(),
        })
    }

    /// Whether the track's field is `text`, whatever the case.
    #[must_use]
    pub fn is(&self, field: SearchField, text: &str) -> bool {
        let of = |raw: Option<&'a RawValue>| raw.and_then(json::string).is_some_and(|said| is_same(&said, text));
        match field {
            SearchField::Recipient => {
                [self.user_id, self.anonymous_id, self.traits.email, self.traits.anon_id].into_iter().any(of)
            }
            SearchField::EmailId => of(self.properties.email_id),
            SearchField::CampaignId => of(self.properties.campaign_id),
            SearchField::Kind => false,
        }
    }
}

/// Whether two texts are the same, whatever the case.
#[must_use]
pub fn is_same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || !(a.is_ascii() && b.is_ascii()) && a.to_lowercase() == b.to_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_what_they_were() {
        let keys = [
            SearchKey::new(SearchField::Recipient, "pgibbons@example.com"),
            SearchKey::new(SearchField::EmailId, "18vzF7u3z"),
            SearchKey::new(SearchField::CampaignId, ""),
            SearchKey::of_kind(Kind::MarkedAsSpam),
        ];
        assert_eq!(keys.map(SearchKey::to_bytes).map(u16::from_be_bytes), [17307, 2816, 40396, 44688]);
    }

    #[test]
    fn case_makes_no_difference_and_the_field_does() {
        let key = |text| SearchKey::new(SearchField::Recipient, text);
        for (a, b) in [("Ann@Example.COM", "ann@example.com"), ("ÄNN@example.com", "änn@EXAMPLE.com"), ("U1", "u1")] {
            assert_eq!(key(a), key(b));
            assert!(is_same(a, b));
        }
        assert_ne!(key("a"), SearchKey::new(SearchField::EmailId, "a"));
        assert_ne!(key("a"), key("b"));
        assert!(!is_same("a", "b"));
    }

    proptest! {
        #[test]
        fn a_track_has_the_keys_of_what_it_says(text in ".{1,20}", email in ".{1,20}") {
            let track = serde_json::json!({
                "userId": text,
                "properties": {"email_id": text, "campaign_id": 7, "campaign_name": null},
                "context": {"traits": {"email": email}},
            }).to_string();
            let keys: Vec<_> = SearchKeys::of_track(track.as_bytes()).iter().collect();
            let expected = [(SearchField::Recipient, &text), (SearchField::Recipient, &email), (SearchField::EmailId, &text)];
            prop_assert_eq!(keys, expected.map(|(field, text)| SearchKey::new(field, text)));
            let fields = TrackFields::parse(track.as_bytes()).expect("a track");
            prop_assert!(expected.iter().all(|(field, text)| fields.is(*field, &text.to_uppercase().to_lowercase()) || fields.is(*field, text)));
            prop_assert!(!fields.is(SearchField::CampaignId, &text));
        }
    }
}
