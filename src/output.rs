//! Stdout and stderr, which may be closed at any time: a reader who has gone must never stop a copy. Neither must one who
//! is there and does not read: a full pipe, a terminal after Ctrl-S.
//!
//! Acts: one thread, which alone writes to stderr, but for the bar, which its own thread draws.
//!
//! What must hold: nobody who calls in here ever waits for stderr. Lines go through a bounded channel to the thread; where
//! the channel is full they are dropped and counted. Only [`finish`] waits, and not for long.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::MultiProgress;
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;

/// How many lines wait for a reader of stderr at most.
const MOST_LINES: usize = 1024;

/// How long the end of the process waits for them.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// The way to stderr, from [`start`] to [`finish`].
static STDERR: Mutex<Option<Stderr>> = Mutex::new(None);

/// Lines that found the channel full.
static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Stderr {
    lines: SyncSender<Vec<u8>>,
    /// Hangs up when everything is written.
    written: Receiver<()>,
}

/// Opens the way to stderr.
///
/// # Errors
/// Where there is no thread to be had.
pub fn start() -> io::Result<()> {
    let (lines, waiting) = sync_channel(MOST_LINES);
    let (done, written) = channel();
    thread::Builder::new().name("stderr".into()).spawn(move || write_lines(&waiting, &done, stderr_above_bar))?;
    *STDERR.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stderr { lines, written });
    Ok(())
}

/// Writes what comes until the last sender is gone, then says what did not come. `_done` hangs up with it.
fn write_lines(lines: &Receiver<Vec<u8>>, _done: &Sender<()>, mut write: impl FnMut(&[u8])) {
    lines.iter().for_each(|line| write(&line));
    let dropped = DROPPED.load(Ordering::Relaxed);
    if dropped > 0 {
        write(format!("lunferry: {dropped} lines were dropped: nobody read stderr in time\n").as_bytes());
    }
}

fn stderr_above_bar(text: &[u8]) {
    let write = || {
        let _ = io::stderr().write_all(text);
    };
    match BAR.get() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Hands a line over, or drops it. Never waits: the lock is held for that long only.
fn send(text: Vec<u8>) {
    let stderr = STDERR.lock().unwrap_or_else(PoisonError::into_inner);
    let sent = stderr.as_ref().is_some_and(|stderr| stderr.lines.try_send(text).is_ok());
    if !sent {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until what was said so far stands on stderr, at most `limit`. What is said after that is lost.
pub fn finish(limit: Duration) {
    let stderr = STDERR.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Stderr { lines, written }) = stderr {
        drop(lines);
        // Whether it hung up in time or not: there is no time left.
        let _ = written.recv_timeout(limit);
    }
}

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
    send(format!("{text}\n").into_bytes());
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

/// Stderr for the log, which gives each event in one piece.
#[derive(Clone, Copy)]
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        send(text.to_vec());
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_writer_that_stands_still_holds_nobody_up() {
        // The writer takes one line and then waits for the test.
        let (lines, waiting) = sync_channel(MOST_LINES);
        let (done, written) = channel();
        let (go, stopped) = channel::<()>();
        let written_to = thread::spawn(move || {
            let mut text = Vec::new();
            write_lines(&waiting, &done, |line| {
                let _ = stopped.recv();
                text.extend_from_slice(line);
            });
            String::from_utf8(text).unwrap()
        });
        *STDERR.lock().unwrap() = Some(Stderr { lines, written });
        (0..2 * MOST_LINES).for_each(note);
        let dropped = DROPPED.load(Ordering::Relaxed);
        assert!((1..=MOST_LINES as u64).contains(&dropped), "{dropped} lines dropped");
        finish(Duration::from_millis(10));
        note("after the end");
        drop(go);
        let text = written_to.join().unwrap();
        assert!(text.starts_with("0\n1\n2\n"), "{text}");
        assert!(
            text.ends_with(" lines were dropped: nobody read stderr in time\n") && !text.contains("after"),
            "{text}"
        );
        assert_eq!(text.lines().count() as u64, 2 * MOST_LINES as u64 - dropped + 1);
    }
}
