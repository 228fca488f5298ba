//! How requests with calls of Segment's API are authenticated: by a signature over the body, as Segment's webhooks are, or
//! by the source's ingest key, where the sender cannot sign. None of them has a timestamp: what comes again is stopped by its
//! `messageId`.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;
use subtle::{Choice, ConstantTimeEq};

use super::{Scheme, Signature, VerifyError};
use crate::domain::json;
use crate::domain::secret::{Sha1Tag, SigningSecret};

/// What came with a request: at least one of the two.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Credentials<'a> {
    /// Of `X-Signature`.
    tag: Option<Sha1Tag>,
    /// The user of `Authorization: Basic`, or the `writeKey` of the body.
    pub(super) ingest_key: Option<Cow<'a, str>>,
}

/// The headers that authenticate a request.
#[derive(Default)]
struct Headers<'a> {
    signature: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
}

/// What `Authorization` holds.
enum Authorization {
    /// Nothing, or nothing of the scheme `Basic`.
    NotBasic,
    /// A user without a password.
    IngestKey(String),
    /// `Basic`, but not a user without a password.
    Malformed,
}

/// Reads how a request to a webhook URL is authenticated.
///
/// # Errors
/// [`VerifyError::Unreadable`] where a header is there twice, a signature is malformed, or there is neither a signature nor an
/// ingest key.
pub(in crate::sources) fn read_signature<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<Signature<'a>, VerifyError> {
    let headers = Headers::collect(headers)?;
    let ingest_key = match headers.authorization() {
        Authorization::IngestKey(key) => Some(Cow::Owned(key)),
        Authorization::NotBasic | Authorization::Malformed => None,
    };
    Credentials { tag: headers.tag()?, ingest_key }.into_signature()
}

/// Reads how a request of one of Segment's libraries is authenticated. It has to say an ingest key, by which the source is
/// found ([`Signature::ingest_key`]): as the user of `Authorization: Basic`, else as `writeKey` in the body.
///
/// # Errors
/// [`VerifyError::Unreadable`] where there is none, a header is there twice, or what there is cannot be read.
pub fn read_sdk_signature<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: &'a [u8],
) -> Result<Signature<'a>, VerifyError> {
    let headers = Headers::collect(headers)?;
    let ingest_key = match headers.authorization() {
        Authorization::IngestKey(key) => Cow::Owned(key),
        Authorization::NotBasic => write_key(body).ok_or(VerifyError::Unreadable)?,
        Authorization::Malformed => return Err(VerifyError::Unreadable),
    };
    Credentials { tag: headers.tag()?, ingest_key: Some(ingest_key) }.into_signature()
}

impl<'a> Headers<'a> {
    fn collect(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Self, VerifyError> {
        let mut all = Self::default();
        for (name, value) in headers {
            let header = match name.len() {
                11 if name.eq_ignore_ascii_case("x-signature") => &mut all.signature,
                13 if name.eq_ignore_ascii_case("authorization") => &mut all.authorization,
                _ => continue,
            };
            if header.replace(value).is_some() {
                return Err(VerifyError::Unreadable);
            }
        }
        Ok(all)
    }

    fn tag(&self) -> Result<Option<Sha1Tag>, VerifyError> {
        let tag = |value: &[u8]| {
            let mut tag = Sha1Tag::default();
            hex::decode_to_slice(value.trim_ascii(), &mut tag).map_err(|_| VerifyError::Unreadable)?;
            Ok(tag)
        };
        self.signature.map(tag).transpose()
    }

    fn authorization(&self) -> Authorization {
        let Some(credentials) = self.authorization.and_then(basic) else { return Authorization::NotBasic };
        match ingest_key(credentials) {
            Some(key) => Authorization::IngestKey(key),
            None => Authorization::Malformed,
        }
    }
}

impl<'a> Credentials<'a> {
    fn into_signature(self) -> Result<Signature<'a>, VerifyError> {
        if self.tag.is_none() && self.ingest_key.is_none() {
            return Err(VerifyError::Unreadable);
        }
        Ok(Signature { scheme: Scheme::Calls(self), tags: Vec::new() })
    }

    /// A signature that is there must hold, whatever else is there. Of an array of calls, Segment signs the first alone.
    pub(super) fn are_made_by(&self, secret: &SigningSecret, body: &[u8]) -> Choice {
        match (&self.tag, &self.ingest_key) {
            (Some(tag), _) => {
                let of_first = first_element(body).map_or(Choice::from(0), |first| tag.ct_eq(&secret.sha1_tag(first)));
                of_first | tag.ct_eq(&secret.sha1_tag(body))
            }
            (None, Some(key)) => secret.has_ingest_key(key),
            (None, None) => Choice::from(0),
        }
    }
}

/// What follows the scheme, where that is `Basic`.
pub(super) fn basic(authorization: &[u8]) -> Option<&[u8]> {
    let value = authorization.trim_ascii();
    let (scheme, credentials) = value.split_at_checked(value.iter().position(|b| *b == b' ')?)?;
    scheme.eq_ignore_ascii_case(b"basic").then(|| credentials.trim_ascii())
}

/// The user of these credentials; `None`: they are malformed, or have a password.
pub(super) fn ingest_key(credentials: &[u8]) -> Option<String> {
    let credentials = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let key = credentials.strip_suffix(':')?;
    (!key.is_empty() && !key.contains(':')).then(|| key.to_owned())
}

/// The `writeKey` of a body; `None` where there is none, where it is there twice, and where the body is no JSON object.
fn write_key(body: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow, rename = "writeKey")]
        write_key: &'a RawValue,
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let Body { write_key } = serde_json::from_slice(body).ok()?;
    json::string(write_key).filter(|key| !key.is_empty())
}

/// The bytes of the first call of an array.
pub(super) fn first_element(body: &[u8]) -> Option<&[u8]> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let elements = body.trim_ascii_start().strip_prefix(b"[")?.trim_ascii_start();
    if !elements.starts_with(b"{") {
        return None;
    }
    let first: &RawValue = serde_json::Deserializer::from_slice(elements).into_iter().next()?.ok()?;
    Some(first.get().as_bytes())
}

#[cfg(test)]
mod tests;
