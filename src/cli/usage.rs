//! The command line's own words: help, and complaints about what was typed.

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, output};
use crate::domain::text::visible;

/// Shown in place of what may be a secret.
const WITHHELD: &str = "…";

/// The shortest write key.
const MIN_KEY_CHARS: usize = 8;

impl Cli {
    /// What was typed.
    ///
    /// # Errors
    /// The exit code, where there is nothing to run: help was asked for, or what was typed is wrong. It has been told.
    pub fn from_arguments() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            if error.use_stderr() {
                output::complain(told(error, std::env::args_os().skip(1)).trim_end());
                return ExitCode::from(2);
            }
            match output::line(error.render().to_string().trim_end()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => output::report(&error.into()),
            }
        })
    }
}

/// The complaint, without what may be a key or a secret in the wrong place.
fn told(mut error: clap::Error, arguments: impl Iterator<Item = std::ffi::OsString>) -> String {
    let is_word = |value: Option<&ContextValue>| matches!(value, Some(ContextValue::String(s)) if !s.starts_with('-'));
    if error.kind() == ErrorKind::UnknownArgument && is_word(error.get(ContextKind::InvalidArg)) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(WITHHELD.to_owned()));
        // They repeat it.
        error.remove(ContextKind::Suggested);
    }
    let is_command = |word: &str| word.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && !is_command(word)
    {
        error.insert(ContextKind::InvalidSubcommand, ContextValue::String(WITHHELD.to_owned()));
        error.remove(ContextKind::Suggested);
    }
    let mut text = error.render().to_string();
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let value = argument.split_once('=').map_or(&*argument, |(_, value)| value);
        for word in [&*argument, value] {
            if may_be_secret(word) {
                text = text.replace(word, WITHHELD);
            }
        }
    }
    text.lines().map(visible).collect::<Vec<_>>().join("\n")
}

/// Whether a text has the look of a key or a secret: letters and digits without a break; or of a URL, or a part of one,
/// which may hold a password.
fn may_be_secret(text: &str) -> bool {
    let is_key_char = |c: char| c.is_ascii_alphanumeric() || "-_+/=".contains(c);
    text.contains("whsec_")
        || text.contains("://")
        || (text.contains('@') && text.contains(':'))
        || (text.len() >= MIN_KEY_CHARS
            && text.chars().all(is_key_char)
            && text.contains(|c: char| c.is_ascii_digit())
            && text.contains(|c: char| c.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(arguments: &[&str]) -> String {
        let error = Cli::try_parse_from([&["nudgespot-source"], arguments].concat()).expect_err("wrong");
        told(error, arguments.iter().map(std::ffi::OsString::from))
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_repeated() {
        for secret in [
            "whsec_c2VjcmV0",
            "abcdefgh1234",
            "s3cr3t-k3y=",
            "postgres://u:pw@h/db",
            "postgres://u@h/db?password=pw",
            "u:pw@h/db",
        ] {
            for arguments in [
                vec!["sign", secret],
                vec!["sign", "--scheme", secret],
                vec!["sign", "--scret", secret],
                vec!["sign", &format!("--scheme={secret}")],
                vec!["source", "set", "acme", secret],
                vec!["source", "set", "acme", "--region", secret],
                vec!["source", "set", "acme", &format!("--key={secret}")],
                vec!["source", secret],
                vec![secret],
            ] {
                let text = complaint(&arguments);
                assert!(!text.contains(secret), "{text}");
                assert!(text.starts_with("error: "), "{text}");
            }
        }
        for word in ["s3cret", "sec ret", "pass:word", "p\u{e4}ss", "secret!"] {
            for arguments in [vec![word], vec!["source", word]] {
                let text = complaint(&arguments);
                assert!(!text.contains(word) && text.contains("unrecognized subcommand '…'"), "{text}");
            }
        }
        assert!(complaint(&["source", "shwo"]).contains("'shwo'"));
        assert!(complaint(&["dead-leters"]).contains("'dead-leters'"));
        assert!(complaint(&["--jsno"]).contains("'--jsno'"));
    }

    #[test]
    fn what_was_typed_is_shown_harmlessly() {
        let text = complaint(&["--\u{1b}]0;x\u{7}"]);
        assert!(text.contains(r"\u{1b}]0;x\u{7}"), "{text}");
    }
}
