//! Every page: what a screen reader, a narrow screen and a stranger's text do to it.

use std::path::Path;

use serde_json::{Value, json};

use super::browser::{Browser, Scripts};
use super::driver::skipped;
use super::scene::{MARKUP, Scene, encoded};
use super::stage::play;

/// Rules of accessibility, as `.ci/run` fetches them.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/axe.min.js");
/// Runs all rules, or one; says what is serious.
const RUN_AXE: &str = r"
    const [rule, done] = arguments;
    const options = { resultTypes: ['violations'], preload: false };
    if (rule) options.runOnly = { type: 'rule', values: [rule] };
    axe.run(document, options).then(
        (result) => done(result.violations
            .filter((found) => ['serious', 'critical'].includes(found.impact))
            .map((found) => `${found.id} (${found.help}): ` + found.nodes.slice(0, 3).map((node) => node.html.slice(0, 300)).join('; '))),
        (error) => done([`axe: ${error}`]),
    );
";
/// What stands out at the right, and what a stranger's text became.
const LOOK: &str = r"
    const root = document.documentElement, wide = [];
    if (root.scrollWidth > root.clientWidth) {
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
        while (walk.nextNode()) {
            range.selectNodeContents(walk.currentNode);
            if (range.getBoundingClientRect().right > root.clientWidth + 1) wide.push(walk.currentNode.parentElement.outerHTML.slice(0, 300));
        }
        wide.push(`${root.scrollWidth} px`);
    }
    const strange = [...document.querySelectorAll('img, iframe, object, embed, base, script:not([src]), [onerror], a[href^=javascript]')];
    const hidden = root.outerHTML.match(/.{0,40}[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069].{0,40}/);
    return { wide: wide.slice(-4), strange: strange.map((element) => element.outerHTML), hit: window.hit_by ?? hidden?.[0] ?? null,
             status: performance.getEntriesByType('navigation')[0].responseStatus, text: document.body.textContent.length };
";

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_fits_and_runs_nothing_of_strangers() {
    play(Scripts::On, async |stage| {
        let has_axe = Path::new(AXE).is_file();
        if !has_axe {
            skipped("the rules of accessibility: `.ci/run` fetches axe-core into target/tools");
        }
        let browser = &stage.browser;
        let axe = if has_axe { std::fs::read_to_string(AXE).expect("UTF-8") } else { String::new() };
        browser.add_to_every_page(&format!("window.hit = () => {{ window.hit_by = location.href }};{axe}")).await;
        let mut faults = Vec::new();
        for path in ["/sign-in", "/links/nonsense", "/nothing"] {
            faults.extend(look(browser, path, has_axe).await);
        }
        browser.go(&stage.service.first_operator_link().await).await;
        faults.extend(look_here(browser, "the first link", has_axe).await);
        let scene = Scene::set(&stage.context, &stage.service).await;
        browser.set_user_agent(&format!("{MARKUP} {}", "U".repeat(400))).await;
        stage.enter_as_operator("olga@example.com").await;
        // As who may leave it.
        stage.invite(&scene.account, "olga@example.com", &[]).await;
        let searches = [
            format!("/operator?q={}", encoded(MARKUP)),
            format!("/operator?q={}", "q".repeat(1000)),
            format!("/sign-in?next={}", encoded("javascript:hit()")),
            format!("/confirm?next={}", encoded("//elsewhere.example")),
            format!("/sources/{}/set-up?test={}", scene.full.id, encoded(MARKUP)),
            format!("/sources/{}/events?recipient={}", scene.full.id, encoded(MARKUP)),
            format!("/sources/{}/events?campaign_id={}&state=rejected", scene.full.id, "c".repeat(400)),
            format!("/sources/{}/events?since={}", scene.full.id, encoded(MARKUP)),
            format!("/sources/{}/events?state=ignored", scene.full.id),
            format!("/sources/{}/events?state=held", scene.calls["source_id"].as_str().expect("an id")),
            format!("/sources/{}/events?state=ignored", scene.calls["source_id"].as_str().expect("an id")),
        ];
        for path in scene.pages().iter().chain(&searches) {
            faults.extend(look(browser, path, has_axe).await);
        }
        for answer in ANSWERS {
            browser.go(&answer.path(&scene)).await;
            for (label, text) in answer.fields {
                browser.fill(label, text).await;
            }
            browser.click(answer.button).await;
            browser.see(answer.sees).await;
            faults.extend(look_here(browser, answer.button, has_axe).await);
        }
        assert!(faults.is_empty(), "{faults:#?}");
    })
    .await;
}

/// A page that answers a form.
struct Form {
    /// With `A` for the account, and `S` for the source.
    path: &'static str,
    fields: &'static [(&'static str, &'static str)],
    button: &'static str,
    sees: &'static str,
}

const ANSWERS: [Form; 6] = [
    Form {
        path: "/accounts/A/new-token",
        fields: &[("What is it for?", MARKUP)],
        button: "Create it",
        sees: "It is shown only now.",
    },
    Form {
        path: "/accounts/A/invite",
        fields: &[("Email address", "ann'&@example.com")],
        button: "Make the link",
        sees: "A one-time link for ann'&@example.com",
    },
    Form {
        path: "/accounts/A/new-source",
        fields: &[("Name", MARKUP)],
        button: "Add the source",
        sees: "has a source",
    },
    Form {
        path: "/sources/S/doctor",
        fields: &[("Headers, one a line", MARKUP), ("Body, byte for byte", MARKUP)],
        button: "Judge it",
        sees: "Paste a header a line",
    },
    Form { path: "/sources/S/rotate-secret", fields: &[], button: "Make a new secret", sees: "It is shown only now." },
    Form {
        path: "/sources/S/delete",
        fields: &[("Type its name", MARKUP)],
        button: "Delete it",
        sees: "Nothing was deleted.",
    },
];

impl Form {
    fn path(&self, scene: &Scene) -> String {
        self.path.replace("/A/", &format!("/{}/", scene.account)).replace("/S/", &format!("/{}/", scene.full.id))
    }
}

async fn look(browser: &Browser, path: &str, has_axe: bool) -> Vec<String> {
    browser.go(path).await;
    look_here(browser, path, has_axe).await
}

/// Looks at the page in both colours and both widths.
async fn look_here(browser: &Browser, path: &str, has_axe: bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (width, theme) in [(1280, "light"), (390, "light"), (390, "dark"), (1280, "dark")] {
        browser.set_width(width).await;
        browser.run("document.documentElement.dataset.theme = arguments[0]", vec![json!(theme)]).await;
        if theme == "light" {
            let seen = browser.run(LOOK, Vec::new()).await;
            let is_well = seen["wide"] == json!([]) && seen["strange"] == json!([]) && seen["hit"].is_null();
            let is_answered = seen["status"].as_u64().is_some_and(|status| status < 500) && seen["text"] != 0;
            if !is_well || !is_answered {
                faults.push(format!("{path} at {width} px: {seen}"));
            }
        }
        if has_axe {
            // Colours are all that the theme changes.
            let rule = if theme == "dark" { json!("color-contrast") } else { Value::Null };
            let found = browser.run_async(RUN_AXE, vec![rule]).await;
            let found = found.as_array().expect("a list").iter();
            faults.extend(found.map(|fault| format!("{path} at {width} px, {theme}: {fault}")));
        }
    }
    faults
}
