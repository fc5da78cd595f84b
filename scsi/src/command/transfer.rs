//! Commands that move, check or settle blocks: READ, WRITE, VERIFY, COMPARE AND WRITE, SYNCHRONIZE CACHE.
//!
//! Pure: fields in, CDB out. The blocks themselves stay in the caller's buffer. Protection information is never asked
//! for (RDPROTECT, WRPROTECT and VRPROTECT are zero).

use crate::cdb::{Cdb, Command, EncodeError, Kind, Request, TimeoutClass, Transfer, be16, be32, checked_range, flag};
use crate::units::{BlockCount, BlockRange};

const U32: u64 = u32::MAX as u64;
const U16: u64 = u16::MAX as u64;

/// How a transfer treats the device's cache (SBC-3: caches).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caching {
    /// FUA: force unit access. A write is durable when it returns; it says nothing of other writes.
    pub fua: bool,
    /// DPO: disable page out, "will not be read again soon".
    pub dpo: bool,
}

impl Caching {
    /// Byte 1 of READ, WRITE and COMPARE AND WRITE; VERIFY has DPO alone.
    fn bits(self) -> u8 {
        flag(self.dpo, 0x10) | flag(self.fua, 0x08)
    }
}

/// A CDB of 10 bytes with a range: LBA at 2, count at 7.
fn ten(name: &'static str, operation: u8, range: BlockRange, bits: u8) -> Result<Cdb, EncodeError> {
    let (lba, blocks) = checked_range(name, range, U32, U16)?;
    Ok(Cdb::new(operation, 10).put(1, [bits]).put(2, be32(lba)).put(7, be16(blocks)))
}

/// A CDB of 16 bytes with a range: LBA at 2, count at 10.
fn sixteen(name: &'static str, operation: u8, range: BlockRange, bits: u8) -> Result<Cdb, EncodeError> {
    let (lba, blocks) = checked_range(name, range, u64::MAX, U32)?;
    Ok(Cdb::new(operation, 16).put(1, [bits]).put(2, lba.to_be_bytes()).put(10, be32(blocks)))
}

fn data(name: &'static str, cdb: Cdb, transfer: Transfer, kind: Kind) -> Request {
    Request { name, cdb, transfer, timeout: TimeoutClass::Data, kind }
}

/// READ(10), opcode 28h (SBC-3: READ (10) command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read10 {
    /// What to read.
    pub range: BlockRange,
    /// FUA and DPO.
    pub caching: Caching,
}

impl Command for Read10 {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "READ(10)";
        let cdb = ten(name, 0x28, self.range, self.caching.bits())?;
        Ok(data(name, cdb, Transfer::BlocksIn(self.range.blocks), Kind::Query))
    }
}

/// READ(16), opcode 88h (SBC-3: READ (16) command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read16 {
    /// What to read.
    pub range: BlockRange,
    /// FUA and DPO.
    pub caching: Caching,
}

impl Command for Read16 {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "READ(16)";
        let cdb = sixteen(name, 0x88, self.range, self.caching.bits())?;
        Ok(data(name, cdb, Transfer::BlocksIn(self.range.blocks), Kind::Query))
    }
}

/// WRITE(10), opcode 2Ah (SBC-3: WRITE (10) command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write10 {
    /// Where to write.
    pub range: BlockRange,
    /// FUA and DPO.
    pub caching: Caching,
}

impl Command for Write10 {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "WRITE(10)";
        let cdb = ten(name, 0x2A, self.range, self.caching.bits())?;
        Ok(data(name, cdb, Transfer::BlocksOut(self.range.blocks), Kind::Overwrite))
    }
}

/// WRITE(16), opcode 8Ah (SBC-3: WRITE (16) command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write16 {
    /// Where to write.
    pub range: BlockRange,
    /// FUA and DPO.
    pub caching: Caching,
}

impl Command for Write16 {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "WRITE(16)";
        let cdb = sixteen(name, 0x8A, self.range, self.caching.bits())?;
        Ok(data(name, cdb, Transfer::BlocksOut(self.range.blocks), Kind::Overwrite))
    }
}

