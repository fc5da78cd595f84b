//! The lock that other hosts meet: a persistent reservation on the LUN itself (design 10).
//!
//! ```text
//!   paths    which nexuses lead to a LUN, and what stands in for SCSI on files and loop devices
//!   standing what keys and reservation say of who may copy (pure)
//!   claim    register on every path, and reserve
//!   fence    preempt a dead holder, reset the unit, look
//!   keep     look again, mend paths, let go
//!   single   the same steps one at a time, for who decides elsewhere what comes next
//!   pair     both LUNs of a copy, in the order that makes the source the election (H10)
//!   emulated reservations in a file beside the LUN, for what has none of its own
//!   inflight what other loop devices over a file have in flight
//!   gate     what looks at that file in front of each write, since no storage does
//! ```
//!
//! What must hold:
//! - Nobody is fenced but by PREEMPT of the key that was read, so that of two who try one loses and knows it. A change of
//!   holder is never RELEASE and then RESERVE, CLEAR is never sent, and neither is REGISTER AND IGNORE EXISTING KEY: it
//!   would bring a fenced nexus back.
//! - A fence is PREEMPT, LOGICAL UNIT RESET, and a look that shows the outcome. It has happened only then.
//! - The target is touched only while the source is held, unless the operator gave up on fencing the source.
//! - Whatever a device answers to PERSISTENT RESERVE OUT, what counts is what it says when it is read.

pub mod claim;
pub mod emulated;
pub mod error;
mod fence;
pub mod gate;
mod inflight;
mod keep;
pub mod node;
pub mod pair;
pub mod paths;
pub mod release;
pub mod report;
pub mod show;
mod single;
pub mod standing;

use self::error::LockError;

/// Who looks again, before each checkpoint, whether the lock is still held (design S1).
pub trait Guard: Send + Sync {
    /// Asks the storage. It may take as long as a path needs to fail, so never on a thread that drives a ring.
    ///
    /// # Errors
    /// [`LockError::Lost`] where somebody else has it, and why that can't be told.
    fn still_held(&self) -> Result<(), LockError>;
}
