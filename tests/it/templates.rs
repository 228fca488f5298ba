//! What the templates of pages must not do, however harmless it looks: text of strangers becomes markup by such means.

use std::fs;
use std::path::Path;

/// Values that may begin an address. Each is made by this program, from nothing that a stranger wrote.
const OWN_ADDRESSES: [&str; 9] =
    ["frame.icon()", "frame.style", "frame.script", "row.path", "onward", "base", "row.href", "same", "next"];
/// Attributes that hold an address.
const ADDRESSES: [&str; 6] = ["href", "src", "action", "formaction", "data-live", "xlink:href"];

#[test]
fn templates_escape_everything_and_hold_no_script_or_style() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut faults = Vec::new();
    let mut n_templates = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        assert_eq!(path.extension().and_then(|extension| extension.to_str()), Some("html"), "{}", path.display());
        let text = fs::read_to_string(&path).expect("UTF-8");
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        faults.extend(faults_of(&text).into_iter().map(|fault| format!("{name}: {fault}")));
        n_templates += 1;
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(10 < n_templates, "templates are somewhere else now");
}

#[test]
fn the_faults_are_found() {
    for fault in [
        "<p>{{ name|safe }}</p>",
        "<p>{{ name | safe }}</p>",
        "{% filter safe %}{{ name }}{% endfilter %}",
        "{% autoescape false %}",
        "<p title={{ name }}>",
        "<p title=plain>",
        "<p {{ name }}>",
        "<{{ name }}>",
        "<p style=\"color: red\">",
        "<p STYLE='color: red'>",
        "<p onclick=\"f()\">",
        "<svg{% if a %} onload=\"f()\"{% endif %}>",
        "<style>p { color: red }</style>",
        "<script>f()</script>",
        "<script src=\"{{ frame.script }}\">f()</script>",
        "<script>{{ name }}</script>",
        "<a href=\"{{ link_url }}\">",
        "<a href=\"{% if a %}{{ link_url }}{% endif %}\">",
        "<a href='javascript:f()'>",
        "<form action=\"{{ url }}\">",
        "<img src=\"https://elsewhere.example/x.png\">",
        "<!-- {{ name }} -->",
    ] {
        assert!(!faults_of(fault).is_empty(), "{fault}");
    }
    for fine in [
        "<p title=\"{{ name }}\">{{ name }}</p>",
        "<a href=\"/a/{{ name }}?b={{ c }}\"{% if d %} class=\"e\"{% endif %} hidden>",
        "<a href=\"{{ frame.style }}\">",
        "<script src=\"{{ frame.script }}\" defer></script>",
        "{% if 1 < 2 %}{{ a }}{% endif %} 3 > 2 {# <p style=\"x\"> #}",
    ] {
        assert_eq!(faults_of(fine), Vec::<String>::new(), "{fine}");
    }
}

