//! The console's API, as a program sees it.

use nudgespot_source::domain::secret::SigningSecret;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::console_people::{Browser, PASSWORD, start};
use crate::harness::{Context, Service, Source, sender, texts, until};

/// A program with a token.
pub struct Api {
    url: String,
    token: String,
}

impl Api {
    /// One that may change all accounts.
    pub async fn of_operator(context: &Context, service: &Service) -> Self {
        Self::new(service, &context.run(&["token", "create", "--name", "all"]).await)
    }

    pub fn new(service: &Service, made: &Value) -> Self {
        let token = made["token"].as_str().expect("a token").to_owned();
        Self { url: format!("{}/api/v1", service.console_url), token }
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = sender::http().request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_read_page_by_page() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.source("acme").await;
    let account = context.show("acme").await["account_id"].as_str().expect("an id").to_owned();
    for n in 1..=4 {
        let (name, email) = (format!("n{n} é"), format!("p{n}@example.com"));
        context.run(&["source", "add", "acme", "--kind", "nudgespot", "--name", &name]).await;
        context.run(&["account", "invite", "acme", "--email", &email]).await;
        context.run(&["operator", "invite", "--email", &format!("o{email}")]).await;
        context.run(&["token", "create", "--account", "acme", "--name", &name]).await;
        context.run(&["account", "create", "--name", &format!("account {n}")]).await;
    }
    // Made at the same time, too.
    context
        .execute(&format!(
            "insert into replay_job (id, source_id, asked_by, created_at, ended_at, kinds, last_seq, n_total)
            select gen_random_uuid(), '{source}', 'a', timestamptz '2026-01-01' + n / 2 * interval '1 microsecond',
                now(), '{{}}', 0, 0 from generate_series(1, 5) as n;
            insert into erase_job (id, account_id, asked_by, created_at, ended_at, recipient)
            select gen_random_uuid(), '{account}', 'a', timestamptz '2026-01-01' + n / 2 * interval '1 microsecond',
                now(), 'x' from generate_series(1, 5) as n;
            update api_token set created_at = '2026-01-01' where account_id is not null",
            source = source.id
        ))
        .await;
    context.run(&["token", "create", "--name", "another"]).await;
    context.run(&["token", "create", "--name", "a third"]).await;
    let api = Api::of_operator(&context, &service).await;
    let (of_account, of_source) = (format!("/accounts/{account}"), format!("/sources/{}", source.id));
    for (path, id, n) in [
        ("/accounts".to_owned(), "/account_id", 5),
        (format!("{of_account}/sources"), "/source_id", 5),
        (format!("{of_account}/people"), "/person_id", 4),
        (format!("{of_account}/tokens"), "/token_id", 4),
        (format!("{of_account}/erasures"), "/erasure_id", 5),
        (format!("{of_source}/replays"), "/replay_id", 5),
        ("/operators".to_owned(), "/person_id", 4),
        ("/tokens".to_owned(), "/token_id", 3),
        (format!("{of_account}/audit"), "/at", 0),
        (format!("{of_source}/dead-letters"), "/event_id", 0),
        (format!("{of_source}/refused-webhooks"), "/received_at", 0),
    ] {
        let ids = |page: &Value| texts(page["data"].as_array().expect("a list"), id);
        let all = api.get(&path).await;
        assert_eq!((ids(&all).len().max(n), &all["next_cursor"]), (ids(&all).len(), &Value::Null), "{path}");
        let (mut read, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("{path}?limit=2{cursor}")).await;
            assert!(page["data"].as_array().expect("a list").len() <= 2, "{path}: {page}");
            read.extend(ids(&page));
            let Some(next) = page["next_cursor"].as_str() else { break };
            let mut url = reqwest::Url::parse("http://host/").expect("a URL");
            url.query_pairs_mut().append_pair("cursor", next);
            cursor = format!("&{}", url.query().expect("a query"));
        }
        assert_eq!(read, ids(&all), "{path}");
        for wrong in ["?limit=0", "?limit=101", "?cursor=", "?limit=x"] {
            let (status, problem) = api.ask(Method::GET, &format!("{path}{wrong}"), None).await;
            assert_eq!((status, &problem["status"]), (400, &json!(400)), "{path}{wrong}");
        }
    }
    let (status, _) = api.ask(Method::GET, &format!("{of_source}/replays?cursor=x.y"), None).await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_says_how_it_is_paged() {
    let context = Context::new().await;
    let service = context.serve().await;
    let document = Api::of_operator(&context, &service).await.get("/openapi.json").await;
    let mut n_lists = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        let answer = &item["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        if !answer.as_str().is_some_and(|name| name.contains("/Page_")) {
            continue;
        }
        n_lists += 1;
        let names = texts(item["get"]["parameters"].as_array().expect("parameters"), "/name");
        assert!(["limit", "cursor"].iter().all(|name| names.iter().any(|is| is == name)), "{path}: {names:?}");
    }
    assert!(n_lists >= 12, "{n_lists}");
}

