//! Third-party copy with short list identifiers: EXTENDED COPY(LID1) and RECEIVE COPY RESULTS.
//!
//! Pure: fields in, CDB and parameter list out. Between logical units that are named by a designator of their page 83h
//! (CSCD descriptor E4h) and in segments from block device to block device (02h), both with the same block size. Two
//! LUNs with equal designators are refused here, always: LIO can give two LUNs the same one, and copies the wrong data
//! without an error (design 10, measured).

use crate::cdb::{
    Cdb, Command, EncodeError, Kind, Request, TimeoutClass, Transfer, at_most, be16, be32, checked_range,
};
use crate::page::designator::{CodeSet, Designator};
use crate::units::{BlockRange, BlockSize, Lba, ListId};

const EXTENDED_COPY: &str = "EXTENDED COPY(LID1)";

/// How long the copy manager keeps what it knows of a copy (SPC-4: EXTENDED COPY parameter list, LIST ID USAGE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListIdUsage {
    /// 00b: it keeps the results until they are read.
    Hold,
    /// 10b: it may forget them when the command is done.
    Discard,
    /// 11b: the copy has no list identifier and can't be asked after (NRCR in older texts).
    Unnamed,
}

/// Where a copy reads or writes: one logical unit by its designator (SPC-4: identification descriptor CSCD descriptor,
/// E4h, 32 bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlace {
    /// Its designator, as its own page 83h gives it, of at most 20 bytes.
    pub designator: Designator,
    /// Its block size, at most 24 bits.
    pub block: BlockSize,
}

impl CopyPlace {
    fn descriptor(&self, which: &'static str) -> Result<[u8; 32], EncodeError> {
        let id = &self.designator;
        let length = id.bytes.len();
        if length == 0 || length > 20 {
            let why = "the designator's length is not 1 to 20 bytes; name the LUN by its NAA or EUI-64";
            return Err(EncodeError::Unfit { command: EXTENDED_COPY, field: which, why });
        }
        let mend = "no block device has blocks of that size";
        let block = at_most(EXTENDED_COPY, "DISK BLOCK LENGTH", u64::from(self.block.0), 0xFF_FFFF, mend)?;
        if block == 0 {
            return Err(EncodeError::Zero { command: EXTENDED_COPY, field: "DISK BLOCK LENGTH", means: "is no size" });
        }
        let mut descriptor = [0; 32];
        descriptor[0] = 0xE4;
        descriptor[4] = id.code_set.code();
        descriptor[5] = id.association.code() << 4 | id.kind.code();
        descriptor[7] = u8::try_from(length).expect("at most 20");
        descriptor[8..8 + length].copy_from_slice(&id.bytes);
        descriptor[29..32].copy_from_slice(&be32(block)[1..]);
        Ok(descriptor)
    }
}

/// Blocks of the source that go to the target (SPC-4: block device to block device segment descriptor, 02h, 28 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What to read: at most 65535 blocks, and no more bytes than the operating parameters say.
    pub from: BlockRange,
    /// Where its first block goes.
    pub to: Lba,
}

impl Segment {
    fn descriptor(&self) -> Result<[u8; 28], EncodeError> {
        let (lba, blocks) = checked_range(EXTENDED_COPY, self.from, u64::MAX, u64::from(u16::MAX))?;
        checked_range(EXTENDED_COPY, BlockRange { lba: self.to, blocks: self.from.blocks }, u64::MAX, U16)?;
        let mut descriptor = [0; 28];
        descriptor[0] = 0x02;
        descriptor[2..4].copy_from_slice(&be16(0x18));
        // Source and destination are the first and the second descriptor of the list: ids 0 and 1. DC is zero: the
        // count is in blocks of the source; both have the same size here.
        descriptor[6..8].copy_from_slice(&be16(1));
        descriptor[10..12].copy_from_slice(&be16(blocks));
        descriptor[12..20].copy_from_slice(&lba.to_be_bytes());
        descriptor[20..28].copy_from_slice(&self.to.0.to_be_bytes());
        Ok(descriptor)
    }
}

const U16: u64 = u16::MAX as u64;

