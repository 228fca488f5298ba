//! Text of strangers, as a terminal may see it: nothing in it moves the cursor, begins a line or sets a colour.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

/// `text` on one line, its control characters written as escapes.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_control)
}

/// Fields as text. The formatter's own would write the values of some as they are, and have them obeyed by a terminal.
pub fn fields() -> impl for<'a> FormatFields<'a> + 'static {
    debug_fn(|to, field, value| match (field.name(), format!("{value:?}")) {
        ("message", text) => to.write_str(&printable(&text)),
        (name, text) => write!(to, "{name}={}", printable(&text)),
    })
    .delimited(" ")
}

/// stderr for log lines.
pub fn stderr() -> LogLines<io::Stderr> {
    LogLines(io::stderr())
}

/// Keeps each event, which it gets in one piece, on one line, and leaves only the formatter's colours: what else it
/// let through is escaped, in a way that JSON reads as well.
pub struct LogLines<W>(W);

impl<W: Write> Write for LogLines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        let line = escape(text, |c| is_control(c) && c != '\u{1b}');
        self.0.write_all([&*line, end].concat().as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Control characters, and those that turn the direction of what follows.
fn is_control(c: char) -> bool {
    c.is_control() && c != '\t'
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' if is_escaped(c) => escaped.push_str("\\n"),
            '\r' if is_escaped(c) => escaped.push_str("\\r"),
            c if is_escaped(c) => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped.into()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn logged(event: &str) -> String {
        let mut bytes = Vec::new();
        LogLines(&mut bytes).write_all(event.as_bytes()).expect("a vector");
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(
            printable("a\u{1b}]0;x\u{7}b\r\nc\u{9b}31m\u{202e}d\té"),
            "a\\u001b]0;x\\u0007b\\r\\nc\\u009b31m\\u202ed\té"
        );
        assert_eq!(printable("plain"), "plain");
    }

    #[test]
    fn an_event_stays_on_one_line_and_keeps_the_formatters_colours() {
        assert_eq!(
            logged("\u{1b}[2mINFO\u{1b}[0m a\nERROR b\u{85}\r\n"),
            "\u{1b}[2mINFO\u{1b}[0m a\\nERROR b\\u0085\\r\n"
        );
    }

    #[test]
    fn what_tracing_writes_as_text_holds_no_control_characters() {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        let writer = Shared(Arc::clone(&buffer));
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .fmt_fields(fields())
            .with_writer(move || LogLines(writer.clone()))
            .finish();
        let text = "x\u{1b}[31m\u{7}\n2030 ERROR forged\r\u{9b}\u{0}";
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(text, shown = %text, debug = ?text, "{text}");
            let _span = tracing::info_span!("span", text, %text).entered();
            tracing::error!("{text}");
        });
        let log = String::from_utf8(buffer.lock().expect("whole").clone()).expect("UTF-8");
        assert_eq!(log.lines().count(), 2, "{log}");
        assert!(!log.replace('\n', "").chars().any(char::is_control), "{log:?}");
    }

    #[derive(Clone)]
    pub struct Shared(pub Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("whole").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
