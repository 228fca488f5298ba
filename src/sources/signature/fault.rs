//! What may be wrong with a webhook's signature, by name and in words.

use std::fmt;

/// What is probably wrong with a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The source has no signing secret yet.
    NoSecret,
    /// Headers that the scheme needs are not there; perhaps another looks like a signature.
    HeaderMissing {
        /// Their names.
        names: Vec<&'static str>,
        /// A header that looks as if it were meant.
        found: Option<String>,
    },
    /// A header is there twice.
    HeaderTwice(String),
    /// The headers of Standard Webhooks come under their old and their new names.
    MixedNames,
    /// The signature header cannot be read.
    Unreadable(String),
    /// The sender signs by a scheme that this kind of source does not use.
    WrongScheme,
    /// The signature has no timestamp, and the source does not allow that.
    Untimestamped,
    /// The signature is written in hex where base64 is due.
    HexForBase64,
    /// The signature is written in base64 where hex is due, or in another alphabet of it.
    Base64ForHex,
    /// The signature is written in the base64 of URLs, or without padding.
    OtherBase64,
    /// The name of a hash (`sha1=`) stands before the signature, where there is none.
    HashNamed,
    /// The signature is as long as those of another hash.
    OtherHash,
    /// The version (`v1,` or `v1=`) is missing before the signature.
    NoVersion,
    /// The timestamp counts milliseconds.
    Milliseconds,
    /// The timestamp is no number.
    UnreadableTimestamp,
    /// The sender's clock is this many seconds ahead (or, negative, behind), or the webhook was on its way for so long.
    ClockOff(i64),
    /// The secret before the last rotation signs it, and its time is over.
    ExpiredSecret,
    /// The secret of another source of the account signs it.
    SecretOfSource(String),
    /// The key was the whole text of the secret, where the base64 after `whsec_` is to be decoded.
    KeyNotDecoded,
    /// The key was the text after `whsec_`, not decoded, or without the prefix that belongs to it.
    KeyWithoutPrefix,
    /// The key was the decoded base64, where it is the whole text of the secret.
    KeyDecoded,
    /// White space or a line end was part of the key.
    KeyWithWhiteSpace,
    /// White space or a line end was added to the body, or taken away, after it was signed.
    BodyWhiteSpace,
    /// The body is the JSON that was signed, spelled differently.
    Reserialized,
    /// Something else was signed than the scheme says.
    SignedContent(&'static str),
    /// The secret is none of this account's, or the body was altered; the former is likelier.
    UnknownSecret,
    /// The body was altered after it was signed, or the secret is none of this account's; the former is likelier.
    AlteredBody,
    /// The body was too long to be kept, and so to be judged.
    BodyNotKept,
    /// There is no signature, and the ingest key is not the source's.
    IngestKey(IngestKeyFault),
}

/// What is wrong with an ingest key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngestKeyFault {
    /// There is an `Authorization`, but not an ingest key as its user without a password.
    Unreadable,
    /// It is none of this account's.
    Unknown,
    /// It is the one before the last rotation, whose time is over.
    Expired,
    /// It is that of another source of the account.
    OfSource(String),
}

