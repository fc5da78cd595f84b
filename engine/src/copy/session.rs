//! One copy from its first checkpoint to its last byte.
//!
//! Acts, through the LUN trait alone, so that the crash tests run this very code.
//!
//! ```text
//!   fresh:  erase slots -> Defined -> Syncing --.
//!   resume: adopt under the next epoch ---------+-> bulk pass, checkpoints --+-> past the end: Committed
//!                                                                           '-> overlay: Finalising -> overlay range,
//!                                                                               data behind both records, flush,
//!                                                                               slot A's head, slot B's head
//! ```
//!
//! The order at the end of an overlay copy is what makes it safe to be killed there: while any byte of the overlay range is
//! missing on the target, at least one slot still says Finalising. A head is the physical block that a record stands in. It
//! is written twice, first with the data behind the record and then with the record gone, so that the last write changes
//! one sector alone: a device that tears it anywhere leaves the record or the data, and one that can only write whole
//! physical blocks need not read and rewrite.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::checkpoint::layout::{Layout, LayoutKind, SlotId};
use crate::checkpoint::record::Record;
use crate::checkpoint::state::State;
use crate::checkpoint::store::{Store, undisturbed};
use crate::copy::board::{Board, Controls, Progress};
use crate::copy::error::{CopyError, Side};
use crate::copy::lane::{BadBlocks, CopyState, Lane};
use crate::copy::latency::Latencies;
use crate::copy::ledger::{Ledger, Pace, look};
use crate::copy::queue::{ExtentQueue, QueueSizes};
use crate::copy::retry::{Category, categorise};
use crate::copy::unreadable::MOST_RANGES;
use crate::lun::LunIo;
use crate::lun::device_error::errno_of;
use crate::units::{Bytes, Span};

/// How a copy keeps its checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointPlan {
    /// The record to start from: a new one, or the one that was read.
    pub record: Record,
    /// How it came to be.
    pub start: Start,
    /// The target's physical block: what is written of a slot at once.
    pub block: Bytes,
    /// How often.
    pub pace: Pace,
    /// Seconds since 1970, for the record.
    pub unix_now: fn() -> u64,
}

/// Where a copy starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the beginning, on slots that are blank or must be erased.
    Fresh {
        /// Whether both slots read as zeroes.
        slots_are_blank: bool,
    },
    /// At the record's watermark; `next` is the older or the broken slot.
    Resume {
        /// The slot to be written first.
        next: SlotId,
    },
}

/// How a copy ended, where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything that can be read is on the target.
    Complete,
    /// Stopped by the operator at this watermark.
    Interrupted(Bytes),
}

/// What came of an array's trial.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// There was none, or the array may copy: what the trial wrote counts as copied.
    NotFailed,
    /// What it wrote is copied again. Its errors stand in the count of what has happened to the target, and mean nothing.
    Failed,
}

/// One copy on one worker; others may lend a hand with the bulk pass through its board.
pub struct Session<'a, S, T> {
    /// Where data comes from.
    pub source: &'a S,
    /// Where it goes.
    pub target: &'a T,
    /// What all lanes share.
    pub state: &'a CopyState,
    /// How checkpoints are kept; none on a target that is too small for them.
    pub checkpoints: Option<CheckpointPlan>,
    /// The sizes of the queue, for the passes after the bulk.
    pub sizes: QueueSizes,
    /// The operator's wishes.
    pub controls: Arc<Controls>,
    /// For whoever shows it.
    pub progress: Arc<Progress>,
    /// This worker's latencies.
    pub latencies: &'a RefCell<Latencies>,
    /// Whether the source still is what it was when the copy began. Asked before the copy calls itself complete.
    pub source_is_unchanged: &'a (dyn Fn() -> Result<(), CopyError> + Sync),
}

