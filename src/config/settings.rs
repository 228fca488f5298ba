//! The list of all settings, as `serve --help` and the README show it.

use std::fmt::Write;

/// A variable, or two of one kind, for people. In Markdown.
struct Setting {
    names: &'static str,
    default: &'static str,
    meaning: &'static str,
}

const fn setting(names: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { names, default, meaning }
}

const SETTINGS: &[Setting] = &[
    setting(
        "`DATABASE_URL`",
        "a private cluster under `DATA_DIR`",
        "PostgreSQL 14 or newer. Several hosts as libpq writes them (`postgres://u:p@h1:5432,h2:5432/db`): the one that \
         takes writes is used, and looked for again when it is lost",
    ),
    setting("`DATA_DIR`", "`./data`", "the private cluster and its generated `MASTER_KEY` (mode 0600)"),
    setting("`BIND`", "`127.0.0.1:8080`", "webhooks, `/healthz`, `/readyz`"),
    setting("`CONSOLE_BIND`", "`127.0.0.1:8081`", "the console and its API"),
    setting("`INTERNAL_BIND`", "`127.0.0.1:9090`", "`/metrics`"),
    setting(
        "`PUBLIC_URL`, `CONSOLE_URL`",
        "`http://<BIND>`, `http://<CONSOLE_BIND>`",
        "how webhook URLs and the console's links are shown; the console answers under this name, and under loopback names",
    ),
    setting("`TRUSTED_PROXIES`", "loopback", "addresses and networks whose `X-Forwarded-For` is believed"),
    setting(
        "`KEEP_ALIVE`",
        "`75s`",
        "how long an idle connection stays open. Longer than the load balancer in front keeps its own, or some webhooks \
         meet a closing connection and are answered 502",
    ),
    setting(
        "`MASTER_KEY`",
        "generated for the private cluster; required with `DATABASE_URL`",
        "base64 of 32 bytes; several, comma-separated: the first encrypts, all decrypt",
    ),
    setting("`SEGMENT_US_URL`, `SEGMENT_EU_URL`", "Segment's", "base URLs; plain `http` only to loopback"),
    setting("`SEGMENT_CDN_URL`", "Segment's", "where a write key is looked up; a hint, never a gate"),
    setting(
        "`NUDGESPOT_URL`",
        "`https://api.nudgespot.com/201507`",
        "Nudgespot's REST API, for sources of kind `segment`; plain `http` only to loopback",
    ),
    setting(
        "`MAX_BODY_BYTES`, `MAX_WAITING`",
        "1 MiB, 4096",
        "size of one webhook; webhooks that may wait for a commit",
    ),
    setting(
        "`MAX_DELIVERY_AGE`, `RETENTION`",
        "`7d`, `30d`",
        "give up after; forget after (dead letters: counted from when they died; event ids: 7 days at least)",
    ),
    setting("`RUST_LOG`, `LOG_FORMAT`", "`info`, `text` on a terminal else `json`", ""),
];

/// Whether there is a setting of this name.
pub(super) fn has(name: &str) -> bool {
    names().any(|known| known == name)
}

fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().flat_map(|setting| setting.names.split(", ")).map(|name| name.trim_matches('`'))
}

/// The settings as text, for a terminal.
#[must_use]
pub fn help() -> String {
    let mut help = String::from("Settings, from the environment and from `.env`:\n");
    for Setting { names, default, meaning } in SETTINGS {
        let plain = |markdown: &str| markdown.replace('`', "");
        let _ = writeln!(help, "  {}", plain(names));
        let text = plain(&format!("{meaning} [default: {default}]"));
        for line in wrapped(text.trim_start(), 100) {
            let _ = writeln!(help, "          {line}");
        }
    }
    help
}

/// The settings as the rows of a table, for the README.
#[must_use]
pub fn markdown() -> String {
    let rows = SETTINGS.iter().map(|Setting { names, default, meaning }| {
        format!("| {} |\n", [*names, *default, *meaning].join(" | ")).replace("|  |", "| |")
    });
    rows.collect()
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_and_the_example_have_every_setting() {
        let readme = include_str!("../../README.md");
        assert!(readme.contains(&format!("|---|---|---|\n{}\n", markdown())), "{}", markdown());
        let example = include_str!("../../.env.example");
        let shown = example.lines().filter_map(|line| Some(line.strip_prefix('#')?.split_once('=')?.0));
        let shown: Vec<&str> = shown.filter(|name| !name.starts_with(' ')).collect();
        let mut names: Vec<&str> = names().collect();
        for name in &names {
            assert!(shown.contains(name), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), shown.len(), "{shown:?}");
    }
}
