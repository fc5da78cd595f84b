//! Runs a prepared copy, and the verify after it, on real rings: one thread for each worker.
//!
//! Acts: threads and rings. What they do stands in `session`, `lane` and `verify`.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use rangemap::RangeSet;
use serde::Serialize;

use crate::copy::board::{Board, Controls, Progress};
use crate::copy::error::CopyError;
use crate::copy::lane::{CopyState, Digests, LastGood, SharedZeroMode};
use crate::copy::latency::Latencies;
use crate::copy::prepare::{Prepared, unix_now};
use crate::copy::queue::{ExtentQueue, QueueSizes};
use crate::copy::session::{CheckpointPlan, End, Session, run_lanes};
use crate::copy::unreadable::{Unreadable, UnreadableList};
use crate::copy::zeroes::ZeroMode;
use crate::digest::{DigestTable, ZeroExtents};
use crate::lun::facts::DeviceKind;
use crate::lun::open::OpenLun;
use crate::lun::probe;
use crate::lun::sizing::Sizing;
use crate::lun::uring::{RegisteredBuf, UringLun, register_buffers, run_on_ring};
use crate::units::{Bytes, Span};
use crate::verify::compare::Comparison;
use crate::verify::differences::{Difference, Differences};
use crate::verify::digests::Rereading;

/// A copy that ran to its end, or was interrupted.
pub struct Copied {
    /// How it ended.
    pub end: End,
    /// Of all workers.
    pub latencies: Latencies,
    /// What became of zeroes; written, where a punch turned out not to work.
    pub zeroes: ZeroMode,
    /// What could not be read in this run.
    pub unreadable: Vec<Unreadable>,
    unreadable_list: UnreadableList,
    digests: Option<Digests>,
}

/// What a verify found.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Bytes of the target that were compared with digests taken while copying.
    pub by_digest_bytes: Bytes,
    /// Bytes of both LUNs that were read and compared.
    pub by_reading_bytes: Bytes,
    /// Bytes that could not be read from the source, so that nothing can be said of them.
    pub left_out_bytes: Bytes,
    /// The ranges that differ, merged; the first 10,000 of them.
    pub differences: Vec<Difference>,
    /// Bytes in blocks that differ, whether listed or not.
    pub differing_bytes: Bytes,
    /// How many of those are not listed.
    pub unlisted_bytes: Bytes,
    /// Whether the operator stopped it before its end.
    pub interrupted: bool,
}

impl Verified {
    /// Whether all of it was compared and found equal.
    pub fn is_equal(&self) -> bool {
        !self.interrupted && self.differing_bytes == Bytes::ZERO
    }
}

/// Copies.
///
/// # Errors
/// Why it stopped; what was checkpointed before stays true.
pub fn copy(prepared: &Prepared, controls: &Arc<Controls>, progress: &Arc<Progress>) -> Result<Copied, CopyError> {
    let plan = &prepared.plan;
    let extent = plan.sizing.extent;
    let table = || Digests { span: plan.bulk, table: Mutex::new(DigestTable::new(plan.bulk, extent)) };
    let state = CopyState {
        extent,
        source_block: prepared.source.info.logical_block,
        target_block: prepared.target.info.logical_block,
        fill_unreadable: plan.fill_unreadable,
        zero_mode: SharedZeroMode::new(plan.zeroes),
        digests: plan.verify.then(table),
        zero_extents: ZeroExtents::new(extent),
        unreadable: Mutex::new(UnreadableList::default()),
        last_good: LastGood::default(),
        source_len: prepared.source.info.capacity,
        progress: Arc::clone(progress),
    };
    let board = Board::new(ExtentQueue::new(plan.bulk, plan.queue), Arc::clone(controls));
    let checkpoints = plan.checkpoints.as_ref().map(|checkpoints| CheckpointPlan {
        record: checkpoints.record.clone(),
        start: checkpoints.start,
        block: prepared.target.info.physical_block,
        pace: plan.pace,
        unix_now,
    });
    let ran = on_workers(plan.sizing, 1, &board, async |worker, bufs, latencies| {
        let (source, target) = open_on_ring(prepared)?;
        if worker > 0 {
            run_lanes(&source, &target, &state, &board, latencies, bufs).await;
            return Ok(None);
        }
        let session = Session {
            source: &source,
            target: &target,
            state: &state,
            checkpoints: checkpoints.clone(),
            sizes: plan.queue,
            controls: Arc::clone(controls),
            progress: Arc::clone(progress),
            latencies,
            source_is_unchanged: &|| source_is_unchanged(&prepared.source),
        };
        session.run(&board, bufs).await.map(Some)
    });
    drop_cached_pages(&prepared.target);
    let (end, latencies) = ran?;
    let unreadable_list = state.unreadable.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Copied {
        end: end.expect("worker 0 tells the end"),
        latencies,
        zeroes: state.zero_mode.get(),
        unreadable: unreadable_list.listed(prepared.source.info.logical_block),
        unreadable_list,
        digests: state.digests,
    })
}

