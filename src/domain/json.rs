//! JSON read without being rebuilt: objects whose values stay the text that the sender wrote.
//!
//! What is passed on is copied byte for byte, so numbers keep their digits, and most of a webhook is never decoded.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::iter::FilterMap;
use std::vec::IntoIter;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How many keys one object of an event may have. An event of 32 KB with more is nothing that a mail tool sends, and
/// the bound lets keys be looked up by walking a short list.
pub const MAX_KEYS: usize = 1_000;

/// A JSON object, one level deep: its keys, in order, with the text of their values. Of a key that comes twice the last
/// value counts, as in ECMAScript.
///
/// An entry that is taken leaves its key behind, so that those after it need not be moved.
#[derive(Clone, Debug, Default)]
pub struct Object<'a>(Vec<Entry<'a>>);

type Entry<'a> = (Cow<'a, str>, Option<&'a RawValue>);

impl<'a> Object<'a> {
    /// Reads `raw` where it is an object; `None` where it is another kind of value.
    ///
    /// # Errors
    /// Where its keys are no Unicode, or more than [`MAX_KEYS`].
    pub fn parse(raw: &'a RawValue) -> Result<Option<Self>, serde_json::Error> {
        if raw.get().starts_with('{') { serde_json::from_str(raw.get()).map(Some) } else { Ok(None) }
    }

    /// The value under `key`.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find_map(|(k, value)| value.filter(|_| k == key))
    }

    /// Removes `key` and returns its value.
    pub fn take(&mut self, key: &str) -> Option<&'a RawValue> {
        self.0.iter_mut().find(|(k, value)| value.is_some() && k == key)?.1.take()
    }

    /// Removes the first of `keys` whose value `read` accepts, and returns what it made of it.
    pub fn take_first<T>(&mut self, keys: &[&str], read: impl Fn(&'a RawValue) -> Option<T>) -> Option<T> {
        keys.iter().find_map(|key| {
            let found = read(self.find(key)?)?;
            self.take(key);
            Some(found)
        })
    }

    /// Removes the keys of which `is_field` holds and whose value says nothing (see [`is_blank`]).
    pub fn drop_blank(&mut self, is_field: impl Fn(&str) -> bool) {
        self.retain(|key, value| !(is_blank(value) && is_field(key)));
    }

    /// Keeps the entries of which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&str, &'a RawValue) -> bool) {
        self.0.retain(|(key, value)| value.is_some_and(|value| keep(key, value)));
    }

    /// Adds the entries of `other` whose keys are not here yet, and returns the others.
    #[must_use]
    pub fn merge(&mut self, other: Self) -> Self {
        let mut conflicts = Self::default();
        for (key, value) in other {
            let to = if self.find(&key).is_some() { &mut conflicts } else { &mut *self };
            to.0.push((key, Some(value)));
        }
        conflicts
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().filter_map(|(key, value)| Some((key.as_ref(), (*value)?)))
    }
}

impl<'a> IntoIterator for Object<'a> {
    type Item = (Cow<'a, str>, &'a RawValue);
    type IntoIter = FilterMap<IntoIter<Entry<'a>>, fn(Entry<'a>) -> Option<Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut entries: Vec<Entry<'de>> = Vec::with_capacity(12);
                let mut index = NameIndex::default();
                while let Some(Text(key)) = map.next_key()? {
                    let value = Some(map.next_value()?);
                    if let Some(at) = index.position(&entries, &key) {
                        entries[at].1 = value;
                    } else if entries.len() < MAX_KEYS {
                        entries.push((key, value));
                    } else {
                        return Err(A::Error::custom(format_args!("more than {MAX_KEYS} keys in one object")));
                    }
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Finds a name in a list of distinct names that only grows: by walking it while it is short, by a hash table from then
/// on. Walking alone would cost the square of the names that a stranger chooses to send.
#[derive(Debug, Default)]
pub struct NameIndex<'a>(Option<HashMap<Cow<'a, str>, usize>>);

impl<'a> NameIndex<'a> {
    /// Up to here a walk is faster.
    const MAX_WALK: usize = 32;

    /// The place of `name` in `list`, which must be the same in every call, but for what was added at its end.
    pub fn position<V>(&mut self, list: &[(Cow<'a, str>, V)], name: &str) -> Option<usize> {
        if list.len() <= Self::MAX_WALK {
            return list.iter().position(|(other, _)| other == name);
        }
        let places = self.0.get_or_insert_default();
        for (at, (other, _)) in list.iter().enumerate().skip(places.len()) {
            places.insert(other.clone(), at);
        }
        places.get(name).copied()
    }
}

/// A string, borrowed unless it has escapes. (serde's own `Cow` always copies.)
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

/// The string that `raw` spells; `None` where it is no string, or none of Unicode.
#[must_use]
pub fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if has_escape(inner) {
        return serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0);
    }
    Some(Cow::Borrowed(inner))
}

/// Whether a string of JSON, without its quotes, is written with escapes. Without them it is what it spells.
pub(crate) fn has_escape(inner: &str) -> bool {
    inner.as_bytes().contains(&b'\\')
}

/// The digits of `raw`, where it is a number.
#[must_use]
pub fn number(raw: &RawValue) -> Option<&str> {
    raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(raw.get())
}

/// A string that says something, as the JSON it is written in.
#[must_use]
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    string(raw).is_some_and(|text| !is_white(&text)).then_some(Cow::Borrowed(raw.get()))
}

/// Whether there is nothing but white space.
#[must_use]
pub fn is_white(text: &str) -> bool {
    // Nearly every text begins with something else.
    !text.as_bytes().first().is_some_and(u8::is_ascii_graphic) && text.trim().is_empty()
}

