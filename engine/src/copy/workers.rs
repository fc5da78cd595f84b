//! Worker threads, each with what its vehicle needs: a ring, or a runtime.
//!
//! Acts: threads.

use std::cell::RefCell;
use std::io;
use std::sync::OnceLock;
use std::thread::Builder;

use crate::copy::board::Board;
use crate::copy::error::CopyError;
use crate::copy::latency::Latencies;
use crate::copy::vehicle::{BufOf, Vehicle};
use crate::lun::sizing::Sizing;
use crate::units::Bytes;

/// All that one worker needs of its vehicle.
pub struct Gear<V: Vehicle> {
    /// Its view of the source.
    pub source: V::Lun,
    /// Its view of the target.
    pub target: V::Lun,
    /// So many for each of its lanes as were asked for.
    pub bufs: Vec<BufOf<V>>,
}

impl<V: Vehicle> Gear<V> {
    fn of(vehicle: &V, count: usize, len: Bytes) -> io::Result<Self> {
        let (source, target) = (vehicle.source()?, vehicle.target()?);
        Ok(Self { source, target, bufs: vehicle.buffers(count, len)? })
    }
}

/// What one worker does with its gear, and where it notes its latencies.
pub trait Work<V: Vehicle, T>:
    AsyncFn(usize, Gear<V>, &RefCell<Latencies>) -> Result<Option<T>, CopyError> + Sync
{
}

impl<V: Vehicle, T, W> Work<V, T> for W where
    W: AsyncFn(usize, Gear<V>, &RefCell<Latencies>) -> Result<Option<T>, CopyError> + Sync
{
}

/// Runs `work` on every worker, with `buffers_a_lane` buffers of the vehicle for each lane. What worker 0 said, and
/// the latencies of all. A worker that fails stops the board, so that the others end too. Worker 0 is set up first, since it
/// can't be spared; of the others those that can't be set up are left out, and that is said.
///
/// # Errors
/// What worker 0 failed with; what another one failed with is on the board.
pub fn on_workers<V: Vehicle, T: Send>(
    vehicle: &V,
    sizing: Sizing,
    buffers_a_lane: usize,
    board: &Board,
    work: impl Work<V, T>,
) -> Result<(Option<T>, Latencies), CopyError> {
    let first_is_set_up: OnceLock<bool> = OnceLock::new();
    let one = |worker, set_up: &dyn Fn()| one_worker(vehicle, sizing, buffers_a_lane, worker, &work, set_up);
    std::thread::scope(|scope| {
        let mut helpers = Vec::new();
        for worker in 1..sizing.workers {
            let first = &first_is_set_up;
            let helper = move || {
                if !*first.wait() {
                    return Latencies::default();
                }
                match one(worker, &|| {}) {
                    Ran::NotSetUp(error) => {
                        tracing::warn!(worker, %error, "a worker is left out");
                        Latencies::default()
                    }
                    Ran::SetUp(done, latencies) => {
                        done.map_or_else(|error| board.fail(error), drop);
                        latencies
                    }
                }
            };
            match Builder::new().name(format!("worker-{worker}")).spawn_scoped(scope, helper) {
                Ok(helper) => helpers.push(helper),
                Err(error) => tracing::warn!(worker, %error, "a worker is left out: no thread could be started for it"),
            }
        }
        let is_set_up = |yes| {
            first_is_set_up.get_or_init(|| yes);
        };
        let (done, mut latencies) = match one(0, &|| is_set_up(true)) {
            Ran::SetUp(done, latencies) => (done, latencies),
            Ran::NotSetUp(error) => (Err(error), Latencies::default()),
        };
        is_set_up(false);
        if done.is_err() {
            board.stop();
        }
        for helper in helpers {
            latencies.merge(&helper.join().expect("a panic in a worker stops the process"));
        }
        Ok((done?, latencies))
    })
}

/// What came of a worker.
enum Ran<T> {
    /// It has no ring, no view of a LUN, or no buffers.
    NotSetUp(CopyError),
    /// It has worked.
    SetUp(Result<Option<T>, CopyError>, Latencies),
}

/// `set_up` is called when the worker has all that it needs.
fn one_worker<V: Vehicle, T>(
    vehicle: &V,
    sizing: Sizing,
    buffers_a_lane: usize,
    worker: usize,
    work: &impl Work<V, T>,
    set_up: &dyn Fn(),
) -> Ran<T> {
    let count = sizing.depth * buffers_a_lane;
    let latencies = RefCell::new(Latencies::default());
    let ran = vehicle.run(count, async {
        let gear = Gear::of(vehicle, count, sizing.extent)?;
        set_up();
        Ok(work(worker, gear, &latencies).await)
    });
    match ran.and_then(|done| done) {
        Ok(done) => Ran::SetUp(done, latencies.into_inner()),
        Err(error) => Ran::NotSetUp(vehicle.set_up_error(sizing, error)),
    }
}
