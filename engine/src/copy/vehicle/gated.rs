//! A vehicle with a gate in front of the target's writes, for a target whose reservations are emulated.
//!
//! Acts as the vehicle does.

use std::io;
use std::sync::Arc;

use crate::copy::error::CopyError;
use crate::copy::vehicle::{BufOf, Vehicle};
use crate::lock::gate::{Gate, GatedLun};
use crate::lun::sizing::Sizing;
use crate::units::Bytes;

/// A vehicle and the target's gate.
pub struct Gated<V> {
    vehicle: V,
    gate: Option<Arc<Gate>>,
}

impl<V> Gated<V> {
    /// `vehicle` behind `gate`; nothing where the storage itself refuses strangers.
    pub fn new(vehicle: V, gate: Option<Gate>) -> Self {
        Self { vehicle, gate: gate.map(Arc::new) }
    }
}

impl<V: Vehicle> Vehicle for Gated<V> {
    type Lun = GatedLun<V::Lun>;

    fn run<F: Future>(&self, requests: usize, future: F) -> io::Result<F::Output> {
        self.vehicle.run(requests, future)
    }

    fn buffers(&self, count: usize, len: Bytes) -> io::Result<Vec<BufOf<Self>>> {
        self.vehicle.buffers(count, len)
    }

    fn source(&self) -> io::Result<Self::Lun> {
        Ok(GatedLun::new(self.vehicle.source()?, None))
    }

    fn target(&self) -> io::Result<Self::Lun> {
        Ok(GatedLun::new(self.vehicle.target()?, self.gate.clone()))
    }

    fn set_up_error(&self, sizing: Sizing, error: io::Error) -> CopyError {
        self.vehicle.set_up_error(sizing, error)
    }
}
