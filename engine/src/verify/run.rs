//! Runs a verify on its vehicle: of two LUNs, or of a copy that has just run.
//!
//! Acts, through `copy::workers`. What the workers do stands in `compare` and `digests`.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::copy::board::{Board, Controls, Progress};
use crate::copy::error::CopyError;
use crate::copy::lane::Digests;
use crate::copy::prepare::Prepared;
use crate::copy::queue::{ExtentQueue, QueueSizes};
use crate::copy::run::{Copied, source_is_unchanged};
use crate::copy::vehicle::{Luns, Pair, Vehicle};
use crate::copy::workers::on_workers;
use crate::digest::DigestTable;
use crate::lun::sizing::Sizing;
use crate::units::{Bytes, Span};
use crate::verify::compare::Comparison;
use crate::verify::differences::{Difference, Differences};
use crate::verify::digests::Rereading;
use crate::verify::parts::Parts;

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
    let luns = prepared.luns();
    let (source, target, sizing) = (luns.source, luns.target, prepared.plan.sizing);
    let whole = Span::new(Bytes::ZERO, source.info.capacity);
    let Some(digests) = &copied.digests else {
        return compare(luns, &[whole], sizing, controls, progress);
    };
    let (suspects, interrupted) = match luns.pair() {
        Pair::Uring(pair) => reread(&pair, prepared, copied, digests, controls, progress)?,
        Pair::Sg(pair) => reread(&pair, prepared, copied, digests, controls, progress)?,
    };
    let block = source.info.logical_block.max(target.info.logical_block);
    let parts = Parts::of(whole, digests.span, sizing.extent, block, &copied.unreadable, &suspects);
    let mut verified = compare(luns, &parts.by_reading, sizing, controls, progress)?;
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

/// Reads the target's bulk again; the ranges whose digests differ, and whether it was interrupted.
fn reread<V: Vehicle>(
    vehicle: &V,
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
    on_workers(vehicle, sizing, 1, &board, async |_, bufs, latencies| {
        let pass = Rereading {
            target: &vehicle.target().map_err(|error| vehicle.set_up_error(sizing, error))?,
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
    luns: Luns<'_>,
    spans: &[Span],
    sizing: Sizing,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
) -> Result<Verified, CopyError> {
    match luns.pair() {
        Pair::Uring(pair) => compare_by(&pair, luns, spans, sizing, controls, progress),
        Pair::Sg(pair) => compare_by(&pair, luns, spans, sizing, controls, progress),
    }
}

fn compare_by<V: Vehicle>(
    vehicle: &V,
    luns: Luns<'_>,
    spans: &[Span],
    sizing: Sizing,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
) -> Result<Verified, CopyError> {
    let block = luns.source.info.logical_block.max(luns.target.info.logical_block);
    let found = Mutex::new(Differences::default());
    let window = Bytes(sizing.extent.0 * sizing.depth as u64 * sizing.workers as u64 * 4);
    let sizes = QueueSizes { extent: sizing.extent, window, max_run: window, max_hole: sizing.extent };
    let (mut read, mut interrupted) = (Bytes::ZERO, false);
    for &span in spans.iter().filter(|span| !span.is_empty()) {
        let board = Board::new(ExtentQueue::new(span, sizes), Arc::clone(controls));
        board.open();
        on_workers(vehicle, sizing, 2, &board, async |_, bufs, latencies| {
            let failed = |error| vehicle.set_up_error(sizing, error);
            let (from, to) = (&vehicle.source().map_err(failed)?, &vehicle.target().map_err(failed)?);
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
        differences: found.listed(luns.source.info.logical_block),
        differing_bytes: found.bytes(),
        unlisted_bytes: found.unlisted(),
        interrupted,
    })
}
