//! The text of a `.env` file: `NAME=value` a line, as shells and other programs write it.
//!
//! A value may stand in single quotes, where every character is meant as it is; in double quotes, where `\"`, `\\`,
//! `\$` and `\n` are escapes; or in none, with blanks and quotes in it. A value in quotes may go over several lines.
//! Outside single quotes, `$NAME` and `${NAME}` stand for another variable. A `#` at the beginning, or after a blank,
//! begins a comment.
//!
//! The file may be another program's, with more to it than that. So a line that cannot be read is an error only where it
//! sets a variable of this program; any other is skipped. What is wrong is said with the line's number: its text may be a
//! secret.

use std::borrow::Cow;
use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use super::settings;

/// Where a file is wrong, and what to write.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}{}: {problem}", .variable.as_ref().map(|name| format!(" ({name})")).unwrap_or_default())]
pub struct DotenvError {
    line: usize,
    variable: Option<String>,
    problem: &'static str,
}

/// The variables of a file, less those that are not this program's and cannot be read; of several of one name, the last
/// counts. `known` says what `$NAME` stands for where the environment has it.
pub fn parse(bytes: &[u8], known: impl Fn(&str) -> Option<String>) -> Result<HashMap<String, String>, DotenvError> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        // UTF-16: there is no telling whose variables it sets.
        return Err(DotenvError { line: 1, variable: None, problem: NOT_TEXT });
    }
    let text = String::from_utf8_lossy(bytes);
    let is_text = matches!(text, Cow::Borrowed(_));
    let mut file =
        File { rest: text.strip_prefix('\u{feff}').unwrap_or(&text).chars().peekable(), line: 1, problem: None };
    let mut variables = HashMap::new();
    // Whether the line before sets one of this program's variables.
    let mut after_own = false;
    while file.rest.peek().is_some() {
        let line = file.line;
        let (word, value, is_own) = match file.start() {
            Start::Blank => {
                after_own = false;
                continue;
            }
            Start::Name(name) => {
                let value = file.value(|name| known(name).or_else(|| variables.get(name).cloned()));
                let is_readable = |value: &String| is_text || !value.contains(char::REPLACEMENT_CHARACTER);
                let value = value.and_then(|value| is_readable(&value).then_some(value).ok_or(NOT_TEXT));
                // The last counts, also where it cannot be read.
                variables.remove(&name);
                after_own = is_own(&name);
                (name, value, after_own)
            }
            Start::Other { word, may_continue } => {
                let is_own = is_own(&word) || (after_own && may_continue);
                after_own = false;
                (word, Err(NO_ASSIGNMENT), is_own)
            }
        };
        match value {
            Ok(value) => drop(variables.insert(word, value)),
            Err(problem) if is_own => return Err(DotenvError { line, variable: shown(word), problem }),
            Err(_) => tracing::debug!(line, "a line of .env cannot be read and is skipped"),
        }
    }
    Ok(variables)
}

fn is_own(name: &str) -> bool {
    settings::has(name) || name == "SIGNING_SECRET"
}

/// A name that is known; any other may be a part of something secret that went over the end of a line.
fn shown(name: String) -> Option<String> {
    Some(name).filter(|name| is_own(name))
}

const NOT_TEXT: &str = "is not UTF-8 text";
const NO_ASSIGNMENT: &str = "write NAME=value";
const OPEN_QUOTE: &str = "a quote is not closed; put a value that holds one into quotes of the other kind";
const BAD_ESCAPE: &str = "after a `\\` only \\ ' \" $ n or a blank can stand; put the value into single quotes";
const UNKNOWN_REFERENCE: &str =
    "refers with `$` to a variable that is not set; if `$` itself is meant, put the value into single quotes";

/// How a line begins.
enum Start {
    /// It says nothing.
    Blank,
    /// It sets this variable.
    Name(String),
    /// It sets nothing.
    Other {
        /// What may be the name of a variable all the same.
        word: String,
        /// Whether it may be the rest of the value of the line before: it names nothing, by any notation.
        may_continue: bool,
    },
}

#[derive(Clone)]
struct File<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    /// What is wrong with the value that is being read, where that does not leave its end in doubt.
    problem: Option<&'static str>,
}