impl Fault {
    /// Its name, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSecret => "no_secret",
            Self::HeaderMissing { .. } => "header_missing",
            Self::HeaderTwice(_) => "header_twice",
            Self::MixedNames => "mixed_header_names",
            Self::Unreadable(_) => "unreadable_signature",
            Self::WrongScheme => "wrong_scheme",
            Self::Untimestamped => "untimestamped_not_allowed",
            Self::HexForBase64 => "hex_for_base64",
            Self::Base64ForHex => "base64_for_hex",
            Self::OtherBase64 => "other_base64",
            Self::HashNamed => "hash_named",
            Self::OtherHash => "other_hash",
            Self::NoVersion => "version_missing",
            Self::Milliseconds => "timestamp_in_milliseconds",
            Self::UnreadableTimestamp => "unreadable_timestamp",
            Self::ClockOff(_) => "clock_off",
            Self::ExpiredSecret => "previous_secret",
            Self::SecretOfSource(_) => "secret_of_another_source",
            Self::KeyNotDecoded => "key_not_decoded",
            Self::KeyWithoutPrefix => "key_without_prefix",
            Self::KeyDecoded => "key_decoded",
            Self::KeyWithWhiteSpace => "key_with_white_space",
            Self::BodyWhiteSpace => "body_white_space",
            Self::Reserialized => "body_reserialized",
            Self::SignedContent(_) => "other_content_signed",
            Self::UnknownSecret => "another_secret",
            Self::AlteredBody => "altered_body",
            Self::BodyNotKept => "body_not_kept",
            Self::IngestKey(IngestKeyFault::Unreadable) => "unreadable_ingest_key",
            Self::IngestKey(IngestKeyFault::Unknown) => "another_ingest_key",
            Self::IngestKey(IngestKeyFault::Expired) => "previous_ingest_key",
            Self::IngestKey(IngestKeyFault::OfSource(_)) => "ingest_key_of_another_source",
        }
    }
}

/// The fault of that name as a part of a sentence, without names and numbers: for those who need not know more.
#[must_use]
pub fn clause(code: &str) -> Option<&'static str> {
    Some(match code {
        "no_secret" => "there is no signing secret yet",
        "header_missing" => "they are not signed",
        "header_twice" | "mixed_header_names" => "their signature headers are there twice",
        "wrong_scheme" | "untimestamped_not_allowed" | "other_hash" => {
            "they are signed by another scheme than this source takes"
        }
        "hex_for_base64"
        | "base64_for_hex"
        | "other_base64"
        | "hash_named"
        | "version_missing"
        | "unreadable_signature" => "their signature is written in another way than it should be",
        "timestamp_in_milliseconds" | "unreadable_timestamp" => "their timestamp does not count seconds",
        "clock_off" => "the sender's clock is off",
        "previous_secret" => "the previous secret signs them",
        "secret_of_another_source" => "the secret of another source of the account signs them",
        "key_not_decoded" | "key_without_prefix" | "key_decoded" | "key_with_white_space" => {
            "the sender uses the secret in another way than it should"
        }
        "body_white_space" | "body_reserialized" | "altered_body" => "their body was altered after it was signed",
        "other_content_signed" => "something else is signed than should be",
        "another_secret" => "another secret signs them",
        "unreadable_ingest_key" => "their ingest key is written in another way than it should be",
        "another_ingest_key" => "their ingest key is unknown",
        "previous_ingest_key" => "their ingest key is the previous one",
        "ingest_key_of_another_source" => "their ingest key is that of another source of the account",
        _ => return None,
    })
}

