//! What libraries log, but should not be shown.

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterFn, Targets, filter_fn};

/// Where the HTTP libraries tell of single connections. What a stranger sends to an open port is no trouble of this
/// program, whatever level they give it: it is shown where `debug` is.
const CONNECTIONS: [&str; 8] = [
    "actix_http::h1::decoder",
    "actix_http::h1::dispatcher",
    "actix_http::h1::encoder",
    "actix_http::h2::dispatcher",
    "actix_http::ws",
    "h2",
    "hyper",
    "hyper_util",
];

/// Where sqlx reads `.pgpass`. It logs a line that it cannot read, with the password in it.
const PGPASS: &str = "sqlx_postgres::options::pgpass";

/// Lets through what is fit to be shown under these directives of `RUST_LOG`.
pub fn filter(directives: &str) -> FilterFn<impl Fn(&Metadata<'_>) -> bool + use<>> {
    // Those on spans are left out: they raise the level of single requests, not of what goes on below them.
    let of_targets: Vec<&str> =
        directives.split(',').filter(|directive| directive.parse::<Targets>().is_ok()).collect();
    let targets: Targets = of_targets.join(",").parse().unwrap_or_default();
    filter_fn(move |event| is_shown(event, &targets))
}

fn is_shown(event: &Metadata<'_>, targets: &Targets) -> bool {
    let target = event.target();
    if target == PGPASS && event.fields().field("line").is_some() {
        return false;
    }
    let is_of_connection = CONNECTIONS
        .iter()
        .any(|of| target.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")));
    !is_of_connection || targets.would_enable(target, &Level::DEBUG)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::output::tests::Shared;

    fn shown(directives: &str) -> String {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        let writer = Shared(Arc::clone(&buffer));
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(directives))
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish()
            .with(filter(directives));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "actix_http::h1::dispatcher", "stranger");
            tracing::warn!(target: "h2", "stranger");
            tracing::error!(target: "actix_server::accept", "own");
            tracing::error!(target: "h2o", "own");
            tracing::warn!(target: "sqlx_postgres::options::pgpass", line = "h:1:d:u:s3cret", "malformed");
            tracing::warn!(target: "sqlx_postgres::options::pgpass", path = "/", "own");
        });
        let log = buffer.lock().expect("whole").clone();
        String::from_utf8(log).expect("UTF-8")
    }

    #[test]
    fn what_strangers_send_is_shown_where_debug_is_and_passwords_nowhere() {
        for (directives, n_strangers, n_own) in [
            ("info", 0, 3),
            ("info,sqlx=warn", 0, 3),
            ("warn,h2=error", 0, 3),
            ("debug", 2, 3),
            ("info,h2=debug", 1, 3),
            ("info,actix_http=trace", 1, 3),
            ("debug,actix_http=info", 1, 3),
            ("debug,[request]=trace", 2, 3),
        ] {
            let log = shown(directives);
            let count = |text| log.matches(text).count();
            assert_eq!((count("stranger"), count("own")), (n_strangers, n_own), "{directives}: {log}");
            assert!(!log.contains("s3cret"), "{directives}: {log}");
        }
    }
}
