//! The text of a `.env` file: `NAME=value` a line, as shells and other programs write it.
//!
//! A value may stand in single quotes, where every character is meant as it is; in double quotes, where `\"`, `\\`,
//! `\$` and `\n` are escapes; or in none, with blanks in it. Quoted values may go over several lines. Outside single
//! quotes, `$NAME` and `${NAME}` stand for another variable. A `#` at the beginning, or after a blank, begins a comment.
//!
//! What is wrong is said with the line's number: its text may be a secret.

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

/// The variables of a file; of several of one name, the last counts. `known` says what `$NAME` stands for where the
/// environment has it.
pub fn parse(bytes: &[u8], known: impl Fn(&str) -> Option<String>) -> Result<HashMap<String, String>, DotenvError> {
    let text = str::from_utf8(bytes).map_err(|e| DotenvError {
        line: line_of(&bytes[..e.valid_up_to()]),
        variable: None,
        problem: "is not UTF-8 text",
    })?;
    let mut file = File { rest: text.trim_start_matches('\u{feff}').chars().peekable(), line: 1 };
    let mut variables = HashMap::new();
    while file.rest.peek().is_some() {
        let line = file.line;
        let name = file.name().map_err(|problem| DotenvError { line, variable: None, problem })?;
        let Some(name) = name else { continue };
        let lookup = |name: &str| known(name).or_else(|| variables.get(name).cloned());
        let value = file.value(lookup).map_err(|problem| DotenvError { line, variable: shown(&name), problem })?;
        variables.insert(name, value);
    }
    Ok(variables)
}

fn line_of(before: &[u8]) -> usize {
    before.split(|byte| *byte == b'\n').count()
}

/// A name that is known; any other may be a part of something secret that went over the end of a line.
fn shown(name: &str) -> Option<String> {
    settings::has(name).then(|| name.to_owned())
}

const NO_ASSIGNMENT: &str = "write NAME=value";
const OPEN_QUOTE: &str = "a quote is not closed; put a value that holds one into quotes of the other kind";
const BAD_ESCAPE: &str = "after a `\\` only \\ ' \" $ n or a blank can stand; put the value into single quotes";
const UNKNOWN_REFERENCE: &str =
    "refers with `$` to a variable that is not set; if `$` itself is meant, put the value into single quotes";

