//! Contract, section 4: the command line.

use nudgespot_source::domain::timestamp;
use serde_json::{Value, json};

use crate::harness::{Context, events, run_binary, sender, texts};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_administered_from_creation_to_deletion() {
    let mut context = Context::new().await;
    context.set("PUBLIC_URL", "https://hooks.example.com/");
    let created = context.run(&["account", "create", "--name", "Acme Inc", "--region", "eu"]).await;
    assert_eq!(keys(&created), ["account_id", "signing_secret", "source_id", "webhook_path", "webhook_url"]);
    let (url, path) = (created["webhook_url"].as_str().expect("text"), created["webhook_path"].as_str().expect("text"));
    assert_eq!(url, format!("https://hooks.example.com{path}"));
    let token = path.strip_prefix("/webhooks/nudgespot/").expect("the path");
    assert_eq!(token.len(), 22, "128 bits, URL-safe");
    assert!(created["signing_secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")));

    let (account, id) = (created["account_id"].as_str().expect("text"), created["source_id"].as_str().expect("text"));
    let shown = context.run(&["source", "show", id]).await;
    for name in ["Acme Inc", "Acme Inc/nudgespot", account, &format!("{account}/nudgespot")] {
        assert_eq!(shown, context.run(&["source", "show", name]).await, "{name}");
    }
    assert_eq!(context.run(&["source", "list", "Acme Inc"]).await, json!([shown]));
    let mut account_shown = context.run(&["account", "show", "Acme Inc"]).await;
    assert_eq!(account_shown, context.run(&["account", "show", account]).await);
    assert_eq!(context.run(&["account", "list"]).await, json!([account_shown]));
    let created_at = account_shown["created_at"].take();
    assert!(created_at.as_str().is_some_and(|at| timestamp::parse(at).is_some()), "{created_at}");
    assert_eq!(
        account_shown,
        json!({"account_id": account, "name": "Acme Inc", "created_at": null, "sources": [shown]})
    );
    assert_eq!(
        shown,
        json!({
            "source_id": id, "account_id": account, "name": "nudgespot", "kind": "nudgespot", "region": "eu",
            "endpoint": null, "write_key_last4": null, "webhook_url": url, "unsubscribe_event": "Email Unsubscribed",
            "allow_untimestamped": false, "paused_reason": null, "waiting": 0, "oldest_waiting_seconds": 0,
            "delivered": 0, "dead_letters": 0, "rejected": 0, "ignored": 0,
        })
    );
    assert_eq!(context.run(&["account", "rename", "Acme Inc", "Acme"]).await["name"], "Acme");
    let set = [
        "source",
        "set",
        "Acme",
        "--name",
        "mails",
        "--region",
        "us",
        "--write-key",
        "abcdefgh9876",
        "--unsubscribe-event",
        "Unsubscribed",
        "--allow-untimestamped",
        "true",
        "--endpoint",
        "https://events.example.com",
    ];
    let set = context.run(&set).await;
    assert_eq!(
        (&set["name"], &set["region"], &set["write_key_last4"]),
        (&json!("mails"), &json!("us"), &json!("9876"))
    );
    assert_eq!((&set["unsubscribe_event"], &set["allow_untimestamped"]), (&json!("Unsubscribed"), &json!(true)));
    assert_eq!(set["endpoint"], "https://events.example.com/");
    assert_eq!(context.run(&["source", "set", "Acme/mails", "--endpoint", "none"]).await["endpoint"], Value::Null);
    assert_eq!(
        keys(&context.run(&["source", "rotate-secret", "Acme"]).await),
        ["previous_valid_until", "signing_secret"]
    );
    let rotated = context.run(&["source", "rotate-url", "Acme"]).await;
    assert_eq!(keys(&rotated), ["webhook_path", "webhook_url"]);
    assert_ne!(rotated["webhook_path"], path);

    let service = context.serve().await;
    let source = context.create("Other", &[]).await;
    source.accept(&service, &events(0..10)).await;
    let (code, _, stderr) = context.try_run(&["account", "delete", "Other"], "").await;
    assert_eq!((code, stderr.contains("--yes")), (1, true), "{stderr}");
    context.run(&["account", "delete", "Other", "--yes"]).await;
    assert_eq!(source.post(&service, &events(10..11)).await.status, 401);
    for table in ["event_block", "known_event", "log_head", "delivery"] {
        let count = format!("select count(*) from {table} where source_id = $1");
        let left: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
            .bind(uuid::Uuid::parse_str(&source.id).expect("an id"))
            .fetch_one(&context.pool)
            .await
            .expect("counted");
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(context.run(&["migrate"]).await, json!({"migrated": true}));
    assert_eq!(context.run(&["dead-letters", "list", "--source", "Acme"]).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_answered_in_one_line_and_with_their_exit_code() {
    let mut context = Context::new().await;
    // As an operator has it: what is not logged by default is not in the way of the one line.
    context.env.retain(|(name, _)| name != "RUST_LOG");
    context.create("acme", &[]).await;
    for (code, args, says) in [
        (1, vec!["account", "create", "--name", "acme"], "there is an account `acme` already"),
        (1, vec!["source", "show", "nobody"], "there is no source `nobody`"),
        (1, vec!["source", "set", "acme", "--write-key", "a:b"], "only letters, digits"),
        (1, vec!["source", "set", "acme", "--write-key", "short"], "8 to 64 characters"),
        (1, vec!["source", "set", "nobody", "--region", "us"], "there is no source"),
        (1, vec!["account", "show", "nobody"], "there is no account `nobody`"),
        (1, vec!["source", "add", "acme", "--kind", "nudgespot"], "has a source `nudgespot` already"),
        (2, vec!["source", "add", "acme", "--kind", "pigeon"], "a kind of source is"),
        (2, vec!["source", "set", "acme", "--endpoint", "http://example.com"], "in the clear"),
        (2, vec!["account", "create", "--name", "a/b"], "no `/`"),
        (2, vec!["source", "set", "acme"], "required"),
        (2, vec!["account", "create"], "--name"),
        (2, vec!["account", "create", "--name", " "], "1 to 100 characters"),
        (2, vec!["source", "set", "acme", "--region", "moon"], "a region is `us` or `eu`"),
        (2, vec!["source", "set", "acme", "--unsubscribe-event", "Left"], "`Email Unsubscribed` or `Unsubscribed`"),
        (2, vec!["dead-letters", "list"], "--source"),
        (2, vec!["operator", "invite", "--email", "jane"], "an email address reads `name@example.com`"),
        (1, vec!["account", "invite", "nobody", "--email", "j@example.com"], "there is no account `nobody`"),
        (2, vec!["account", "invite", "acme"], "--email"),
        (1, vec!["operator", "remove", "--email", "j@example.com"], "there is no such person: j@example.com"),
        (1, vec!["token", "create", "--name", "x", "--account", "nobody"], "there is no account `nobody`"),
        (2, vec!["token", "create", "--name", "x", "--until", "2001-01-01T00:00:00Z"], "this time is over"),
        (1, vec!["token", "revoke", "00000000-0000-0000-0000-000000000000"], "`token list` shows them all"),
        (2, vec!["token", "revoke", "x"], "invalid value"),
        (2, vec!["fly"], "fly"),
        (2, vec!["sign", "whsec_c2VjcmV0"], "unexpected argument '…'"),
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
    let source = context.source("acme").await;
    context.run(&["source", "set", "acme", "--allow-untimestamped", "true"]).await;
    let body = "{\"event\":\"opened\",\"email\":\"me@example.com\"}\n";
    for scheme in ["standard", "timestamped", "body"] {
        let args = ["sign", "--secret", source.secret.expose(), "--scheme", scheme];
        let (code, stdout, stderr) = run_binary(&[], &args, body).await;
        assert_eq!(code, 0, "{stderr}");
        let mut request = sender::http().post(format!("{}{}", service.url, source.path)).body(body);
        for line in stdout.lines() {
            let (name, value) = line.split_once(": ").expect("a header");
            request = request.header(name, value);
        }
        assert_eq!(request.send().await.expect("an answer").status(), 200, "{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_with_its_first_source_or_not_at_all() {
    let context = Context::new().await;
    context.run(&["migrate"]).await;
    context.execute("alter table source add constraint refused check (kind <> 'resend')").await;
    let create = ["account", "create", "--name", "acme", "--kind", "resend"];
    assert_eq!(context.try_run(&create, "").await.0, 1);
    assert_eq!(context.run(&["account", "list"]).await, json!([]));
    context.execute("alter table source drop constraint refused").await;
    let created = context.run(&create).await;
    let (code, _, stderr) = context.try_run(&create, "").await;
    assert_eq!((code, stderr.contains("there is an account `acme` already")), (1, true), "{stderr}");
    let shown = context.run(&["account", "show", "acme"]).await;
    assert_eq!(shown["sources"].as_array().map(Vec::len), Some(1));
    assert_eq!(shown["sources"][0]["source_id"], created["source_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_program_is_named() {
    let context = Context::new().await;
    context.run(&["migrate"]).await;
    context.execute("update _sqlx_migrations set checksum = '\\x00'").await;
    for command in ["serve", "migrate"] {
        let (code, _, stderr) = context.try_run(&[command], "").await;
        assert_eq!(
            (code, stderr.contains("migration 1 was previously applied but has been modified")),
            (1, true),
            "{stderr}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_secrets_come_where_the_shells_history_does_not_see_them() {
    let context = Context::new().await;
    let key = async |args: &[&str], stdin: &str| context.try_run(args, stdin).await;
    let create = ["account", "create", "--name", "acme", "--write-key", "-", "--json"];
    for (stdin, says) in [
        ("", "the first line of stdin is blank; it is to be the write key"),
        ("\nabcdefgh5678\n", "the first line of stdin is blank"),
        ("s3cret:k3y\n", "only letters, digits"),
    ] {
        let (code, stdout, stderr) = key(&create, stdin).await;
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (1, "", 1), "{stderr}");
        assert!(stderr.contains(says) && !stderr.contains("s3cret"), "{stderr}");
    }
    assert_eq!(key(&create, " abcdefgh5678 \r\nanother line\n").await.0, 0);
    assert_eq!(context.show("acme").await["write_key_last4"], "5678");
    assert_eq!(key(&["source", "set", "acme", "--write-key", "-"], "abcdefgh4321").await.0, 0);
    assert_eq!(context.show("acme").await["write_key_last4"], "4321");

    let secret = "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let env = |secret: &str| vec![("SIGNING_SECRET".to_owned(), secret.to_owned())];
    let sign = ["sign", "--scheme", "body"];
    let (code, expected, stderr) = run_binary(&[], &[&sign[..], &["--secret", secret]].concat(), "{}\nx").await;
    assert_eq!(code, 0, "{stderr}");
    assert!(expected.starts_with("X-Nudgespot-Signature: sha256="), "{expected}");
    assert_eq!(run_binary(&env(secret), &sign, "{}\nx").await.1, expected);
    let dash = [&sign[..], &["--secret", "-"]].concat();
    assert_eq!(run_binary(&env("ignored"), &dash, &format!("{secret}\n{{}}\nx")).await.1, expected);
    for (env, args, stdin, says) in [
        (vec![], &sign[..], "{}", "no signing secret: set SIGNING_SECRET"),
        (env("s3cret"), &sign[..], "{}", "SIGNING_SECRET: a signing secret reads `whsec_`"),
        (vec![], &dash[..], "\n{}", "the first line of stdin is blank; it is to be the signing secret"),
        (vec![], &dash[..], "s3cret\n{}", "a signing secret reads `whsec_`"),
    ] {
        let (code, stdout, stderr) = run_binary(&env, args, stdin).await;
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (1, "", 1), "{stderr}");
        assert!(stderr.contains(says) && !stderr.contains("s3cret"), "{stderr}");
    }
    let (_, json, _) = run_binary(&env(secret), &[&sign[..], &["--json"]].concat(), "").await;
    assert_eq!(keys(&serde_json::from_str(&json).expect("JSON")), ["X-Nudgespot-Signature"]);
    let (code, _, stderr) = run_binary(&[], &["sign", secret], "").await;
    assert_eq!((code, stderr.contains(secret)), (2, false), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_paged_and_none_is_replayed_twice() {
    let context = Context::new().await;
    let source = context.create("acme", &[]).await;
    context
        .execute(&format!(
            "insert into dead_letter (source_id, seq, kind, event_id, received_at, track, reason)
            select '{}', n, 2, convert_to('e' || n, 'UTF8'), now(), '{{}}', 'no' from generate_series(1, 1234) as n",
            source.id
        ))
        .await;
    let ids = |range: std::ops::RangeInclusive<u32>| range.map(|n| format!("e{n}")).collect::<Vec<_>>();
    let listed = context.run(&["dead-letters", "list", "--source", "acme"]).await;
    assert_eq!(texts(listed.as_array().expect("one array"), "/event_id"), ids(1..=1234));
    let (_, table, _) = context.try_run(&["dead-letters", "list", "--source", "acme"], "").await;
    assert_eq!((table.lines().count(), table.matches("DEAD_AT").count()), (1 + 1234, 1));
    let columns = |line: &str| line.find(" no").map(|at| at + 1).or_else(|| line.find("REASON"));
    assert!(table.lines().is_sorted_by_key(columns), "no column becomes narrower");

    // Each letter dies again in the moment in which it is replayed.
    context
        .execute(
            "create function die_again() returns trigger language plpgsql as $$ begin
                insert into dead_letter (source_id, seq, kind, event_id, received_at, track, reason)
                values (old.source_id, old.seq + 100000, old.kind, old.event_id, now(), old.track, 'again');
                return null;
            end $$;
            create trigger die_again after delete on dead_letter for each row execute function die_again()",
        )
        .await;
    let replayed = context.run(&["dead-letters", "replay", "--source", "acme"]).await;
    assert_eq!(replayed, json!({"replayed": 1234}));
    assert_eq!(context.show("acme").await["waiting"], 1234);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_tokens_are_let_in_by_the_command_line() {
    let mut context = Context::new().await;
    context.set("CONSOLE_URL", "https://console.example.com/");
    context.create("acme", &[]).await;
    let account = context.run(&["account", "show", "acme"]).await["account_id"].clone();
    let mut links = Vec::new();
    for args in [
        vec!["operator", "invite", "--email", "Root@example.com"],
        vec!["operator", "invite", "--email", "root@example.com"],
        vec!["account", "invite", "acme", "--email", "jane@example.com"],
        vec!["account", "invite", "acme", "--email", "jane@example.com", "--viewer"],
        vec!["account", "invite", "acme", "--email", "john@example.com", "--viewer"],
    ] {
        let invited = context.run(&args).await;
        assert_eq!(keys(&invited), ["link"]);
        let link = invited["link"].as_str().expect("a link").to_owned();
        let token = link.strip_prefix("https://console.example.com/links/").expect("a link to the console");
        assert_eq!(token.len(), 43, "256 bits, URL-safe");
        links.push(token.to_owned());
    }
    let admin = context.admin();
    let counts: Vec<bool> = {
        let mut counts = Vec::new();
        for link in &links {
            counts.push(admin.find_link(link).await.expect("an answer").is_some());
        }
        counts
    };
    assert_eq!(counts, [false, true, false, true, true], "the newest of each person");
    let id = account.as_str().and_then(|id| id.parse().ok()).expect("an id");
    let people = admin.list_people(id).await.expect("people");
    let people: Vec<_> = people.iter().map(|person| (person.email.as_str(), person.role.as_str())).collect();
    assert_eq!(people, [("jane@example.com", "admin"), ("john@example.com", "viewer")]);
    let operators = context.run(&["operator", "list"]).await;
    assert_eq!((&operators[0]["email"], operators.as_array().map(Vec::len)), (&json!("root@example.com"), Some(1)));
    let (code, _, stderr) = context.try_run(&["operator", "remove", "--email", "root@example.com"], "").await;
    assert_eq!((code, stderr.contains("this is the only operator")), (1, true), "{stderr}");

    let created = context.run(&["token", "create", "--name", "script", "--account", "acme", "--read-only"]).await;
    assert_eq!(keys(&created), ["token", "token_id"]);
    let all = context.run(&["token", "create", "--name", "all", "--until", "9000-01-01T00:00:00Z"]).await;
    let token = created["token"].as_str().expect("text");
    let identity = admin.api_token(token).await.expect("an answer").expect("it counts");
    assert_eq!((identity.account_id, identity.may_write), (Some(id), false));
    let listed = context.run(&["token", "list"]).await;
    assert_eq!(texts(listed.as_array().expect("an array"), "/name"), ["all", "script"]);
    assert_eq!((&listed[0]["account_id"], &listed[1]["account_id"]), (&Value::Null, &account));
    assert_eq!((&listed[0]["access"], &listed[1]["access"]), (&json!("write"), &json!("read")));
    let (_, table, _) = context.try_run(&["token", "list"], "").await;
    assert!(table.contains("acme") && table.contains("(all)"), "{table}");
    for text in [listed.to_string(), table] {
        assert!(!text.contains("nss_"), "{text}");
    }
    let id = created["token_id"].as_str().expect("text");
    assert_eq!(context.run(&["token", "revoke", id]).await, json!({"revoked": id}));
    assert!(admin.api_token(token).await.expect("an answer").is_none());
    assert!(admin.api_token(all["token"].as_str().expect("text")).await.expect("an answer").is_some());

    let entries = admin.audit_log(None, None, 100).await.expect("a page").entries;
    let actions: Vec<&str> = entries.iter().rev().map(|entry| entry.action.as_str()).collect();
    let (operator, person) = ("operator.invite", "person.invite");
    let expected = [operator, operator, person, person, person, "token.create", "token.create", "token.revoke"];
    assert!(actions.ends_with(&expected), "{actions:?}");
    assert!(entries.iter().all(|entry| entry.actor_kind == "command_line" && entry.actor == "command line"));
    let secrets = links.iter().map(String::as_str).chain([token]);
    let entries = format!("{entries:?}");
    assert!(secrets.into_iter().all(|secret| !entries.contains(secret)), "{entries}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commands_change_is_in_the_audit_log_without_their_secrets() {
    let context = Context::new().await;
    context.create("acme", &["--write-key", "abcdefgh1234"]).await;
    for args in [
        &["source", "set", "acme", "--write-key", "abcdefgh5678", "--region", "eu"][..],
        &["source", "pause", "acme"],
        &["source", "resume", "acme"],
        &["source", "rotate-secret", "acme"],
        &["source", "rotate-url", "acme"],
        &["dead-letters", "replay", "--source", "acme"],
        &["source", "add", "acme", "--kind", "resend"],
        &["source", "delete", "acme/resend", "--yes"],
        &["account", "rename", "acme", "Acme"],
        &["account", "rekey"],
        &["account", "delete", "Acme", "--yes"],
    ] {
        context.run(args).await;
    }
    // What changes nothing, and what fails, is not there.
    context.run(&["account", "list"]).await;
    context.try_run(&["source", "pause", "nobody"], "").await;
    let entries = context.admin().audit_log(None, None, 100).await.expect("a page").entries;
    let told: Vec<_> = entries.iter().rev().map(|entry| (entry.action.as_str(), entry.detail.as_str())).collect();
    let source_id = told[7].1;
    assert_eq!(
        told,
        [
            ("account.create", "acme"),
            ("source.change", "nudgespot: write key, region"),
            ("source.pause", "nudgespot"),
            ("source.resume", "nudgespot"),
            ("source.rotate_secret", "nudgespot"),
            ("source.rotate_url", "nudgespot"),
            ("replay.start", "nudgespot: 0 events"),
            ("source.create", source_id),
            ("source.delete", "resend"),
            ("account.rename", "Acme"),
            ("account.rekey", "1 sources"),
            ("account.delete", "Acme"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn help_tells_of_every_command() {
    for args in [
        vec!["--help"],
        vec!["account", "--help"],
        vec!["source", "--help"],
        vec!["source", "set", "--help"],
        vec!["serve", "--help"],
        vec!["dead-letters", "replay", "--help"],
        vec!["operator", "--help"],
        vec!["token", "create", "--help"],
        vec!["sandbox", "--help"],
        vec!["sign", "--help"],
    ] {
        let (code, stdout, stderr) = run_binary(&[], &args, "").await;
        assert_eq!((code, stderr.as_str()), (0, ""));
        insta::assert_snapshot!(args.join("-").replace("---", "-"), stdout);
    }
    for command in [
        "serve",
        "demo",
        "account create",
        "account list",
        "account show",
        "account rename",
        "account delete",
        "account invite",
        "account rekey",
        "operator invite",
        "operator list",
        "operator remove",
        "token create",
        "token list",
        "token revoke",
        "source add",
        "source list",
        "source show",
        "source set",
        "source pause",
        "source resume",
        "source skip-unreadable",
        "source rotate-secret",
        "source rotate-url",
        "source delete",
        "dead-letters",
        "dead-letters list",
        "sign",
        "migrate",
    ] {
        for help in ["-h", "--help"] {
            let args: Vec<&str> = command.split(' ').chain([help]).collect();
            let (code, stdout, stderr) = run_binary(&[], &args, "").await;
            assert_eq!((code, stderr.as_str(), stdout.contains("Usage: ")), (0, "", true), "{args:?}");
        }
    }
}
