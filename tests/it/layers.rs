//! Imports point down. Each part of the program may use those below it, and no others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and those that it may use.
const MAY_USE: [(&str, &str); 18] = [
    ("cli", "app backend accounts config domain local_postgres random sandbox store telemetry"),
    ("app", "accounts backend config dispatch due ingest local_postgres metrics segment store web"),
    ("backend", "config local_postgres store vault"),
    ("config", "domain vault"),
    ("telemetry", "config"),
    ("local_postgres", "random vault"),
    ("web", "accounts domain ingest metrics store"),
    ("dispatch", "accounts config domain due metrics random segment store vault"),
    ("segment", "domain"),
    ("sandbox", "domain random segment"),
    ("accounts", "domain due metrics random store vault"),
    ("ingest", "domain due metrics store"),
    ("due", ""),
    ("metrics", "domain store"),
    ("random", ""),
    ("vault", ""),
    ("store", "domain"),
    ("domain", ""),
];

/// What the pure domain must not know, nor the scheduler.
const IMPURE: [&str; 8] = ["sqlx", "actix_web", "reqwest", "tokio", "getrandom", "tracing", "SystemTime", "now_utc"];

fn sources(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .expect("a folder")
        .flat_map(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() { sources(&path) } else { vec![path] }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn imports_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let may_use: BTreeMap<&str, Vec<&str>> =
        MAY_USE.iter().map(|(module, others)| (*module, others.split_whitespace().collect())).collect();
    let mut wrong = Vec::new();
    for path in sources(&src) {
        let relative = path.strip_prefix(&src).expect("below src");
        let first = relative.iter().next().and_then(|name| name.to_str()).expect("UTF-8");
        let module = first.trim_end_matches(".rs");
        if module == "lib" || module == "main" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("UTF-8");
        let text = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for used in text.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let allowed = may_use.get(module).unwrap_or_else(|| panic!("{module} has no place among the layers"));
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", relative.display()));
            }
        }
        if module == "domain"
            || relative.starts_with("dispatch/scheduler.rs")
            || relative.starts_with("dispatch/scheduler")
        {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            wrong.extend(
                IMPURE.iter().filter(|name| code.contains(**name)).map(|n| format!("{} knows {n}", relative.display())),
            );
        }
        if module != "store" && module != "backend" && text.contains("sqlx::query") {
            wrong.push(format!("{} has SQL of its own", relative.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_stay_small() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let long: Vec<_> = sources(&src)
        .into_iter()
        .filter(|path| fs::read_to_string(path).expect("UTF-8").lines().count() > 400)
        .collect();
    assert!(long.is_empty(), "over 400 lines: {long:?}");
}
