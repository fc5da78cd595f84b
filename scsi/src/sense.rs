//! Sense data in fixed and in descriptor format (SPC-4: sense data): what a device says of an error.
//!
//! Pure: bytes in, values out. Devices send any number of bytes; what is missing is `None`, and a field behind the
//! announced end is missing too, because adapters pad the buffer.

pub mod codes;

use std::fmt;

use crate::bytes::{Fields, ParseError, bit};

/// SENSE KEY (SPC-4: sense key descriptions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SenseKey {
    /// 0h.
    NoSense,
    /// 1h: done, after some effort.
    RecoveredError,
    /// 2h.
    NotReady,
    /// 3h.
    MediumError,
    /// 4h.
    HardwareError,
    /// 5h.
    IllegalRequest,
    /// 6h.
    UnitAttention,
    /// 7h.
    DataProtect,
    /// 8h.
    BlankCheck,
    /// 9h.
    VendorSpecific,
    /// Ah: an EXTENDED COPY ended.
    CopyAborted,
    /// Bh.
    AbortedCommand,
    /// Ch: reserved.
    Reserved,
    /// Dh.
    VolumeOverflow,
    /// Eh.
    Miscompare,
    /// Fh: done, and there is something to say.
    Completed,
}

impl SenseKey {
    /// The key in the lower four bits of a byte.
    pub fn from_code(code: u8) -> Self {
        match code & 0x0F {
            0x0 => Self::NoSense,
            0x1 => Self::RecoveredError,
            0x2 => Self::NotReady,
            0x3 => Self::MediumError,
            0x4 => Self::HardwareError,
            0x5 => Self::IllegalRequest,
            0x6 => Self::UnitAttention,
            0x7 => Self::DataProtect,
            0x8 => Self::BlankCheck,
            0x9 => Self::VendorSpecific,
            0xA => Self::CopyAborted,
            0xB => Self::AbortedCommand,
            0xC => Self::Reserved,
            0xD => Self::VolumeOverflow,
            0xE => Self::Miscompare,
            _ => Self::Completed,
        }
    }

    /// The standard's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSense => "NO SENSE",
            Self::RecoveredError => "RECOVERED ERROR",
            Self::NotReady => "NOT READY",
            Self::MediumError => "MEDIUM ERROR",
            Self::HardwareError => "HARDWARE ERROR",
            Self::IllegalRequest => "ILLEGAL REQUEST",
            Self::UnitAttention => "UNIT ATTENTION",
            Self::DataProtect => "DATA PROTECT",
            Self::BlankCheck => "BLANK CHECK",
            Self::VendorSpecific => "VENDOR SPECIFIC",
            Self::CopyAborted => "COPY ABORTED",
            Self::AbortedCommand => "ABORTED COMMAND",
            Self::Reserved => "RESERVED",
            Self::VolumeOverflow => "VOLUME OVERFLOW",
            Self::Miscompare => "MISCOMPARE",
            Self::Completed => "COMPLETED",
        }
    }
}

/// ADDITIONAL SENSE CODE and its qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// ASC.
    pub asc: u8,
    /// ASCQ.
    pub ascq: u8,
}

/// `29h/00h (power on, reset, or bus device reset occurred)`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}h/{:02X}h", self.asc, self.ascq)?;
        codes::name(*self).map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// Sense key specific data (SPC-4: sense key specific sense data), whose meaning follows from the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specific {
    /// ILLEGAL REQUEST: the byte that the device did not like.
    Field {
        /// C/D: in the CDB; else in the parameter list.
        in_cdb: bool,
        /// Which byte, counted from zero.
        byte: u16,
        /// Its leftmost bit of the field, where the device says.
        bit: Option<u8>,
    },
    /// NOT READY and NO SENSE: how far it is, in parts of 65536.
    Progress(u16),
    /// RECOVERED, MEDIUM and HARDWARE ERROR: how often the device tried.
    Retries(u16),
    /// COPY ABORTED: where in the segment descriptor, or in the parameter list.
    Segment {
        /// SD: counted from the segment descriptor's start; else from the parameter list's.
        in_descriptor: bool,
        /// Which byte.
        byte: u16,
        /// Its leftmost bit of the field, where the device says.
        bit: Option<u8>,
    },
    /// UNIT ATTENTION: the device had more of them than it could keep.
    Overflow(bool),
}

/// What a device says of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Response codes 71h and 73h: of an earlier command, whose GOOD was wrong. This one was not begun.
    pub deferred: bool,
    /// The key.
    pub key: SenseKey,
    /// ASC and ASCQ; nothing where the device sent too little for them.
    pub code: Option<Code>,
    /// INFORMATION: an LBA, or an offset. Only where the device says that it is valid.
    pub information: Option<u64>,
    /// COMMAND-SPECIFIC INFORMATION; zero stands for nothing in fixed format.
    pub command_specific: Option<u64>,
    /// Sense key specific data, where it is valid and the key gives it a meaning.
    pub specific: Option<Specific>,
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.deferred { "deferred " } else { "" })?;
        f.write_str(self.key.name())?;
        self.code.map_or(Ok(()), |code| write!(f, ", {code}"))
    }
}

