//! Which byte of a superblock record is what, as data: the codec, the tests and the document read these tables.
//!
//! Pure: constants.
//!
//! What must hold: the fields of a table follow each other without a gap, and each number lies at a multiple of its
//! length. Version 1 is frozen; what it lacks goes into a new version.

pub use crate::checkpoint::field::Field;
use crate::checkpoint::field::table;

/// How long a record is: one logical block of 512 bytes, which a device writes whole or not at all.
pub const RECORD_LEN: usize = 512;

/// How long the identity of one LUN is inside a record.
pub const IDENTITY_LEN: usize = 64;

table! {
    /// Every byte of a record, in order.
    FIELDS;
    MAGIC "magic" 8 "The text `LUNFERRY`";
    FORMAT_VERSION after MAGIC "format_version" 2 "1";
    WRITER_MAJOR after FORMAT_VERSION "writer_major" 2 "Version of the lunferry that wrote the record: major";
    WRITER_MINOR after WRITER_MAJOR "writer_minor" 2 "minor";
    WRITER_PATCH after WRITER_MINOR "writer_patch" 2 "patch";
    RECORD_LENGTH after WRITER_PATCH "record_length" 4 "512";
    FLAGS after RECORD_LENGTH "flags" 4 "Bit 0: target was zero; bit 1: fill unreadable; all others 0";
    SLOT_POSITION after FLAGS "slot_position" 8 "Where this record belongs: its first byte on the target";
    SLOT_LBA after SLOT_POSITION "slot_lba" 8 "The same in the target's logical blocks";
    TARGET_BLOCK after SLOT_LBA "target_block" 4 "The target's logical block in bytes: a power of two, 512 to 65536";
    SOURCE_BLOCK after TARGET_BLOCK "source_block" 4 "The source's logical block in bytes, likewise";
    MIGRATION after SOURCE_BLOCK "migration" 16 "UUID of the migration (RFC 9562 byte order), not nil";
    GROUP after MIGRATION "group" 16 "UUID of its consistency group; nil where there is none";
    SOURCE_IDENTITY after GROUP "source_identity" 64 "The source's identity, see below";
    TARGET_IDENTITY after SOURCE_IDENTITY "target_identity" 64 "The target's identity, see below";
    SOURCE_LENGTH after TARGET_IDENTITY "source_length" 8 "The source's length in bytes";
    TARGET_LENGTH after SOURCE_LENGTH "target_length" 8 "The target's length in bytes, at least the source's";
    EPOCH after TARGET_LENGTH "epoch" 8 "Rises by one at each change of mover; below 2^63";
    SEQUENCE after EPOCH "sequence" 8 "Rises by one at each checkpoint; below 2^63";
    OWNER_SINCE after SEQUENCE "owner_since" 8 "When the owner became the owner, Unix time in seconds; below 2^63";
    RESERVATION_KEY after OWNER_SINCE "reservation_key" 8 "The owner's persistent reservation key; 0 where there is none";
    OWNER_NODE after RESERVATION_KEY "owner_node" 2 "Node id of the mover";
    STATE after OWNER_NODE "state" 1 "State of the migration, see below";
    PENDING_STEP after STATE "pending_step" 1 "State that an undecided step would lead to; 0 where there is none";
    LAYOUT_KIND after PENDING_STEP "layout_kind" 1 "1: past the source's end; 2: overlay";
    SUSPENDED_FROM after LAYOUT_KIND "suspended_from" 1 "State that a suspended migration came from; 0 in every other state";
    AREA_NODES after SUSPENDED_FROM "area_nodes" 2 "How many nodes the area has a heartbeat and a bitmap for";
    BITMAP_SIZE after AREA_NODES "bitmap_size" 4 "Bytes of one node's bitmap";
    EXTENT_SIZE after BITMAP_SIZE "extent_size" 4 "Bytes of one extent of the copy: a multiple of 512, not 0";
    WATERMARK after EXTENT_SIZE "watermark" 8 "All source bytes below this position are durable on the target; at most the source's length";
    AREA_START after WATERMARK "area_start" 8 "First byte of the metadata area on the target";
    AREA_SIZE after AREA_START "area_size" 8 "Its size in bytes";
    SOURCE_STAMP after AREA_SIZE "source_stamp" 8 "Stamp of the source's content, to notice that it was changed between two runs";
    WRITTEN_AT after SOURCE_STAMP "written_at" 8 "When the record was made, Unix time in seconds; below 2^63";
    COPIED after WRITTEN_AT "copied" 8 "Bytes written as data; this and the following counters are below 2^63";
    ZEROED after COPIED "zeroed" 8 "Bytes punched, or written as zeroes";
    SKIPPED after ZEROED "skipped" 8 "Bytes not written because the target held zeroes there already";
    RETRIED after SKIPPED "retried" 8 "Operations that were tried again";
    UNREADABLE after RETRIED "unreadable" 8 "Bytes that the source could not read";
    CHECKPOINTS after UNREADABLE "checkpoints" 8 "Checkpoints written so far, this one among them; a state change, in both slots, counts once";
    PRIMARY after CHECKPOINTS "primary" 1 "The primary leg of a suspended migration. 1: source; 2: target; 0 in every other state";
    RESERVED after PRIMARY "reserved" 147 "Zeroes";
    CRC32C after RESERVED "crc32c" 4 "CRC-32C (Castagnoli) of all 512 bytes, with this field taken as zeroes";
}

table! {
    /// Every byte of a LUN's identity inside a record, in order.
    IDENTITY_FIELDS;
    KIND "kind" 1 "Where the identity comes from, see below";
    TEXT_LENGTH after KIND "text_length" 1 "Bytes of the full text; 255 where it has more";
    TEXT after TEXT_LENGTH "text" 46 "The text in UTF-8, then zeroes; of a longer text the last whole characters that fit";
    DIGEST after TEXT "digest" 16 "XXH3-128 of the full text, as a little-endian number";
}

/// What stands in front of every record.
pub const MAGIC_BYTES: [u8; 8] = *b"LUNFERRY";

const _: () = assert!(CRC32C.end() == RECORD_LEN);
const _: () = assert!(DIGEST.end() == IDENTITY_LEN);
const _: () = assert!(SOURCE_IDENTITY.len == IDENTITY_LEN && TARGET_IDENTITY.len == IDENTITY_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_leave_no_gap_and_keep_numbers_aligned() {
        for (table, len) in [(FIELDS, RECORD_LEN), (IDENTITY_FIELDS, IDENTITY_LEN)] {
            let end = table.iter().fold(0, |at, field| {
                assert_eq!(field.offset, at, "{}", field.name);
                if matches!(field.len, 2 | 4 | 8) {
                    assert!(field.offset.is_multiple_of(field.len), "{}", field.name);
                }
                field.end()
            });
            assert_eq!(end, len);
        }
    }

    #[test]
    fn no_two_fields_have_one_name() {
        for table in [FIELDS, IDENTITY_FIELDS] {
            let mut names: Vec<_> = table.iter().map(|field| field.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), table.len());
        }
    }
}
