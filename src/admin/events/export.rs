//! A source's events as a file, a part at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use uuid::Uuid;

use super::cursor::EventCursor;
use super::filter::EventFilter;
use super::row::EventRow;
use super::{MAX_PAGE, STEP, Wanted};
use crate::admin::{Admin, AdminError};

/// How a file of events is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// A JSON object a line, with the whole track, or payload.
    Ndjson,
    /// A table of fixed columns, for spreadsheets.
    Csv,
}

/// The columns of a table, in order.
const COLUMNS: [&str; 15] = [
    "received_at",
    "state",
    "kind",
    "event",
    "event_id",
    "message_id",
    "user_id",
    "anonymous_id",
    "email",
    "email_id",
    "email_subject",
    "campaign_id",
    "campaign_name",
    "link_url",
    "reason",
];

impl ExportFormat {
    /// The format of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ndjson" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// The end of a file's name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// What stands before all events.
    #[must_use]
    pub fn head(self) -> Vec<u8> {
        match self {
            Self::Ndjson => Vec::new(),
            Self::Csv => record(&COLUMNS),
        }
    }
}

/// How many files of an account are written at a time.
const MAX_EXPORTS: usize = 2;

/// The files that are being written, by account.
#[derive(Clone, Default)]
pub struct Exports(Arc<Mutex<HashMap<Uuid, usize>>>);

/// A file that is being written, until it is dropped.
pub struct ExportPermit {
    exports: Exports,
    account: Uuid,
}

impl Exports {
    fn begin(&self, account: Uuid) -> Option<ExportPermit> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = running.entry(account).or_default();
        if *n >= MAX_EXPORTS {
            return None;
        }
        *n += 1;
        Some(ExportPermit { exports: self.clone(), account })
    }
}

impl Drop for ExportPermit {
    fn drop(&mut self) {
        let mut running = self.exports.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = running.get_mut(&self.account) {
            *n -= 1;
            if *n == 0 {
                running.remove(&self.account);
            }
        }
    }
}

impl Admin {
    /// The right to write a file of an account's events; `None`: as many as may be are being written.
    #[must_use]
    pub fn begin_export(&self, account: Uuid) -> Option<ExportPermit> {
        self.exports.begin(account)
    }

    /// A part of a file of a source's events, newest first, from where `cursor` says; and where the next part begins, if
    /// there is one. A part may be empty.
    ///
    /// # Errors
    /// [`AdminError::NoSuchSource`], [`AdminError::Database`].
    pub async fn export_events(
        &self,
        source: Uuid,
        filter: &EventFilter,
        format: ExportFormat,
        cursor: Option<EventCursor>,
    ) -> Result<(Vec<u8>, Option<EventCursor>), AdminError> {
        let names = self.source_names(source).await?;
        let is_whole = format == ExportFormat::Ndjson;
        let wanted = Wanted { source, filter, names, is_whole, deadline: Instant::now() + STEP };
        let page = self.walk(&wanted, cursor, None, MAX_PAGE).await?;
        let mut out = Vec::new();
        for row in &page.data {
            match format {
                ExportFormat::Ndjson => {
                    let mut json = serde_json::Serializer::new(&mut out);
                    row.serialize(&mut json).expect("a row is JSON, and a Vec takes all");
                    out.push(b'\n');
                }
                ExportFormat::Csv => out.extend(record(&cells(row))),
            }
        }
        Ok((out, page.next_cursor.and_then(|cursor| cursor.parse().ok())))
    }
}

fn cells(row: &EventRow) -> [String; COLUMNS.len()] {
    let text = |text: &Option<String>| harmless(text.as_deref().unwrap_or_default());
    [
        row.received_at.clone(),
        row.state.as_str().to_owned(),
        row.kind.unwrap_or_default().to_owned(),
        text(&row.event),
        harmless(&row.event_id),
        text(&row.message_id),
        text(&row.user_id),
        text(&row.anonymous_id),
        text(&row.email),
        text(&row.email_id),
        text(&row.email_subject),
        text(&row.campaign_id),
        text(&row.campaign_name),
        text(&row.link_url),
        text(&row.reason),
    ]
}

/// A spreadsheet must not read what a stranger wrote as a formula.
fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

fn record<T: AsRef<[u8]>>(cells: &[T]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells).expect("a Vec takes all, and all records are of their own");
    writer.into_inner().expect("a Vec takes all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_an_account_are_written_at_a_time() {
        let (exports, [a, b]) = (Exports::default(), [1, 2].map(Uuid::from_u128));
        let (first, second) = (exports.begin(a), exports.begin(a));
        assert!(first.is_some() && second.is_some() && exports.begin(a).is_none() && exports.begin(b).is_some());
        drop(first);
        assert!(exports.begin(a).is_some());
    }

    #[test]
    fn no_cell_is_a_formula_and_no_cell_breaks_out() {
        for text in ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"] {
            assert_eq!(harmless(text), format!("'{text}"));
        }
        assert_eq!(harmless("a=1"), "a=1");
        assert_eq!(record(&["a,b", "say \"hi\"", "two\nlines"]), b"\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\"\r\n");
    }
}
