//! How a verify compares: by reading both sides, or by the target's own VERIFY(16).
//!
//! Acts: asks both LUNs, and puts the target's compare to the proof. Changes nothing on either.

use serde::Serialize;

use crate::copy::vehicle::choice::{VehicleRefusal, Wanted};
use crate::copy::vehicle::open::Chosen;
use crate::lun::device_error::errno_of;
use crate::lun::open::OpenLun;

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Both sides are read.
    Read,
    /// The source is read, and the target's device compares.
    Verify16,
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedMethod {
    /// VERIFY(16) where the target proves that it compares.
    Auto,
    /// Reading.
    Read,
    /// VERIFY(16).
    Verify16,
}

/// What was chosen.
#[derive(Debug)]
pub struct ChosenMethod {
    /// How it is compared.
    pub method: Method,
    /// Why.
    pub why: String,
    /// How bytes move.
    pub vehicle: Chosen,
}

/// Chooses for an open pair. `vehicle` is io_uring, SCSI commands, or whichever the method needs.
///
/// # Errors
/// Where what the operator asked for can't be had.
pub fn choose(
    source: &OpenLun,
    target: &OpenLun,
    wanted: WantedMethod,
    vehicle: Wanted,
) -> Result<ChosenMethod, VehicleRefusal> {
    let refuse = |why: &str| VehicleRefusal { option: "--method verify16", why: why.into(), instead: "read" };
    let read = |why: String, vehicle| Ok(ChosenMethod { method: Method::Read, why, vehicle });
    let reader = |vehicle| match vehicle {
        Wanted::Sg => Chosen::of(source, target, Wanted::Sg),
        Wanted::Auto | Wanted::Uring | Wanted::Xcopy => Ok(Chosen::reader()),
    };
    match (wanted, vehicle) {
        (WantedMethod::Read, _) => return read("asked for".into(), reader(vehicle)?),
        (WantedMethod::Auto, Wanted::Uring) => return read("io_uring was asked for".into(), Chosen::reader()),
        (WantedMethod::Verify16, Wanted::Uring) => return Err(refuse("it needs SCSI commands, not --vehicle uring")),
        (WantedMethod::Auto | WantedMethod::Verify16, _) => {}
    }
    let why_not = match Chosen::of(source, target, Wanted::Sg) {
        Ok(chosen) => match why_not_by_device(&chosen) {
            None => {
                let why = "the target's VERIFY(16) has told wrong blocks from right ones".into();
                return Ok(ChosenMethod { method: Method::Verify16, why, vehicle: chosen });
            }
            Some(why) => why,
        },
        Err(refusal) => refusal.why,
    };
    if wanted == WantedMethod::Verify16 { Err(refuse(&why_not)) } else { read(why_not, reader(vehicle)?) }
}

fn why_not_by_device(chosen: &Chosen) -> Option<String> {
    let target = chosen.target.as_ref().expect("sg is chosen only where both are SCSI LUNs");
    let not_probed = |error: std::io::Error| {
        tracing::debug!(errno = errno_of(&error), "the compare could not be put to the proof");
        Some(error.to_string())
    };
    target.does_not_compare().unwrap_or_else(not_probed)
}