/// A part of a template.
#[derive(Debug)]
enum Part<'t> {
    /// As it stands.
    Text(&'t str),
    /// `{{ … }}`
    Value(&'t str),
    /// `{% … %}`
    Tag(&'t str),
}

fn parts(mut template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    while let Some(at) = ["{{", "{%", "{#"].iter().filter_map(|open| template.find(open)).min() {
        parts.push(Part::Text(&template[..at]));
        let close = match &template[at..at + 2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => "#}",
        };
        let end = template[at..].find(close).map_or(template.len(), |end| at + end);
        let inner = template[at + 2..end].trim_matches(['-', '+', '~', ' ', '\n']);
        match close {
            "}}" => parts.push(Part::Value(inner)),
            "%}" => parts.push(Part::Tag(inner)),
            _ => {}
        }
        template = template.get(end + 2..).unwrap_or_default();
    }
    parts.push(Part::Text(template));
    parts
}

/// Where in the markup something stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Text,
    Comment,
    /// Between the attributes of a tag.
    Tag,
    /// In an attribute's value, between these quotes.
    Attribute(char),
    Script,
}

fn faults_of(template: &str) -> Vec<String> {
    let mut walk = Walk { place: Place::Text, tag: String::new(), value: String::new(), faults: Vec::new() };
    for part in parts(template) {
        match part {
            Part::Text(text) => text.chars().for_each(|c| walk.step(c)),
            Part::Value(value) => walk.value(value),
            Part::Tag(tag) => {
                let filters = tag.split('|').skip(1).map(str::trim);
                if tag.contains("autoescape") || tag.starts_with("filter") || filters.into_iter().any(is_unsafe) {
                    walk.fault(tag);
                }
            }
        }
    }
    walk.faults
}

fn is_unsafe(filter: &str) -> bool {
    filter.split('(').next().is_some_and(|name| ["safe", "escape", "e"].contains(&name.trim()))
}

struct Walk {
    place: Place,
    /// The tag so far, without its attributes' values.
    tag: String,
    /// The attribute's value so far.
    value: String,
    faults: Vec<String>,
}

impl Walk {
    fn fault(&mut self, what: &str) {
        self.faults.push(format!("{what} after {}", self.tag));
    }

    fn step(&mut self, c: char) {
        match (self.place, c) {
            (Place::Text, '<') => {
                "<".clone_into(&mut self.tag);
                self.place = Place::Tag;
            }
            (Place::Tag, '"' | '\'') => {
                if !self.tag.ends_with('=') {
                    self.fault("a quote without an attribute");
                }
                self.value.clear();
                self.place = Place::Attribute(c);
            }
            (Place::Tag, '>') => self.end_tag(),
            (Place::Tag, c) => {
                if self.tag.ends_with('=') {
                    self.fault("an attribute without quotes");
                }
                self.tag.push(c.to_ascii_lowercase());
                if self.tag == "<!--" {
                    self.place = Place::Comment;
                } else if self.tag.len() == 2 && !c.is_ascii_alphabetic() && !matches!(c, '/' | '!') {
                    // A sign, not a tag.
                    self.place = Place::Text;
                }
            }
            (Place::Attribute(quote), c) if c == quote => self.end_attribute(),
            (Place::Attribute(_), c) => self.value.push(c),
            (Place::Comment, c) => {
                self.tag.push(c);
                if self.tag.ends_with("-->") {
                    self.place = Place::Text;
                }
            }
            (Place::Script, '<') => self.step_out_of_script(),
            (Place::Script, c) if !c.is_whitespace() => self.fault("an inline script"),
            _ => {}
        }
    }

    fn step_out_of_script(&mut self) {
        "<".clone_into(&mut self.tag);
        self.place = Place::Tag;
    }

    fn value(&mut self, value: &str) {
        if value.split('|').skip(1).any(is_unsafe) {
            self.fault(value);
        }
        match self.place {
            Place::Text => {}
            Place::Attribute(_) => {
                let is_first = self.value.is_empty();
                self.value.push('\u{fffc}');
                if is_first && self.is_address() && !OWN_ADDRESSES.contains(&value) {
                    self.fault(&format!("{value} begins an address"));
                }
            }
            place => self.fault(&format!("{value} in {place:?}")),
        }
    }

    /// The name of the attribute that stands last.
    fn attribute(&self) -> &str {
        self.tag.trim_end_matches('=').rsplit(|c: char| c.is_whitespace()).next().unwrap_or_default()
    }

    fn is_address(&self) -> bool {
        ADDRESSES.contains(&self.attribute())
    }

    fn end_attribute(&mut self) {
        let name = self.attribute().to_owned();
        if name == "style" || name.starts_with("on") {
            self.fault(&name);
        }
        let is_elsewhere = self.value.contains(':') || self.value.starts_with("//");
        if self.is_address() && is_elsewhere {
            self.fault(&format!("{name} leads elsewhere"));
        }
        // What follows is the next attribute.
        self.tag.push(' ');
        self.place = Place::Tag;
    }

    fn end_tag(&mut self) {
        let name: String = self.tag.chars().skip(1).take_while(char::is_ascii_alphanumeric).collect();
        if ["style", "iframe", "object", "embed", "base"].contains(&name.as_str()) {
            self.fault(&format!("<{name}>"));
        }
        self.place = if name == "script" { Place::Script } else { Place::Text };
        if name == "script" && !self.tag.contains("src=") {
            self.fault("an inline script");
        }
    }
}