impl File<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.next();
        self.line += usize::from(c == Some('\n'));
        c
    }

    fn skip_blanks(&mut self) {
        while self.rest.next_if(|c| matches!(c, ' ' | '\t' | '\r')).is_some() {}
    }

    fn skip_line(&mut self) {
        while !matches!(self.next(), None | Some('\n')) {}
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) {
            word.push(c);
        }
        word
    }

    /// A line up to its value, or all of it where it has none.
    fn start(&mut self) -> Start {
        let line = self.clone();
        self.skip_blanks();
        if matches!(self.rest.peek(), None | Some('#' | '\n')) {
            self.skip_line();
            return Start::Blank;
        }
        let mut word = self.word();
        self.skip_blanks();
        let is_export = word == "export" && self.rest.peek() != Some(&'=');
        if is_export {
            word = self.word();
            self.skip_blanks();
        }
        let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if is_name && self.rest.next_if_eq(&'=').is_some() {
            return Start::Name(word);
        }
        *self = line;
        let text: String = std::iter::from_fn(|| self.next().filter(|c| *c != '\n')).collect();
        // A `=` at the end may belong to base64.
        let is_assignment =
            text.trim_end().trim_end_matches('=').split_once('=').is_some_and(|(before, _)| !before.trim().is_empty());
        Start::Other { word, may_continue: !(is_assignment || is_export && is_name) }
    }

    /// The value. Afterwards the next line is next, also where the value cannot be read.
    fn value(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<String, &'static str> {
        let line = self.clone();
        self.problem = None;
        let value = self.parts(&lookup);
        if value.is_err() {
            // It is not known where it ends.
            *self = line;
            self.skip_line();
        }
        self.problem.take().map_or(value, Err)
    }

    /// What a value consists of, up to the end of the line.
    fn parts(&mut self, lookup: &impl Fn(&str) -> Option<String>) -> Result<String, &'static str> {
        self.skip_blanks();
        let mut value = String::new();
        let is_quoted = matches!(self.rest.peek(), Some('\'' | '"'));
        if is_quoted {
            let line = self.line;
            self.quoted(&mut value, lookup)?;
            if self.line > line && !self.is_at_end() {
                // The quote that closes it was meant to open another.
                return Err(OPEN_QUOTE);
            }
        }
        // What stood in quotes, or behind a `\`, is not trimmed.
        let mut kept = value.len();
        let mut after_blank = !is_quoted;
        while let Some(&c) = self.rest.peek() {
            if is_quoted && matches!(c, '\'' | '"') {
                let line = self.line;
                self.quoted(&mut value, lookup)?;
                if self.line > line {
                    return Err(OPEN_QUOTE);
                }
            } else {
                self.next();
                match c {
                    '\n' => break,
                    '#' if after_blank => {
                        self.skip_line();
                        break;
                    }
                    '\\' => self.escaped(&mut value),
                    '$' => self.reference(&mut value, lookup),
                    _ => value.push(c),
                }
            }
            after_blank = matches!(c, ' ' | '\t');
            if !matches!(c, ' ' | '\t' | '\r') {
                kept = value.len();
            }
        }
        value.truncate(kept);
        Ok(value)
    }

    /// Whether nothing follows on this line but a comment.
    fn is_at_end(&self) -> bool {
        let mut ahead = self.clone();
        ahead.skip_blanks();
        matches!(ahead.rest.peek(), None | Some('#' | '\n'))
    }

    /// From one quote to the next of its kind.
    fn quoted(&mut self, value: &mut String, lookup: &impl Fn(&str) -> Option<String>) -> Result<(), &'static str> {
        let quote = self.next();
        loop {
            match self.next().ok_or(OPEN_QUOTE)? {
                c if Some(c) == quote => return Ok(()),
                '\\' if quote == Some('"') => self.escaped(value),
                '$' if quote == Some('"') => self.reference(value, lookup),
                c => value.push(c),
            }
        }
    }

    fn escaped(&mut self, value: &mut String) {
        match self.rest.next_if(|c| matches!(c, 'n' | '\\' | '\'' | '"' | '$' | ' ')) {
            Some('n') => value.push('\n'),
            Some(c) => value.push(c),
            None => self.problem = Some(BAD_ESCAPE),
        }
    }

    fn reference(&mut self, value: &mut String, lookup: &impl Fn(&str) -> Option<String>) {
        let in_braces = self.rest.next_if_eq(&'{').is_some();
        let name = self.word();
        if name.is_empty() && !in_braces {
            value.push('$');
            return;
        }
        let is_closed = !in_braces || self.rest.next_if_eq(&'}').is_some();
        match lookup(&name).filter(|_| is_closed) {
            Some(text) => value.push_str(&text),
            None => self.problem = Some(UNKNOWN_REFERENCE),
        }
    }
}

#[cfg(test)]
mod tests;
