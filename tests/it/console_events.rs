//! The console's pages and API of a source's events, as a browser without script and a program see them.

use nudgespot_source::sandbox::Fault;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use serde_json::{Value, json};

use crate::harness::{Context, Service, events, sender};

const MARKUP: &str = "<script>alert(1)</script>\"'&\u{202e}";

/// Somebody who is signed in, with or without script.
pub struct Visitor {
    http: reqwest::Client,
    url: String,
    cookie: String,
}

/// What was answered.
pub struct Answer {
    pub status: u16,
    pub location: String,
    pub body: String,
}

impl Visitor {
    /// An operator.
    pub async fn operator(context: &Context, service: &Service) -> Self {
        let link = context.run(&["operator", "invite", "--email", "op@example.com"]).await["link"].clone();
        let path = link.as_str().and_then(|link| Some(&link[link.find("/links/")?..])).expect("a link").to_owned();
        let mut visitor =
            Self { http: sender::http_without_redirects(), url: service.console_url.clone(), cookie: String::new() };
        let body = Some("password=correct+horse+battery".to_owned());
        let request = visitor.request(Method::POST, &path, body);
        let response = request.send().await.expect("an answer");
        let cookie = response.headers().get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok()).expect("a session");
        cookie.split(';').next().unwrap_or_default().clone_into(&mut visitor.cookie);
        visitor
    }

    fn request(&self, method: Method, path: &str, body: Option<String>) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url)).header("Sec-Fetch-Site", "same-origin");
        let request = request.header(COOKIE, &self.cookie);
        match body {
            Some(body) => request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path, None)).await
    }

    async fn fragment(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path, None).header("X-Fragment", "1")).await
    }

    async fn post(&self, path: &str) -> Answer {
        self.send(path, "").await
    }

    /// Sends a form.
    pub async fn send(&self, path: &str, form: &str) -> Answer {
        Answer::of(self.request(Method::POST, path, Some(form.to_owned()))).await
    }
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.unwrap_or_default().to_owned();
        Self { status: response.status().as_u16(), location, body: response.text().await.expect("text") }
    }

    /// The text between two marks, as a browser reads it.
    pub fn between(&self, before: &str, after: &str) -> String {
        let rest = self.body.split_once(before).unwrap_or_else(|| panic!("no {before}: {}", self.body)).1;
        rest.split_once(after).expect("an end").0.replace("&#38;", "&").replace("&amp;", "&")
    }

    pub fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_what_came_and_a_journey_what_became_of_it() {
    let context = Context::new().await;
    let service = context.serve().await;
    let acme = context.source("acme").await;
    let visitor = Visitor::operator(&context, &service).await;
    let list = format!("/sources/{}/events", acme.id);
    let empty = visitor.get(&list).await;
    assert!(empty.status == 200 && empty.has("Nothing yet."), "{}", empty.body);

    acme.accept(&service, &events(0..120)).await;
    let id = format!("a/b?c&d {MARKUP}");
    let strange = json!({"id": id, "event": "clicked", "uid": MARKUP, "email_subject": MARKUP.repeat(400),
        "link_url": "javascript:alert(1)"});
    acme.accept(&service, &json!([strange])).await;
    acme.post(&service, &json!([{"event": MARKUP, "uid": "u"}, {"event": "opened"}])).await;
    context.source_is("acme", |shown| shown["delivered"] == 121).await;
    let first = visitor.get(&list).await;
    assert!(first.has("rel=\"next\">Older") && first.has("ignored") && first.has("rejected") && first.has("delivered"));
    assert!(!first.has("<script>alert") && !first.has("\u{202e}") && first.body.len() < 60_000, "{}", first.body);
    let path = first.between("class=\"cover\" href=\"", "\"");
    assert!(visitor.get(&path).await.has("Not forwarded"), "{path}");

    // What is new since then, and nothing when nothing is.
    let live = first.between("data-live=\"", "\"");
    assert_eq!(visitor.fragment(&live).await.status, 204);
    acme.accept(&service, &events(200..202)).await;
    let new = visitor.fragment(&live).await;
    assert_eq!((new.status, new.body.matches("<tr").count()), (200, 2), "{}", new.body);
    assert!(new.body.trim_start().starts_with("<tbody"));
    assert_eq!(visitor.fragment(&new.between("data-live=\"", "\"")).await.status, 204);

    // By page, and by filter.
    let mut next = Some(list.clone());
    let mut n_rows = 0;
    while let Some(path) = next {
        let page = visitor.get(&path).await;
        n_rows += page.body.matches("class=\"linked\"").count();
        let before = page.body.split_once("\" rel=\"next\"").map(|(before, _)| before);
        let link = before.and_then(|before| before.rsplit("href=\"").next());
        next = link.map(|link| link.replace("&amp;", "&").replace("&#38;", "&"));
    }
    assert_eq!(n_rows, 125);
    let filtered = visitor.get(&format!("{list}?recipient=U7&state=delivered&kind=opened")).await;
    assert_eq!(filtered.body.matches("class=\"linked\"").count(), 1);
    assert!(filtered.has("value=\"U7\"") && filtered.has("value=\"delivered\" selected"));
    assert!(visitor.get(&format!("{list}?recipient=nobody")).await.has("Nothing matches"));
    assert!(visitor.get(&format!("{list}?state=gave+up")).await.status == 422);
    assert!(visitor.get(&format!("{list}?since=now")).await.status == 422);
    assert_eq!(visitor.get(&format!("{list}?cursor=x")).await.status, 400);
    assert_eq!(visitor.get(&format!("{list}?recipient=%00")).await.status, 400);

    // By id, whatever the id.
    let mut query = reqwest::Url::parse("http://host/").expect("a URL");
    query.query_pairs_mut().append_pair("event_id", &id);
    let found = visitor.get(&format!("{list}?{}", query.query().unwrap_or_default())).await;
    assert_eq!(found.status, 303);
    let journey = visitor.get(&found.location).await;
    assert!(journey.status == 200 && journey.has("accepted, 200 ") && journey.has("Segment&#39;s API has accepted it"));
    assert!(!journey.has("<script>alert") && !journey.has("href=\"javascript") && !journey.has("\u{202e}"));
    assert_eq!(visitor.get(&format!("{list}/nope")).await.status, 404);
    assert_eq!(visitor.get("/sources/00000000-0000-0000-0000-000000000000/events").await.status, 404);

    // Each look of an operator's is written down.
    let log = visitor.get("/operator/audit").await;
    assert!(log.has("Looked at events as operator"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_says_how_it_is_and_the_status_address_too() {
    let context = Context::new().await;
    let service = context.serve().await;
    let acme = context.source("acme").await;
    let visitor = Visitor::operator(&context, &service).await;
    let path = format!("/sources/{}", acme.id);
    let empty = visitor.get(&path).await;
    assert!(empty.has("<title>Not set up · ") && empty.has("No webhook has come yet."), "{}", empty.body);
    let settings = visitor.get(&format!("{path}/settings")).await;
    let status = settings.between("id=\"status-address\">", "<");
    let status = status.find("/status/").map(|at| status[at..].to_owned()).expect("an address");
    let nobody = Visitor { cookie: String::new(), http: sender::http_without_redirects(), url: visitor.url.clone() };
    assert_eq!(nobody.get(&status).await.status, 503);

    acme.accept(&service, &events(0..7)).await;
    assert_eq!(acme.post(&service, &events(0..2)).await.body["duplicates"], 2);
    context.source_is("acme", |shown| shown["delivered"] == 7).await;
    let shown = visitor.get(&format!("{path}?range=1h")).await;
    assert!(shown.has("<title>Delivering · ") && shown.has("7 today; none waiting."), "{}", shown.body);
    assert!(shown.has("<span class=\"figure \">9</span> received") && shown.has("</span> duplicates"));
    assert!(shown.has("<svg viewBox") && shown.has("Show as table") && !shown.has("style="));
    let live = shown.between("data-live=\"", "\"");
    assert!(matches!(visitor.fragment(&live).await.status, 200 | 204));
    let past = shown.body.split("data-live=\"").nth(2).and_then(|rest| rest.split('"').next()).expect("a second part");
    assert!(matches!(visitor.fragment(&past.replace("&amp;", "&")).await.status, 200 | 204));
    let well = nobody.get(&status).await;
    assert!(well.status == 200 && well.body.starts_with("Delivering: Last event "), "{}", well.body);
    assert_eq!(Answer::of(nobody.request(Method::HEAD, &status, None)).await.status, 200);

    context.segment.faults.always(&acme.write_key, Some(Fault::Status(401, None)));
    acme.accept(&service, &events(10..13)).await;
    context.source_is("acme", |shown| !shown["paused_reason"].is_null()).await;
    let paused = visitor.get(&path).await;
    assert!(paused.has("<title>Paused · ") && paused.has("3 events wait; nothing is lost.") && paused.has("Resume"));
    let ill = nobody.get(&status).await;
    assert!(ill.status == 503 && ill.body.starts_with("Paused: Delivery is paused since "), "{}", ill.body);
    assert_eq!(visitor.post(&format!("{path}/rotate-status-address")).await.status, 303);
    assert_eq!(nobody.get(&status).await.status, 404);
    assert_eq!(nobody.post(&format!("{path}/rotate-status-address")).await.status, 401);
    assert_eq!(visitor.post(&format!("{path}/acknowledge-quiet")).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_what_the_pages_show() {
    let context = Context::new().await;
    let service = context.serve().await;
    let acme = context.source("acme").await;
    acme.accept(&service, &events(0..5)).await;
    acme.post(&service, &json!([{"event": "sent", "uid": "u1"}])).await;
    context.source_is("acme", |shown| shown["delivered"] == 5).await;
    let token =
        context.run(&["token", "create", "--name", "t", "--account", "acme", "--read-only"]).await["token"].clone();
    let bearer = format!("Bearer {}", token.as_str().expect("a token"));
    let get = async |path: &str| {
        let url = format!("{}/api/v1/sources/{}{path}", service.console_url, acme.id);
        let response = sender::http().get(url).header(AUTHORIZATION, &bearer).send().await.expect("an answer");
        let (status, body) = (response.status().as_u16(), response.text().await.expect("text"));
        (status, serde_json::from_str::<Value>(&body).unwrap_or(Value::String(body)))
    };
    let (status, page) = get("/events?limit=4").await;
    assert_eq!((status, page["data"].as_array().map(Vec::len), &page["is_complete"]), (200, Some(4), &json!(false)));
    assert_eq!((&page["data"][0]["state"], &page["data"][1]["event_id"]), (&json!("ignored"), &json!("e4")));
    let cursor = page["next_cursor"].as_str().expect("a cursor");
    let (_, rest) = get(&format!("/events?limit=4&cursor={cursor}")).await;
    assert_eq!((rest["data"].as_array().map(Vec::len), &rest["next_cursor"]), (Some(2), &Value::Null));
    assert_eq!(get("/events?recipient=U1&state=delivered").await.1["data"].as_array().map(Vec::len), Some(1));
    for wrong in ["?kind=x", "?state=x", "?since=x", "?cursor=x", "?limit=0", "?limit=x", "?recipient=%00"] {
        assert_eq!(get(&format!("/events{wrong}")).await.0, 400, "{wrong}");
    }
    let (status, journey) = get("/events/e1").await;
    assert_eq!((status, &journey["steps"][1]["status"], &journey["track"]["userId"]), (200, &json!(200), &json!("u1")));
    assert_eq!(get("/events/e9").await.0, 404);
    let (status, overview) = get("/overview").await;
    assert_eq!((status, &overview["received"], &overview["ignored"]), (200, &json!(6), &json!(1)));
    assert_eq!((&overview["state"], &overview["delivered"]), (&json!("Delivering"), &json!(5)));
    let (status, traffic) = get("/traffic?range=7d").await;
    let buckets = traffic["data"].as_array().expect("parts");
    assert_eq!((status, buckets.len()), (200, 168));
    assert_eq!(buckets.iter().filter_map(|bucket| bucket["by_kind"]["opened"].as_i64()).sum::<i64>(), 5);
    assert_eq!(get("/traffic?range=1y").await.0, 400);
    let (status, csv) = get("/export?format=csv&state=delivered").await;
    assert_eq!((status, csv.as_str().map(|csv| csv.lines().count())), (200, Some(6)), "{csv}");
    let (status, ndjson) = get("/export?format=ndjson").await;
    assert_eq!((status, ndjson.as_str().map(|text| text.lines().count())), (200, Some(6)), "{ndjson}");
    assert_eq!(get("/export?format=xls").await.0, 400);
    let audit = format!(
        "{}/api/v1/accounts/{}/audit",
        service.console_url,
        context.show("acme").await["account_id"].as_str().expect("an id")
    );
    let audit = sender::http().get(audit).header(AUTHORIZATION, &bearer).send().await.expect("an answer");
    let audit: Value = serde_json::from_str(&audit.text().await.expect("text")).expect("JSON");
    let exports = audit["data"].as_array().expect("entries").iter().filter(|entry| entry["action"] == "events.export");
    assert_eq!(exports.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_list_says_where_it_left_something_out() {
    let context = Context::new().await;
    let service = context.serve().await;
    let acme = context.source("acme").await;
    let visitor = Visitor::operator(&context, &service).await;
    let list = format!("/sources/{}/events", acme.id);
    let live = visitor.get(&list).await.between("data-live=\"", "\"");
    acme.accept(&service, &events(0..99)).await;
    let new = visitor.fragment(&live).await;
    assert!(new.body.matches("class=\"linked\"").count() == 99 && !new.has("Load the list anew"), "{}", new.body);
    acme.accept(&service, &events(100..105)).await;
    let new = visitor.fragment(&live).await;
    assert_eq!(new.body.matches("class=\"linked\"").count(), 100);
    assert!(new.has(&format!("<a href=\"{list}?\">Load the list anew</a>")), "{}", new.body);
}
