//! Newtypes for the numbers that SCSI commands and pages carry.
//!
//! Pure: values in, values out. Nothing here is checked against a device; a command checks that a value fits its field.

use std::fmt;

/// A logical block address, in the logical blocks of one LUN (SBC-3: logical blocks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

/// A number of logical blocks of one LUN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockCount(pub u64);

/// The size of one logical block, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize(pub u32);

/// PRGENERATION: rises with each change of the registrations (SPC-4: READ KEYS service action). It wraps and starts
/// again at a reset, so it tells that something changed and orders nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub u32);

/// The list identifier of an EXTENDED COPY, unique for one I_T nexus while that copy is known (SPC-4: EXTENDED COPY
/// parameter list).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListId(pub u8);

/// A relative target port identifier (SPC-4: definitions); 1 is port A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePort(pub u16);

/// A target port group (SPC-4: asymmetric logical unit access).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortGroup(pub u16);

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BlockCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The blocks from `lba` on, `blocks` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRange {
    /// The first block.
    pub lba: Lba,
    /// How many.
    pub blocks: BlockCount,
}

impl BlockRange {
    /// The range of `blocks` blocks from `lba` on.
    pub const fn new(lba: u64, blocks: u64) -> Self {
        Self { lba: Lba(lba), blocks: BlockCount(blocks) }
    }

    /// The block behind the last one, or nothing where that number does not exist.
    pub fn end(self) -> Option<Lba> {
        self.lba.0.checked_add(self.blocks.0).map(Lba)
    }
}
