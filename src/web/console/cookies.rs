//! The cookies of pages.

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use reqwest::Url;

/// For how long a choice of looks is kept.
const CHOICE: Duration = Duration::days(365);

/// The name of the session's cookie. Over TLS, its prefix has the browser take it from this host over TLS only. Without,
/// its name holds the port: cookies do not tell the ports of a host apart.
pub fn session_name(origin: &Url) -> String {
    if origin.scheme() == "https" {
        "__Host-session".to_owned()
    } else {
        format!("session-{}", origin.port_or_known_default().unwrap_or_default())
    }
}

/// The cookie of a new session. It ends with the browser, if the session does not end before.
pub fn session(origin: &Url, token: &str) -> Cookie<'static> {
    cookie(origin, session_name(origin), token.to_owned())
}

/// Ends the session's cookie.
pub fn no_session(origin: &Url) -> Cookie<'static> {
    let mut cookie = session(origin, "");
    cookie.make_removal();
    cookie
}

/// Keeps a choice of looks; an empty value forgets it.
pub fn choice(origin: &Url, name: &'static str, value: &str) -> Cookie<'static> {
    let mut cookie = cookie(origin, name.to_owned(), value.to_owned());
    if value.is_empty() {
        cookie.make_removal();
    } else {
        cookie.set_max_age(CHOICE);
    }
    cookie
}

fn cookie(origin: &Url, name: String, value: String) -> Cookie<'static> {
    Cookie::build(name, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(origin.scheme() == "https")
        .finish()
}
