//! A source's settings, as far as its delivery is concerned.

use reqwest::Url;

use super::plan::Writing;
use crate::config::Endpoints;
use crate::destinations::{nudgespot, segment};
use crate::domain::region::Region;
use crate::metrics::Metrics;
use crate::secrets::vault::Vault;
use crate::secrets::{DecryptError, decrypt_nudgespot_key, decrypt_write_key};
use crate::sources;
use crate::store::lease::Lease;

/// A source's settings, as far as its delivery is concerned.
pub struct Settings {
    /// Where its events go; `None`: they must wait for an admin.
    pub destination: Option<Destination>,
    /// How its tracks are written; of a source of calls, it says nothing.
    pub writing: Writing,
}

/// Where a source's events or calls go.
pub enum Destination {
    Segment(segment::Destination),
    Nudgespot(nudgespot::Destination),
}

/// This program cannot make use of a source's settings; one with another master key, or a newer one, may.
pub struct UnusableSettings;

impl Settings {
    /// Reads the settings that came with a lease.
    ///
    /// # Errors
    /// [`UnusableSettings`]: leave the source alone for a while.
    pub fn read(
        lease: &Lease,
        vault: &Vault,
        endpoints: &Endpoints,
        metrics: &Metrics,
    ) -> Result<Self, UnusableSettings> {
        let unknown = |what: &'static str, value: &str| {
            tracing::error!(
                source.id = %lease.source_id, what, value,
                "a source has a setting that this program does not know; it is left to newer ones"
            );
            metrics.unknown_setting(what);
            UnusableSettings
        };
        let unsubscribe = lease.unsubscribe_event.parse();
        let unsubscribe = unsubscribe.map_err(|_| unknown("unsubscribe_event", &lease.unsubscribe_event))?;
        let kind: sources::Kind = lease.kind.parse().map_err(|_| unknown("kind", &lease.kind))?;
        let writing = Writing { envelope: kind.envelope(), unsubscribe };
        let Some(sealed) = lease.write_key.as_deref().filter(|_| !lease.is_paused) else {
            return Ok(Self { destination: None, writing });
        };
        let endpoint = lease.endpoint.as_ref();
        let own_endpoint = endpoint.map(|endpoint| endpoint.parse().map_err(|_| unknown("endpoint", endpoint)));
        let own_endpoint: Option<Url> = own_endpoint.transpose()?;
        let key = if kind.takes_calls() { "a Nudgespot key" } else { "a write key" };
        let unopened = |error: DecryptError| {
            tracing::error!(
                source.id = %lease.source_id, %error,
                "{key} cannot be opened; the source is left to programs that can"
            );
            metrics.unopened_secret("write_key");
            UnusableSettings
        };
        if kind.takes_calls() {
            let key = decrypt_nudgespot_key(vault, lease.source_id, sealed).map_err(unopened)?;
            let endpoint = own_endpoint.unwrap_or_else(|| endpoints.nudgespot.clone());
            let destination = Destination::Nudgespot(nudgespot::Destination { endpoint, key });
            return Ok(Self { destination: Some(destination), writing });
        }
        let region: Region = lease.region.parse().map_err(|_| unknown("region", &lease.region))?;
        let write_key = decrypt_write_key(vault, lease.source_id, sealed).map_err(unopened)?;
        let endpoint = own_endpoint.unwrap_or_else(|| endpoints.of(region).clone());
        let destination = Destination::Segment(segment::Destination { endpoint, write_key });
        Ok(Self { destination: Some(destination), writing })
    }
}
