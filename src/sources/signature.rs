//! Who sent these bytes? Headers, bytes and secrets in, [`Verified`] bytes out.
//!
//! Three schemes, recognised by their header (docs/contract.md, Signatures): Standard Webhooks, a timestamped
//! `X-Nudgespot-Signature`, and one over the body alone, which cannot stop a replay and is off unless switched on. Calls of
//! Segment's API have another of their own ([`calls`]).

pub mod calls;
pub mod diagnosis;
mod fault;
mod reserialize;

pub use fault::clause;

use base64::{Engine, engine::general_purpose::STANDARD};
use subtle::{Choice, ConstantTimeEq};

use crate::domain::secret::{KeyPart, SigningSecret, Tag};
use calls::Credentials;

/// How far a signature's timestamp may be off, either way, in seconds.
pub const TOLERANCE_SECONDS: u64 = 300;
/// How many signatures of one header are tried: the first of the version known here, readable or not.
pub const MAX_SIGNATURES: usize = 16;

/// Bytes whose sender knew the secret. Only [`verify`] makes one, and the payload parser takes nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a> {
    bytes: &'a [u8],
    id: Option<&'a str>,
    signed_with: SignedWith,
}

/// Which of a source's secrets signed a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedWith {
    /// The one that signs from now on.
    Current,
    /// The one before the last rotation.
    Previous,
}

impl<'a> Verified<'a> {
    /// The bytes, as they were received.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The webhook's id, where the signature covers one: the same on each redelivery.
    #[must_use]
    pub fn id(self) -> Option<&'a str> {
        self.id
    }

    /// The secret that signed it.
    #[must_use]
    pub fn signed_with(self) -> SignedWith {
        self.signed_with
    }
}

/// The secrets of one source: the current one and, for a while after a rotation, the one before.
#[derive(Clone, Debug)]
pub struct Keyring {
    /// The secret that signs from now on.
    pub current: SigningSecret,
    /// The secret before it. Where there is none, a decoy: a refusal takes the same time for every source.
    pub previous: SigningSecret,
    /// Unix seconds until which `previous` verifies; `None` for a decoy.
    pub previous_until: Option<i64>,
    /// Whether a signature over the body alone, which can be replayed, is accepted.
    pub allow_untimestamped: bool,
}

/// The signature that came with a webhook.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    scheme: Scheme<'a>,
    tags: Vec<Tag>,
}

#[derive(Debug, PartialEq, Eq)]
enum Scheme<'a> {
    Standard { id: &'a str, timestamp: &'a str },
    Timestamped { timestamp: &'a str },
    Body,
    Calls(Credentials<'a>),
}

/// Why a webhook is not believed. The sender is told the same in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No signature header, or none that can be read.
    #[error("no readable signature")]
    Unreadable,
    /// The timestamp is more than [`TOLERANCE_SECONDS`] off.
    #[error("the signature's timestamp is too far from now")]
    Stale,
    /// No secret of the source makes this signature, or the source does not allow its scheme.
    #[error("the signature does not match")]
    Mismatch,
}

/// The headers of a request that sign it.
#[derive(Default)]
struct Headers<'a> {
    /// Standard Webhooks, under their names of today.
    webhook: StandardHeaders<'a>,
    /// The same, under the names that they had before.
    svix: StandardHeaders<'a>,
    nudgespot: Option<&'a [u8]>,
}

#[derive(Default, PartialEq, Eq)]
struct StandardHeaders<'a> {
    id: Option<&'a [u8]>,
    timestamp: Option<&'a [u8]>,
    signature: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// None of them may be there twice: which one was meant?
    fn collect(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Self, VerifyError> {
        let mut all = Self::default();
        for (name, value) in headers {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let header = match name.len() {
                7 if is("svix-id") => &mut all.svix.id,
                10 if is("webhook-id") => &mut all.webhook.id,
                14 if is("svix-timestamp") => &mut all.svix.timestamp,
                14 if is("svix-signature") => &mut all.svix.signature,
                17 if is("webhook-timestamp") => &mut all.webhook.timestamp,
                17 if is("webhook-signature") => &mut all.webhook.signature,
                21 if is("x-nudgespot-signature") => &mut all.nudgespot,
                _ => continue,
            };
            if header.replace(value).is_some() {
                return Err(VerifyError::Unreadable);
            }
        }
        Ok(all)
    }
}

