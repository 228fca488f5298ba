//! JSON text, made easier to read without changing what it says: order, numbers and strings stay as they are.

/// The same JSON with a line for each value. What is no JSON comes out in lines, too.
#[must_use]
pub fn indented(json: &str) -> String {
    let mut out = String::with_capacity(2 * json.len());
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

/// More than this, and the lines would be longer than what stands in them.
const MAX_INDENT: usize = 32;

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth.min(MAX_INDENT)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_value_has_a_line() {
        let json = r#"{"a":[1, {"b" : "x,\"{}\\"}],"c":{},"d":[ ]}"#;
        let expected =
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x,\\\"{}\\\\\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}";
        assert_eq!(indented(json), expected);
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_changes(text: String, n: f64) {
            let json = serde_json::json!({ text.clone(): [n, text, {"": null}] }).to_string();
            let shown = indented(&json);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).ok(), serde_json::from_str(&json).ok());
        }

        #[test]
        fn anything_is_shown(text: String) {
            prop_assert_eq!(indented(&text).is_empty(), text.trim_ascii().is_empty());
        }
    }
}