/// Looks whether the source still has the size, the medium and, where the kernel tells one, the time of change that it had
/// when it was opened. For a real device nothing but its size and medium can tell.
fn source_is_unchanged(source: &OpenLun) -> Result<(), CopyError> {
    let was = &source.info;
    let is =
        probe::probe_file(source.file(), &was.path).map_err(|error| CopyError::SourceChanged(error.to_string()))?;
    if was.capacity != is.capacity {
        let sizes = format!("it had {} bytes and has {}", was.capacity.get(), is.capacity.get());
        return Err(CopyError::SourceChanged(sizes));
    }
    if was.diskseq != is.diskseq {
        return Err(CopyError::SourceChanged("another medium took its place".into()));
    }
    if was.content_stamp != is.content_stamp {
        return Err(CopyError::SourceChanged("its time of last change is another one".into()));
    }
    Ok(())
}

/// Makes the kernel forget what it has cached of the target. Direct writes go past the page cache: a process that reads
/// the device meanwhile, as health monitors do, fills it with old bytes that a later mount would see.
fn drop_cached_pages(target: &OpenLun) {
    if let Err(error) = rustix::fs::fadvise(target.file(), 0, None, rustix::fs::Advice::DontNeed) {
        tracing::warn!(%error, "the target's cached pages could not be dropped; run `blockdev --flushbufs` before it is used");
    }
}

/// Verifies a copy that has just run: what it digested is read from the target alone, the rest from both sides. Blocks that
/// could not be read are left out.
///
/// # Errors
/// Where a LUN can't be read, or the source was changed meanwhile.
pub fn verify_copied(
    prepared: &Prepared,
    copied: &Copied,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
) -> Result<Verified, CopyError> {
    let (source, target, sizing) = (&prepared.source, &prepared.target, prepared.plan.sizing);
    let whole = Span::new(Bytes::ZERO, source.info.capacity);
    let Some(digests) = &copied.digests else {
        return compare(source, target, &[whole], sizing, controls, progress);
    };
    let (suspects, interrupted) = reread(prepared, copied, digests, controls, progress)?;
    let block = source.info.logical_block.max(target.info.logical_block);
    let parts = by_digest_and_by_reading(whole, digests.span, sizing.extent, block, &copied.unreadable, &suspects);
    let mut verified = compare(source, target, &parts.by_reading, sizing, controls, progress)?;
    verified.by_digest_bytes = parts.by_digest;
    verified.left_out_bytes = parts.left_out;
    verified.interrupted |= interrupted;
    source_is_unchanged(source)?;
    if verified.differing_bytes == Bytes::ZERO && !suspects.is_empty() && !verified.interrupted {
        // Both sides read the same now, but the target did not hold what was read from the source while copying.
        tracing::error!(ranges = ?suspects, "the source changed while it was copied, or a LUN gave two answers");
        let mut found = Differences::default();
        suspects.iter().for_each(|&span| found.add(span));
        verified.differing_bytes = found.bytes();
        verified.differences = found.listed(source.info.logical_block);
    }
    Ok(verified)
}

