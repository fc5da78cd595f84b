//! Reads the source and lets the target's device compare: VERIFY(16) with the source's blocks.
//!
//! Acts, through SCSI commands. Only for a device that has proven that it compares (`lun::sg::check`). Where it says that
//! something differs, both are read to see what.

use std::sync::PoisonError;

use tokio::time::Instant;

use crate::buffer::AlignedBuf;
use crate::copy::error::{CopyError, Side};
use crate::lun::sg::SgLun;
use crate::units::{Bytes, Span};
use crate::verify::compare::{Comparison, Extended};

impl Comparison<'_, SgLun, SgLun> {
    /// Lets the target compare until the queue has nothing left, with one lane for each pair of buffers.
    pub async fn run_by_device(&self, bufs: Vec<AlignedBuf>) -> Vec<AlignedBuf> {
        let extent = async |one, other, span| self.by_device(one, other, span).await;
        self.lanes(bufs, &extent).await
    }

    async fn by_device(&self, one: AlignedBuf, other: AlignedBuf, span: Span) -> Extended<AlignedBuf, ()> {
        let (read, one) = self.transfers(self.source, Side::Source).exactly(one, span).await;
        if let Err(error) = read {
            return (Err(error), one, other);
        }
        let started = Instant::now();
        let (holds, one) = self.target.holds(one, span).await;
        self.latencies.borrow_mut().read(started.elapsed());
        match holds {
            Ok(true) => (Ok(()), one, other),
            Ok(false) => self.locate(one, other, span).await,
            Err(error) => {
                let failed = CopyError::of_request("verifying", Side::Target, span, self.block, error);
                (Err(failed), one, other)
            }
        }
    }

    /// Reads both, to see what differs.
    async fn locate(&self, one: AlignedBuf, other: AlignedBuf, span: Span) -> Extended<AlignedBuf, ()> {
        let (newly, one, other) = self.by_reading(one, other, span).await;
        if matches!(newly, Ok(Bytes::ZERO)) {
            tracing::error!(%span, "the target says that it holds something else there, and gives the same when it is read");
            self.found.lock().unwrap_or_else(PoisonError::into_inner).add(span);
        }
        (newly.map(drop), one, other)
    }
}
