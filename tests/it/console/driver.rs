//! Chromium, and the chromedriver that leads it: one process for all tests.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

/// Set by whoever wants a missing browser to be a failure.
const REQUIRED: &str = "REQUIRE_BROWSER";

/// A chromedriver that ends with this process, even when that is killed, and its browsers with it.
struct Driver {
    url: String,
    /// Its input ends with this process.
    _keeper: Child,
}

static DRIVER: LazyLock<Option<Driver>> = LazyLock::new(|| {
    let driver = Driver::start();
    if driver.is_none() {
        skipped("the tests of the console's pages: Debian's `chromium` and `chromium-driver` are not installed");
    }
    driver
});

/// Where the driver listens; `None`: there is no browser here, and what needs one is skipped.
pub fn url() -> Option<&'static str> {
    DRIVER.as_ref().map(|driver| driver.url.as_str())
}

/// Says that something is not tested here, also where the test runner keeps what tests print. Where it must be tested, it
/// fails.
pub fn skipped(what: &str) {
    assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set; skipped: {what}");
    writeln!(std::io::stderr(), "skipped: {what}").expect("stderr");
}

impl Driver {
    fn start() -> Option<Self> {
        let is_there = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        };
        if !is_there("chromium") || !is_there("chromedriver") {
            return None;
        }
        let name = format!("chromium-{}", hex::encode(nudgespot_source::random::bytes::<6>()));
        let profiles = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&profiles).expect("the target folder can be written");
        // All of them are of one group, which ends with this process's end of the pipe.
        let script = r#"chromedriver --port=0 </dev/null & read -r _; trap "" TERM; kill -TERM 0; wait; until rm -rf "$TMPDIR"; do sleep 0.1; done"#;
        let mut keeper = Command::new("sh")
            .args(["-c", script])
            .env("TMPDIR", &profiles)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let mut lines = BufReader::new(keeper.stdout.take().expect("piped")).lines();
        let port = lines.find_map(|line| {
            let line = line.expect("UTF-8");
            let port = line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse::<u16>();
            Some(port.expect("a port"))
        });
        let url = format!("http://127.0.0.1:{}", port.expect("chromedriver starts"));
        // Nobody reads the rest, which is nothing: it logs elsewhere only when asked to.
        std::mem::forget(lines);
        Some(Self { url, _keeper: keeper })
    }
}
