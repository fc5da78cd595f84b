//! Which vehicle runs, and why.
//!
//! Pure: what the operator wants and what both LUNs can do in; a vehicle with its reason, or a refusal, out. A fallback is
//! only chosen where the operator left the choice, and its reason is told (design S14).

use std::fmt;

use serde::Serialize;
use thiserror::Error;

/// How bytes move (design 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VehicleName {
    /// O_DIRECT through io_uring.
    Uring,
    /// SCSI READ and WRITE through SG_IO.
    Sg,
    /// The array copies: SCSI EXTENDED COPY. What it does not copy goes through io_uring.
    Xcopy,
}

impl fmt::Display for VehicleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Uring => "uring",
            Self::Sg => "sg",
            Self::Xcopy => "xcopy",
        })
    }
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The best that both LUNs are proven to do.
    #[default]
    Auto,
    /// io_uring.
    Uring,
    /// SCSI commands.
    Sg,
    /// EXTENDED COPY.
    Xcopy,
}

/// What one LUN, or the pair, can do; or why not, in words.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// Both take SCSI commands.
    pub commands: Result<(), String>,
    /// The array says that it copies between them.
    pub array: Result<(), String>,
}

/// The vehicle that was asked for can't move these LUNs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{option}: {why}; leave the option out, or give `{instead}`")]
pub struct VehicleRefusal {
    /// The option that asked for it.
    pub option: &'static str,
    /// Which LUN can't, and why.
    pub why: String,
    /// What always goes.
    pub instead: &'static str,
}

impl VehicleRefusal {
    /// A stable word for machines.
    pub fn code(&self) -> &'static str {
        if self.option.starts_with("--method") { "method_not_possible" } else { "vehicle_not_possible" }
    }
}

/// Decides: the vehicle, and why it.
///
/// # Errors
/// Where the one that was asked for can't be had.
pub fn choose(wanted: Wanted, can: &Abilities) -> Result<(VehicleName, String), VehicleRefusal> {
    let asked_for = |vehicle| Ok((vehicle, "asked for".into()));
    let refuse = |option, why: &String| Err(VehicleRefusal { option, why: why.clone(), instead: "uring" });
    match (wanted, &can.commands, &can.array) {
        (Wanted::Uring, ..) => asked_for(VehicleName::Uring),
        (Wanted::Sg, Ok(()), _) => asked_for(VehicleName::Sg),
        (Wanted::Sg, Err(why), _) => refuse("--vehicle sg", why),
        (Wanted::Xcopy, Ok(()), Ok(())) => asked_for(VehicleName::Xcopy),
        (Wanted::Xcopy, Err(why), _) | (Wanted::Xcopy, Ok(()), Err(why)) => refuse("--vehicle xcopy", why),
        (Wanted::Auto, Ok(()), Ok(())) => {
            Ok((VehicleName::Xcopy, "both LUNs say that the array can copy between them".into()))
        }
        (Wanted::Auto, Err(why), _) | (Wanted::Auto, Ok(()), Err(why)) => Ok((VehicleName::Uring, why.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can(commands: bool, array: bool) -> Abilities {
        let why = |yes, why: &str| if yes { Ok(()) } else { Err(why.to_owned()) };
        Abilities { commands: why(commands, "no SCSI"), array: why(array, "no 3PC") }
    }

    #[test]
    fn auto_takes_the_best_and_tells_why_not_the_better() {
        for (commands, array, vehicle, why) in [
            (true, true, VehicleName::Xcopy, "both LUNs"),
            (true, false, VehicleName::Uring, "no 3PC"),
            (false, false, VehicleName::Uring, "no SCSI"),
        ] {
            let (chosen, reason) = choose(Wanted::Auto, &can(commands, array)).expect("auto refuses nothing");
            assert!(chosen == vehicle && reason.contains(why), "{chosen}: {reason}");
        }
    }

    #[test]
    fn what_was_asked_for_runs_or_is_refused() {
        for (wanted, commands, array, outcome) in [
            (Wanted::Uring, true, true, Ok(VehicleName::Uring)),
            (Wanted::Sg, true, false, Ok(VehicleName::Sg)),
            (Wanted::Sg, false, false, Err("no SCSI")),
            (Wanted::Xcopy, true, true, Ok(VehicleName::Xcopy)),
            (Wanted::Xcopy, true, false, Err("no 3PC")),
            (Wanted::Xcopy, false, false, Err("no SCSI")),
        ] {
            let chosen = choose(wanted, &can(commands, array)).map(|(vehicle, _)| vehicle);
            assert_eq!(chosen.map_err(|refusal| refusal.why), outcome.map_err(str::to_owned), "{wanted:?}");
        }
    }
}
