//! Shows how far a copy is: a bar on a terminal, a line each second on a pipe, nothing with `--quiet`.
//!
//! Runs on a thread of its own and only reads counters; it can't slow the copy down or stop it. The bar is drawn by that
//! thread too, which a terminal that takes nothing more (Ctrl-S) holds up: nobody waits for it for long.

mod rate;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lunferry_engine::copy::board::Progress;
use lunferry_engine::units::Bytes;

use self::rate::Rate;
use crate::output;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Extents go to the target.
    Copying,
    /// The target is read again.
    Verifying,
}

impl Phase {
    fn verb(self) -> &'static str {
        match self {
            Self::Copying => "copied",
            Self::Verifying => "verified",
        }
    }
}

/// How long the end of a phase waits for the last look of its display.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// A display that runs until it is dropped.
pub struct Display(Option<Running>);

struct Running {
    stop: Sender<()>,
    /// Hangs up when the thread is done.
    done: Receiver<()>,
}

impl Display {
    /// Shows `phase` of a copy of `total` bytes, of which `before` were done in an earlier run. Nothing where `quiet`.
    pub fn start(phase: Phase, progress: &Arc<Progress>, before: Bytes, total: Bytes, quiet: bool) -> Self {
        if quiet {
            return Self(None);
        }
        let (stop, stopped) = channel();
        let (hang_up, done) = channel::<()>();
        let view = View { phase, progress: Arc::clone(progress), before, total };
        let run = move || {
            let _hang_up = hang_up;
            let bar = std::io::stderr().is_terminal().then(|| view.bar());
            let tick = if bar.is_some() { Duration::from_millis(100) } else { Duration::from_secs(1) };
            let (started, mut rate) = (Instant::now(), Rate::default());
            rate.sample(Duration::ZERO, view.done());
            while stopped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                rate.sample(started.elapsed(), view.done());
                view.show(bar.as_ref(), &rate);
            }
            rate.sample(started.elapsed(), view.done());
            view.show(bar.as_ref(), &rate);
            if let Some(bar) = bar {
                bar.finish();
            }
        };
        // Without a thread there is no display, and the copy is none the worse.
        let started = thread::Builder::new().name("progress".into()).spawn(run).is_ok();
        Self(started.then_some(Running { stop, done }))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(Running { stop, done }) = self.0.take() {
            drop(stop);
            // A thread that stands still is left behind; it holds nothing that anybody else needs.
            let _ = done.recv_timeout(LAST_LOOK);
        }
    }
}

struct View {
    phase: Phase,
    progress: Arc<Progress>,
    before: Bytes,
    total: Bytes,
}

impl View {
    fn done(&self) -> Bytes {
        let p = &self.progress;
        let counters = match self.phase {
            Phase::Copying => vec![&p.copied, &p.zeroed, &p.skipped, &p.unreadable],
            Phase::Verifying => vec![&p.verified],
        };
        let done: Bytes = counters.into_iter().map(|counter| Bytes(counter.load(Ordering::Relaxed))).sum();
        self.total.min(self.before + done)
    }

    fn bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix:>9} {wide_bar} {percent:>3}% {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = output::bar().add(ProgressBar::new(self.total.0)).with_style(style);
        bar.with_prefix(self.phase.verb())
    }

    fn show(&self, bar: Option<&ProgressBar>, rate: &Rate) {
        let done = self.done();
        let zeroes = self.progress.zeroed.load(Ordering::Relaxed) + self.progress.skipped.load(Ordering::Relaxed);
        let retries = self.progress.retried.load(Ordering::Relaxed);
        let speed = rate.rate().map_or_else(|| "-".to_owned(), |rate| rate.to_string());
        let eta = rate.eta(self.total - done).map_or_else(|| "-".to_owned(), in_words);
        let rest = match self.phase {
            Phase::Copying => format!(", zeroes {}, retries {retries}", Bytes(zeroes)),
            Phase::Verifying => String::new(),
        };
        match bar {
            Some(bar) => {
                // The bar needs the room: what is nothing is not shown.
                let rest = rest.replace(", zeroes 0 B", "").replace(", retries 0", "");
                bar.set_message(format!("{done}/{}, {speed}, ETA {eta}{rest}", self.total));
                bar.set_position(done.0);
            }
            None => {
                let percent = (u128::from(done.0) * 100).checked_div(u128::from(self.total.0)).unwrap_or(100);
                let verb = self.phase.verb();
                let (done, total) = (in_mib(done), in_mib(self.total));
                output::note(format_args!("{verb} {done} of {total} ({percent} %), {speed}, ETA {eta}{rest}"));
            }
        }
    }
}

/// `1024.5 MiB`, whatever the size: a script that follows the lines need not know other units.
fn in_mib(bytes: Bytes) -> String {
    let tenths = (u128::from(bytes.0) * 10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// `59 s`, `4 min 10 s`, `3 h 2 min`.
fn in_words(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}
