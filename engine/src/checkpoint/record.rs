//! One superblock record: 512 bytes to and from a struct.
//!
//! Pure: bytes in, a record or a named defect out.
//!
//! What must hold:
//! - Decoding is total: no bytes make it panic, and it accepts only bytes that encoding makes. Reserved bytes and unknown
//!   flags must be zero: what is not understood is never passed over.
//! - The first 20 bytes (magic, format version, writer version, record length) keep their place and meaning in every
//!   version, so that an older program can say who wrote what it can't read.
//! - A record doesn't know its slot: the position is put in when it is encoded and taken out when it is decoded, so that
//!   two records are equal exactly when they differ in nothing but own LBA and CRC (design H9).
//! - What can't be read back is never written: encoding decodes its own result.

mod fields;
mod identity;
mod read;
mod view;

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use self::fields as f;
pub use self::fields::{FIELDS, Field, IDENTITY_FIELDS, IDENTITY_LEN, MAGIC_BYTES, RECORD_LEN};
pub use self::identity::StoredIdentity;
use self::read::{
    block_at, check_frame, count_at, counters_at, crc_of, extent_at, flags_at, identity_at, is_block, layout_at,
    malformed, slot_at, state_at, suspension_at, uuid_at, watermark_at, writer_at,
};
pub use self::view::{AreaView, LunView, OwnerView, RecordView};
use super::layout::{Layout, SlotId};
use super::state::{State, Suspension};
use crate::units::{Bytes, Epoch, NodeId, Sequence};

/// The version of the on-disk format that this code writes, and the newest that it reads.
pub const FORMAT: u16 = 1;

const TARGET_WAS_ZERO: u32 = 1;
const FILL_UNREADABLE: u32 = 1 << 1;

/// The version of a program that writes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriterVersion {
    /// Major.
    pub major: u16,
    /// Minor.
    pub minor: u16,
    /// Patch.
    pub patch: u16,
}

impl WriterVersion {
    /// This program's.
    pub const THIS: Self = Self {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
        patch: number(env!("CARGO_PKG_VERSION_PATCH")),
    };
}

impl fmt::Display for WriterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A part of the version, read while compiling.
const fn number(text: &str) -> u16 {
    match u16::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => panic!("a part of the crate's version is no number below 65536"),
    }
}

/// What a migration was told or knows, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The target is known to hold zeroes wherever this migration has not written.
    pub target_was_zero: bool,
    /// Blocks that the source can't read become zeroes on the target.
    pub fill_unreadable: bool,
}

/// The mover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its node id.
    pub node: NodeId,
    /// Since when it has been the mover: Unix time in seconds, below 2^63.
    pub since_unix_s: u64,
    /// Its persistent reservation key; 0 where it has none.
    pub reservation_key: u64,
}

/// What the copy has done, over all its runs. Each below 2^63.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Written as data.
    pub copied_bytes: Bytes,
    /// Punched, or written as zeroes.
    pub zeroed_bytes: Bytes,
    /// Not written, because the target held zeroes there already.
    pub skipped_bytes: Bytes,
    /// Operations that were tried again.
    pub retried: u64,
    /// What the source couldn't read.
    pub unreadable_bytes: Bytes,
    /// Checkpoints written so far, this one among them. A state change, which goes to both slots, counts once.
    pub checkpoints: u64,
}

/// One checkpoint of one migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which program wrote it.
    pub writer: WriterVersion,
    /// What the migration was told or knows.
    pub flags: Flags,
    /// Names the migration; not nil.
    pub migration: Uuid,
    /// Names its consistency group; not nil.
    pub group: Option<Uuid>,
    /// Where the data comes from.
    pub source: StoredIdentity,
    /// Where the data goes.
    pub target: StoredIdentity,
    /// The source's logical block in bytes: a power of two, 512 to 65536.
    pub source_block: u32,
    /// The target's logical block in bytes: a power of two, 512 to 65536.
    pub target_block: u32,
    /// Both LUNs' lengths, and where the metadata area lies.
    pub layout: Layout,
    /// Rises by one at each change of mover; below 2^63.
    pub epoch: Epoch,
    /// Rises by one at each checkpoint; below 2^63.
    pub sequence: Sequence,
    /// The mover.
    pub owner: Owner,
    /// State of the migration.
    pub state: State,
    /// What a suspended one goes on from; nothing in every other state.
    pub suspension: Option<Suspension>,
    /// The state that an undecided step would lead to (design H13).
    pub pending_step: Option<State>,
    /// All source bytes below this position are durable on the target. At most the source's length.
    pub watermark: Bytes,
    /// Stamp of the source's content, to notice that it was changed between two runs.
    pub source_stamp: u64,
    /// Bytes of one extent: a multiple of 512, not 0.
    pub extent_size: u32,
    /// When the record was made: Unix time in seconds, below 2^63.
    pub written_at_unix_s: u64,
    /// What the copy has done.
    pub counters: Counters,
}

