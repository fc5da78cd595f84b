//! A copy that goes no further than it is let, and is let go further while it runs.
//!
//! Acts: workers and a clock. The lanes, the queue and the board are those of every copy; checkpoints are somebody else's, who
//! hears how far everything is written.
//!
//! What must hold:
//! - nothing at or above what [`Board::extend`] allowed is written;
//! - what is told was completed before, and never falls;
//! - when this returns, nothing of it is in flight.

use std::time::Duration;

use tokio::time::Instant;

use crate::copy::board::Board;
use crate::copy::error::CopyError;
use crate::copy::lane::CopyState;
use crate::copy::ledger::Pace;
use crate::copy::session::run_lanes;
use crate::copy::vehicle::Vehicle;
use crate::copy::workers::{Gear, on_workers};
use crate::lun::sizing::Sizing;
use crate::units::Bytes;

/// The least time between two reports: without it a pace of nothing would never wait.
const SHORTEST: Duration = Duration::from_millis(1);

/// Copies what `board` hands out until it is complete, stopped or has failed. `moved` hears the watermark at this pace, and once
/// more at the end.
///
/// # Errors
/// The first failure.
pub fn run_live<V: Vehicle>(
    vehicle: &V,
    sizing: Sizing,
    state: &CopyState,
    board: &Board,
    pace: Pace,
    moved: impl Fn(Bytes) + Sync,
) -> Result<Bytes, CopyError> {
    let ran = on_workers(vehicle, sizing, 1, board, async |worker, Gear { source, target, bufs }, latencies| {
        let lanes = run_lanes(&source, &target, state, board, latencies, bufs);
        if worker == 0 {
            futures_util::future::join(lanes, tell(board, pace, &moved)).await;
        } else {
            lanes.await;
        }
        Ok(Some(()))
    });
    let lo = board.lo();
    // What worker 0 has failed with was before anything else.
    ran?;
    moved(lo);
    board.finish()
}

/// Tells where the watermark is, until nothing more will move it.
async fn tell(board: &Board, pace: Pace, moved: impl Fn(Bytes)) {
    let mut told = board.lo();
    loop {
        let due = Instant::now() + pace.time.max(SHORTEST);
        let enough = Bytes(told.0.saturating_add(pace.bytes.0.max(1)));
        let over = tokio::select! {
            biased;
            over = board.moved_to(enough) => over,
            () = tokio::time::sleep_until(due) => false,
        };
        if over {
            return;
        }
        let lo = board.lo();
        if lo > told {
            told = lo;
            moved(lo);
        }
    }
}
