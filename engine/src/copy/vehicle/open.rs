//! Asks both LUNs what they can do, and chooses the vehicle.
//!
//! Acts: SCSI commands that change nothing, over the descriptors that hold the locks.

use std::sync::Arc;

use crate::copy::vehicle::choice::{Abilities, VehicleName, VehicleRefusal, Wanted, choose};
use crate::lun::open::OpenLun;
use crate::lun::sg::ScsiLun;
use crate::lun::sg::open::open as open_scsi;

/// What was chosen, and the LUNs as SCSI devices.
#[derive(Debug)]
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
}

impl Chosen {
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
        let array = Err("the array is not asked to copy".into());
        let (name, why) = choose(wanted, &Abilities { commands, array })?;
        Ok(Self { wanted, name, why, source: from.ok(), target: to.ok() })
    }
}

fn opened(lun: &OpenLun, side: &str) -> Result<Arc<ScsiLun>, String> {
    let opened = open_scsi(lun).map(Arc::new);
    opened.map_err(|why| format!("the {side} {} takes no SCSI commands: {why}", lun.info.path.display()))
}