/// Which part of a verify is done how.
struct Parts {
    by_digest: Bytes,
    by_reading: Vec<Span>,
    left_out: Bytes,
}

/// Everything outside the digests' span is read on both sides, and so is what lies around unreadable blocks in it, whose
/// extents have no digest. The unreadable blocks themselves, widened to `block`, are left out.
fn by_digest_and_by_reading(
    whole: Span,
    digested: Span,
    extent: Bytes,
    block: Bytes,
    unreadable: &[Unreadable],
    suspects: &[Span],
) -> Parts {
    let range = |span: Span| span.start.0..span.end.0;
    let mut by_reading = RangeSet::new();
    for outside in [Span::new(whole.start, digested.start), Span::new(digested.end, whole.end)] {
        if !outside.is_empty() {
            by_reading.insert(range(outside));
        }
    }
    let mut touched = RangeSet::new();
    for Unreadable { span, .. } in unreadable.iter().filter(|bad| bad.span.overlaps(digested)) {
        let from = digested.start + (span.start.saturating_sub(digested.start)).align_down(extent);
        let to = digested.end.min(digested.start + (span.end - digested.start).align_up(extent));
        touched.insert(from.0..to.0);
    }
    let undigested: u64 = touched.iter().map(|range| range.end - range.start).sum();
    by_reading.extend(touched);
    by_reading.extend(suspects.iter().map(|&span| range(span)));
    let mut left_out = RangeSet::new();
    for Unreadable { span, .. } in unreadable {
        left_out.insert(span.start.align_down(block).0..span.end.align_up(block).0);
    }
    for range in left_out.iter() {
        by_reading.remove(range.clone());
    }
    Parts {
        by_digest: digested.len() - Bytes(undigested),
        by_reading: by_reading.iter().map(|range| Span::new(Bytes(range.start), Bytes(range.end))).collect(),
        left_out: left_out.iter().map(|range| Bytes(range.end - range.start)).sum(),
    }
}

/// Reads the target's bulk again; the ranges whose digests differ, and whether it was interrupted.
fn reread(
    prepared: &Prepared,
    copied: &Copied,
    digests: &Digests,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
) -> Result<(Vec<Span>, bool), CopyError> {
    let sizing = prepared.plan.sizing;
    let board = Board::new(ExtentQueue::new(digests.span, prepared.plan.queue), Arc::clone(controls));
    board.open();
    let table = Mutex::new(DigestTable::new(digests.span, sizing.extent));
    on_workers(sizing, 1, &board, async |_, bufs, latencies| {
        let pass = Rereading {
            target: &view(&prepared.target, sizing)?,
            block: prepared.target.info.logical_block,
            board: &board,
            table: &table,
            unreadable: &copied.unreadable_list,
            progress,
            latencies,
        };
        pass.run(bufs).await;
        Ok(None::<()>)
    })?;
    board.finish()?;
    if !board.is_complete() {
        return Ok((Vec::new(), true));
    }
    let table = table.into_inner().unwrap_or_else(PoisonError::into_inner);
    let taken = digests.table.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((taken.differences(&table), false))
}

