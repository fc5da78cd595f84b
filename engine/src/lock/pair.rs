//! The lock of a whole copy: both LUNs, in the order that makes the source's reservation the election (design 10, H10).
//!
//! Acts, through `claim`. What must hold: the source first, and the target only while the source is held; given back in the
//! other order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lunferry_scsi::key::OwnKey;

use super::Guard;
use super::claim::{Claim, Paths, has_none};
use super::error::LockError;
use super::node::ThisNode;
use super::paths::{Means, Ways};
use super::report::LockReport;
use super::standing::{Standing, guards, stale, standing};
use crate::lun::facts::{LockKind, Role};
use crate::lun::open::OpenLun;

/// How long a holder must have been seen before it is fenced.
const STOOD: Duration = Duration::from_secs(1);

/// What the operator wishes of the lock.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Who asks.
    pub node: ThisNode,
    /// Fence whoever holds the LUNs.
    pub take_over: bool,
    /// Reserve the source too.
    pub fence_source: bool,
    /// The operator's word that every host that was fenced in this copy is down, or was restarted since.
    pub fenced_are_down: bool,
}

/// One LUN's part of the lock.
struct Side {
    role: Role,
    local: LockKind,
    ways: Ways,
    /// Whether an earlier start of this node guarded it.
    was_guarded: bool,
    held: Option<Mutex<Held>>,
}

/// A LUN that is reserved, and the way to it.
struct Held {
    paths: Paths,
    claim: Claim,
}

/// Both LUNs of a copy, open and not yet reserved.
pub struct Candidate {
    own: OwnKey,
    wishes: Wishes,
    source: Side,
    target: Side,
}

/// Both LUNs of a copy, reserved as far as they can be. Dropping it gives them back, but for a LUN that must stay locked: where a
/// host was fenced that may wake up with writes of its own, since a LUN that nobody reserves takes everybody's (design H2);
/// and, before the copy has begun, where it was locked by an earlier start.
pub struct PairLock {
    own: OwnKey,
    wishes: Wishes,
    /// Whether it is to guard, though nobody was fenced in this run.
    owed: bool,
    begun: AtomicBool,
    source: Side,
    target: Side,
}

impl Candidate {
    /// Finds out how each LUN can be locked, and looks whether somebody else has it. Nothing is changed.
    ///
    /// # Errors
    /// Who has it, and why it can't be had.
    pub fn look(source: &OpenLun, target: &OpenLun, wishes: &Wishes) -> Result<Self, LockError> {
        let node = &wishes.node;
        let source_ways = if wishes.fence_source {
            Ways::of(&source.info, source.file(), node)
        } else {
            Ways::none("--source-fencing none")
        };
        let target_ways = Ways::of(&target.info, target.file(), node);
        let mut candidate = Self {
            own: node.key(),
            wishes: wishes.clone(),
            source: Side { role: Role::Source, local: source.lock, ways: source_ways, was_guarded: false, held: None },
            target: Side { role: Role::Target, local: target.lock, ways: target_ways, was_guarded: false, held: None },
        };
        for side in [&mut candidate.source, &mut candidate.target] {
            side.look(candidate.own, wishes.take_over)?;
        }
        if let (true, false, Means::None { why }) =
            (wishes.take_over, wishes.fenced_are_down, &candidate.target.ways.means)
        {
            return Err(LockError::CannotFence { device: target.info.path.display().to_string(), why: why.clone() });
        }
        Ok(candidate)
    }

    /// Takes the lock: the source's first. `owed`: the checkpoint says that another host was in the middle of this copy and has
    /// not let go.
    ///
    /// # Errors
    /// Why it was not taken; then it is given back as far as it was, and may be.
    pub fn claim(self, owed: bool) -> Result<PairLock, LockError> {
        let Self { mut own, wishes, source, target } = self;
        let guards = (owed || wishes.take_over) && !wishes.fenced_are_down;
        if guards || source.was_guarded || target.was_guarded {
            own.incarnation = own.incarnation.guarding();
        }
        let take_over = wishes.take_over.then_some(STOOD);
        let mut lock = PairLock { own, wishes, owed, begun: AtomicBool::new(false), source, target };
        lock.source.claim(own, take_over)?;
        lock.source.still_held()?;
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
        let standing = paths.look().map(|view| {
            self.was_guarded = guards(&stale(&view, own));
            standing(&view, own)
        });
        match standing {
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
                self.ways = Ways::none("the device has no persistent reservations");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn claim(&mut self, own: OwnKey, take_over: Option<Duration>) -> Result<(), LockError> {
        if let Some(paths) = self.ways.paths.take() {
            let claim = paths.claim(own, take_over)?;
            self.held = Some(Mutex::new(Held { paths, claim }));
        }
        Ok(())
    }

    fn held(&self) -> Option<MutexGuard<'_, Held>> {
        self.held.as_ref().map(|held| held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the reservation still is this host's. Paths that are new or came back meanwhile are registered.
    fn still_held(&self) -> Result<(), LockError> {
        let Some(mut held) = self.held() else { return Ok(()) };
        let Held { paths, claim } = &mut *held;
        paths.keep(claim)
    }

    fn release(&self) {
        if let Some(held) = self.held() {
            held.paths.withdraw(held.claim.own, held.claim.aptpl);
        }
    }

    fn report(&self, stays: bool) -> LockReport {
        let held = self.held();
        let claim = held.as_ref().map(|held| &held.claim);
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
            aptpl: claim.map(|claim| claim.aptpl),
            fenced: claim.iter().flat_map(|claim| &claim.fenced).map(ToString::to_string).collect(),
            stays: stays && claim.is_some(),
            drained: claim.and_then(|claim| claim.drained),
            paths: claim.map(|claim| claim.paths.clone()).unwrap_or_default(),
        }
    }
}

impl PairLock {
    /// This start of this node.
    pub fn own(&self) -> OwnKey {
        self.own
    }

    /// This node.
    pub fn node(&self) -> &ThisNode {
        &self.wishes.node
    }

    /// The copy begins: from now on the reservations end with it, unless they guard against a fenced host.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// What keeps others off the source and off the target.
    pub fn report(&self) -> [LockReport; 2] {
        [&self.source, &self.target].map(|side| side.report(self.stays(side)))
    }

    /// Whether a side's reservation stays when this is dropped.
    fn stays(&self, side: &Side) -> bool {
        // A host that was fenced on one of them may write to both.
        let guards = |side: &Side| side.held().is_some_and(|held| held.claim.guards());
        let guards = (self.owed || guards(&self.source) || guards(&self.target)) && !self.wishes.fenced_are_down;
        let Some(held) = side.held() else { return false };
        guards || !self.begun.load(Ordering::Relaxed) && held.claim.is_inherited()
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
        for side in [&self.target, &self.source] {
            if self.stays(side) {
                let role = side.role;
                tracing::warn!(%role, "its reservation stays; release it with `lunferry lun release` when the fenced host is down or \
                    was restarted, or go on with --resume");
            } else {
                side.release();
            }
        }
    }
}
