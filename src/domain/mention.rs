//! Whether a text is about somebody: by an email address that stands anywhere in it, or by an id that it gives as the
//! recipient's.
//!
//! An address says whom it concerns wherever it stands: as recipient, in a link, among properties. An id is a number or a
//! word, which may stand anywhere and mean something else: it counts only where it says who the recipient is.

use std::borrow::Cow;

use serde_json::Value;

/// Somebody, by address or by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Person {
    /// By email address, whatever the case.
    Email(String),
    /// By the sender's id of the recipient, exactly.
    Uid(String),
}

/// How often a text is decoded as a part of a URL.
const MAX_URL_DEPTH: usize = 3;
/// Objects that hold a recipient, in which `id` is theirs.
const OBJECTS: [&str; 2] = ["subscriber", "user"];
/// What says who the recipient is.
const ID_KEYS: [&str; 3] = ["uid", "user_id", "userId"];

impl Person {
    /// Whether an event is about them, given its track or its payload: JSON text, whole or cut off.
    #[must_use]
    pub fn is_in(&self, json: &str) -> bool {
        match self {
            Self::Email(address) => {
                // Escapes may hide it, and are rare.
                mentions(json, address) || (json.contains('\\') && any_string(json, |text| mentions(text, address)))
            }
            // Escapes may hide it.
            Self::Uid(id) if !json.contains(id.as_str()) && !json.contains('\\') => false,
            Self::Uid(id) => match serde_json::from_str::<Value>(json) {
                Ok(value) => is_recipient(&value, id, false),
                // Cut off, or no JSON: where it stands as a value of its own.
                Err(_) => stands_alone(json, id),
            },
        }
    }

    /// Whether a text that is no JSON names them. An id cannot be told from any other word there.
    #[must_use]
    pub fn is_named_in(&self, text: &str) -> bool {
        matches!(self, Self::Email(address) if mentions(text, address))
    }
}

/// Whether `text` holds the address as a whole, also as it is written in URLs.
fn mentions(text: &str, address: &str) -> bool {
    let is_there =
        |text: &str| positions(text, address).any(|(before, after)| !is_in_name(before) && !goes_on_as_host(after));
    if is_there(text) {
        return true;
    }
    let mut text = Cow::Borrowed(text);
    // A URL may stand in a URL.
    for _ in 0..MAX_URL_DEPTH {
        match decode_percent(&text) {
            Some(decoded) if is_there(&decoded) => return true,
            Some(decoded) => text = Cow::Owned(decoded),
            None => return false,
        }
    }
    false
}

