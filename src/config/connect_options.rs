//! What the parameters of `DATABASE_URL` mean for the connections: honoured, harmless, or refused with their name.

use std::collections::HashMap;

use reqwest::Url;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::database_url::{DatabaseUrl, Host, UrlError, are_addresses, hosts};

/// What becomes of a parameter.
enum Rule {
    /// It is used.
    Use,
    /// It is another name of one that is used.
    Alias(&'static str),
    /// It changes nothing that matters here, whatever its value.
    Accept,
    /// These values agree with what the program does; others it could not honour.
    Agree(&'static [&'static str]),
    /// It could not be honoured.
    Refuse(&'static str),
}

const ENCRYPTED_KEY: &str = "is not supported: give the key without a password, in a file that only this program reads";
const REVOCATION: &str = "is not supported: revocation lists are not checked";
const AUTHENTICATION: &str = "is not supported: the way to authenticate cannot be chosen here";
const SERVICE: &str = "is not supported: write what the service file says into the URL";
const ON: &[&str] = &["1", "true", "on", "yes"];
const OFF: &[&str] = &["0", "false", "off", "no"];

/// What libpq knows, and what sqlx does.
const PARAMETERS: &[(&str, Rule)] = &[
    ("host", Rule::Use),
    ("hostaddr", Rule::Use),
    ("port", Rule::Use),
    ("user", Rule::Use),
    ("password", Rule::Use),
    ("dbname", Rule::Use),
    ("application_name", Rule::Use),
    ("fallback_application_name", Rule::Use),
    ("options", Rule::Use),
    ("sslmode", Rule::Use),
    ("sslrootcert", Rule::Use),
    ("sslcert", Rule::Use),
    ("sslkey", Rule::Use),
    ("statement-cache-capacity", Rule::Use),
    ("ssl-mode", Rule::Alias("sslmode")),
    ("ssl-root-cert", Rule::Alias("sslrootcert")),
    ("ssl-ca", Rule::Alias("sslrootcert")),
    ("ssl-cert", Rule::Alias("sslcert")),
    ("ssl-key", Rule::Alias("sslkey")),
    // The program has limits of its own, and finds dead connections by them.
    ("connect_timeout", Rule::Accept),
    ("keepalives", Rule::Accept),
    ("keepalives_idle", Rule::Accept),
    ("keepalives_interval", Rule::Accept),
    ("keepalives_count", Rule::Accept),
    ("tcp_user_timeout", Rule::Accept),
    // For Kerberos, which is not used unless it is required.
    ("krbsrvname", Rule::Accept),
    ("gsslib", Rule::Accept),
    ("gssdelegation", Rule::Accept),
    ("gssencmode", Rule::Agree(&["disable", "prefer"])),
    ("channel_binding", Rule::Agree(&["disable", "prefer"])),
    ("client_encoding", Rule::Agree(&["utf8", "utf-8", "unicode", "auto"])),
    ("target_session_attrs", Rule::Agree(&["read-write", "primary", "any"])),
    ("load_balance_hosts", Rule::Agree(&["disable"])),
    ("replication", Rule::Agree(OFF)),
    ("ssl", Rule::Agree(&["true"])),
    ("sslcompression", Rule::Accept),
    ("sslsni", Rule::Agree(ON)),
    ("sslnegotiation", Rule::Agree(&["postgres"])),
    ("sslcertmode", Rule::Agree(&["allow"])),
    ("ssl_min_protocol_version", Rule::Agree(&["tlsv1", "tlsv1.1", "tlsv1.2"])),
    ("ssl_max_protocol_version", Rule::Agree(&["tlsv1.3"])),
    ("min_protocol_version", Rule::Agree(&["3.0"])),
    ("max_protocol_version", Rule::Accept),
    ("passfile", Rule::Refuse("is not supported: name the file in the variable PGPASSFILE")),
    ("sslpassword", Rule::Refuse(ENCRYPTED_KEY)),
    ("sslcrl", Rule::Refuse(REVOCATION)),
    ("sslcrldir", Rule::Refuse(REVOCATION)),
    ("sslkeylogfile", Rule::Refuse("is not supported")),
    ("require_auth", Rule::Refuse(AUTHENTICATION)),
    ("requirepeer", Rule::Refuse(AUTHENTICATION)),
    ("scram_client_key", Rule::Refuse(AUTHENTICATION)),
    ("scram_server_key", Rule::Refuse(AUTHENTICATION)),
    ("oauth_issuer", Rule::Refuse(AUTHENTICATION)),
    ("oauth_client_id", Rule::Refuse(AUTHENTICATION)),
    ("oauth_client_secret", Rule::Refuse(AUTHENTICATION)),
    ("oauth_scope", Rule::Refuse(AUTHENTICATION)),
    ("service", Rule::Refuse(SERVICE)),
    ("servicefile", Rule::Refuse(SERVICE)),
];

/// How to connect to each host of the URL, in the order written: at least one. What the URL leaves open, the variables
/// of libpq (`PGPASSWORD`, `PGSSLMODE`, …) and `.pgpass` say, as far as sqlx knows them.
///
/// # Errors
/// [`UrlError`] for the first thing that cannot be used; it repeats nothing of the URL but a parameter's name.
pub fn connect_options(url: &str) -> Result<Vec<PgConnectOptions>, UrlError> {
    let url = DatabaseUrl::parse(url)?;
    let settings = Settings::new(url)?;
    let [host, hostaddr, port] = ["host", "hostaddr", "port"].map(|name| settings.get(name));
    hosts(host, hostaddr, port)?.iter().map(|host| settings.connect_to(host)).collect()
}

/// What the URL says, with the last word of each parameter.
struct Settings {
    used: HashMap<&'static str, String>,
    /// Of the server's session, in the order written.
    session: Vec<(String, String)>,
}

impl Settings {
    fn new(url: DatabaseUrl) -> Result<Self, UrlError> {
        let parts = [
            ("user", url.user),
            ("password", url.password),
            ("host", url.host),
            ("port", url.port),
            ("dbname", url.dbname),
        ];
        let used = parts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let mut settings = Self { used, session: Vec::new() };
        for (name, value) in url.parameters {
            settings.apply(&name, value, url.parameter_names_are_safe)?;
        }
        settings.check()?;
        Ok(settings)
    }

