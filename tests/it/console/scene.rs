//! A console that is full: of everything, something; and of what strangers may write, the worst.

use nudgespot_source::sandbox::Fault;
use nudgespot_source::sources::signature::SigningScheme;
use nudgespot_source::web::console::{Access, ROUTES, Route};
use serde_json::{Value, json};

use crate::harness::{Context, Service, Source, sender, until};

/// What becomes a script where somebody forgets to escape it. No `/`: names have none.
pub const MARKUP: &str = r#""><img src=x onerror=hit()><script>hit()<'`{{7*7}}&lt;"#;
/// Turns the direction of writing, gives orders to a terminal.
const HIDDEN: &str = "\u{202e}gnp\u{2066}.exe\u{7}\u{1b}[31m\u{85}\u{2028}";

/// Pages that say other things of a source that is empty, or paused.
const DIFFER: [&str; 7] =
    ["{source}", "{source}/events", "/problems", "/set-up", "/settings", "/rotate-secret", "/doctor"];

/// What there is to look at.
pub struct Scene {
    pub account: String,
    /// Has of everything something.
    pub full: Source,
    /// Has nothing.
    pub empty: String,
    /// Is paused, with an event that waits.
    pub paused: Source,
    /// Takes calls, and has of everything something.
    pub calls: Value,
    /// Takes calls, and has nothing.
    pub empty_calls: String,
    person: String,
    operator: String,
    token: String,
    token_for_all: String,
    replay: String,
    erasure: String,
    status_token: String,
    /// Opens the whole API.
    pub write_token: String,
}

/// A word without an end.
pub fn long_word() -> String {
    "W".repeat(10_000)
}

impl Scene {
    /// Fills the console.
    pub async fn set(context: &Context, service: &Service) -> Self {
        let (account_name, long_name) = (format!("Acme {MARKUP}"), "N".repeat(100));
        let mut full = context.create(&account_name, &["--write-key", "key-of-full"]).await;
        "key-of-full".clone_into(&mut full.write_key);
        let account =
            context.run(&["source", "show", &full.id]).await["account_id"].as_str().expect("an id").to_owned();
        let add = async |more: &[&str]| context.run(&[&["source", "add", &account], more].concat()).await;
        let paused = add(&["--kind", "nudgespot", "--name", &long_name, "--write-key", "key-of-paused"]).await;
        let paused = Source::new("paused", &paused);
        let empty = add(&["--kind", "resend", "--name", MARKUP]).await;
        context.run(&["account", "invite", &account, "--email", "viewer@example.com", "--viewer"]).await;
        context.run(&["operator", "invite", "--email", &format!("{}@example.com", "o".repeat(200))]).await;
        let calls = add(&["--kind", "segment", "--name", "calls", "--nudgespot-key", "rest-key-of-calls"]).await;
        let empty_calls = add(&["--kind", "segment", "--name", &format!("S{MARKUP}")]).await;
        let token = context.run(&["token", "create", "--name", MARKUP, "--account", &account]).await;
        let token_for_all = context.run(&["token", "create", "--name", &long_name]).await;
        let id = async |sql: &'static str| sqlx::query_scalar::<_, String>(sql).fetch_one(&context.pool).await;
        let text = |value: &Value, field: &str| value[field].as_str().expect("text").to_owned();
        let mut scene = Self {
            account,
            empty: text(&empty, "source_id"),
            paused,
            calls,
            empty_calls: text(&empty_calls, "source_id"),
            person: id("select id::text from person where email like 'viewer%'").await.expect("a person"),
            operator: id("select id::text from person where email like 'ooo%'").await.expect("an operator"),
            token: text(&token, "token_id"),
            token_for_all: text(&token_for_all, "token_id"),
            status_token: id("select status_token from source limit 1").await.expect("a token"),
            write_token: text(&context.run(&["token", "create", "--name", "all"]).await, "token"),
            replay: String::new(),
            erasure: String::new(),
            full,
        };
        scene.fill(context, service).await;
        scene
    }

