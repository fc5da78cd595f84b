//! The thread that writes this node's heartbeat block: apart from every other action, so that a long one doesn't stop the beat.
//!
//! Acts: one write at a time to a block that is this node's alone. A beat that fails is left out: what counts is that others see
//! the block move.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::Builder;

use lunferry_engine::checkpoint::heartbeat::{BEAT_LEN, Heartbeat};
use lunferry_engine::copy::vehicle::Vehicle;
use lunferry_engine::lun::LunIo;
use lunferry_engine::units::{Bytes, NodeId, Sequence};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::luns::Shared;

/// Requests at a time, and the least that a ring takes.
const REQUESTS: usize = 1;

/// The way to the thread. It ends when this is dropped.
pub(super) struct Heart {
    counts: UnboundedSender<u64>,
    /// Whether a beat is on its way.
    busy: Arc<AtomicBool>,
}

impl Heart {
    /// Starts the thread; what comes of that is sent to `ready`.
    pub(super) fn start<V: Vehicle + Send + Sync + 'static>(
        shared: &Arc<Shared<V>>,
        ready: SyncSender<io::Result<()>>,
    ) -> io::Result<Self> {
        let (counts, received) = unbounded_channel();
        let busy = Arc::new(AtomicBool::new(false));
        let (shared, thread_busy) = (Arc::clone(shared), Arc::clone(&busy));
        let thread = move || {
            let ran = shared.vehicle.run(REQUESTS, beat(&shared, received, &thread_busy, &ready));
            ran.unwrap_or_else(|error| drop(ready.send(Err(error))));
        };
        Builder::new().name("heartbeat".into()).spawn(thread)?;
        Ok(Self { counts, busy })
    }

    /// Writes this count, unless the last one is still on its way.
    pub(super) fn beat(&self, count: u64) {
        if !self.busy.swap(true, Ordering::SeqCst) {
            // Where the thread has gone, nobody beats any more.
            let _ = self.counts.send(count);
        }
    }
}

async fn beat<V: Vehicle>(
    shared: &Shared<V>,
    mut counts: UnboundedReceiver<u64>,
    busy: &AtomicBool,
    ready: &SyncSender<io::Result<()>>,
) {
    let target = match shared.vehicle.target() {
        Ok(target) => target,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let (own, facts) = (shared.held.own(), &shared.luns.facts);
    let Some(place) = facts.layout.heartbeat(NodeId(own.node.0)) else {
        let words =
            format!("the metadata area has no room for node {}; it has for {}", own.node.0, facts.layout.spec().nodes);
        return drop(ready.send(Err(io::Error::new(io::ErrorKind::InvalidInput, words))));
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    let len = facts.target_physical.max(Bytes::from(BEAT_LEN)).as_len();
    let mut failing = false;
    while let Some(count) = counts.recv().await {
        if shared.is_retired() {
            return;
        }
        let (migration, node, count) = (facts.migration, NodeId(own.node.0), Sequence(count));
        let beat = Heartbeat { migration, node, incarnation: own.incarnation.0, count };
        let mut block = beat.encode(place.start).to_vec();
        block.resize(len, 0);
        let written = target.write_durable(place.start, block).await;
        match &written {
            Err(error) if !failing => tracing::warn!(%error, at = place.start.0, "the heartbeat can't be written"),
            Ok(()) if failing => tracing::info!("the heartbeat is written again"),
            Ok(()) | Err(_) => {}
        }
        failing = written.is_err();
        busy.store(false, Ordering::SeqCst);
    }
}