    fn apply(&mut self, name: &str, value: String, name_is_safe: bool) -> Result<(), UrlError> {
        if let Some(setting) = name.strip_prefix("options[").and_then(|name| name.strip_suffix(']')) {
            self.session.push((setting.to_owned(), value));
            return Ok(());
        }
        let Some((name, rule)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
            return Err(if name_is_safe && is_plain(name) {
                problem(name, "is not known")
            } else {
                UrlError::UnknownParameter
            });
        };
        match rule {
            Rule::Use => {
                self.used.insert(name, value);
            }
            Rule::Alias(other) => {
                self.used.insert(other, value);
            }
            Rule::Accept => {}
            Rule::Refuse(why) => return Err(problem(name, *why)),
            Rule::Agree(values) => {
                if !values.iter().any(|agreed| value.eq_ignore_ascii_case(agreed)) {
                    let values = values.join(", ");
                    return Err(problem(name, format!("can have no other value here than: {values}")));
                }
                if *name == "ssl" {
                    self.used.insert("sslmode", "require".to_owned());
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), UrlError> {
        let ssl_mode = self.ssl_mode()?;
        if self.has_system_certificates() && !matches!(ssl_mode, None | Some(PgSslMode::VerifyFull)) {
            return Err(problem("sslrootcert", "set to `system` needs sslmode=verify-full"));
        }
        if let Some(addresses) = self.get("hostaddr") {
            if !are_addresses(addresses) {
                return Err(problem("hostaddr", "takes IP addresses only; write names as `host`"));
            }
            if matches!(ssl_mode, Some(PgSslMode::VerifyFull)) && self.get("host").is_some() {
                return Err(problem(
                    "hostaddr",
                    "cannot be used with a host and sslmode=verify-full: write only the name that the certificate has",
                ));
            }
        }
        if self.get("statement-cache-capacity").is_some_and(|capacity| capacity.parse::<usize>().is_err()) {
            return Err(problem("statement-cache-capacity", "is a whole number"));
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.used.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn ssl_mode(&self) -> Result<Option<PgSslMode>, UrlError> {
        let Some(mode) = self.used.get("sslmode") else { return Ok(None) };
        let mode = mode
            .parse()
            .map_err(|_| problem("sslmode", "is disable, allow, prefer, require, verify-ca or verify-full"))?;
        Ok(Some(mode))
    }

    fn has_system_certificates(&self) -> bool {
        self.get("sslrootcert") == Some("system")
    }

    fn connect_to(&self, host: &Host) -> Result<PgConnectOptions, UrlError> {
        let mut options = self.base(host)?;
        if let Some(capacity) = self.get("statement-cache-capacity").and_then(|capacity| capacity.parse().ok()) {
            options = options.statement_cache_capacity(capacity);
        }
        if let Some(path) = self.get("sslcert") {
            options = options.ssl_client_cert(path);
        }
        if let Some(path) = self.get("sslkey") {
            options = options.ssl_client_key(path);
        }
        if let Some(path) = self.get("sslrootcert").filter(|_| !self.has_system_certificates()) {
            options = options.ssl_root_cert(path);
        }
        let ssl_mode = self.effective_ssl_mode(&options)?;
        let known = options.get_application_name().map(str::to_owned);
        let named = self.get("application_name").or(known.as_deref()).or(self.get("fallback_application_name"));
        Ok(options
            .ssl_mode(ssl_mode)
            .application_name(named.unwrap_or("nudgespot-source"))
            .options(self.session.iter().map(|(name, value)| (name, value))))
    }

    /// Of sqlx's own reading of a URL there is use for two things that it has no other way to: `.pgpass`, which it looks
    /// up by the host, and `options` as they are written. It gets a URL made of these alone.
    fn base(&self, host: &Host) -> Result<PgConnectOptions, UrlError> {
        let mut url = Url::parse("postgres:///").expect("a constant URL");
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(
                ["user", "password", "dbname", "options"].iter().filter_map(|name| Some((name, self.get(name)?))),
            );
            query.extend_pairs(host.name.iter().map(|name| ("host", name)));
            query.extend_pairs(host.port.iter().map(|port| ("port", port.to_string())));
        }
        PgConnectOptions::from_url(&url).map_err(|_| UrlError::Form)
    }

    fn effective_ssl_mode(&self, options: &PgConnectOptions) -> Result<PgSslMode, UrlError> {
        let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
        let given = self.ssl_mode()?;
        Ok(match given.unwrap_or_else(|| options.get_ssl_mode()) {
            // Nobody else listens there: libpq does not look at the mode either.
            _ if is_socket => PgSslMode::Disable,
            _ if given.is_none() && self.has_system_certificates() => PgSslMode::VerifyFull,
            // sqlx knows no way to turn to TLS when it is asked for: what it may use, it uses.
            PgSslMode::Allow => PgSslMode::Prefer,
            // Who says which authority to trust wants no other, says libpq.
            PgSslMode::Require if self.get("sslrootcert").is_some() => PgSslMode::VerifyCa,
            mode => mode,
        })
    }
}

fn problem(name: &str, problem: impl Into<String>) -> UrlError {
    UrlError::Parameter { name: name.to_owned(), problem: problem.into() }
}

/// Whether this could be the name of a parameter, and not something that was never meant to be one.
fn is_plain(name: &str) -> bool {
    (1..=40).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

#[cfg(test)]
mod tests;
