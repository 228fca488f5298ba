//! What every request passes: is it for us, who asks, may they, and do they mean it. Nothing behind it runs before that
//! is known, and no body is read.

use std::net::IpAddr;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};
use reqwest::Url;
use time::OffsetDateTime;
use uuid::Uuid;

use super::failure::Failure;
use super::frame::{KEYS_COOKIE, THEME_COOKIE};
use super::refusal::{self, Asked, Surface};
use super::routes::{self, Access, Place, Route};
use super::visit::{AccountRef, SourceRef, Visit};
use super::{Console, client_address, cookies};
use crate::admin::audit::Action;
use crate::admin::people::Role;
use crate::admin::principal::Principal;

/// Nothing from elsewhere, nothing inline, nothing framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Lets a request through to its handler, or says why not; and sets what every answer has.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let console = request.app_data::<web::Data<Console>>().expect("every request has it").clone();
    let asked = Asked::of(request.request());
    let mut visit = nobody(&console, request.request(), &asked);
    let mut response = match admit(&console, request.request(), &asked, &mut visit).await {
        Ok(admission) => {
            // A handler asks for what is put here, and fails without: what was not admitted does not reach one.
            if admission == Admission::Admitted {
                request.extensions_mut().insert(visit.clone());
            }
            next.call(request).await?.map_into_boxed_body()
        }
        Err(failure) => request.error_response(failure),
    };
    let failure = response.response().error().and_then(|error| error.as_error::<Failure>());
    if let Some(written) = failure.map(|failure| refusal::write(failure, &visit, &asked)) {
        response = response.into_response(written);
    }
    set_headers(&console, &asked, response.headers_mut());
    Ok(response)
}

/// What became of a request that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// Who asks may have the route.
    Admitted,
    /// There is no such route.
    Unrouted,
}

/// A request of which nothing is known but what it says itself.
fn nobody(console: &Console, request: &HttpRequest, asked: &Asked) -> Visit {
    let cookie = |name: &str| request.cookie(name).map(|cookie| cookie.value().to_owned());
    // Some proxies add a line of their own, instead of to the one that is there.
    let forwarded = request.headers().get_all(&X_FORWARDED_FOR).map(|line| line.to_str().unwrap_or("?"));
    let forwarded = forwarded.collect::<Vec<_>>().join(",");
    let theme = cookie(THEME_COOKIE).and_then(|theme| ["light", "dark"].into_iter().find(|known| *known == theme));
    let notice = url_query(request.query_string(), "notice");
    let address = request.peer_addr();
    let address = address.map(|peer| client_address(&console.trusted_proxies, peer, &forwarded));
    Visit {
        who: None,
        address,
        now: OffsetDateTime::now_utc(),
        account: None,
        source: None,
        may_change: false,
        is_fragment: asked.surface == Surface::Fragment,
        theme,
        keys_off: cookie(KEYS_COOKIE).as_deref() == Some("off"),
        notice,
    }
}

fn url_query(query: &str, name: &str) -> Option<String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query).ok()?.into_inner();
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

async fn admit(
    console: &Console,
    request: &HttpRequest,
    asked: &Asked,
    visit: &mut Visit,
) -> Result<Admission, Failure> {
    check_host(&console.origin, request.headers())?;
    let text = [asked.path.as_str(), request.query_string()];
    if text.iter().any(|text| text.contains('\0') || text.to_ascii_lowercase().contains("%00")) {
        return Err(Failure::Malformed("A NUL character is in no name, id or address.".to_owned()));
    }
    // What is not routed is answered as such, whoever asks.
    let Some((route, place)) = routes::find(request.method(), &asked.path) else { return Ok(Admission::Unrouted) };
    if asked.surface != Surface::Api && !request.method().is_safe() {
        check_origin(&console.origin, request.headers())?;
    }
    if asked.is_of_nobody() {
        return Ok(Admission::Admitted);
    }
    visit.who = identify(console, request, asked).await?;
    permit(console, route, place, visit).await?;
    if visit.is_operator()
        && let Some(account) = &visit.account
        && let Some(look) = look(route, request, asked)
    {
        // Of the first look of an hour: at which source it was.
        let at = visit.source.as_ref().map_or_else(String::new, |source| format!("source {}", source.name));
        console.admin.record_look(&visit.actor(), account.id, look, &at).await?;
    }
    Ok(Admission::Admitted)
}

/// As what it is recorded that an operator looks at an account: at what its events say, or at the rest. A page that keeps
/// itself current is no look.
fn look(route: Route, request: &HttpRequest, asked: &Asked) -> Option<Action> {
    let shows = ["/events", "/problems", "/export", "/dead-letters", "/refused-webhooks"];
    let shows = shows.iter().any(|shown| route.path.contains(&format!("/{{source}}{shown}")));
    // Of what shows events, only the part that says what is new: another could be had instead of the page.
    let is_poll =
        asked.surface == Surface::Fragment && (!shows || url_query(request.query_string(), "after").is_some());
    let is_look = request.method().is_safe() && !is_poll;
    is_look.then_some(if shows { Action::EventsLookedAt } else { Action::AccountLookedAt })
}

