//! The console's pages and API of people, tokens, the audit log and the profile, as a browser without script and a program
//! see them.

use std::sync::Mutex;

use nudgespot_source::admin::tokens::TokensOf;
use nudgespot_source::domain::email_address::EmailAddress;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE};
use serde_json::{Value, json};

use crate::harness::{Context, Service, sender, texts};

pub const PASSWORD: &str = "correct horse battery";
/// What a stranger may enter where a name is asked for.
pub const MARKUP: &str = "<script>alert(1)</script>\"'&";

/// A browser that runs no script.
pub struct Browser {
    http: reqwest::Client,
    url: String,
    cookie: Mutex<String>,
}

/// What it was answered.
pub struct Answer {
    pub status: u16,
    pub location: String,
    retry_after: Option<u64>,
    pub body: String,
}

impl Answer {
    /// The text between two marks.
    pub fn between(&self, before: &str, after: &str) -> &str {
        let rest = self.body.split_once(before).unwrap_or_else(|| panic!("no {before}: {}", self.body)).1;
        rest.split_once(after).expect("an end").0
    }
}

impl Browser {
    pub fn new(service: &Service) -> Self {
        let http = sender::http_without_redirects();
        Self { http, url: service.console_url.clone(), cookie: Mutex::default() }
    }

    /// Uses a one-time link.
    pub async fn join(service: &Service, link: &str, form: &[(&str, &str)]) -> Self {
        let browser = Self::new(service);
        let path = format!("/links/{}", link.rsplit('/').next().expect("a token"));
        assert_eq!(browser.get(&path).await.status, 200);
        let joined = browser.post(&path, form).await;
        assert_eq!((joined.status, joined.location.as_str()), (303, "/"), "{}", joined.body);
        browser
    }

    pub async fn sign_in(service: &Service, email: &str, password: &str) -> Self {
        let browser = Self::new(service);
        let answer = browser.post("/sign-in", &[("email", email), ("password", password)]).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        browser
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let mut url = reqwest::Url::parse("http://host/").expect("a URL");
        url.query_pairs_mut().extend_pairs(form);
        self.ask(Method::POST, path, Some(url.query().unwrap_or_default().to_owned())).await
    }

    /// Posts a form that leads to what is shown once, and looks at it.
    pub async fn shown_after(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let made = self.post(path, form).await;
        assert!(made.status == 303 && made.location.contains("/shown-once/"), "{} {}", made.status, made.body);
        self.get(&made.location).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request =
            self.http.request(method, format!("{}{path}", self.url)).header("Sec-Fetch-Site", "same-origin");
        request = request.header(COOKIE, self.cookie.lock().expect("whole").clone());
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        }
        let response = request.send().await.expect("an answer");
        if let Some(cookie) = response.headers().get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok())
            && cookie.starts_with("session-")
        {
            cookie.split(';').next().unwrap_or_default().clone_into(&mut self.cookie.lock().expect("whole"));
        }
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.unwrap_or_default().to_owned();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        Answer { status: response.status().as_u16(), location, retry_after, body: response.text().await.expect("text") }
    }
}

