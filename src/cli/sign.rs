//! `sign`: the headers of a webhook.

use std::io::Read;

use clap::ValueEnum;
use time::OffsetDateTime;

use super::output;
use crate::domain::secret::SigningSecret;
use crate::domain::signature::{self, SigningScheme};
use crate::random;

/// Which secret, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The account's signing secret (`whsec_…`).
    #[arg(long)]
    secret: String,
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
    /// `X-Nudgespot-Signature: sha256=…`, which the account must allow.
    Body,
}

pub fn run(args: &Args, json: bool) -> anyhow::Result<()> {
    let secret = SigningSecret::parse(args.secret.trim())?;
    let mut body = Vec::new();
    std::io::stdin().lock().read_to_end(&mut body)?;
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
    });
    Ok(())
}

/// An id for a webhook, as Standard Webhooks has it.
pub fn new_webhook_id() -> String {
    format!("msg_{}", hex::encode(random::bytes::<12>()))
}
