//! What is asked for of sources: new ones, and changes.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::super::failure::Failure;
use super::invalid;
use crate::admin::{CallOptions, Edit, NewSource};
use crate::domain::call::UnknownUsers;
use crate::domain::carrier::Carrier;
use crate::domain::name::Name;
use crate::domain::nudgespot_key::NudgespotKey;
use crate::domain::region::Region;
use crate::domain::secret::SigningSecret;
use crate::domain::write_key::WriteKey;
use crate::sources::Kind;

/// A source to be made.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSourceRequest {
    /// What sends to it.
    #[schema(example = "nudgespot", pattern = "^(nudgespot|resend|segment)$")]
    kind: Option<String>,
    /// Its kind, unless given.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// 8 to 64 of `A-Z a-z 0-9 - _`. Without one, events wait. Not of kind `segment`, as the region.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{8,64}$")]
    write_key: Option<SecretString>,
    #[schema(pattern = "^(us|eu)$")]
    region: Option<String>,
    /// For kinds whose sender makes it: `whsec_` and base64 of 24 to 64 bytes.
    #[schema(value_type = Option<String>, pattern = "^whsec_[A-Za-z0-9+/]{30,86}={0,2}$")]
    signing_secret: Option<SecretString>,
    /// Of kind `segment`, as all that follows: the REST key of Nudgespot, 1 to 200 printable characters of ASCII without white
    /// space. Without one, calls wait.
    #[schema(value_type = Option<String>, pattern = "^[!-~]{1,200}$")]
    nudgespot_key: Option<SecretString>,
    /// What becomes of a `track` of a user whom no `identify` has told of: it waits for one some hours (unless given), is ignored, or is
    /// sent as any other.
    #[schema(pattern = "^(hold|ignore|send)$")]
    unknown_users: Option<String>,
    /// Whether traits that come with a `track` are added to its properties (unless given).
    event_traits: Option<bool>,
    /// The destination at Segment that brings the calls, by its name in `integrations`, where it is not one of Segment's own:
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    carrier: Option<String>,
    /// Whether its calls tell the account's other sources whose an email address is (unless given).
    learn_identities: Option<bool>,
}

/// What to change of a source. What is left out stays. An endpoint is set on the command line only.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceChange {
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Tried at once.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{8,64}$")]
    write_key: Option<SecretString>,
    #[schema(pattern = "^(us|eu)$")]
    region: Option<String>,
    #[schema(pattern = "^(Email Unsubscribed|Unsubscribed)$")]
    unsubscribe_event: Option<String>,
    allow_untimestamped: Option<bool>,
    /// For kinds whose sender makes it. The one before works for another 24 hours.
    #[schema(value_type = Option<String>, pattern = "^whsec_[A-Za-z0-9+/]{30,86}={0,2}$")]
    signing_secret: Option<SecretString>,
    /// Of kind `segment`, as all that follows: the REST key of Nudgespot, 1 to 200 printable characters of ASCII without white
    /// space. Tried at once.
    #[schema(value_type = Option<String>, pattern = "^[!-~]{1,200}$")]
    nudgespot_key: Option<SecretString>,
    /// What becomes of a `track` of a user whom no `identify` has told of: it waits for one some hours, is ignored, or is
    /// sent as any other.
    #[schema(pattern = "^(hold|ignore|send)$")]
    unknown_users: Option<String>,
    /// Whether traits that come with a `track` are added to its properties.
    event_traits: Option<bool>,
    /// The destination at Segment that brings the calls, by its name in `integrations`, where it is not one of Segment's own; `null`: it is:
    /// 1 to 100 characters.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    #[serde(default, deserialize_with = "present")]
    carrier: Option<Nullable>,
    /// Whether its calls tell the account's other sources whose an email address is.
    learn_identities: Option<bool>,
}

/// A text, or `null`.
#[derive(Deserialize)]
struct Nullable(Option<String>);

