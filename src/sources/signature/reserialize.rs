//! The same JSON, written by other hands: a sender that signs one spelling of its body and sends another has made a
//! signature that does not match.

use std::fmt::Write;

/// How deep a body may be nested to be looked at.
const MAX_DEPTH: usize = 64;

/// JSON whose scalars are the text that was written.
enum Node<'a> {
    Scalar(&'a str),
    String(&'a str),
    Array(Vec<Node<'a>>),
    Object(Vec<(&'a str, Node<'a>)>),
}

/// What stands between the values.
#[derive(Clone, Copy)]
struct Spacing {
    comma: &'static str,
    colon: &'static str,
    /// Each level on lines of its own, indented by this.
    indent: Option<&'static str>,
}

/// How strings are written.
#[derive(Clone, Copy)]
enum Strings {
    /// As they came.
    Kept,
    /// As JavaScript does: escapes only where they must be.
    Plain,
    /// As Python does: nothing but ASCII.
    Ascii,
    /// As PHP does: nothing but ASCII, and slashes escaped.
    AsciiAndSlashes,
    /// As Go and Rails do: also `<`, `>` and `&`.
    Html,
}

const SPACINGS: [Spacing; 5] = [
    Spacing { comma: ",", colon: ":", indent: None },
    Spacing { comma: ", ", colon: ": ", indent: None },
    Spacing { comma: ",", colon: ": ", indent: Some("  ") },
    Spacing { comma: ",", colon: ": ", indent: Some("    ") },
    Spacing { comma: ",", colon: ": ", indent: Some("\t") },
];
const STRINGS: [Strings; 5] = [Strings::Kept, Strings::Plain, Strings::Ascii, Strings::AsciiAndSlashes, Strings::Html];

/// The spellings of a JSON text that senders' libraries write; none where it is no JSON.
pub fn spellings(body: &[u8]) -> impl Iterator<Item = String> {
    let root = std::str::from_utf8(body)
        .ok()
        .filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
        .and_then(|text| Parser { text, at: 0 }.node(0));
    root.into_iter().flat_map(|root| {
        let styles =
            SPACINGS.into_iter().flat_map(|spacing| STRINGS.into_iter().map(move |strings| (spacing, strings)));
        let styles: Vec<_> = styles.flat_map(|style| [(style, false), (style, true)]).collect();
        styles.into_iter().map(move |((spacing, strings), is_sorted)| {
            let mut out = String::new();
            Writer { out: &mut out, spacing, strings, is_sorted }.write(&root, 0);
            out
        })
    })
}

/// Reads text that is known to be JSON.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn node(&mut self, depth: usize) -> Option<Node<'a>> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'"' => Some(Node::String(self.string()?)),
            b'[' => {
                let mut items = Vec::new();
                self.at += 1;
                while self.peek()? != b']' {
                    items.push(self.node(depth + 1)?);
                    self.skip(b',')?;
                }
                self.at += 1;
                Some(Node::Array(items))
            }
            b'{' => {
                let mut entries = Vec::new();
                self.at += 1;
                while self.peek()? != b'}' {
                    let key = self.string()?;
                    self.skip(b':')?;
                    entries.push((key, self.node(depth + 1)?));
                    self.skip(b',')?;
                }
                self.at += 1;
                Some(Node::Object(entries))
            }
            _ => {
                let rest = self.text.get(self.at..)?;
                let end = rest.find(|c: char| matches!(c, ',' | ']' | '}') || c.is_whitespace()).unwrap_or(rest.len());
                self.at += end;
                Some(Node::Scalar(rest.get(..end)?))
            }
        }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips this byte, if it comes next.
    fn skip(&mut self, byte: u8) -> Option<()> {
        if self.peek()? == byte {
            self.at += 1;
        }
        Some(())
    }

    /// A string, with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while *bytes.get(self.at)? != b'"' {
            self.at += if bytes.get(self.at) == Some(&b'\\') { 2 } else { 1 };
        }
        self.at += 1;
        self.text.get(start..self.at)
    }
}