    async fn fill(&mut self, context: &Context, service: &Service) {
        let full = &self.full;
        let n = |n: usize| format!("e{n}");
        full.accept(service, &json!([{"id": n(1), "event": "opened", "uid": "u1", "email": "u1@example.com"}])).await;
        full.accept(service, &json!([hostile(&format!("{MARKUP}{HIDDEN}"), &n(2))])).await;
        full.accept(service, &json!([hostile(&long_word(), &n(3))])).await;
        full.accept(service, &json!([hostile("short", &format!("{MARKUP}{HIDDEN}/../%2e?#"))])).await;
        context.messages(4).await;
        // Kept, but not forwarded.
        let unknown = |event: String| json!({"id": event, "event": event, "uid": "u9"});
        let kept = json!([unknown(MARKUP.to_owned()), unknown(HIDDEN.to_owned()), unknown("Q".repeat(200)), {"event": "opened"}, MARKUP]);
        assert_eq!(full.post(service, &kept).await.status, 200);
        // Given up.
        context.segment.faults.plan(&full.write_key, [Fault::Status(400, None)]);
        full.accept(service, &json!([{"id": "dead", "event": "opened", "uid": MARKUP, "email": "dead@example.com"}]))
            .await;
        context.source_is(&full.id, |shown| shown["dead_letters"] == 1).await;
        // Sent again, and given up again.
        context.segment.faults.always(&full.write_key, Some(Fault::Status(400, None)));
        let replay = self.ask(service, &format!("sources/{}/dead-letters/replay", full.id), &json!({})).await;
        let is_over = async || {
            let path = format!("sources/{}/replays/{}", full.id, replay["replay_id"].as_str().expect("an id"));
            self.read(service, &path).await["state"] == "done"
        };
        until(is_over).await;
        context.segment.faults.always(&full.write_key, None);
        // Erased.
        full.accept(service, &json!([{"id": "erased", "event": "opened", "email": "erased@example.com"}])).await;
        let erasure = json!({"email": "erased@example.com"});
        let erasure = self.ask(service, &format!("accounts/{}/erase", self.account), &erasure).await;
        // Refused: another secret, and all that such a request may hold.
        let body = hostile(&format!("{MARKUP}{HIDDEN}"), "refused").to_string();
        let mut headers = self.paused.sign(SigningScheme::Standard, &body);
        headers.push(("user-agent", format!("{MARKUP}{}", "U".repeat(5000))));
        headers.push(("cookie", "session=a-strangers-session".to_owned()));
        headers.push(("authorization", "Bearer a-strangers-token".to_owned()));
        assert_eq!(full.post_signed(service, &body, &headers).await.status, 401);
        // Waits.
        context.segment.faults.always(&self.paused.write_key, Some(Fault::Status(401, None)));
        self.paused.accept(service, &json!([{"id": "waits", "event": "clicked", "email": "waits@example.com"}])).await;
        context.source_is(&self.paused.id, |shown| !shown["paused_reason"].is_null()).await;
        self.fill_calls(context, service).await;
        let id = |of: &Value, field: &str| of[field].as_str().unwrap_or_else(|| panic!("{of}")).to_owned();
        (self.replay, self.erasure) = (id(&replay, "replay_id"), id(&erasure, "erasure_id"));
    }

    /// Posts calls to the source that takes them.
    pub async fn call(&self, service: &Service, calls: &Value) {
        let text = |field: &str| self.calls[field].as_str().expect("text").to_owned();
        let request = sender::http().post(format!("{}{}", service.url, text("webhook_path")));
        let request = request.basic_auth(text("ingest_key"), Some("")).body(calls.to_string());
        assert_eq!(request.send().await.expect("an answer").status().as_u16(), 200, "{calls}");
    }

    async fn fill_calls(&self, context: &Context, service: &Service) {
        let strange = format!("{MARKUP}{HIDDEN}");
        let identify = |user: &str, id: &str| {
            let traits = json!({"email": format!("{}@example.com", user.replace(['@', ' '], "")), "name": strange, "x": strange});
            json!({"type": "identify", "userId": user, "messageId": id, "traits": traits})
        };
        let track = |user: &str, id: &str, event: &str| json!({"type": "track", "userId": user, "messageId": id, "event": event, "properties": {"x": event}});
        self.call(service, &json!([identify("u1", "i1"), track("u1", "t1", "Signed Up")])).await;
        self.call(service, &json!([identify(&strange, "i2"), track(&strange, "t2", &strange)])).await;
        self.call(service, &json!([track("ghost", "held", &strange), track(&strange, "t3", &"W".repeat(2_000))])).await;
        let shown = async |is_so: &dyn Fn(&Value) -> bool| {
            context.source_is(self.calls["source_id"].as_str().expect("an id"), is_so).await;
        };
        shown(&|shown| shown["delivered"] == 5).await;
        context.segment.nudgespot_faults.plan("rest-key-of-calls", [Fault::Status(400, None)]);
        self.call(service, &track("u1", "dead", &strange)).await;
        shown(&|shown| shown["dead_letters"] == 1).await;
        let kept_out = json!([
            {"type": "page", "userId": strange}, {"type": strange}, {"type": "track", "userId": "u1"}, strange,
            {"type": "delete", "userId": "u7"}, {"type": "track", "event": strange, "userId": "u1", "integrations": {"All": false}},
            {"type": "track", "event": "W".repeat(500)},
        ]);
        self.call(service, &kept_out).await;
        // A request that is not authenticated.
        let path = self.calls["webhook_path"].as_str().expect("a path");
        let request = sender::http().post(format!("{}{path}", service.url)).header("x-signature", "00".repeat(20));
        assert_eq!(request.body(strange.clone()).send().await.expect("an answer").status().as_u16(), 401);
    }

