//! What a body is taken apart into, whatever its kind.

use std::borrow::Cow;

use serde::de::{Deserialize, Error, IgnoredAny};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::OWN_MARK;
use crate::domain::call::Call;
use crate::domain::event::{EventId, Kind};
use crate::domain::json::{self, Object};
use crate::domain::rejection::Rejection;
use crate::domain::timestamp;
use crate::domain::track::Track;

/// The most elements of a body: each costs far more memory than its two bytes or more.
pub const MAX_ELEMENTS: usize = 10_000;
/// The most bytes that the defaults of a batch may come to when each of its elements has them.
pub const MAX_DEFAULTS_BYTES: usize = 16 << 20;

/// Why there are no events to be had of a body.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BodyError {
    /// It is not JSON, or has not the shape of one event or many.
    #[error("the body is not JSON, or neither an event nor a list of events")]
    Malformed,
    /// It has more than [`MAX_ELEMENTS`].
    #[error("the body has more than {MAX_ELEMENTS} elements")]
    TooManyElements,
    /// Its defaults come to more than [`MAX_DEFAULTS_BYTES`].
    #[error("the keys beside the list come to more than {MAX_DEFAULTS_BYTES} bytes when each event has them")]
    DefaultsTooLarge,
}

/// One element of a body.
#[derive(Debug)]
pub struct BodyElement<'a> {
    /// Its JSON text, as it came. What is no [`Disposition::Event`], and of a batch with defaults, is a batch of one: sent again,
    /// it would mean the same.
    pub raw: Cow<'a, str>,
    /// What it turned out to be.
    pub disposition: Disposition<'a>,
}

impl BodyElement<'_> {
    /// Of an email event, its track.
    #[must_use]
    pub fn track(&self) -> Option<&Track> {
        match &self.disposition {
            Disposition::Event(_, _, track) => Some(track),
            _ => None,
        }
    }
}

/// What becomes of one element of a body.
#[derive(Debug)]
pub enum Disposition<'a> {
    /// It is an email event, to be forwarded as this track.
    Event(Kind, EventId<'a>, Track),
    /// It is a call that concerns a user, for Nudgespot.
    Call(Call<'a>),
    /// It is not forwarded.
    Ignored {
        /// What the sender calls it.
        name: Cow<'a, str>,
        /// Why not, in a word; `None`: Segment has no event of this name.
        reason: Option<&'static str>,
    },
    /// It cannot be used.
    Rejected(Rejection),
}

/// The elements of a JSON array, read one after the other: at most [`MAX_ELEMENTS`]. After an error comes nothing more.
pub struct Elements<'a> {
    text: &'a str,
    /// What is to be read yet: an element and what is behind it, or nothing after the last.
    rest: &'a str,
    n: usize,
}

/// An element of a JSON array, and the object that it is to be.
pub struct Element<'a> {
    /// Its text.
    pub raw: &'a str,
    /// What it says.
    pub object: Result<Object<'a>, Rejection>,
}

impl<'a> Elements<'a> {
    /// Those of `text`, around which there is no white space.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] where it is no array. Whether it is a whole one shows when its elements are read.
    pub fn of(text: &'a str) -> Result<Self, BodyError> {
        match text.strip_prefix('[').map(skip_space) {
            None | Some("") => Err(BodyError::Malformed),
            Some("]") => Ok(Self { text, rest: "", n: 0 }),
            Some(rest) => Ok(Self { text, rest, n: 0 }),
        }
    }

    fn read(&mut self) -> Result<Element<'a>, BodyError> {
        if self.n == MAX_ELEMENTS {
            // What is beyond is not held, but must be JSON as well.
            let is_json = serde_json::from_str::<IgnoredAny>(self.text).is_ok();
            return Err(if is_json { BodyError::TooManyElements } else { BodyError::Malformed });
        }
        let (raw, object) = if self.rest.starts_with('{') {
            match read_first::<Object<'_>>(self.rest) {
                Ok((raw, object)) => (raw, Ok(object)),
                // JSON, but not to be taken apart.
                Err(error) => (json_text(self.rest)?, Err(error.into())),
            }
        } else {
            (json_text(self.rest)?, Err(Rejection::NotAnObject))
        };
        let behind = skip_space(&self.rest[raw.len()..]);
        self.rest = match behind.strip_prefix(',').map(skip_space) {
            // Behind a comma there is another.
            Some(next) if !next.is_empty() => next,
            None if behind == "]" => "",
            _ => return Err(BodyError::Malformed),
        };
        self.n += 1;
        Ok(Element { raw, object })
    }
}

impl Elements<'_> {
    /// About how many there are, by how large events usually are.
    #[must_use]
    pub fn estimate(&self) -> usize {
        self.text.len() / 400
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, BodyError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let element = self.read();
        if element.is_err() {
            self.rest = "";
        }
        Some(element)
    }
}

