//! One lane: one buffer that carries extent after extent from the source to the target.
//!
//! Acts, through the LUN trait alone. A worker runs as many lanes as its queue is deep, so that reads and writes of
//! different extents overlap; within a lane they follow each other. A lane never gives its buffer out of its hands while a
//! request on it is in flight, and never stops waiting for one.

mod by_array;

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::copy::board::{Board, Progress};
use crate::copy::error::{CopyError, Side};
use crate::copy::latency::Latencies;
use crate::copy::offload::Offload;
use crate::copy::queue::Take;
use crate::copy::retry::{Category, categorise, next_try};
use crate::copy::transfer::{Transfers, WithBuf};
use crate::copy::unreadable::{MOST_RANGES, UnreadableList};
use crate::copy::zeroes::{ZeroMode, is_zero, parts_to_write};
use crate::digest::{Contribution, DigestTable, ZeroExtents, contribution};
use crate::lock::Guard;
use crate::lun::LunIo;
use crate::units::{Bytes, Span};

/// What the lanes of one copy share beside the board.
pub struct CopyState {
    /// The length of an extent: the grid of the digests.
    pub extent: Bytes,
    /// Logical blocks of the source.
    pub source_block: Bytes,
    /// Logical blocks of the target.
    pub target_block: Bytes,
    /// What becomes of blocks that the source can't read.
    pub bad_blocks: BadBlocks,
    /// What becomes of zeroes; falls back from punch to write where the target turns out to have no such command.
    pub zero_mode: SharedZeroMode,
    /// The digests of what was read, where a verify will want them.
    pub digests: Option<Digests>,
    /// The digest of an extent of zeroes.
    pub zero_extents: ZeroExtents,
    /// The array, where it may copy.
    pub offload: Option<Offload>,
    /// What could not be read.
    pub unreadable: Mutex<UnreadableList>,
    /// A place that could be read lately.
    pub last_good: LastGood,
    /// The source's length.
    pub source_len: Bytes,
    /// For whoever shows it.
    pub progress: Arc<Progress>,
    /// Who knows whether the lock still is held: asked before each checkpoint, and where the storage refuses a request.
    /// Nothing where no lock binds other hosts.
    pub guard: Option<Arc<dyn Guard>>,
}

impl CopyState {
    /// A block at `at` can't be read. Where a block that could be read before can't be either, not the medium is bad but the
    /// LUN is gone: nothing is given up then, and the watermark stays below.
    ///
    /// # Errors
    /// [`CopyError::SourceDead`].
    pub async fn prove_alive<S: LunIo>(&self, source: &S, at: Bytes, errno: i32) -> Result<(), CopyError> {
        let block = self.source_block;
        // As long as nothing was read yet, any of nine places all over the LUN will do.
        let last = self.source_len - block;
        let anywhere = (0..=8).map(|i| Bytes(last.0 / 8 * i).align_down(block));
        let known = self.last_good.get();
        let places: Vec<Bytes> = known.map_or_else(|| anywhere.collect(), |place| vec![place]);
        for place in places {
            if source.read_block(place, block.as_len()).await.is_ok() {
                return Ok(());
            }
        }
        let error = io::Error::from_raw_os_error(errno);
        Err(CopyError::SourceDead { span: Span::at(at, block), lba: at.lba(block), source: error })
    }
}

/// What becomes of blocks that the source can't read, each of them proven by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBlocks {
    /// They are listed, and the target keeps what it holds there.
    Keep,
    /// They are listed, and become zeroes on the target.
    Fill,
    /// The copy fails at the first one.
    Stop,
}

impl BadBlocks {
    /// What the operator's `--fill-unreadable` comes to.
    pub fn of(fill_unreadable: bool) -> Self {
        if fill_unreadable { Self::Fill } else { Self::Keep }
    }
}

/// The digests of a copy, shared by its workers.
pub struct Digests {
    /// What they cover; extents elsewhere are not digested.
    pub span: Span,
    /// The table.
    pub table: Mutex<DigestTable>,
}

/// A place on the source that could be read lately; none at first.
#[derive(Default)]
pub struct LastGood(AtomicU64);

