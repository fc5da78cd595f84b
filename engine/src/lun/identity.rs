//! What names a LUN for good, on whatever path and under whatever device name it is seen.
//!
//! Pure: discovery is in `probe`.

use std::fmt;

use serde::Serialize;

/// Where an identity comes from, strongest first. The numbers are part of the on-disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum IdentityKind {
    /// VPD page 83h, NAA designator (SPC-4, 7.8.6.6): `naa.6001405...`.
    Naa = 1,
    /// VPD page 83h, EUI-64 designator, or an NVMe namespace's EUI-64 or NGUID: `eui.0025...`.
    Eui = 2,
    /// An NVMe namespace's UUID: `uuid....`.
    NvmeUuid = 3,
    /// VPD page 83h, T10 vendor designator (`t10....`), an NVMe controller's serial number (`nvme....`), or the serial
    /// number that a virtio-blk device has from its host (`serial....`).
    Serial = 4,
    /// A device-mapper device's UUID.
    DmUuid = 5,
    /// A regular file, or the file behind a loop device: `PATH inode N`, with `offset N` where a loop device has one.
    File = 6,
    /// Only a kernel name, with what keeps a later bearer of that name apart: `NAME boot ID diskseq N`. It names the device
    /// until its medium changes or the next boot, and no longer.
    KernelName = 7,
}

/// The identity of one LUN. Two equal identities are one LUN; different ones of kind [`IdentityKind::File`] or weaker may
/// still be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Identity {
    /// Where it comes from.
    pub kind: IdentityKind,
    /// The name itself.
    pub text: String,
}

impl Identity {
    /// An identity of `kind` that reads `text`.
    pub fn new(kind: IdentityKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
