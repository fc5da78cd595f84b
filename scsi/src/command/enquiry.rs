//! Commands that ask what a logical unit is and how it does: INQUIRY, TEST UNIT READY, READ CAPACITY, REPORT LUNS,
//! REPORT TARGET PORT GROUPS.
//!
//! Pure: fields in, CDB out. Where a device has more to say than the allocation length, the parser says so, and the
//! caller asks again with the length that was announced.

use crate::cdb::{Cdb, Command, EncodeError, Kind, Request, TimeoutClass, Transfer, at_most, be16};

/// A request that only asks.
fn query(name: &'static str, cdb: Cdb, allocation: u32) -> Request {
    let transfer = if allocation == 0 { Transfer::None } else { Transfer::In(allocation) };
    Request { name, cdb, transfer, timeout: TimeoutClass::Query, kind: Kind::Query }
}

/// An allocation length must leave room for the header that announces the whole length.
fn at_least(command: &'static str, allocation: u32, least: u32) -> Result<u32, EncodeError> {
    let why = "too short for the header that tells the data's whole length; ask for more";
    let field = "ALLOCATION LENGTH";
    if allocation < least { Err(EncodeError::Unfit { command, field, why }) } else { Ok(allocation) }
}

/// INQUIRY, opcode 12h (SPC-4: INQUIRY command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// The vital product data page, or nothing for standard INQUIRY data.
    pub page: Option<u8>,
    /// At most this many bytes. Old devices fail or hang on more than 255 for standard data: ask for 36 first.
    pub allocation: u16,
}

impl Command for Inquiry {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "INQUIRY";
        let least = if self.page.is_some() { 4 } else { 5 };
        let allocation = at_least(name, u32::from(self.allocation), least)?;
        let cdb = Cdb::new(0x12, 6)
            .put(1, [u8::from(self.page.is_some())])
            .put(2, [self.page.unwrap_or(0)])
            .put(3, self.allocation.to_be_bytes());
        Ok(query(name, cdb, allocation))
    }
}

/// TEST UNIT READY, opcode 00h (SPC-4: TEST UNIT READY command). It takes one pending unit attention off the nexus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestUnitReady;

impl Command for TestUnitReady {
    fn request(&self) -> Result<Request, EncodeError> {
        Ok(query("TEST UNIT READY", Cdb::new(0x00, 6), 0))
    }
}

/// READ CAPACITY(10), opcode 25h (SBC-3: READ CAPACITY (10) command): 8 bytes, and FFFFFFFFh for "too large for me".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadCapacity10;

impl Command for ReadCapacity10 {
    fn request(&self) -> Result<Request, EncodeError> {
        Ok(query("READ CAPACITY(10)", Cdb::new(0x25, 10), 8))
    }
}

/// READ CAPACITY(16), opcode 9Eh, service action 10h (SBC-3: READ CAPACITY (16) command): 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadCapacity16;

impl Command for ReadCapacity16 {
    fn request(&self) -> Result<Request, EncodeError> {
        let length: u32 = 32;
        let cdb = Cdb::new(0x9E, 16).put(1, [0x10]).put(10, length.to_be_bytes());
        Ok(query("READ CAPACITY(16)", cdb, length))
    }
}

/// Which logical units REPORT LUNS lists (SPC-4: REPORT LUNS command, SELECT REPORT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LunSelection {
    /// 00h: those without the well-known ones.
    Addressable,
    /// 01h: the well-known ones.
    WellKnown,
    /// 02h: all.
    All,
}

/// REPORT LUNS, opcode A0h (SPC-4: REPORT LUNS command). Clears the unit attention 3Fh/0Eh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportLuns {
    /// Which.
    pub selection: LunSelection,
    /// At most this many bytes; SPC-4 asks for 16 or more.
    pub allocation: u32,
}

impl Command for ReportLuns {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "REPORT LUNS";
        let allocation = at_least(name, self.allocation, 16)?;
        let selection = match self.selection {
            LunSelection::Addressable => 0,
            LunSelection::WellKnown => 1,
            LunSelection::All => 2,
        };
        Ok(query(name, Cdb::new(0xA0, 12).put(2, [selection]).put(6, allocation.to_be_bytes()), allocation))
    }
}

/// The form of REPORT TARGET PORT GROUPS parameter data (SPC-4: REPORT TARGET PORT GROUPS command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortGroupsFormat {
    /// 000b: the length, then the descriptors. Every device with ALUA has it.
    LengthOnly,
    /// 001b: with a header that tells the implicit transition time; old devices refuse it with 24h/00h.
    Extended,
}

/// REPORT TARGET PORT GROUPS, opcode A3h, service action 0Ah (SPC-4: REPORT TARGET PORT GROUPS command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportTargetPortGroups {
    /// Which form.
    pub format: PortGroupsFormat,
    /// At most this many bytes.
    pub allocation: u32,
}

impl Command for ReportTargetPortGroups {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "REPORT TARGET PORT GROUPS";
        let allocation = at_least(name, self.allocation, 8)?;
        let format = match self.format {
            PortGroupsFormat::LengthOnly => 0x00,
            PortGroupsFormat::Extended => 0x20,
        };
        Ok(query(name, Cdb::new(0xA3, 12).put(1, [format | 0x0A]).put(6, allocation.to_be_bytes()), allocation))
    }
}

/// What PERSISTENT RESERVE IN is asked (SPC-4: PERSISTENT RESERVE IN command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationQuestion {
    /// 00h READ KEYS: every registered key, once for each nexus.
    ReadKeys,
    /// 01h READ RESERVATION: who holds it and of which type.
    ReadReservation,
    /// 02h REPORT CAPABILITIES: APTPL, ALL_TG_PT, the types.
    ReportCapabilities,
    /// 03h READ FULL STATUS: every registration with its ports; not every device has it.
    ReadFullStatus,
}

/// PERSISTENT RESERVE IN, opcode 5Eh (SPC-4: PERSISTENT RESERVE IN command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersistentReserveIn {
    /// What is asked.
    pub question: ReservationQuestion,
    /// At most this many bytes: 65535 at most. The parsers tell where this was too short.
    pub allocation: u32,
}

impl Command for PersistentReserveIn {
    fn request(&self) -> Result<Request, EncodeError> {
        let (name, action) = match self.question {
            ReservationQuestion::ReadKeys => ("PERSISTENT RESERVE IN (READ KEYS)", 0),
            ReservationQuestion::ReadReservation => ("PERSISTENT RESERVE IN (READ RESERVATION)", 1),
            ReservationQuestion::ReportCapabilities => ("PERSISTENT RESERVE IN (REPORT CAPABILITIES)", 2),
            ReservationQuestion::ReadFullStatus => ("PERSISTENT RESERVE IN (READ FULL STATUS)", 3),
        };
        let allocation = at_least(name, self.allocation, 8)?;
        let mend = "a device with more registrations than that can't be read; remove stale ones";
        let length = at_most(name, "ALLOCATION LENGTH", u64::from(allocation), 0xFFFF, mend)?;
        let cdb = Cdb::new(0x5E, 10).put(1, [action]).put(7, be16(length));
        Ok(Request { timeout: TimeoutClass::Reservation, ..query(name, cdb, allocation) })
    }
}
