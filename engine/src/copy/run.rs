//! Runs a prepared copy on its vehicle, one thread for each worker.
//!
//! Acts: workers, and a last look at both LUNs. What the workers do stands in `session` and `lane`.

use std::sync::{Arc, Mutex, PoisonError};

use crate::copy::board::{Board, Controls, Progress};
use crate::copy::error::CopyError;
use crate::copy::lane::{BadBlocks, CopyState, Digests, LastGood, SharedZeroMode};
use crate::copy::latency::Latencies;
use crate::copy::offload::Offload;
use crate::copy::prepare::{Prepared, unix_now};
use crate::copy::queue::ExtentQueue;
use crate::copy::session::{CheckpointPlan, End, Session, run_lanes};
use crate::copy::unreadable::{Unreadable, UnreadableList};
use crate::copy::vehicle::choice::VehicleName;
use crate::copy::vehicle::{Pair, Vehicle};
use crate::copy::workers::{Gear, on_workers};
use crate::copy::zeroes::ZeroMode;
use crate::digest::{DigestTable, ZeroExtents};
use crate::lock::Guard;
use crate::lun::open::OpenLun;
use crate::lun::probe;
use crate::lun::sg::durable::DurableBy;
use crate::units::Bytes;

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
    /// The same, to ask whether a range is on it.
    pub unreadable_list: UnreadableList,
    /// The digests of what was copied in this run, where they were asked for.
    pub digests: Option<Digests>,
    /// Bytes that the array copied itself.
    pub by_array: Bytes,
    /// Why the array was not used any more.
    pub array_gave_up: Option<String>,
    /// How the last checkpoint was made durable; nothing where there was none.
    pub checkpoints_by: Option<DurableBy>,
}

/// Copies.
///
/// # Errors
/// Why it stopped; what was checkpointed before stays true.
pub fn copy(prepared: &Prepared, controls: &Arc<Controls>, progress: &Arc<Progress>) -> Result<Copied, CopyError> {
    match prepared.luns().pair() {
        Pair::Uring(pair) => copy_by(&pair, prepared, controls, progress),
        Pair::Sg(pair) => copy_by(&pair, prepared, controls, progress),
    }
}

fn copy_by<V: Vehicle>(
    vehicle: &V,
    prepared: &Prepared,
    controls: &Arc<Controls>,
    progress: &Arc<Progress>,
) -> Result<Copied, CopyError> {
    let plan = &prepared.plan;
    let extent = plan.sizing.extent;
    let table = || Digests { span: plan.bulk, table: Mutex::new(DigestTable::new(plan.bulk, extent)) };
    let state = CopyState {
        extent,
        source_block: prepared.source.info.logical_block,
        target_block: prepared.target.info.logical_block,
        bad_blocks: BadBlocks::of(plan.fill_unreadable),
        zero_mode: SharedZeroMode::new(plan.zeroes),
        digests: plan.verify.then(table),
        zero_extents: ZeroExtents::new(extent),
        offload: prepared.vehicle.array.as_ref().map(|array| Offload::new(Arc::clone(array))),
        unreadable: Mutex::new(UnreadableList::default()),
        last_good: LastGood::default(),
        source_len: prepared.source.info.capacity,
        progress: Arc::clone(progress),
        guard: Some(Arc::clone(&prepared.lock) as Arc<dyn Guard>),
    };
    let board = Board::new(ExtentQueue::new(plan.bulk, plan.queue), Arc::clone(controls));
    let checkpoints = plan.checkpoints.as_ref().map(|checkpoints| CheckpointPlan {
        record: checkpoints.record.clone(),
        start: checkpoints.start,
        block: prepared.target.info.physical_block,
        pace: plan.pace,
        unix_now,
    });
    let ran = on_workers(vehicle, plan.sizing, 1, &board, async |worker, Gear { source, target, bufs }, latencies| {
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
    let by_array = state.offload.as_ref().map_or(Bytes::ZERO, Offload::moved);
    let unreadable_list = state.unreadable.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Copied {
        end: end.expect("worker 0 tells the end"),
        latencies,
        zeroes: state.zero_mode.get(),
        unreadable: unreadable_list.listed(prepared.source.info.logical_block),
        unreadable_list,
        // What the array copied was not read: without it digests prove nothing.
        digests: state.digests.filter(|_| by_array == Bytes::ZERO),
        by_array,
        array_gave_up: state.offload.as_ref().and_then(Offload::gave_up).map(str::to_owned),
        checkpoints_by: checkpoints_by(prepared),
    })
}

/// Looks whether the source still has the size, the medium and, where the kernel tells one, the time of change that it had
/// when it was opened. For a real device nothing but its size and medium can tell.
///
/// # Errors
/// [`CopyError::SourceChanged`].
pub fn source_is_unchanged(source: &OpenLun) -> Result<(), CopyError> {
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

fn checkpoints_by(prepared: &Prepared) -> Option<DurableBy> {
    let vehicle = &prepared.vehicle;
    match vehicle.name {
        VehicleName::Sg => vehicle.target.as_ref().and_then(|target| target.durable().by()),
        VehicleName::Uring | VehicleName::Xcopy => prepared.plan.checkpoints.as_ref().map(|_| DurableBy::Dsync),
    }
}
