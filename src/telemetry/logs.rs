//! Log lines on standard error. What others wrote is in them, so no line has a character that a terminal obeys.

use std::{
    ffi::OsStr,
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write},
};

use anyhow::Context;
use tracing::{field::Field, level_filters::LevelFilter};
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
    let left_out = left_out(filter);
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log '{filter}' is not a filter"))?;
    let filter = left_out
        .into_iter()
        .try_fold(filter, |filter, directive| anyhow::Ok(filter.add_directive(directive.parse()?)))?;
    output::start_log().context("cannot start the writer of the log")?;
    // Its own errors would go to standard error straight, and stop this process where that can't be written.
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).log_internal_errors(false);
    let installed = match format {
        LogFormat::Human => logs
            .with_writer(output::log)
            .with_ansi(is_coloured(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref()))
            .fmt_fields(debug_fn(field).delimited(" "))
            .try_init(),
        LogFormat::Json => logs.with_writer(|| Escaped(output::log())).json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Whether lines have colours: on a terminal, unless NO_COLOR says something (no-color.org).
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// What else to leave out. async-nats says at `info` what happens to a connection, and at `error` what became of each attempt to
/// make one. The process says all of that as well, each thing once, so async-nats's own lines are for those who ask for them.
fn left_out(filter: &str) -> Vec<&'static str> {
    let level_of = |target: &str| {
        let directives = filter.split(',').map(str::trim);
        let directives = directives.map(|directive| directive.split_once('=').unwrap_or(("", directive)));
        directives.filter(|(of, _)| *of == target).filter_map(|(_, level)| level.parse().ok()).max()
    };
    let (all, own): (Option<LevelFilter>, _) = (level_of(""), level_of("async_nats"));
    if filter.contains("async_nats::") || own.or(all).is_some_and(|level| level >= LevelFilter::DEBUG) {
        Vec::new()
    } else if own.is_none() && all == Some(LevelFilter::INFO) {
        vec!["async_nats=warn", NO_ATTEMPTS]
    } else {
        vec![NO_ATTEMPTS]
    }
}

const NO_ATTEMPTS: &str = "async_nats::connector=off";

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
    fn a_terminal_has_colours_unless_no_color_is_set() {
        let coloured = |terminal, no_color: Option<&str>| is_coloured(terminal, no_color.map(OsStr::new));
        assert!(coloured(true, None) && coloured(true, Some("")));
        assert!(!coloured(true, Some("1")) && !coloured(true, Some("0")) && !coloured(false, None));
    }

    #[test]
    fn each_attempt_to_connect_is_logged_only_where_a_filter_asks_for_it() {
        for quiet in
            ["info,async_nats=warn", "warn", "", "relay=debug", "debug,async_nats=warn", "async_nats=info"]
        {
            assert_eq!(left_out(quiet), [NO_ATTEMPTS], "{quiet}");
        }
        for usual in ["info", "INFO", "info,relay=trace", "relay=debug, info"] {
            assert_eq!(left_out(usual), ["async_nats=warn", NO_ATTEMPTS], "{usual}");
        }
        for verbose in ["debug", "TRACE", "info, async_nats=debug", "async_nats::connector=warn", "5"] {
            assert_eq!(left_out(verbose), [""; 0], "{verbose}");
        }
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