impl LastGood {
    fn set(&self, at: Bytes) {
        self.0.store(at.0 + 1, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Bytes> {
        self.0.load(Ordering::Relaxed).checked_sub(1).map(Bytes)
    }
}

/// A [`ZeroMode`] that all workers see change at once.
pub struct SharedZeroMode(AtomicU8);

impl SharedZeroMode {
    /// Starts as `mode`.
    pub fn new(mode: ZeroMode) -> Self {
        Self(AtomicU8::new(mode as u8))
    }

    /// The mode now.
    pub fn get(&self) -> ZeroMode {
        let raw = self.0.load(Ordering::Relaxed);
        [ZeroMode::Skip, ZeroMode::Punch, ZeroMode::Write]
            .into_iter()
            .find(|&mode| mode as u8 == raw)
            .expect("only modes are stored")
    }

    fn set(&self, mode: ZeroMode) {
        self.0.store(mode as u8, Ordering::Relaxed);
    }
}

/// A lane between two LUNs.
pub struct Lane<'a, S, T> {
    /// Where extents come from.
    pub source: &'a S,
    /// Where they go to.
    pub target: &'a T,
    /// What all lanes share.
    pub state: &'a CopyState,
    /// The queue.
    pub board: &'a Board,
    /// This worker's latencies.
    pub latencies: &'a RefCell<Latencies>,
}

impl<S: LunIo, T: LunIo<Buf = S::Buf>> Lane<'_, S, T> {
    /// Carries extents until the queue has none left; gives the buffer back.
    pub async fn run(&self, mut buf: S::Buf) -> S::Buf {
        loop {
            let take = self.board.take(|at| self.reader().segment(at)).await;
            let (span, done);
            (span, (done, buf)) = match take {
                Take::Finished => return buf,
                Take::Wait => unreachable!("the board waits itself"),
                Take::Extent(span) => (span, self.extent(buf, span).await),
                Take::Hole(span) => (span, self.hole(buf, span).await),
                Take::Punch(span) => (span, self.punch(buf, span).await),
            };
            match done {
                Ok(Landed::Done) => self.board.done(span),
                Ok(Landed::Zero) => self.board.zero(span),
                Ok(Landed::Stopped) => self.board.abandon(span),
                Err(error) => {
                    self.board.fail(error);
                    self.board.abandon(span);
                }
            }
        }
    }

    async fn extent(&self, buf: S::Buf, span: Span) -> WithBuf<Landed, S::Buf> {
        if !self.board.pace(span.len()).await {
            return (Ok(Landed::Stopped), buf);
        }
        if let Some(offload) = &self.state.offload {
            match self.by_array(offload, span).await {
                Ok(Some(landed)) => return (Ok(landed), buf),
                Ok(None) => {}
                Err(error) => return (Err(error), buf),
            }
        }
        self.by_hand(buf, span).await
    }

    async fn by_hand(&self, buf: S::Buf, span: Span) -> WithBuf<Landed, S::Buf> {
        let (bad, mut buf) = self.read_extent(buf, span).await;
        let bad = match bad {
            Ok(bad) => bad,
            Err(error) => return (Err(error), buf),
        };
        let len = span.len().as_len();
        let fills = self.state.bad_blocks == BadBlocks::Fill;
        if fills {
            for part in &bad {
                buf.as_mut()[part.clone()].fill(0);
            }
        }
        if bad.is_empty() {
            let data = &buf.as_ref()[..len];
            if is_zero(data) {
                return self.zeroes(buf, span).await;
            }
            self.digest(span.start, || contribution(span.start, data));
        }
        let skip = if fills {
            Vec::new()
        } else {
            match self.left_out(buf.as_mut(), bad, span.start).await {
                Ok(skip) => skip,
                Err(error) => return (Err(error), buf),
            }
        };
        let parts = without(parts_to_write(&buf.as_ref()[..len], self.state.zero_mode.get()), &skip);
        let mut written = Bytes::ZERO;
        for part in parts {
            written += Bytes::from(part.len());
            let done;
            (done, buf) = self.write_all(buf, part, span.start).await;
            if !matches!(done, Ok(Landed::Done)) {
                return (done, buf);
            }
        }
        let lost: Bytes = skip.iter().map(|part| Bytes::from(part.len())).sum();
        Progress::add(&self.state.progress.copied, written);
        Progress::add(&self.state.progress.skipped, span.len() - written - lost);
        (Ok(Landed::Done), buf)
    }

