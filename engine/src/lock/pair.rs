//! The lock of a whole copy: both LUNs, in the order that makes the source's reservation the election (design 10, H10).
//!
//! Acts, through `claim`. What must hold: the source first, and the target only while the source is held; given back in the
//! other order.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use lunferry_scsi::key::OwnKey;
use serde::Serialize;

use super::Guard;
use super::claim::{Claim, Drained, PathState, has_none};
use super::error::LockError;
use super::node::ThisNode;
use super::paths::{Means, Ways};
use super::standing::Standing;
use crate::lun::facts::{LockKind, Role};
use crate::lun::open::OpenLun;

/// What the operator wishes of the lock.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Who asks.
    pub node: ThisNode,
    /// Fence whoever holds the LUNs.
    pub take_over: bool,
    /// Reserve the source too.
    pub fence_source: bool,
}

/// One LUN's part of the lock.
struct Side {
    role: Role,
    local: LockKind,
    ways: Ways,
    claim: Option<Mutex<Claim>>,
}

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

/// Releases what this node holds on one LUN, of any of its starts.
///
/// # Errors
/// [`LockError::HeldElsewhere`] where another node holds it, and why it could not be released. Nothing of others is
/// touched.
pub fn release(lun: &OpenLun, node: &ThisNode) -> Result<Released, LockError> {
    let Ways { paths: Some(paths), means } = Ways::of(&lun.info, lun.file(), node)? else {
        return Ok(Released::NothingHeld);
    };
    let own = node.key();
    match paths.standing(own) {
        Ok(Standing::Free) => return Ok(Released::NothingHeld),
        Ok(_) => {}
        Err(error) if means == Means::Scsi && has_none(&error) => return Ok(Released::NothingHeld),
        Err(error) => return Err(error),
    }
    // Only what this node's own paths prove to be its own is replaced; whoever calls has the LUN's exclusive open.
    let claim = paths.claim(own, false)?;
    paths.withdraw(own);
    match claim.drained {
        Some(_) => Ok(Released::Released),
        None => Ok(Released::NothingHeld),
    }
}

/// What a release came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// What this node held is gone.
    Released,
    /// This node held nothing.
    NothingHeld,
}

/// Both LUNs of a copy, open and not yet reserved.
pub struct Candidate {
    own: OwnKey,
    node: ThisNode,
    take_over: bool,
    source: Side,
    target: Side,
}

/// Both LUNs of a copy, reserved as far as they can be. Dropping it gives them back, unless a host was fenced that may wake
/// up with writes of its own: a LUN that nobody reserves takes everybody's (design H2).
pub struct PairLock {
    outlives: AtomicBool,
    own: OwnKey,
    node: ThisNode,
    source: Side,
    target: Side,
}

impl Candidate {
    /// Finds out how each LUN can be locked, and looks whether somebody else has it. Nothing is changed.
    ///
    /// # Errors
    /// Who has it, and why it can't be had.
    pub fn look(source: &OpenLun, target: &OpenLun, wishes: &Wishes) -> Result<Self, LockError> {
        let node = wishes.node.clone();
        let own = node.key();
        let ways = if wishes.fence_source {
            Ways::of(&source.info, source.file(), &node)?
        } else {
            Ways::waived("--source-fencing none")
        };
        let mut candidate = Self {
            own,
            take_over: wishes.take_over,
            source: Side { role: Role::Source, local: source.lock, ways, claim: None },
            target: Side {
                role: Role::Target,
                local: target.lock,
                ways: Ways::of(&target.info, target.file(), &node)?,
                claim: None,
            },
            node,
        };
        for side in [&mut candidate.source, &mut candidate.target] {
            side.look(own, wishes.take_over)?;
        }
        Ok(candidate)
    }

    /// Who asks.
    pub fn own(&self) -> OwnKey {
        self.own
    }

    /// Takes the lock: the source's first.
    ///
    /// # Errors
    /// Why it was not taken; then it is given back as far as it was.
    pub fn claim(self) -> Result<PairLock, LockError> {
        let Self { own, node, take_over, source, target } = self;
        let mut lock = PairLock { outlives: AtomicBool::new(false), own, node, source, target };
        lock.source.claim(own, take_over)?;
        lock.target.claim(own, take_over)?;
        // The fence of the target took its time: is the source still held?
        lock.still_held()?;
        Ok(lock)
    }
}