impl<S: LunIo, T: LunIo<Buf = S::Buf>> Session<'_, S, T> {
    /// Runs the copy. `bulk` is a held board over what is to be copied first; `bufs` are this worker's buffers, one a lane.
    ///
    /// # Errors
    /// Why it stopped. A last checkpoint was tried, unless the metadata itself failed.
    pub async fn run(mut self, bulk: &Board, mut bufs: Vec<S::Buf>) -> Result<End, CopyError> {
        let Some(plan) = self.checkpoints.take() else {
            let disturbances = || self.target.disturbances().map_err(CopyError::Flush).inspect_err(|_| bulk.stop());
            let mut calm = disturbances()?;
            if self.try_array(bulk, &mut bufs).await.inspect_err(|_| bulk.stop())? == Trial::Failed {
                calm = disturbances()?;
            }
            bulk.open();
            // Other workers' lanes may still be on their way when this one's are done.
            futures_util::future::join(self.lanes(bulk, bufs), idle(bulk)).await;
            let lo = bulk.finish()?;
            (self.source_is_unchanged)()?;
            // Checkpoints look by themselves; this copy has none.
            look(self.state.guard.as_ref()).await?;
            self.target.flush().await.map_err(CopyError::Flush)?;
            calm.map_or(Ok(()), |before| undisturbed(self.target, before))?;
            return Ok(if bulk.is_complete() { End::Complete } else { End::Interrupted(lo) });
        };
        let Record { state, watermark, layout, .. } = plan.record;
        if !can_go_on(state, watermark, &layout) {
            bulk.stop();
            return Err(CopyError::State { state, watermark });
        }
        assert!(
            state != State::Syncing || bulk.lo() <= watermark,
            "the bulk pass leaves out what no checkpoint claims"
        );
        let next = match plan.start {
            Start::Fresh { .. } => SlotId::A,
            Start::Resume { next } => next,
        };
        let store = Store::new(self.target, layout, plan.block, next);
        let mut ledger = Ledger::new(
            store,
            plan.record,
            Arc::clone(&self.progress),
            &self.state.unreadable,
            plan.pace,
            plan.unix_now,
        )
        .guarded_by(self.state.guard.clone());
        let end = self.with_checkpoints(&mut ledger, plan.start, plan.block, bulk, bufs).await;
        if let Err(error) = &end {
            // Helpers on other threads wait at the board too.
            bulk.stop();
            let metadata_is_good = !matches!(error, CopyError::Store(_) | CopyError::Flush(_)) && !error.is_fenced();
            if metadata_is_good && ledger.record().state == State::Syncing {
                match ledger.let_go(bulk.lo()).await {
                    Ok(()) => tracing::info!(watermark = bulk.lo().0, "a last checkpoint was written"),
                    Err(error) => tracing::warn!(%error, "a last checkpoint could not be written"),
                }
            }
        }
        end
    }

    async fn with_checkpoints(
        &self,
        ledger: &mut Ledger<'_, T>,
        start: Start,
        block: Bytes,
        bulk: &Board,
        mut bufs: Vec<S::Buf>,
    ) -> Result<End, CopyError> {
        match start {
            Start::Fresh { slots_are_blank } => ledger.define(slots_are_blank).await?,
            Start::Resume { .. } => ledger.adopt().await?,
        }
        if ledger.record().state == State::Defined {
            ledger.enter(State::Syncing, Bytes::ZERO).await?;
        }
        // What the device refused while its ways were tried is nothing that happened to data.
        ledger.watch()?;
        if ledger.record().state == State::Syncing {
            if self.try_array(bulk, &mut bufs).await? == Trial::Failed {
                ledger.watch()?;
            }
            bulk.open();
            (bufs, ()) = futures_util::future::join(self.lanes(bulk, bufs), ledger.keep(bulk)).await;
            let lo = bulk.finish()?;
            if !bulk.is_complete() {
                ledger.let_go(lo).await?;
                return Ok(End::Interrupted(lo));
            }
            ledger.checkpoint(lo).await?;
        } else {
            bulk.stop();
        }
        (self.source_is_unchanged)()?;
        let layout = ledger.record().layout;
        match layout.kind() {
            LayoutKind::PastEnd if ledger.record().counters.unreadable_bytes > Bytes::ZERO => Ok(End::Complete),
            LayoutKind::PastEnd => {
                ledger.enter(State::Committed, layout.source_len()).await?;
                Ok(End::Complete)
            }
            LayoutKind::Overlay => self.finalise(ledger, &layout, block, bufs).await,
        }
    }

    /// Puts the array to the proof, where there is one, before anything is handed out.
    async fn try_array(&self, bulk: &Board, bufs: &mut Vec<S::Buf>) -> Result<Trial, CopyError> {
        let Some(offload) = &self.state.offload else { return Ok(Trial::NotFailed) };
        let Some(buf) = bufs.pop() else { return Ok(Trial::NotFailed) };
        let (source, target, state) = (self.source, self.target, self.state);
        let lane = Lane { source, target, state, board: bulk, latencies: self.latencies };
        let (tried, buf) = lane.try_array(offload, bulk.rest(), buf).await;
        bufs.push(buf);
        tried?;
        Ok(if offload.gave_up().is_some() { Trial::Failed } else { Trial::NotFailed })
    }

    /// Carries extents with one lane for each buffer until the board has none left.
    async fn lanes(&self, board: &Board, bufs: Vec<S::Buf>) -> Vec<S::Buf> {
        run_lanes(self.source, self.target, self.state, board, self.latencies, bufs).await
    }

    async fn finalise(
        &self,
        ledger: &mut Ledger<'_, T>,
        layout: &Layout,
        block: Bytes,
        mut bufs: Vec<S::Buf>,
    ) -> Result<End, CopyError> {
        if ledger.record().state != State::Finalising {
            ledger.enter(State::Finalising, layout.bulk_end()).await?;
        }
        for piece in layout.overlay_without_slots() {
            let board = Board::new(ExtentQueue::new(piece, self.sizes), Arc::clone(&self.controls));
            board.open();
            bufs = self.lanes(&board, bufs).await;
            board.finish()?;
            if !board.is_complete() {
                ledger.let_go(layout.bulk_end()).await?;
                return Ok(End::Interrupted(layout.bulk_end()));
            }
        }
        let mut heads = [Vec::new(), Vec::new()];
        for (kept, slot) in heads.iter_mut().zip(SlotId::BOTH) {
            let (head, rest) = (layout.slot_head(slot, block), layout.slot_rest(slot, block));
            let data = self.read_for_slot(layout.slot_source_part(slot), head.len()).await?;
            if !rest.is_empty() {
                let part = data[head.len().as_len()..].to_vec();
                let failed =
                    |error| CopyError::of_request("writing", Side::Target, rest, self.state.target_block, error);
                self.target.write_durable(rest.start, part).await.map_err(failed)?;
            }
            Progress::add(&self.progress.copied, head.len() + rest.len());
            kept.extend_from_slice(&data[..head.len().as_len()]);
        }
        (self.source_is_unchanged)()?;
        ledger.give_up_heads(&heads).await?;
        Ok(End::Complete)
    }

    /// What the source holds in `span`, a slot's granule or less. Blocks that can't be read are listed. They keep what the
    /// target holds, or become zeroes where the options say so; in the first `head` bytes they become zeroes always,
    /// since the record that stands in their place must go.
    async fn read_for_slot(&self, span: Span, head: Bytes) -> Result<Vec<u8>, CopyError> {
        let block = self.state.source_block;
        let len = span.len().as_len();
        if span.is_empty() {
            return Ok(Vec::new());
        }
        if let Ok(data) = self.source.read_block(span.start, len).await {
            return Ok(data);
        }
        let mut data = vec![0; len];
        for (i, part) in data.chunks_mut(block.as_len()).enumerate() {
            let at = span.start + Bytes(i as u64 * block.0);
            match self.source.read_block(at, part.len()).await {
                Ok(read) => part.copy_from_slice(&read),
                Err(error) => {
                    self.list_as_unreadable(Span::at(at, block), error).await?;
                    if at >= span.start + head && self.state.bad_blocks != BadBlocks::Fill {
                        part.copy_from_slice(&self.old_bytes(Span::at(at, block)).await?);
                    }
                }
            }
        }
        Ok(data)
    }

    /// What the target holds in `span`, which is on the borders of the source's blocks, not of the target's.
    async fn old_bytes(&self, span: Span) -> Result<Vec<u8>, CopyError> {
        let block = self.state.target_block;
        let around = Span::new(span.start.align_down(block), span.end.align_up(block));
        let read = self.target.read_block(around.start, around.len().as_len()).await;
        let old = read.map_err(|error| CopyError::of_request("reading", Side::Target, around, block, error))?;
        let from = (span.start - around.start).as_len();
        Ok(old[from..from + span.len().as_len()].to_vec())
    }

    async fn list_as_unreadable(&self, span: Span, error: io::Error) -> Result<(), CopyError> {
        let block = self.state.source_block;
        if categorise(&error) != Category::Medium {
            return Err(CopyError::of_request("reading", Side::Source, span, block, error));
        }
        let errno = errno_of(&error).unwrap_or(libc::EIO);
        self.state.prove_alive(self.source, span.start, errno).await?;
        tracing::error!(%span, lba = span.start.lba(block).0, errno, "unreadable on the source");
        Progress::add(&self.progress.unreadable, span.len());
        let mut list = self.state.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = list.add(span, errno);
        if listed { Ok(()) } else { Err(CopyError::TooManyUnreadable(MOST_RANGES)) }
    }
}

