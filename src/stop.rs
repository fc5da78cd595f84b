//! Ctrl-C: the first one ends the copy with a checkpoint, the second one at once.

use std::process::exit;
use std::sync::Arc;
use std::thread;

use lunferry_engine::copy::board::Controls;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;
use crate::output;

/// Turns SIGINT, SIGTERM and SIGHUP into an interruption of the copy.
///
/// # Errors
/// Where the handlers can't be installed.
pub fn on_signals(controls: &Arc<Controls>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let controls = Arc::clone(controls);
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            if controls.is_interrupted() {
                output::error(
                    "interrupted again: ended without a last checkpoint; --resume goes on from the one before",
                );
                exit(Exit::Interrupted as i32);
            }
            output::note("interrupted: what is in flight is finished and checkpointed; once more to end at once");
            controls.interrupt();
        }
    })?;
    Ok(())
}
