//! What kept others off one LUN, for the summary of a copy.
//!
//! Pure: values in, words out.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::claim::{Drained, PathState};
use crate::lun::facts::LockKind;

/// What keeps others off one LUN, for the summary.
#[derive(Clone, Debug, Serialize)]
pub struct LockReport {
    /// What keeps this host's other processes off it.
    pub local: LockKind,
    /// What keeps other hosts off it: `scsi`, `emulated` or `none`.
    pub reservation: &'static str,
    /// The file of an emulation.
    pub file: Option<PathBuf>,
    /// Why there is no reservation.
    pub why: Option<String>,
    /// Whether registrations outlive a loss of the LUN's power.
    pub aptpl: Option<bool>,
    /// Each path, and whether it is registered.
    pub paths: Vec<PathState>,
    /// Keys whose registrations were removed.
    pub fenced: Vec<String>,
    /// Whether the reservation stays when the copy ends, against a fenced host that may wake up.
    pub stays: bool,
    /// How it was made sure that nothing of theirs was in flight any more.
    pub drained: Option<Drained>,
}

impl fmt::Display for LockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; ", self.local)?;
        match (&self.file, &self.why) {
            (Some(file), _) => {
                write!(f, "reservation emulated in {}: only copiers that look there are kept off", file.display())?
            }
            (None, Some(why)) => write!(f, "no reservation, nothing keeps other hosts off: {why}")?,
            (None, None) => {
                let lasts = if self.aptpl == Some(true) { ", through power loss" } else { "" };
                let registered = self.paths.iter().filter(|path| path.registered).count();
                write!(f, "SCSI persistent reservation on {registered} of {} paths{lasts}", self.paths.len())?;
            }
        }
        for PathState { path, error, .. } in self.paths.iter().filter(|path| !path.registered) {
            write!(f, "; {path} is not registered: {}", error.as_deref().unwrap_or("no reason given"))?;
        }
        if let Some(drained) = self.drained {
            let how = match drained {
                Drained::Reset => "the unit was reset",
                Drained::WaitedOut => "the unit can't be reset, and the longest command was waited out",
                Drained::OwnAndReset => "an earlier start of this node was replaced, and the unit was reset",
                Drained::Own => "an earlier start of this node was replaced; the unit can't be reset",
            };
            write!(
                f,
                "; fenced: {} ({how})",
                if self.fenced.is_empty() { "nobody else".into() } else { self.fenced.join(", ") }
            )?;
        }
        if self.stays {
            write!(f, "; it stays until `lunferry lun release`, since a fenced host may wake up")?;
        }
        Ok(())
    }
}
