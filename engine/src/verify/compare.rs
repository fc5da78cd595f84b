//! Reads both LUNs and compares them, extent by extent.
//!
//! Acts, through the LUN trait alone. The two reads of an extent run at the same time.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;

use crate::copy::board::{Board, Progress};
use crate::copy::error::{CopyError, Side};
use crate::copy::latency::Latencies;
use crate::copy::queue::Take;
use crate::copy::transfer::Transfers;
use crate::lun::{LunIo, Segment};
use crate::units::{Bytes, Span};
use crate::verify::differences::Differences;

/// A comparison of two LUNs on one worker.
pub struct Comparison<'a, S, T> {
    /// One LUN.
    pub source: &'a S,
    /// The other.
    pub target: &'a T,
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

impl<S: LunIo, T: LunIo<Buf = S::Buf>> Comparison<'_, S, T> {
    /// Compares until the queue has nothing left, with one lane for each pair of buffers.
    pub async fn run(&self, mut bufs: Vec<S::Buf>) -> Vec<S::Buf> {
        let mut lanes = FuturesUnordered::new();
        while let (Some(one), Some(other)) = (bufs.pop(), bufs.pop()) {
            lanes.push(self.lane(one, other));
        }
        while let Some((one, other)) = lanes.next().await {
            bufs.extend([one, other]);
        }
        bufs
    }

    async fn lane(&self, mut one: S::Buf, mut other: S::Buf) -> (S::Buf, S::Buf) {
        loop {
            // A hole on one side says nothing of the other: everything is read.
            let take = self.board.take(|_| Ok(Segment { is_hole: false, end: Bytes(u64::MAX) })).await;
            let Take::Extent(span) = take else { return (one, other) };
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

    async fn extent(&self, one: S::Buf, other: S::Buf, span: Span) -> (Result<bool, CopyError>, S::Buf, S::Buf) {
        if !self.board.pace(span.len()).await {
            return (Ok(false), one, other);
        }
        let source = self.transfers(self.source, Side::Source);
        let target = self.transfers(self.target, Side::Target);
        let ((first, one), (second, other)) = join(source.exactly(one, span), target.exactly(other, span)).await;
        if let Err(error) = first.and(second) {
            return (Err(error), one, other);
        }
        let len = span.len().as_len();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.compare(span.start, self.block, &one.as_ref()[..len], &other.as_ref()[..len]);
        drop(found);
        Progress::add(&self.progress.verified, span.len());
        (Ok(true), one, other)
    }

    fn transfers<'a, L: LunIo>(&'a self, lun: &'a L, side: Side) -> Transfers<'a, L> {
        Transfers { lun, side, block: self.block, progress: self.progress, latencies: self.latencies, guard: None }
    }
}
