//! Asks both LUNs what they can do, and chooses the vehicle.
//!
//! Acts: SCSI commands that change nothing, over the descriptors that hold the locks.

use std::fmt;
use std::sync::Arc;

use crate::copy::plan::Options;
use crate::copy::vehicle::choice::{Abilities, VehicleName, VehicleRefusal, Wanted, choose};
use crate::lun::open::OpenLun;
use crate::lun::sg::ScsiLun;
use crate::lun::sg::open::open as open_scsi;
use crate::lun::xcopy::ArrayPair;
use crate::units::Bytes;

/// What the array copies at once, unless the operator says otherwise. Measured between LIO's fileio LUNs of 512 MiB, medians of
/// three alternated rounds: 2.11 s with 16 MiB, 2.53 s with 4 MiB; with 31 MiB, of which a trial costs more, 2.38 s.
const ARRAY_EXTENT: Bytes = Bytes::mib(16);

/// Buffers stand by, should the array give up.
const STANDING_BY: Bytes = Bytes::mib(32);

/// What was chosen, and the LUNs as SCSI devices.
pub struct Chosen {
    /// What the operator asked for.
    pub wanted: Wanted,
    /// What runs.
    pub name: VehicleName,
    /// Why.
    pub why: String,
    /// The source, where it takes SCSI commands.
    pub source: Option<Arc<ScsiLun>>,
    /// The target, where it was asked and takes SCSI commands.
    pub target: Option<Arc<ScsiLun>>,
    /// The array, where it is to copy.
    pub array: Option<Arc<ArrayPair>>,
}

impl Chosen {
    /// io_uring for both, for who reads all of both: nothing is asked.
    pub fn reader() -> Self {
        let (wanted, name, why) = (Wanted::Uring, VehicleName::Uring, "asked for".into());
        Self { wanted, name, why, source: None, target: None, array: None }
    }

    /// Chooses for an open pair.
    ///
    /// # Errors
    /// Where what the operator asked for can't be had.
    pub fn of(source: &OpenLun, target: &OpenLun, wanted: Wanted) -> Result<Self, VehicleRefusal> {
        // The source is asked in any case: what is unmapped on it needs not be read.
        let from = opened(source, "source");
        let to = match wanted {
            Wanted::Uring => Err("it was not asked".into()),
            Wanted::Auto | Wanted::Sg | Wanted::Xcopy => opened(target, "target"),
        };
        let commands = from.as_ref().and(to.as_ref()).map(drop).map_err(Clone::clone);
        let array = match (wanted, &from, &to) {
            (Wanted::Auto | Wanted::Xcopy, Ok(from), Ok(to)) => ArrayPair::between(from, to),
            _ => Err("the array was not asked to copy".into()),
        };
        let can_copy = array.as_ref().map(drop).map_err(|why| format!("the array does not copy: {why}"));
        let (name, why) = choose(wanted, &Abilities { commands, array: can_copy })?;
        let array = array.ok().filter(|_| name == VehicleName::Xcopy).map(Arc::new);
        Ok(Self { wanted, name, why, source: from.ok(), target: to.ok(), array })
    }
}

impl Chosen {
    /// The options, with the sizes that suit the vehicle. An array: larger extents, since no buffers are filled, and as many of
    /// them in flight as its copy manager takes, and one more that waits. SCSI commands: one worker, since each command in
    /// flight has a thread of its own.
    pub fn suited(&self, options: &Options) -> Options {
        let mut suited = options.clone();
        if let Some(array) = &self.array {
            suited.extent = options.extent.or(Some(ARRAY_EXTENT));
            let extent = suited.extent.unwrap_or(ARRAY_EXTENT).max(Bytes(1));
            let most = Bytes((STANDING_BY.0 / extent.0).max(1)).as_len();
            suited.depth = options.depth.or(Some((array.limits().at_once + 1).min(most)));
        }
        if self.name == VehicleName::Sg {
            suited.workers = options.workers.or(Some(1));
        }
        suited
    }
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chosen").field("wanted", &self.wanted).field("name", &self.name).finish_non_exhaustive()
    }
}

fn opened(lun: &OpenLun, side: &str) -> Result<Arc<ScsiLun>, String> {
    let opened = open_scsi(lun).map(Arc::new);
    opened.map_err(|why| format!("the {side} {} takes no SCSI commands: {why}", lun.info.path.display()))
}