struct Writer<'o> {
    out: &'o mut String,
    spacing: Spacing,
    strings: Strings,
    is_sorted: bool,
}

impl Writer<'_> {
    fn write(&mut self, node: &Node<'_>, depth: usize) {
        match node {
            Node::Scalar(text) => self.out.push_str(text),
            Node::String(text) => self.string(text),
            Node::Array(items) if items.is_empty() => self.out.push_str("[]"),
            Node::Object(entries) if entries.is_empty() => self.out.push_str("{}"),
            Node::Array(items) => {
                self.out.push('[');
                for (n, item) in items.iter().enumerate() {
                    self.begin(n, depth);
                    self.write(item, depth + 1);
                }
                self.end(depth, ']');
            }
            Node::Object(entries) => {
                self.out.push('{');
                let mut order: Vec<usize> = (0..entries.len()).collect();
                if self.is_sorted {
                    order.sort_by_key(|at| entries[*at].0);
                }
                for (n, at) in order.into_iter().enumerate() {
                    let (key, value) = &entries[at];
                    self.begin(n, depth);
                    self.string(key);
                    self.out.push_str(self.spacing.colon);
                    self.write(value, depth + 1);
                }
                self.end(depth, '}');
            }
        }
    }

    fn begin(&mut self, n: usize, depth: usize) {
        if n > 0 {
            self.out.push_str(self.spacing.comma);
        }
        self.line(depth + 1);
    }

    fn end(&mut self, depth: usize, bracket: char) {
        self.line(depth);
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.spacing.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, written: &str) {
        let decoded = match self.strings {
            Strings::Kept => None,
            _ => serde_json::from_str::<String>(written).ok(),
        };
        let Some(text) = decoded else { return self.out.push_str(written) };
        let plain = serde_json::to_string(&text).unwrap_or_default();
        for c in plain.chars() {
            match (self.strings, c) {
                (Strings::Ascii | Strings::AsciiAndSlashes, '\u{80}'..) | (Strings::Html, '<' | '>' | '&') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}").expect("a String takes all");
                    }
                }
                (Strings::AsciiAndSlashes, '/') => self.out.push_str("\\/"),
                _ => self.out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_common_libraries_are_among_them() {
        let body = "{ \"b\" : [1, 2.50, {}, []],\r\n\"a\":{\"url\":\"https:\\/\\/x\\u00e9?a<b\"} , \"c\":null }";
        let spellings: Vec<String> = spellings(body.as_bytes()).collect();
        for (library, expected) in [
            ("JavaScript", r#"{"b":[1,2.50,{},[]],"a":{"url":"https://xé?a<b"},"c":null}"#),
            ("Python", r#"{"b": [1, 2.50, {}, []], "a": {"url": "https://x\u00e9?a<b"}, "c": null}"#),
            ("Python, sorted", r#"{"a": {"url": "https://x\u00e9?a<b"}, "b": [1, 2.50, {}, []], "c": null}"#),
            ("PHP", r#"{"b":[1,2.50,{},[]],"a":{"url":"https:\/\/x\u00e9?a<b"},"c":null}"#),
            ("Go", r#"{"b":[1,2.50,{},[]],"a":{"url":"https://xé?a\u003cb"},"c":null}"#),
            (
                "pretty",
                "{\n  \"b\": [\n    1,\n    2.50,\n    {},\n    []\n  ],\n  \"a\": {\n    \"url\": \"https://xé?a<b\"\n  },\n  \"c\": null\n}",
            ),
        ] {
            assert!(spellings.iter().any(|spelling| spelling == expected), "{library}: {spellings:#?}");
        }
    }

    #[test]
    fn what_is_no_json_has_no_spellings() {
        for body in [&b""[..], b"{", b"a=1", b"\xff", b"{\"a\":1}x", "[".repeat(100_000).as_bytes()] {
            assert_eq!(spellings(body).count(), 0);
        }
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(spellings(deep.as_bytes()).count(), 0);
        assert_ne!(spellings(b" 1 ").count(), 0);
    }
}