/// What VERIFY compares with (SBC-3: VERIFY (10) command, BYTCHK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteCheck {
    /// 00b: the medium alone; no data is sent.
    MediumOnly,
    /// 01b: every block with the block that is sent for it.
    EachBlock,
    /// 11b: every block with the one block that is sent.
    OneBlock,
}

/// VERIFY(16), opcode 8Fh (SBC-3: VERIFY (16) command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verify16 {
    /// What to verify.
    pub range: BlockRange,
    /// With what.
    pub check: ByteCheck,
    /// DPO: disable page out.
    pub dpo: bool,
}

impl Command for Verify16 {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "VERIFY(16)";
        let (check, transfer) = match self.check {
            ByteCheck::MediumOnly => (0b00, Transfer::None),
            ByteCheck::EachBlock => (0b01, Transfer::BlocksOut(self.range.blocks)),
            ByteCheck::OneBlock => (0b11, Transfer::BlocksOut(BlockCount(1))),
        };
        let cdb = sixteen(name, 0x8F, self.range, flag(self.dpo, 0x10) | check << 1)?;
        Ok(Request { timeout: TimeoutClass::Medium, ..data(name, cdb, transfer, Kind::Query) })
    }
}

/// COMPARE AND WRITE, opcode 89h (SBC-3: COMPARE AND WRITE command): writes the second half of the data where the
/// medium holds the first half, as one atomic step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompareAndWrite {
    /// The blocks: at most 255, and at most what page B0h says. Twice as many are sent.
    pub range: BlockRange,
    /// FUA and DPO.
    pub caching: Caching,
}

impl Command for CompareAndWrite {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "COMPARE AND WRITE";
        let (lba, blocks) = checked_range(name, self.range, u64::MAX, u64::from(u8::MAX))?;
        let count = u8::try_from(blocks).expect("checked against its field's size");
        let cdb = Cdb::new(0x89, 16).put(1, [self.caching.bits()]).put(2, lba.to_be_bytes()).put(13, [count]);
        Ok(data(name, cdb, Transfer::BlocksOut(BlockCount(blocks * 2)), Kind::Conditional))
    }
}

/// What a flush covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushRange {
    /// The whole logical unit: LBA 0, number of blocks 0.
    Everything,
    /// These blocks at least.
    Blocks(BlockRange),
}

impl FlushRange {
    fn fields(self, name: &'static str, max_lba: u64, max_blocks: u64) -> Result<(u64, u64), EncodeError> {
        match self {
            Self::Everything => Ok((0, 0)),
            Self::Blocks(range) => checked_range(name, range, max_lba, max_blocks),
        }
    }
}

fn flush(name: &'static str, cdb: Cdb) -> Request {
    Request { name, cdb, transfer: Transfer::None, timeout: TimeoutClass::Medium, kind: Kind::Flush }
}

/// SYNCHRONIZE CACHE(10), opcode 35h (SBC-3: SYNCHRONIZE CACHE (10) command). IMMED can't be set: the answer must mean
/// "durable" (design S7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynchronizeCache10 {
    /// What must be durable.
    pub range: FlushRange,
}

impl Command for SynchronizeCache10 {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "SYNCHRONIZE CACHE(10)";
        let (lba, blocks) = self.range.fields(name, U32, U16)?;
        Ok(flush(name, Cdb::new(0x35, 10).put(2, be32(lba)).put(7, be16(blocks))))
    }
}

/// SYNCHRONIZE CACHE(16), opcode 91h (SBC-3: SYNCHRONIZE CACHE (16) command). IMMED can't be set, as in the 10-byte
/// form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynchronizeCache16 {
    /// What must be durable.
    pub range: FlushRange,
}

impl Command for SynchronizeCache16 {
    fn request(&self) -> Result<Request, EncodeError> {
        let name = "SYNCHRONIZE CACHE(16)";
        let (lba, blocks) = self.range.fields(name, u64::MAX, U32)?;
        Ok(flush(name, Cdb::new(0x91, 16).put(2, lba.to_be_bytes()).put(10, be32(blocks))))
    }
}
