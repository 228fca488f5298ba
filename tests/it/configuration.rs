//! Contract, section 3: settings from the environment and from `.env`, and none of them on any terminal.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Context, MASTER_KEY, PATIENCE, Service, events, new_dir, run_binary};

/// Runs a command in a folder of its own, with this `.env` and this environment.
fn run_in(dir: &Path, dotenv: &str, env: &[(&str, &[u8])], args: &[&str]) -> (Output, String) {
    fs::write(dir.join(".env"), dotenv).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_nudgespot-source"))
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(env.iter().map(|(name, value)| (name, std::ffi::OsStr::from_bytes(value))))
        .current_dir(dir)
        .output()
        .expect("the binary");
    let stderr = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    (output, stderr)
}

fn variable<'a>(context: &'a Context, name: &str) -> &'a str {
    &context.env.iter().find(|(n, _)| n == name).expect("set").1
}

#[tokio::test(flavor = "multi_thread")]
async fn an_env_file_takes_lists_with_blanks_and_the_environment_goes_before() {
    let context = Context::new().await;
    let new = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    let dir = new_dir();
    let dotenv = format!(
        "# A comment\nexport DATABASE_URL={}\nMASTER_KEY={new}, {MASTER_KEY}  # both\nBIND='nonsense'\n",
        variable(&context, "DATABASE_URL")
    );
    let (output, stderr) =
        run_in(&dir, &dotenv, &[("BIND", b"127.0.0.1:0")], &["account", "create", "--name", "a", "--json"]);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(context.run(&["account", "list"]).await[0]["name"], json!("a"));
    fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn a_wrong_line_or_value_is_named_and_never_repeated() {
    let dir = new_dir();
    let key = MASTER_KEY;
    for (dotenv, env, says) in [
        ("BIND=127.0.0.1:0\ns3cret\n".to_owned(), None, "error: .env: line 2: write NAME=value"),
        (format!("MASTER_KEY='{key}, s3cret\n"), None, "error: .env: line 1 (MASTER_KEY): a quote is not closed"),
        (format!("MASTER_KEY={key}, s3cret\n"), None, "error: MASTER_KEY: not base64 of 32 bytes"),
        ("DATABASE_URL=postgres://u:s3cret/x@h/d\n".to_owned(), None, "error: DATABASE_URL: a port is a number"),
        ("DATABASE_URL=postgres://u@h/d?password=s3cret&s3cret=x".to_owned(), None, "error: DATABASE_URL: a parameter"),
        ("MASTER_KEY=\n".to_owned(), None, "error: MASTER_KEY: is set, but empty; unset it, or give it a value"),
        (format!("MASTER_KEY={key}\n"), Some(("MASTER_KEY", &b""[..])), "error: MASTER_KEY: is set, but empty"),
        (String::new(), Some(("MASTER_KEY", b"s3cret\xff")), "error: MASTER_KEY: is not UTF-8 text"),
        (String::new(), Some(("PUBLIC_URL", b"https://s3cret:s3cret@h")), "error: PUBLIC_URL: holds a user name"),
        (String::new(), Some(("SEGMENT_EU_URL", b"https://s3cret@h")), "error: SEGMENT_EU_URL: holds a user name"),
    ] {
        let env: Vec<_> = env.into_iter().collect();
        for args in [&["account", "list"][..], &["serve"], &["migrate"]] {
            let (output, stderr) = run_in(&dir, &dotenv, &env, args);
            assert_eq!(output.status.code(), Some(1), "{dotenv}: {stderr}");
            assert!(stderr.contains(says), "{dotenv}: {stderr}");
            assert!(!stderr.contains("s3cret") && !stderr.contains(key), "{dotenv}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }
    fs::remove_dir_all(dir).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_with_any_character_reaches_the_server_and_no_log() {
    let mut context = Context::new().await;
    let (role, password) = (variable(&context, "DATABASE_URL").to_owned(), "Zs3cret?x=1&y#:[]{}$ Z");
    let name = format!("role_{}", hex::encode(nudgespot_source::random::bytes::<8>()));
    let create = format!("create role {name} superuser login password '{password}'");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&context.pool).await.expect("created");
    let (_, rest) = role.rsplit_once('@').expect("a user");
    context.set("DATABASE_URL", &format!("postgres://{name}:{password}@{rest}"));
    context.set("RUST_LOG", "trace");
    let (code, _, stderr) = context.try_run(&["account", "list"], "").await;
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_on_the_port_are_no_trouble_in_the_log() {
    let mut context = Context::new().await;
    context.set("RUST_LOG", "info");
    let service = context.serve().await;
    let address = service.url.strip_prefix("http://").expect("a URL").to_owned();
    let junk: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // the beginning of a TLS hello
        b"\0\xff\xfe nonsense \r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"POST /webhooks/nudgespot/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ];
    for i in 0..50 {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        if i % 10 == 0 {
            // Reset: closed with what was answered still unread.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
            stream.readable().await.expect("answered");
            continue;
        }
        // It may be closed at the first byte.
        let _ = stream.write_all(junk[i % junk.len()]).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time");
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    let source = context.source("acme").await;
    source.accept(&service, &events(0..1)).await;
    let log = service.log();
    let loud: Vec<_> = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    assert_eq!(loud, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_stays_open_as_long_as_it_is_told() {
    let mut context = Context::waiting().await;
    context.set("KEEP_ALIVE", "7s");
    let service = context.serve().await;
    let mut stream = TcpStream::connect(service.url.strip_prefix("http://").expect("a URL")).await.expect("connected");
    let asked = Instant::now();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("closed in time").expect("read");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert!(asked.elapsed() >= Duration::from_millis(6_500), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_hardly_meant_are_warned_of_at_the_start() {
    let mut context = Context::new().await;
    context.set("RETENTION", "1d");
    let service: Service = context.serve().await;
    assert!(service.log().contains("RETENTION (1d) is shorter than MAX_DELIVERY_AGE (7d)"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn help_lists_every_setting() {
    for args in [&["serve", "--help"][..], &["help", "serve"]] {
        let (code, stdout, _) = run_binary(&[], args, "").await;
        assert_eq!(code, 0);
        for name in ["DATABASE_URL", "MASTER_KEY", "KEEP_ALIVE", "RETENTION", "LOG_FORMAT", "[default: 75s]"] {
            assert!(stdout.contains(name), "{name}: {stdout}");
        }
    }
}
