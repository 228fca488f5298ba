//! Why a webhook's signature does not verify, in words for the person who set the sender up.
//!
//! It tries the mistakes that senders make, one by one, until one of them makes the signature that came. What it
//! computes on the way stays here: a signature that is right for a body is as good as the secret for that body.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;

pub use super::fault::Fault;
use super::reserialize::spellings;
use super::{MAX_SIGNATURES, TOLERANCE_SECONDS};
use crate::domain::secret::{SigningSecret, Tag, tag_under};
use crate::sources::Kind;

/// The headers of Standard Webhooks, under both of their names: id, timestamp, signature.
const STANDARD_NAMES: [[&str; 3]; 2] =
    [["webhook-id", "webhook-timestamp", "webhook-signature"], ["svix-id", "svix-timestamp", "svix-signature"]];
const OWN_NAME: &str = "X-Nudgespot-Signature";
/// From here on a timestamp counts milliseconds.
const FIRST_MILLISECONDS: i64 = 100_000_000_000;

/// A webhook that is to be judged.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The kind of its source.
    pub kind: Kind,
    /// The headers, by name and value.
    pub headers: &'a [(String, String)],
    /// The body, or its beginning.
    pub body: &'a [u8],
    /// Whether that is all of the body.
    pub is_whole: bool,
    /// When it was received, in Unix seconds.
    pub received_at: i64,
    /// The source's secrets.
    pub secrets: Secrets<'a>,
    /// Whether the source's secret signed another webhook lately.
    pub is_verified_lately: bool,
}

/// The secrets that may have signed a webhook.
#[derive(Debug)]
pub struct Secrets<'a> {
    /// The source's own; `None`: it has none yet.
    pub current: Option<&'a SigningSecret>,
    /// The one before it, and until when (Unix seconds) it verifies.
    pub previous: Option<(&'a SigningSecret, i64)>,
    /// Those of the account's other sources, by the sources' names.
    pub of_others: Vec<(&'a str, &'a SigningSecret)>,
    /// Whether a signature over the body alone is accepted.
    pub allow_untimestamped: bool,
}

/// A signature header that was found.
struct Found<'a> {
    scheme: Scheme<'a>,
    tags: Vec<(Tag, Option<Fault>)>,
}

enum Scheme<'a> {
    Standard { id: &'a str, timestamp: &'a str },
    Timestamped { timestamp: &'a str },
    Body,
}

/// What is wrong with a webhook, the likeliest first; nothing where it verifies.
#[must_use]
pub fn diagnose(evidence: &Evidence<'_>) -> Vec<Fault> {
    let found = match find(evidence) {
        Ok(found) => found,
        Err(fault) => return vec![fault],
    };
    let timestamp = match found.scheme {
        Scheme::Standard { timestamp, .. } | Scheme::Timestamped { timestamp } => Some(timestamp),
        Scheme::Body => None,
    };
    let clock = timestamp.and_then(|timestamp| clock(timestamp, evidence.received_at));
    let scheme = match &found.scheme {
        Scheme::Body if !evidence.secrets.allow_untimestamped => Some(Fault::Untimestamped),
        _ => None,
    };
    let signed = match evidence.secrets.current {
        Some(_) => explain(evidence, &found),
        None => vec![Fault::NoSecret],
    };
    // Where the signature is right but for the time, the time is what is wrong.
    scheme.into_iter().chain(signed).chain(clock).collect()
}

fn find<'a>(evidence: &Evidence<'a>) -> Result<Found<'a>, Fault> {
    let values = |name: &str| -> Vec<&'a str> {
        let named = evidence.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    };
    let one = |name: &str| match values(name)[..] {
        [] => Ok(None),
        [value] => Ok(Some(value)),
        _ => Err(Fault::HeaderTwice(name.to_owned())),
    };
    let mut sets = Vec::new();
    for names in STANDARD_NAMES {
        let [id, timestamp, signature] = names;
        let set = [one(id)?, one(timestamp)?, one(signature)?];
        if set.iter().any(Option::is_some) {
            sets.push((names, set));
        }
    }
    let own = one(OWN_NAME)?;
    let is_own_read = evidence.kind == Kind::Nudgespot;
    match (sets.as_slice(), own) {
        ([_, _], _) => Err(Fault::MixedNames),
        ([(_, [None, ..] | [_, None, _] | [.., None])], Some(own)) if is_own_read => find_own(own),
        ([(names, set)], _) => {
            let missing: Vec<&str> =
                names.iter().zip(set).filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
            let [Some(id), Some(timestamp), Some(signature)] = *set else {
                return Err(Fault::HeaderMissing { names: missing, found: None });
            };
            let tags: Vec<_> = signature.split_whitespace().take(MAX_SIGNATURES).filter_map(base64_tag).collect();
            if tags.is_empty() {
                return Err(Fault::Unreadable(names[2].to_owned()));
            }
            Ok(Found { scheme: Scheme::Standard { id, timestamp }, tags })
        }
        ([], Some(own)) if is_own_read => find_own(own),
        ([], Some(_)) => Err(Fault::WrongScheme),
        _ => {
            let looks_so = |name: &str| {
                let name = name.to_ascii_lowercase();
                name.contains("signature") || name.contains("hmac")
            };
            let found = evidence.headers.iter().map(|(name, _)| name).find(|name| looks_so(name)).cloned();
            let names = match evidence.kind {
                Kind::Nudgespot if found.is_some() => vec![OWN_NAME],
                Kind::Nudgespot => vec![OWN_NAME, "webhook-signature"],
                Kind::Resend => vec!["svix-signature"],
                Kind::Segment => vec!["X-Signature"],
            };
            Err(Fault::HeaderMissing { names, found })
        }
    }
}

