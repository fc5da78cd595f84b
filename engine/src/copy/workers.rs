//! Worker threads, each with a ring of its own.
//!
//! Acts: threads and rings.

use std::cell::RefCell;
use std::thread::Builder;

use crate::copy::board::Board;
use crate::copy::error::CopyError;
use crate::copy::latency::Latencies;
use crate::lun::facts::DeviceKind;
use crate::lun::open::OpenLun;
use crate::lun::sizing::Sizing;
use crate::lun::uring::{RegisteredBuf, UringLun, register_buffers, run_on_ring};

/// What one worker does with its buffers, and where it notes its latencies.
pub trait Work<T>:
    AsyncFn(usize, Vec<RegisteredBuf>, &RefCell<Latencies>) -> Result<Option<T>, CopyError> + Sync
{
}

impl<T, W> Work<T> for W where
    W: AsyncFn(usize, Vec<RegisteredBuf>, &RefCell<Latencies>) -> Result<Option<T>, CopyError> + Sync
{
}

/// Runs `work` on every worker's ring, with `buffers_a_lane` registered buffers for each lane. What worker 0 said, and
/// the latencies of all. A worker that fails stops the board, so that the others end too.
///
/// # Errors
/// What worker 0 failed with; what another one failed with is on the board.
pub fn on_workers<T: Send>(
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

/// One worker's view of `lun`, for use inside [`on_workers`].
///
/// # Errors
/// [`CopyError::Ring`] where the descriptor can't be duplicated.
pub fn view(lun: &OpenLun, sizing: Sizing) -> Result<UringLun, CopyError> {
    let tells_holes = lun.info.device == DeviceKind::File;
    UringLun::new(lun.file(), tells_holes, lun.info.capacity).map_err(|source| ring_error(sizing, source))
}

fn ring_error(sizing: Sizing, source: std::io::Error) -> CopyError {
    CopyError::Ring { depth: sizing.depth, extent: sizing.extent, source }
}
