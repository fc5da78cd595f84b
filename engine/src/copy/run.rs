//! Runs a prepared copy, and the verify after it, on real rings: one thread for each worker.
//!
//! Acts: threads and rings. What they do stands in `session`, `lane` and `verify`.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use serde::Serialize;

use crate::copy::board::{Board, Controls, Progress};
use crate::copy::error::CopyError;
use crate::copy::lane::{CopyState, Digests, SharedZeroMode};
use crate::copy::latency::Latencies;
use crate::copy::prepare::{Prepared, unix_now};
use crate::copy::queue::{ExtentQueue, QueueSizes};
use crate::copy::session::{CheckpointPlan, End, Session, run_lanes};
use crate::copy::unreadable::{Unreadable, UnreadableList};
use crate::copy::zeroes::ZeroMode;
use crate::digest::{DigestTable, ZeroExtents};
use crate::lun::facts::DeviceKind;
use crate::lun::open::OpenLun;
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
    /// The ranges that differ, merged.
    pub differences: Vec<Difference>,
    /// Bytes in blocks that differ, whether listed or not.
    pub differing_bytes: Bytes,
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
    let (end, latencies) = on_workers(plan.sizing, 1, &board, async |worker, bufs, latencies| {
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
        };
        session.run(&board, bufs).await.map(Some)
    })?;
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

/// Verifies a copy that has just run: what it digested is read from the target alone, the rest from both sides.
///
/// # Errors
/// Where a LUN can't be read.
pub fn verify_copied(
    prepared: &Prepared,
    copied: &Copied,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
) -> Result<Verified, CopyError> {
    let whole = Span::new(Bytes::ZERO, prepared.source.info.capacity);
    let Some(digests) = &copied.digests else {
        return compare(&prepared.source, &prepared.target, &[whole], prepared.plan.sizing, controls, progress);
    };
    let (suspects, interrupted) = reread(prepared, copied, digests, controls, progress)?;
    let bulk = digests.span;
    // Before the bulk: copied by an earlier run. After it: the overlay range.
    let mut rest = vec![Span::new(whole.start, bulk.start), Span::new(bulk.end, whole.end)];
    rest.extend(&suspects);
    let mut verified = compare(&prepared.source, &prepared.target, &rest, prepared.plan.sizing, controls, progress)?;
    verified.by_digest_bytes = bulk.len();
    verified.interrupted |= interrupted;
    if verified.differing_bytes == Bytes::ZERO && !suspects.is_empty() && !verified.interrupted {
        // Both sides read the same now, but the target did not hold what was read from the source while copying.
        tracing::error!(ranges = ?suspects, "the source changed while it was copied, or a LUN gave two answers");
        let mut found = Differences::default();
        suspects.iter().for_each(|&span| found.add(span));
        verified.differing_bytes = found.bytes();
        verified.differences = found.listed(prepared.source.info.logical_block);
    }
    Ok(verified)
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
    let sizes = QueueSizes { max_hole: Bytes::mib(128).max(sizing.extent), ..prepared.plan.queue };
    let board = Board::new(ExtentQueue::new(digests.span, sizes), Arc::clone(controls));
    board.open();
    let table = Mutex::new(DigestTable::new(digests.span, sizing.extent));
    let zero_extents = ZeroExtents::new(sizing.extent);
    on_workers(sizing, 1, &board, async |_, bufs, latencies| {
        let pass = Rereading {
            target: &view(&prepared.target, sizing)?,
            block: prepared.target.info.logical_block,
            extent: sizing.extent,
            board: &board,
            table: &table,
            zero_extents: &zero_extents,
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
        differences: found.listed(source.info.logical_block),
        differing_bytes: found.bytes(),
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
