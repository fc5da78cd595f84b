//! Vehicles: how the bytes of a pair of LUNs move, and what a worker needs for it.
//!
//! Acts: rings, runtimes, buffers.
//!
//! ```text
//!   vehicle/choice   pure: which one runs, and why
//!   vehicle/gated    any of them, with a gate in front of the target's writes
//!   vehicle/open     asks both LUNs what they can do, and chooses
//! ```

pub mod choice;
pub mod gated;
pub mod open;

use std::borrow::Borrow;
use std::io;
use std::sync::Arc;

use crate::buffer::AlignedBuf;
use crate::copy::error::CopyError;
use crate::copy::vehicle::choice::VehicleName;
use crate::copy::vehicle::open::Chosen;
use crate::lun::LunIo;
use crate::lun::disturbances::Disturbances;
use crate::lun::facts::DeviceKind;
use crate::lun::lba_map::LbaMap;
use crate::lun::open::OpenLun;
use crate::lun::sg::{ScsiLun, SgLun};
use crate::lun::sizing::Sizing;
use crate::lun::uring::{RegisteredBuf, UringLun, register_buffers, run_on_ring};
use crate::units::Bytes;

/// The buffers of a vehicle.
pub type BufOf<V> = <<V as Vehicle>::Lun as LunIo>::Buf;

/// What a worker needs of the vehicle. Everything else of a copy is the same for all of them.
pub trait Vehicle: Sync {
    /// One worker's view of either LUN. Made, used and dropped inside [`Vehicle::run`].
    type Lun: LunIo;

    /// Runs one worker on this thread, with room for so many requests in flight.
    ///
    /// # Errors
    /// Where the kernel gives no ring, or no runtime.
    fn run<F: Future>(&self, requests: usize, future: F) -> io::Result<F::Output>;

    /// Buffers for one worker; inside [`Vehicle::run`].
    ///
    /// # Errors
    /// Where there is no memory for them.
    fn buffers(&self, count: usize, len: Bytes) -> io::Result<Vec<BufOf<Self>>>;

    /// The source.
    ///
    /// # Errors
    /// Where its descriptor can't be duplicated.
    fn source(&self) -> io::Result<Self::Lun>;

    /// The target.
    ///
    /// # Errors
    /// As [`Vehicle::source`].
    fn target(&self) -> io::Result<Self::Lun>;

    /// What it means that a worker could not be set up.
    fn set_up_error(&self, sizing: Sizing, error: io::Error) -> CopyError;
}

/// An open pair, and what was chosen for it.
#[derive(Clone, Copy)]
pub struct Luns<'a> {
    /// One LUN.
    pub source: &'a OpenLun,
    /// The other.
    pub target: &'a OpenLun,
    /// How bytes move.
    pub vehicle: &'a Chosen,
}

/// A pair as its vehicle sees it.
pub enum Pair<'a> {
    /// O_DIRECT through io_uring; beside an array that copies, too.
    Uring(UringPair<&'a OpenLun>),
    /// SCSI commands.
    Sg(SgPair),
}

impl<'a> Luns<'a> {
    /// The pair for the vehicle that was chosen.
    pub fn pair(self) -> Pair<'a> {
        let Chosen { name, source, target, .. } = self.vehicle;
        match (name, source, target) {
            (VehicleName::Sg, Some(source), Some(target)) => {
                Pair::Sg(SgPair { source: Arc::clone(source), target: Arc::clone(target) })
            }
            (VehicleName::Sg, ..) => unreachable!("sg is chosen only where both are SCSI LUNs"),
            (VehicleName::Uring | VehicleName::Xcopy, source, _) => {
                Pair::Uring(UringPair::new(self.source, self.target, source.as_deref()))
            }
        }
    }
}

/// A pair for io_uring, borrowed or owned.
pub struct UringPair<L> {
    source: L,
    target: L,
    /// What is unmapped on a SCSI source: the kernel's block device does not tell.
    map: Option<Arc<LbaMap>>,
}

impl<L: Borrow<OpenLun>> UringPair<L> {
    /// Of two open LUNs; `as_scsi` is the source, where it takes SCSI commands.
    pub fn new(source: L, target: L, as_scsi: Option<&ScsiLun>) -> Self {
        Self { source, target, map: as_scsi.and_then(ScsiLun::map).map(Arc::clone) }
    }
}

impl<L: Borrow<OpenLun> + Sync> Vehicle for UringPair<L> {
    type Lun = UringLun;

    fn run<F: Future>(&self, requests: usize, future: F) -> io::Result<F::Output> {
        run_on_ring(requests, future)
    }

    fn buffers(&self, count: usize, len: Bytes) -> io::Result<Vec<RegisteredBuf>> {
        register_buffers(count, len)
    }

    fn source(&self) -> io::Result<UringLun> {
        let lun = view(self.source.borrow())?;
        Ok(match &self.map {
            Some(map) => lun.with_map(Arc::clone(map)),
            None => lun,
        })
    }

    fn target(&self) -> io::Result<UringLun> {
        view(self.target.borrow())
    }

    fn set_up_error(&self, sizing: Sizing, source: io::Error) -> CopyError {
        CopyError::Ring { depth: sizing.depth, extent: sizing.extent, source }
    }
}

fn view(lun: &OpenLun) -> io::Result<UringLun> {
    let opened = UringLun::new(lun.file(), lun.info.device == DeviceKind::File, lun.info.capacity)?;
    Ok(opened.with_disturbances(Disturbances::of(&lun.info)))
}

/// A pair for SCSI commands.
pub struct SgPair {
    source: Arc<ScsiLun>,
    target: Arc<ScsiLun>,
}

impl SgPair {
    /// Of two SCSI LUNs.
    pub fn new(source: Arc<ScsiLun>, target: Arc<ScsiLun>) -> Self {
        Self { source, target }
    }
}

impl Vehicle for SgPair {
    type Lun = SgLun;

    /// Each request in flight takes one blocking thread.
    fn run<F: Future>(&self, requests: usize, future: F) -> io::Result<F::Output> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().max_blocking_threads(requests + 1).build()?;
        Ok(runtime.block_on(future))
    }

    fn buffers(&self, count: usize, len: Bytes) -> io::Result<Vec<AlignedBuf>> {
        AlignedBuf::many(count, len.as_len())
    }

    fn source(&self) -> io::Result<SgLun> {
        Ok(SgLun::new(Arc::clone(&self.source)))
    }

    fn target(&self) -> io::Result<SgLun> {
        Ok(SgLun::new(Arc::clone(&self.target)))
    }

    fn set_up_error(&self, sizing: Sizing, source: io::Error) -> CopyError {
        CopyError::Memory { depth: sizing.depth, extent: sizing.extent, source }
    }
}
