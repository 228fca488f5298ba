//! Calls of Segment's API, on their way to Nudgespot.

use time::OffsetDateTime;

use super::element::{BodyElement, BodyError};
use super::signature::Verified;
use crate::domain::call::CallSettings;

/// Takes the body of a webhook apart: a call, an array of calls, or `{"batch": […]}`.
pub fn parse<'a>(
    _body: Verified<'a>,
    _received_at: OffsetDateTime,
    _settings: &CallSettings,
) -> Result<Vec<BodyElement<'a>>, BodyError> {
    Err(BodyError::Malformed)
}

pub fn parse_sdk<'a>(
    body: Verified<'a>,
    _call_type: Option<&str>,
    received_at: OffsetDateTime,
    settings: &CallSettings,
) -> Result<Vec<BodyElement<'a>>, BodyError> {
    parse(body, received_at, settings)
}

pub fn read_sdk_signature<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    _body: &'a [u8],
) -> Result<super::signature::Signature<'a>, super::signature::VerifyError> {
    super::signature::Signature::from_headers(headers)
}