    /// What of the unreadable parts `bad` of the extent at `base` is not written. A block of the target that is larger than
    /// the source's can't be written in part: where it is unreadable in part, that part of `data` becomes what the target
    /// holds there, and the block is written whole.
    async fn left_out(
        &self,
        data: &mut [u8],
        bad: Vec<Range<usize>>,
        base: Bytes,
    ) -> Result<Vec<Range<usize>>, CopyError> {
        let block = self.state.target_block.as_len();
        let mut whole = Vec::new();
        for part in bad {
            let start = part.start.next_multiple_of(block);
            let inner = start..start.max(part.end - part.end % block);
            let edges = [part.start..inner.start.min(part.end), inner.end..part.end];
            for edge in edges.into_iter().filter(|edge| !edge.is_empty()) {
                let from = edge.start - edge.start % block;
                let span = Span::at(base + Bytes::from(from), self.state.target_block);
                let old = self.target.read_block(span.start, block).await;
                let failed = |error| CopyError::of_request("reading", Side::Target, span, span.len(), error);
                let kept = &old.map_err(failed)?[edge.start - from..edge.end - from];
                data[edge].copy_from_slice(kept);
            }
            if inner.start < inner.end {
                whole.push(inner);
            }
        }
        Ok(whole)
    }

    /// `span` is known to be zeroes. It costs nothing to read; where it is written, it keeps to the rate limit.
    async fn hole(&self, buf: S::Buf, span: Span) -> WithBuf<Landed, S::Buf> {
        if self.state.zero_mode.get() == ZeroMode::Write && !self.board.pace(span.len()).await {
            return (Ok(Landed::Stopped), buf);
        }
        self.zeroes(buf, span).await
    }

    /// `span` is zeroes on the source, read or known.
    async fn zeroes(&self, buf: S::Buf, span: Span) -> WithBuf<Landed, S::Buf> {
        let mut at = span.start;
        while at < span.end {
            let len = self.state.extent.min(span.end - at);
            self.digest(at, || self.state.zero_extents.contribution(at, len));
            at += len;
        }
        match self.state.zero_mode.get() {
            ZeroMode::Skip => {
                Progress::add(&self.state.progress.skipped, span.len());
                (Ok(Landed::Done), buf)
            }
            ZeroMode::Punch => (Ok(Landed::Zero), buf),
            ZeroMode::Write => self.write_zeroes(buf, span).await,
        }
    }

    async fn punch(&self, buf: S::Buf, span: Span) -> WithBuf<Landed, S::Buf> {
        let mut attempts = 0;
        let error = loop {
            if self.board.has_failed() {
                return (Ok(Landed::Stopped), buf);
            }
            if self.state.zero_mode.get() == ZeroMode::Write {
                return self.write_zeroes(buf, span).await;
            }
            let started = Instant::now();
            let punched = self.target.punch(span).await;
            self.latencies.borrow_mut().write(started.elapsed());
            let Err(error) = punched else { break None };
            attempts += 1;
            match categorise(&error) {
                Category::Unsupported => {
                    tracing::warn!(%error, "the target has no command for zeroes; they are written from here on");
                    self.state.zero_mode.set(ZeroMode::Write);
                }
                Category::Transient => match next_try(Category::Transient, attempts) {
                    Some(wait) => self.writer().retry_after(wait).await,
                    None => break Some(error),
                },
                Category::Medium | Category::NoSpace | Category::Fenced | Category::Fatal => break Some(error),
            }
        };
        match error {
            None => {
                Progress::add(&self.state.progress.zeroed, span.len());
                (Ok(Landed::Done), buf)
            }
            Some(error) => {
                let block = self.state.target_block;
                (Err(CopyError::of_request("punching", Side::Target, span, block, error)), buf)
            }
        }
    }

    async fn write_zeroes(&self, mut buf: S::Buf, span: Span) -> WithBuf<Landed, S::Buf> {
        buf.as_mut().fill(0);
        let mut at = span.start;
        while at < span.end {
            let len = Bytes::from(buf.as_ref().len()).min(span.end - at);
            let done;
            (done, buf) = self.write_all(buf, 0..len.as_len(), at).await;
            if !matches!(done, Ok(Landed::Done)) {
                return (done, buf);
            }
            at += len;
        }
        Progress::add(&self.state.progress.zeroed, span.len());
        (Ok(Landed::Done), buf)
    }

    fn digest(&self, at: Bytes, make: impl FnOnce() -> Contribution) {
        let Some(digests) = self.state.digests.as_ref().filter(|digests| digests.span.overlaps(Span::at(at, Bytes(1))))
        else {
            return;
        };
        let contribution = make();
        digests.table.lock().unwrap_or_else(PoisonError::into_inner).add(at, contribution);
    }

