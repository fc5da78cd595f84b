//! PERSISTENT RESERVE IN parameter data (SPC-4: PERSISTENT RESERVE IN command): keys, holder, capabilities, full
//! status.
//!
//! Pure: bytes in, values out. A list that was cut proves only what is in it: "my key is not listed" holds for a whole
//! list alone, and [`KeyList::lists`] answers so.

use crate::bytes::{Completeness, Fields, ParseError, bit, entries, ragged};
use crate::command::reservation::ReservationType;
use crate::key::Key;
use crate::page::transport_id::{TransportId, transport_id};
use crate::units::{Generation, RelativePort};

/// READ KEYS (SPC-4: READ KEYS service action).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyList {
    /// PRGENERATION.
    pub generation: Generation,
    /// One for each registered nexus, so the same key may stand there several times.
    pub keys: Vec<Key>,
    /// Whether that is all of them.
    pub completeness: Completeness,
}

impl KeyList {
    /// Whether `key` is registered by some nexus; nothing where the list can't tell. That it is listed does not prove
    /// that this path is registered.
    pub fn lists(&self, key: Key) -> Option<bool> {
        let listed = self.keys.contains(&key);
        (listed || self.completeness.is_whole()).then_some(listed)
    }
}

/// PRGENERATION and ADDITIONAL LENGTH, which three of the four begin with.
fn header(fields: Fields<'_>) -> Result<(Generation, u64), ParseError> {
    let generation = Generation(fields.u32(0, "PRGENERATION")?);
    Ok((generation, u64::from(fields.u32(4, "ADDITIONAL LENGTH")?)))
}

/// Reads READ KEYS parameter data.
///
/// # Errors
/// Where it ends in its header.
pub fn read_keys(bytes: &[u8]) -> Result<KeyList, ParseError> {
    let fields = Fields::new("READ KEYS parameter data", bytes);
    let (generation, length) = header(fields)?;
    let (body, completeness) = fields.body(8, length);
    let (entries, completeness) = entries::<8>(body, completeness);
    let keys = entries.iter().map(|entry| Key(u64::from_be_bytes(*entry))).collect();
    Ok(KeyList { generation, keys, completeness })
}

/// TYPE of a reservation as a device says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldType {
    /// One of the six.
    Known(ReservationType),
    /// Obsolete or reserved.
    Other(u8),
}

/// A reservation and its holder (SPC-4: READ RESERVATION service action).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The holder's key; zero for the all-registrants types, where everyone holds it.
    pub key: Key,
    /// Its type.
    pub kind: HeldType,
    /// SCOPE: 0 is the logical unit, all others are obsolete or reserved.
    pub scope: u8,
}

/// READ RESERVATION (SPC-4: READ RESERVATION service action).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// PRGENERATION.
    pub generation: Generation,
    /// The reservation, where there is one.
    pub held: Option<Held>,
}

fn held(byte: u8, key: u64) -> Held {
    let code = byte & 0x0F;
    let kind = ReservationType::from_code(code).map_or(HeldType::Other(code), HeldType::Known);
    Held { key: Key(key), kind, scope: byte >> 4 }
}

/// Reads READ RESERVATION parameter data. An answer that was cut is an error and never "no reservation".
///
/// # Errors
/// Where it ends before all that it announces, or announces something that is no reservation descriptor.
pub fn read_reservation(bytes: &[u8]) -> Result<Reservation, ParseError> {
    let what = "READ RESERVATION parameter data";
    let fields = Fields::new(what, bytes);
    let (generation, length) = header(fields)?;
    if length == 0 {
        return Ok(Reservation { generation, held: None });
    }
    if length < 16 {
        let expected = "0 for no reservation, 16 for one";
        return Err(ParseError::Wrong { what, field: "ADDITIONAL LENGTH", value: length, expected });
    }
    let key = fields.u64(8, "RESERVATION KEY")?;
    let byte = fields.u8(21, "SCOPE and TYPE")?;
    Ok(Reservation { generation, held: Some(held(byte, key)) })
}

