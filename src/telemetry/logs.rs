//! Log lines on standard error. What others wrote is in them, so no line has a character that a terminal obeys.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
};

use anyhow::Context;
use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    fmt::format::{Writer, debug_fn},
};

use crate::{config::LogFormat, output, wire::printable};

/// Starts logging to standard error.
///
/// # Errors
/// When the filter can't be read.
pub fn init_logs(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log '{filter}' is not a filter"))?;
    output::start_log().context("cannot start the writer of the log")?;
    // Its own errors would go to standard error straight, and stop this process where that can't be written.
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).log_internal_errors(false);
    let installed = match format {
        LogFormat::Human => logs
            .with_writer(output::log)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .fmt_fields(debug_fn(field).delimited(" "))
            .try_init(),
        LogFormat::Json => logs.with_writer(|| Escaped(output::log())).json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Writes one field of a line.
fn field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match (field.name(), to.has_ansi_escapes()) {
        ("message", _) => {}
        (name, true) => write!(to, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        (name, false) => write!(to, "{name}=")?,
    }
    write!(printable::Line(to), "{value:?}")
}

/// Lines of JSON, which escapes no more than the characters below a space by itself.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let safe = printable::json(String::from_utf8_lossy(line).into_owned());
        self.0.write_all(safe.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;

    const HOSTILE: &str = "a\x1b]0;x\x07\u{9b}2J\u{202e}\x7f\nINFO forged";

    fn log(format: LogFormat) -> String {
        static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

        struct Kept;

        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                LINES.lock().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let logs = tracing_subscriber::fmt().with_target(false);
        let event = || tracing::info!(text = HOSTILE, why = %HOSTILE, "says {HOSTILE}");
        match format {
            LogFormat::Human => {
                let logs =
                    logs.with_writer(|| Kept).with_ansi(false).fmt_fields(debug_fn(field).delimited(" "));
                tracing::subscriber::with_default(logs.finish(), event);
            }
            LogFormat::Json => {
                let logs = logs.with_writer(|| Escaped(Kept)).json().flatten_event(true);
                tracing::subscriber::with_default(logs.finish(), event);
            }
        }
        String::from_utf8(std::mem::take(&mut *LINES.lock())).unwrap()
    }

    #[test]
    fn a_line_stays_one_line_and_has_nothing_that_a_terminal_obeys() {
        let human = log(LogFormat::Human);
        assert!(
            human.contains("says a\\u{1b}]0;x")
                && human.contains("why=a\\u{1b}")
                && human.contains("text=\""),
            "{human}"
        );
        let json = log(LogFormat::Json);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["why"], HOSTILE);
        for line in [human, json] {
            let line = line.strip_suffix('\n').unwrap();
            assert_eq!(printable::line(line), line);
        }
    }
}
