//! What commands print on stdout.

use std::fmt::Write;
use std::io::{self, Write as _};

use serde::Serialize;
use serde_json::Value;

/// Prints a line on stdout.
///
/// # Errors
/// Where it cannot be written, such as when nobody reads it any more.
pub fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Prints one JSON value, or the text for a person.
pub fn print(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) {
    if json {
        println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
    } else {
        println!("{}", text().trim_end());
    }
}

/// Names and values, one a line, the values aligned.
pub fn fields(value: &impl Serialize) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(value) else { return String::new() };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    fields.iter().fold(String::new(), |mut text, (name, value)| {
        let value = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let _ = writeln!(text, "{name:width$}  {value}");
        text
    })
}

/// A table: headings, then rows, each column as wide as its widest cell.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let headings: Vec<String> = headings.iter().map(|heading| heading.to_uppercase()).collect();
    let lines = std::iter::once(line(&headings)).chain(rows.iter().map(|row| line(row)));
    lines.collect::<Vec<_>>().join("\n")
}
