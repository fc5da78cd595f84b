//! What PERSISTENT RESERVE IN is answered (SPC-4: PERSISTENT RESERVE IN command), as values and as bytes.
//!
//! Pure: a state in, answers out. The values are those that [`crate::page::reservation`] reads, and the bytes are what
//! it reads them from. An answer is encoded whole; the allocation length cuts it, and it still announces its whole
//! length.

use crate::bytes::Completeness;
use crate::cdb::flag;
use crate::command::reservation::ReservationType;
use crate::key::Key;
use crate::page::reservation::{
    Capabilities, FullStatus, Held, HeldType, KeyList, Registration, Reservation, mask_bit,
};
use crate::page::transport_id::{TransportId, encode_transport_id};
use crate::rules::{Holding, Reservations};
use crate::units::{Generation, RelativePort};

impl<N: Clone + Ord> Reservations<N> {
    /// READ KEYS.
    pub fn keys(&self) -> KeyList {
        let keys = self.registrations.values().copied().collect();
        KeyList { generation: self.generation, keys, completeness: Completeness::Whole }
    }

    /// READ RESERVATION.
    pub fn holder(&self) -> Reservation {
        let held = self.held.as_ref().map(|Holding { kind, holder }| {
            let key = holder.as_ref().and_then(|holder| self.key_of(holder)).unwrap_or(Key::NONE);
            Held { key, kind: HeldType::Known(*kind), scope: 0 }
        });
        Reservation { generation: self.generation, held }
    }

    /// REPORT CAPABILITIES. ALLOW COMMANDS is zero: "no information".
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            compatible_handling: false,
            specify_initiator_ports: false,
            all_target_ports: false,
            persist_through_power_loss: self.abilities.aptpl,
            persist_activated: self.aptpl,
            allow_commands: 0,
            types: Some(ReservationType::ALL.to_vec()),
        }
    }

    /// READ FULL STATUS. `ports` tells the target port and the initiator port of a nexus.
    pub fn full_status(&self, ports: impl Fn(&N) -> (RelativePort, Option<TransportId>)) -> FullStatus {
        let registration = |(nexus, key): (&N, &Key)| {
            let (port, initiator) = ports(nexus);
            let holds = self.held.as_ref().filter(|_| self.holds(nexus)).map(|held| HeldType::Known(held.kind));
            Registration { key: *key, holds, port: Some(port), initiator }
        };
        let registrations = self.registrations.iter().map(registration).collect();
        FullStatus { generation: self.generation, registrations, completeness: Completeness::Whole }
    }
}

/// PRGENERATION, ADDITIONAL LENGTH, and the body.
fn with_header(generation: Generation, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("registrations fit into memory many times");
    let mut bytes = Vec::with_capacity(body.len() + 8);
    bytes.extend(generation.0.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn scope_and_type(scope: u8, kind: HeldType) -> u8 {
    let code = match kind {
        HeldType::Known(kind) => kind.code(),
        HeldType::Other(code) => code,
    };
    scope << 4 | code & 0x0F
}

/// READ KEYS parameter data.
pub fn encode_keys(keys: &KeyList) -> Vec<u8> {
    let body: Vec<u8> = keys.keys.iter().flat_map(|key| key.0.to_be_bytes()).collect();
    with_header(keys.generation, &body)
}

/// READ RESERVATION parameter data.
pub fn encode_reservation(reservation: &Reservation) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(held) = reservation.held {
        body.extend(held.key.0.to_be_bytes());
        body.extend([0; 5]);
        body.push(scope_and_type(held.scope, held.kind));
        body.extend([0; 2]);
    }
    with_header(reservation.generation, &body)
}

/// REPORT CAPABILITIES parameter data.
pub fn encode_capabilities(able: &Capabilities) -> [u8; 8] {
    let mask = able.types.iter().flatten().fold(0, |mask, kind| mask | mask_bit(*kind)).to_be_bytes();
    [
        0,
        8,
        flag(able.compatible_handling, 0x10)
            | flag(able.specify_initiator_ports, 0x08)
            | flag(able.all_target_ports, 0x04)
            | flag(able.persist_through_power_loss, 0x01),
        flag(able.types.is_some(), 0x80) | (able.allow_commands & 0b111) << 4 | flag(able.persist_activated, 0x01),
        mask[0],
        mask[1],
        0,
        0,
    ]
}

/// READ FULL STATUS parameter data.
pub fn encode_full_status(status: &FullStatus) -> Vec<u8> {
    let mut body = Vec::new();
    for registration in &status.registrations {
        let id = registration.initiator.as_ref().map(encode_transport_id).unwrap_or_default();
        let length = u32::try_from(id.len()).expect("a TransportID is short");
        body.extend(registration.key.0.to_be_bytes());
        body.extend([0; 4]);
        body.push(flag(registration.port.is_none(), 0x02) | flag(registration.holds.is_some(), 0x01));
        body.push(registration.holds.map_or(0, |kind| scope_and_type(0, kind)));
        body.extend([0; 4]);
        body.extend(registration.port.map_or(0, |port| port.0).to_be_bytes());
        body.extend(length.to_be_bytes());
        body.extend(id);
    }
    with_header(status.generation, &body)
}
