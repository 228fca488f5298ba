//! Why events and calls are ignored, in words for their source's admin.

/// What such a reason means; `None`: it is none of these, but words already.
#[must_use]
pub fn in_words(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "not_identified" => "no identify has told of its user",
        "own_event" => "it came from here, and would go round in a circle",
        "switched_off" => "its integrations switch Nudgespot off",
        "sent_by_browser" => "Nudgespot's own script has sent it from the user's browser",
        "no_user_id" => "it has no userId",
        "not_forwarded" => "Nudgespot has nothing like this type of call",
        "to_be_deleted_at_nudgespot" => {
            "its user is forgotten here; Nudgespot has no way to be told, so delete the user there"
        }
        _ => return None,
    })
}
