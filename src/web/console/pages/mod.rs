//! The pages, a file each. A handler reads what is asked, has a use case of [`admin`](crate::admin) done, and fills a
//! template; or, after a change, leads on to the page that shows it.

pub mod account;
pub mod account_settings;
pub mod audit;
pub mod checklist;
pub mod confirm;
pub mod doctor;
pub mod erase;
pub mod events;
mod health;
pub mod home;
pub mod journey;
pub mod leave;
pub mod link;
pub mod looks;
pub mod operator;
pub mod operators;
pub mod overview;
pub mod people;
pub mod problems;
pub mod profile;
pub mod replays;
pub mod rotation;
pub mod set_up;
pub mod set_up_calls;
pub mod settings;
pub mod shown_once;
pub mod sign_in;
pub mod status;
pub mod tokens;

use actix_web::HttpRequest;
use actix_web::http::header::USER_AGENT;
use serde::Deserialize;

use super::visit::Visit;
use crate::admin::sessions::Client;

/// Where somebody wanted to go, who has to sign in first.
#[derive(Debug, Default, Deserialize)]
pub struct Next {
    #[serde(default)]
    next: String,
}

impl Next {
    /// A path of ours, whatever the query says: a link here must not lead elsewhere.
    fn path(&self) -> String {
        let is_ours = self.next.starts_with('/')
            && !self.next.starts_with("//")
            && !self.next.contains(['\\', '\r', '\n', '\t'])
            && self.next.is_ascii();
        if is_ours { self.next.clone() } else { "/".to_owned() }
    }

    /// The query that says it again.
    fn query(&self) -> String {
        if self.next.is_empty() { String::new() } else { super::refusal::next_query(&self.path()) }
    }
}

/// Who came, from where, for the session.
fn client<'a>(visit: &Visit, request: &'a HttpRequest) -> Client<'a> {
    let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    Client { address: visit.address, user_agent }
}

/// A time as lists and fields show it before the script does: `2026-01-27 09:15:00 UTC`.
fn utc(rfc3339: &str) -> String {
    let (date, time) = (rfc3339.get(..10), rfc3339.get(11..19));
    date.zip(time).map_or_else(|| rfc3339.to_owned(), |(date, time)| format!("{date} {time} UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_another_site() {
        let path = |next: &str| Next { next: next.to_owned() }.path();
        assert_eq!(path("/sources/1/events?state=waiting"), "/sources/1/events?state=waiting");
        for next in ["", "//evil.example", "https://evil.example", "/\\evil.example", "\\evil", "/a\r\nb", "/\tevil"] {
            assert_eq!(path(next), "/", "{next:?}");
        }
    }
}
