//! Contract, section 4: the command line.

use serde_json::{Value, json};

use crate::harness::{Context, events, run_binary, sender};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_administered_from_creation_to_deletion() {
    let mut context = Context::new().await;
    context.set("PUBLIC_URL", "https://hooks.example.com/");
    let created = context.run(&["account", "create", "--name", "Acme Inc", "--region", "eu"]).await;
    assert_eq!(keys(&created), ["account_id", "signing_secret", "webhook_path", "webhook_url"]);
    let (url, path) = (created["webhook_url"].as_str().expect("text"), created["webhook_path"].as_str().expect("text"));
    assert_eq!(url, format!("https://hooks.example.com{path}"));
    let token = path.strip_prefix("/webhooks/nudgespot/").expect("the path");
    assert_eq!(token.len(), 22, "128 bits, URL-safe");
    assert!(created["signing_secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")));

    let id = created["account_id"].as_str().expect("text");
    let mut shown = context.run(&["account", "show", id]).await;
    assert_eq!(shown, context.run(&["account", "show", "Acme Inc"]).await);
    assert_eq!(context.run(&["account", "list"]).await, json!([shown]));
    shown["webhook_url"] = json!("URL");
    assert_eq!(
        shown,
        json!({
            "account_id": id, "name": "Acme Inc", "region": "eu", "write_key_last4": null, "webhook_url": "URL",
            "unsubscribe_event": "Email Unsubscribed", "allow_untimestamped": false, "paused_reason": null,
            "waiting": 0, "oldest_waiting_seconds": 0, "delivered": 0, "dead_letters": 0, "rejected": 0, "ignored": 0,
        })
    );
    let set = context
        .run(&[
            "account",
            "set",
            "Acme Inc",
            "--name",
            "Acme",
            "--region",
            "us",
            "--write-key",
            "abcdefgh9876",
            "--unsubscribe-event",
            "Unsubscribed",
            "--allow-untimestamped",
            "true",
        ])
        .await;
    assert_eq!((&set["name"], &set["region"], &set["write_key_last4"]), (&json!("Acme"), &json!("us"), &json!("9876")));
    assert_eq!((&set["unsubscribe_event"], &set["allow_untimestamped"]), (&json!("Unsubscribed"), &json!(true)));
    assert_eq!(
        keys(&context.run(&["account", "rotate-secret", "Acme"]).await),
        ["previous_valid_until", "signing_secret"]
    );
    let rotated = context.run(&["account", "rotate-url", "Acme"]).await;
    assert_eq!(keys(&rotated), ["webhook_path", "webhook_url"]);
    assert_ne!(rotated["webhook_path"], path);

    let service = context.serve().await;
    let account = context.create("Other", &[]).await;
    account.accept(&service, &events(0..10)).await;
    let (code, _, stderr) = context.try_run(&["account", "delete", "Other"], "").await;
    assert_eq!((code, stderr.contains("--yes")), (1, true), "{stderr}");
    context.run(&["account", "delete", "Other", "--yes"]).await;
    assert_eq!(account.post(&service, &events(10..11)).await.status, 401);
    for table in ["event_block", "known_event", "log_head", "delivery"] {
        let count = format!("select count(*) from {table} where account_id = $1");
        let left: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
            .bind(uuid::Uuid::parse_str(&account.id).expect("an id"))
            .fetch_one(&context.pool)
            .await
            .expect("counted");
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(context.run(&["migrate"]).await, json!({"migrated": true}));
    assert_eq!(context.run(&["dead-letters", "list", "--account", "Acme"]).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_answered_in_one_line_and_with_their_exit_code() {
    let mut context = Context::new().await;
    // As an operator has it: what is not logged by default is not in the way of the one line.
    context.env.retain(|(name, _)| name != "RUST_LOG");
    context.create("acme", &[]).await;
    for (code, args, says) in [
        (1, vec!["account", "create", "--name", "acme"], "there is an account `acme` already"),
        (1, vec!["account", "show", "nobody"], "there is no account `nobody`"),
        (1, vec!["account", "set", "acme", "--write-key", "a:b"], "only letters, digits"),
        (1, vec!["account", "set", "acme", "--write-key", "short"], "8 to 64 characters"),
        (1, vec!["account", "set", "nobody", "--region", "us"], "there is no account"),
        (2, vec!["account", "set", "acme"], "required"),
        (2, vec!["account", "create"], "--name"),
        (2, vec!["account", "create", "--name", " "], "1 to 100 characters"),
        (2, vec!["account", "set", "acme", "--region", "moon"], "a region is `us` or `eu`"),
        (2, vec!["account", "set", "acme", "--unsubscribe-event", "Left"], "`Email Unsubscribed` or `Unsubscribed`"),
        (2, vec!["dead-letters", "list"], "--account"),
        (2, vec!["fly"], "fly"),
        (2, vec!["sign", "whsec_c2VjcmV0"], "unexpected argument 'a value without an option'"),
        (1, vec!["sign", "--secret", "nonsense"], "a signing secret reads"),
    ] {
        let (is, stdout, stderr) = context.try_run(&args, "").await;
        assert_eq!(is, code, "{args:?}: {stderr}");
        assert!(stderr.contains(says) && stdout.is_empty(), "{args:?}: {stderr}");
        assert!(code == 2 || stderr.lines().count() == 1, "{args:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sign_prints_is_what_curl_sends() {
    let context = Context::new().await;
    let service = context.serve().await;
    let account = context.account("acme").await;
    context.run(&["account", "set", "acme", "--allow-untimestamped", "true"]).await;
    let body = "{\"event\":\"opened\",\"email\":\"me@example.com\"}\n";
    for scheme in ["standard", "timestamped", "body"] {
        let args = ["sign", "--secret", account.secret.expose(), "--scheme", scheme];
        let (code, stdout, stderr) = run_binary(&[], &args, body).await;
        assert_eq!(code, 0, "{stderr}");
        let mut request = sender::http().post(format!("{}{}", service.url, account.path)).body(body);
        for line in stdout.lines() {
            let (name, value) = line.split_once(": ").expect("a header");
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.expect("an answer").status(), 200, "{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_is_a_segment_to_play_with() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_nudgespot-source"))
        .args(["sandbox", "--bind", "127.0.0.1:0", "--fail", "429:1", "--retry-after", "7"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.next_line().await.expect("UTF-8").expect("a line");
    let url = line.split_whitespace().find(|word| word.starts_with("http")).expect("a URL").trim_end_matches(';');
    let response = sender::http()
        .post(format!("{url}/v1/batch"))
        .basic_auth("key", Some(""))
        .body(r#"{"batch":[{"messageId":"m","userId":"u"}]}"#)
        .send()
        .await
        .expect("an answer");
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"7".parse().expect("a value")));
    let kept = sender::http().get(format!("{url}/messages")).send().await.expect("an answer").text().await;
    assert_eq!(kept.expect("text"), "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn help_tells_of_every_command() {
    for args in [
        vec!["--help"],
        vec!["account", "--help"],
        vec!["account", "set", "--help"],
        vec!["serve", "--help"],
        vec!["dead-letters", "replay", "--help"],
        vec!["sandbox", "--help"],
    ] {
        let (code, stdout, stderr) = run_binary(&[], &args, "").await;
        assert_eq!((code, stderr.as_str()), (0, ""));
        insta::assert_snapshot!(args.join("-").replace("---", "-"), stdout);
    }
}
