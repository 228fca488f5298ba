//! Clusters that come from a backup, or have lost a part.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Alone;
use crate::harness::{Service, events};

/// An error that is plain at once is told within this time: far below the minutes for which a start may be waited for.
const AT_ONCE: Duration = Duration::from_secs(30);

/// What opening the database fails with, in one line and without delay.
async fn error(alone: &Alone) -> String {
    let began = Instant::now();
    let (code, _, stderr) = alone.list().await;
    assert!(began.elapsed() < AT_ONCE);
    assert_eq!(code, 1, "{stderr}");
    assert_eq!(alone.postgres(), None, "nothing is left behind");
    stderr.lines().last().expect("a line").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_and_the_master_key_suffice() {
    let alone = Alone::without_segment();
    let source = alone.source("acme").await;
    let restored = Alone::new().await;
    std::fs::create_dir(&restored.dir).expect("created");
    // As root copies: all is root's then, and open to others.
    let folder = [alone.dir.join("postgres"), restored.dir.join("postgres")];
    assert!(Command::new("cp").arg("-r").args(folder).status().expect("cp").success());
    let open = std::fs::set_permissions(restored.dir.join("postgres"), PermissionsExt::from_mode(0o755));
    open.expect("opened");
    std::fs::copy(alone.dir.join("master.key"), restored.dir.join("master.key")).expect("copied");

    let service = Service::start(&restored.env).await;
    source.accept(&service, &events(0..1)).await;
    restored.messages(1).await;
    assert!(service.terminate().await.success());
    assert_eq!(super::mode(&restored.dir.join("postgres.password")), 0o600);
    assert_eq!(super::mode(&restored.dir.join("postgres")), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_file_is_replaced_unless_others_use_the_server() {
    let alone = Alone::without_segment();
    alone.source("acme").await;
    let path = alone.dir.join("postgres.password");
    // Another cluster's; one that was cut off; none.
    let wrong = ["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "", "x'; drop"];
    for text in wrong {
        std::fs::write(&path, text).expect("written");
        let (code, _, stderr) = alone.list().await;
        assert_eq!(code, 0, "{text}: {stderr}");
    }
    let service = Service::start(&alone.env).await;
    let right = std::fs::read(&path).expect("read");
    std::fs::write(&path, wrong[0]).expect("written");
    let (code, _, stderr) = alone.list().await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("postgres.password"), "{stderr}");
    std::fs::write(&path, right).expect("written");
    assert_eq!(alone.list().await.0, 0);
    service.kill().await;
    // The server runs on, and its password is lost.
    std::fs::remove_file(&path).expect("removed");
    let (code, _, stderr) = alone.list().await;
    assert_eq!(code, 0, "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_master_key_is_not_made_anew() {
    let mut alone = Alone::without_segment();
    alone.source("acme").await;
    let path = alone.dir.join("master.key");
    let key = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, "").expect("emptied");
    assert!(error(&alone).await.contains("master.key"));
    std::fs::remove_file(&path).expect("removed");
    let told = error(&alone).await;
    assert!(told.contains("master.key") && told.contains("MASTER_KEY"), "{told}");
    assert!(!path.exists());
    alone.set("MASTER_KEY", &key);
    let (code, stdout, stderr) = alone.list().await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("acme"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_of_postgresql_is_told_at_once_and_the_matching_one_is_preferred() {
    let mut alone = Alone::without_segment();
    alone.source("acme").await;
    // A newer PostgreSQL, first in the path.
    let newer = alone.dir.join("newer");
    std::fs::create_dir(&newer).expect("created");
    for program in ["postgres", "initdb"] {
        let path = newer.join(program);
        std::fs::write(&path, "#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n").expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    }
    let path = std::env::var("PATH").expect("a path");
    alone.set("PATH", &format!("{}:{path}", newer.display()));
    let (code, _, stderr) = alone.list().await;
    assert_eq!(code, 0, "{stderr}");

    let version = alone.dir.join("postgres/PG_VERSION");
    let made_by = std::fs::read_to_string(&version).expect("read");
    std::fs::write(&version, "13\n").expect("written");
    let told = error(&alone).await;
    assert!(told.contains("PostgreSQL 13") && told.contains("99"), "{told}");
    std::fs::write(&version, "").expect("written");
    assert!(error(&alone).await.contains("PG_VERSION"));
    std::fs::write(&version, made_by).expect("written");
    assert_eq!(alone.list().await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_of_the_same_error_each_time_is_told_of_soon() {
    let alone = Alone::without_segment();
    alone.source("acme").await;
    let config = alone.dir.join("postgres/postgresql.auto.conf");
    std::fs::write(&config, "shared_buffers = 'a lot'\n").expect("written");
    let told = error(&alone).await;
    assert!(told.contains("postgres.log") && told.contains("FATAL"), "{told}");
    std::fs::write(&config, "").expect("written");
    // What it says to those who knock.
    let access = alone.dir.join("postgres/pg_hba.conf");
    let all = std::fs::read(&access).expect("read");
    std::fs::write(&access, "").expect("written");
    assert!(error(&alone).await.contains("pg_hba.conf"));
    std::fs::write(&access, all).expect("written");
    let (code, _, stderr) = alone.list().await;
    assert_eq!(code, 0, "{stderr}");
}
