//! Which calls are kept out: those that went round in a circle, and those that are not meant for Nudgespot.

use serde_json::value::RawValue;

use super::{MESSAGE_IDS, find, object};
use crate::domain::call::CallSettings;
use crate::domain::json::{self, Object};
use crate::domain::rejection::Rejection;
use crate::sources::OWN_EVENT;

/// Nudgespot's name among `integrations`.
const OWN_NAME: &str = "Nudgespot";
/// The destinations at Segment that bring calls here. What a replay says is on is such a destination, and nothing else.
const CARRIERS: [&str; 2] = ["Webhooks", "Webhooks (Actions)"];
/// Whose integration names itself in tracks of email events, and which library sends all tracks.
const OWN_INTEGRATION: &str = "nudgespot";
const OWN_LIBRARY: &str = "nudgespot-source";
/// What the message ids of these tracks begin with.
const OWN_MESSAGE_IDS: &str = "nudgespot-";

/// Why a call is kept out; `None`: it is not. `of_batch` is what its batch says in place of its own `integrations`.
///
/// # Errors
/// [`Rejection::Unreadable`] where it cannot be taken apart.
pub(super) fn reason(
    call: &Object<'_>,
    context: &Object<'_>,
    of_batch: Option<&RawValue>,
    settings: &CallSettings,
) -> Result<Option<&'static str>, Rejection> {
    let reason = if is_own(call, context)? {
        Some(OWN_EVENT)
    } else if !is_switched_on(call.find("integrations").or(of_batch), settings)? {
        Some("switched_off")
    } else if is_sent_by_browser(call)? {
        Some("sent_by_browser")
    } else {
        None
    };
    Ok(reason)
}

/// Whether this program has sent it to Segment: an email event, which Nudgespot knows of.
fn is_own(call: &Object<'_>, context: &Object<'_>) -> Result<bool, Rejection> {
    let is_named = |key: &str, own: &str| -> Result<bool, Rejection> {
        Ok(object(context, key)?.find("name").and_then(json::string).is_some_and(|name| name == own))
    };
    let has_own_id = || find(call, &MESSAGE_IDS, json::string).is_some_and(|id| id.starts_with(OWN_MESSAGE_IDS));
    Ok(has_own_id() || is_named("integration", OWN_INTEGRATION)? || is_named("library", OWN_LIBRARY)?)
}

fn is_switched_on(integrations: Option<&RawValue>, settings: &CallSettings) -> Result<bool, Rejection> {
    let Some(integrations) = integrations.map(Object::parse).transpose()?.flatten() else { return Ok(true) };
    let is_on = |name: &str| switch(integrations.find(name)?);
    let is_carried = || CARRIERS.into_iter().chain(settings.carrier.as_deref()).any(|name| is_on(name) == Some(true));
    Ok(is_on(OWN_NAME).unwrap_or_else(|| is_on("All") != Some(false) || is_carried()))
}

/// An object holds settings of what is on. `None`: nothing that switches.
fn switch(value: &RawValue) -> Option<bool> {
    match value.get() {
        "false" => Some(false),
        "true" => Some(true),
        other => other.starts_with('{').then_some(true),
    }
}

/// Whether Nudgespot's own script has sent it from the user's browser.
fn is_sent_by_browser(call: &Object<'_>) -> Result<bool, Rejection> {
    let metadata = object(call, "_metadata")?;
    let bundled = metadata.find("bundled").filter(|list| list.get().starts_with('['));
    let bundled: Vec<&RawValue> = bundled.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default();
    Ok(bundled.into_iter().filter_map(json::string).any(|name| name == OWN_NAME))
}
