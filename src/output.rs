//! Stdout and stderr, which may be closed at any time: a reader who has gone must never stop a copy.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;

/// The bar, when there is one: log lines go above it.
static BAR: OnceLock<MultiProgress> = OnceLock::new();

/// The place of the progress bar; log lines don't break it.
pub fn bar() -> &'static MultiProgress {
    BAR.get_or_init(MultiProgress::new)
}

/// A line on stdout.
pub fn line(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A line on stderr.
pub fn note(text: impl Display) {
    let _ = writeln!(LogWriter, "{text}");
}

/// An error on stderr.
pub fn error(text: impl Display) {
    note(format_args!("lunferry: {text}"));
}

/// One JSON document on one line of stdout.
pub fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(text),
        Err(error) => self::error(format_args!("the summary can't be written as JSON: {error}")),
    }
}

/// Stdout for those who want a writer, without the panic of `println!` on a closed pipe.
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let _ = io::stdout().write_all(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs on stderr. `LUNFERRY_LOG` overrides the level, in the syntax of tracing's filters.
pub fn start_logging(format: LogFormat, verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("LUNFERRY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(LogWriter).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Stderr, above the bar.
#[derive(Clone, Copy)]
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let write = || {
            let _ = io::stderr().write_all(text);
        };
        match BAR.get() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        *self
    }
}
