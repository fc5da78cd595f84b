//! One migration's storage for one start of its node: its threads, behind the trait.
//!
//! Acts: threads. No call here waits for a device but [`start`], which waits until the threads have what they need.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use lunferry_engine::copy::board::Progress;
use lunferry_engine::copy::vehicle::Vehicle;
use lunferry_engine::units::{Bytes, BytesPerSecond};
use lunferry_scsi::key::OwnKey;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::beat::Heart;
use super::copier::Copier;
use super::luns::{Luns, Shared};
use super::{Reports, Storage, lane};
use crate::event::{Event, Op, OpId, Outcome, Trouble};

/// Puts an open pair to use for the start of a node that bears `own`.
///
/// # Errors
/// Where a thread can't be started, or the kernel gives it no ring. Then the pair is closed, and [`Reports::retired`] says so.
pub fn start<V>(luns: Luns<V>, own: OwnKey, reports: Arc<dyn Reports>) -> io::Result<Box<dyn Storage>>
where
    V: Vehicle + Send + Sync + 'static,
{
    let shared = Arc::new(Shared::new(luns, own, reports));
    let (ops, jobs) = unbounded_channel();
    let (ready, is_ready) = sync_channel(2);
    let progress = Arc::new(Progress::default());
    lane::start(&shared, jobs, Arc::clone(&progress), ready.clone())?;
    let heart = Heart::start(&shared, ready)?;
    for _ in 0..2 {
        is_ready.recv().map_err(io::Error::other)??;
    }
    Ok(Box::new(Running { copier: Copier::new(progress), live: Some(Live { shared, ops, heart }) }))
}

/// What goes with the retirement.
struct Live<V> {
    ops: UnboundedSender<(OpId, Op)>,
    heart: Heart,
    shared: Arc<Shared<V>>,
}

/// A started storage; nothing is left of it once it has retired.
struct Running<V> {
    copier: Copier,
    live: Option<Live<V>>,
}

impl<V: Vehicle + Send + Sync + 'static> Storage for Running<V> {
    fn ask(&mut self, id: OpId, op: Op) {
        let Some(live) = &self.live else { return };
        if live.ops.send((id, op)).is_err() {
            live.shared.reports.event(Event::Storage(id, Outcome::Failed(Trouble::Storage)));
        }
    }

    fn beat(&mut self, count: u64) {
        if let Some(live) = &self.live {
            live.heart.beat(count);
        }
    }

    fn copy(&mut self, from: Bytes, to: Bytes) {
        if let Some(live) = &self.live {
            self.copier.copy(&live.shared, from, to);
        }
    }

    fn stop_copy(&mut self) {
        if let Some(live) = &self.live
            && !self.copier.stop()
        {
            live.shared.reports.event(Event::CopyStopped);
        }
    }

    fn throttle(&mut self, limit: Option<Bytes>) {
        // A limit of nothing would never end; the slowest copy moves all the same.
        self.copier.throttle(limit.map(|limit| BytesPerSecond(limit.0.max(1))));
    }

    fn retire(&mut self) {
        if let Some(live) = self.live.take() {
            live.shared.retire();
            self.copier.halt();
        }
    }
}

/// A storage that is dropped has retired.
impl<V> Drop for Running<V> {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            live.shared.retire();
            self.copier.halt();
        }
    }
}
