//! Who may do what: every route of the console, whoever asks. The routes are taken from the program's own table, so that
//! none is forgotten.

use nudgespot_source::admin::NewSource;
use nudgespot_source::domain::name::Name;
use nudgespot_source::sources::Kind;
use nudgespot_source::web::console::{Access, ROUTES, Route};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION};
use reqwest::{Client, Method, StatusCode};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::harness::{Context, Service, sender};

/// Who asks. Of an account and its source, the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visitor {
    Nobody,
    ExpiredSession,
    Admin,
    Viewer,
    AdminOfAnother,
    Operator,
    ReadToken,
    WriteToken,
    TokenOfAnother,
    ReadTokenForAll,
    WriteTokenForAll,
    RevokedToken,
    ExpiredToken,
}

use Visitor::{
    Admin, AdminOfAnother, ExpiredSession, ExpiredToken, Nobody, Operator, ReadToken, ReadTokenForAll, RevokedToken,
    TokenOfAnother, Viewer, WriteToken, WriteTokenForAll,
};

const VISITORS: [Visitor; 13] = [
    Nobody,
    ExpiredSession,
    Admin,
    Viewer,
    AdminOfAnother,
    Operator,
    ReadToken,
    WriteToken,
    TokenOfAnother,
    ReadTokenForAll,
    WriteTokenForAll,
    RevokedToken,
    ExpiredToken,
];

impl Visitor {
    fn has_session(self) -> bool {
        matches!(self, ExpiredSession | Admin | Viewer | AdminOfAnother | Operator)
    }

    fn has_token(self) -> bool {
        !self.has_session() && self != Nobody
    }

    /// What proves it, the same for the whole test.
    fn proof(self) -> String {
        format!("nss_proof-of-{self:?}")
    }

    fn is_known(self, is_api: bool) -> bool {
        let counts = !matches!(self, Nobody | ExpiredSession | RevokedToken | ExpiredToken);
        // A cookie opens no API, and a token no page.
        counts && self.has_token() == is_api
    }

    fn is_operator(self) -> bool {
        matches!(self, Operator | ReadTokenForAll | WriteTokenForAll)
    }

    fn may_see(self) -> bool {
        self.is_operator() || matches!(self, Admin | Viewer | ReadToken | WriteToken)
    }

    fn may_change(self) -> bool {
        matches!(self, Admin | WriteToken | Operator | WriteTokenForAll)
    }
}

/// What a request is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Status(u16),
    SignIn,
    /// It gets as far as the handler.
    Passes,
}

fn is_api(route: &Route) -> bool {
    route.path.starts_with("/api/")
}

fn is_read(route: &Route) -> bool {
    matches!(route.method, "get" | "head")
}

fn expected(route: &Route, visitor: Visitor) -> Expected {
    if route.access == Access::Public {
        return Expected::Passes;
    }
    if !visitor.is_known(is_api(route)) {
        return if is_api(route) || !is_read(route) { Expected::Status(401) } else { Expected::SignIn };
    }
    let is_of_account = route.path.contains("{account}") || route.path.contains("{source}");
    if is_of_account && !visitor.may_see() {
        return Expected::Status(404);
    }
    let is_forbidden = match route.access {
        Access::Operator => !visitor.is_operator(),
        Access::Change => !visitor.may_change(),
        Access::Public | Access::SignedIn | Access::View => false,
    };
    let only_reads = matches!(visitor, ReadToken | ReadTokenForAll) && !is_read(route);
    if is_forbidden || only_reads { Expected::Status(403) } else { Expected::Passes }
}

/// What the visitors have access to. Made anew whenever one of them may have changed it.
struct World<'a> {
    context: &'a Context,
    account: Uuid,
    source: Uuid,
    n: u32,
}

impl<'a> World<'a> {
    async fn new(context: &'a Context) -> Self {
        let mut world = Self { context, account: Uuid::nil(), source: Uuid::nil(), n: 0 };
        world.make().await;
        world
    }