fn find_own(value: &str) -> Result<Found<'_>, Fault> {
    let unreadable = || Fault::Unreadable(OWN_NAME.to_owned());
    let (mut timestamp, mut tags) = (None, Vec::new());
    for part in value.split(',').map(str::trim).take(2 * MAX_SIGNATURES) {
        match part.split_once('=') {
            Some(("t", seconds)) if timestamp.is_none() => timestamp = Some(seconds),
            Some(("t", _)) => return Err(unreadable()),
            Some(("v1" | "sha256", tag)) => tags.extend(hex_tag(tag)),
            _ => tags.extend(
                hex_tag(part).map(|(tag, fault)| (tag, fault.or(Some(Fault::Unreadable(OWN_NAME.to_owned()))))),
            ),
        }
    }
    if tags.is_empty() {
        return Err(unreadable());
    }
    Ok(Found { scheme: timestamp.map_or(Scheme::Body, |timestamp| Scheme::Timestamped { timestamp }), tags })
}

/// A signature of Standard Webhooks, and what is wrong with how it is written.
fn base64_tag(text: &str) -> Option<(Tag, Option<Fault>)> {
    let (encoded, no_version) = match text.split_once(',') {
        Some(("v1", encoded)) => (encoded, None),
        // Of another version, as those with asymmetric keys.
        Some(_) => return None,
        None => {
            (text.strip_prefix("v1=").or_else(|| text.strip_prefix("sha256=")).unwrap_or(text), Some(Fault::NoVersion))
        }
    };
    if let Some(tag) = STANDARD.decode(encoded).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Some((tag, no_version));
    }
    if let Some(tag) = hex::decode(encoded).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Some((tag, Some(Fault::HexForBase64)));
    }
    let other = [URL_SAFE, URL_SAFE_NO_PAD, STANDARD_NO_PAD].iter().find_map(|engine| engine.decode(encoded).ok())?;
    Some((other.try_into().ok()?, Some(Fault::OtherBase64)))
}

/// A signature in hex, and what is wrong with how it is written.
fn hex_tag(text: &str) -> Option<(Tag, Option<Fault>)> {
    let text = text.trim();
    if let Some(tag) = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Some((tag, None));
    }
    let engines = [STANDARD, URL_SAFE, URL_SAFE_NO_PAD, STANDARD_NO_PAD];
    let bytes = engines.iter().find_map(|engine| engine.decode(text).ok())?;
    Some((bytes.try_into().ok()?, Some(Fault::Base64ForHex)))
}

fn clock(timestamp: &str, received_at: i64) -> Option<Fault> {
    match timestamp.trim().parse::<i64>() {
        Ok(milliseconds) if milliseconds >= FIRST_MILLISECONDS => Some(Fault::Milliseconds),
        Ok(seconds) if received_at.abs_diff(seconds) > TOLERANCE_SECONDS => {
            Some(Fault::ClockOff(seconds.saturating_sub(received_at)))
        }
        Ok(_) => None,
        Err(_) => Some(Fault::UnreadableTimestamp),
    }
}

/// What made the signature; nothing where it is as it should be.
fn explain(evidence: &Evidence<'_>, found: &Found<'_>) -> Vec<Fault> {
    let Secrets { current, previous, of_others, .. } = &evidence.secrets;
    let own: Vec<&SigningSecret> = current.iter().copied().chain(previous.iter().map(|(secret, _)| *secret)).collect();
    let body = evidence.body;
    // What is wrong with how the tag is written, where this key over this content makes one of the tags.
    let try_one = |key: &[u8], content: &[&[u8]]| -> Option<Option<Fault>> {
        let expected = tag_under(key, content);
        found.tags.iter().find(|(tag, _)| bool::from(tag.ct_eq(&expected))).map(|(_, written)| written.clone())
    };
    let try_key = |key: &[u8], body: &[u8]| try_one(key, &found.scheme.content(body));
    let faults = |written: Option<Fault>, fault: Option<Fault>| written.into_iter().chain(fault).collect();

    if evidence.is_whole {
        for secret in &own {
            if let Some(written) = try_key(&found.scheme.key(secret), body) {
                let is_expired = previous
                    .is_some_and(|(previous, until)| previous.id() == secret.id() && evidence.received_at >= until)
                    && current.is_none_or(|current| current.id() != secret.id());
                return faults(written, is_expired.then_some(Fault::ExpiredSecret));
            }
        }
        for (name, secret) in of_others {
            if let Some(written) = try_key(&found.scheme.key(secret), body) {
                return faults(written, Some(Fault::SecretOfSource((*name).to_owned())));
            }
        }
        for secret in &own {
            for (key, fault) in found.scheme.wrong_keys(secret) {
                if let Some(written) = try_key(&key, body) {
                    return faults(written, Some(fault));
                }
            }
            let key = found.scheme.key(secret);
            for other in white_space(body) {
                if let Some(written) = try_key(&key, &other) {
                    return faults(written, Some(Fault::BodyWhiteSpace));
                }
            }
            for (content, what) in found.scheme.other_contents(body) {
                if let Some(written) = try_one(&key, &content) {
                    return faults(written, Some(Fault::SignedContent(what)));
                }
            }
            for spelling in spellings(body) {
                if let Some(written) = try_key(&key, spelling.as_bytes()) {
                    return faults(written, Some(Fault::Reserialized));
                }
            }
        }
    }
    // Nothing explains it. How it is written is wrong in any case.
    let written = found.tags.iter().find_map(|(_, written)| written.clone());
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let unknown = match (evidence.is_whole, is_json) {
        (false, _) if evidence.is_verified_lately => Fault::BodyNotKept,
        (true, false) => Fault::AlteredBody,
        _ if evidence.is_verified_lately => Fault::AlteredBody,
        _ => Fault::UnknownSecret,
    };
    faults(written, Some(unknown))
}

