//! What the agent asks of a migration's two LUNs, and how it hears what came of it.
//!
//! The seam between the loop that owns every [`Node`](crate::node::Node) and the threads that touch devices: the loop never
//! waits for a device, and a device never waits for the loop. Each call returns at once; what came of it is sent as an
//! [`Event`] through the [`Reports`] that the storage was opened with.
//!
//! What must hold:
//! - An [`Op`] is answered exactly once, by [`Event::Storage`] with its number, however long the device takes.
//! - Ops of one migration run one after the other, in the order in which they were asked for; heartbeat sectors and the copy run
//!   beside them.
//! - [`Event::CopyStopped`] and [`Event::CopyFailed`] come when nothing of the copy is in flight any more, after its last
//!   [`Event::Copied`].
//! - After [`Storage::retire`] nothing more is submitted; [`Reports::retired`] comes when nothing is in flight.
//!
//! ```text
//!   open     two LUNs as the config names them, every check, and what to do with them
//!   start    the threads of an open pair, behind the trait
//!   lane     one action after the other
//!   beat     the heartbeat block, beside them
//!   copier   the copy, as far as the window goes
//!   luns     what these threads share, and who closes it
//!   record   pure: the protocol's checkpoint and the record on the target, and what an error means
//! ```

mod beat;
mod copier;
mod lane;
pub mod luns;
pub mod open;
pub mod record;
pub mod start;

use std::sync::Arc;

use lunferry_engine::units::Bytes;
use lunferry_scsi::key::OwnKey;

use super::settings::Migration;
use crate::event::{Event, Op, OpId};

/// One migration's LUNs, opened for one start of its node.
pub trait Storage: Send {
    /// Does `op`; answered by [`Event::Storage`].
    fn ask(&mut self, id: OpId, op: Op);

    /// Writes this count into this node's heartbeat sector. Where the last one is still on its way, this one is left out.
    fn beat(&mut self, count: u64);

    /// Copies from `from` to `to`, or lets the copy that runs go on to `to`.
    fn copy(&mut self, from: Bytes, to: Bytes);

    /// Stops the copy; answered by [`Event::CopyStopped`], at once where none runs.
    fn stop_copy(&mut self);

    /// Changes the copy's limit, in bytes a second; nothing takes it away.
    fn throttle(&mut self, limit: Option<Bytes>);

    /// This start is over: nothing more is submitted.
    fn retire(&mut self);
}

/// Where a storage reports to. One for each start of a migration's node.
pub trait Reports: Send + Sync {
    /// Something has happened.
    fn event(&self, event: Event);

    /// After [`Storage::retire`]: nothing is in flight, and both LUNs are closed.
    fn retired(&self);
}

/// A migration's LUNs, open.
pub struct Opened {
    /// What the loop asks.
    pub storage: Box<dyn Storage>,
    /// How many bytes are to be copied: the source's length, without an overlay range.
    pub length: Bytes,
    /// What an operator should know of how it's done: one line each.
    pub notes: Vec<String>,
}

/// Opens the LUNs of migrations.
pub trait Opener: Send + Sync {
    /// Opens both LUNs of a migration for the start of its node that has this key. May block: it's called on a thread of its
    /// own, and never while an earlier start's storage isn't retired.
    ///
    /// # Errors
    /// Why not, and the mend; it is tried again later.
    fn open(&self, migration: &Migration, key: OwnKey, reports: Arc<dyn Reports>) -> Result<Opened, String>;
}
