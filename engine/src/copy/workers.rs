//! Worker threads, each with what its vehicle needs: a ring, or a runtime.
//!
//! Acts: threads.

use std::cell::RefCell;
use std::thread::Builder;

use crate::copy::board::Board;
use crate::copy::error::CopyError;
use crate::copy::latency::Latencies;
use crate::copy::vehicle::{BufOf, Vehicle};
use crate::lun::sizing::Sizing;

/// What one worker does with its buffers, and where it notes its latencies.
pub trait Work<B, T>: AsyncFn(usize, Vec<B>, &RefCell<Latencies>) -> Result<Option<T>, CopyError> + Sync {}

impl<B, T, W> Work<B, T> for W where
    W: AsyncFn(usize, Vec<B>, &RefCell<Latencies>) -> Result<Option<T>, CopyError> + Sync
{
}

/// Runs `work` on every worker, with `buffers_a_lane` buffers of the vehicle for each lane. What worker 0 said, and
/// the latencies of all. A worker that fails stops the board, so that the others end too.
///
/// # Errors
/// What worker 0 failed with; what another one failed with is on the board.
pub fn on_workers<V: Vehicle, T: Send>(
    vehicle: &V,
    sizing: Sizing,
    buffers_a_lane: usize,
    board: &Board,
    work: impl Work<BufOf<V>, T>,
) -> Result<(Option<T>, Latencies), CopyError> {
    let one = |worker| one_worker(vehicle, sizing, buffers_a_lane, worker, &work);
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

fn one_worker<V: Vehicle, T>(
    vehicle: &V,
    sizing: Sizing,
    buffers_a_lane: usize,
    worker: usize,
    work: &impl Work<BufOf<V>, T>,
) -> (Result<Option<T>, CopyError>, Latencies) {
    let count = sizing.depth * buffers_a_lane;
    let latencies = RefCell::new(Latencies::default());
    let failed = |error| vehicle.set_up_error(sizing, error);
    let done = vehicle.run(count, async {
        let bufs = vehicle.buffers(count, sizing.extent).map_err(failed)?;
        work(worker, bufs, &latencies).await
    });
    (done.unwrap_or_else(|error| Err(failed(error))), latencies.into_inner())
}
