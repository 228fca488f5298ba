//! `DATABASE_URL`, taken apart by the rules of libpq's `conninfo_uri_parse_options`: what `psql` reads, this reads the
//! same way. What the parts mean is for [`connect_options`](super::connect_options).
//!
//! No error holds any text of the URL: where it is misread, a password stands in the wrong place.

use std::net::IpAddr;

/// The parts of a URL, decoded. `None`: not given, or empty.
#[derive(Default)]
pub struct DatabaseUrl {
    pub user: Option<String>,
    pub password: Option<String>,
    /// The hosts, separated by commas.
    pub host: Option<String>,
    /// Their ports, separated by commas. An empty one is the default.
    pub port: Option<String>,
    pub dbname: Option<String>,
    /// What stands behind the `?`, in the order written.
    pub parameters: Vec<(String, String)>,
    /// Whether no part of a password can have been taken for a parameter's name.
    pub parameter_names_are_safe: bool,
}

/// Why a URL cannot be used, in words that repeat none of it but the name of a parameter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UrlError {
    #[error("not of the form postgres://user:password@host:port/database")]
    Form,
    #[error("an IPv6 address stands in brackets, as in postgres://user@[::1]:5432/database")]
    Brackets,
    #[error(
        "a port is a number from 1 to 65535 (in a password, `/` is written %2F, `@` %40 and `%` %25; an IPv6 address \
         stands in brackets)"
    )]
    Port,
    #[error("the {0} has a `%` without two hexadecimal digits after it, or what is encoded is no text (`%` is %25)")]
    Encoding(&'static str),
    #[error("the number of {0} is neither one nor that of the hosts")]
    Count(&'static str),
    #[error("a host cannot begin with `@`: sockets without a file are not supported")]
    AbstractSocket,
    #[error("behind the `?` stand parameters like sslmode=require, separated by `&`")]
    Parameters,
    #[error("the parameter `{name}` {problem}")]
    Parameter { name: String, problem: String },
    #[error("a parameter behind the `?` is not known")]
    UnknownParameter,
}

impl DatabaseUrl {
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let rest = without_scheme(url.trim()).ok_or(UrlError::Form)?;
        let (user_info, rest) = split_user_info(rest);
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let (hosts, ports, rest) = split_hosts(rest)?;
        // Where the `@` and the host were forgotten, what looks like a host and its port is a user and a password.
        let may_lack_its_host = user_info.is_empty();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let dbname = path.strip_prefix('/').unwrap_or_default();
        Ok(Self {
            user: part(user, "user name")?,
            password: part(password, "password")?,
            host: part(&hosts.join(","), "host")?,
            port: part(&ports.join(","), "port")?,
            dbname: part(dbname, "database name")?,
            parameters: parameters(query)?,
            // Behind a `?` that belongs to a password, the `@` is still to come; behind an `&` that does, there was
            // the parameter of a password.
            parameter_names_are_safe: !may_lack_its_host
                && !query.contains('@')
                && !query.to_ascii_lowercase().contains("pass"),
        })
    }
}

fn without_scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    ["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(rest)
}

/// The user info is what stands before the first `@`, where no `/` comes first: a `?` or `:` in it means nothing.
fn split_user_info(rest: &str) -> (&str, &str) {
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    let Some(first) = authority.find('@') else { return ("", rest) };
    // A host has no `@`, for libpq as well. One that stands there belongs to the password.
    let host_end = authority[first..].find('?').map_or(authority.len(), |end| first + end);
    let at = authority[..host_end].rfind('@').unwrap_or(first);
    (&rest[..at], &rest[at + 1..])
}

/// Hosts and ports, as many of these as of those, and what follows.
fn split_hosts(mut rest: &str) -> Result<(Vec<&str>, Vec<&str>, &str), UrlError> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    loop {
        let host = if let Some(bracketed) = rest.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']').ok_or(UrlError::Brackets)?;
            if host.is_empty() || !(after.is_empty() || after.starts_with([':', ',', '/', '?'])) {
                return Err(UrlError::Brackets);
            }
            rest = after;
            host
        } else {
            take_until(&mut rest, &[':', ',', '/', '?'])
        };
        hosts.push(host.trim());
        ports.push(match rest.strip_prefix(':') {
            Some(after) => {
                rest = after;
                take_until(&mut rest, &[',', '/', '?']).trim()
            }
            None => "",
        });
        let Some(after) = rest.strip_prefix(',') else { return Ok((hosts, ports, rest)) };
        rest = after;
    }
}

fn take_until<'a>(rest: &mut &'a str, ends: &[char]) -> &'a str {
    let (taken, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
    *rest = after;
    taken
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, UrlError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or(UrlError::Parameters)?;
            Ok((decode(name, "name of a parameter")?, decode(value, "value of a parameter")?))
        })
        .collect()
}

fn part(text: &str, what: &'static str) -> Result<Option<String>, UrlError> {
    Ok(Some(decode(text, what)?).filter(|text| !text.is_empty()))
}

fn decode(text: &str, what: &'static str) -> Result<String, UrlError> {
    let wrong = || UrlError::Encoding(what);
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = after.get(..2).ok_or_else(wrong)?;
            bytes.extend(hex::decode(digits).map_err(|_| wrong())?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(wrong)
}

/// One of a list of hosts.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or the folder of a socket. `None`: the default.
    pub name: Option<String>,
    /// `None`: the default.
    pub port: Option<u16>,
}

/// What to connect to, in the order written: at least one. The lists are comma-separated; an empty entry, and a list that
/// is not given, stand for the default. An address is used in the place of a host's name.
pub fn hosts(names: Option<&str>, addresses: Option<&str>, ports: Option<&str>) -> Result<Vec<Host>, UrlError> {
    let [names, addresses, ports] = [names, addresses, ports].map(entries);
    let n_hosts = names.len().max(addresses.len()).max(1);
    if ![0, n_hosts].contains(&names.len()) || ![0, n_hosts].contains(&addresses.len()) {
        return Err(UrlError::Count("addresses"));
    }
    if ![0, 1, n_hosts].contains(&ports.len()) {
        return Err(UrlError::Count("ports"));
    }
    let entry = |list: &[String], i: usize| list.get(i).filter(|entry| !entry.is_empty()).cloned();
    (0..n_hosts)
        .map(|i| {
            let name = entry(&addresses, i).or_else(|| entry(&names, i));
            if name.as_ref().is_some_and(|name| name.starts_with('@')) {
                return Err(UrlError::AbstractSocket);
            }
            let port = if ports.len() == 1 { ports.first() } else { ports.get(i) };
            Ok(Host { name, port: port.map(|port| parse_port(port)).transpose()? })
        })
        .collect()
}

/// The entries of a list; of `hostaddr`, only what is an address.
pub fn are_addresses(list: &str) -> bool {
    entries(Some(list)).iter().all(|entry| entry.is_empty() || entry.parse::<IpAddr>().is_ok())
}

fn entries(list: Option<&str>) -> Vec<String> {
    list.map(|list| list.split(',').map(|entry| entry.trim().to_owned()).collect()).unwrap_or_default()
}

fn parse_port(text: &str) -> Result<u16, UrlError> {
    match text.parse() {
        _ if text.is_empty() => Ok(5432),
        Ok(port @ 1..) => Ok(port),
        _ => Err(UrlError::Port),
    }
}