impl Side {
    /// Whether somebody else has it. A device without reservations becomes one that has none, aloud.
    fn look(&mut self, own: OwnKey, take_over: bool) -> Result<(), LockError> {
        let Some(paths) = &self.ways.paths else { return Ok(()) };
        let device = paths.device.clone();
        match paths.standing(own) {
            Ok(Standing::HeldBy(by)) if !take_over && by.node != own.node => {
                Err(LockError::HeldElsewhere { device, by, since: None })
            }
            Ok(Standing::Foreign { keys, holder }) => {
                Err(LockError::Foreign { device, keys, holder, may_waive: self.role == Role::Source })
            }
            Ok(Standing::Unclear) => Err(LockError::Unclear { device }),
            Ok(Standing::Free | Standing::Ours | Standing::HeldBy(_) | Standing::Registered(_)) => Ok(()),
            Err(error) if has_none(&error) => {
                tracing::warn!(%device, %error, "no persistent reservations: nothing keeps other hosts off it");
                self.ways = Ways::waived("the device has no persistent reservations");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn claim(&mut self, own: OwnKey, take_over: bool) -> Result<(), LockError> {
        if let Some(paths) = &self.ways.paths {
            self.claim = Some(Mutex::new(paths.claim(own, take_over)?));
        }
        Ok(())
    }

    /// Whether the reservation still is this host's. Paths that came back meanwhile are registered.
    fn still_held(&self) -> Result<(), LockError> {
        if let (Some(paths), Some(claim)) = (&self.ways.paths, &self.claim) {
            let mut claim = claim.lock().unwrap_or_else(PoisonError::into_inner);
            paths.holds(claim.own)?;
            paths.mend(&mut claim);
        }
        Ok(())
    }

    fn release(&self) {
        if let (Some(paths), Some(claim)) = (&self.ways.paths, &self.claim) {
            let own = claim.lock().unwrap_or_else(PoisonError::into_inner).own;
            paths.withdraw(own);
        }
    }

    fn has_fenced(&self) -> bool {
        let fenced = |claim: &Mutex<Claim>| !claim.lock().unwrap_or_else(PoisonError::into_inner).fenced.is_empty();
        self.claim.as_ref().is_some_and(fenced)
    }

    fn report(&self, stays: bool) -> LockReport {
        let claim = self.claim.as_ref().map(|claim| claim.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let (reservation, file, why) = match self.ways.means.clone() {
            Means::Scsi => ("scsi", None, None),
            Means::Emulated { file } => ("emulated", Some(file), None),
            Means::None { why } => ("none", None, Some(why)),
        };
        LockReport {
            local: self.local,
            reservation,
            file,
            why,
            aptpl: claim.as_ref().map(|claim| claim.aptpl),
            fenced: claim.iter().flat_map(|claim| &claim.fenced).map(ToString::to_string).collect(),
            stays: stays && claim.is_some(),
            drained: claim.as_ref().and_then(|claim| claim.drained),
            paths: claim.map(|claim| claim.paths).unwrap_or_default(),
        }
    }
}

impl PairLock {
    /// This start of this node.
    pub fn own(&self) -> OwnKey {
        self.own
    }

    /// Whether other hosts were fenced for it.
    pub fn has_fenced(&self) -> bool {
        self.source.has_fenced() || self.target.has_fenced()
    }

    /// Whether the reservations stay when this is dropped.
    pub fn outlive(&self, stays: bool) {
        self.outlives.store(stays, Ordering::Relaxed);
    }

    /// This node.
    pub fn node(&self) -> &ThisNode {
        &self.node
    }

    /// What keeps others off the source and off the target.
    pub fn report(&self) -> [LockReport; 2] {
        let stays = self.outlives.load(Ordering::Relaxed);
        [self.source.report(stays), self.target.report(stays)]
    }
}

impl Guard for PairLock {
    fn still_held(&self) -> Result<(), LockError> {
        self.source.still_held()?;
        self.target.still_held()
    }
}

impl Drop for PairLock {
    fn drop(&mut self) {
        if self.outlives.load(Ordering::Relaxed) {
            tracing::warn!(
                "the reservations stay, since a host was fenced that may wake up; when it is down or was restarted, release them \
                 with `lunferry lun release`"
            );
            return;
        }
        self.target.release();
        self.source.release();
    }
}
