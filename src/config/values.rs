//! Single values, from the text of a variable. What could hold a password is not repeated in an error.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;

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

/// The beginning of URLs that are shown, without a slash at the end.
pub(super) fn public_url(text: &str) -> Result<String, String> {
    base_url(text, "https://hooks.example.com")?;
    Ok(text.trim_end_matches('/').to_owned())
}

/// The beginning of the console's links. Cookies, and the check where a form comes from, are of a whole origin.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let url = base_url(text, "https://console.example.com")?;
    if url.path() != "/" {
        return Err("cannot have a path: the console needs a host (or port) of its own; write a URL like \
                    https://console.example.com"
            .to_owned());
    }
    Ok(url.origin().ascii_serialization())
}

/// Addresses and networks, comma-separated.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |text: &str| {
        let text = text.trim();
        let address = text.parse::<IpAddr>().map(IpNet::from);
        address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            format!("`{text}` is neither an address nor a network; write some like 10.0.0.0/8,192.0.2.1,2001:db8::/32")
        })
    };
    text.split(',').map(network).collect()
}

/// This machine.
pub(super) fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].map(|network| network.parse().expect("a constant network")).to_vec()
}

/// A base URL of Segment or Nudgespot, or of a compatible API. In the clear only to this machine: a key goes with every
/// request.
///
/// # Errors
/// In words for the person who typed it.
pub fn endpoint(text: &str) -> Result<Url, String> {
    let url = base_url(text, "https://api.segment.io")?;
    let is_loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    };
    if url.scheme() == "https" || is_loopback {
        Ok(url)
    } else {
        Err("plain http would send keys in the clear; use https (http only to loopback)".to_owned())
    }
}

/// What paths are appended to.
fn base_url(text: &str, example: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| format!("not a URL; write one like {example}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("holds a user name or a password, which have no use here; write a URL like {example}"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("cannot have a `?` or `#`, as paths are appended to it; write a URL like {example}"));
    }
    Ok(url)
}

pub(super) fn number(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is not a whole number from 1 to {most}")),
    }
}

/// A span of time as [`duration`] reads it.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds.is_multiple_of(*size)).unwrap_or((1, 's'));
    format!("{}{unit}", seconds / size)
}

/// A span of time: a whole number and `s`, `m`, `h` or `d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
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
