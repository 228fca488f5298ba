//! What is chosen of a source, when it is made and later.

use reqwest::Url;

use super::AdminError;
use crate::domain::call::UnknownUsers;
use crate::domain::carrier::Carrier;
use crate::domain::name::Name;
use crate::domain::nudgespot_key::NudgespotKey;
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::domain::unsubscribe_event::UnsubscribeEvent;
use crate::domain::write_key::WriteKey;
use crate::sources::Kind;

/// A source that is to be made.
#[derive(Debug)]
#[expect(missing_docs, reason = "docs/contract.md, Command line")]
pub struct NewSource {
    pub kind: Kind,
    /// `None`: its kind.
    pub name: Option<Name>,
    pub write_key: Option<WriteKey>,
    /// `None`: the United States.
    pub region: Option<Region>,
    /// Where its sender makes it. `None`: it is entered later.
    pub signing_secret: Option<SigningSecret>,
    pub calls: CallOptions,
}

/// What to change of a source; `None` leaves a setting as it is.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "docs/contract.md, Command line")]
pub struct Edit {
    pub name: Option<Name>,
    pub write_key: Option<WriteKey>,
    pub region: Option<Region>,
    /// `Some(None)`: that of the region; for calls, that of Nudgespot.
    pub endpoint: Option<Option<Url>>,
    pub unsubscribe_event: Option<UnsubscribeEvent>,
    pub allow_untimestamped: Option<bool>,
    pub signing_secret: Option<SigningSecret>,
    pub calls: CallOptions,
}

/// What concerns sources of calls alone; `None` leaves a setting as it is, or as it is where nobody has chosen.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "docs/contract.md, Command line")]
pub struct CallOptions {
    pub nudgespot_key: Option<NudgespotKey>,
    pub unknown_users: Option<UnknownUsers>,
    pub event_traits: Option<bool>,
    /// `Some(None)`: one of Segment's own.
    pub carrier: Option<Option<Carrier>>,
    pub learn_identities: Option<bool>,
}

impl NewSource {
    /// A source of this kind, of which nothing else is chosen.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self { kind, name: None, write_key: None, region: None, signing_secret: None, calls: CallOptions::default() }
    }

    /// # Errors
    /// [`AdminError::NotOfKind`], [`AdminError::SecretIsMadeHere`] for what a source of this kind does not have.
    pub(super) fn check(&self) -> Result<(), AdminError> {
        let of_events = [(self.write_key.is_some(), "write key"), (self.region.is_some(), "region")];
        check_kind(self.kind, &of_events, &self.calls)?;
        check_secret(self.kind, self.signing_secret.as_ref())
    }
}

impl Edit {
    /// # Errors
    /// [`AdminError::NotOfKind`], [`AdminError::SecretIsMadeHere`] for what a source of this kind does not have.
    pub(super) fn check(&self, kind: Kind) -> Result<(), AdminError> {
        let of_events = [
            (self.write_key.is_some(), "write key"),
            (self.region.is_some(), "region"),
            (self.unsubscribe_event.is_some(), "name of unsubscriptions"),
            (self.allow_untimestamped.is_some(), "rule for signatures without a timestamp"),
        ];
        check_kind(kind, &of_events, &self.calls)?;
        check_secret(kind, self.signing_secret.as_ref())
    }

    /// Whether something is changed that only some kinds have.
    pub(super) fn is_of_kinds(&self) -> bool {
        self.signing_secret.is_some() || self.calls.names().iter().any(|(is_there, _)| *is_there)
    }

    /// What is changed, by name, for the audit log.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let all = [
            (self.name.is_some(), "name"),
            (self.write_key.is_some(), "write key"),
            (self.region.is_some(), "region"),
            (self.endpoint.is_some(), "endpoint"),
            (self.unsubscribe_event.is_some(), "name of unsubscriptions"),
            (self.allow_untimestamped.is_some(), "signatures without a timestamp"),
            (self.signing_secret.is_some(), "signing secret"),
        ];
        all.into_iter().chain(self.calls.names()).filter(|(is_changed, _)| *is_changed).map(|(_, name)| name).collect()
    }
}

impl CallOptions {
    fn names(&self) -> [(bool, &'static str); 5] {
        [
            (self.nudgespot_key.is_some(), "Nudgespot key"),
            (self.unknown_users.is_some(), "rule for unknown users"),
            (self.event_traits.is_some(), "rule for event traits"),
            (self.carrier.is_some(), "carrier"),
            (self.learn_identities.is_some(), "rule for identities"),
        ]
    }
}

/// What is for sources of events is not for those of calls, and the other way round.
fn check_kind(kind: Kind, of_events: &[(bool, &'static str)], calls: &CallOptions) -> Result<(), AdminError> {
    let of_calls = calls.names();
    let (not_its, does) = if kind.takes_calls() {
        (of_events, "its calls go to Nudgespot")
    } else {
        (&of_calls[..], "its events go to Segment")
    };
    match not_its.iter().find(|(is_there, _)| *is_there) {
        Some((_, what)) => Err(AdminError::NotOfKind { kind: kind.as_str(), what, does }),
        None => Ok(()),
    }
}

fn check_secret(kind: Kind, entered: Option<&SigningSecret>) -> Result<(), AdminError> {
    if entered.is_some() && !kind.sender_makes_secret() { Err(AdminError::SecretIsMadeHere) } else { Ok(()) }
}