/// Waits until nothing is in flight on `board` and nothing more will be.
async fn idle(board: &Board) {
    while !board.moved_to(Bytes(u64::MAX)).await {}
}

/// Whether a copy starts or goes on from such a record. A commit or a last pass that follows no whole bulk pass would claim
/// bytes that were never copied.
fn can_go_on(state: State, watermark: Bytes, layout: &Layout) -> bool {
    match (state, layout.kind()) {
        (State::Defined, _) => watermark == Bytes::ZERO,
        (State::Syncing, _) => true,
        (State::Finalising, LayoutKind::Overlay) | (State::Committed, LayoutKind::PastEnd) => {
            watermark >= layout.bulk_end()
        }
        (
            State::Finalising
            | State::Committed
            | State::SourceSelected
            | State::TargetSelected
            | State::Suspended
            | State::Aborted,
            _,
        ) => false,
    }
}

/// Carries extents with one lane for each buffer until `board` has none left; gives the buffers back.
pub async fn run_lanes<S: LunIo, T: LunIo<Buf = S::Buf>>(
    source: &S,
    target: &T,
    state: &CopyState,
    board: &Board,
    latencies: &RefCell<Latencies>,
    bufs: Vec<S::Buf>,
) -> Vec<S::Buf> {
    let lane = Lane { source, target, state, board, latencies };
    bufs.into_iter().map(|buf| lane.run(buf)).collect::<FuturesUnordered<_>>().collect().await
}
