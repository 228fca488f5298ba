//! `account rekey`, where not every source can be sealed anew.

use serde_json::{Value, json};

use crate::harness::{Context, MASTER_KEY, events};

const NEW_KEY: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const LOST_KEY: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

async fn rekey(context: &Context) -> (i32, Value, String) {
    let (code, stdout, stderr) = context.try_run(&["account", "rekey", "--json"], "").await;
    (code, serde_json::from_str(&stdout).expect("one JSON value"), stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_cannot_be_opened_are_named_and_the_others_are_sealed_anew() {
    let mut context = Context::new().await;
    context.set("RUST_LOG", "warn");
    let (first, last) = (context.source("a-first").await, context.source("z-last").await);
    context.run(&["source", "rotate-secret", "a-first"]).await;
    context.set("MASTER_KEY", LOST_KEY);
    context.create("lost", &["--write-key", "some-write-key"]).await;
    context.set("MASTER_KEY", &format!("{NEW_KEY},{MASTER_KEY}"));
    for _ in 0..2 {
        let (code, told, stderr) = rekey(&context).await;
        assert_eq!((code, &told["sources"], stderr.lines().count()), (1, &json!(2), 1), "{told} {stderr}");
        assert!(
            stderr.contains("1 of 3 sources could not be sealed anew: `lost/nudgespot` (MASTER_KEY: no key"),
            "{stderr}"
        );
        let [failed] = &told["failed"].as_array().expect("a list")[..] else { panic!("one: {told}") };
        assert_eq!(failed["name"], "lost/nudgespot");
        assert!(
            failed["reason"].as_str().is_some_and(|reason| reason.contains("no key in MASTER_KEY opens")),
            "{told}"
        );
    }
    // What does not open hides nothing else.
    let listed = context.run(&["account", "list"]).await;
    let keys: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|a| a["sources"][0]["write_key_last4"].as_str()).collect();
    assert_eq!(keys, ["irst", "????", "last"]);

    context.run(&["account", "delete", "lost", "--yes"]).await;
    assert_eq!(rekey(&context).await.1, json!({"sources": 2, "failed": []}));
    context.set("MASTER_KEY", NEW_KEY);
    context.set("RUST_LOG", "info");
    let service = context.serve().await;
    let rotated = context.run(&["source", "rotate-secret", "z-last"]).await;
    assert!(rotated["signing_secret"].is_string());
    first.accept(&service, &events(0..1)).await;
    last.accept(&service, &events(0..1)).await;
    context.messages(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_changes_at_the_same_time_is_read_again() {
    let mut context = Context::new().await;
    for name in ["a-busy", "b-never", "c-calm"] {
        context.source(name).await;
    }
    // As if somebody else had changed them: twice, or each time.
    context
        .execute(
            "create sequence attempts;
            create function conflict() returns trigger language plpgsql as $$ begin
                return case (select name from account where id = old.account_id)
                    when 'b-never' then null
                    when 'a-busy' then case when nextval('attempts') < 3 then null else new end
                    else new
                end;
            end $$;
            create trigger conflict before update on source for each row execute function conflict()",
        )
        .await;
    context.set("MASTER_KEY", &format!("{NEW_KEY},{MASTER_KEY}"));
    let (code, told, stderr) = rekey(&context).await;
    assert_eq!(
        (code, &told["sources"], &told["failed"][0]["name"]),
        (1, &json!(2), &json!("b-never/nudgespot")),
        "{told}"
    );
    assert!(stderr.contains("1 of 3 sources") && stderr.contains("somebody else changed it"), "{stderr}");
    context.execute("drop trigger conflict on source").await;
    assert_eq!(rekey(&context).await.1, json!({"sources": 3, "failed": []}));
    context.set("MASTER_KEY", NEW_KEY);
    context.serve().await;
}