/// REPORT CAPABILITIES (SPC-4: REPORT CAPABILITIES service action).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// CRH: old RESERVE and RELEASE behave as SPC-2 says beside persistent reservations.
    pub compatible_handling: bool,
    /// SIP_C: a nexus can register others (SPEC_I_PT).
    pub specify_initiator_ports: bool,
    /// ATP_C: ALL_TG_PT is there.
    pub all_target_ports: bool,
    /// PTPL_C: APTPL is there.
    pub persist_through_power_loss: bool,
    /// PTPL_A: APTPL is on now.
    pub persist_activated: bool,
    /// ALLOW COMMANDS: which of the doubtful commands pass a reservation (SPC-4: ALLOW COMMANDS field).
    pub allow_commands: u8,
    /// Which types it has; nothing where TMV says that the mask means nothing.
    pub types: Option<Vec<ReservationType>>,
}

/// Reads REPORT CAPABILITIES parameter data.
///
/// # Errors
/// Where it ends before the flags, or before the mask of types that it says is valid.
pub fn capabilities(bytes: &[u8]) -> Result<Capabilities, ParseError> {
    let fields = Fields::new("REPORT CAPABILITIES parameter data", bytes);
    let [first, second] = fields.need(2, "PTPL_C and TMV")?;
    let types = if bit(second, 7) {
        let mask = fields.u16(4, "PERSISTENT RESERVATION TYPE MASK")?;
        Some(ReservationType::ALL.into_iter().filter(|kind| mask & mask_bit(*kind) != 0).collect())
    } else {
        None
    };
    Ok(Capabilities {
        compatible_handling: bit(first, 4),
        specify_initiator_ports: bit(first, 3),
        all_target_ports: bit(first, 2),
        persist_through_power_loss: bit(first, 0),
        persist_activated: bit(second, 0),
        allow_commands: second >> 4 & 0b111,
        types,
    })
}

/// The bit of a type in the mask's two bytes (SPC-4: PERSISTENT RESERVATION TYPE MASK).
pub(crate) fn mask_bit(kind: ReservationType) -> u16 {
    match kind {
        ReservationType::WriteExclusive => 0x0200,
        ReservationType::ExclusiveAccess => 0x0800,
        ReservationType::WriteExclusiveRegistrantsOnly => 0x2000,
        ReservationType::ExclusiveAccessRegistrantsOnly => 0x4000,
        ReservationType::WriteExclusiveAllRegistrants => 0x8000,
        ReservationType::ExclusiveAccessAllRegistrants => 0x0001,
    }
}

/// One registration (SPC-4: READ FULL STATUS service action).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its key.
    pub key: Key,
    /// R_HOLDER: it holds the reservation, of this type.
    pub holds: Option<HeldType>,
    /// The target port it came through; nothing where ALL_TG_PT says that it counts on all.
    pub port: Option<RelativePort>,
    /// The initiator port; nothing where the device sends none.
    pub initiator: Option<TransportId>,
}

/// READ FULL STATUS (SPC-4: READ FULL STATUS service action).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullStatus {
    /// PRGENERATION.
    pub generation: Generation,
    /// One for each registered nexus.
    pub registrations: Vec<Registration>,
    /// Whether that is all of them.
    pub completeness: Completeness,
}

/// Reads READ FULL STATUS parameter data.
///
/// # Errors
/// Where it ends in its header.
pub fn full_status(bytes: &[u8]) -> Result<FullStatus, ParseError> {
    let fields = Fields::new("READ FULL STATUS parameter data", bytes);
    let (generation, length) = header(fields)?;
    let (mut rest, completeness) = fields.body(8, length);
    let mut registrations = Vec::new();
    while let Some((registration, behind)) = next(rest) {
        registrations.push(registration);
        rest = behind;
    }
    Ok(FullStatus { generation, registrations, completeness: ragged(rest.len(), completeness) })
}

/// The first descriptor and what stands behind it; nothing where no whole one is left.
fn next(bytes: &[u8]) -> Option<(Registration, &[u8])> {
    let descriptor = Fields::new("full status descriptor", bytes);
    let key = descriptor.get(0).map(u64::from_be_bytes)?;
    let [flags, scope_and_type] = descriptor.get(12)?;
    let port = RelativePort(descriptor.get(18).map(u16::from_be_bytes)?);
    let length = usize::try_from(descriptor.get(20).map(u32::from_be_bytes)?).ok()?;
    let (id, rest) = bytes.get(24..)?.split_at_checked(length)?;
    let registration = Registration {
        key: Key(key),
        holds: bit(flags, 0).then(|| held(scope_and_type, key).kind),
        port: (!bit(flags, 1)).then_some(port),
        initiator: transport_id(id),
    };
    Some((registration, rest))
}
