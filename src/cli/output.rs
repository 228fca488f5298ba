//! What commands print. Nothing else writes to stdout or stderr, but for logs.
//!
//! Whoever reads stdout may have seen enough: the command then ends quietly, in good order, as if all had been read.

use std::fmt;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use comfy_table::{ColumnConstraint, Table, Width, presets};
use serde::Serialize;
use serde_json::Value;

use crate::domain::text::{visible, visible_json, with_causes};

/// Nobody reads stdout any more.
#[derive(Debug)]
struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads stdout any more")
    }
}

impl std::error::Error for StdoutClosed {}

/// Prints a line on stdout, as it is: what strangers wrote must have been made visible. May block.
///
/// # Errors
/// Where it cannot be written. Hand the error on: [`report`] knows one that only says that nobody reads any more.
pub fn line(text: &str) -> io::Result<()> {
    write(&format!("{text}\n"))
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, StdoutClosed),
        kind => io::Error::new(kind, format!("cannot write to stdout: {error}")),
    })
}

/// Prints one JSON value, or the text for a person, which is made visible before by whoever made it.
///
/// # Errors
/// As of [`line`].
pub fn print(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
    if json { line(&visible_json(&serde_json::to_string_pretty(value)?)) } else { line(text().trim_end()) }
}

/// Writes a line to stderr. Where nobody reads that, there is nobody to tell.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Tells a person on stderr, in one line, what kept a command from its work. Returns the program's exit code.
#[must_use]
pub fn report(error: &anyhow::Error) -> ExitCode {
    let is_closed = |cause: &(dyn std::error::Error + 'static)| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<StdoutClosed>)
    };
    if error.chain().any(is_closed) {
        return ExitCode::SUCCESS;
    }
    complain(&format!("error: {}", with_causes(error.as_ref())));
    ExitCode::FAILURE
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
        let _ = writeln!(text, "{name:width$}  {}", visible(&value));
        text
    })
}

/// A table: headings, then rows, each column as wide as its widest cell.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    Columns::new(headings).format(rows, true)
}

/// The columns of a table that is printed piece by piece.
struct Columns {
    headings: Vec<String>,
    widths: Vec<u16>,
}

impl Columns {
    fn new(headings: &[&str]) -> Self {
        let headings: Vec<String> = headings.iter().map(|heading| heading.to_uppercase()).collect();
        Self { widths: vec![0; headings.len()], headings }
    }

    /// Formats further rows. No column becomes narrower than it was.
    fn format(&mut self, rows: &[Vec<String>], with_headings: bool) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if with_headings {
            table.set_header(&self.headings);
        }
        table.add_rows(rows.iter().map(|row| row.iter().map(|cell| visible(cell).into_owned())));
        for (width, least) in table.column_max_content_widths().into_iter().zip(&mut self.widths) {
            *least = width.max(*least);
        }
        for (column, least) in table.column_iter_mut().zip(&self.widths) {
            column.set_padding((0, 2));
            // A constraint counts the padding.
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least.saturating_add(2))));
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }
}

/// A list that is printed page by page, however long it is: one JSON array, or one table.
pub struct List {
    json: bool,
    columns: Columns,
    n_printed: usize,
}

impl List {
    /// A list of which nothing is printed yet.
    pub fn new(json: bool, headings: &[&str]) -> Self {
        Self { json, columns: Columns::new(headings), n_printed: 0 }
    }

    /// Prints further items.
    ///
    /// # Errors
    /// As of [`line`].
    pub fn print<T: Serialize>(&mut self, items: &[T], row: impl Fn(&T) -> Vec<String>) -> io::Result<()> {
        if self.json {
            let mut page = String::new();
            for item in items {
                page += if self.n_printed == 0 { "[\n  " } else { ",\n  " };
                page += &visible_json(&serde_json::to_string_pretty(item)?.replace('\n', "\n  "));
                self.n_printed += 1;
            }
            write(&page)?;
        } else if !items.is_empty() {
            let rows: Vec<Vec<String>> = items.iter().map(row).collect();
            line(&self.columns.format(&rows, self.n_printed == 0))?;
            self.n_printed += items.len();
        }
        Ok(())
    }

    /// Prints what is still missing.
    ///
    /// # Errors
    /// As of [`line`].
    pub fn end(mut self) -> io::Result<()> {
        match (self.json, self.n_printed) {
            (true, 0) => line("[]"),
            (true, _) => line("\n]"),
            (false, 0) => line(&self.columns.format(&[], true)),
            (false, _) => Ok(()),
        }
    }
}