/// A record and the slot that it says it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The slot.
    pub slot: SlotId,
    /// The record.
    pub record: Record,
}

/// Why 512 bytes are no record of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// All bytes are zero.
    #[error("the slot is blank")]
    Blank,
    /// The magic is missing: whatever it is, Lunferry didn't write it.
    #[error("the slot holds no checkpoint")]
    NotARecord,
    /// A later program wrote it. Nothing but the stable first bytes was looked at, the CRC neither.
    #[error(
        "the checkpoint has format {version}, written by lunferry {writer}; this one reads format {FORMAT}: use that one"
    )]
    TooNew {
        /// Its format.
        version: u16,
        /// Its writer.
        writer: WriterVersion,
    },
    /// The CRC is another than the bytes have.
    #[error("the checkpoint is torn: field `crc32c` holds {stored:#010x}, its bytes have {computed:#010x}")]
    Torn {
        /// What stands in the record.
        stored: u32,
        /// What its bytes have.
        computed: u32,
    },
    /// A field has a value that no program of this format writes.
    #[error("the checkpoint is malformed: field `{field}` holds {value}, which is not {want}")]
    Malformed {
        /// The field's name in [`FIELDS`].
        field: &'static str,
        /// Its value.
        value: String,
        /// What it has to be.
        want: &'static str,
    },
}

impl Record {
    /// What orders checkpoints of one migration: the higher one is the later one (design H9).
    pub fn order(&self) -> (Epoch, Sequence) {
        (self.epoch, self.sequence)
    }

