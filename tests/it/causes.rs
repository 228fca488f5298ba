//! Where Segment does not answer, the log, `source show` and the metrics say why.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use futures_util::future::join_all;
use nudgespot_source::sandbox::Fault;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::harness::{Context, events, sender};

/// A listener that treats every connection so; returns its address.
fn listener(treat: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(treat));
    address
}

/// A TLS server whose certificate nobody should accept. Its key is public: it is for tests alone.
fn tls_listener(certificate: &'static [u8]) -> String {
    let certificate = CertificateDer::from_pem_slice(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../fixtures/tls/server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they fit");
    let config = Arc::new(config);
    listener(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
        let _ = rustls::StreamOwned::new(connection, stream).read(&mut [0]);
    })
}

/// The address of a port where nobody listens.
fn closed_port() -> String {
    TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("bound").to_string()
}

/// Answers a request so, when its head is there.
fn answer(mut stream: TcpStream, answer: &[u8]) {
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_an_answer_from_coming_is_told_in_words() {
    let https = |address: String| format!("https://{address}");
    let http = |address: String| format!("http://{address}");
    let cases = [
        [
            ("https://segment.invalid".to_owned(), "name_not_resolved", "cannot be resolved"),
            (http(closed_port()), "connection_refused", "refused the connection"),
        ],
        [
            (https(tls_listener(include_bytes!("../fixtures/tls/expired.pem"))), "certificate_expired", "has expired"),
            (
                https(tls_listener(include_bytes!("../fixtures/tls/wrong-name.pem"))),
                "certificate_wrong_name",
                "is for another name",
            ),
        ],
        [
            (
                https(tls_listener(include_bytes!("../fixtures/tls/untrusted.pem"))),
                "certificate_untrusted",
                "is not trusted",
            ),
            (https(listener(|stream| answer(stream, b"HTTP/1.1 200 OK\r\n\r\n"))), "tls", "no secure connection"),
        ],
        [
            (http(listener(|stream| answer(stream, b""))), "connection_lost", "was lost"),
            (http(listener(|stream| answer(stream, b"220 mail ESMTP\r\n"))), "broken_response", "is not HTTP"),
        ],
        [
            (http(listener(std::mem::forget)), "no_answer", "no answer from"),
            (https(listener(std::mem::forget)), "connect_timeout", "no connection to"),
        ],
    ];
    // Beside each other: some of them are waited for.
    join_all(cases.map(async |[us, eu]| {
        let mut context = Context::waiting().await;
        context.set("SEGMENT_US_URL", &us.0);
        context.set("SEGMENT_EU_URL", &eu.0);
        context.set("SSL_CERT_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/authority.pem"));
        let service = context.serve().await;
        for (region, (url, cause, words)) in [("us", us), ("eu", eu)] {
            let source = context.create(region, &["--write-key", "secret-key-1", "--region", region]).await;
            source.accept(&service, &events(0..1)).await;
            let shown = context.source_is(region, |shown| shown["last_error"].is_string()).await;
            let error = shown["last_error"].as_str().expect("text");
            let host = url.split("//").nth(1).expect("a host");
            assert!(error.contains(words) && error.contains(host), "{cause}: {error}");
            assert!(service.log().contains(error), "{cause}: in the log");
            let metrics =
                sender::http().get(&service.metrics_url).send().await.expect("up").text().await.expect("text");
            let counter = format!(r#"nudgespot_source_segment_failures_total{{cause="{cause}"}} "#);
            assert!(metrics.contains(&counter), "{counter}: {metrics}");
            assert!(!service.log().contains("secret-key-1"));
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_error_is_shown_until_an_attempt_succeeds() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    assert!(context.show("acme").await.get("last_error").is_none(), "there was none");
    context.segment.faults.always(&source.write_key, Some(Fault::Status(503, None)));
    source.accept(&service, &events(0..1)).await;
    let shown = context.source_is("acme", |shown| shown["last_error"].is_string()).await;
    assert!(shown["last_error"].as_str().is_some_and(|text| text.starts_with("Segment answered 503")), "{shown}");
    context.segment.faults.always(&source.write_key, None);
    let shown = context.source_is("acme", |shown| shown["delivered"] == 1).await;
    assert!(shown.get("last_error").is_none(), "{shown}");
}
