//! Signatures as senders write them, rightly and wrongly.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::super::fault::Fault;
use crate::domain::secret::Tag;

/// A signature of Standard Webhooks, and what is wrong with how it is written.
pub(super) fn base64_tag(text: &str) -> Option<(Vec<u8>, Option<Fault>)> {
    let (encoded, no_version) = match text.split_once(',') {
        Some(("v1", encoded)) => (encoded, None),
        // Of another version, as those with asymmetric keys.
        Some(_) => return None,
        None => {
            (text.strip_prefix("v1=").or_else(|| text.strip_prefix("sha256=")).unwrap_or(text), Some(Fault::NoVersion))
        }
    };
    if let Some(tag) = STANDARD.decode(encoded).ok().filter(is_tag) {
        return Some((tag, no_version));
    }
    if let Some(tag) = hex::decode(encoded).ok().filter(is_tag) {
        return Some((tag, Some(Fault::HexForBase64)));
    }
    let other = [URL_SAFE, URL_SAFE_NO_PAD, STANDARD_NO_PAD].iter().find_map(|engine| engine.decode(encoded).ok())?;
    is_tag(&other).then_some((other, Some(Fault::OtherBase64)))
}

/// A signature in hex, and what is wrong with how it is written.
pub(super) fn hex_tag(text: &str) -> Option<(Vec<u8>, Option<Fault>)> {
    let text = text.trim();
    if let Some(tag) = hex::decode(text).ok().filter(is_tag) {
        return Some((tag, None));
    }
    let engines = [STANDARD, URL_SAFE, URL_SAFE_NO_PAD, STANDARD_NO_PAD];
    let bytes = engines.iter().find_map(|engine| engine.decode(text).ok())?;
    is_tag(&bytes).then_some((bytes, Some(Fault::Base64ForHex)))
}

#[expect(clippy::ptr_arg, reason = "what `Option::filter` hands over")]
fn is_tag(bytes: &Vec<u8>) -> bool {
    bytes.len() == Tag::default().len()
}
