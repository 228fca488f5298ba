//! The environment, and `.env`, read once into checked values. Nothing else reads the environment.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use sqlx::postgres::PgConnectOptions;

use crate::domain::region::Region;
use crate::vault::Vault;

/// The settings of contract section 3, checked.
#[derive(Debug)]
pub struct Config {
    /// Where the events are stored.
    pub database: Database,
    /// Webhooks, console and health.
    pub bind: SocketAddr,
    /// Metrics, for the operator only.
    pub internal_bind: SocketAddr,
    /// How webhook URLs begin, without a slash at the end. `None`: `http://` and the bound address.
    pub public_url: Option<String>,
    /// Segment's two endpoints.
    pub endpoints: Endpoints,
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
        /// `DATABASE_URL`.
        options: Box<PgConnectOptions>,
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

/// The base URLs of Segment's regions.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Region `us`.
    pub us: Url,
    /// Region `eu`.
    pub eu: Url,
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

/// A setting that cannot be used: which, why, and what to write instead.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct ConfigError {
    variable: &'static str,
    problem: String,
}

/// What `.env` and the environment say; the environment goes before.
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Reads `.env` in the working directory, or a folder above it, and the environment.
    ///
    /// # Errors
    /// Where there is a `.env` that cannot be read.
    pub fn read() -> Result<Self, ConfigError> {
        let mut variables = HashMap::new();
        match dotenvy::dotenv_iter() {
            Ok(lines) => {
                for line in lines {
                    let (name, value) = line.map_err(|e| error(".env", e.to_string()))?;
                    variables.insert(name, value);
                }
            }
            Err(e) if e.not_found() => {}
            Err(e) => return Err(error(".env", e.to_string())),
        }
        variables.extend(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
        Ok(Self(variables))
    }

    /// A variable's value; one that is empty counts as unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn parse<T>(
        &self,
        variable: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        match self.get(variable) {
            None => Ok(default),
            Some(text) => parse(text).map_err(|problem| error(variable, problem)),
        }
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl Config {
    /// # Errors
    /// [`ConfigError`] for the first setting that cannot be used.
    pub fn new(env: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            database: database(env)?,
            bind: env.parse("BIND", SocketAddr::from(([127, 0, 0, 1], 8080)), address)?,
            internal_bind: env.parse("INTERNAL_BIND", SocketAddr::from(([127, 0, 0, 1], 9090)), address)?,
            public_url: env.parse("PUBLIC_URL", None, |text| public_url(text).map(Some))?,
            endpoints: Endpoints {
                us: env.parse("SEGMENT_US_URL", url("https://api.segment.io"), endpoint)?,
                eu: env.parse("SEGMENT_EU_URL", url("https://events.eu1.segmentapis.com"), endpoint)?,
            },
            max_body_bytes: env.parse("MAX_BODY_BYTES", 1 << 20, |text| number(text, 64 << 20))?,
            max_waiting: env.parse("MAX_WAITING", 4096, |text| number(text, 1 << 20))?,
            max_delivery_age: env.parse("MAX_DELIVERY_AGE", Duration::from_hours(7 * 24), duration)?,
            retention: env.parse("RETENTION", Duration::from_hours(30 * 24), duration)?,
        })
    }
}

fn database(env: &Environment) -> Result<Database, ConfigError> {
    let master_key = env.get("MASTER_KEY").map(str::to_owned);
    if let Some(keys) = &master_key {
        Vault::parse(keys).map_err(|e| error("MASTER_KEY", format!("{e}; make one with `openssl rand -base64 32`")))?;
    }
    let Some(url) = env.get("DATABASE_URL") else {
        return Ok(Database::Private { data_dir: env.get("DATA_DIR").unwrap_or("./data").into(), master_key });
    };
    // The parser's own words could repeat a password.
    let options: PgConnectOptions = url
        .parse()
        .map_err(|_| error("DATABASE_URL", "not of the form postgres://user:password@host:port/database".to_owned()))?;
    let master_key = master_key.ok_or_else(|| {
        error(
            "MASTER_KEY",
            "required with DATABASE_URL; make one with `openssl rand -base64 32` and keep it".to_owned(),
        )
    })?;
    Ok(Database::Server { options: Box::new(options), master_key })
}

fn error(variable: &'static str, problem: String) -> ConfigError {
    ConfigError { variable, problem }
}

/// An address to listen on, as `BIND` has it.
///
/// # Errors
/// In words for the person who typed it.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| format!("`{text}` is no address to listen on; write one like 127.0.0.1:8080"))
}

fn public_url(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("`{text}` is no URL; write one like https://hooks.example.com")),
    }
}

/// A base URL of Segment. In the clear only to this machine: the write key goes with every request.
fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| format!("`{text}` is no URL; write one like https://api.segment.io"))?;
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err(format!("`{text}` would send write keys in the clear; use https (http only to loopback)")),
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a constant URL")
}

fn number(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is not a whole number from 1 to {most}")),
    }
}

/// A span of time: a whole number and `s`, `m`, `h` or `d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no span of time; write one like 90s, 15m, 12h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    // A century is enough, and keeps dates within what PostgreSQL stores.
    match count.checked_mul(seconds) {
        Some(seconds @ 1..=3_155_760_000) => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        let env: Environment = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::new(&env).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let config = config(&[]).expect("defaults");
        assert!(matches!(config.database, Database::Private { ref data_dir, .. } if data_dir.ends_with("data")));
        assert_eq!(config.max_delivery_age, Duration::from_hours(168));
        assert_eq!(config.endpoints.of(Region::Eu).as_str(), "https://events.eu1.segmentapis.com/");
    }

    #[test]
    fn a_wrong_setting_names_the_variable_and_the_remedy() {
        let key = Vault::encode_key([1; 32]);
        let errors: Vec<String> = [
            vec![("BIND", "8080")],
            vec![("PUBLIC_URL", "example.com")],
            vec![("SEGMENT_US_URL", "http://example.com")],
            vec![("MAX_BODY_BYTES", "0")],
            vec![("MAX_WAITING", "many")],
            vec![("MAX_DELIVERY_AGE", "7")],
            vec![("RETENTION", "99999999999d")],
            vec![("RETENTION", "7ü")],
            vec![("MASTER_KEY", "short")],
            vec![("DATABASE_URL", "postgres://localhost/db")],
            vec![("DATABASE_URL", "nonsense with a s3cret"), ("MASTER_KEY", &key)],
        ]
        .iter()
        .map(|variables| config(variables).expect_err("wrong"))
        .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn plain_http_goes_to_loopback_only() {
        for url in ["http://127.0.0.1:1/x", "http://localhost:1", "http://[::1]:1", "https://example.com"] {
            assert!(config(&[("SEGMENT_EU_URL", url)]).is_ok(), "{url}");
        }
    }

    #[test]
    fn debug_shows_no_master_key_and_no_password() {
        let key = Vault::encode_key([1; 32]);
        let config = config(&[("DATABASE_URL", "postgres://u:s3cret@localhost/db"), ("MASTER_KEY", &key)]);
        let debug = format!("{:?}", config.expect("good"));
        assert!(!debug.contains(&key) && !debug.contains("s3cret"), "{debug}");
    }
}
