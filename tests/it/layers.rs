//! Imports point down. Each part of the program may use those below it, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and those that it may use.
const MAY_USE: [(&str, &str); 21] = [
    ("cli", "admin app config database domain local_postgres random sandbox sources telemetry"),
    (
        "app",
        "admin config database delivery destinations domain ingest jobs local_postgres metrics secrets store wakeups web",
    ),
    ("database", "config local_postgres secrets store"),
    ("telemetry", "config domain"),
    ("web", "admin domain ingest metrics secrets sources store"),
    ("admin", "destinations domain random secrets sources store"),
    ("delivery", "config destinations domain metrics random secrets sources store ticks wakeups"),
    ("jobs", "domain store ticks wakeups"),
    ("ingest", "domain metrics sources store ticks wakeups"),
    ("config", "domain secrets"),
    ("local_postgres", "random secrets ticks"),
    ("sandbox", "destinations domain random"),
    ("secrets", "domain metrics random sources store ticks wakeups"),
    ("metrics", "domain store"),
    ("sources", "domain"),
    ("destinations", "domain"),
    ("store", "domain"),
    ("wakeups", "domain store"),
    ("random", ""),
    ("ticks", ""),
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
            || relative.starts_with("delivery/scheduler.rs")
            || relative.starts_with("delivery/scheduler")
        {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            wrong.extend(
                IMPURE.iter().filter(|name| code.contains(**name)).map(|n| format!("{} knows {n}", relative.display())),
            );
        }
        if module != "store" && text.contains("sqlx::query") {
            wrong.push(format!("{} has SQL of its own", relative.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Files and folders of one folder must not use each other in a circle: neither could be read, or changed, alone.
#[test]
fn there_are_no_circles_inside_a_module() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut imports: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in sources(&src) {
        let relative = path.strip_prefix(&src).expect("below src").with_extension("");
        let this = if relative.ends_with("mod") { relative.parent().expect("a folder") } else { &relative }.to_owned();
        let Some(parent) = this.parent() else { continue };
        let text = fs::read_to_string(&path).expect("UTF-8");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for line in code.lines().filter_map(|line| line.trim_start().strip_prefix("use ")) {
            // What `super` is, for a file and for the `mod.rs` of a folder.
            let (base, names) = match (line.strip_prefix("super::"), line.strip_prefix("crate::")) {
                (Some(names), _) => (parent.to_owned(), names),
                (_, Some(names)) => (PathBuf::new(), names),
                _ => continue,
            };
            let is_module = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let used = names.split("::").take_while(is_module).fold(base, |path, name| path.join(name));
            // Of what lies deeper, the neighbour counts.
            let neighbour = used.strip_prefix(parent).ok().and_then(|below| below.iter().next());
            if let Some(neighbour) = neighbour.map(|name| parent.join(name)).filter(|neighbour| *neighbour != this) {
                imports.entry(this.clone()).or_default().insert(neighbour);
            }
        }
    }
    let mut circles = Vec::new();
    for start in imports.keys() {
        let (mut reached, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(next) = open.pop() {
            for used in imports.get(next).into_iter().flatten() {
                if used == start {
                    circles.push(format!("{} … {}", start.display(), next.display()));
                }
                if reached.insert(used) {
                    open.push(used);
                }
            }
        }
    }
    assert!(circles.is_empty(), "{circles:#?}");
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
