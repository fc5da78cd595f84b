//! An open pair of LUNs, as the threads of one start of a node share it.
//!
//! Acts: reservations through the lock's code.
//!
//! What must hold: the pair is closed when its last holder is gone, and only then is it said to be retired.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::lock::Guard;
use lunferry_engine::lock::claim::{Claim, Paths};
use lunferry_engine::lock::error::LockError;
use lunferry_engine::lun::sizing::Sizing;
use lunferry_engine::units::Bytes;
use lunferry_scsi::key::{NodeId, OwnKey};

use super::Reports;
use super::record::{Facts, Failure};
use crate::sight::Lun;

/// An open pair, before it is put to use: what [`super::open::open`] makes of two devices, and a test of simulated ones.
pub struct Luns<V> {
    /// How bytes move; it holds both LUNs open.
    pub vehicle: V,
    /// How both are reserved, the source first.
    pub paths: [Paths; 2],
    /// LUNs whose reservations lie beside them: a look there reads a block too, or a LUN that is gone would not be missed.
    pub emulated: [bool; 2],
    /// What is fixed of them.
    pub facts: Facts,
    /// Every node of the cluster.
    pub nodes: Vec<NodeId>,
    /// The shape of the copy's requests.
    pub sizing: Sizing,
    /// What becomes of zeroes.
    pub zeroes: ZeroMode,
    /// How far the protocol's window may reach past what is copied.
    pub window: Bytes,
}

/// What this start has registered, as far as it knows.
pub(super) struct Held {
    paths: [Paths; 2],
    own: OwnKey,
    claims: [Mutex<Option<Claim>>; 2],
}

fn index(lun: Lun) -> usize {
    match lun {
        Lun::Source => 0,
        Lun::Target => 1,
    }
}

impl Held {
    pub(super) fn new(paths: [Paths; 2], own: OwnKey) -> Self {
        Self { paths, own, claims: Default::default() }
    }

    pub(super) fn paths(&self, lun: Lun) -> &Paths {
        &self.paths[index(lun)]
    }

    pub(super) fn own(&self) -> OwnKey {
        self.own
    }

    fn claim(&self, lun: Lun) -> MutexGuard<'_, Option<Claim>> {
        self.claims[index(lun)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers this start on every path.
    pub(super) fn enrol(&self, lun: Lun) -> Result<(), LockError> {
        let claim = self.paths(lun).enrol(self.own)?;
        for path in claim.paths.iter().filter(|path| !path.registered) {
            tracing::warn!(path = %path.path, error = path.error.as_deref(), "this path is not registered");
        }
        *self.claim(lun) = Some(claim);
        Ok(())
    }

    /// Does something that needs this start's registration there.
    pub(super) fn with<T>(
        &self,
        lun: Lun,
        act: impl FnOnce(&Paths, &Claim) -> Result<T, LockError>,
    ) -> Result<T, Failure> {
        match &*self.claim(lun) {
            Some(claim) => Ok(act(self.paths(lun), claim)?),
            None => Err(Failure::NotRegistered(lun)),
        }
    }

    /// Registers on paths that have come back, where this start holds the reservation.
    pub(super) fn mend(&self, lun: Lun) {
        if let Some(claim) = &mut *self.claim(lun) {
            self.paths(lun).mend(claim);
        }
    }
}

impl Guard for Held {
    fn still_held(&self) -> Result<(), LockError> {
        for lun in Lun::BOTH {
            self.mend(lun);
            let held = self.paths(lun).holds(self.own);
            if let (Err(LockError::Lost { .. }), Some(claim)) = (&held, &*self.claim(lun)) {
                // A path that was mended at the last moment must not let a fenced start write.
                self.paths(lun).withdraw(self.own, claim.aptpl);
            }
            held?;
        }
        Ok(())
    }
}

/// What the threads of one start share. The fields are dropped in this order.
pub(super) struct Shared<V> {
    pub(super) vehicle: V,
    pub(super) held: Arc<Held>,
    pub(super) luns: Fixed,
    pub(super) reports: Arc<dyn Reports>,
    retired: AtomicBool,
    _last: TellsRetired,
}

/// What of [`Luns`] is only read.
pub(super) struct Fixed {
    pub(super) emulated: [bool; 2],
    pub(super) facts: Facts,
    pub(super) nodes: Vec<NodeId>,
    pub(super) sizing: Sizing,
    pub(super) zeroes: ZeroMode,
    pub(super) window: Bytes,
}

struct TellsRetired(Arc<dyn Reports>);

impl Drop for TellsRetired {
    fn drop(&mut self) {
        self.0.retired();
    }
}

impl<V> Shared<V> {
    pub(super) fn new(luns: Luns<V>, own: OwnKey, reports: Arc<dyn Reports>) -> Self {
        let Luns { vehicle, paths, emulated, facts, nodes, sizing, zeroes, window } = luns;
        Self {
            vehicle,
            held: Arc::new(Held::new(paths, own)),
            luns: Fixed { emulated, facts, nodes, sizing, zeroes, window },
            _last: TellsRetired(Arc::clone(&reports)),
            reports,
            retired: AtomicBool::new(false),
        }
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }
}
