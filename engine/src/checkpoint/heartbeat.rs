//! One node's heartbeat: a block in the metadata area that moves as long as its node reaches the target and may write there.
//!
//! Pure: bytes in, a heartbeat or a named defect out, and back.
//!
//! What must hold:
//! - Decoding is total and accepts only what encoding makes, as for a record.
//! - A node writes its own block alone, and no two share a physical one (`layout`), so that nothing orders these writes.
//! - It says that its node writes. That its node is well, or who it is, is not taken from here: the reservation says that.

use uuid::Uuid;

use super::field::{Field, table};
use crate::units::{Bytes, NodeId, Sequence};

/// How long a heartbeat is: one logical block of 512 bytes.
pub const BEAT_LEN: usize = 512;

/// The version that this code writes, and the newest that it reads.
pub const BEAT_FORMAT: u16 = 1;

/// What stands in front of every heartbeat.
pub const BEAT_MAGIC: [u8; 8] = *b"LUNFBEAT";

/// Counts stay below this, so that counting on never overflows.
const COUNT_LIMIT: u64 = 1 << 63;

table! {
    /// Every byte of a heartbeat, in order.
    BEAT_FIELDS;
    MAGIC "magic" 8 "The text `LUNFBEAT`";
    FORMAT_VERSION after MAGIC "format_version" 2 "1";
    NODE after FORMAT_VERSION "node" 2 "Node id of the writer, whose block this is";
    INCARNATION after NODE "incarnation" 4 "Which start of it, as in its reservation key";
    MIGRATION after INCARNATION "migration" 16 "UUID of the migration (RFC 9562 byte order), not nil";
    POSITION after MIGRATION "position" 8 "Where this heartbeat belongs: its first byte on the target";
    COUNT after POSITION "count" 8 "Rises with each heartbeat of one incarnation; below 2^63";
    RESERVED after COUNT "reserved" 460 "Zeroes";
    CRC32C after RESERVED "crc32c" 4 "CRC-32C (Castagnoli) of all 512 bytes, with this field taken as zeroes";
}

const _: () = assert!(CRC32C.end() == BEAT_LEN);

/// A heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The migration.
    pub migration: Uuid,
    /// Whose.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: u32,
    /// How often; below 2^63.
    pub count: Sequence,
}

/// Why 512 bytes are no heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeatDefect {
    /// Nobody has written one there: the magic is missing.
    #[error("there is no heartbeat")]
    None,
    /// A later program wrote it.
    #[error("the heartbeat has format {version}; this lunferry reads format {BEAT_FORMAT}: use the later one")]
    TooNew {
        /// Its format.
        version: u16,
    },
    /// The CRC is another than the bytes have.
    #[error("the heartbeat is torn: field `crc32c` holds {stored:#010x}, its bytes have {computed:#010x}")]
    Torn {
        /// What stands there.
        stored: u32,
        /// What its bytes have.
        computed: u32,
    },
    /// A field has a value that no program of this format writes there.
    #[error("the heartbeat is malformed: field `{field}` holds {value}, which is not {want}")]
    Malformed {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it has to be.
        want: &'static str,
    },
}

impl Heartbeat {
    /// Its bytes, for a block that starts at `at` on the target.
    ///
    /// # Panics
    /// Where the count or the migration is one that could not be read again.
    pub fn encode(&self, at: Bytes) -> [u8; BEAT_LEN] {
        assert!(self.count.0 < COUNT_LIMIT && !self.migration.is_nil(), "no heartbeat that can be read back: {self:?}");
        let mut bytes = [0; BEAT_LEN];
        MAGIC.put(&mut bytes, BEAT_MAGIC);
        FORMAT_VERSION.put(&mut bytes, BEAT_FORMAT.to_le_bytes());
        NODE.put(&mut bytes, self.node.0.to_le_bytes());
        INCARNATION.put(&mut bytes, self.incarnation.to_le_bytes());
        MIGRATION.put(&mut bytes, self.migration.into_bytes());
        POSITION.put(&mut bytes, at.0.to_le_bytes());
        COUNT.put(&mut bytes, self.count.0.to_le_bytes());
        let crc = crc_of(&bytes);
        CRC32C.put(&mut bytes, crc.to_le_bytes());
        bytes
    }

