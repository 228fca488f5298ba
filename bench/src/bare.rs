//! The webhook handler without storing: the limit of HTTP, signatures and JSON.

use std::sync::Arc;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use nudgespot_source::domain::call::CallSettings;
use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::ingest::{Origin, Receipt, Webhook};
use nudgespot_source::sources::Kind;
use nudgespot_source::sources::signature::{Keyring, verify};
use time::OffsetDateTime;
use uuid::Uuid;

pub async fn run(secret: &str) -> anyhow::Result<()> {
    let secret = SigningSecret::parse(secret)?;
    let keyring = Arc::new(Keyring {
        current: secret.clone(),
        previous: secret,
        previous_until: None,
        allow_untimestamped: false,
    });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::from(Arc::clone(&keyring)))
            .app_data(web::PayloadConfig::new(1 << 20))
            .route("/webhooks/{kind}/{token}", web::post().to(receive))
    })
    .bind(("127.0.0.1", 0))?;
    println!("{}", server.addrs()[0]);
    Ok(server.run().await?)
}

const NOBODY: Origin<'static> = Origin {
    source_id: Uuid::nil(),
    account_id: Uuid::nil(),
    calls: None,
    identity_key: None,
    learns_identities: false,
};

async fn receive(keyring: web::Data<Keyring>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let kind = request.match_info().get("kind").and_then(|kind| kind.parse::<Kind>().ok());
    let Some(kind) = kind else { return HttpResponse::NotFound().finish() };
    let now = OffsetDateTime::now_utc();
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let Ok(signature) = kind.read_signature(headers) else { return HttpResponse::Unauthorized().finish() };
    let Ok(verified) = verify(&signature, &body, &keyring, now.unix_timestamp()) else {
        return HttpResponse::Unauthorized().finish();
    };
    let Ok(elements) = kind.parse(verified, now, &CallSettings::default()) else {
        return HttpResponse::BadRequest().finish();
    };
    let n_events = elements.len();
    let webhook = Webhook::new(NOBODY, now, elements);
    std::hint::black_box(webhook);
    HttpResponse::Ok().json(Receipt { accepted: n_events, ..Receipt::default() })
}
