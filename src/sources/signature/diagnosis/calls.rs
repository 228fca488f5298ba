//! What is wrong with how a request with calls is authenticated: by `X-Signature`, or by an ingest key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::calls::{basic, ingest_key};
use super::super::fault::{Fault, IngestKeyFault};
use super::{Evidence, Secrets};
use crate::domain::secret::SigningSecret;

pub(super) const SIGNATURE_NAME: &str = "X-Signature";

/// A signature, and what is wrong with how it is written.
pub(super) fn tag(value: &str) -> Result<(Vec<u8>, Option<Fault>), Fault> {
    let value = value.trim();
    let (tag, fault) = match value.split_once('=') {
        // Base64 may end with `=`, but has none before that.
        Some((hash, tag)) if !tag.is_empty() && tag != "=" && hash.len() <= 6 => (tag, Some(Fault::HashNamed)),
        _ => (value, None),
    };
    let (bytes, fault) = match (hex::decode(tag), STANDARD.decode(tag)) {
        (Ok(bytes), _) => (bytes, fault),
        (Err(_), Ok(bytes)) => (bytes, Some(Fault::Base64ForHex)),
        (Err(_), Err(_)) => return Err(Fault::Unreadable(SIGNATURE_NAME.to_owned())),
    };
    match bytes.len() {
        20 => Ok((bytes, fault)),
        32 | 64 => Err(Fault::OtherHash),
        _ => Err(Fault::Unreadable(SIGNATURE_NAME.to_owned())),
    }
}

/// What is wrong with the ingest key of a request without a signature; nothing where it is the source's.
pub(super) fn judge_ingest_key(evidence: &Evidence<'_>, authorization: &str) -> Vec<Fault> {
    let Secrets { current, previous, of_others, .. } = &evidence.secrets;
    let Some(key) = basic(authorization.as_bytes()).and_then(ingest_key) else {
        return vec![Fault::IngestKey(IngestKeyFault::Unreadable)];
    };
    let is_of = |secret: &SigningSecret| bool::from(secret.has_ingest_key(&key));
    if current.is_some_and(is_of) {
        return Vec::new();
    }
    if let Some((_, until)) = previous.filter(|(secret, _)| is_of(secret)) {
        return if evidence.received_at < until { Vec::new() } else { vec![Fault::IngestKey(IngestKeyFault::Expired)] };
    }
    let other = of_others.iter().find(|(_, secret)| is_of(secret));
    let fault = other.map_or(IngestKeyFault::Unknown, |(name, _)| IngestKeyFault::OfSource((*name).to_owned()));
    vec![Fault::IngestKey(fault)]
}