impl<'a> Signature<'a> {
    /// Reads the signature from a request's headers, given by name and value.
    ///
    /// # Errors
    /// [`VerifyError::Unreadable`] where a header is missing, there twice, or malformed, or where the headers of Standard
    /// Webhooks are there under their old names and under the new.
    pub fn from_headers(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Self, VerifyError> {
        let Headers { webhook, svix, nudgespot } = Headers::collect(headers)?;
        let none = StandardHeaders::default();
        let standard = match (webhook == none, svix == none) {
            (false, false) => return Err(VerifyError::Unreadable),
            (false, true) => webhook,
            (true, _) => svix,
        };
        let signature = match (standard.signature, nudgespot) {
            (Some(signatures), _) => Self {
                scheme: Scheme::Standard { id: text(standard.id)?, timestamp: text(standard.timestamp)? },
                tags: text(Some(signatures))?
                    .split(' ')
                    .filter_map(|signature| signature.strip_prefix("v1,"))
                    .take(MAX_SIGNATURES)
                    .filter_map(base64_tag)
                    .collect(),
            },
            (None, Some(_)) => Self::from_own_header(text(nudgespot)?)?,
            (None, None) => return Err(VerifyError::Unreadable),
        };
        if signature.tags.is_empty() { Err(VerifyError::Unreadable) } else { Ok(signature) }
    }

    /// `sha256=<hex>`, or `t=<unix seconds>` and `v1=<hex>` once or more.
    fn from_own_header(value: &'a str) -> Result<Self, VerifyError> {
        if let Some(hex) = value.trim().strip_prefix("sha256=") {
            return Ok(Self { scheme: Scheme::Body, tags: hex_tag(hex).into_iter().collect() });
        }
        let (mut timestamp, mut tags, mut n_signatures) = (None, Vec::new(), 0);
        for part in value.split(',') {
            match part.trim().split_once('=') {
                Some(("t", _)) if timestamp.is_some() => return Err(VerifyError::Unreadable),
                Some(("t", seconds)) => timestamp = Some(seconds),
                Some(("v1", hex)) if n_signatures < MAX_SIGNATURES => {
                    n_signatures += 1;
                    tags.extend(hex_tag(hex));
                }
                // Other keys are left to later versions of the scheme.
                _ => {}
            }
        }
        let timestamp = timestamp.ok_or(VerifyError::Unreadable)?;
        Ok(Self { scheme: Scheme::Timestamped { timestamp }, tags })
    }

    fn id(&self) -> Option<&'a str> {
        match self.scheme {
            Scheme::Standard { id, .. } => Some(id),
            Scheme::Timestamped { .. } | Scheme::Body | Scheme::Calls(_) => None,
        }
    }

    fn timestamp(&self) -> Option<&'a str> {
        match self.scheme {
            Scheme::Standard { timestamp, .. } | Scheme::Timestamped { timestamp } => Some(timestamp),
            Scheme::Body | Scheme::Calls(_) => None,
        }
    }

    /// The ingest key that a request with calls says: by it the source is found, where no token does. [`verify`] compares it
    /// with the source's own.
    #[must_use]
    pub fn ingest_key(&self) -> Option<&str> {
        match &self.scheme {
            Scheme::Calls(credentials) => credentials.ingest_key.as_deref(),
            Scheme::Standard { .. } | Scheme::Timestamped { .. } | Scheme::Body => None,
        }
    }

    fn is_made_by(&self, secret: &SigningSecret, body: &[u8]) -> Choice {
        let expected = match &self.scheme {
            Scheme::Standard { id, timestamp } => {
                secret.tag(KeyPart::Decoded, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
            }
            Scheme::Timestamped { timestamp } => secret.tag(KeyPart::Whole, &[timestamp.as_bytes(), b".", body]),
            Scheme::Body => secret.tag(KeyPart::Whole, &[body]),
            Scheme::Calls(credentials) => return credentials.are_made_by(secret, body),
        };
        self.tags.iter().fold(Choice::from(0), |any, tag| any | tag.ct_eq(&expected))
    }
}