/// EXTENDED COPY(LID1), opcode 83h, service action 00h (SPC-4: EXTENDED COPY command). STR is zero: segments in any
/// order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedCopy {
    /// The copy's name on this nexus; zero where it has none.
    pub list: ListId,
    /// What is kept of it.
    pub usage: ListIdUsage,
    /// 0 is the highest, 7 the lowest (SPC-4: EXTENDED COPY parameter list).
    pub priority: u8,
    /// Where it reads.
    pub source: CopyPlace,
    /// Where it writes.
    pub target: CopyPlace,
    /// What it copies. The operating parameters tell the most of them.
    pub segments: Vec<Segment>,
}

impl ExtendedCopy {
    fn checked(&self) -> Result<(), EncodeError> {
        let unfit = |field, why| Err(EncodeError::Unfit { command: EXTENDED_COPY, field, why });
        at_most(EXTENDED_COPY, "PRIORITY", u64::from(self.priority), 7, "0 is the highest and 7 the lowest")?;
        if self.segments.is_empty() {
            let means = "copies nothing";
            return Err(EncodeError::Zero { command: EXTENDED_COPY, field: "number of segment descriptors", means });
        }
        if (self.usage == ListIdUsage::Unnamed) != (self.list.0 == 0) {
            return unfit("LIST IDENTIFIER", "is zero where the copy has no name, and only there");
        }
        if self.source.designator.names_same_as(&self.target.designator) {
            return unfit(
                "CSCD descriptors",
                "source and target have the same designator; give the LUNs different serials",
            );
        }
        if self.source.block != self.target.block {
            return unfit("DISK BLOCK LENGTH", "source and target have different block sizes; copy through this host");
        }
        if self.source.designator.code_set != CodeSet::Binary || self.target.designator.code_set != CodeSet::Binary {
            return unfit("CODE SET", "is not binary; name both LUNs by an NAA or EUI-64 designator");
        }
        Ok(())
    }

    /// The parameter list (SPC-4: EXTENDED COPY parameter list): header, the two places, the segments. No inline data.
    fn list(&self) -> Result<Vec<u8>, EncodeError> {
        self.checked()?;
        let segments = self.segments.len() as u64 * 28;
        let mend = "send several commands";
        let length =
            at_most(EXTENDED_COPY, "SEGMENT DESCRIPTOR LIST LENGTH", segments, u64::from(u32::MAX) - 80, mend)?;
        let usage = match self.usage {
            ListIdUsage::Hold => 0b00,
            ListIdUsage::Discard => 0b10,
            ListIdUsage::Unnamed => 0b11,
        };
        let mut list = vec![self.list.0, usage << 3 | self.priority];
        list.extend(be16(64));
        list.extend([0; 4]);
        list.extend(be32(length));
        list.extend([0; 4]);
        list.extend(self.source.descriptor("source")?);
        list.extend(self.target.descriptor("target")?);
        for segment in &self.segments {
            list.extend(segment.descriptor()?);
        }
        Ok(list)
    }
}

impl Command for ExtendedCopy {
    fn request(&self) -> Result<Request, EncodeError> {
        let list = self.list()?;
        let cdb = Cdb::new(0x83, 16).put(10, be32(list.len() as u64));
        let (transfer, timeout) = (Transfer::Out(list), TimeoutClass::Copy);
        Ok(Request { name: EXTENDED_COPY, cdb, transfer, timeout, kind: Kind::Copy })
    }
}

/// RECEIVE COPY RESULTS, opcode 84h: SPC-3's name for what SPC-4 calls the RECEIVE COPY STATUS(LID1) and RECEIVE COPY
/// OPERATING PARAMETERS commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveCopyResults {
    /// 00h COPY STATUS of one copy.
    Status(ListId),
    /// 03h OPERATING PARAMETERS of the copy manager.
    OperatingParameters,
}

impl Command for ReceiveCopyResults {
    fn request(&self) -> Result<Request, EncodeError> {
        // LIO refuses operating parameters with an allocation length below 54; no device has more than 43 + 255 bytes.
        let (name, action, list, allocation): (_, u8, u8, u32) = match self {
            Self::Status(list) => ("RECEIVE COPY RESULTS (COPY STATUS)", 0, list.0, 12),
            Self::OperatingParameters => ("RECEIVE COPY RESULTS (OPERATING PARAMETERS)", 3, 0, 512),
        };
        let cdb = Cdb::new(0x84, 16).put(1, [action]).put(2, [list]).put(10, allocation.to_be_bytes());
        let (transfer, timeout) = (Transfer::In(allocation), TimeoutClass::Query);
        Ok(Request { name, cdb, transfer, timeout, kind: Kind::Query })
    }
}