    /// The heartbeat that was read at `at` on the target.
    ///
    /// # Errors
    /// Why there is none: see [`BeatDefect`].
    pub fn decode(bytes: &[u8; BEAT_LEN], at: Bytes) -> Result<Self, BeatDefect> {
        if MAGIC.bytes(bytes) != BEAT_MAGIC {
            return Err(BeatDefect::None);
        }
        let version = FORMAT_VERSION.u16(bytes);
        if version > BEAT_FORMAT {
            return Err(BeatDefect::TooNew { version });
        }
        let (stored, computed) = (CRC32C.u32(bytes), crc_of(bytes));
        if stored != computed {
            return Err(BeatDefect::Torn { stored, computed });
        }
        let malformed =
            |field: Field, value: String, want| Err(BeatDefect::Malformed { field: field.name, value, want });
        let (position, count) = (POSITION.u64(bytes), COUNT.u64(bytes));
        let migration = Uuid::from_bytes(MIGRATION.bytes(bytes));
        if version != BEAT_FORMAT {
            return malformed(FORMAT_VERSION, version.to_string(), "1");
        }
        if position != at.0 {
            return malformed(POSITION, position.to_string(), "where it was read from");
        }
        if migration.is_nil() {
            return malformed(MIGRATION, migration.to_string(), "a UUID other than nil");
        }
        if count >= COUNT_LIMIT {
            return malformed(COUNT, count.to_string(), "below 2^63");
        }
        if bytes[RESERVED.range()].iter().any(|byte| *byte != 0) {
            return malformed(RESERVED, "something".into(), "zeroes");
        }
        let (node, incarnation) = (NodeId(NODE.u16(bytes)), INCARNATION.u32(bytes));
        Ok(Self { migration, node, incarnation, count: Sequence(count) })
    }
}

fn crc_of(bytes: &[u8; BEAT_LEN]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC32C.offset]), &[0; 4])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: Bytes = Bytes::mib(7);

    fn sample() -> Heartbeat {
        Heartbeat { migration: Uuid::from_u128(0x77), node: NodeId(3), incarnation: 0x1234_5678, count: Sequence(9) }
    }

    fn with_crc(change: impl FnOnce(&mut [u8; BEAT_LEN])) -> [u8; BEAT_LEN] {
        let mut bytes = sample().encode(AT);
        change(&mut bytes);
        let crc = crc_of(&bytes);
        CRC32C.put(&mut bytes, crc.to_le_bytes());
        bytes
    }

    #[test]
    fn the_table_leaves_no_gap_and_keeps_numbers_aligned() {
        let end = BEAT_FIELDS.iter().fold(0, |at, field| {
            assert_eq!(field.offset, at, "{}", field.name);
            assert!(!matches!(field.len, 2 | 4 | 8) || field.offset.is_multiple_of(field.len), "{}", field.name);
            field.end()
        });
        assert_eq!(end, BEAT_LEN);
    }

    #[test]
    fn no_flipped_bit_is_accepted() {
        let good = sample().encode(AT);
        assert_eq!(Heartbeat::decode(&good, AT), Ok(sample()));
        for bit in 0..BEAT_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Heartbeat::decode(&bad, AT).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_heartbeat_is_named() {
        let named = |bytes: &[u8; BEAT_LEN], at| match Heartbeat::decode(bytes, at) {
            Err(BeatDefect::Malformed { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(Heartbeat::decode(&[0; BEAT_LEN], AT), Err(BeatDefect::None));
        assert_eq!(Heartbeat::decode(&[0xff; BEAT_LEN], AT), Err(BeatDefect::None));
        let newer = with_crc(|bytes| FORMAT_VERSION.put(bytes, 2_u16.to_le_bytes()));
        assert_eq!(Heartbeat::decode(&newer, AT), Err(BeatDefect::TooNew { version: 2 }));
        assert_eq!(named(&sample().encode(AT), Bytes::ZERO), "position", "a copy of the block elsewhere");
        assert_eq!(named(&with_crc(|bytes| FORMAT_VERSION.put(bytes, [0, 0])), AT), "format_version");
        assert_eq!(named(&with_crc(|bytes| MIGRATION.put(bytes, [0; 16])), AT), "migration");
        assert_eq!(named(&with_crc(|bytes| COUNT.put(bytes, [0xff; 8])), AT), "count");
        assert_eq!(named(&with_crc(|bytes| bytes[300] = 1), AT), "reserved");
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_what_encoding_makes(node: u16, incarnation: u32, count in 0..COUNT_LIMIT, migration in 1_u128..) {
            let (migration, node, count) = (Uuid::from_u128(migration), NodeId(node), Sequence(count));
            let beat = Heartbeat { migration, node, incarnation, count };
            prop_assert_eq!(Heartbeat::decode(&beat.encode(AT), AT), Ok(beat));
        }

        #[test]
        fn no_bytes_panic(bytes: [u8; 64], fix: bool) {
            let patch = |all: &mut [u8; BEAT_LEN]| all[8..72].copy_from_slice(&bytes);
            let mut all = sample().encode(AT);
            patch(&mut all);
            let all = if fix { with_crc(patch) } else { all };
            if let Ok(beat) = Heartbeat::decode(&all, AT) {
                prop_assert_eq!(beat.encode(AT), all);
            }
        }
    }
}