/// Reads both LUNs in `spans` and compares them.
///
/// # Errors
/// Where a LUN can't be read.
pub fn compare(
    source: &OpenLun,
    target: &OpenLun,
    spans: &[Span],
    sizing: Sizing,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
) -> Result<Verified, CopyError> {
    let block = source.info.logical_block.max(target.info.logical_block);
    let found = Mutex::new(Differences::default());
    let window = Bytes(sizing.extent.0 * sizing.depth as u64 * sizing.workers as u64 * 4);
    let sizes = QueueSizes { extent: sizing.extent, window, max_run: window, max_hole: sizing.extent };
    let (mut read, mut interrupted) = (Bytes::ZERO, false);
    for &span in spans.iter().filter(|span| !span.is_empty()) {
        let board = Board::new(ExtentQueue::new(span, sizes), Arc::clone(controls));
        board.open();
        on_workers(sizing, 2, &board, async |_, bufs, latencies| {
            let (from, to) = (&view(source, sizing)?, &view(target, sizing)?);
            let (board, found) = (&board, &found);
            let pass = Comparison { source: from, target: to, block, board, found, progress, latencies };
            pass.run(bufs).await;
            Ok(None::<()>)
        })?;
        read += board.finish()? - span.start;
        interrupted |= !board.is_complete();
    }
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Verified {
        by_digest_bytes: Bytes::ZERO,
        by_reading_bytes: read,
        left_out_bytes: Bytes::ZERO,
        differences: found.listed(source.info.logical_block),
        differing_bytes: found.bytes(),
        unlisted_bytes: found.unlisted(),
        interrupted,
    })
}

/// What one worker does with its buffers, and where it notes its latencies.
trait Work<T>: AsyncFn(usize, Vec<RegisteredBuf>, &RefCell<Latencies>) -> Result<Option<T>, CopyError> + Sync {}

impl<T, W> Work<T> for W where
    W: AsyncFn(usize, Vec<RegisteredBuf>, &RefCell<Latencies>) -> Result<Option<T>, CopyError> + Sync
{
}

/// Runs `work` on every worker's ring, with `buffers_a_lane` registered buffers for each lane. What worker 0 said, and
/// the latencies of all. A worker that fails stops the board, so that the others end too.
fn on_workers<T: Send>(
    sizing: Sizing,
    buffers_a_lane: usize,
    board: &Board,
    work: impl Work<T>,
) -> Result<(Option<T>, Latencies), CopyError> {
    let one = |worker| on_ring(sizing, buffers_a_lane, worker, &work);
    std::thread::scope(|scope| {
        let mut helpers = Vec::new();
        for worker in 1..sizing.workers {
            let helper = move || {
                let (done, latencies) = one(worker);
                done.map_or_else(|error| board.fail(error), drop);
                latencies
            };
            match Builder::new().name(format!("worker-{worker}")).spawn_scoped(scope, helper) {
                Ok(helper) => helpers.push(helper),
                Err(error) => board.fail(CopyError::Thread(error)),
            }
        }
        let (done, mut latencies) = one(0);
        if done.is_err() {
            board.stop();
        }
        for helper in helpers {
            latencies.merge(&helper.join().expect("a panic in a worker stops the process"));
        }
        Ok((done?, latencies))
    })
}

fn on_ring<T>(
    sizing: Sizing,
    buffers_a_lane: usize,
    worker: usize,
    work: &impl Work<T>,
) -> (Result<Option<T>, CopyError>, Latencies) {
    let count = sizing.depth * buffers_a_lane;
    let latencies = RefCell::new(Latencies::default());
    let done = run_on_ring(count, async {
        let bufs = register_buffers(count, sizing.extent).map_err(|source| ring_error(sizing, source))?;
        work(worker, bufs, &latencies).await
    });
    (done.unwrap_or_else(|source| Err(ring_error(sizing, source))), latencies.into_inner())
}

fn open_on_ring(prepared: &Prepared) -> Result<(UringLun, UringLun), CopyError> {
    let sizing = prepared.plan.sizing;
    Ok((view(&prepared.source, sizing)?, view(&prepared.target, sizing)?))
}

fn view(lun: &OpenLun, sizing: Sizing) -> Result<UringLun, CopyError> {
    let tells_holes = lun.info.device == DeviceKind::File;
    UringLun::new(lun.file(), tells_holes, lun.info.capacity).map_err(|source| ring_error(sizing, source))
}

fn ring_error(sizing: Sizing, source: std::io::Error) -> CopyError {
    CopyError::Ring { depth: sizing.depth, extent: sizing.extent, source }
}
