//! The canonical text of what was said of an event: the same however it was written, another for anything else.
//!
//! Keys are sorted at every level, white space is gone, strings are compared by their meaning (`"\u0061"` is `"a"`), and
//! of a key that comes twice the last value counts. Numbers stay as they were written: read as floating-point numbers,
//! different ones would become the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::json::{Object, Text, write_string};
use super::rejection::Rejection;

/// How deeply an event may be nested: as deeply as `serde_json`, and most other parsers, read.
const MAX_DEPTH: usize = 127;

type Members<'a> = BTreeMap<Cow<'a, str>, Node<'a>>;

/// A JSON value.
#[derive(Debug, PartialEq, Eq)]
enum Node<'a> {
    /// A number, as it was written, or `true`, `false` or `null`.
    Plain(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Object(Members<'a>),
}

/// The canonical text of an event: of what it says (`own`) and of what was said beside it. Where both say something under
/// the same key, and not the same thing, the latter goes into an object of its own: it was said, too.
///
/// # Errors
/// [`Rejection::Unreadable`]: nested too deeply, or with a string that is no Unicode.
pub(crate) fn text_of(own: &Object<'_>, beside: &[Object<'_>]) -> Result<String, Rejection> {
    let mut members = Members::new();
    for (key, value) in own.iter() {
        members.insert(key.into(), node_of(value)?);
    }
    let mut conflicts = String::new();
    for object in beside {
        let mut conflicting = Members::new();
        for (key, value) in object.iter() {
            let node = node_of(value)?;
            match members.get(key) {
                None => drop(members.insert(key.into(), node)),
                Some(said) if *said == node => {}
                Some(_) => drop(conflicting.insert(key.into(), node)),
            }
        }
        if !conflicting.is_empty() {
            write_members(&mut conflicts, &conflicting);
        }
    }
    let mut text = String::with_capacity(512);
    write_members(&mut text, &members);
    Ok(text + &conflicts)
}

fn node_of(raw: &RawValue) -> Result<Node<'_>, Rejection> {
    let mut reader = Reader { rest: raw.get() };
    reader.value(1)
}

fn write(text: &mut String, node: &Node<'_>) {
    match node {
        Node::Plain(plain) => text.push_str(plain),
        Node::Text(string) => write_string(text, string),
        Node::List(nodes) => {
            text.push('[');
            for (i, node) in nodes.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write(text, node);
            }
            text.push(']');
        }
        Node::Object(members) => write_members(text, members),
    }
}

fn write_members(text: &mut String, members: &Members<'_>) {
    text.push('{');
    for (i, (key, node)) in members.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        write_string(text, key);
        text.push(':');
        write(text, node);
    }
    text.push('}');
}