/// Reads sense data: exactly the bytes that the device wrote.
///
/// # Errors
/// Where there is no sense key, or the response code is none of 70h to 73h.
pub fn sense(bytes: &[u8]) -> Result<Sense, ParseError> {
    let fields = Fields::new("sense data", bytes);
    let code = fields.u8(0, "RESPONSE CODE")? & 0x7F;
    match code {
        0x70 | 0x71 => fixed(fields, code == 0x71),
        0x72 | 0x73 => descriptor(fields, code == 0x73),
        other => {
            let expected = "70h to 73h; what the adapter gave is no sense data";
            let (what, value) = (fields.what, u64::from(other));
            Err(ParseError::Wrong { what, field: "RESPONSE CODE", value, expected })
        }
    }
}

/// Cut at the announced end, `8 + ADDITIONAL SENSE LENGTH`, where that came.
fn announced(fields: Fields<'_>) -> Fields<'_> {
    let end = fields.get(7).map_or(usize::MAX, |[length]: [u8; 1]| usize::from(length) + 8);
    Fields::new(fields.what, fields.bytes.get(..end).unwrap_or(fields.bytes))
}

/// Fixed format (SPC-4: fixed format sense data).
fn fixed(fields: Fields<'_>, deferred: bool) -> Result<Sense, ParseError> {
    let fields = announced(fields);
    let key = SenseKey::from_code(fields.u8(2, "SENSE KEY")?);
    let valid = bit(fields.u8(0, "VALID")?, 7);
    let u32_at = |at| fields.get(at).map(|field| u64::from(u32::from_be_bytes(field)));
    Ok(Sense {
        deferred,
        key,
        code: fields.get(12).map(|[asc, ascq]: [u8; 2]| Code { asc, ascq }),
        information: u32_at(3).filter(|_| valid),
        command_specific: u32_at(8).filter(|value| *value != 0),
        specific: fields.get(15).and_then(|bytes| specific(key, bytes)),
    })
}

/// Descriptor format (SPC-4: descriptor format sense data): each descriptor has its type, its length, and fields of its
/// own.
fn descriptor(fields: Fields<'_>, deferred: bool) -> Result<Sense, ParseError> {
    let fields = announced(fields);
    let key = SenseKey::from_code(fields.u8(1, "SENSE KEY")?);
    let code = fields.get(2).map(|[asc, ascq]: [u8; 2]| Code { asc, ascq });
    let mut sense = Sense { deferred, key, code, information: None, command_specific: None, specific: None };
    let mut rest = fields.bytes.get(8..).unwrap_or_default();
    while let Some((kind, body, behind)) = next(rest) {
        let body = Fields::new("sense data descriptor", body);
        let u64_at = |at| body.get(at).map(u64::from_be_bytes);
        match kind {
            // Information: VALID in byte 2, the value from byte 4 on; `body` begins at byte 2.
            0x00 => {
                let valid = body.get(0).is_some_and(|[byte]: [u8; 1]| bit(byte, 7));
                sense.information = sense.information.or(u64_at(2).filter(|_| valid));
            }
            0x01 => sense.command_specific = sense.command_specific.or(u64_at(2)),
            0x02 => sense.specific = sense.specific.or(body.get(2).and_then(|bytes| specific(key, bytes))),
            // Another progress indication.
            0x0A => {
                let progress = body.get(4).map(|field| Specific::Progress(u16::from_be_bytes(field)));
                sense.specific = sense.specific.or(progress);
            }
            _ => {}
        }
        rest = behind;
    }
    Ok(sense)
}

/// Type and body of the first descriptor, and what stands behind it; nothing where no whole one is left.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [kind, length] = *bytes.first_chunk()?;
    let (body, rest) = bytes.get(2..)?.split_at_checked(usize::from(length))?;
    Some((kind, body, rest))
}

/// Sense key specific data, where SKSV says that it is valid.
fn specific(key: SenseKey, [flags, high, low]: [u8; 3]) -> Option<Specific> {
    if !bit(flags, 7) {
        return None;
    }
    let value = u16::from_be_bytes([high, low]);
    let pointer = bit(flags, 3).then_some(flags & 0b111);
    match key {
        SenseKey::IllegalRequest => Some(Specific::Field { in_cdb: bit(flags, 6), byte: value, bit: pointer }),
        SenseKey::NoSense | SenseKey::NotReady => Some(Specific::Progress(value)),
        SenseKey::RecoveredError | SenseKey::MediumError | SenseKey::HardwareError => Some(Specific::Retries(value)),
        SenseKey::CopyAborted => Some(Specific::Segment { in_descriptor: bit(flags, 5), byte: value, bit: pointer }),
        SenseKey::UnitAttention => Some(Specific::Overflow(bit(flags, 0))),
        SenseKey::DataProtect
        | SenseKey::BlankCheck
        | SenseKey::VendorSpecific
        | SenseKey::AbortedCommand
        | SenseKey::Reserved
        | SenseKey::VolumeOverflow
        | SenseKey::Miscompare
        | SenseKey::Completed => None,
    }
}
