//! Ctrl-C: the first one ends the copy with a checkpoint, the second one at once.
//!
//! What must hold: neither waits for anybody who reads what is printed.

use std::process::exit;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lunferry_engine::copy::board::Controls;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;
use crate::output;

/// How long the last words of a process that ends at once may take.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Turns SIGINT, SIGTERM and SIGHUP into an interruption of the copy. Where `quiet`, without a word.
///
/// # Errors
/// Where the handlers can't be installed.
pub fn on_signals(controls: &Arc<Controls>, quiet: bool) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let controls = Arc::clone(controls);
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            if controls.is_interrupted() {
                if !quiet {
                    output::error(
                        "interrupted again: ended without a last checkpoint; --resume goes on from the one before",
                    );
                }
                output::finish(LAST_WORDS);
                exit(Exit::Interrupted as i32);
            }
            controls.interrupt();
            if !quiet {
                output::note("interrupted: what is in flight is finished and checkpointed; once more to end at once");
            }
        }
    })?;
    Ok(())
}