/// Reads what is known to be well-formed, but for its depth and its strings: the text of a [`RawValue`].
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Reads a value that lies in `depth` lists and objects.
    fn value(&mut self, depth: usize) -> Result<Node<'a>, Rejection> {
        match self.peek()? {
            b'"' => Ok(Node::Text(self.string()?)),
            b'[' | b'{' if depth >= MAX_DEPTH => {
                Err(Rejection::Unreadable(format!("nested more than {MAX_DEPTH} levels deep")))
            }
            b'[' => {
                let mut nodes = Vec::new();
                self.skip();
                while self.has_more(b']')? {
                    nodes.push(self.value(depth + 1)?);
                }
                Ok(Node::List(nodes))
            }
            b'{' => {
                let mut members = Members::new();
                self.skip();
                while self.has_more(b'}')? {
                    let key = self.string()?;
                    if self.peek()? == b':' {
                        self.skip();
                    }
                    members.insert(key, self.value(depth + 1)?);
                }
                Ok(Node::Object(members))
            }
            _ => {
                let ends = |c: char| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace();
                let (plain, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
                self.rest = rest;
                Ok(Node::Plain(plain))
            }
        }
    }

    /// Whether there is another element before the `end` of a list or an object, which is skipped, as commas are.
    fn has_more(&mut self, end: u8) -> Result<bool, Rejection> {
        loop {
            match self.peek()? {
                b',' => self.skip(),
                next if next == end => {
                    self.skip();
                    return Ok(false);
                }
                _ => return Ok(true),
            }
        }
    }

    /// The next byte after white space.
    fn peek(&mut self) -> Result<u8, Rejection> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.bytes().next().ok_or_else(|| Rejection::Unreadable("it ends too early".to_owned()))
    }

    /// Skips the byte that was peeked at, which is ASCII.
    fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Rejection> {
        let (mut end, mut has_escapes) = (1, false);
        loop {
            match self.rest.as_bytes().get(end) {
                Some(b'"') | None => break,
                Some(b'\\') => {
                    has_escapes = true;
                    end += 2;
                }
                Some(_) => end += 1,
            }
        }
        let (quoted, rest) = self.rest.split_at_checked(end + 1).unwrap_or((self.rest, ""));
        self.rest = rest;
        if has_escapes {
            let text = serde_json::from_str::<Text<'_>>(quoted).map(|text| text.0);
            return text.map_err(|_| Rejection::Unreadable("a string is not Unicode".to_owned()));
        }
        Ok(Cow::Borrowed(quoted.get(1..end).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object<'_> {
        serde_json::from_str(json).expect("an object")
    }

    fn text(json: &str) -> Result<String, Rejection> {
        text_of(&object(json), &[])
    }

    #[test]
    fn it_is_the_same_however_it_was_written() {
        let canonical = r#"{"a":[1.0,{"b":"é\"","c":null}],"d":{},"e":[]}"#;
        for written in [
            canonical,
            "{ \"e\" : [ ] ,\r\n\t\"d\":{ }, \"a\":[1.0 , {\"c\": null,\"b\":\"\\u00e9\\u0022\"} ] }",
            r#"{"a":0,"\u0064":1,"d":{},"e":[],"a":[1.0,{"c":1,"b":"\u00E9\"","c":null}]}"#,
        ] {
            assert_eq!(text(written).as_deref(), Ok(canonical), "{written}");
        }
    }

    #[test]
    fn numbers_are_told_apart_to_the_last_digit() {
        let numbers = [
            "1",
            "1.0",
            "1.00",
            "1e0",
            "1E0",
            "-0",
            "0",
            "9007199254740992",
            "9007199254740993",
            "0.1000000000000000055",
            "0.10000000000000000555",
            "1e999",
            "1e9999",
        ];
        let texts: std::collections::BTreeSet<_> =
            numbers.iter().map(|number| text(&format!(r#"{{"n":{number}}}"#)).expect("readable")).collect();
        assert_eq!(texts.len(), numbers.len());
    }

    #[test]
    fn what_is_said_beside_an_event_belongs_to_it_and_a_contradiction_is_no_repetition() {
        let with = |beside| text_of(&object(r#"{"b":1,"o":{"x":1}}"#), &[object(beside)]);
        assert_eq!(with(r#"{"a":2}"#), text(r#"{"a":2,"b":1,"o":{"x":1}}"#));
        assert_eq!(with(r#"{"a":2,"b": 1,"o":{"x": 1}}"#), with(r#"{"a":2}"#));
        let all = [r"{}", r#"{"b":2}"#, r#"{"b":3}"#, r#"{"o":{"x":2}}"#, r#"{"o":{"y":2}}"#, r#"{"b":2,"o":{}}"#];
        let texts: std::collections::BTreeSet<_> = all.map(|beside| with(beside).expect("readable")).into();
        assert_eq!(texts.len(), all.len());
    }

    #[test]
    fn what_no_parser_agrees_on_is_refused() {
        let nested = |n: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(text(&nested(MAX_DEPTH - 1)).is_ok());
        for json in [nested(MAX_DEPTH), nested(400_000), r#"{"x":"\ud800"}"#.into(), r#"{"x":[{"\udc00":1}]}"#.into()] {
            assert!(matches!(text(&json), Err(Rejection::Unreadable(_))), "{}", &json[..20.min(json.len())]);
        }
    }
}