impl Scheme<'_> {
    /// What is signed of a request with this body.
    fn content<'c>(&'c self, body: &'c [u8]) -> Vec<&'c [u8]> {
        match self {
            Self::Standard { id, timestamp } => vec![id.as_bytes(), b".", timestamp.as_bytes(), b".", body],
            Self::Timestamped { timestamp } => vec![timestamp.as_bytes(), b".", body],
            Self::Body => vec![body],
        }
    }

    /// What senders sign instead.
    fn other_contents<'c>(&'c self, body: &'c [u8]) -> Vec<(Vec<&'c [u8]>, &'static str)> {
        let whole = match self {
            Self::Standard { .. } => "the body alone, instead of `{id}.{timestamp}.{body}`",
            Self::Timestamped { .. } => "the body alone, instead of `{t}.{body}`",
            Self::Body => return Vec::new(),
        };
        let mut contents = vec![(vec![body], whole)];
        match self {
            Self::Standard { timestamp, .. } => contents.push((
                vec![timestamp.as_bytes(), b".", body],
                "`{timestamp}.{body}`, instead of `{id}.{timestamp}.{body}`",
            )),
            Self::Timestamped { timestamp } => {
                contents.push((vec![timestamp.as_bytes(), body], "`{t}{body}`, without the `.` between them"));
            }
            Self::Body => {}
        }
        contents
    }

    /// The key that this scheme makes of a secret.
    fn key(&self, secret: &SigningSecret) -> Vec<u8> {
        match self {
            Self::Standard { .. } => decoded(secret),
            Self::Timestamped { .. } | Self::Body => secret.expose().as_bytes().to_vec(),
        }
    }

    /// The keys that senders make of it by mistake.
    fn wrong_keys(&self, secret: &SigningSecret) -> Vec<(Vec<u8>, Fault)> {
        let whole = secret.expose();
        let stripped = whole.strip_prefix("whsec_").unwrap_or(whole);
        let mut keys = vec![(stripped.as_bytes().to_vec(), Fault::KeyWithoutPrefix)];
        for blank in ["\n", "\r\n", " "] {
            keys.push((format!("{whole}{blank}").into_bytes(), Fault::KeyWithWhiteSpace));
        }
        keys.push((format!(" {whole}").into_bytes(), Fault::KeyWithWhiteSpace));
        match self {
            Self::Standard { .. } => keys.push((whole.as_bytes().to_vec(), Fault::KeyNotDecoded)),
            Self::Timestamped { .. } | Self::Body => keys.push((decoded(secret), Fault::KeyDecoded)),
        }
        keys
    }
}

fn decoded(secret: &SigningSecret) -> Vec<u8> {
    let encoded = secret.expose().strip_prefix("whsec_").unwrap_or_default();
    STANDARD.decode(encoded).unwrap_or_default()
}

/// The body with other white space at its ends, or other line ends.
fn white_space(body: &[u8]) -> Vec<Vec<u8>> {
    let trimmed = body.trim_ascii();
    let mut others: Vec<Vec<u8>> =
        vec![trimmed.to_vec(), body.trim_ascii_end().to_vec(), body.trim_ascii_start().to_vec()];
    for base in [body, body.trim_ascii_end()] {
        others.extend([&b"\n"[..], b"\r\n", b" "].map(|end| [base, end].concat()));
    }
    if let Ok(text) = std::str::from_utf8(body) {
        let unix = text.replace("\r\n", "\n");
        others.push(unix.replace('\n', "\r\n").into_bytes());
        others.push(unix.trim_end().as_bytes().to_vec());
        others.push(unix.into_bytes());
    }
    others.push([b"\xef\xbb\xbf", body].concat());
    others.extend(body.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec));
    others
}

#[cfg(test)]
mod tests;