/// Verifies `body` under `keyring` at `now` (Unix seconds).
///
/// Comparison is in constant time, and every mismatch costs the work of two secrets: how long a refusal takes tells
/// nothing of the source.
///
/// # Errors
/// [`VerifyError::Stale`] or [`VerifyError::Mismatch`].
pub fn verify<'b>(
    signature: &Signature<'b>,
    body: &'b [u8],
    keyring: &Keyring,
    now: i64,
) -> Result<Verified<'b>, VerifyError> {
    if let Some(timestamp) = signature.timestamp() {
        let seconds: i64 = timestamp.parse().map_err(|_| VerifyError::Unreadable)?;
        if now.abs_diff(seconds) > TOLERANCE_SECONDS {
            return Err(VerifyError::Stale);
        }
    }
    let allowed = keyring.allow_untimestamped || !matches!(signature.scheme, Scheme::Body);
    if allowed && bool::from(signature.is_made_by(&keyring.current, body)) {
        return Ok(Verified { bytes: body, id: signature.id(), signed_with: SignedWith::Current });
    }
    let previous_holds = keyring.previous_until.is_some_and(|until| now < until);
    if !allowed {
        let _same_work = signature.is_made_by(&keyring.current, body);
    }
    if bool::from(signature.is_made_by(&keyring.previous, body)) && allowed && previous_holds {
        return Ok(Verified { bytes: body, id: signature.id(), signed_with: SignedWith::Previous });
    }
    Err(VerifyError::Mismatch)
}

fn text(header: Option<&[u8]>) -> Result<&str, VerifyError> {
    header.and_then(|value| std::str::from_utf8(value).ok()).ok_or(VerifyError::Unreadable)
}

fn base64_tag(text: &str) -> Option<Tag> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn hex_tag(text: &str) -> Option<Tag> {
    let mut tag = Tag::default();
    hex::decode_to_slice(text.trim(), &mut tag).ok()?;
    Some(tag)
}

/// The schemes by which [`sign`] signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningScheme {
    /// Standard Webhooks: three headers.
    Standard,
    /// `X-Nudgespot-Signature: t=…,v1=…`.
    Timestamped,
    /// `X-Nudgespot-Signature: sha256=…`.
    Body,
}

/// The headers that sign `body`, as a sender would set them. `id` and `now` (Unix seconds) go where the scheme has them.
#[must_use]
pub fn sign(
    secret: &SigningSecret,
    scheme: SigningScheme,
    id: &str,
    now: i64,
    body: &[u8],
) -> Vec<(&'static str, String)> {
    let now = now.to_string();
    match scheme {
        SigningScheme::Standard => {
            let tag = secret.tag(KeyPart::Decoded, &[id.as_bytes(), b".", now.as_bytes(), b".", body]);
            vec![
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", now),
                ("webhook-signature", format!("v1,{}", STANDARD.encode(tag))),
            ]
        }
        SigningScheme::Timestamped => {
            let tag = secret.tag(KeyPart::Whole, &[now.as_bytes(), b".", body]);
            vec![("X-Nudgespot-Signature", format!("t={now},v1={}", hex::encode(tag)))]
        }
        SigningScheme::Body => {
            let tag = secret.tag(KeyPart::Whole, &[body]);
            vec![("X-Nudgespot-Signature", format!("sha256={}", hex::encode(tag)))]
        }
    }
}

#[cfg(test)]
mod tests;
