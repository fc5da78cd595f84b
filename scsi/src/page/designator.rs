//! Device identification, VPD page 83h (SPC-4: Device Identification VPD page): every designator that a device gives.
//!
//! Pure: bytes in, values out.

use std::fmt::Write;

use crate::bytes::{Completeness, Fields, ParseError, bit, ragged, text};
use crate::page::inquiry::vpd;

/// How a designator's bytes are to be read (SPC-4: CODE SET field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeSet {
    /// 1h.
    Binary,
    /// 2h: ASCII.
    Ascii,
    /// 3h.
    Utf8,
    /// Reserved.
    Other(u8),
}

impl CodeSet {
    /// The code, four bits.
    pub fn code(self) -> u8 {
        match self {
            Self::Binary => 1,
            Self::Ascii => 2,
            Self::Utf8 => 3,
            Self::Other(code) => code & 0x0F,
        }
    }

    fn from_code(code: u8) -> Self {
        match code & 0x0F {
            1 => Self::Binary,
            2 => Self::Ascii,
            3 => Self::Utf8,
            other => Self::Other(other),
        }
    }
}

/// What a designator names (SPC-4: ASSOCIATION field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Association {
    /// 00b: the logical unit.
    LogicalUnit,
    /// 01b: the target port that answered.
    TargetPort,
    /// 10b: the target device.
    TargetDevice,
    /// 11b: reserved.
    Reserved,
}

impl Association {
    /// The code, two bits.
    pub fn code(self) -> u8 {
        match self {
            Self::LogicalUnit => 0,
            Self::TargetPort => 1,
            Self::TargetDevice => 2,
            Self::Reserved => 3,
        }
    }

    fn from_code(code: u8) -> Self {
        match code & 0b11 {
            0 => Self::LogicalUnit,
            1 => Self::TargetPort,
            2 => Self::TargetDevice,
            _ => Self::Reserved,
        }
    }
}

/// The kind of a designator (SPC-4: DESIGNATOR TYPE field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DesignatorKind {
    /// 0h.
    VendorSpecific,
    /// 1h: T10 vendor identification and what the vendor adds.
    T10Vendor,
    /// 2h: IEEE EUI-64, 8, 12 or 16 bytes.
    Eui64,
    /// 3h: network address authority.
    Naa,
    /// 4h: relative target port identifier.
    RelativePort,
    /// 5h: target port group.
    PortGroup,
    /// 6h: logical unit group.
    LunGroup,
    /// 7h: MD5 of what the host can see.
    Md5,
    /// 8h: SCSI name string: `naa.`, `eui.` or `iqn.`.
    ScsiName,
    /// 9h: protocol specific port identifier.
    ProtocolPort,
    /// Ah (UUID, SPC-5) and the reserved ones.
    Other(u8),
}

impl DesignatorKind {
    /// The code, four bits.
    pub fn code(self) -> u8 {
        match self {
            Self::VendorSpecific => 0,
            Self::T10Vendor => 1,
            Self::Eui64 => 2,
            Self::Naa => 3,
            Self::RelativePort => 4,
            Self::PortGroup => 5,
            Self::LunGroup => 6,
            Self::Md5 => 7,
            Self::ScsiName => 8,
            Self::ProtocolPort => 9,
            Self::Other(code) => code & 0x0F,
        }
    }

    fn from_code(code: u8) -> Self {
        match code & 0x0F {
            0 => Self::VendorSpecific,
            1 => Self::T10Vendor,
            2 => Self::Eui64,
            3 => Self::Naa,
            4 => Self::RelativePort,
            5 => Self::PortGroup,
            6 => Self::LunGroup,
            7 => Self::Md5,
            8 => Self::ScsiName,
            9 => Self::ProtocolPort,
            other => Self::Other(other),
        }
    }
}

/// One designation descriptor (SPC-4: designation descriptors).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Designator {
    /// What it names.
    pub association: Association,
    /// What kind of name it is.
    pub kind: DesignatorKind,
    /// How its bytes are to be read.
    pub code_set: CodeSet,
    /// PROTOCOL IDENTIFIER, where PIV says that it means something: 0 FC, 4 SRP, 5 iSCSI, 6 SAS.
    pub protocol: Option<u8>,
    /// The name itself, at most 255 bytes.
    pub bytes: Vec<u8>,
}

impl Designator {
    /// Whether both name the same thing: same association, kind and bytes.
    pub fn names_same_as(&self, other: &Self) -> bool {
        (self.association, self.kind) == (other.association, other.kind) && self.bytes == other.bytes
    }

    /// The NAA field of an NAA designator whose length is the one that its format has (SPC-4: NAA designator format):
    /// 2, 3, 5 with eight bytes, 6 with sixteen.
    pub fn naa(&self) -> Option<u8> {
        let naa = self.bytes.first()? >> 4;
        let length = match naa {
            2 | 3 | 5 => 8,
            6 => 16,
            _ => return None,
        };
        let fits = self.kind == DesignatorKind::Naa && self.code_set == CodeSet::Binary && self.bytes.len() == length;
        fits.then_some(naa)
    }

    /// The bytes as an operator knows them: hexadecimal where they are binary, else text.
    pub fn shown(&self) -> String {
        match self.code_set {
            CodeSet::Binary | CodeSet::Other(_) => hex(&self.bytes),
            CodeSet::Ascii => text(&self.bytes),
            CodeSet::Utf8 => {
                let name = String::from_utf8_lossy(&self.bytes);
                name.trim_end_matches('\0').chars().map(|c| if c.is_control() { '?' } else { c }).collect()
            }
        }
    }
}

/// Lower-case hexadecimal, two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// Every designator of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Designators {
    /// As the device lists them.
    pub list: Vec<Designator>,
    /// Whether that is all of them. From a list that was cut no identity is chosen: a better one may be missing.
    pub completeness: Completeness,
}

/// Reads VPD page 83h.
///
/// # Errors
/// Where it is another page or ends in its header.
pub fn designators(bytes: &[u8]) -> Result<Designators, ParseError> {
    let (_, mut rest, completeness) = vpd("VPD page 83h", 0x83, bytes)?;
    let mut list = Vec::new();
    while let Some((designator, behind)) = next(rest) {
        list.push(designator);
        rest = behind;
    }
    Ok(Designators { list, completeness: ragged(rest.len(), completeness) })
}

/// The first descriptor and what stands behind it; nothing where no whole one is left.
fn next(bytes: &[u8]) -> Option<(Designator, &[u8])> {
    let [first, second, _, length] = Fields::new("designation descriptor", bytes).get(0)?;
    let (name, rest) = bytes.get(4..)?.split_at_checked(usize::from(length))?;
    let designator = Designator {
        association: Association::from_code(second >> 4),
        kind: DesignatorKind::from_code(second),
        code_set: CodeSet::from_code(first),
        protocol: bit(second, 7).then_some(first >> 4),
        bytes: name.to_vec(),
    };
    Some((designator, rest))
}
