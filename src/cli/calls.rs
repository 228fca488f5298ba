//! What the commands have in common that make or change a source of calls, which go to Nudgespot.

use anyhow::Context;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::{output, stdin};
use crate::admin::{CallOptions, KeyVerdict, check_nudgespot_key};
use crate::domain::call::UnknownUsers;
use crate::domain::carrier::{Carrier, InvalidCarrier};
use crate::domain::nudgespot_key::NudgespotKey;

/// Stands for no carrier.
const NO_CARRIER: &str = "none";

/// The settings that a source of calls alone has.
#[derive(Clone, Debug, clap::Args)]
pub struct CallArgs {
    /// Of a `segment` source: the REST key of Nudgespot; `-` reads it from stdin. Without one, calls wait.
    #[arg(long, group = "settings", value_name = "K", value_parser = stdin::secret_argument)]
    nudgespot_key: Option<SecretString>,
    /// Of a `segment` source: what becomes of a call about a user whom no identify has told of: hold, ignore or send.
    #[arg(long, group = "settings", value_name = "WHAT")]
    unknown_users: Option<UnknownUsers>,
    /// Of a `segment` source: whether traits that come with an event are added to its properties.
    #[arg(long, group = "settings", value_name = "BOOL")]
    event_traits: Option<bool>,
    /// Of a `segment` source: the destination at Segment that brings the calls, where it is not one of Segment's own;
    /// `none`: it is.
    #[arg(long, group = "settings", value_name = "N", value_parser = parse_carrier)]
    carrier: Option<NamedCarrier>,
    /// Of a `segment` source: whether its calls tell the account's other sources whose an email address is.
    #[arg(long, group = "settings", value_name = "BOOL")]
    learn_identities: Option<bool>,
}

/// A carrier, or none.
#[derive(Clone, Debug)]
struct NamedCarrier(Option<Carrier>);

impl CallArgs {
    /// Reads what is to be read from stdin.
    pub fn read(&self) -> anyhow::Result<CallOptions> {
        Ok(CallOptions {
            nudgespot_key: self.nudgespot_key.as_ref().map(read_key).transpose()?,
            unknown_users: self.unknown_users,
            event_traits: self.event_traits,
            carrier: self.carrier.as_ref().map(|carrier| carrier.0.clone()),
            learn_identities: self.learn_identities,
        })
    }
}

/// Tells whoever entered a key what Nudgespot, or the source's own endpoint, says of it. A hint: the key is used whatever
/// comes of this.
///
/// # Errors
/// Where `endpoint` is no URL.
pub async fn tell_of_key(base: &Url, endpoint: Option<&str>, key: Option<&NudgespotKey>) -> anyhow::Result<()> {
    let Some(key) = key else { return Ok(()) };
    let own = endpoint.map(Url::parse).transpose().context("the source's endpoint")?;
    match check_nudgespot_key(own.as_ref().unwrap_or(base), key).await {
        KeyVerdict::Known => {}
        KeyVerdict::Unknown => output::complain(
            "warning: Nudgespot does not know this key, and will refuse the calls; enter another with \
             `source set S --nudgespot-key -`",
        ),
        KeyVerdict::Unclear => {
            output::complain("note: Nudgespot could not be asked whether it knows this key; it is used as it is");
        }
    }
    Ok(())
}

fn read_key(argument: &SecretString) -> anyhow::Result<NudgespotKey> {
    Ok(NudgespotKey::parse(stdin::argument_or_first_line(argument, "the Nudgespot key")?.expose_secret())?)
}

fn parse_carrier(text: &str) -> Result<NamedCarrier, InvalidCarrier> {
    if text == NO_CARRIER { Ok(NamedCarrier(None)) } else { Ok(NamedCarrier(Some(Carrier::parse(text)?))) }
}
