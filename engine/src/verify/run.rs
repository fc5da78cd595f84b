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
use crate::copy::vehicle::{Luns, Pair, SgPair, Vehicle};
use crate::copy::workers::{Gear, on_workers};
use crate::digest::DigestTable;
use crate::lun::sizing::Sizing;
use crate::units::{Bytes, Span};
use crate::verify::compare::Comparison;
use crate::verify::differences::{Difference, Differences};
use crate::verify::digests::Rereading;
use crate::verify::method::Method;
use crate::verify::parts::Parts;

/// What a verify found.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Bytes of the target that were compared with digests taken while copying.
    pub by_digest_bytes: Bytes,
    /// Bytes of both LUNs that were read and compared.
    pub by_reading_bytes: Bytes,
    /// Bytes of the source that were read, and compared by the target's own device (VERIFY(16)).
    pub by_device_bytes: Bytes,
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
    let (suspects, interrupted) = match (&copied.digests, luns.pair()) {
        (None, _) => (Vec::new(), false),
        (Some(digests), Pair::Uring(pair)) => reread(&pair, prepared, copied, digests, controls, progress)?,
        (Some(digests), Pair::Sg(pair)) => reread(&pair, prepared, copied, digests, controls, progress)?,
    };
    let digested = copied.digests.as_ref().map_or(Span::new(Bytes::ZERO, Bytes::ZERO), |digests| digests.span);
    let block = source.info.logical_block.max(target.info.logical_block);
    let parts = Parts::of(whole, digested, sizing.extent, block, &copied.unreadable, &suspects);
    let mut verified = compare(luns, Method::Read, &parts.by_reading, sizing, controls, progress)?;
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
    on_workers(vehicle, sizing, 1, &board, async |_, Gear { target, bufs, .. }, latencies| {
        let pass = Rereading {
            target: &target,
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

/// Compares both LUNs in `spans`. [`Method::Verify16`] is for a vehicle of SCSI commands alone.
///
/// # Errors
/// Where a LUN can't be read.
pub fn compare(
    luns: Luns<'_>,
    method: Method,
    spans: &[Span],
    sizing: Sizing,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
) -> Result<Verified, CopyError> {
    let grain = luns.source.info.logical_block;
    let block = grain.max(luns.target.info.logical_block);
    let pass = Pass { block, grain, sizing, controls, progress };
    match (luns.pair(), method) {
        (Pair::Uring(_), Method::Verify16) => unreachable!("VERIFY(16) is chosen only with SCSI commands"),
        (Pair::Uring(pair), Method::Read) => pass.reading(&pair, spans),
        (Pair::Sg(pair), Method::Read) => pass.reading(&pair, spans),
        (Pair::Sg(pair), Method::Verify16) => pass.by_device(&pair, spans),
    }
}

/// One comparison of two LUNs.
pub struct Pass<'a> {
    /// The larger of their logical blocks.
    pub block: Bytes,
    /// The source's logical block.
    pub grain: Bytes,
    /// The shape of the requests.
    pub sizing: Sizing,
    /// The operator's wishes.
    pub controls: &'a Arc<Controls>,
    /// For whoever shows it.
    pub progress: &'a Arc<Progress>,
}

impl Pass<'_> {
    /// By reading both sides.
    ///
    /// # Errors
    /// Where a LUN can't be read.
    pub fn reading<V: Vehicle>(&self, vehicle: &V, spans: &[Span]) -> Result<Verified, CopyError> {
        let block = self.block;
        self.over(spans, |board, found| {
            on_workers(vehicle, self.sizing, 2, board, async |_, Gear { source, target, bufs }, latencies| {
                let (source, target) = (&source, &target);
                let pass = Comparison { source, target, block, board, found, progress: self.progress, latencies };
                pass.run(bufs).await;
                Ok(None::<()>)
            })
            .map(drop)
        })
    }

    /// By reading the source alone; the target's device compares.
    ///
    /// # Errors
    /// Where the source can't be read, or the device can't compare.
    pub fn by_device(&self, pair: &SgPair, spans: &[Span]) -> Result<Verified, CopyError> {
        let block = self.block;
        let verified = self.over(spans, |board, found| {
            on_workers(pair, self.sizing, 2, board, async |_, Gear { source, target, bufs }, latencies| {
                let (source, target) = (&source, &target);
                let pass = Comparison { source, target, block, board, found, progress: self.progress, latencies };
                pass.run_by_device(bufs).await;
                Ok(None::<()>)
            })
            .map(drop)
        })?;
        Ok(Verified { by_device_bytes: verified.by_reading_bytes, by_reading_bytes: Bytes::ZERO, ..verified })
    }

    fn over(
        &self,
        spans: &[Span],
        compare: impl Fn(&Board, &Mutex<Differences>) -> Result<(), CopyError>,
    ) -> Result<Verified, CopyError> {
        let found = Mutex::new(Differences::default());
        let Sizing { extent, depth, workers } = self.sizing;
        let window = Bytes(extent.0 * depth as u64 * workers as u64 * 4);
        let sizes = QueueSizes { extent, window, max_run: window, max_hole: extent };
        let (mut compared, mut interrupted) = (Bytes::ZERO, false);
        for &span in spans.iter().filter(|span| !span.is_empty()) {
            let board = Board::new(ExtentQueue::new(span, sizes), Arc::clone(self.controls));
            board.open();
            compare(&board, &found)?;
            compared += board.finish()? - span.start;
            interrupted |= !board.is_complete();
        }
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Verified {
            by_digest_bytes: Bytes::ZERO,
            by_reading_bytes: compared,
            by_device_bytes: Bytes::ZERO,
            left_out_bytes: Bytes::ZERO,
            differences: found.listed(self.grain),
            differing_bytes: found.bytes(),
            unlisted_bytes: found.unlisted(),
            interrupted,
        })
    }
}
