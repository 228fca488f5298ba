//! What a person hands over on stdin: keys and secrets, where the shell's history does not see them.

use std::convert::Infallible;
use std::io::{BufRead, Read};

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};

/// Longer than any key or secret: a file piped in by mistake is not read to its end.
const MAX_LINE_BYTES: u64 = 1024;
/// As many bytes as the setting `MAX_BODY_BYTES` may allow a webhook at most.
const MAX_BODY_BYTES: u64 = 64 << 20;

/// An argument that may hold a secret: it is checked later, as complaints about arguments repeat them.
#[expect(clippy::unnecessary_wraps, reason = "clap's form of a parser")]
pub fn secret_argument(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text))
}

/// The first line of stdin, which is `what`.
///
/// # Errors
/// Where there is none, or it is blank.
pub fn first_line(what: &str) -> anyhow::Result<SecretString> {
    read_line(&mut std::io::stdin().lock(), what)
}

/// What an argument says; where it is `-`, the first line of stdin, which is `what`.
///
/// # Errors
/// As of [`first_line`].
pub fn argument_or_first_line(argument: &SecretString, what: &str) -> anyhow::Result<SecretString> {
    if argument.expose_secret() == "-" { first_line(what) } else { Ok(argument.clone()) }
}

/// The first line of stdin, which is `what`, and all that follows it.
///
/// # Errors
/// As of [`first_line`] and [`rest`].
pub fn first_line_and_rest(what: &str) -> anyhow::Result<(SecretString, Vec<u8>)> {
    let mut stdin = std::io::stdin().lock();
    let first = read_line(&mut stdin, what)?;
    Ok((first, read_rest(&mut stdin)?))
}

/// All of stdin.
///
/// # Errors
/// Where it cannot be read, or is larger than any webhook.
pub fn rest() -> anyhow::Result<Vec<u8>> {
    read_rest(&mut std::io::stdin().lock())
}

fn read_line(input: &mut impl BufRead, what: &str) -> anyhow::Result<SecretString> {
    let mut line = Vec::new();
    input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line).context("cannot read stdin")?;
    let Ok(line) = String::from_utf8(line) else { bail!("the first line of stdin is not UTF-8; it is to be {what}") };
    if line.trim().is_empty() {
        bail!("the first line of stdin is blank; it is to be {what}");
    }
    Ok(SecretString::from(line.trim()))
}

fn read_rest(input: &mut impl Read) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    input.take(MAX_BODY_BYTES + 1).read_to_end(&mut body).context("cannot read stdin")?;
    if u64::try_from(body.len())? > MAX_BODY_BYTES {
        bail!("the body on stdin is larger than any webhook may be");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_first_line_counts_and_the_rest_is_left() {
        let mut input = &b" a secret \r\n{\"event\":\n\"opened\"}\n"[..];
        assert_eq!(read_line(&mut input, "the secret").expect("a line").expose_secret(), "a secret");
        assert_eq!(read_rest(&mut input).expect("a body"), b"{\"event\":\n\"opened\"}\n");
        for blank in ["", "\nsecond", " \t\r\nsecond"] {
            let error = read_line(&mut blank.as_bytes(), "the secret").expect_err("blank").to_string();
            assert_eq!(error, "the first line of stdin is blank; it is to be the secret");
        }
        assert!(read_line(&mut &b"\xff\n"[..], "the secret").is_err());
    }
}
