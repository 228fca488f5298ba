//! The console's API, as a program sees it.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::harness::{Context, Service, sender, texts};

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