    /// Reads `span` into the buffer's start. Where that fails for the medium, halves are tried, then quarters, down to single
    /// blocks: one bad block of 1024 costs some twenty slow errors instead of 1024 reads. The parts that stayed unreadable.
    async fn read_extent(&self, mut buf: S::Buf, span: Span) -> WithBuf<Vec<Range<usize>>, S::Buf> {
        let block = self.state.source_block.as_len();
        let mut bad: Vec<Range<usize>> = Vec::new();
        let mut todo = vec![(0, span.len().as_len())];
        while let Some((start, end)) = todo.pop() {
            let done;
            (done, buf) = self.reader().part(buf, start..end, span.start).await;
            match done {
                Ok(None) => self.state.last_good.set(span.start + Bytes::from(start)),
                Ok(Some((at, _))) if end - at > block => {
                    let half = at + ((end - at) / 2).next_multiple_of(block);
                    todo.extend([(half, end), (at, half)]);
                    self.state.progress.retried.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Some((at, errno))) => {
                    if bad.is_empty()
                        && let Err(error) =
                            self.state.prove_alive(self.source, span.start + Bytes::from(at), errno).await
                    {
                        return (Err(error), buf);
                    }
                    match bad.last_mut() {
                        Some(last) if last.end == at => last.end = end,
                        _ => bad.push(at..end),
                    }
                    if let Err(error) = self.give_up(span.start, at..end, errno) {
                        return (Err(error), buf);
                    }
                }
                Err(error) => return (Err(error), buf),
            }
        }
        for part in &bad {
            let place = Span::new(span.start + Bytes::from(part.start), span.start + Bytes::from(part.end));
            let lba = place.start.lba(self.state.source_block).0;
            tracing::error!(%place, lba, blocks = part.len() / block, "unreadable on the source");
        }
        (Ok(bad), buf)
    }

    fn give_up(&self, base: Bytes, part: Range<usize>, errno: i32) -> Result<(), CopyError> {
        let span = Span::at(base + Bytes::from(part.start), Bytes::from(part.len()));
        if self.state.bad_blocks == BadBlocks::Stop {
            let error = io::Error::from_raw_os_error(errno);
            return Err(CopyError::of_request("reading", Side::Source, span, self.state.source_block, error));
        }
        Progress::add(&self.state.progress.unreadable, span.len());
        let mut list = self.state.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if list.add(span, errno) { Ok(()) } else { Err(CopyError::TooManyUnreadable(MOST_RANGES)) }
    }

    fn reader(&self) -> Transfers<'_, S> {
        let block = self.state.source_block;
        Transfers {
            lun: self.source,
            side: Side::Source,
            block,
            progress: &self.state.progress,
            latencies: self.latencies,
            guard: self.state.guard.as_ref(),
        }
    }

    fn writer(&self) -> Transfers<'_, T> {
        let block = self.state.target_block;
        Transfers {
            lun: self.target,
            side: Side::Target,
            block,
            progress: &self.state.progress,
            latencies: self.latencies,
            guard: self.state.guard.as_ref(),
        }
    }

    /// Writes `buf[part]` to `base + part.start`: all of it, unless the copy fails meanwhile.
    async fn write_all(&self, buf: S::Buf, part: Range<usize>, base: Bytes) -> WithBuf<Landed, S::Buf> {
        let (done, buf) = self.writer().all(buf, part, base, || self.board.has_failed()).await;
        (done.map(|all| if all { Landed::Done } else { Landed::Stopped }), buf)
    }
}

/// How an extent came back.
enum Landed {
    /// It is on the target.
    Done,
    /// It is zeroes, and waits for its punch.
    Zero,
    /// The copy was stopped before it was read, or failed before it was written.
    Stopped,
}

/// `parts` without `holes`; both in order.
fn without(parts: Vec<Range<usize>>, holes: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut left = Vec::new();
    for part in parts {
        let mut start = part.start;
        for hole in holes.iter().filter(|hole| hole.start < part.end && part.start < hole.end) {
            if start < hole.start {
                left.push(start..hole.start);
            }
            start = hole.end;
        }
        if start < part.end {
            left.push(start..part.end);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "lists of one range are meant")]
    use super::*;

    #[test]
    fn unreadable_parts_are_cut_out() {
        assert_eq!(without(vec![0..100], &[]), [0..100]);
        assert_eq!(without(vec![0..100], &[0..10, 50..60, 90..100]), [10..50, 60..90]);
        assert_eq!(without(vec![0..20, 40..60], &[10..50]), [0..10, 50..60]);
        assert_eq!(without(vec![10..20], &[0..100]), Vec::<Range<usize>>::new());
    }
}
