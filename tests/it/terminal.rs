//! What reaches the operator's terminal: harmless text, each thing said once, and an end when nobody reads.

use std::process::{ExitStatus, Stdio};

use nudgespot_source::domain::text::is_hidden;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Context, PATIENCE, new_dir};

/// Gives orders to a terminal, breaks the line, and turns the direction of writing.
const EVIL: &str = "x\u{1b}]0;title\u{7}\r\ny\u{9b}31m\u{85}\u{202e}z\u{2066}\u{200b}\u{2028}\u{200f}\u{7f}";

async fn run_with(env: &[(String, String)], args: &[&str], stdout: Stdio) -> (ExitStatus, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_nudgespot-source"))
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary");
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("output");
    (output.status, String::from_utf8(output.stderr).expect("UTF-8"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_ends_every_command_quietly() {
    let mut context = Context::new().await;
    context.set("SIGNING_SECRET", "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
    context.set("RUST_LOG", "warn");
    context.create("acme", &[]).await;
    for args in [
        "--help",
        "--version",
        "help account",
        "account list",
        "account list --json",
        "account show acme",
        "account create --name other",
        "source set acme --region eu",
        "source pause acme",
        "source resume acme",
        "source rotate-secret acme",
        "source rotate-url acme",
        "account rekey",
        "account delete other --yes",
        "dead-letters list --source acme",
        "dead-letters list --source acme --json",
        "dead-letters replay --source acme",
        "sign",
        "sign --json",
        "migrate",
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let args: Vec<&str> = args.split(' ').collect();
        let (status, stderr) = run_with(&context.env, &args, writer.into()).await;
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    assert_eq!(context.show("acme").await["region"], "eu", "done all the same");
    let dir = new_dir();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let private = [("DATA_DIR".to_owned(), dir.join("data").to_str().expect("UTF-8").to_owned())];
    let (status, stderr) = run_with(&private, &["account", "list"], writer.into()).await;
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    assert!(dir.join("data/postgres/PG_VERSION").exists() && !dir.join("data/postgres/postmaster.pid").exists());
    std::fs::remove_dir_all(dir).expect("removed");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let (status, stderr) = run_with(&context.env, &["account", "list"], full.into()).await;
    assert_eq!((status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.starts_with("error: cannot write to stdout: "), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_text_is_shown_harmlessly() {
    let context = Context::new().await;
    let source = context.create("acme", &[]).await;
    let id = uuid::Uuid::parse_str(&source.id).expect("an id");
    sqlx::query(
        "insert into dead_letter (source_id, seq, kind, event_id, received_at, track, reason)
        values ($1, 1, 2, convert_to($2, 'UTF8'), now(), '{}', $2)",
    )
    .bind(id)
    .bind(EVIL)
    .execute(&context.pool)
    .await
    .expect("inserted");
    sqlx::query("update delivery set paused_by = 'segment', paused_reason = $2 where source_id = $1")
        .bind(id)
        .bind(EVIL)
        .execute(&context.pool)
        .await
        .expect("paused");
    sqlx::query("update account set name = $2 where id = (select account_id from source where id = $1)")
        .bind(id)
        .bind(EVIL)
        .execute(&context.pool)
        .await
        .expect("set");

    for (args, field) in [
        (vec!["dead-letters", "list", "--source", EVIL], "/0/event_id"),
        (vec!["dead-letters", "list", "--source", EVIL], "/0/reason"),
        (vec!["account", "list"], "/0/name"),
        (vec!["account", "show", EVIL], "/name"),
        (vec!["source", "show", EVIL], "/paused_reason"),
    ] {
        let (_, text, _) = context.try_run(&args, "").await;
        assert!(text.chars().all(|c| !is_hidden(c) || c == '\n'), "{text:?}");
        assert!(text.contains(r"x\u{1b}]0;title\u{7}\u{d}\u{a}y\u{9b}31m\u{85}\u{202e}z"), "{text}");
        let (_, text, _) = context.try_run(&[&args[..], &["--json"]].concat(), "").await;
        assert!(text.chars().all(|c| !is_hidden(c) || c == '\n'), "{text:?}");
        let value: Value = serde_json::from_str(&text).expect("one JSON value");
        assert_eq!(value.pointer(field), Some(&json!(EVIL)), "the same value");
    }
    let renamed = format!("{EVIL}?");
    for args in [
        vec!["source", "show", &renamed],
        vec!["account", "create", "--name", EVIL],
        vec!["source", "set", EVIL, "--name", "a\u{202e}b"],
        vec!["source", "set", EVIL, "--name", "a\u{9b}b"],
        vec!["dead-letters", "replay", "--source", &renamed],
        vec!["account", EVIL],
        vec![EVIL],
    ] {
        let (code, stdout, stderr) = context.try_run(&args, "").await;
        assert!(code > 0 && stdout.is_empty(), "{args:?}");
        let told: Vec<&str> = stderr.lines().filter(|line| !line.starts_with('{')).collect();
        assert!(!told.is_empty() && told.iter().all(|line| !line.contains(is_hidden)), "{args:?}: {stderr:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_clause_of_an_error_is_said_twice() {
    let mut context = Context::new().await;
    context.set("RUST_LOG", "off");
    context.source("acme").await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let other_key = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    let unreachable = "postgres://u:p@127.0.0.1:1/none";
    let database = context.env.iter().find(|(name, _)| name == "DATABASE_URL").expect("set").1.clone();
    let no_such_database = database.replace("/test_", "/none_");
    let mut checks = JoinSet::new();
    for (variable, value, args) in [
        ("DATABASE_URL", unreachable, vec!["migrate"]),
        ("DATABASE_URL", unreachable, vec!["account", "list"]),
        ("DATABASE_URL", unreachable, vec!["serve"]),
        ("DATABASE_URL", "postgres://u:p@no-such-host.invalid/none", vec!["account", "list"]),
        ("DATABASE_URL", "postgres://u:p@127.0.0.1:1/none?sslmode=verify-full&sslrootcert=/none", vec!["migrate"]),
        ("DATABASE_URL", no_such_database.as_str(), vec!["migrate"]),
        ("DATABASE_URL", "nonsense", vec!["migrate"]),
        ("MASTER_KEY", "short", vec!["migrate"]),
        ("MASTER_KEY", other_key, vec!["source", "rotate-secret", "acme"]),
        ("MASTER_KEY", other_key, vec!["account", "rekey"]),
        ("MASTER_KEY", other_key, vec!["serve"]),
        ("BIND", taken.as_str(), vec!["serve"]),
        ("LOG_FORMAT", "xml", vec!["migrate"]),
        ("RUST_LOG", "=x=", vec!["migrate"]),
        ("SIGNING_SECRET", "nonsense", vec!["sign"]),
        ("PUBLIC_URL", "nonsense", vec!["account", "list"]),
        ("DATA_DIR", file, vec!["source", "show", "nobody"]),
        ("DATA_DIR", file, vec!["account", "create", "--name", "acme"]),
        ("DATA_DIR", file, vec!["sandbox", "--bind", &taken]),
    ] {
        let mut env = context.env.clone();
        env.retain(|(name, _)| name != variable);
        env.push((variable.to_owned(), value.to_owned()));
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        checks.spawn(async move { check(&env, &args.iter().map(String::as_str).collect::<Vec<_>>()).await });
    }
    checks.join_all().await;
    let private: Vec<_> = context.env.iter().filter(|(name, _)| name != "DATABASE_URL").cloned().collect();
    check(&[private, vec![("DATA_DIR".to_owned(), file.to_owned())]].concat(), &["account", "list"]).await;
    // A schema of a version that is newer than the program.
    context.execute("update _sqlx_migrations set checksum = 'x'").await;
    check(&context.env, &["migrate"]).await;
}

async fn check(env: &[(String, String)], args: &[&str]) {
    let (status, stderr) = run_with(env, args, Stdio::null()).await;
    assert_eq!((status.code(), stderr.lines().count()), (Some(1), 1), "{args:?}: {stderr}");
    let told = stderr.trim_end().strip_prefix("error: ").unwrap_or_else(|| panic!("{stderr}"));
    let clauses: Vec<&str> = told.split(": ").collect();
    let mut distinct = clauses.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(clauses.len(), distinct.len(), "{told}");
}