    /// The record's bytes for `slot`. The same record in both slots is one checkpoint.
    ///
    /// # Panics
    /// Where a field is outside the range that its documentation names, since such a record could never be read again.
    pub fn encode(&self, slot: SlotId) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        self.put_frame(&mut bytes);
        self.put_place(&mut bytes, slot);
        self.put_names(&mut bytes);
        self.put_progress(&mut bytes);
        self.put_counters(&mut bytes);
        let crc = crc_of(&bytes);
        f::CRC32C.put(&mut bytes, crc.to_le_bytes());
        match Self::decode(&bytes) {
            Ok(Placed { slot: read, record }) => {
                assert!(read == slot && record == *self, "a record changed on encoding")
            }
            Err(defect) => panic!("a record that can't be read back was to be written: {defect}"),
        }
        bytes
    }

    /// The record that stands in `bytes`, and the slot that it belongs to.
    ///
    /// # Errors
    /// Why there is none: see [`Defect`].
    pub fn decode(bytes: &[u8; RECORD_LEN]) -> Result<Placed, Defect> {
        check_frame(bytes)?;
        if bytes[f::RESERVED.range()].iter().any(|byte| *byte != 0) {
            return malformed(f::RESERVED, format!("{:02x?}", &bytes[f::RESERVED.range()]), "zeroes");
        }
        let layout = layout_at(bytes)?;
        let target_block = block_at(f::TARGET_BLOCK, bytes)?;
        let Some(state) = state_at(f::STATE, bytes)? else {
            return malformed(f::STATE, 0, "the number of a state");
        };
        let record = Self {
            writer: writer_at(bytes),
            flags: flags_at(bytes)?,
            migration: match uuid_at(f::MIGRATION, bytes) {
                Some(uuid) => uuid,
                None => return malformed(f::MIGRATION, Uuid::nil(), "a UUID other than nil"),
            },
            group: uuid_at(f::GROUP, bytes),
            source: identity_at(f::SOURCE_IDENTITY, bytes)?,
            target: identity_at(f::TARGET_IDENTITY, bytes)?,
            source_block: block_at(f::SOURCE_BLOCK, bytes)?,
            target_block,
            layout,
            epoch: Epoch(count_at(f::EPOCH, bytes)?),
            sequence: Sequence(count_at(f::SEQUENCE, bytes)?),
            owner: Owner {
                node: NodeId(f::OWNER_NODE.u16(bytes)),
                since_unix_s: count_at(f::OWNER_SINCE, bytes)?,
                reservation_key: f::RESERVATION_KEY.u64(bytes),
            },
            state,
            suspension: suspension_at(bytes, state)?,
            pending_step: state_at(f::PENDING_STEP, bytes)?,
            watermark: watermark_at(bytes, layout)?,
            source_stamp: f::SOURCE_STAMP.u64(bytes),
            extent_size: extent_at(bytes)?,
            written_at_unix_s: count_at(f::WRITTEN_AT, bytes)?,
            counters: counters_at(bytes)?,
        };
        Ok(Placed { slot: slot_at(bytes, layout, target_block)?, record })
    }

    fn put_frame(&self, bytes: &mut [u8; RECORD_LEN]) {
        f::MAGIC.put(bytes, MAGIC_BYTES);
        f::FORMAT_VERSION.put(bytes, FORMAT.to_le_bytes());
        f::WRITER_MAJOR.put(bytes, self.writer.major.to_le_bytes());
        f::WRITER_MINOR.put(bytes, self.writer.minor.to_le_bytes());
        f::WRITER_PATCH.put(bytes, self.writer.patch.to_le_bytes());
        f::RECORD_LENGTH.put(bytes, 512_u32.to_le_bytes());
        let zero = if self.flags.target_was_zero { TARGET_WAS_ZERO } else { 0 };
        let fill = if self.flags.fill_unreadable { FILL_UNREADABLE } else { 0 };
        f::FLAGS.put(bytes, (zero | fill).to_le_bytes());
    }

    fn put_place(&self, bytes: &mut [u8; RECORD_LEN], slot: SlotId) {
        assert!(is_block(self.target_block), "the target's logical block of {} bytes is none", self.target_block);
        let spec = self.layout.spec();
        let bitmap = u32::try_from(spec.bitmap.0).expect("a layout's bitmap has at most u32::MAX bytes");
        let position = self.layout.slot(slot).start;
        f::SLOT_POSITION.put(bytes, position.0.to_le_bytes());
        f::SLOT_LBA.put(bytes, position.lba(Bytes(u64::from(self.target_block))).0.to_le_bytes());
        f::TARGET_BLOCK.put(bytes, self.target_block.to_le_bytes());
        f::SOURCE_BLOCK.put(bytes, self.source_block.to_le_bytes());
        f::SOURCE_LENGTH.put(bytes, self.layout.source_len().0.to_le_bytes());
        f::TARGET_LENGTH.put(bytes, self.layout.target_len().0.to_le_bytes());
        f::LAYOUT_KIND.put(bytes, [self.layout.kind().number()]);
        f::AREA_START.put(bytes, self.layout.area().start.0.to_le_bytes());
        f::AREA_SIZE.put(bytes, spec.size.0.to_le_bytes());
        f::AREA_NODES.put(bytes, spec.nodes.to_le_bytes());
        f::BITMAP_SIZE.put(bytes, bitmap.to_le_bytes());
    }

    fn put_names(&self, bytes: &mut [u8; RECORD_LEN]) {
        f::MIGRATION.put(bytes, self.migration.into_bytes());
        f::GROUP.put(bytes, self.group.unwrap_or(Uuid::nil()).into_bytes());
        f::SOURCE_IDENTITY.put(bytes, self.source.encode());
        f::TARGET_IDENTITY.put(bytes, self.target.encode());
        f::OWNER_NODE.put(bytes, self.owner.node.0.to_le_bytes());
        f::OWNER_SINCE.put(bytes, self.owner.since_unix_s.to_le_bytes());
        f::RESERVATION_KEY.put(bytes, self.owner.reservation_key.to_le_bytes());
    }

    fn put_progress(&self, bytes: &mut [u8; RECORD_LEN]) {
        f::EPOCH.put(bytes, self.epoch.0.to_le_bytes());
        f::SEQUENCE.put(bytes, self.sequence.0.to_le_bytes());
        f::STATE.put(bytes, [self.state.number()]);
        f::SUSPENDED_FROM.put(bytes, [self.suspension.map_or(0, |suspension| suspension.from.number())]);
        f::PRIMARY.put(bytes, [self.suspension.map_or(0, |suspension| suspension.primary.number())]);
        f::PENDING_STEP.put(bytes, [self.pending_step.map_or(0, State::number)]);
        f::EXTENT_SIZE.put(bytes, self.extent_size.to_le_bytes());
        f::WATERMARK.put(bytes, self.watermark.0.to_le_bytes());
        f::SOURCE_STAMP.put(bytes, self.source_stamp.to_le_bytes());
        f::WRITTEN_AT.put(bytes, self.written_at_unix_s.to_le_bytes());
    }

    fn put_counters(&self, bytes: &mut [u8; RECORD_LEN]) {
        f::COPIED.put(bytes, self.counters.copied_bytes.0.to_le_bytes());
        f::ZEROED.put(bytes, self.counters.zeroed_bytes.0.to_le_bytes());
        f::SKIPPED.put(bytes, self.counters.skipped_bytes.0.to_le_bytes());
        f::RETRIED.put(bytes, self.counters.retried.to_le_bytes());
        f::UNREADABLE.put(bytes, self.counters.unreadable_bytes.0.to_le_bytes());
        f::CHECKPOINTS.put(bytes, self.counters.checkpoints.to_le_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests;