struct File<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
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

    /// The name of a line's variable, up to its `=`. `None`: the line says nothing.
    fn name(&mut self) -> Result<Option<String>, &'static str> {
        self.skip_blanks();
        if matches!(self.rest.peek(), None | Some('#' | '\n')) {
            self.skip_line();
            return Ok(None);
        }
        let mut name = self.word();
        self.skip_blanks();
        if name == "export" && self.rest.peek() != Some(&'=') {
            name = self.word();
            self.skip_blanks();
        }
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if is_name && self.rest.next_if_eq(&'=').is_some() { Ok(Some(name)) } else { Err(NO_ASSIGNMENT) }
    }

    /// The value, up to the end of the line.
    fn value(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<String, &'static str> {
        self.skip_blanks();
        let mut value = String::new();
        // What stood in quotes, or behind a `\`, is not trimmed.
        let mut kept = 0;
        let mut after_blank = true;
        while let Some(c) = self.next() {
            match c {
                '\n' => break,
                '#' if after_blank => {
                    self.skip_line();
                    break;
                }
                '\'' => self.single_quoted(&mut value)?,
                '"' => self.double_quoted(&mut value, &lookup)?,
                '\\' => value.push(self.escaped()?),
                '$' => self.reference(&mut value, &lookup)?,
                _ => value.push(c),
            }
            after_blank = matches!(c, ' ' | '\t');
            if !matches!(c, ' ' | '\t' | '\r') {
                kept = value.len();
            }
        }
        value.truncate(kept);
        Ok(value)
    }

    fn single_quoted(&mut self, value: &mut String) -> Result<(), &'static str> {
        loop {
            match self.next().ok_or(OPEN_QUOTE)? {
                '\'' => return Ok(()),
                c => value.push(c),
            }
        }
    }

    fn double_quoted(
        &mut self,
        value: &mut String,
        lookup: &impl Fn(&str) -> Option<String>,
    ) -> Result<(), &'static str> {
        loop {
            match self.next().ok_or(OPEN_QUOTE)? {
                '"' => return Ok(()),
                '\\' => value.push(self.escaped()?),
                '$' => self.reference(value, lookup)?,
                c => value.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, &'static str> {
        match self.next() {
            Some('n') => Ok('\n'),
            Some(c @ ('\\' | '\'' | '"' | '$' | ' ')) => Ok(c),
            _ => Err(BAD_ESCAPE),
        }
    }

    fn reference(&mut self, value: &mut String, lookup: &impl Fn(&str) -> Option<String>) -> Result<(), &'static str> {
        let in_braces = self.rest.next_if_eq(&'{').is_some();
        let name = self.word();
        if in_braces && self.rest.next_if_eq(&'}').is_none() {
            return Err(UNKNOWN_REFERENCE);
        }
        if name.is_empty() && !in_braces {
            value.push('$');
            return Ok(());
        }
        value.push_str(&lookup(&name).ok_or(UNKNOWN_REFERENCE)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(name: &str) -> Option<String> {
        (name == "OUTSIDE").then(|| "out".to_owned())
    }

    fn one(line: &str) -> Result<String, String> {
        let mut variables = parse(line.as_bytes(), known).map_err(|e| e.to_string())?;
        variables.remove("A").ok_or_else(|| format!("{variables:?}"))
    }

    #[test]
    fn values_are_read_as_shells_and_other_programs_write_them() {
        for (line, value) in [
            ("A=b", "b"),
            ("\u{feff}A=b\r\n", "b"),
            ("  export A = b  ", "b"),
            ("A=", ""),
            ("A= # nothing", ""),
            ("A=new, old", "new, old"),
            ("A=new,\told  # both\n", "new,\told"),
            ("A=a#b", "a#b"),
            ("A='a # b'  # c", "a # b"),
            ("A='  '", "  "),
            (r"A='$x \n'", r"$x \n"),
            ("A=\"a b\\n\\\"c\\\" \\$d\"", "a b\n\"c\" $d"),
            ("A='two\nlines'\nB=1", "two\nlines"),
            (r"A=a\ b\ ", "a b "),
            ("A=$OUTSIDE/${OUTSIDE}s", "out/outs"),
            ("B=in\nA=$B", "in"),
            ("A=5$ $", "5$ $"),
            ("A=1\nA=2", "2"),
            ("# A=1\n\n   \nA=2\n", "2"),
            ("A==", "="),
            ("A=postgres://u:p?w@h/d", "postgres://u:p?w@h/d"),
        ] {
            assert_eq!(one(line), Ok(value.to_owned()), "{line:?}");
        }
        assert_eq!(parse(b"export=1", known).expect("good")["export"], "1");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_never_repeated() {
        for (file, says) in [
            ("A=1\ns3cret", "line 2: write NAME=value"),
            ("s3 cret=1", "line 1: write NAME=value"),
            ("=s3cret", "line 1: write NAME=value"),
            (
                "A=1\n\nMASTER_KEY='s3cret\nB=2\n",
                "line 3 (MASTER_KEY): a quote is not closed; put a value that holds one into quotes of the other kind",
            ),
            ("s3cret='x", "line 1: a quote is not closed; put a value that holds one into quotes of the other kind"),
            (
                "A='two\nlines'\nB=s3\\cret",
                "line 3: after a `\\` only \\ ' \" $ n or a blank can stand; put the value into single quotes",
            ),
            (
                "A=pa$s3cret",
                "line 1: refers with `$` to a variable that is not set; if `$` itself is meant, put the value into single quotes",
            ),
            (
                "A=pa${s3cret",
                "line 1: refers with `$` to a variable that is not set; if `$` itself is meant, put the value into single quotes",
            ),
        ] {
            assert_eq!(parse(file.as_bytes(), known).expect_err("wrong").to_string(), says, "{file:?}");
        }
        assert_eq!(parse(b"A=1\nB=\xff", known).expect_err("wrong").to_string(), "line 2: is not UTF-8 text");
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(bytes: Vec<u8>) {
            let _ = parse(&bytes, known);
        }

        #[test]
        fn a_value_in_single_quotes_is_what_it_is(value in "[^']*") {
            prop_assert_eq!(one(&format!("A='{value}'")), Ok(value));
        }

        #[test]
        fn no_error_repeats_a_value(value in "[ZX\"'\\\\$#= \n{}]{1,20}") {
            if let Err(error) = parse(format!("A={value}").as_bytes(), known) {
                prop_assert!(!error.to_string().contains(['Z', 'X']), "{}", error);
            }
        }
    }
}
