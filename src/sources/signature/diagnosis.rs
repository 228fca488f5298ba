//! Why a webhook's signature does not verify, in words for the person who set the sender up.
//!
//! It tries the mistakes that senders make, one by one, until one of them makes the signature that came. What it
//! computes on the way stays here: a signature that is right for a body is as good as the secret for that body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::calls::first_element;
pub use super::fault::Fault;
use super::reserialize::spellings;
use super::{MAX_SIGNATURES, TOLERANCE_SECONDS};
use crate::domain::secret::{SigningSecret, sha1_tag_under, tag_under};
use crate::sources::Kind;
use encodings::{base64_tag, hex_tag};

mod calls;
mod encodings;

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
    tags: Vec<(Vec<u8>, Option<Fault>)>,
}

enum Scheme<'a> {
    Standard { id: &'a str, timestamp: &'a str },
    Timestamped { timestamp: &'a str },
    Body,
    Calls,
}

impl<'a> Evidence<'a> {
    /// The value of a header.
    fn one(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        let mut named = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (named.next(), named.next()) {
            (first, None) => Ok(first.map(|(_, value)| value.as_str())),
            _ => Err(Fault::HeaderTwice(name.to_owned())),
        }
    }

    /// The name of a header that looks as if it signed.
    fn other_signature(&self) -> Option<String> {
        let looks_so = |name: &str| {
            let name = name.to_ascii_lowercase();
            name.contains("signature") || name.contains("hmac")
        };
        self.headers.iter().map(|(name, _)| name).find(|name| looks_so(name)).cloned()
    }
}

/// What is wrong with a webhook, the likeliest first; nothing where it verifies.
#[must_use]
pub fn diagnose(evidence: &Evidence<'_>) -> Vec<Fault> {
    if let Some(faults) = judge_ingest_key(evidence) {
        return faults;
    }
    let found = match find(evidence) {
        Ok(found) => found,
        Err(fault) => return vec![fault],
    };
    let timestamp = match found.scheme {
        Scheme::Standard { timestamp, .. } | Scheme::Timestamped { timestamp } => Some(timestamp),
        Scheme::Body | Scheme::Calls => None,
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

/// What is wrong with an ingest key, where that counts: there is no signature, which would have to hold.
fn judge_ingest_key(evidence: &Evidence<'_>) -> Option<Vec<Fault>> {
    let is_read = evidence.kind == Kind::Segment;
    let (None, Some(authorization)) = (evidence.one(calls::SIGNATURE_NAME).ok()?, evidence.one("Authorization").ok()?)
    else {
        return None;
    };
    is_read.then(|| calls::judge_ingest_key(evidence, authorization))
}

fn find<'a>(evidence: &Evidence<'a>) -> Result<Found<'a>, Fault> {
    if evidence.kind == Kind::Segment {
        // There once only, like the signature.
        evidence.one("Authorization")?;
        let signature = evidence.one(calls::SIGNATURE_NAME)?;
        let names = vec![calls::SIGNATURE_NAME, "Authorization"];
        let signature = signature.ok_or_else(|| Fault::HeaderMissing { names, found: evidence.other_signature() })?;
        return Ok(Found { scheme: Scheme::Calls, tags: vec![calls::tag(signature)?] });
    }
    let one = |name: &str| evidence.one(name);
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
            let found = evidence.other_signature();
            let names = match evidence.kind {
                Kind::Nudgespot if found.is_some() => vec![OWN_NAME],
                Kind::Nudgespot => vec![OWN_NAME, "webhook-signature"],
                Kind::Resend | Kind::Segment => vec!["svix-signature"],
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
        let expected = found.scheme.tag(key, content);
        found.tags.iter().find(|(tag, _)| bool::from(tag.ct_eq(&expected))).map(|(_, written)| written.clone())
    };
    let try_key = |key: &[u8], body: &[u8]| {
        try_one(key, &found.scheme.content(body)).or_else(|| try_one(key, &[found.scheme.other_content(body)?]))
    };
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
            Self::Body | Self::Calls => vec![body],
        }
    }

    /// What may be signed in its place.
    fn other_content<'c>(&self, body: &'c [u8]) -> Option<&'c [u8]> {
        match self {
            Self::Standard { .. } | Self::Timestamped { .. } | Self::Body => None,
            Self::Calls => first_element(body),
        }
    }

    /// The tag that this key makes.
    fn tag(&self, key: &[u8], content: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Standard { .. } | Self::Timestamped { .. } | Self::Body => tag_under(key, content).to_vec(),
            Self::Calls => sha1_tag_under(key, &content.concat()).to_vec(),
        }
    }

    /// What senders sign instead.
    fn other_contents<'c>(&'c self, body: &'c [u8]) -> Vec<(Vec<&'c [u8]>, &'static str)> {
        let whole = match self {
            Self::Standard { .. } => "the body alone, instead of `{id}.{timestamp}.{body}`",
            Self::Timestamped { .. } => "the body alone, instead of `{t}.{body}`",
            Self::Body | Self::Calls => return Vec::new(),
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
            Self::Body | Self::Calls => {}
        }
        contents
    }

    /// The key that this scheme makes of a secret.
    fn key(&self, secret: &SigningSecret) -> Vec<u8> {
        match self {
            Self::Standard { .. } => decoded(secret),
            Self::Timestamped { .. } | Self::Body | Self::Calls => secret.expose().as_bytes().to_vec(),
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
            Self::Timestamped { .. } | Self::Body | Self::Calls => keys.push((decoded(secret), Fault::KeyDecoded)),
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
