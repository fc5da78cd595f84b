//! Reads the source and lets the target's device compare: VERIFY(16) with the source's blocks.
//!
//! Acts, through SCSI commands. Only for a device that has proven that it compares (`lun::sg::check`). Where it says that
//! something differs, both are read to see what.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::buffer::AlignedBuf;
use crate::copy::board::{Board, Progress};
use crate::copy::error::{CopyError, Side};
use crate::copy::latency::Latencies;
use crate::copy::queue::Take;
use crate::copy::transfer::Transfers;
use crate::lun::Segment;
use crate::lun::sg::SgLun;
use crate::units::{Bytes, Span};
use crate::verify::differences::Differences;

/// A comparison that the target makes, on one worker.
pub struct DeviceComparison<'a> {
    /// What is read.
    pub source: &'a SgLun,
    /// What compares.
    pub target: &'a SgLun,
    /// The larger of their logical blocks: the grain of what is reported.
    pub block: Bytes,
    /// The queue.
    pub board: &'a Board,
    /// What was found, shared by all workers.
    pub found: &'a Mutex<Differences>,
    /// For whoever shows it.
    pub progress: &'a Progress,
    /// This worker's latencies.
    pub latencies: &'a RefCell<Latencies>,
}

impl DeviceComparison<'_> {
    /// Compares until the queue has nothing left, with one lane for each pair of buffers.
    pub async fn run(&self, mut bufs: Vec<AlignedBuf>) {
        let lanes = FuturesUnordered::new();
        while let (Some(one), Some(other)) = (bufs.pop(), bufs.pop()) {
            lanes.push(self.lane(one, other));
        }
        lanes.collect::<()>().await;
    }

    async fn lane(&self, mut one: AlignedBuf, mut other: AlignedBuf) {
        loop {
            // A hole on one side says nothing of the other: everything is read.
            let take = self.board.take(|_| Ok(Segment { is_hole: false, end: Bytes(u64::MAX) })).await;
            let Take::Extent(span) = take else { return };
            let done;
            (done, one, other) = self.extent(one, other, span).await;
            match done {
                Ok(true) => self.board.done(span),
                Ok(false) => self.board.abandon(span),
                Err(error) => {
                    self.board.fail(error);
                    self.board.abandon(span);
                }
            }
        }
    }

    async fn extent(
        &self,
        one: AlignedBuf,
        other: AlignedBuf,
        span: Span,
    ) -> (Result<bool, CopyError>, AlignedBuf, AlignedBuf) {
        if !self.board.pace(span.len()).await {
            return (Ok(false), one, other);
        }
        let (read, one) = self.transfers(self.source, Side::Source).exactly(one, span).await;
        if let Err(error) = read {
            return (Err(error), one, other);
        }
        let started = Instant::now();
        let (holds, one) = self.target.holds(one, span).await;
        self.latencies.borrow_mut().read(started.elapsed());
        let (done, one, other) = match holds {
            Ok(true) => (Ok(true), one, other),
            Ok(false) => self.locate(one, other, span).await,
            Err(error) => {
                let failed = CopyError::of_request("verifying", Side::Target, span, self.block, error);
                (Err(failed), one, other)
            }
        };
        if done.is_ok() {
            Progress::add(&self.progress.verified, span.len());
        }
        (done, one, other)
    }

    /// Reads both, to see what differs.
    async fn locate(
        &self,
        one: AlignedBuf,
        other: AlignedBuf,
        span: Span,
    ) -> (Result<bool, CopyError>, AlignedBuf, AlignedBuf) {
        let source = self.transfers(self.source, Side::Source);
        let target = self.transfers(self.target, Side::Target);
        let ((first, one), (second, other)) = join(source.exactly(one, span), target.exactly(other, span)).await;
        if let Err(error) = first.and(second) {
            return (Err(error), one, other);
        }
        let len = span.len().as_len();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = found.bytes();
        found.compare(span.start, self.block, &one.as_ref()[..len], &other.as_ref()[..len]);
        if found.bytes() == before {
            tracing::error!(%span, "the target says that it holds something else there, and gives the same when it is read");
            found.add(span);
        }
        drop(found);
        (Ok(true), one, other)
    }

    fn transfers<'a>(&'a self, lun: &'a SgLun, side: Side) -> Transfers<'a, SgLun> {
        Transfers { lun, side, block: self.block, progress: self.progress, latencies: self.latencies, guard: None }
    }
}
