//! The environment, and `.env`, read once into checked values. Nothing else reads the environment.

mod connect_options;
mod database_url;
mod dotenv;
mod environment;
pub mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use sqlx::postgres::PgConnectOptions;

use crate::domain::region::Region;
use crate::secrets::vault::Vault;

pub use environment::{ConfigError, Environment};
pub use values::{address, endpoint};
use values::{duration, loopback, networks, number, origin, public_url};

/// The settings, checked (docs/contract.md, Configuration).
#[derive(Debug)]
pub struct Config {
    /// Where the events are stored.
    pub database: Database,
    /// Webhooks and health.
    pub bind: SocketAddr,
    /// The console and its API.
    pub console_bind: SocketAddr,
    /// Metrics, for the operator only.
    pub internal_bind: SocketAddr,
    /// How webhook URLs begin, without a slash at the end. `None`: `http://` and the bound address.
    pub public_url: Option<String>,
    /// How the console's links begin, without a slash at the end. `None`: `http://` and the bound address.
    pub console_url: Option<String>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a connection to webhooks stays open while nothing is asked on it.
    pub keep_alive: Duration,
    /// Where events and calls go.
    pub endpoints: Endpoints,
    /// Where a write key is looked up.
    pub segment_cdn: Url,
    /// The largest webhook that is read, in bytes.
    pub max_body_bytes: usize,
    /// How many webhooks may wait for a commit.
    pub max_waiting: usize,
    /// The age at which an event is no longer worth sending.
    pub max_delivery_age: Duration,
    /// The age at which what is settled is forgotten.
    pub retention: Duration,
}

/// Where the events are stored.
pub enum Database {
    /// A private PostgreSQL cluster and its generated master key, under this folder.
    Private {
        /// `DATA_DIR`.
        data_dir: PathBuf,
        /// `MASTER_KEY`, where the operator gives one all the same.
        master_key: Option<String>,
    },
    /// A PostgreSQL server that the operator runs.
    Server {
        /// The hosts of `DATABASE_URL`, in the order written: at least one.
        hosts: Vec<PgConnectOptions>,
        /// `MASTER_KEY`.
        master_key: String,
    },
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Private { data_dir, .. } => f.debug_struct("Private").field("data_dir", data_dir).finish(),
            Self::Server { .. } => f.write_str("Server"),
        }
    }
}

/// Where it is, for logs: without users and passwords.
impl std::fmt::Display for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Private { data_dir, .. } => write!(f, "a private cluster under {}", data_dir.display()),
            Self::Server { hosts, .. } => {
                for (n, host) in hosts.iter().enumerate() {
                    write!(f, "{}{}:{}", if n > 0 { "," } else { "" }, host.get_host(), host.get_port())?;
                }
                let name = hosts.first().map(|host| host.get_database().unwrap_or(host.get_username()));
                write!(f, "/{}", name.unwrap_or_default())
            }
        }
    }
}

/// The base URLs of Segment's regions, and of Nudgespot.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Region `us`.
    pub us: Url,
    /// Region `eu`.
    pub eu: Url,
    /// Nudgespot's REST API.
    pub nudgespot: Url,
}

impl Endpoints {
    /// The base URL of `region`.
    #[must_use]
    pub fn of(&self, region: Region) -> &Url {
        match region {
            Region::Us => &self.us,
            Region::Eu => &self.eu,
        }
    }
}

impl Config {
    /// How webhook URLs begin: `PUBLIC_URL`, or what `BIND` says.
    #[must_use]
    pub fn webhook_base_url(&self) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("http://{}", self.bind))
    }

    /// How the console's links begin: `CONSOLE_URL`, or what `CONSOLE_BIND` says.
    #[must_use]
    pub fn console_base_url(&self) -> String {
        self.console_url.clone().unwrap_or_else(|| format!("http://{}", self.console_bind))
    }

    /// # Errors
    /// [`ConfigError`] for the first setting that cannot be used.
    pub fn new(env: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            database: database(env)?,
            bind: env.parse("BIND", SocketAddr::from(([127, 0, 0, 1], 8080)), address)?,
            console_bind: env.parse("CONSOLE_BIND", SocketAddr::from(([127, 0, 0, 1], 8081)), address)?,
            internal_bind: env.parse("INTERNAL_BIND", SocketAddr::from(([127, 0, 0, 1], 9090)), address)?,
            public_url: env.parse("PUBLIC_URL", None, |text| public_url(text).map(Some))?,
            console_url: env.parse("CONSOLE_URL", None, |text| origin(text).map(Some))?,
            trusted_proxies: env.parse("TRUSTED_PROXIES", loopback(), networks)?,
            keep_alive: env.parse("KEEP_ALIVE", Duration::from_secs(75), duration)?,
            endpoints: Endpoints {
                us: env.parse("SEGMENT_US_URL", url("https://api.segment.io"), endpoint)?,
                eu: env.parse("SEGMENT_EU_URL", url("https://events.eu1.segmentapis.com"), endpoint)?,
                nudgespot: env.parse("NUDGESPOT_URL", url("https://api.nudgespot.com/201507"), endpoint)?,
            },
            segment_cdn: env.parse("SEGMENT_CDN_URL", url("https://cdn-settings.segment.com"), endpoint)?,
            max_body_bytes: env.parse("MAX_BODY_BYTES", 1 << 20, |text| number(text, 64 << 20))?,
            max_waiting: env.parse("MAX_WAITING", 4096, |text| number(text, 1 << 20))?,
            max_delivery_age: env.parse("MAX_DELIVERY_AGE", Duration::from_hours(7 * 24), duration)?,
            retention: env.parse("RETENTION", Duration::from_hours(30 * 24), duration)?,
        })
    }

    /// What is allowed, but hardly meant: each in one line for the operator.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.retention < self.max_delivery_age {
            let [retention, max_delivery_age] = [self.retention, self.max_delivery_age].map(values::span);
            warnings.push(format!(
                "RETENTION ({retention}) is shorter than MAX_DELIVERY_AGE ({max_delivery_age}): an event may wait longer \
                 to be sent than what is known of its attempts is kept, and there is less time to replay a dead letter \
                 than was spent on sending it; make RETENTION the longer one"
            ));
        }
        warnings
    }
}

fn database(env: &Environment) -> Result<Database, ConfigError> {
    let master_key = env.get("MASTER_KEY")?.map(str::to_owned);
    if let Some(keys) = &master_key {
        Vault::parse(keys)
            .map_err(|e| ConfigError::new("MASTER_KEY", format!("{e}; make one with `openssl rand -base64 32`")))?;
    }
    let data_dir = env.get("DATA_DIR")?.unwrap_or("./data").into();
    let Some(url) = env.get("DATABASE_URL")? else { return Ok(Database::Private { data_dir, master_key }) };
    let hosts = connect_options::connect_options(url).map_err(|e| ConfigError::new("DATABASE_URL", e.to_string()))?;
    let master_key = master_key.ok_or_else(|| {
        ConfigError::new(
            "MASTER_KEY",
            "required with DATABASE_URL; make one with `openssl rand -base64 32` and keep it",
        )
    })?;
    Ok(Database::Server { hosts, master_key })
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a constant URL")
}
