//! TransportIDs: which initiator port a registration belongs to (SPC-4: TransportID identifiers).
//!
//! Pure: bytes in, values out, and back. Only for showing to an operator who it is; nothing is decided by it.

use std::fmt;

use crate::bytes::text;
use crate::page::designator::hex;

/// An initiator port, by its transport's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportId {
    /// Protocol 0h: Fibre Channel N_Port name.
    FibreChannel(u64),
    /// Protocol 4h: SRP initiator port identifier.
    Srp(u128),
    /// Protocol 5h: iSCSI name, with `,i,0x...` and the ISID where it names one session.
    Iscsi(String),
    /// Protocol 6h: SAS address. LIO gives its loopback ports so.
    Sas(u64),
    /// Another protocol, or too short for its own.
    Other {
        /// PROTOCOL IDENTIFIER.
        protocol: u8,
        /// As sent.
        bytes: Vec<u8>,
    },
}

/// Reads one TransportID; nothing where there are no bytes at all.
pub fn transport_id(bytes: &[u8]) -> Option<TransportId> {
    let protocol = bytes.first()? & 0x0F;
    let eight = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u64::from_be_bytes);
    let known = match protocol {
        0x0 => eight(8).map(TransportId::FibreChannel),
        0x4 => bytes.get(8..).and_then(|id| id.first_chunk()).copied().map(u128::from_be_bytes).map(TransportId::Srp),
        0x5 => bytes.get(4..).map(text).filter(|name| !name.is_empty()).map(TransportId::Iscsi),
        0x6 => eight(4).map(TransportId::Sas),
        _ => None,
    };
    Some(known.unwrap_or_else(|| TransportId::Other { protocol, bytes: bytes.to_vec() }))
}

/// As a device sends it, padded as the standard asks for: [`transport_id`] reads it back.
pub fn encode_transport_id(id: &TransportId) -> Vec<u8> {
    let mut bytes = vec![0; 24];
    match id {
        TransportId::FibreChannel(name) => bytes[8..16].copy_from_slice(&name.to_be_bytes()),
        TransportId::Srp(id) => {
            bytes[0] = 0x4;
            bytes[8..24].copy_from_slice(&id.to_be_bytes());
        }
        TransportId::Iscsi(name) => {
            // NUL-terminated and padded to a multiple of four. A name has 223 bytes at most, and an ISID makes it 240.
            let shown = &name.as_bytes()[..name.len().min(240)];
            let padded = ((shown.len() + 4) / 4 * 4).max(20);
            let length = u16::try_from(padded).expect("cut to 240 bytes");
            let format = if name.contains(",i,0x") { 0x40 } else { 0x00 };
            bytes = vec![format | 0x5, 0];
            bytes.extend(length.to_be_bytes());
            bytes.extend(shown);
            bytes.resize(4 + padded, 0);
        }
        TransportId::Sas(address) => {
            bytes[0] = 0x6;
            bytes[4..12].copy_from_slice(&address.to_be_bytes());
        }
        TransportId::Other { bytes: as_sent, .. } => bytes.clone_from(as_sent),
    }
    bytes
}

impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FibreChannel(name) => write!(f, "fc {name:016x}"),
            Self::Srp(id) => write!(f, "srp {id:032x}"),
            Self::Iscsi(name) => write!(f, "iscsi {name}"),
            Self::Sas(address) => write!(f, "sas {address:016x}"),
            Self::Other { protocol, bytes } => write!(f, "protocol {protocol:x}h {}", hex(bytes)),
        }
    }
}