impl NewSourceRequest {
    /// # Errors
    /// [`Failure::Invalid`] names the field.
    pub fn parse(self) -> Result<NewSource, Failure> {
        let kind = self.kind.map(|kind| kind.parse().map_err(|error| invalid("kind", error))).transpose()?;
        Ok(NewSource {
            kind: kind.unwrap_or(Kind::Nudgespot),
            name: self.name.map(|name| parse_name(&name)).transpose()?,
            write_key: self.write_key.as_ref().map(parse_write_key).transpose()?,
            region: self.region.map(|region| parse_region(&region)).transpose()?,
            signing_secret: self.signing_secret.as_ref().map(parse_secret).transpose()?,
            calls: CallOptions {
                nudgespot_key: self.nudgespot_key.as_ref().map(parse_nudgespot_key).transpose()?,
                unknown_users: self.unknown_users.map(|what| parse_unknown_users(&what)).transpose()?,
                event_traits: self.event_traits,
                carrier: self.carrier.map(|name| parse_carrier(&name)).transpose()?.map(Some),
                learn_identities: self.learn_identities,
            },
        })
    }
}

impl SourceChange {
    /// # Errors
    /// [`Failure::Invalid`] names the field.
    pub fn parse(self) -> Result<Edit, Failure> {
        let unsubscribe_event = self.unsubscribe_event.map(|event| event.parse());
        Ok(Edit {
            name: self.name.map(|name| parse_name(&name)).transpose()?,
            write_key: self.write_key.as_ref().map(parse_write_key).transpose()?,
            region: self.region.map(|region| parse_region(&region)).transpose()?,
            endpoint: None,
            unsubscribe_event: unsubscribe_event.transpose().map_err(|error| invalid("unsubscribe_event", error))?,
            allow_untimestamped: self.allow_untimestamped,
            signing_secret: self.signing_secret.as_ref().map(parse_secret).transpose()?,
            calls: CallOptions {
                nudgespot_key: self.nudgespot_key.as_ref().map(parse_nudgespot_key).transpose()?,
                unknown_users: self.unknown_users.map(|what| parse_unknown_users(&what)).transpose()?,
                event_traits: self.event_traits,
                carrier: self
                    .carrier
                    .map(|Nullable(name)| name.map(|name| parse_carrier(&name)).transpose())
                    .transpose()?,
                learn_identities: self.learn_identities,
            },
        })
    }

    /// The fields that are there.
    pub fn names(&self) -> Vec<&'static str> {
        let fields = [
            ("name", self.name.is_some()),
            ("write_key", self.write_key.is_some()),
            ("region", self.region.is_some()),
            ("unsubscribe_event", self.unsubscribe_event.is_some()),
            ("allow_untimestamped", self.allow_untimestamped.is_some()),
            ("signing_secret", self.signing_secret.is_some()),
            ("nudgespot_key", self.nudgespot_key.is_some()),
            ("unknown_users", self.unknown_users.is_some()),
            ("event_traits", self.event_traits.is_some()),
            ("carrier", self.carrier.is_some()),
            ("learn_identities", self.learn_identities.is_some()),
        ];
        fields.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }
}

fn parse_name(name: &str) -> Result<Name, Failure> {
    Name::parse(name).map_err(|error| invalid("name", error))
}

fn parse_region(region: &str) -> Result<Region, Failure> {
    region.parse().map_err(|error| invalid("region", error))
}

fn parse_write_key(key: &SecretString) -> Result<WriteKey, Failure> {
    WriteKey::parse(key.expose_secret()).map_err(|error| invalid("write_key", error))
}

fn parse_secret(secret: &SecretString) -> Result<SigningSecret, Failure> {
    SigningSecret::parse(secret.expose_secret()).map_err(|error| invalid("signing_secret", error))
}

fn parse_nudgespot_key(key: &SecretString) -> Result<NudgespotKey, Failure> {
    NudgespotKey::parse(key.expose_secret()).map_err(|error| invalid("nudgespot_key", error))
}

fn parse_unknown_users(what: &str) -> Result<UnknownUsers, Failure> {
    what.parse().map_err(|error| invalid("unknown_users", error))
}

fn parse_carrier(name: &str) -> Result<Carrier, Failure> {
    Carrier::parse(name).map_err(|error| invalid("carrier", error))
}

/// A field that is there, whatever it holds: `null` is something else than nothing.
fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Nullable>, D::Error> {
    Nullable::deserialize(field).map(Some)
}
