//! Reads the target alone and compares it with the digests that the copy took of the source.
//!
//! Acts, through the LUN trait alone. The extents must lie on the grid of the copy.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::copy::board::{Board, Progress};
use crate::copy::error::Side;
use crate::copy::latency::Latencies;
use crate::copy::queue::Take;
use crate::copy::transfer::Transfers;
use crate::copy::unreadable::UnreadableList;
use crate::digest::{DigestTable, contribution};
use crate::lun::{LunIo, Segment};
use crate::units::{Bytes, Span};

/// A second reading of the target on one worker.
pub struct Rereading<'a, T> {
    /// The target.
    pub target: &'a T,
    /// Its logical block.
    pub block: Bytes,
    /// The queue, over the span of the copy's digests.
    pub board: &'a Board,
    /// The digests of what is read now, shared by all workers.
    pub table: &'a Mutex<DigestTable>,
    /// Extents with unreadable blocks have no digest; nothing can be said of them.
    pub unreadable: &'a UnreadableList,
    /// For whoever shows it.
    pub progress: &'a Progress,
    /// This worker's latencies.
    pub latencies: &'a RefCell<Latencies>,
}

impl<T: LunIo> Rereading<'_, T> {
    /// Reads until the queue has nothing left, with one lane for each buffer.
    pub async fn run(&self, bufs: Vec<T::Buf>) -> Vec<T::Buf> {
        bufs.into_iter().map(|buf| self.lane(buf)).collect::<FuturesUnordered<_>>().collect().await
    }

    async fn lane(&self, mut buf: T::Buf) -> T::Buf {
        loop {
            // Nothing is believed of holes: everything is read.
            let take = self.board.take(|_| Ok(Segment { is_hole: false, end: Bytes(u64::MAX) })).await;
            match take {
                Take::Extent(span) if self.unreadable.touches(span) => self.board.done(span),
                Take::Extent(span) => buf = self.extent(buf, span).await,
                Take::Finished | Take::Hole(_) | Take::Punch(_) | Take::Wait => return buf,
            }
        }
    }

    async fn extent(&self, buf: T::Buf, span: Span) -> T::Buf {
        if !self.board.pace(span.len()).await {
            self.board.abandon(span);
            return buf;
        }
        let (done, buf) = self.transfers().exactly(buf, span).await;
        match done {
            Ok(()) => {
                let contribution = contribution(span.start, &buf.as_ref()[..span.len().as_len()]);
                self.table.lock().unwrap_or_else(PoisonError::into_inner).add(span.start, contribution);
                Progress::add(&self.progress.verified, span.len());
                self.board.done(span);
            }
            Err(error) => {
                self.board.fail(error);
                self.board.abandon(span);
            }
        }
        buf
    }

    fn transfers(&self) -> Transfers<'_, T> {
        Transfers {
            lun: self.target,
            side: Side::Target,
            block: self.block,
            progress: self.progress,
            latencies: self.latencies,
            guard: None,
        }
    }
}
