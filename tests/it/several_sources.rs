//! An account with several sources: what belongs to one is nothing to the others.

use nudgespot_source::sandbox::{Fault, Faults, Sandbox};
use serde_json::{Value, json};

use crate::harness::{Context, Source, events, texts, until};

/// Adds a further source of kind `nudgespot`.
async fn add(context: &Context, account: &str, name: &str) -> Source {
    let key = format!("key-of-{name}");
    let args = ["source", "add", account, "--kind", "nudgespot", "--name", name, "--write-key", &key];
    Source::new(name, &context.run(&args).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_has_its_own_url_secret_key_pause_and_dead_letters() {
    let context = Context::new().await;
    let service = context.serve().await;
    let first = context.source("acme").await;
    let (second, third) = (add(&context, "acme", "second").await, add(&context, "acme", "third").await);
    let listed = context.run(&["source", "list", "acme"]).await;
    assert_eq!(texts(listed.as_array().expect("a list"), "/name"), ["nudgespot", "second", "third"]);

    // The same event ids: each source has its own.
    context.segment.faults.always(&second.write_key, Some(Fault::Status(401, None)));
    context.segment.faults.always(&third.write_key, Some(Fault::Status(400, None)));
    for source in [&first, &second, &third] {
        source.accept(&service, &events(0..3)).await;
    }
    let is = async |name: &str, condition: &dyn Fn(&Value) -> bool| context.source_is(name, condition).await;
    is("acme/nudgespot", &|shown| shown["delivered"] == 3 && shown["paused_reason"].is_null()).await;
    is("acme/second", &|shown| shown["waiting"] == 3 && !shown["paused_reason"].is_null()).await;
    is("acme/third", &|shown| shown["dead_letters"] == 3 && shown["waiting"] == 0).await;
    let letters = context.run(&["dead-letters", "list", "--source", "acme/third"]).await;
    assert_eq!(texts(letters.as_array().expect("a list"), "/event_id"), ["e0", "e1", "e2"]);
    assert_eq!(context.run(&["dead-letters", "list", "--source", "acme/second"]).await, json!([]));
    first.accept(&service, &events(3..5)).await;
    is("acme/nudgespot", &|shown| shown["delivered"] == 5).await;

    let unsigned_by_it = second.sign(nudgespot_source::sources::signature::SigningScheme::Standard, "[]");
    assert_eq!(first.post_signed(&service, "[]", &unsigned_by_it).await.status, 401, "each has its own secret");
    context.run(&["source", "set", "acme/second", "--write-key", "right-key"]).await;
    is("acme/second", &|shown| shown["delivered"] == 3 && shown["paused_reason"].is_null()).await;
    context.segment.faults.always(&third.write_key, None);
    let replayed = context.run(&["dead-letters", "replay", "--source", &third.id]).await;
    assert_eq!(replayed, json!({"replayed": 3}));
    is("acme/third", &|shown| shown["delivered"] == 3).await;
    let mut ids = texts(&context.segment.messages(), "/messageId");
    assert_eq!(ids.len(), 11);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 11, "no message id is shared by two sources");
}

#[tokio::test(flavor = "multi_thread")]
async fn which_is_meant_must_be_clear() {
    let context = Context::new().await;
    context.source("acme").await;
    add(&context, "acme", "second").await;
    for (args, says) in [
        (["source", "show", "acme"], "several sources; say which, as in `acme/"),
        (["source", "show", "acme/third"], "there is no source `acme/third`"),
        (["source", "show", "nobody"], "there is no source `nobody`"),
    ] {
        let (code, _, stderr) = context.try_run(&args, "").await;
        assert_eq!((code, stderr.contains(says)), (1, true), "{args:?}: {stderr}");
    }
    context.run(&["source", "delete", "acme/second", "--yes"]).await;
    assert_eq!(context.run(&["source", "show", "acme"]).await["name"], "nudgespot");
    context.run(&["source", "delete", "acme", "--yes"]).await;
    let (code, _, stderr) = context.try_run(&["source", "show", "acme"], "").await;
    assert_eq!((code, stderr.contains("has no source")), (1, true), "{stderr}");
    assert_eq!(context.run(&["account", "show", "acme"]).await["sources"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_of_its_own_goes_before_the_regions() {
    let context = Context::new().await;
    let service = context.serve().await;
    let source = context.create("acme", &[]).await;
    let elsewhere = Sandbox::new(Faults::default());
    let (server, _, address) = elsewhere.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    tokio::spawn(server);
    let endpoint = format!("http://{address}/segment");
    let (code, _, stderr) = context.try_run(&["source", "set", "acme", "--endpoint", "http://10.0.0.1"], "").await;
    assert_eq!((code, stderr.contains("https")), (2, true), "{stderr}");
    let endpoint = endpoint.trim_end_matches("/segment");
    context.run(&["source", "set", "acme", "--endpoint", endpoint, "--write-key", "key-of-acme"]).await;
    source.accept(&service, &events(0..2)).await;
    until(async || elsewhere.messages().len() == 2).await;
    assert!(context.segment.messages().is_empty());
    context.run(&["source", "set", "acme", "--endpoint", "none"]).await;
    source.accept(&service, &events(2..4)).await;
    assert_eq!(texts(&context.messages(2).await, "/userId"), ["u2", "u3"]);
}
