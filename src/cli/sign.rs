//! `sign`: the headers of a webhook.

use anyhow::{Context, bail};
use clap::ValueEnum;
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use super::{output, stdin};
use crate::config::Environment;
use crate::domain::secret::{InvalidSecret, SigningSecret};
use crate::random;
use crate::sources::signature::{self, SigningScheme};

/// Which secret, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source's signing secret (`whsec_…`); `-` reads it from the first line of stdin, before the body. Without it,
    /// `SIGNING_SECRET` has it.
    #[arg(long, value_parser = stdin::secret_argument)]
    secret: Option<SecretString>,
    /// The signature's scheme.
    #[arg(long, value_enum, default_value_t = Scheme::Standard)]
    scheme: Scheme,
}

/// The schemes of signatures.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scheme {
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    Standard,
    /// `X-Nudgespot-Signature: t=…,v1=…`.
    Timestamped,
    /// `X-Nudgespot-Signature: sha256=…`, which the source must allow.
    Body,
}

pub fn run(env: &Environment, args: &Args, json: bool) -> anyhow::Result<()> {
    let (secret, body) = match (&args.secret, env.get("SIGNING_SECRET")?) {
        (Some(dash), _) if dash.expose_secret() == "-" => {
            let (secret, body) = stdin::first_line_and_rest("the signing secret")?;
            (parse(secret.expose_secret())?, body)
        }
        (Some(secret), _) => (parse(secret.expose_secret())?, stdin::rest()?),
        (None, Some(secret)) => (parse(secret).context("SIGNING_SECRET")?, stdin::rest()?),
        (None, None) => bail!(
            "no signing secret: set SIGNING_SECRET, or give it with `--secret -` on the first line of stdin, before the body"
        ),
    };
    let scheme = match args.scheme {
        Scheme::Standard => SigningScheme::Standard,
        Scheme::Timestamped => SigningScheme::Timestamped,
        Scheme::Body => SigningScheme::Body,
    };
    let id = new_webhook_id();
    let headers = signature::sign(&secret, scheme, &id, OffsetDateTime::now_utc().unix_timestamp(), &body);
    let map: serde_json::Map<_, _> = headers.iter().map(|(k, v)| ((*k).to_owned(), v.clone().into())).collect();
    output::print(json, &map, || {
        headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
    })?;
    Ok(())
}

fn parse(secret: &str) -> Result<SigningSecret, InvalidSecret> {
    SigningSecret::parse(secret.trim())
}

/// An id for a webhook, as Standard Webhooks has it.
pub fn new_webhook_id() -> String {
    format!("msg_{}", hex::encode(random::bytes::<12>()))
}
