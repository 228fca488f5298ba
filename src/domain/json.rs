//! JSON read without being rebuilt: objects whose values stay the text that the sender wrote.
//!
//! What is passed on is copied byte for byte, so numbers keep their digits, and most of a webhook is never decoded.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How many keys one object of an event may have. An event of 32 KB with more is nothing that a mail tool sends, and
/// the bound lets keys be looked up by walking a short list.
pub const MAX_KEYS: usize = 1_000;

/// A JSON object, one level deep: its keys, in order, with the text of their values. Of a key that comes twice the last
/// value counts, as in ECMAScript.
#[derive(Debug, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

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
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| *value)
    }

    /// Removes `key` and returns its value.
    pub fn take(&mut self, key: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.remove(at).1)
    }

    /// Removes the first of `keys` whose value `read` accepts, and returns what it made of it. Keys before it that hold
    /// nothing (`null`, a blank string) go as well: the sender said nothing there.
    pub fn take_first<T>(&mut self, keys: &[&str], read: impl Fn(&'a RawValue) -> Option<T>) -> Option<T> {
        for key in keys {
            let Some(value) = self.find(key) else { continue };
            let found = read(value);
            if found.is_some() || is_blank(value) {
                self.take(key);
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Adds the entries of `other` whose keys are not here yet.
    pub fn merge(&mut self, other: Self) {
        for (key, value) in other.0 {
            if self.find(&key).is_none() {
                self.0.push((key, value));
            }
        }
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }
}

impl<'a> IntoIterator for Object<'a> {
    type Item = (Cow<'a, str>, &'a RawValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
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
                let mut entries: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(12);
                while let Some(Text(key)) = map.next_key()? {
                    let value = map.next_value()?;
                    if let Some(entry) = entries.iter_mut().find(|(k, _)| *k == key) {
                        entry.1 = value;
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

/// A string, borrowed unless it has escapes. (serde's own `Cow` always copies.)
struct Text<'a>(Cow<'a, str>);

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
    if !raw.get().starts_with('"') {
        return None;
    }
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// The digits of `raw`, where it is a number.
#[must_use]
pub fn number(raw: &RawValue) -> Option<&str> {
    raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(raw.get())
}

/// Whether `raw` says nothing: `null`, or a string of white space.
#[must_use]
pub fn is_blank(raw: &RawValue) -> bool {
    raw.get() == "null" || string(raw).is_some_and(|text| text.trim().is_empty())
}

/// Whether `raw` means something to every JSON parser. A [`RawValue`] is only known to be well-formed: its strings may
/// hold lone surrogates, its numbers be out of range, its brackets be nested a million deep.
#[must_use]
pub fn is_portable(raw: &RawValue) -> bool {
    let text = raw.get();
    let plain = match text.as_bytes().first() {
        Some(b'"') => !text.contains("\\u"),
        Some(b'{' | b'[') => false,
        Some(b't' | b'f' | b'n') => true,
        _ => text.len() <= 20 && !text.contains(['e', 'E']),
    };
    plain || serde_json::from_str::<serde_json::Value>(text).is_ok()
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
    fn portable_is_what_every_parser_reads() {
        for (text, expected) in [
            (r#""plain \n""#, true),
            (r#""\u00e4 \u0000""#, true),
            (r#""\ud83d\ude00""#, true),
            (r#""\ud800""#, false),
            (r#"{"a":["\udc00"]}"#, false),
            ("12345678901234567890123", true),
            ("1e999", false),
            ("[1,2,[3]]", true),
            ("null", true),
        ] {
            assert_eq!(is_portable(raw(text)), expected, "{text}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(!is_portable(raw(&deep)));
    }
}
