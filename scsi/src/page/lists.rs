//! Lists that devices send: GET LBA STATUS (SBC-3: GET LBA STATUS parameter data) and REPORT LUNS (SPC-4: REPORT LUNS
//! command) parameter data.
//!
//! Pure: bytes in, values out.

use std::fmt;

use crate::bytes::{Completeness, Fields, ParseError, entries};
use crate::units::{BlockRange, Lba};

/// PROVISIONING STATUS of a range (SBC-3: PROVISIONING STATUS field; 3 and 4 are SBC-4's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LbaState {
    /// 0: mapped, or the device does not know.
    MappedOrUnknown,
    /// 1: deallocated. Reads as zeroes only where LBPRZ says so.
    Deallocated,
    /// 2: anchored.
    Anchored,
    /// 3: mapped.
    Mapped,
    /// 4: the device does not know.
    Unknown,
    /// Reserved: to be treated as mapped.
    Other(u8),
}

impl LbaState {
    /// Whether the device says for certain that no data is there.
    pub fn is_unmapped(self) -> bool {
        match self {
            Self::Deallocated | Self::Anchored => true,
            Self::MappedOrUnknown | Self::Mapped | Self::Unknown | Self::Other(_) => false,
        }
    }
}

/// Ranges with their state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbaStatus {
    /// In ascending order without gaps, beginning at the block asked about: what does not is refused.
    pub ranges: Vec<(BlockRange, LbaState)>,
    /// Whether all descriptors came that were announced. More of the LUN may follow in any case.
    pub completeness: Completeness,
}

/// Reads GET LBA STATUS parameter data of a command that asked about `from`.
///
/// The first descriptor's LBA may lie before `from` where a device rounds down to its granularity; its range is then
/// cut to begin there. Copying skips what is deallocated, so a descriptor that does not follow on the one before, or is
/// empty, makes the whole answer worthless.
///
/// # Errors
/// Where it ends in its header, or its ranges are out of order, empty or endless.
pub fn lba_status(bytes: &[u8], from: Lba) -> Result<LbaStatus, ParseError> {
    let what = "GET LBA STATUS parameter data";
    let fields = Fields::new(what, bytes);
    let length = fields.u32(0, "PARAMETER DATA LENGTH")?;
    // The length counts from byte 4 on, so the four reserved bytes are in it.
    let (body, completeness) = fields.body(8, u64::from(length).saturating_sub(4));
    let (entries, completeness) = entries::<16>(body, completeness);
    let mut ranges = Vec::with_capacity(entries.len());
    let mut at = from;
    for entry in entries {
        let descriptor = Fields::new(what, entry);
        let lba = descriptor.u64(0, "LBA STATUS LOGICAL BLOCK ADDRESS")?;
        let count = u64::from(descriptor.u32(8, "NUMBER OF LOGICAL BLOCKS")?);
        let expected = "ranges follow on each other from the block asked about, and none is empty";
        let wrong = ParseError::Wrong { what, field: "LBA STATUS LOGICAL BLOCK ADDRESS", value: lba, expected };
        let end = lba.checked_add(count).filter(|end| *end > at.0);
        let follows = lba == at.0 || (ranges.is_empty() && lba < at.0);
        let end = end.filter(|_| follows).ok_or(wrong)?;
        ranges.push((BlockRange::new(at.0, end - at.0), state(entry[12] & 0x0F)));
        at = Lba(end);
    }
    Ok(LbaStatus { ranges, completeness })
}

fn state(code: u8) -> LbaState {
    match code {
        0 => LbaState::MappedOrUnknown,
        1 => LbaState::Deallocated,
        2 => LbaState::Anchored,
        3 => LbaState::Mapped,
        4 => LbaState::Unknown,
        other => LbaState::Other(other),
    }
}

/// A logical unit number, all eight bytes (SAM-5: logical unit number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lun(pub [u8; 8]);

impl Lun {
    /// The number in the first level where that is all there is: peripheral addressing on bus 0 (up to 255) or flat
    /// space addressing (up to 16383).
    pub fn number(self) -> Option<u16> {
        let [high, low, rest @ ..] = self.0;
        let value = u16::from_be_bytes([high & 0x3F, low]);
        let single = rest == [0; 6];
        match high >> 6 {
            0b00 if single && high == 0 => Some(value),
            0b01 if single => Some(value),
            _ => None,
        }
    }
}

/// The number, or all eight bytes where it is no simple one.
impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => number.fmt(f),
            None => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

/// The logical units of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LunList {
    /// As the device lists them.
    pub luns: Vec<Lun>,
    /// Whether that is all of them.
    pub completeness: Completeness,
}

/// Reads REPORT LUNS parameter data.
///
/// # Errors
/// Where it ends in its header.
pub fn report_luns(bytes: &[u8]) -> Result<LunList, ParseError> {
    let fields = Fields::new("REPORT LUNS parameter data", bytes);
    let length = fields.u32(0, "LUN LIST LENGTH")?;
    let (body, completeness) = fields.body(8, u64::from(length));
    let (entries, completeness) = entries::<8>(body, completeness);
    Ok(LunList { luns: entries.iter().copied().map(Lun).collect(), completeness })
}
