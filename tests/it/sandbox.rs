//! Contract, section 5: the stand-in for Segment, as the real binary.

use std::process::Stdio;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::harness::{PATIENCE, sender};

pub struct StandIn {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    first_line: String,
    pub url: String,
}

impl StandIn {
    pub async fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nudgespot-source"))
            .args([&["sandbox", "--bind", "127.0.0.1:0"], args].concat())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut first_line = String::new();
        while !first_line.contains("http") {
            stdout.read_line(&mut first_line).await.expect("UTF-8");
        }
        let url = first_line.split(['"', ' ', ';']).find(|word| word.starts_with("http")).expect("a URL");
        let url = url.trim_end_matches("/messages").to_owned();
        Self { child, stdout: Some(stdout), first_line, url }
    }

    pub async fn post(&self, path: &str, body: String) -> reqwest::Response {
        let request = sender::http().post(format!("{}{path}", self.url)).basic_auth("key", Some(""));
        request.body(body).send().await.expect("an answer")
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = sender::http().get(format!("{}{path}", self.url)).send().await.expect("an answer");
        (response.status(), serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON"))
    }

    pub async fn terminate(mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let status = timeout(PATIENCE, self.child.wait()).await.expect("in time").expect("an end");
        assert!(status.success(), "{status}");
    }
}

fn batch(ids: std::ops::Range<usize>) -> String {
    json!({"batch": ids.map(|n| json!({"messageId": format!("m{n}"), "userId": "u"})).collect::<Vec<_>>()}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_is_a_segment_to_play_with() {
    let sandbox = StandIn::start(&["--fail", "429:1", "--retry-after", "7"]).await;
    let response = sandbox.post("/v1/batch", batch(0..1)).await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"7".parse().expect("a value")));
    assert_eq!(sandbox.get("/messages").await.1, json!([]));
    sandbox.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_to_segments_documented_rules() {
    let sandbox = StandIn::start(&[]).await;
    let long = |n: usize| json!({"messageId": "long", "userId": "u", "x": "x".repeat(n)}).to_string();
    for (path, body, status) in [
        ("/v1/batch", "{".to_owned(), 400),
        ("/v1/batch", format!("{}{}", batch(0..1), " ".repeat(500_000)), 400),
        ("/v1/batch", " ".repeat(5 << 20), 400),
        ("/v1/batch", format!(r#"{{"batch":[{}]}}"#, long(32_000)), 400),
        ("/v1/track", long(32_000), 400),
        ("/v1/batch", batch(0..2_501), 200),
        ("/v1/batch", r#"{"batch":[{"userId":"u"},{"messageId":"no one"}]}"#.to_owned(), 200),
    ] {
        assert_eq!(sandbox.post(path, body).await.status(), status, "{path}");
    }
    assert_eq!(sandbox.get("/messages").await.1, json!([]));
    assert_eq!(sandbox.post("/v1/track", long(100)).await.status(), 200);
    for n in 0..5 {
        assert_eq!(sandbox.post("/v1/batch", batch(n * 2_400..(n + 1) * 2_400)).await.status(), 200);
    }
    assert_eq!(sandbox.post("/v1/batch", batch(11_990..12_001)).await.status(), 200);
    let (_, kept) = sandbox.get("/messages").await;
    let kept = kept.as_array().expect("a list");
    assert_eq!(
        (kept.len(), &kept[0]["messageId"], &kept[9_999]["messageId"]),
        (10_000, &json!("m2001"), &json!("m12000"))
    );
    assert_eq!(kept[0]["writeKey"], "key");

    assert_eq!(sandbox.get("/v1/projects/unknown-key/settings").await.0, 404);
    let (status, settings) = sandbox.get("/v1/projects/some-key/settings").await;
    assert_eq!((status.as_u16(), &settings["integrations"]["Segment.io"]["apiKey"]), (200, &json!("some-key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_on_when_nobody_reads_what_it_prints() {
    let mut sandbox = StandIn::start(&[]).await;
    drop(sandbox.stdout.take());
    for n in 0..20 {
        assert_eq!(sandbox.post("/v1/batch", batch(n..n + 1)).await.status(), 200);
    }
    assert_eq!(sandbox.get("/messages").await.1.as_array().map(Vec::len), Some(20));
    sandbox.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_json_it_prints_one_value() {
    let mut sandbox = StandIn::start(&["--json"]).await;
    let url = sandbox.url.clone();
    assert_eq!(sandbox.post("/v1/batch", batch(0..1)).await.status(), 200);
    let pid = sandbox.child.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    let mut printed = sandbox.first_line.clone();
    let mut stdout = sandbox.stdout.take().expect("open");
    stdout.read_to_string(&mut printed).await.expect("UTF-8");
    let printed: Value = serde_json::from_str(&printed).expect("one JSON value");
    assert_eq!(printed, json!({"url": url, "messages_url": format!("{url}/messages")}));
}