/// The text that `text` stands for in a URL; `None`: the same.
fn decode_percent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let [first, tail @ ..] = rest {
        let decoded = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    (bytes.len() < text.len()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// What stands before and after each place of `part` in `text`, whatever the case.
fn positions<'t>(text: &'t str, part: &'t str) -> impl Iterator<Item = (&'t str, &'t str)> {
    let first = part.as_bytes().first().copied().unwrap_or_default();
    let bytes = text.as_bytes();
    let is_at = move |at: &usize| {
        let found = bytes.get(*at..*at + part.len());
        bytes[*at].eq_ignore_ascii_case(&first)
            && found.is_some_and(|found| found.eq_ignore_ascii_case(part.as_bytes()))
            && text.is_char_boundary(*at)
            && text.is_char_boundary(*at + part.len())
    };
    let n = if part.is_empty() { 0 } else { bytes.len() };
    (0..n).filter(is_at).map(move |at| (&text[..at], &text[at + part.len()..]))
}

/// Whether what stands before belongs to the name of an address.
fn is_in_name(before: &str) -> bool {
    let mut chars = before.chars().rev();
    match chars.next() {
        // Perhaps the end of an escape (`\n`).
        Some('b' | 'f' | 'n' | 'r' | 't') => chars.next() != Some('\\'),
        Some(c) => c.is_alphanumeric() || "._+-".contains(c),
        None => false,
    }
}

/// Whether the host of an address could go on.
fn goes_on_as_host(after: &str) -> bool {
    let mut chars = after.chars();
    match chars.next() {
        Some('.' | '-') => chars.next().is_some_and(char::is_alphanumeric),
        Some(c) => c.is_alphanumeric(),
        None => false,
    }
}

/// Whether one of the JSON's strings, read without escapes, is so.
fn any_string(json: &str, is_so: impl Fn(&str) -> bool + Copy) -> bool {
    fn any(value: &Value, is_so: impl Fn(&str) -> bool + Copy) -> bool {
        match value {
            Value::String(text) => is_so(text),
            Value::Array(items) => items.iter().any(|item| any(item, is_so)),
            Value::Object(entries) => entries.iter().any(|(key, value)| is_so(key) || any(value, is_so)),
            _ => false,
        }
    }
    serde_json::from_str::<Value>(json).is_ok_and(|value| any(&value, is_so))
}

fn is_recipient(value: &Value, id: &str, is_person: bool) -> bool {
    let is_id = |value: &Value| match value {
        Value::String(text) => text == id,
        Value::Number(number) => number.to_string() == id,
        _ => false,
    };
    match value {
        Value::Object(entries) => entries.iter().any(|(key, value)| {
            let says_who = ID_KEYS.contains(&key.as_str()) || (is_person && key == "id");
            (says_who && is_id(value)) || is_recipient(value, id, OBJECTS.contains(&key.as_str()))
        }),
        Value::Array(items) => items.iter().any(|item| is_recipient(item, id, is_person)),
        _ => false,
    }
}

fn stands_alone(text: &str, id: &str) -> bool {
    text.match_indices(id).any(|(at, found)| {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
        !is_word(text[..at].chars().next_back()) && !is_word(text[at + found.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_wherever_it_stands_and_no_other() {
        let person = Person::Email("bo+x@example.com".to_owned());
        for (text, expected) in [
            (r#"{"anonymousId":"bo+x@example.com"}"#, true),
            (r#"{"traits":{"email":"Bo+X@Example.COM"}}"#, true),
            (r#"{"email":"bo+x@example.com"}"#, true),
            (r#"{"email":"bo\u002bx\u0040example.com"}"#, true),
            (r#"{"url":"https://x/?e=bo+x@example.com&a=b"}"#, true),
            (r#"{"url":"https://x/?e=bo%2Bx%40example.com"}"#, true),
            (r#"{"url":"https://x/?to=https%3A%2F%2Fy%3Fe%3Dbo%252Bx%2540example.com%26a"}"#, true),
            (r#"{"url":"https://x%2Fbo+x%40example.com"}"#, true),
            (r#"{"to":"Bo <bo+x@example.com>, al@example.com"}"#, true),
            (r#"{"text":"a\nbo+x@example.com."}"#, true),
            (r#"{"cut off":"bo+x@example.com"#, true),
            (r#"{"email":"jimbo+x@example.com"}"#, false),
            (r#"{"email":"a.bo+x@example.com"}"#, false),
            (r#"{"email":"bo+x@example.com.au"}"#, false),
            (r#"{"email":"bo+x@example.community"}"#, false),
            (r#"{"email":"bo@example.com"}"#, false),
            ("", false),
        ] {
            assert_eq!(person.is_in(text), expected, "{text}");
        }
        assert!(person.is_named_in("unknown address bo+x@example.com"));
    }

    #[test]
    fn an_id_counts_where_it_says_who_the_recipient_is() {
        let person = Person::Uid("101".to_owned());
        for (text, expected) in [
            (r#"{"userId":"101","context":{}}"#, true),
            (r#"{"subscriber":{"uid":101}}"#, true),
            (r#"{"activity":{"user":{"id":"101"}}}"#, true),
            (r#"[{"user_id":"101"}]"#, true),
            (r#"{"uid":"1 01"}"#, false),
            (r#"{"id":"101","properties":{"link_id":"101"}}"#, false),
            (r#"{"userId":"1010"}"#, false),
            (r#"{"event":"x","uid":"101","cut"#, true),
            (r#"{"event":"x","uid":"2101","cut"#, false),
        ] {
            assert_eq!(person.is_in(text), expected, "{text}");
        }
        assert!(!person.is_named_in("event 101"));
    }
}
