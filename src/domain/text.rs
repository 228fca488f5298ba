//! Text that strangers wrote, where a person reads it.
//!
//! An event's id or a refusal's reason may hold an escape sequence, a line break, or a character that turns the direction
//! of writing: on a terminal it would give orders, or pretend to be a line of its own.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write;

/// Whether a character does something instead of being seen: a control character (C0, DEL, C1), a line or paragraph
/// separator, or one of Unicode's format characters (direction of writing, zero width, tags).
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with its hidden characters spelled out, as `\u{1b}`.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// JSON of the same value, with the hidden characters in its strings escaped as `\u009b`. What JSON itself demands to be
/// escaped is so already; the line breaks between its parts stay.
#[must_use]
pub fn visible_json(json: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| is_hidden(c) && !c.is_ascii_whitespace();
    if !json.chars().any(is_harmful) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// An error and its causes on one line. Many libraries repeat a cause in the words of its effect: what was said already is
/// not said again.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut told = one_line(error);
    let mut next = error.source();
    while let Some(cause) = next {
        next = cause.source();
        let cause = one_line(cause);
        if says(&told, &cause) {
            continue;
        }
        // What the cause begins with in its turn is left to it.
        let last = told.rfind(": ").map_or(0, |at| at + 2);
        if cause.strip_prefix(&told[last..]).is_some_and(|rest| rest.starts_with(':')) {
            told.truncate(last);
        } else {
            told.push_str(": ");
        }
        told.push_str(&cause);
    }
    told
}

/// Whether `text` holds `words`, not as a part of longer ones.
fn says(text: &str, words: &str) -> bool {
    let is_end = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    text.match_indices(words)
        .any(|(at, _)| is_end(text[..at].chars().next_back()) && is_end(text[at + words.len()..].chars().next()))
}

fn one_line(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    visible(&words.join(" ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        for (text, shown) in [
            ("plain, schön, 日本語 👍", "plain, schön, 日本語 👍"),
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}"),
            ("two\r\nlines\tand a tab", r"two\u{d}\u{a}lines\u{9}and a tab"),
            ("c1 \u{9b}31m \u{85} del \u{7f}", r"c1 \u{9b}31m \u{85} del \u{7f}"),
            ("\u{202e}txt.exe\u{2066}\u{200f}\u{61c}", r"\u{202e}txt.exe\u{2066}\u{200f}\u{61c}"),
            ("a\u{200b}b\u{2028}c\u{feff}d\u{e0041}", r"a\u{200b}b\u{2028}c\u{feff}d\u{e0041}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({"\u{9b}": "\u{1b}]0;\u{7}\n\u{7f}\u{202e}\u{e0041}", "plain": ["schön 👍"]});
        for json in [value.to_string(), serde_json::to_string_pretty(&value).expect("JSON")] {
            let shown = visible_json(&json);
            assert!(shown.chars().all(|c| !is_hidden(c) || c == '\n'), "{shown}");
            assert!(shown.contains(r"\u009b") && shown.contains(r"\udb40\udc41") && shown.contains("schön 👍"));
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Effect(&'static str, #[source] Option<Box<Effect>>);

    #[test]
    fn a_cause_is_told_once() {
        for (effects, told) in [
            (vec!["a", "b", "c"], "a: b: c"),
            (vec!["a: b", "b", "c"], "a: b: c"),
            (vec!["a: b: c", "b: c", "c"], "a: b: c"),
            (vec!["a", "b", "b: c", "c"], "a: b: c"),
            (vec!["abc", "b", "bc"], "abc: b: bc"),
            (vec!["two\nlines", "\u{1b}x"], r"two lines: \u{1b}x"),
        ] {
            let chain = effects.into_iter().rev().fold(None, |cause, text| Some(Box::new(Effect(text, cause))));
            assert_eq!(with_causes(&chain.expect("an error")), told);
        }
    }
}
