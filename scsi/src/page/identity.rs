//! The one name by which a LUN is known, chosen among all that its device gives.
//!
//! Pure: values in, values out. The order is by how far a name is unique: NAA 6, then NAA 5, 2 and 3, then EUI-64, then
//! a SCSI name, then T10 vendor identification, then the serial number with vendor and product before it. Only names of
//! the logical unit count: a port's or a device's is the same for all its LUNs.

use std::fmt;

use crate::bytes::Completeness;
use crate::page::designator::{Association, CodeSet, Designator, DesignatorKind, Designators};
use crate::page::inquiry::StandardInquiry;

/// How a LUN is named, the best kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityKind {
    /// NAA 6h, IEEE registered extended: 16 bytes.
    Naa6,
    /// NAA 5h, IEEE registered: 8 bytes.
    Naa5,
    /// NAA 2h, IEEE extended: 8 bytes.
    Naa2,
    /// NAA 3h, locally assigned: 8 bytes, unique only where somebody takes care that it is.
    Naa3,
    /// EUI-64 in one of its three lengths.
    Eui64,
    /// SCSI name string.
    ScsiName,
    /// T10 vendor identification: unique only as far as the vendor makes it.
    T10,
    /// Vendor, product and serial number.
    Serial,
}

/// A LUN's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// What kind of name.
    pub kind: IdentityKind,
    /// The name: hexadecimal, or the text that the device gives.
    pub name: String,
}

/// As udev and multipath write it where they do: `naa.6001405...`, `eui....`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            IdentityKind::Naa6 | IdentityKind::Naa5 | IdentityKind::Naa2 | IdentityKind::Naa3 => {
                write!(f, "naa.{}", self.name)
            }
            IdentityKind::Eui64 => write!(f, "eui.{}", self.name),
            IdentityKind::ScsiName => f.write_str(&self.name),
            IdentityKind::T10 => write!(f, "t10.{}", self.name),
            IdentityKind::Serial => write!(f, "serial.{}", self.name),
        }
    }
}

/// What kind of identity a designator is; nothing where it names no logical unit, or has the wrong length, or is all
/// zero.
fn rank(designator: &Designator) -> Option<IdentityKind> {
    if designator.association != Association::LogicalUnit || designator.bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let binary = designator.code_set == CodeSet::Binary;
    match designator.kind {
        DesignatorKind::Naa => match designator.naa()? {
            6 => Some(IdentityKind::Naa6),
            5 => Some(IdentityKind::Naa5),
            2 => Some(IdentityKind::Naa2),
            3 => Some(IdentityKind::Naa3),
            _ => None,
        },
        DesignatorKind::Eui64 if binary && matches!(designator.bytes.len(), 8 | 12 | 16) => Some(IdentityKind::Eui64),
        DesignatorKind::ScsiName if !binary && !designator.shown().is_empty() => Some(IdentityKind::ScsiName),
        // Eight bytes are the vendor alone, the same for everything that it ever made.
        DesignatorKind::T10Vendor if designator.bytes.len() > 8 => Some(IdentityKind::T10),
        DesignatorKind::Eui64
        | DesignatorKind::ScsiName
        | DesignatorKind::T10Vendor
        | DesignatorKind::VendorSpecific
        | DesignatorKind::RelativePort
        | DesignatorKind::PortGroup
        | DesignatorKind::LunGroup
        | DesignatorKind::Md5
        | DesignatorKind::ProtocolPort
        | DesignatorKind::Other(_) => None,
    }
}

/// The best designator of a logical unit, of several equally good ones the first; nothing from a list that is not
/// whole.
pub fn best_designator(all: &Designators) -> Option<(IdentityKind, &Designator)> {
    match all.completeness {
        Completeness::Whole => {
            let ranked = all.list.iter().filter_map(|designator| Some((rank(designator)?, designator)));
            ranked.min_by_key(|(kind, _)| *kind)
        }
        Completeness::Cut { .. } | Completeness::Ragged { .. } => None,
    }
}

/// The best name of a LUN. `serial` is page 80h's, used with the vendor and product of the INQUIRY data where page 83h
/// names nothing; without both of these a serial number is no identity.
pub fn choose(all: Option<&Designators>, serial: Option<&str>, inquiry: &StandardInquiry) -> Option<Identity> {
    let designated = all.and_then(best_designator);
    if let Some((kind, designator)) = designated {
        return Some(Identity { kind, name: designator.shown() });
    }
    let cut = all.is_some_and(|all| !all.completeness.is_whole());
    let (vendor, product) = (inquiry.vendor.as_deref()?, inquiry.product.as_deref()?);
    let serial = serial.filter(|serial| !serial.is_empty() && !cut)?;
    Some(Identity { kind: IdentityKind::Serial, name: format!("{vendor}.{product}.{serial}") })
}