    async fn make(&mut self) {
        let admin = self.context.admin();
        let create = async |name: String| {
            let first = NewSource::of(Kind::Nudgespot);
            admin.create_account(&Name::parse(&name).expect("a name"), first).await.expect("created")
        };
        self.n += 1;
        let (own, other) = (create(format!("own-{}", self.n)).await, create(format!("other-{}", self.n)).await);
        (self.account, self.source) = (own.account_id, own.id);
        let mut sql = vec!["delete from person; delete from api_token".to_owned()];
        for (n, visitor) in (1..).zip(VISITORS) {
            let hash = hex::encode(Sha256::digest(visitor.proof()));
            let id = Uuid::from_u128(n);
            if visitor.has_session() {
                let is_operator = matches!(visitor, Operator | ExpiredSession);
                let seen = if visitor == ExpiredSession { "now() - interval '13 hours'" } else { "now()" };
                sql.push(format!(
                    "insert into person (id, email, password_hash, is_operator)
                        values ('{id}', '{visitor:?}@example.com', 'x', {is_operator});
                    insert into session (id, person_id, token_hash, last_seen_at)
                        values ('{id}', '{id}', '\\x{hash}', {seen})"
                ));
            }
            let membership = match visitor {
                Admin => Some((own.account_id, "admin")),
                Viewer => Some((own.account_id, "viewer")),
                AdminOfAnother => Some((other.account_id, "admin")),
                _ => None,
            };
            if let Some((account, role)) = membership {
                sql.push(format!("insert into membership values ('{account}', '{id}', '{role}')"));
            }
            if visitor.has_token() && visitor != RevokedToken {
                let account = match visitor {
                    ReadToken | WriteToken => format!("'{}'", own.account_id),
                    TokenOfAnother => format!("'{}'", other.account_id),
                    _ => "null".to_owned(),
                };
                let may_write = !matches!(visitor, ReadToken | ReadTokenForAll);
                let expires = if visitor == ExpiredToken { "now()" } else { "null" };
                sql.push(format!(
                    "insert into api_token (id, account_id, token_hash, name, may_write, created_by, expires_at)
                        values ('{id}', {account}, '\\x{hash}', '{visitor:?}', {may_write}, 'test', {expires})"
                ));
            }
        }
        self.context.execute(&sql.join(";")).await;
    }

    /// The path of a route. What is not the account or its source is not there.
    fn path(&self, route: &Route) -> String {
        let part = |part: &str| match part {
            "{account}" => self.account.to_string(),
            "{source}" => self.source.to_string(),
            part if part.starts_with('{') => Uuid::from_u128(0xdead).to_string(),
            part => part.to_owned(),
        };
        let path = route.path.split('/').map(part).collect::<Vec<_>>().join("/");
        // What a page cannot do without.
        if path.ends_with("/export") { path + "?format=csv" } else { path }
    }
}

struct Browser {
    http: Client,
    url: String,
    cookie: String,
}

impl Browser {
    fn new(service: &Service) -> Self {
        let http = sender::http_without_redirects();
        let port = service.console_url.rsplit(':').next().expect("a port");
        Self { http, url: service.console_url.clone(), cookie: format!("session-{port}") }
    }