/// In words for the person who is to mend it: what is wrong, and what to do.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NoSecret => "This source has no signing secret yet. Enter the one that the sender shows.",
            Self::HeaderMissing { names, found } => {
                write!(f, "The webhook has no header {}.", names.join(" and no "))?;
                return match found {
                    Some(found) => {
                        write!(f, " It has {found}, which is not read: set the sender to sign as this source needs it.")
                    }
                    None => {
                        f.write_str(" Switch signing on at the sender; a proxy on the way may also have dropped it.")
                    }
                };
            }
            Self::HeaderTwice(name) => {
                return write!(f, "The header {name} is there twice. Something on the way adds it again.");
            }
            Self::MixedNames => {
                "The headers come under their old names (svix-…) and their new ones (webhook-…). Only one set may be there."
            }
            Self::Unreadable(name) => return write!(f, "The header {name} holds no signature that can be read."),
            Self::WrongScheme => {
                "The sender signs with X-Nudgespot-Signature, which this kind of source does not use: it needs the headers \
                 webhook-id, webhook-timestamp and webhook-signature."
            }
            Self::Untimestamped => {
                "The signature covers the body alone, without a timestamp, and so could be replayed. Sign with a timestamp, or \
                 allow signatures without one in the source's settings."
            }
            Self::HexForBase64 => "The signature is written in hex. This header needs base64.",
            Self::Base64ForHex => "The signature is written in base64. This header needs hex.",
            Self::OtherBase64 => {
                "The signature is written in the base64 of URLs, or without its padding. This header needs standard base64."
            }
            Self::HashNamed => {
                "The name of a hash stands before the signature. This header needs hex alone, without `sha1=`."
            }
            Self::OtherHash => "The signature is made with another hash. This header needs HMAC-SHA1, in hex.",
            Self::NoVersion => "The version is missing before the signature: `v1,` in webhook-signature.",
            Self::Milliseconds => "The timestamp counts milliseconds. It must count seconds since 1970.",
            Self::UnreadableTimestamp => "The timestamp is no number. It must count seconds since 1970.",
            Self::ClockOff(seconds) => {
                let direction = if *seconds > 0 { "ahead of" } else { "behind" };
                return write!(
                    f,
                    "The signature's timestamp is {} s {direction} this server's clock; 300 s are allowed. The sender's clock \
                     is off, or the webhook is an old one that was sent again with its old signature.",
                    seconds.unsigned_abs()
                );
            }
            Self::ExpiredSecret => {
                "It is signed with the previous secret, whose time is over. Enter the current one at the sender."
            }
            Self::SecretOfSource(name) => {
                return write!(
                    f,
                    "It is signed with the secret of another source of this account, {name}. Enter this source's \
                                  secret at the sender, or send to that source's URL."
                );
            }
            Self::KeyNotDecoded => {
                "The key was the secret's text as it stands. For this header the part after `whsec_` must be decoded from \
                 base64 first."
            }
            Self::KeyWithoutPrefix => {
                "The key was the text after `whsec_`, as it stands. For webhook-signature it must be decoded from base64 \
                 first; for X-Nudgespot-Signature and X-Signature the key is the whole text, with `whsec_`."
            }
            Self::KeyDecoded => {
                "The key was decoded from base64. For X-Nudgespot-Signature and X-Signature the key is the secret's text as \
                 it stands, with `whsec_`."
            }
            Self::KeyWithWhiteSpace => {
                "A blank or a line end was taken for a part of the secret. Enter the secret at the sender without it."
            }
            Self::BodyWhiteSpace => {
                "White space or a line end was added to the body, or taken away, after it was signed. Sign the bytes that \
                 are sent."
            }
            Self::Reserialized => {
                "The body is not the text that was signed, but the same JSON written anew. Sign the bytes that are sent."
            }
            Self::SignedContent(what) => return write!(f, "The secret is right, but the sender signs {what}."),
            Self::UnknownSecret => {
                "It is signed with another secret: none that this account has. Enter this source's secret at the sender. \
                 (Where the secret is right, the body was altered on its way.)"
            }
            Self::AlteredBody => {
                "The body is probably not the one that was signed: something on the way altered it. (Or it is signed with a \
                 secret that this account does not have.)"
            }
            Self::BodyNotKept => {
                "Only the beginning of its body was kept, so its signature cannot be judged. Paste the whole request to have \
                 it judged."
            }
            Self::IngestKey(fault) => return fault.fmt(f),
        };
        f.write_str(text)
    }
}

impl fmt::Display for IngestKeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => {
                "Authorization holds no ingest key that can be read. It needs `Basic`, with the source's ingest key as the \
                 user and an empty password."
            }
            Self::Unknown => {
                "Its ingest key is none that this account has. Enter this source's ingest key at the sender."
            }
            Self::Expired => {
                "Its ingest key is the previous one, whose time is over. Enter the current one at the sender."
            }
            Self::OfSource(name) => {
                return write!(
                    f,
                    "Its ingest key is that of another source of this account, {name}. Enter this source's ingest key at \
                     the sender, or send to that source's URL."
                );
            }
        })
    }
}
