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

/// What came of one extent, and its buffers back.
pub(super) type Extended<B, T> = (Result<T, CopyError>, B, B);

/// What is done to one extent with a pair of buffers.
pub(super) trait Extent<B>: AsyncFn(B, B, Span) -> Extended<B, ()> {}

impl<B, E: AsyncFn(B, B, Span) -> Extended<B, ()>> Extent<B> for E {}

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
    pub async fn run(&self, bufs: Vec<S::Buf>) -> Vec<S::Buf> {
        let extent = async |one, other, span| {
            let (newly, one, other) = self.by_reading(one, other, span).await;
            (newly.map(drop), one, other)
        };
        self.lanes(bufs, &extent).await
    }

    /// Does `extent` to everything that the queue has, with one lane for each pair of buffers.
    pub(super) async fn lanes(&self, mut bufs: Vec<S::Buf>, extent: &impl Extent<S::Buf>) -> Vec<S::Buf> {
        let mut lanes = FuturesUnordered::new();
        while let (Some(one), Some(other)) = (bufs.pop(), bufs.pop()) {
            lanes.push(self.lane(one, other, extent));
        }
        while let Some((one, other)) = lanes.next().await {
            bufs.extend([one, other]);
        }
        bufs
    }

    async fn lane(&self, mut one: S::Buf, mut other: S::Buf, extent: &impl Extent<S::Buf>) -> (S::Buf, S::Buf) {
        loop {
            // A hole on one side says nothing of the other: everything is read.
            let take = self.board.take(|_| Ok(Segment { is_hole: false, end: Bytes(u64::MAX) })).await;
            let Take::Extent(span) = take else { return (one, other) };
            if !self.board.pace(span.len()).await {
                self.board.abandon(span);
                continue;
            }
            let done;
            (done, one, other) = extent(one, other, span).await;
            match done {
                Ok(()) => {
                    Progress::add(&self.progress.verified, span.len());
                    self.board.done(span);
                }
                Err(error) => {
                    self.board.fail(error);
                    self.board.abandon(span);
                }
            }
        }
    }

    /// Reads `span` of both and compares; how many bytes more are known to differ now.
    pub(super) async fn by_reading(&self, one: S::Buf, other: S::Buf, span: Span) -> Extended<S::Buf, Bytes> {
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
        let newly = found.bytes() - before;
        drop(found);
        (Ok(newly), one, other)
    }

    pub(super) fn transfers<'a, L: LunIo>(&'a self, lun: &'a L, side: Side) -> Transfers<'a, L> {
        Transfers { lun, side, block: self.block, progress: self.progress, latencies: self.latencies, guard: None }
    }
}