/// A service with an operator, who has a browser, and an account.
pub async fn start(context: &Context) -> (Service, Browser, String) {
    let service = context.serve().await;
    let account = context.run(&["account", "create", "--name", "acme"]).await["account_id"].clone();
    let link = context.run(&["operator", "invite", "--email", "root@example.com"]).await["link"].clone();
    let operator = Browser::join(&service, link.as_str().expect("a link"), &[("password", PASSWORD)]).await;
    (service, operator, account.as_str().expect("an id").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_invites_others_and_takes_the_account_away_again() {
    let context = Context::new().await;
    let (service, operator, account) = start(&context).await;
    let people = format!("/accounts/{account}/people");
    assert!(operator.get(&people).await.body.contains("Nobody yet"));
    let wrong = operator.post(&format!("/accounts/{account}/invite"), &[("email", MARKUP), ("role", "admin")]).await;
    assert!(wrong.status == 422 && wrong.body.contains("name@example.com") && !wrong.body.contains("<script>alert"));
    let invite = async |by: &Browser, email: &str, role: &str| {
        let made = by.shown_after(&format!("/accounts/{account}/invite"), &[("email", email), ("role", role)]).await;
        made.between("<code id=\"link\">", "</code>").to_owned()
    };
    let link = invite(&operator, "jane@example.com", "admin").await;
    let jane = Browser::join(&service, &link, &[("password", PASSWORD)]).await;
    assert_eq!(
        Browser::new(&service).get(&format!("/links/{}", link.rsplit('/').next().expect("a token"))).await.status,
        410
    );
    let refused =
        jane.post(&format!("/accounts/{account}/invite"), &[("email", "root@example.com"), ("role", "admin")]).await;
    assert!(refused.status == 422 && refused.body.contains("only an operator"), "{}", refused.body);
    let link = invite(&jane, "john@example.com", "viewer").await;
    let john = Browser::join(&service, &link, &[("password", PASSWORD)]).await;
    let listed = john.get(&people).await;
    assert!(
        listed.status == 200 && listed.body.contains("jane@example.com") && !listed.body.contains("Invite somebody")
    );
    assert_eq!(john.get(&format!("/accounts/{account}/invite")).await.status, 403);

    let admin = context.admin();
    let id = async |email: &str| {
        let found = admin.list_people(account.parse().expect("an id")).await.expect("people");
        found.iter().find(|person| person.email == email).map(|person| person.person_id.to_string())
    };
    let (jane_id, john_id) =
        (id("jane@example.com").await.expect("there"), id("john@example.com").await.expect("there"));
    let last = jane.post(&format!("{people}/{jane_id}/role"), &[("role", "viewer")]).await;
    assert!(last.status == 422 && last.body.contains("only admin"), "{}", last.body);
    let last = jane.post(&format!("{people}/{jane_id}/remove"), &[]).await;
    assert!(last.status == 422 && last.body.contains("only admin"), "{}", last.body);
    assert_eq!(
        jane.post(&format!("{people}/{john_id}/role"), &[("role", "admin")]).await.location,
        format!("{people}?notice=changed")
    );
    assert_eq!(john.get(&format!("/accounts/{account}/invite")).await.status, 200);

    // A forgotten password: a new link, which ends what sessions there are.
    let made = jane.shown_after(&format!("{people}/{john_id}/link"), &[]).await;
    let link = made.between("<code id=\"link\">", "</code>").to_owned();
    assert_eq!(john.get("/profile").await.status, 200);
    let again = Browser::join(&service, &link, &[("password", "another horse battery")]).await;
    assert_eq!(john.get("/profile").await.location.split('?').next(), Some("/sign-in"));
    assert_eq!(again.get("/profile").await.status, 200);

    assert_eq!(
        jane.post(&format!("{people}/{john_id}/remove"), &[]).await.location,
        format!("{people}?notice=removed")
    );
    assert_eq!(id("john@example.com").await, None);
    assert_eq!(again.get(&people).await.location.split('?').next(), Some("/sign-in"), "he is forgotten");

    // What is hard to undo asks for the password, and comes back.
    context.execute("update session set password_given_at = now() - interval '31 minutes'").await;
    let asked = jane.get(&format!("{people}/{jane_id}")).await;
    assert_eq!(asked.status, 303);
    assert!(asked.location.starts_with("/confirm?next="), "{}", asked.location);
    assert_eq!(jane.post(&format!("{people}/{jane_id}/link"), &[]).await.status, 303);
    let wrong = jane.post(&asked.location, &[("password", "wrong")]).await;
    assert!(wrong.status == 422, "{}", wrong.status);
    let given = jane.post(&asked.location, &[("password", PASSWORD)]).await;
    assert_eq!((given.status, given.location), (303, format!("{people}/{jane_id}")));
    assert_eq!(jane.get(&format!("{people}/{jane_id}")).await.status, 200);

    let log = jane.get(&format!("/accounts/{account}/audit")).await;
    for entry in [
        "Invited a person: <bdi>jane@example.com as admin",
        "Removed a person",
        "Changed a person",
        "Made a one-time link",
        "127.0.0.1",
    ] {
        assert!(log.body.contains(entry), "{entry}: {}", log.body);
    }
    assert_eq!(jane.get("/operator/audit").await.status, 403);
    let log = operator.get("/operator/audit").await;
    assert!(log.body.contains("Invited an operator") && log.body.contains("command line"), "{}", log.body);
    assert!(!log.body.contains(link.rsplit('/').next().expect("a token")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_changes_the_password_and_ends_sessions() {
    let context = Context::new().await;
    let (service, first, _) = start(&context).await;
    let second = Browser::sign_in(&service, "root@example.com", PASSWORD).await;
    let profile = first.get("/profile").await;
    assert_eq!(profile.body.matches("class=\"session\"").count(), 2, "{}", profile.body);
    let wrong = first.post("/profile/password", &[("current", "wrong"), ("new", "another horse battery")]).await;
    assert!(wrong.status == 422 && wrong.body.contains("not your current password"));
    let short = first.post("/profile/password", &[("current", PASSWORD), ("new", "short")]).await;
    assert!(short.status == 422 && short.body.contains("12 to 256 characters"));
    assert_eq!(second.get("/profile").await.status, 200);
    let new = "another horse battery";
    let changed = first.post("/profile/password", &[("current", PASSWORD), ("new", new)]).await;
    assert_eq!(changed.location, "/profile?notice=password-set");
    assert_eq!((first.get("/profile").await.status, second.get("/profile").await.status), (200, 303));

    let third = Browser::sign_in(&service, "root@example.com", new).await;
    let profile = first.get("/profile").await;
    let end = format!("/profile/sessions/{}", profile.between("action=\"/profile/sessions/", "\""));
    assert_eq!(first.post(&end, &[]).await.location, "/profile?notice=session-ended");
    assert_eq!(third.get("/profile").await.status, 303);
    let fourth = Browser::sign_in(&service, "root@example.com", new).await;
    let out = first.post("/profile/sign-out-everywhere", &[]).await;
    assert_eq!(out.location, "/sign-in?notice=signed-out-everywhere");
    assert_eq!((first.get("/profile").await.status, fourth.get("/profile").await.status), (303, 303));
    // A POST after a session's end says so.
    let late = fourth.post("/profile/password", &[("current", new), ("new", PASSWORD)]).await;
    assert!(late.status == 401 && late.body.contains("You were signed out; nothing was changed"), "{}", late.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_and_opens_the_api_until_it_is_revoked() {
    let context = Context::new().await;
    let (service, operator, account) = start(&context).await;
    let tokens = format!("/accounts/{account}/tokens");
    let form = |name| [("name", name), ("access", "write"), ("days", "30")];
    let made = operator.post(&format!("/accounts/{account}/new-token"), &form(MARKUP)).await;
    // A name holds no `/`.
    assert!(made.status == 422 && !made.body.contains("<script>alert"), "{}", made.body);
    let made = operator.post(&format!("/accounts/{account}/new-token"), &form("<b>\"'&")).await;
    assert!(made.status == 303 && !made.body.contains("nss_"), "{}", made.body);
    let other = Browser::join(
        &service,
        context.run(&["operator", "invite", "--email", "other@example.com"]).await["link"].as_str().expect("a link"),
        &[("password", PASSWORD)],
    )
    .await;
    let not_his = other.get(&made.location).await;
    assert!(not_his.body.contains("Shown already") && !not_his.body.contains("nss_"), "{}", not_his.body);
    let at = made.location.clone();
    let made = operator.get(&at).await;
    let again = operator.get(&at).await;
    assert!(again.status == 200 && again.body.contains("Shown already"), "{}", again.body);
    assert!(!again.body.contains("nss_"), "{}", again.body);
    let n_tokens: i64 = sqlx::query_scalar("select count(*) from api_token").fetch_one(&context.pool).await.expect("n");
    assert_eq!(n_tokens, 1, "looking makes none");
    let token = made.between("<code id=\"token\">", "</code>").to_owned();
    assert!(token.starts_with("nss_"));
    for path in [tokens.clone(), format!("/accounts/{account}/audit")] {
        let page = operator.get(&path).await;
        assert!(page.status == 200 && !page.body.contains(&token) && !page.body.contains("<b>"), "{}", page.body);
        assert!(page.body.contains("&#60;b&#62;") || page.body.contains("&lt;b&gt;"), "{}", page.body);
    }
    let ask = async |method: Method, path: &str, body: Option<Value>| {
        let mut request =
            sender::http().request(method, format!("{}/api/v1{path}", service.console_url)).bearer_auth(&token);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    };
    let (people, tokens_path) = (format!("/accounts/{account}/people"), format!("/accounts/{account}/tokens"));
    let (status, invited) = ask(Method::POST, &people, Some(json!({"email": "Jane@example.com"}))).await;
    assert_eq!((status, invited["link"].as_str().is_some()), (201, true), "{invited}");
    let (status, refused) = ask(Method::POST, &people, Some(json!({"email": "root@example.com"}))).await;
    assert_eq!(
        (status, &refused["code"]),
        (409, &json!("conflict")),
        "an account's token makes no link for an operator"
    );
    let (status, john) = ask(Method::POST, &people, Some(json!({"email": "john@example.com", "role": "viewer"}))).await;
    assert_eq!(status, 201);
    let (_, listed) = ask(Method::GET, &people, None).await;
    assert_eq!(texts(listed["data"].as_array().expect("people"), "/role"), ["admin", "viewer"]);
    let jane = format!("{people}/{}", invited["person_id"].as_str().expect("an id"));
    let john = format!("{people}/{}", john["person_id"].as_str().expect("an id"));
    assert_eq!(ask(Method::PATCH, &jane, Some(json!({"role": "viewer"}))).await.0, 409);
    assert_eq!(ask(Method::DELETE, &jane, None).await.0, 409);
    assert_eq!(ask(Method::PATCH, &john, Some(json!({"role": "admin"}))).await.1["role"], "admin");
    assert_eq!(ask(Method::PATCH, &john, Some(json!({"nonsense": 1}))).await.0, 422);
    assert_eq!(ask(Method::PATCH, &john, Some(json!({"role": "king"}))).await.0, 422);
    assert_eq!(ask(Method::DELETE, &jane, None).await.0, 204);
    assert_eq!(ask(Method::DELETE, &jane, None).await.0, 404);

    let (status, read) = ask(Method::POST, &tokens_path, Some(json!({"name": "read", "access": "read"}))).await;
    assert_eq!(status, 201);
    for wrong in [
        json!({"name": "x", "access": "all"}),
        json!({"name": ""}),
        json!({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}),
        json!({"name": "x", "expires_at": "soon"}),
        json!({"name": "x", "account": "y"}),
    ] {
        assert_eq!(ask(Method::POST, &tokens_path, Some(wrong.clone())).await.0, 422, "{wrong}");
    }
    let (_, listed) = ask(Method::GET, &tokens_path, None).await;
    assert_eq!(texts(listed["data"].as_array().expect("tokens"), "/access"), ["read", "write"]);
    assert!(!listed.to_string().contains("nss_"), "{listed}");
    let (_, log) = ask(Method::GET, &format!("/accounts/{account}/audit?limit=2"), None).await;
    assert_eq!(texts(log["data"].as_array().expect("entries"), "/action"), ["token.create", "person.remove"]);
    let cursor = log["next_cursor"].as_str().expect("more").to_owned();
    let (_, older) = ask(Method::GET, &format!("/accounts/{account}/audit?limit=2&cursor={cursor}"), None).await;
    assert_eq!(texts(older["data"].as_array().expect("entries"), "/action"), ["person.role", "person.invite"]);
    assert_eq!(texts(older["data"].as_array().expect("entries"), "/actor_kind"), ["token", "token"]);
    assert_eq!(ask(Method::GET, &format!("/accounts/{account}/audit?cursor=x"), None).await.0, 400);
    assert_eq!(ask(Method::GET, &format!("/accounts/{account}/audit?limit=0"), None).await.0, 400);
    for path in ["/operators", "/tokens", "/audit"] {
        assert_eq!(ask(Method::GET, path, None).await.0, 403, "{path}");
    }

    let read = format!("{tokens_path}/{}", read["token_id"].as_str().expect("an id"));
    assert_eq!((ask(Method::DELETE, &read, None).await.0, ask(Method::DELETE, &read, None).await.0), (204, 404));
    let own = context.admin().list_tokens(TokensOf::Everybody).await.expect("tokens")[0].token_id;
    assert_eq!(operator.get(&format!("{tokens}/{own}")).await.status, 200);
    assert_eq!(operator.get(&format!("/operator/tokens/{own}")).await.status, 404, "it is not for all accounts");
    assert_eq!(operator.post(&format!("/operator/tokens/{own}"), &[]).await.status, 404);
    assert_eq!(operator.post(&format!("{tokens}/{own}"), &[]).await.location, format!("{tokens}?notice=revoked"));
    assert_eq!(ask(Method::GET, &people, None).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_too_many_passwords_is_told_to_wait_and_nobody_learns_who_is_there() {
    let context = Context::new().await;
    let (service, _, _) = start(&context).await;
    let browser = Browser::new(&service);
    let attempt =
        async |email: &str| browser.post("/sign-in", &[("email", email), ("password", "a wrong guess")]).await;
    let (known, unknown) = (attempt("root@example.com").await, attempt("nobody@example.com").await);
    assert_eq!((known.status, unknown.status), (422, 422));
    let without_address = |answer: &Answer, email: &str| answer.body.replace(email, "");
    let told = |answer: &Answer| answer.between("role=\"alert\">", "<").to_owned();
    assert_eq!(told(&known), told(&unknown));
    assert!(without_address(&known, "root@example.com").contains("he address or the password is wrong"));
    let mut answers = Vec::new();
    for _ in 0..60 {
        answers.push(attempt("nobody@example.com").await);
    }
    let refused = answers.iter().find(|answer| answer.status == 429).expect("one too many");
    assert!(refused.retry_after.is_some_and(|seconds| seconds >= 1));
    assert!(told(refused).contains("Try again in"), "{}", refused.body);
    assert!(answers.iter().all(|answer| matches!(answer.status, 422 | 429)));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_managed_by_operators() {
    let context = Context::new().await;
    let (service, operator, _) = start(&context).await;
    let made = operator.shown_after("/operator/invite", &[("email", "jane@example.com")]).await;
    let link = made.between("<code id=\"link\">", "</code>").to_owned();
    let admin = context.admin();
    let jane = admin.find_operator(&EmailAddress::parse("jane@example.com").expect("an address")).await.expect("there");
    let root = admin.find_operator(&EmailAddress::parse("root@example.com").expect("an address")).await.expect("there");
    let last = operator.post(&format!("/operator/people/{root}/remove"), &[]).await;
    assert!(last.status == 422 && last.body.contains("only operator"), "nobody else has a password yet: {}", last.body);
    let browser = Browser::join(&service, &link, &[("password", PASSWORD)]).await;
    let page = browser.get(&format!("/operator/people/{root}")).await;
    assert!(page.status == 200 && page.body.contains("root@example.com"), "{}", page.body);
    assert_eq!(
        browser.post(&format!("/operator/people/{root}/remove"), &[]).await.location,
        "/operator?notice=removed"
    );
    assert_eq!(operator.get("/operator").await.location.split('?').next(), Some("/sign-in"));
    let again = browser.shown_after(&format!("/operator/people/{jane}/link"), &[]).await;
    assert!(again.body.contains("<code id=\"link\">"), "{}", again.body);
    let made = browser.shown_after("/operator/new-token", &[("name", "all"), ("access", "read"), ("days", "0")]).await;
    let token = made.between("<code id=\"token\">", "</code>").to_owned();
    let url = format!("{}/api/v1/operators", service.console_url);
    let listed =
        sender::http().get(&url).bearer_auth(&token).send().await.expect("an answer").text().await.expect("text");
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(texts(listed["data"].as_array().expect("operators"), "/email"), ["jane@example.com"]);
    let refused = sender::http().post(&url).bearer_auth(&token).body("{}").send().await.expect("an answer");
    assert_eq!(refused.status(), 403);
    assert!(browser.get("/operator/tokens").await.body.contains("for all accounts"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_belongs_to_an_account_can_leave_it_unless_nobody_would_administer_it() {
    let context = Context::new().await;
    let (service, operator, account) = start(&context).await;
    let other = context.run(&["account", "create", "--name", "other"]).await["account_id"].clone();
    let other = other.as_str().expect("an id").to_owned();
    let join = async |args: &[&str]| {
        let link = context.run(args).await["link"].clone();
        Browser::join(&service, link.as_str().expect("a link"), &[("password", PASSWORD)]).await
    };
    context.run(&["account", "invite", "other", "--email", "vera@example.com", "--viewer"]).await;
    let vera = join(&["account", "invite", "acme", "--email", "vera@example.com", "--viewer"]).await;
    let ann = join(&["account", "invite", "acme", "--email", "ann@example.com"]).await;
    let leave = format!("/profile/leave/{account}");
    assert!(vera.get("/profile").await.body.contains(&leave));
    let asked = vera.get(&leave).await;
    assert!(asked.status == 200 && asked.body.contains("Leave the account"), "{}", asked.body);
    assert!(!asked.body.contains("only account that you belong to"), "{}", asked.body);

    let last = ann.post(&leave, &[]).await;
    assert!(last.status == 422 && last.body.contains("only admin"), "{}", last.body);
    assert_eq!(ann.get(&format!("/accounts/{account}")).await.status, 200);
    // Not his, and an operator's only as far as he belongs to it.
    assert_eq!(ann.post(&format!("/profile/leave/{other}"), &[]).await.status, 404);
    assert_eq!(operator.post(&leave, &[]).await.status, 404);

    assert_eq!(vera.post(&leave, &[]).await.location, "/profile?notice=left");
    assert_eq!(vera.get(&format!("/accounts/{account}")).await.status, 404);
    let profile = vera.get("/profile").await;
    assert!(profile.status == 200 && !profile.body.contains(&leave), "{}", profile.body);
    // The last one that she belongs to.
    let leave_other = format!("/profile/leave/{other}");
    assert!(vera.get(&leave_other).await.body.contains("only account that you belong to"));
    assert_eq!(vera.post(&leave_other, &[]).await.location, "/sign-in?notice=left");
    assert_eq!(vera.get("/profile").await.location.split('?').next(), Some("/sign-in"));
    let gone: i64 = sqlx::query_scalar("select count(*) from person where email = 'vera@example.com'")
        .fetch_one(&context.pool)
        .await
        .expect("a number");
    assert_eq!(gone, 0);
    let log = ann.get(&format!("/accounts/{account}/audit")).await.body;
    assert!(log.contains("Left the account") && log.contains("vera@example.com, who was viewer"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_looks_at_an_account_are_recorded_once_an_hour() {
    let context = Context::new().await;
    let (service, operator, account) = start(&context).await;
    let source = context.run(&["source", "show", "acme"]).await["source_id"].as_str().expect("an id").to_owned();
    let link = context.run(&["account", "invite", "acme", "--email", "ann@example.com"]).await["link"].clone();
    let ann = Browser::join(&service, link.as_str().expect("a link"), &[("password", PASSWORD)]).await;
    let looks = async || -> Vec<(String, String, String)> {
        sqlx::query_as("select actor_name, action, detail from audit_entry where action like '%.look' order by id")
            .fetch_all(&context.pool)
            .await
            .expect("entries")
    };
    let named = async || looks().await.into_iter().map(|(who, what, _)| format!("{who} {what}")).collect::<Vec<_>>();
    for browser in [&ann, &operator, &operator] {
        for path in ["", "/settings", "/events", "/problems", "/events/x"] {
            browser.get(&format!("/sources/{source}{path}")).await;
        }
        browser.get(&format!("/accounts/{account}/people")).await;
    }
    assert_eq!(named().await, ["root@example.com account.look", "root@example.com events.look"]);
    assert_eq!(looks().await[0].2, "source nudgespot", "by the name of the source");
    // Somebody else's, another account's, and an hour later are others.
    let link = context.run(&["operator", "invite", "--email", "olga@example.com"]).await["link"].clone();
    let olga = Browser::join(&service, link.as_str().expect("a link"), &[("password", PASSWORD)]).await;
    olga.get(&format!("/accounts/{account}")).await;
    let other = context.run(&["account", "create", "--name", "other"]).await["account_id"].clone();
    operator.get(&format!("/accounts/{}", other.as_str().expect("an id"))).await;
    assert_eq!(named().await[2..], ["olga@example.com account.look", "root@example.com account.look"]);
    context.execute("update audit_entry set at = at - interval '61 minutes'").await;
    operator.get(&format!("/sources/{source}")).await;
    assert_eq!(named().await[4..], ["root@example.com account.look"]);
    assert!(ann.get(&format!("/accounts/{account}/audit")).await.body.contains("Looked at the account as operator"));
}
