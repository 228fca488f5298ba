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
