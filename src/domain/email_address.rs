//! Addresses of the people who use the console.

use super::text::is_hidden;

/// The longest address, in bytes (RFC 5321).
const MAX_BYTES: usize = 254;

/// An email address by which a person signs in, in lower case: two spellings of one address are one person.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmailAddress(String);

/// It does not have the form of an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an email address reads `name@example.com`")]
pub struct InvalidEmailAddress;

impl EmailAddress {
    /// # Errors
    /// [`InvalidEmailAddress`].
    pub fn parse(input: &str) -> Result<Self, InvalidEmailAddress> {
        let address = input.trim().to_lowercase();
        let is_wrong = |c: char| c.is_whitespace() || is_hidden(c) || matches!(c, '<' | '>' | '"' | ',' | ';' | '@');
        let parts = address.rsplit_once('@').filter(|_| address.len() <= MAX_BYTES);
        let is_address = parts
            .is_some_and(|(name, host)| ![name, host].iter().any(|part| part.is_empty() || part.contains(is_wrong)));
        if is_address { Ok(Self(address)) } else { Err(InvalidEmailAddress) }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An address of which only the first letter and the host can be read: `j…@example.com`.
#[must_use]
pub fn masked(address: &str) -> String {
    let first = address.chars().next().map(String::from).unwrap_or_default();
    match address.rsplit_once('@') {
        Some((_, host)) => format!("{first}…@{host}"),
        None => format!("{first}…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_name_and_a_host_and_is_compared_in_lower_case() {
        assert_eq!(EmailAddress::parse(" Jane.Doe+x@Example.COM ").unwrap().as_str(), "jane.doe+x@example.com");
        let long = format!("{}@example.com", "x".repeat(250));
        for wrong in
            ["", "jane", "@example.com", "jane@", "a@b@c", "a b@c", "a\u{202e}@c", "Jane <j@c>", "a@c,b@c", &long]
        {
            assert_eq!(EmailAddress::parse(wrong), Err(InvalidEmailAddress), "{wrong}");
        }
    }

    #[test]
    fn a_masked_address_keeps_one_letter() {
        assert_eq!(masked("jane@example.com"), "j…@example.com");
        assert_eq!(masked("user-17"), "u…");
        assert_eq!(masked(""), "…");
    }
}