    async fn ask(&self, service: &Service, path: &str, body: &Value) -> Value {
        let url = format!("{}/api/v1/{path}", service.console_url);
        let request =
            sender::http().post(url).bearer_auth(&self.write_token).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.expect("an answer").text().await.expect("text");
        serde_json::from_str(&answer).expect("JSON")
    }

    async fn read(&self, service: &Service, path: &str) -> Value {
        let url = format!("{}/api/v1/{path}", service.console_url);
        let request = sender::http().get(url).bearer_auth(&self.write_token);
        let answer = request.send().await.expect("an answer").text().await.expect("text");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// The pages that people see, each with all that its path may name: from the program's own table of routes, so that
    /// none is forgotten.
    pub fn pages(&self) -> Vec<String> {
        let is_page = |route: &&Route| {
            route.method == "get"
                && !["/api/", "/static/", "/status/"].iter().any(|other| route.path.starts_with(other))
        };
        let pages = ROUTES.iter().filter(is_page).filter(|route| route.access != Access::Public);
        pages.flat_map(|route| self.paths(route.path)).collect()
    }

    /// What the API can be asked for.
    pub fn api_reads(&self) -> Vec<String> {
        let is_read = |route: &&Route| route.method == "get" && route.path.starts_with("/api/");
        ROUTES.iter().filter(is_read).flat_map(|route| self.paths(route.path)).collect()
    }

    /// A route's path with ids in it.
    fn paths(&self, path: &str) -> Vec<String> {
        if path.ends_with("/export") {
            return Vec::new();
        }
        let is_of_operator =
            path.starts_with("/operator") || path.starts_with("/api/v1/operators") || path == "/api/v1/tokens/{token}";
        let place = |path: &str, source: &str, event: &str| {
            path.replace("{account}", &self.account)
                .replace("{source}", source)
                .replace("{event_id}", event)
                .replace("{person}", if is_of_operator { &self.operator } else { &self.person })
                .replace("{token}", if is_of_operator { &self.token_for_all } else { &self.token })
                .replace("{membership}", &self.account)
                .replace("{replay}", &self.replay)
                .replace("{erasure}", &self.erasure)
                // Of something that is over.
                .replace("{id}", "00000000-0000-0000-0000-000000000000")
        };
        let calls = self.calls["source_id"].as_str().expect("an id");
        let sources = [self.full.id.as_str(), &self.empty, &self.paused.id, calls, &self.empty_calls];
        let paths: Vec<String> = if path.contains("{event_id}") {
            let of_full = ["e1", "e2", "e3", "dead", "no such event"].map(encoded).into_iter();
            let strange = encoded(&format!("{MARKUP}{HIDDEN}/../%2e?#"));
            let mut paths: Vec<_> = of_full.chain([strange]).map(|event| place(path, sources[0], &event)).collect();
            paths.push(place(path, sources[2], "waits"));
            paths.extend(["i1", "t2", "t3", "held", "dead"].map(|event| place(path, calls, event)));
            paths
        } else if DIFFER.iter().any(|end| path.ends_with(end)) {
            sources.map(|source| place(path, source, "")).into()
        } else if path.contains("{source}") {
            vec![place(path, sources[0], "")]
        } else {
            vec![place(path, "", "")]
        };
        assert!(paths.iter().all(|path| !path.contains(['{', '}'])), "{path}: say here what it may name");
        paths
    }

    /// The address that tells a monitor how the full source is.
    pub fn status_path(&self) -> String {
        format!("/status/{}", self.status_token)
    }
}

/// An event that says this wherever a sender may say something, as far as an event may be long.
fn hostile(text: &str, id: &str) -> Value {
    let short: String = text.chars().take(400).collect();
    let email = format!("{}@example.com", short.replace(['@', ' '], ""));
    json!({
        "id": id, "event": "clicked", "timestamp": "2026-01-27T09:15:00Z",
        "subscriber": {"uid": short, "email": email, "first_name": short, "last_name": short},
        "properties": {
            "email_id": short, "email_subject": text, "campaign_id": short, "campaign_name": short, "link_id": short,
            "link_url": format!("javascript:hit()//{text}"), "ip": short, "user_agent": short, "reason": short,
            "list_name": short,
        },
    })
}

/// A text as one part of a path.
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