#[tokio::test(flavor = "multi_thread")]
async fn segment_is_asked_about_a_write_key_by_token() {
    let context = Context::new().await;
    let service = context.serve().await;
    let api = Api::of_operator(&context, &service).await;
    let (known, none) = (context.source("acme").await, context.run(&["account", "create", "--name", "bare"]).await);
    let at = format!("/sources/{}/write-key-check", known.id);
    let ask = async |path: &str| api.ask(Method::POST, path, None).await;
    let (status, check) = ask(&at).await;
    assert_eq!((status, &check["verdict"]), (200, &json!("known")), "{check}");
    assert!(check["checked_at"].is_string() && api.get(&at).await == check, "{check}");
    context.run(&["source", "set", "acme", "--write-key", "unknown-to-segment"]).await;
    assert_eq!(ask(&at).await.1["verdict"], "unknown");
    let bare = format!("/sources/{}/write-key-check", none["source_id"].as_str().expect("an id"));
    assert_eq!(ask(&bare).await, (200, json!({"verdict": null, "checked_at": null})));
    let read = context.run(&["token", "create", "--name", "read", "--account", "acme", "--read-only"]).await;
    let read = Api::new(&service, &read);
    assert_eq!(read.get(&at).await["verdict"], "unknown");
    assert_eq!(read.ask(Method::POST, &at, None).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_grouped_by_reason_for_programs() {
    let context = Context::new().await;
    let service = context.serve().await;
    let api = Api::of_operator(&context, &service).await;
    let source = context.source("acme").await;
    context
        .execute(&format!(
            "insert into dead_letter (source_id, seq, kind, event_id, received_at, track, reason)
            select '{id}', n, 2, convert_to('e' || n, 'UTF8'), now(), '{{}}', case when n = 3 then 'expired' else 'no' end
            from generate_series(1, 3) as n;
            update log_head set head_seq = 3 where source_id = '{id}';
            update delivery set cursor_seq = 3, n_dead = 3 where source_id = '{id}'",
            id = source.id
        ))
        .await;
    let ignored = json!([{"id": "i1", "event": "enrolled", "uid": "u"}, {"id": "i2", "event": "enrolled", "uid": "u"}]);
    assert_eq!(source.post(&service, &ignored).await.body["ignored"], 2);
    let problems = api.get(&format!("/sources/{}/problems", source.id)).await;
    let gave_up = &problems["gave_up"];
    assert_eq!((&gave_up["total"], &gave_up["is_cut"]), (&json!(3), &json!(false)), "{problems}");
    let group = &gave_up["groups"][0];
    assert_eq!((&group["reason"], &group["count"], &group["example"]), (&json!("no"), &json!(2), &json!("e2")));
    assert!(group["first_at"].is_string() && group["last_at"].is_string());
    assert_eq!(gave_up["groups"][1]["reason"], "expired");
    assert_eq!(problems["rejected"], json!({"total": 0, "groups": [], "is_cut": false}));
    assert_eq!((&problems["ignored"]["total"], &problems["ignored"]["groups"][0]["count"]), (&json!(2), &json!(2)));
    assert_eq!(problems["ignored"]["groups"][0]["reason"], "enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_before_a_rotation_is_ended_early() {
    let context = Context::new().await;
    let (service, operator, account) = start(&context).await;
    let api = Api::of_operator(&context, &service).await;
    let source = context.source("acme-2").await;
    let rotate = async || {
        let (status, rotated) = api.ask(Method::POST, &format!("/sources/{}/rotate-secret", source.id), None).await;
        assert_eq!(status, 200, "{rotated}");
        let secret = SigningSecret::parse(rotated["signing_secret"].as_str().expect("a secret")).expect("a secret");
        Source { secret, ..source.clone() }
    };
    let body = json!([{"event": "opened", "uid": "u1"}]);
    let end = format!("/sources/{}/end-previous-secret", source.id);
    let ended = async || {
        let sql = "select count(*) from audit_entry where action = 'source.end_previous_secret'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&context.pool).await.expect("a number")
    };

    // Without a rotation there is nothing to end.
    assert_eq!(api.ask(Method::POST, &end, None).await.0, 204);
    assert!(operator.get(&end).await.body.contains("there is no previous one"));
    let first = rotate().await;
    assert_eq!((source.post(&service, &body).await.status, first.post(&service, &body).await.status), (200, 200));
    assert_eq!((api.ask(Method::POST, &end, None).await.0, ended().await), (204, 1));
    until(async || source.post(&service, &body).await.status == 401).await;
    assert_eq!(first.post(&service, &body).await.status, 200, "the current one stays");

    // On the page: before the new one was seen, it asks twice.
    let second = rotate().await;
    let settings = operator.get(&format!("/sources/{}/settings", source.id)).await.body;
    assert!(settings.contains("The previous secret works until") && settings.contains(&end), "{settings}");
    let asked = operator.get(&end).await.body;
    assert!(asked.contains("was not seen to sign") && asked.contains("all the same"), "{asked}");
    assert_eq!(operator.post(&end, &[]).await.location, end);
    assert_eq!((first.post(&service, &body).await.status, ended().await), (200, 1), "nothing has changed");
    assert_eq!(second.post(&service, &body).await.status, 200);
    until(async || operator.get(&end).await.body.contains("signed with the current secret")).await;
    assert!(!operator.get(&end).await.body.contains("all the same"));
    let done = operator.post(&end, &[]).await;
    assert_eq!(done.location, format!("/sources/{}/settings?notice=previous-secret-ended", source.id));
    until(async || first.post(&service, &body).await.status == 401).await;
    assert_eq!((second.post(&service, &body).await.status, ended().await), (200, 2));
    let settings = operator.get(&format!("/sources/{}/settings", source.id)).await.body;
    assert!(!settings.contains("The previous secret works until"), "{settings}");
    // A viewer of another account finds nothing there.
    let form = [("email", "vera@example.com"), ("role", "viewer")];
    let made = operator.shown_after(&format!("/accounts/{account}/invite"), &form).await;
    let vera = Browser::join(&service, made.between("<code id=\"link\">", "</code>"), &[("password", PASSWORD)]).await;
    assert_eq!(vera.post(&end, &[("sure", "yes")]).await.status, 404);
}