/// The JSON value with which `text` begins: its text, and what it says.
fn read_first<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<(&'a str, T)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next().unwrap_or_else(|| Err(serde_json::Error::custom("nothing")))?;
    Ok((&text[..values.byte_offset()], value))
}

fn json_text(text: &str) -> Result<&str, BodyError> {
    read_first::<&RawValue>(text).map(|(raw, _)| raw).map_err(|_| BodyError::Malformed)
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\n', '\r', '\t'])
}

/// The text of a body, which is to be JSON.
///
/// # Errors
/// [`BodyError::Malformed`] where it is no UTF-8.
pub fn text(body: &[u8]) -> Result<&str, BodyError> {
    let text = std::str::from_utf8(body).map_err(|_| BodyError::Malformed)?;
    // Some senders begin a JSON text with a byte order mark, which RFC 8259 lets a parser ignore.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).trim_ascii())
}

/// Whether an email event is an activity that this program has sent to Nudgespot, and marked so, under its properties or
/// beside them.
#[must_use]
pub fn is_own(event: &Object<'_>) -> bool {
    let (key, mark) = OWN_MARK;
    let is_marked = |object: &Object<'_>| object.find(key).and_then(json::string).is_some_and(|value| value == mark);
    // Taken apart only where the mark may be there: this is asked of every event.
    let properties = event.find("properties").filter(|properties| properties.get().contains(mark));
    is_marked(event) || properties.and_then(|raw| Object::parse(raw).ok()?).is_some_and(|object| is_marked(&object))
}

/// The time that a sender says.
///
/// # Errors
/// [`Rejection::UnreadableTime`].
pub fn time(raw: &RawValue) -> Result<OffsetDateTime, Rejection> {
    let text = json::string(raw).or_else(|| json::number(raw).map(Cow::Borrowed));
    text.and_then(|text| timestamp::parse(&text))
        .ok_or_else(|| Rejection::UnreadableTime(raw.get().chars().take(100).collect()))
}

/// A string that says something.
#[must_use]
pub fn non_blank(raw: &RawValue) -> Option<Cow<'_, str>> {
    json::string(raw).filter(|text| !json::is_white(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a list holds, read by serde alone.
    fn by_serde(text: &str) -> Result<Vec<&str>, BodyError> {
        let all: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| BodyError::Malformed)?;
        if all.len() > MAX_ELEMENTS {
            return Err(BodyError::TooManyElements);
        }
        Ok(all.into_iter().map(RawValue::get).collect())
    }

    fn raw<'a>((key, value): (&'a str, &'a RawValue)) -> (&'a str, &'a str) {
        (key, value.get())
    }

    fn read(text: &str) -> Result<Vec<&str>, BodyError> {
        let check = |element: Element<'_>| match (element.object, serde_json::from_str::<Object<'_>>(element.raw)) {
            (Ok(object), Ok(same)) => assert!(object.iter().map(raw).eq(same.iter().map(raw))),
            (Err(Rejection::NotAnObject), Err(_)) => assert!(!element.raw.starts_with('{')),
            (Err(error), Err(same)) => assert_eq!(error.to_string(), Rejection::from(same).to_string()),
            differently => panic!("{}: {differently:?}", element.raw),
        };
        Elements::of(text)?
            .map(|element| {
                let element = element?;
                let raw = element.raw;
                check(element);
                Ok(raw)
            })
            .collect()
    }

    #[test]
    fn a_list_is_what_serde_takes_for_one() {
        let too_many = format!("[{}]", vec!["0"; MAX_ELEMENTS + 1].join(","));
        let most = format!("[{}]", vec!["{}"; MAX_ELEMENTS].join(" , "));
        let many_keys: Vec<String> = (0..=json::MAX_KEYS).map(|n| format!(r#""{n}":0"#)).collect();
        for text in [
            "",
            "[",
            "]",
            "[]",
            "[ \n]",
            "[]]",
            "[1",
            "[1]",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{}",
            "[{]",
            "[{}",
            "[\u{c}1]",
            "[1]\u{c}",
            "[null,true,-1.5e3,\"]\",[],[1,[2]],{}]",
            "[{\"a\":1}x]",
            "[{\"a\":1},{\"a\":}]",
            "[ {\"a\" : {\"b\":[1]} , \"a\":2 }\t,\r\n{}\n]",
            r#"[{"\ud800":1},{"a":"\ud800"},{"a":"\x"}]"#,
            r#"[{"\ud800":1},2]"#,
            r#"[{"\ud800":1}"#,
            "[\"a]",
            "[tru]",
            "[true false]",
            "[01]",
            "[-]",
            "[1.]",
            &format!("[{{{}}},1]", many_keys.join(",")),
            &most,
            &too_many,
            &format!("{}x", &too_many),
            &too_many[..10_000],
        ] {
            assert_eq!(read(text), by_serde(text), "{text:.100}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_serde_reads_it(text in r#"\[([\[\]{},:" \\a1]|"a":|\{"a":1\}|, |null){0,12}\]?"#) {
            prop_assert_eq!(read(&text), by_serde(&text));
        }
    }
}