    async fn ask(&self, route: &Route, path: &str, visitor: Visitor, site: &str) -> (StatusCode, Option<String>) {
        let method: Method = route.method.to_uppercase().parse().expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.url)).header("Sec-Fetch-Site", site);
        if visitor.has_session() {
            request = request.header(COOKIE, format!("{}={}", self.cookie, visitor.proof()));
        } else if visitor.has_token() {
            request = request.header(AUTHORIZATION, format!("Bearer {}", visitor.proof()));
        }
        // Nothing that any handler takes.
        if !is_read(route) && is_api(route) {
            request = request.header(CONTENT_TYPE, "application/json").body("{\"nonsense\": 1}");
        } else if !is_read(route) {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body("nonsense=1");
        }
        let response = request.send().await.expect("an answer");
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok()).map(str::to_owned);
        (response.status(), location)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_gets_what_the_route_says_and_no_more() {
    let context = Context::new().await;
    let service = context.serve().await;
    let browser = Browser::new(&service);
    let mut world = World::new(&context).await;
    let mut wrong = Vec::new();
    for route in ROUTES {
        for visitor in VISITORS {
            let expected = expected(route, visitor);
            let (status, location) = browser.ask(route, &world.path(route), visitor, "same-origin").await;
            let is_to = |page: &str| location.as_deref().is_some_and(|location| location.starts_with(page));
            let has_other_ids = world.path(route).contains(&Uuid::from_u128(0xdead).to_string());
            let is_right = match expected {
                Expected::Status(expected) => status == expected,
                Expected::SignIn => status == 303 && is_to("/sign-in?next="),
                Expected::Passes if is_read(route) && !has_other_ids => status.as_u16() < 400 && !is_to("/confirm"),
                // What it does with nonsense is its own matter.
                Expected::Passes => {
                    status.as_u16() < 500 && !matches!(status.as_u16(), 401 | 403 | 405) && !is_to("/confirm")
                }
            };
            if !is_right {
                let asked = format!("{visitor:?}: {} {}", route.method, route.path);
                wrong.push(format!("{asked}: {status} {location:?}, but {expected:?} was expected"));
            }
            if expected == Expected::Passes && !is_read(route) {
                world.make().await;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", service.log());
}

/// The matrix takes each route by its word; this is what the words must be.
/// Routes are found by the decoded path. What may be done must be judged by the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_spelled_otherwise_is_no_way_around() {
    let context = Context::new().await;
    let service = context.serve().await;
    let browser = Browser::new(&service);
    let world = World::new(&context).await;
    let spelled = |path: &str, n: usize| -> String {
        let segment = |(at, segment): (usize, &str)| match segment.chars().next().filter(|_| at == n) {
            Some(first) => format!("%{:02X}{}", u32::from(first), &segment[first.len_utf8()..]),
            None => segment.to_owned(),
        };
        path.split('/').enumerate().map(segment).collect::<Vec<_>>().join("/")
    };
    let mut wrong = Vec::new();
    for route in ROUTES.iter().filter(|route| route.access != Access::Public) {
        let path = world.path(route);
        for n in 1..path.split('/').count() {
            let (status, location) = browser.ask(route, &spelled(&path, n), Nobody, "same-origin").await;
            let is_right = match expected(route, Nobody) {
                Expected::Status(expected) => status == expected || status == 404,
                Expected::SignIn => status == 404 || location.is_some_and(|to| to.starts_with("/sign-in?next=")),
                Expected::Passes => false,
            };
            if !is_right {
                wrong.push(format!("{} {}: {status}", route.method, spelled(&path, n)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    service.terminate().await;
}

#[test]
fn what_changes_something_says_so() {
    // They read what is sent, and change nothing.
    let reads = ["/sources/{source}/doctor", "/api/v1/sources/{source}/judge-signature"];
    for route in ROUTES.iter().filter(|route| !is_read(route)) {
        let is_of_account = route.path.contains("{account}") || route.path.contains("{source}");
        let is_right = match route.access {
            Access::Change | Access::Operator => true,
            Access::View => reads.contains(&route.path),
            Access::SignedIn => {
                !is_of_account && ["/profile/", "/confirm"].iter().any(|own| route.path.starts_with(own))
            }
            Access::Public => ["/sign-in", "/sign-out", "/links/{token}"].contains(&route.path),
        };
        assert!(is_right, "{} {} is for {:?}", route.method, route.path, route.access);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_changes_nothing_and_tokens_need_no_site() {
    let context = Context::new().await;
    let service = context.serve().await;
    let browser = Browser::new(&service);
    let world = World::new(&context).await;
    let mut wrong = Vec::new();
    for route in ROUTES.iter().filter(|route| !is_read(route)) {
        let visitor = if is_api(route) { WriteTokenForAll } else { Operator };
        // Changes are refused, so the world stays; what a token changes is not there.
        if is_api(route) && !route.path.contains("{token}") {
            continue;
        }
        for site in ["cross-site", "same-site"] {
            let (status, _) = browser.ask(route, &world.path(route), visitor, site).await;
            let is_right = if is_api(route) { status != 403 } else { status == 403 };
            if !is_right {
                wrong.push(format!("{} {} from {site}: {status}", route.method, route.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
