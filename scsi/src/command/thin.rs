//! Commands about what is allocated: UNMAP, WRITE SAME, GET LBA STATUS.
//!
//! Pure: fields in, CDB and parameter list out. Whether unmapped blocks read as zeroes is the device's word (LBPRZ),
//! not this file's; a device may also ignore the unaligned ends of an UNMAP.

use crate::cdb::{
    Cdb, Command, EncodeError, Kind, Request, TimeoutClass, Transfer, at_most, be16, be32, checked_range, flag,
};
use crate::units::{BlockCount, BlockRange, Lba};

/// The list's length is 16 bits: a header of 8 and descriptors of 16 bytes.
const MOST_DESCRIPTORS: u64 = (0xFFFF - 8) / 16;

/// UNMAP, opcode 42h (SBC-3: UNMAP command). The device may unmap these blocks, or leave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmap {
    /// Which blocks: at most 4095 ranges, and no more ranges or blocks than page B0h says.
    pub ranges: Vec<BlockRange>,
    /// ANCHOR: keep the space reserved.
    pub anchor: bool,
}

impl Unmap {
    /// The parameter list (SBC-3: UNMAP parameter list).
    fn list(&self, name: &'static str) -> Result<Vec<u8>, EncodeError> {
        let count = self.ranges.len() as u64;
        if count == 0 {
            return Err(EncodeError::Zero {
                command: name,
                field: "number of block descriptors",
                means: "does nothing",
            });
        }
        at_most(name, "number of block descriptors", count, MOST_DESCRIPTORS, "send several commands")?;
        let descriptors = count * 16;
        let mut list = Vec::with_capacity(self.ranges.len() * 16 + 8);
        list.extend(be16(descriptors + 6));
        list.extend(be16(descriptors));
        list.extend([0; 4]);
        for range in &self.ranges {
            let (lba, blocks) = checked_range(name, *range, u64::MAX, u64::from(u32::MAX))?;
            list.extend(lba.to_be_bytes());
            list.extend(be32(blocks));
            list.extend([0; 4]);
        }
        Ok(list)
    }
}

impl Command for Unmap {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "UNMAP";
        let list = self.list(name)?;
        let cdb = Cdb::new(0x42, 10).put(1, [flag(self.anchor, 0x01)]).put(7, be16(list.len() as u64));
        let transfer = Transfer::Out(list);
        Ok(Request { name, cdb, transfer, timeout: TimeoutClass::Medium, kind: Kind::Overwrite })
    }
}

/// What WRITE SAME(16) writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The one block in the caller's buffer.
    OneBlock,
    /// NDOB: no buffer at all (SBC-4; older devices refuse it with 24h/00h). Zeroes, except where page B2h says
    /// [`crate::page::limits::UnmappedRead::Pattern`]: such a device writes its provisioning initialization pattern.
    NoData,
}

/// WRITE SAME(16), opcode 93h (SBC-3: WRITE SAME (16) command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSame16 {
    /// Where. Page B0h tells the most blocks; zero, "to the end" on some devices, can't be said.
    pub range: BlockRange,
    /// What.
    pub pattern: Pattern,
    /// UNMAP: the device may unmap instead, where what it then reads is the same as the pattern.
    pub unmap: bool,
}

impl Command for WriteSame16 {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "WRITE SAME(16)";
        let (lba, blocks) = checked_range(name, self.range, u64::MAX, u64::from(u32::MAX))?;
        let (ndob, transfer) = match self.pattern {
            Pattern::OneBlock => (0, Transfer::BlocksOut(BlockCount(1))),
            Pattern::NoData => (0x01, Transfer::None),
        };
        let bits = flag(self.unmap, 0x08) | ndob;
        let cdb = Cdb::new(0x93, 16).put(1, [bits]).put(2, lba.to_be_bytes()).put(10, be32(blocks));
        Ok(Request { name, cdb, transfer, timeout: TimeoutClass::Medium, kind: Kind::Overwrite })
    }
}

/// GET LBA STATUS, opcode 9Eh, service action 12h (SBC-3: GET LBA STATUS command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLbaStatus {
    /// The first block that is asked about.
    pub from: Lba,
    /// At most this many bytes: 8 for the header, 16 for each range.
    pub allocation: u32,
}

impl Command for GetLbaStatus {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "GET LBA STATUS";
        if self.allocation < 24 {
            let why = "too short for one descriptor; ask for 24 bytes or more";
            return Err(EncodeError::Unfit { command: name, field: "ALLOCATION LENGTH", why });
        }
        let cdb =
            Cdb::new(0x9E, 16).put(1, [0x12]).put(2, self.from.0.to_be_bytes()).put(10, self.allocation.to_be_bytes());
        let transfer = Transfer::In(self.allocation);
        Ok(Request { name, cdb, transfer, timeout: TimeoutClass::Data, kind: Kind::Query })
    }
}
