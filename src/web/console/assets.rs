//! The style sheet, the script and the icons. Each has its content's hash in its URL, and so may be kept for ever.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Path;
use sha2::{Digest, Sha256};

use super::failure::Failure;

/// A file that pages refer to.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 6] = [
    asset("console.css", "text/css; charset=utf-8", include_str!("../../../static/console.css")),
    asset("console.js", "text/javascript; charset=utf-8", include_str!("../../../static/console.js")),
    asset("icon.svg", "image/svg+xml", include_str!("../../../static/icon.svg")),
    asset("icon-good.svg", "image/svg+xml", include_str!("../../../static/icon-good.svg")),
    asset("icon-waiting.svg", "image/svg+xml", include_str!("../../../static/icon-waiting.svg")),
    asset("icon-bad.svg", "image/svg+xml", include_str!("../../../static/icon-bad.svg")),
];

const fn asset(name: &'static str, content_type: &'static str, content: &'static str) -> Asset {
    Asset { name, content_type, content }
}

static HASH: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in &ASSETS {
        hash.update(asset.content);
    }
    hex::encode(&hash.finalize()[..8])
});

/// The URL of a file.
pub fn url(name: &str) -> String {
    debug_assert!(ASSETS.iter().any(|asset| asset.name == name), "{name}");
    format!("/static/{}/{name}", *HASH)
}

/// `GET /static/{hash}/{name}`
pub async fn file(path: Path<(String, String)>) -> Result<HttpResponse, Failure> {
    let (hash, name) = path.into_inner();
    let asset = ASSETS.iter().find(|asset| asset.name == name && hash == *HASH).ok_or(Failure::NotFound)?;
    let cache = (CACHE_CONTROL, "public, max-age=31536000, immutable");
    Ok(HttpResponse::Ok().content_type(asset.content_type).insert_header(cache).body(asset.content))
}