/// An id, which may come as a number, as a JSON string.
#[must_use]
pub fn id_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    match number(raw) {
        Some(digits) => Some(Cow::Owned(format!("\"{digits}\""))),
        None => text(raw),
    }
}

/// Whether `raw` says nothing: `null`, or a string of white space.
#[must_use]
pub fn is_blank(raw: &RawValue) -> bool {
    match raw.get().as_bytes() {
        b"null" | b"\"\"" => true,
        // Nearly every string: it begins with something that is neither white space nor may stand for it.
        [b'"', first, ..] if first.is_ascii_graphic() && *first != b'\\' => false,
        [b'"', ..] => string(raw).is_some_and(|text| is_white(&text)),
        _ => false,
    }
}

/// Whether `raw` means something to every JSON parser. A [`RawValue`] is only known to be well-formed: its strings may
/// hold lone surrogates, its numbers be out of range, its brackets be nested a million deep.
#[must_use]
pub fn is_portable(raw: &RawValue) -> bool {
    let text = raw.get();
    let plain = match text.as_bytes().first() {
        Some(b'"') => !has_escape(text),
        Some(b'{' | b'[') => false,
        Some(b't' | b'f' | b'n') => true,
        _ => text.len() <= 20 && !text.contains(['e', 'E']),
    };
    plain || serde_json::from_str::<Readable>(text).is_ok()
}

/// Any value, read to its end as [`serde_json::Value`] would be, of which nothing is kept.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Readable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Readable, E> {
                Ok(Readable)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Readable, E> {
                Ok(Readable)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Readable, E> {
                Ok(Readable)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Readable, E> {
                Ok(Readable)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Readable, E> {
                Ok(Readable)
            }

            fn visit_str<E>(self, _: &str) -> Result<Readable, E> {
                Ok(Readable)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Readable, A::Error> {
                while seq.next_element::<Readable>()?.is_some() {}
                Ok(Readable)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Readable, A::Error> {
                while map.next_entry::<Readable, Readable>()?.is_some() {}
                Ok(Readable)
            }
        }
        deserializer.deserialize_any(Reading)
    }
}

/// Writes `text` as a JSON string, always in the same way.
pub(crate) fn write_string(out: &mut String, text: &str) {
    // Without an early end, several bytes are looked at together.
    let n_special = text.bytes().filter(|b| *b < b' ' || *b == b'"' || *b == b'\\').count();
    if n_special == 0 {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).expect("a string is always JSON"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn of_a_key_that_comes_twice_the_last_value_counts() {
        let object = Object::parse(raw(r#"{"a":1,"\u0061":2}"#)).expect("readable").expect("an object");
        assert_eq!(object.find("a").map(RawValue::get), Some("2"));
        assert_eq!(object.iter().count(), 1);
    }

    #[test]
    fn an_object_has_a_thousand_keys_at_most() {
        let with = |n: usize| {
            let keys: Vec<String> = (0..n).map(|i| format!(r#""k{i}":0"#)).collect();
            format!("{{{}}}", keys.join(","))
        };
        assert!(Object::parse(raw(&with(MAX_KEYS))).is_ok());
        assert!(Object::parse(raw(&with(MAX_KEYS + 1))).is_err());
    }

    #[test]
    fn many_names_are_told_apart_as_few_are() {
        for n in [1, 31, 32, 33, 34, 100, MAX_KEYS] {
            let keys: Vec<String> = (0..n).map(|i| format!(r#""k{i}":{i},"k{}":-1"#, i / 2)).collect();
            let text = format!("{{{}}}", keys.join(","));
            let object = Object::parse(raw(&text)).expect("readable").expect("an object");
            assert_eq!(object.iter().count(), n);
            for i in 0..n {
                let last = if i <= (n - 1) / 2 { "-1".to_owned() } else { i.to_string() };
                assert_eq!(object.find(&format!("k{i}")).map(RawValue::get), Some(last.as_str()), "k{i} of {n}");
            }
        }
    }

    #[test]
    fn blank_is_what_says_nothing() {
        for (text, expected) in [
            ("null", true),
            (r#""""#, true),
            (r#"" ""#, true),
            (r#""\t\u00a0""#, true),
            ("\"\u{3000}\"", true),
            (r#""x""#, false),
            (r#"" x""#, false),
            (r#""\u0000""#, false),
            ("\"\u{e4}\"", false),
            (r#""\ud800""#, false),
            ("0", false),
            ("false", false),
            ("[]", false),
            ("{}", false),
        ] {
            assert_eq!(is_blank(raw(text)), expected, "{text}");
        }
    }

    #[test]
    fn portable_is_what_every_parser_reads() {
        for (text, expected) in [
            (r#""plain \n""#, true),
            (r#""\u00e4 \u0000""#, true),
            (r#""\ud83d\ude00""#, true),
            (r#""\ud800""#, false),
            (r#"{"a":["\udc00"]}"#, false),
            (r#"{"\udc00":1}"#, false),
            (r#"{"a":{"b":[1.5,-1,null,true,"\u00e4"]}}"#, true),
            (r#"{"a":[1e999]}"#, false),
            ("12345678901234567890123", true),
            ("1e999", false),
            ("[1,2,[3]]", true),
            ("null", true),
        ] {
            assert_eq!(is_portable(raw(text)), expected, "{text}");
        }
        for (depth, expected) in [(127, true), (128, false), (100_000, false)] {
            let deep = "[".repeat(depth) + &"]".repeat(depth);
            assert_eq!(is_portable(raw(&deep)), expected, "{depth}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&deep).is_ok(), expected, "{depth}");
        }
    }
}
