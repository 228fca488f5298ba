//! No page, answer, log line or row of the database holds what proves something, in clear.

use nudgespot_source::domain::secret::SigningSecret;
use nudgespot_source::sources::signature::SigningScheme;
use reqwest::header::{COOKIE, SET_COOKIE};

use super::scene::Scene;
use super::stage::PASSWORD;
use crate::harness::{Context, Service, Source, events, sender};

/// What a stranger sends along that is none of our business.
const STRANGERS: [&str; 3] = ["a-strangers-session", "a-strangers-token", "a-strangers-search"];

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_anywhere_in_clear() {
    let context = Context::new().await;
    let service = context.serve().await;
    let scene = Scene::set(&context, &service).await;
    let mut secrets: Vec<String> = STRANGERS.map(str::to_owned).into();
    secrets.extend([
        PASSWORD.to_owned(),
        scene.write_token.clone(),
        "key-of-full".to_owned(),
        "key-of-paused".to_owned(),
    ]);
    secrets.push("rest-key-of-calls".to_owned());
    for field in ["shared_secret", "ingest_key"] {
        secrets.push(scene.calls[field].as_str().expect("a secret").to_owned());
    }
    secrets.extend([&scene.full, &scene.paused].map(|source| source.secret.expose().to_owned()));
    // A secret that was replaced, and one that replaced it.
    let rotated = context.run(&["source", "rotate-secret", &scene.paused.id]).await;
    let secret = rotated["signing_secret"].as_str().expect("a secret").to_owned();
    let now_signs = Source { secret: SigningSecret::parse(&secret).expect("a secret"), ..scene.paused.clone() };
    now_signs.accept(&service, &events(1..=1)).await;
    secrets.push(secret);
    // A signature that would count for another body.
    let body = events(2..=2).to_string();
    let right = now_signs.sign(SigningScheme::Standard, &body);
    secrets.extend(right.iter().filter_map(|(_, value)| value.strip_prefix("v1,")).map(str::to_owned));
    assert_eq!(scene.full.post_signed(&service, "[]", &right).await.status, 401);
    // People's.
    let link = context.run(&["account", "invite", &scene.account, "--email", "ann@example.com"]).await;
    let unused = context.run(&["operator", "invite", "--email", "olaf@example.com"]).await;
    let operator = context.run(&["operator", "invite", "--email", "olga@example.com"]).await;
    let mut cookies = Vec::new();
    for link in [&link, &operator] {
        cookies.push(enter(&service, token_of(link["link"].as_str().expect("a link"))).await);
    }
    secrets.extend([&link, &unused, &operator].map(|link| token_of(link["link"].as_str().expect("a link")).to_owned()));
    secrets.extend(cookies.iter().map(|cookie| cookie.split_once('=').expect("a value").1.to_owned()));
    let made = context.run(&["token", "create", "--name", "another"]).await;
    secrets.push(made["token"].as_str().expect("a token").to_owned());

    let mut seen = Vec::new();
    for path in scene.pages() {
        for cookie in &cookies {
            seen.push((path.clone(), get(&service, &path, &[(COOKIE.as_str(), cookie)]).await));
        }
    }
    let search = format!("/sources/{}/events?recipient={}", scene.full.id, STRANGERS[2]);
    assert!(get(&service, &search, &[(COOKIE.as_str(), &cookies[0])]).await.contains("Nothing matches"));
    let bearer = format!("Bearer {}", scene.write_token);
    for path in scene.api_reads() {
        seen.push((path.clone(), get(&service, &path, &[("authorization", &bearer)]).await));
    }
    assert!(seen.iter().filter(|(_, text)| text.contains("Acme")).count() > 20, "the pages were there");
    seen.push(("status".to_owned(), get(&service, &scene.status_path(), &[]).await));
    seen.push((
        "metrics".to_owned(),
        sender::http().get(&service.metrics_url).send().await.expect("an answer").text().await.expect("text"),
    ));
    seen.push(("the log".to_owned(), service.log()));
    let first_link = service.first_operator_link().await;
    seen.push(("stdout".to_owned(), service.printed().replace(&first_link, "")));
    secrets.push(token_of(&first_link).to_owned());
    seen.extend(dump(&context).await);
    let mut found = Vec::new();
    for (place, text) in &seen {
        for secret in &secrets {
            let in_hex = hex::encode(secret);
            let is_there = text.contains(secret) || text.contains(&in_hex);
            // A code of the secret's text as it stands in JSON or HTML.
            let escaped = secret.replace('+', "&#43;").replace('/', "&#x2f;");
            if is_there || text.contains(&escaped) {
                found.push(format!("{secret} in {place}"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    // What is looked through can find something.
    assert!(seen.iter().any(|(place, text)| place == "account" && text.contains("Acme")));
    assert!(
        seen.iter().any(|(place, text)| place == "refused_webhook" && text.contains("webhook-id")),
        "headers are kept"
    );
}

fn token_of(link: &str) -> &str {
    link.rsplit('/').next().expect("a token")
}

/// Uses a one-time link, and returns the session's cookie.
async fn enter(service: &Service, token: &str) -> String {
    let request = sender::http_without_redirects().post(format!("{}/links/{token}", service.console_url));
    let form = format!("password={}", PASSWORD.replace(' ', "+"));
    let request =
        request.header("sec-fetch-site", "same-origin").header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(form).send().await.expect("an answer");
    let cookie = answer.headers().get(SET_COOKIE).expect("a cookie").to_str().expect("text");
    cookie.split(';').next().expect("a cookie").to_owned()
}

async fn get(service: &Service, path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = sender::http_without_redirects().get(format!("{}{path}", service.console_url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().as_u16() < 500, "{path}");
    answer.text().await.expect("text")
}

/// All rows of all tables, as text: bytes in hex, as `pg_dump` writes them.
async fn dump(context: &Context) -> Vec<(String, String)> {
    let tables = "select tablename::text from pg_tables where schemaname = 'public' order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&context.pool).await.expect("tables");
    let mut dumped = Vec::new();
    for table in tables {
        let rows = sqlx::AssertSqlSafe(format!("select t::text from {table} t"));
        let rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(&context.pool).await.expect("rows");
        dumped.push((table, rows.join("\n")));
    }
    dumped
}
