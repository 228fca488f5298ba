//! The surroundings are not as one would like them: servers that end idle sessions, strange defaults, narrow rights,
//! replicas with other keys, and URLs of every form.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use sqlx::postgres::PgConnectOptions;

use crate::harness::{
    Context, Load, OwnCluster, Proxy, Service, Source, assert_delivered, events, execute, run_binary, texts, until,
};

/// Posts webhooks, one after the other, that must all be stored.
async fn all_are_stored(source: &Source, service: &Service, numbers: std::ops::Range<u32>) {
    for n in numbers {
        source.accept(service, &events(n..=n)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_were_closed_while_nothing_happened_cost_no_webhook() {
    let context = Context::waiting().await;
    let source = context.source("acme").await;
    let proxy = Proxy::before_database(&context.options).await;
    let service = context.serve_through(&proxy).await;
    all_are_stored(&source, &service, 0..5).await;
    context.source_is("acme", |shown| shown["delivered"] == 5).await;
    // By the server, which says goodbye; by something between, which does not.
    let others = "select pg_terminate_backend(pid, 60000) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and application_name like 'nudgespot-source%'";
    for round in 1..4 {
        execute(&context.options, &[others]).await;
        all_are_stored(&source, &service, 100 * round..100 * round + 10).await;
        assert_eq!(service.get("/readyz").await, 200);
        proxy.cut();
        let first = 100 * round + 10;
        let posts = (first..first + 20).map(async |n| source.post(&service, &events(n..=n)).await.status);
        assert_eq!(futures_util::future::join_all(posts).await, [200; 20], "all at once");
    }
    assert_eq!(texts(&context.messages(95).await, "/userId").len(), 95);
    context.source_is("acme", |shown| shown["delivered"] == 95 && shown["waiting"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_idle_sessions_costs_no_webhook() {
    let context = Context::waiting().await;
    let source = context.source("acme").await;
    let database = context.options.get_database().expect("one of the test's own");
    execute(&context.options, &[&format!("alter database {database} set idle_session_timeout = '200ms'")]).await;
    let service = context.serve().await;
    for n in 0..8 {
        source.accept(&service, &events(n..=n)).await;
        context.messages(usize::try_from(n).expect("small") + 1).await;
        // This is the idle time itself; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(service.get("/readyz").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_restarted_while_nothing_happened_costs_no_webhook() {
    let mut cluster = OwnCluster::start().await;
    let context = Context::waiting_on(&cluster.options).await;
    let source = context.source("acme").await;
    let service = context.serve().await;
    all_are_stored(&source, &service, 0..5).await;
    context.source_is("acme", |shown| shown["delivered"] == 5).await;
    for (round, signal) in [(1, "INT"), (2, "QUIT")] {
        cluster.stop(signal).await;
        cluster.restart().await;
        all_are_stored(&source, &service, 100 * round..100 * round + 10).await;
        assert_eq!(service.get("/readyz").await, 200);
    }
    context.source_is("acme", |shown| shown["delivered"] == 25 && shown["waiting"] == 0).await;
    assert!(service.terminate().await.success());
    drop(context);
}

/// Several replicas at work for one source never refuse a webhook, whatever is set on their database.
async fn works_with(settings: &[&str]) {
    let context = Context::waiting().await;
    let database = context.options.get_database().expect("one of the test's own");
    let alter = settings.iter().map(|setting| format!("alter database {database} set {setting}"));
    let statements: Vec<String> = alter.chain(["create schema app".to_owned()]).collect();
    execute(&context.options, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let replicas = [context.serve().await, context.serve().await];
    let source = context.source("acme").await;
    let loads = [Load::start(&replicas[0], &source, 0), Load::start(&replicas[1], &source, 1_000_000)];
    for load in &loads {
        load.reach(150).await;
    }
    let mut acknowledged = BTreeSet::new();
    for load in loads {
        let sent = load.end().await;
        assert_eq!(sent.n_refused, 0, "{settings:?}");
        acknowledged.extend(sent.acknowledged);
    }
    assert_delivered(&context, &acknowledged).await;
    context.source_is("acme", |shown| shown["waiting"] == 0 && shown["paused_reason"].is_null()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_isolation_is_the_databases_default_replicas_work_together() {
    works_with(&["default_transaction_isolation = 'repeatable read'"]).await;
    works_with(&["default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_program_relies_on_it_sets_itself() {
    works_with(&[
        "timezone = 'Asia/Kathmandu'",
        "datestyle = 'German, DMY'",
        "intervalstyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "standard_conforming_strings = off",
        "extra_float_digits = -15",
        "row_security = off",
        "synchronous_commit = off",
        "search_path = app",
        "plan_cache_mode = force_custom_plan",
        "client_min_messages = debug5",
    ])
    .await;
    works_with(&["statement_timeout = '20ms'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'"])
        .await;
}

/// The database's URL for another user.
fn url_of(context: &Context, user: &str, password: &str) -> String {
    let options = context.options.clone().username(user).password(password);
    sqlx::ConnectOptions::to_url_lossy(&options).to_string()
}

/// A name of a role that no other test has.
fn new_role() -> String {
    format!("role_{}", hex::encode(nudgespot_source::random::bytes::<6>()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_read_and_write_but_not_create_serves() {
    let context = Context::waiting().await;
    let (code, _, stderr) = context.try_run(&["migrate"], "").await;
    assert_eq!(code, 0, "{stderr}");
    let (role, database) = (new_role(), context.options.get_database().expect("one of the test's own"));
    let statements = [
        format!("create role {role} login password 'narrow'"),
        format!("revoke create, temporary on database {database} from public"),
        "revoke create on schema public from public".to_owned(),
        format!("grant usage on schema public to {role}"),
        format!("grant select, insert, update, delete on all tables in schema public to {role}"),
        format!("grant usage on all sequences in schema public to {role}"),
    ];
    execute(&context.options, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let env = context.env_with("DATABASE_URL", &url_of(&context, &role, "narrow"));
    let service = Service::start(&env).await;
    let args = ["account", "create", "--name", "acme", "--write-key", "key-of-acme", "--json"];
    let (code, stdout, stderr) = run_binary(&env, &args, "").await;
    assert_eq!(code, 0, "{stderr}");
    let source = Source::new("acme", &serde_json::from_str(&stdout).expect("JSON"));
    source.accept(&service, &events(0..10)).await;
    context.messages(10).await;
    context.source_is("acme", |shown| shown["delivered"] == 10 && shown["waiting"] == 0).await;
    assert_eq!(service.get("/readyz").await, 200);
    assert!(!service.log().contains("permission denied"), "{}", service.log());
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_create_is_told_when_the_schema_is_missing() {
    let context = Context::waiting().await;
    let role = new_role();
    let create = format!("create role {role} login password 'narrow'");
    execute(&context.options, &[&create, "revoke create on schema public from public"]).await;
    let env = context.env_with("DATABASE_URL", &url_of(&context, &role, "narrow"));
    let Err(log) = Service::try_start(&env).await else { panic!("there is no schema") };
    let line = log.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("migrat"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_the_newest_master_key_refuses_for_the_moment_and_concerns_no_other() {
    let old = crate::harness::MASTER_KEY;
    let new = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    let mut context = Context::waiting().await;
    let source = context.source("acme").await;
    let behind = context.serve().await;
    context.set("MASTER_KEY", &format!("{new},{old}"));
    let current = context.serve().await;
    assert_eq!(context.run(&["account", "rekey"]).await, json!({"sources": 1, "failed": []}));
    until(async || source.post(&behind, &events(0..1)).await.status != 200).await;
    for n in 0..20 {
        let answer = source.post(&behind, &events(1_000 + n..=1_000 + n)).await;
        assert_eq!(answer.status, 503, "the sender did nothing wrong: {answer:?}");
        assert!(answer.headers.contains_key("retry-after"));
        // Whichever replica looks first, the one that can delivers.
        source.accept(&current, &events(n + 1..=n + 1)).await;
        let delivered =
            async { context.segment_has(|s| texts(&s.messages(), "/userId").contains(&format!("u{}", n + 1))).await };
        let in_time = tokio::time::timeout(Duration::from_secs(5), delivered).await;
        assert!(in_time.is_ok(), "put to sleep by the replica that cannot open the write key");
    }
    assert!(behind.log().contains(r#""level":"ERROR""#), "an operator must learn of it");
    assert_eq!(context.show("acme").await["paused_reason"], json!(null));
    // Sealed with a key that it has, the source works there again.
    context.set("MASTER_KEY", &format!("{old},{new}"));
    assert_eq!(context.run(&["account", "rekey"]).await, json!({"sources": 1, "failed": []}));
    until(async || source.post(&behind, &events(100..101)).await.status == 200).await;
    context.source_is("acme", |shown| shown["waiting"] == 0).await;
    assert!(behind.terminate().await.success() && current.terminate().await.success());
}

/// A database and what a URL says of it.
struct Named<'a> {
    options: &'a PgConnectOptions,
    user: String,
    password: &'static str,
}

impl Named<'_> {
    fn url(&self, form: &str) -> String {
        let percent: String = self.password.bytes().flat_map(|byte| ["%".to_owned(), hex::encode([byte])]).collect();
        form.replace("USER", &self.user)
            .replace("ENCODED", &percent)
            .replace("PASSWORD", self.password)
            .replace("PORT", &self.options.get_port().to_string())
            .replace("DATABASE", self.options.get_database().unwrap_or_default())
    }
}

/// Creates a role that owns the database.
async fn named<'a>(context: &'a Context, password: &'static str) -> Named<'a> {
    let (user, database) = (new_role(), context.options.get_database().expect("one of the test's own"));
    let create = format!("create role {user} login password '{password}'");
    let statements =
        [create, format!("alter database {database} owner to {user}"), format!("grant all on schema public to {user}")];
    execute(&context.options, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    Named { options: &context.options, user, password }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_url_that_psql_takes_is_taken() {
    let context = Context::waiting().await;
    let named = named(&context, "s3cret?a/b@c:d%e&f=g#h").await;
    for form in [
        "postgres://USER:ENCODED@127.0.0.1:PORT/DATABASE",
        "postgresql://USER:ENCODED@localhost:PORT/DATABASE",
        "postgres://USER:ENCODED@127.0.0.1:PORT/DATABASE?sslmode=disable",
        "postgres://USER:ENCODED@127.0.0.1:PORT/DATABASE?connect_timeout=5&application_name=x&target_session_attrs=any",
        "postgres:///DATABASE?host=127.0.0.1&port=PORT&user=USER&password=ENCODED",
        "postgres://USER@127.0.0.1:PORT/DATABASE?password=ENCODED",
        "postgres://127.0.0.1:PORT,127.0.0.1:PORT/DATABASE?user=USER&password=ENCODED&target_session_attrs=read-write",
        "postgres://USER:ENCODED@127.0.0.1:1,127.0.0.1:PORT/DATABASE",
        "postgres:///DATABASE?host=127.0.0.1,localhost&port=1,PORT&user=USER&password=ENCODED",
    ] {
        let service = Service::try_start(&context.env_with("DATABASE_URL", &named.url(form))).await;
        let service = service.unwrap_or_else(|log| panic!("{form}: {log}"));
        assert_eq!(service.get("/readyz").await, 200, "{form}");
        assert!(!service.log().contains("s3cret"), "{form}: {}", service.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_at_an_ipv6_address_is_reached() {
    let Ok(free) = std::net::TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: there is no IPv6 loopback");
        return;
    };
    let context = Context::waiting().await;
    let target = std::net::SocketAddr::from(([127, 0, 0, 1], context.options.get_port()));
    drop(free);
    let proxy = Proxy::bind("[::1]:0".parse().expect("an address"), target).await;
    let named = named(&context, "s3cret").await;
    for hosts in ["HERE", "127.0.0.1:1,HERE", "HERE,127.0.0.1:1"] {
        let url = named.url(&format!("postgres://USER:ENCODED@{hosts}/DATABASE"));
        let url = url.replace("HERE", &format!("[::1]:{}", proxy.address.port()));
        let service = Service::start(&context.env_with("DATABASE_URL", &url)).await;
        assert_eq!(service.get("/readyz").await, 200);
        assert!(proxy.n_accepted() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_is_not_taken_is_refused_without_a_word_of_its_password() {
    let context = Context::waiting().await;
    for password in ["s3cret?S3CRET", "12?s3cret", "s3cret#S3CRET", "s3cret/S3CRET", "s3cret%zzS3CRET", "s3cret@S3CRET"]
    {
        let named = named(&context, password).await;
        for form in [
            "postgres://USER:PASSWORD@127.0.0.1:PORT/DATABASE",
            "postgres://USER:PASSWORD@127.0.0.1:PORT,127.0.0.1:1/DATABASE",
            "postgres://USER:PASSWORD@127.0.0.1:PORT/DATABASE?paswrod=PASSWORD",
        ] {
            let log = match Service::try_start(&context.env_with("DATABASE_URL", &named.url(form))).await {
                Ok(service) => {
                    assert_eq!(service.get("/readyz").await, 200, "{form} with {password}");
                    service.log()
                }
                Err(log) => {
                    let says = log.lines().any(|line| line.starts_with("error: DATABASE_URL: "));
                    assert!(says, "{form} with {password}: {log}");
                    log
                }
            };
            assert!(!log.to_lowercase().contains("s3cret"), "{form} with {password}: {log}");
        }
    }
}
