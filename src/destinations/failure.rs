//! Why there was no answer, in words.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use rustls::CertificateError;

/// How long a connection may take to be there.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What kept an answer from coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says it by its name, and `words` at length")]
pub enum Failure {
    NameNotResolved,
    ConnectionRefused,
    Unreachable,
    ConnectTimeout,
    CertificateUntrusted,
    CertificateExpired,
    CertificateWrongName,
    Tls,
    ConnectionLost,
    NoAnswer,
    BrokenResponse,
}

impl Failure {
    /// What an error means.
    #[must_use]
    pub fn of(error: &reqwest::Error) -> Self {
        if error.is_dns() {
            return Self::NameNotResolved;
        }
        if error.is_timeout() {
            return if error.is_connect() { Self::ConnectTimeout } else { Self::NoAnswer };
        }
        let found = causes(error).find_map(of_cause);
        found.unwrap_or(if error.is_connect() { Self::Unreachable } else { Self::ConnectionLost })
    }

    /// Its name, for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NameNotResolved => "name_not_resolved",
            Self::ConnectionRefused => "connection_refused",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateWrongName => "certificate_wrong_name",
            Self::Tls => "tls",
            Self::ConnectionLost => "connection_lost",
            Self::NoAnswer => "no_answer",
            Self::BrokenResponse => "broken_response",
        }
    }

    /// For the source's admin and the operator. `host` is a name and a port, nothing else of the URL; `timeout` how long an
    /// answer was waited for.
    #[must_use]
    pub fn words(self, host: &str, timeout: Duration) -> String {
        match self {
            Self::NameNotResolved => format!("the name of {host} cannot be resolved (DNS)"),
            Self::ConnectionRefused => format!("{host} refused the connection"),
            Self::Unreachable => format!("{host} cannot be reached over the network"),
            Self::ConnectTimeout => {
                format!("no connection to {host} in {} s", CONNECT_TIMEOUT.min(timeout).as_secs())
            }
            Self::CertificateUntrusted => format!("the certificate of {host} is not trusted (unknown issuer)"),
            Self::CertificateExpired => format!("the certificate of {host} has expired or is not valid yet"),
            Self::CertificateWrongName => format!("the certificate of {host} is for another name"),
            Self::Tls => format!("no secure connection (TLS) to {host}"),
            Self::ConnectionLost => format!("the connection to {host} was lost before the answer (reset or closed)"),
            Self::NoAnswer => format!("no answer from {host} in {} s", timeout.as_secs()),
            Self::BrokenResponse => format!("the answer of {host} is not HTTP"),
        }
    }
}

/// An error and what caused it, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error = *error;
        // The source of an I/O error is the source of what it wraps, which would be left out.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|error| -> &'a (dyn Error + 'static) { error }).or_else(|| error.source())
    })
}

fn of_cause(cause: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(match error {
            rustls::Error::InvalidCertificate(error) => of_certificate(error),
            _ => Failure::Tls,
        });
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return match error.kind() {
            ErrorKind::ConnectionRefused => Some(Failure::ConnectionRefused),
            ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            | ErrorKind::PermissionDenied => Some(Failure::Unreachable),
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => Some(Failure::ConnectionLost),
            _ => None,
        };
    }
    // hyper's errors, whose type reqwest hides, say so of an answer that they cannot read.
    let text = cause.to_string();
    let is_broken = ["invalid ", "unexpected ", "message head is too large", "received unexpected message"];
    is_broken.iter().any(|start| text.starts_with(start)).then_some(Failure::BrokenResponse)
}

fn of_certificate(error: &CertificateError) -> Failure {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Failure::CertificateExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Failure::CertificateWrongName
        }
        _ => Failure::CertificateUntrusted,
    }
}