/// Who asks: pages know people by their cookie, the API knows tokens. Neither takes the other's: a page that somebody else
/// made can send a browser's cookies along, but no token.
async fn identify(console: &Console, request: &HttpRequest, asked: &Asked) -> Result<Option<Principal>, Failure> {
    if asked.surface == Surface::Api {
        let value = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let Some(token) = token else { return Ok(None) };
        return Ok(console.admin.api_token(token).await?.map(Principal::Token));
    }
    let Some(cookie) = request.cookie(&cookies::session_name(&console.origin)) else { return Ok(None) };
    Ok(console.admin.session(cookie.value()).await?.map(Principal::Person))
}

/// Whether who asks may have the route. What of an account they may not see is as if it were not there.
async fn permit(console: &Console, route: Route, place: Place<'_>, visit: &mut Visit) -> Result<(), Failure> {
    if route.access == Access::Public {
        return Ok(());
    }
    let who = visit.who.clone().ok_or(Failure::SignedOut)?;
    let id = |text: &str| Uuid::try_parse(text).map_err(|_| Failure::NotFound);
    let mut source = None;
    let account = match place {
        Place::Nowhere => None,
        Place::Account(text) => console.admin.account_by_id(id(text)?).await?,
        Place::Source(text) => {
            let found = console.admin.source_place(id(text)?).await?.ok_or(Failure::NotFound)?;
            let (id, account_id) = (found.id, found.account.id);
            let kind = found.kind.parse().ok();
            source = Some(SourceRef { id, account_id, name: found.name, kind, has_siblings: found.has_siblings });
            Some(found.account)
        }
    };
    let role = if place == Place::Nowhere {
        who.operator_role()
    } else {
        let account = account.ok_or(Failure::NotFound)?;
        let role = who.role_in(account.id).ok_or(Failure::NotFound)?;
        // Only now: a page that refuses shows what is here.
        visit.account = Some(AccountRef { id: account.id, name: account.name });
        visit.source = source;
        Some(role)
    };
    visit.may_change = role == Some(Role::Admin);
    match (route.access, &who) {
        (Access::Operator, _) if who.operator_role().is_none() => {
            Err(Failure::Forbidden("Only an operator of the service may do this.".to_owned()))
        }
        (_, Principal::Token(token)) if !token.may_write && route.method != "get" => {
            Err(Failure::Forbidden("This token may read, but not change anything.".to_owned()))
        }
        (Access::Change, _) if !visit.may_change => Err(Failure::Forbidden(
            "You may look at this account, but not change it. Ask one of its admins.".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// A browser that was led here by another name than ours may be in somebody else's hands (DNS rebinding). Loopback names
/// are nobody else's.
fn check_host(origin: &Url, headers: &HeaderMap) -> Result<(), Failure> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let url = Url::parse(&format!("{}://{host}", origin.scheme())).ok();
    let url = url.filter(|url| url.path() == "/" && url.query().is_none() && url.username().is_empty());
    if url.is_some_and(|url| is_ours(origin, &url)) {
        return Ok(());
    }
    let own = origin.origin().ascii_serialization();
    Err(Failure::WrongHost(format!("You asked for `{host}`; the console is at {own}, which CONSOLE_URL sets.")))
}

fn is_ours(origin: &Url, url: &Url) -> bool {
    (url.host_str() == origin.host_str() && url.port_or_known_default() == origin.port_or_known_default())
        || is_loopback(url)
}

fn is_loopback(url: &Url) -> bool {
    let name = url.host_str().unwrap_or_default();
    let ip = name.trim_matches(['[', ']']).parse::<IpAddr>();
    ip.map_or(name == "localhost" || name.ends_with(".localhost"), |ip| ip.is_loopback())
}

/// A form counts where it is of one of our own pages (Fetch Metadata; without it, `Origin`).
fn check_origin(origin: &Url, headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let site = text(&SEC_FETCH_SITE);
    let from = text(&ORIGIN);
    let is_own = match (&site, &from) {
        (Some(site), _) => matches!(site.as_ref(), "same-origin" | "none"),
        (None, Some(from)) => Url::parse(from).is_ok_and(|from| is_ours(origin, &from)),
        (None, None) => false,
    };
    if is_own {
        return Ok(());
    }
    let own = origin.origin().ascii_serialization();
    let site = site.map_or_else(|| "missing".to_owned(), |site| format!("`{site}`"));
    let from = from.map_or_else(|| "missing".to_owned(), |from| format!("`{from}`"));
    Err(Failure::Forbidden(format!(
        "Nothing was changed. The form came from another site than {own}, which CONSOLE_URL sets: Sec-Fetch-Site is {site}, \
         Origin is {from}. Open the console under that name, and do it there."
    )))
}

fn set_headers(console: &Console, asked: &Asked, headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "same-origin");
    if console.is_secure() {
        set(STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    if asked.surface != Surface::Static || !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
