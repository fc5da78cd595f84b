//! Takes a record's fields out of its bytes and checks their ranges.
//!
//! Pure: bytes in, one field or a named defect out.
//!
//! What must hold: nothing here believes a byte; a value that version 1 doesn't allow is [`Defect::Malformed`] with the
//! field's name.

use std::fmt;

use uuid::Uuid;

use super::fields::{self as f, Field, MAGIC_BYTES, RECORD_LEN};
use super::{Counters, Defect, FILL_UNREADABLE, FORMAT, Flags, StoredIdentity, TARGET_WAS_ZERO, WriterVersion};
use crate::checkpoint::layout::{AreaSpec, Layout, LayoutKind, SlotId};
use crate::checkpoint::state::{Leg, State, Suspension};
use crate::units::Bytes;

/// Counts and times stay below this, so that counting on never overflows.
pub(super) const COUNT_LIMIT: u64 = 1 << 63;

/// The sizes that a logical block can have: up to a granule of the area.
const BLOCKS: std::ops::RangeInclusive<u32> = 512..=65536;

/// Magic, version, length, CRC, in this order: each tells how far the next one can be believed. Version 0 was never
/// written by anyone, so it goes on to the CRC, which nearly always says "torn".
pub(super) fn check_frame(bytes: &[u8; RECORD_LEN]) -> Result<(), Defect> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(Defect::Blank);
    }
    if f::MAGIC.bytes(bytes) != MAGIC_BYTES {
        return Err(Defect::NotARecord);
    }
    let version = f::FORMAT_VERSION.u16(bytes);
    if version > FORMAT {
        return Err(Defect::TooNew { version, writer: writer_at(bytes) });
    }
    let length = f::RECORD_LENGTH.u32(bytes);
    if length as usize != RECORD_LEN {
        return malformed(f::RECORD_LENGTH, length, "512");
    }
    let (stored, computed) = (f::CRC32C.u32(bytes), crc_of(bytes));
    if stored != computed {
        return Err(Defect::Torn { stored, computed });
    }
    if version != FORMAT {
        return malformed(f::FORMAT_VERSION, version, "1");
    }
    Ok(())
}

/// CRC-32C of all bytes, the CRC's own taken as zeroes.
pub(super) fn crc_of(bytes: &[u8; RECORD_LEN]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..f::CRC32C.offset]), &[0; 4])
}

pub(super) fn malformed<T>(field: Field, value: impl fmt::Display, want: &'static str) -> Result<T, Defect> {
    Err(Defect::Malformed { field: field.name, value: value.to_string(), want })
}

pub(super) fn writer_at(bytes: &[u8; RECORD_LEN]) -> WriterVersion {
    WriterVersion {
        major: f::WRITER_MAJOR.u16(bytes),
        minor: f::WRITER_MINOR.u16(bytes),
        patch: f::WRITER_PATCH.u16(bytes),
    }
}

pub(super) fn flags_at(bytes: &[u8; RECORD_LEN]) -> Result<Flags, Defect> {
    let flags = f::FLAGS.u32(bytes);
    if flags & !(TARGET_WAS_ZERO | FILL_UNREADABLE) != 0 {
        return malformed(f::FLAGS, format_args!("{flags:#x}"), "made of bits that are known");
    }
    Ok(Flags { target_was_zero: flags & TARGET_WAS_ZERO != 0, fill_unreadable: flags & FILL_UNREADABLE != 0 })
}

pub(super) fn uuid_at(field: Field, bytes: &[u8; RECORD_LEN]) -> Option<Uuid> {
    let uuid = Uuid::from_bytes(field.bytes(bytes));
    (!uuid.is_nil()).then_some(uuid)
}

pub(super) fn identity_at(field: Field, bytes: &[u8; RECORD_LEN]) -> Result<StoredIdentity, Defect> {
    StoredIdentity::decode(&field.bytes(bytes), field.name)
}

pub(super) fn count_at(field: Field, bytes: &[u8; RECORD_LEN]) -> Result<u64, Defect> {
    let count = field.u64(bytes);
    if count >= COUNT_LIMIT {
        return malformed(field, count, "below 2^63");
    }
    Ok(count)
}

pub(super) fn is_block(bytes: u32) -> bool {
    BLOCKS.contains(&bytes) && bytes.is_power_of_two()
}

pub(super) fn block_at(field: Field, bytes: &[u8; RECORD_LEN]) -> Result<u32, Defect> {
    let block = field.u32(bytes);
    if !is_block(block) {
        return malformed(field, block, "a power of two from 512 to 65536");
    }
    Ok(block)
}

/// The state of this number; `None` for 0.
pub(super) fn state_at(field: Field, bytes: &[u8; RECORD_LEN]) -> Result<Option<State>, Defect> {
    match field.u8(bytes) {
        0 => Ok(None),
        number => match State::from_number(number) {
            None => malformed(field, number, "the number of a state"),
            state => Ok(state),
        },
    }
}

/// What a suspended record says of itself; `None` in every other state.
pub(super) fn suspension_at(bytes: &[u8; RECORD_LEN], state: State) -> Result<Option<Suspension>, Defect> {
    let (from, primary) = (state_at(f::SUSPENDED_FROM, bytes)?, f::PRIMARY.u8(bytes));
    if state != State::Suspended {
        return match (from, primary) {
            (None, 0) => Ok(None),
            (Some(from), _) => malformed(f::SUSPENDED_FROM, from, "0, as it must be where the state isn't suspended"),
            (None, _) => malformed(f::PRIMARY, primary, "0, as it must be where the state isn't suspended"),
        };
    }
    let Some(from) = from.filter(|from| Suspension::of(*from).is_some()) else {
        return malformed(
            f::SUSPENDED_FROM,
            f::SUSPENDED_FROM.u8(bytes),
            "the number of a state that can be suspended",
        );
    };
    match Leg::from_number(primary).map(|primary| Suspension { from, primary }) {
        Some(suspension) if suspension.is_possible() => Ok(Some(suspension)),
        _ => malformed(f::PRIMARY, primary, "the number of a leg that can be primary there"),
    }
}

pub(super) fn watermark_at(bytes: &[u8; RECORD_LEN], layout: Layout) -> Result<Bytes, Defect> {
    let watermark = Bytes(f::WATERMARK.u64(bytes));
    if watermark > layout.source_len() {
        return malformed(f::WATERMARK, watermark.0, "at most the source's length");
    }
    Ok(watermark)
}

pub(super) fn extent_at(bytes: &[u8; RECORD_LEN]) -> Result<u32, Defect> {
    let extent = f::EXTENT_SIZE.u32(bytes);
    if extent == 0 || !extent.is_multiple_of(512) {
        return malformed(f::EXTENT_SIZE, extent, "a multiple of 512 above 0");
    }
    Ok(extent)
}

pub(super) fn counters_at(bytes: &[u8; RECORD_LEN]) -> Result<Counters, Defect> {
    Ok(Counters {
        copied_bytes: Bytes(count_at(f::COPIED, bytes)?),
        zeroed_bytes: Bytes(count_at(f::ZEROED, bytes)?),
        skipped_bytes: Bytes(count_at(f::SKIPPED, bytes)?),
        retried: count_at(f::RETRIED, bytes)?,
        unreadable_bytes: Bytes(count_at(f::UNREADABLE, bytes)?),
        checkpoints: count_at(f::CHECKPOINTS, bytes)?,
    })
}

/// The layout that follows from the record's lengths and sizes; its kind and place must be the ones that the record says.
pub(super) fn layout_at(bytes: &[u8; RECORD_LEN]) -> Result<Layout, Defect> {
    let spec = AreaSpec {
        size: Bytes(f::AREA_SIZE.u64(bytes)),
        nodes: f::AREA_NODES.u16(bytes),
        bitmap: Bytes(u64::from(f::BITMAP_SIZE.u32(bytes))),
    };
    let (target_len, source_len) = (Bytes(f::TARGET_LENGTH.u64(bytes)), Bytes(f::SOURCE_LENGTH.u64(bytes)));
    let layout = match Layout::of(spec, target_len, source_len) {
        Ok(layout) => layout,
        Err(error) => {
            return malformed(f::AREA_SIZE, format_args!("{} ({error})", spec.size.0), "possible on these two LUNs");
        }
    };
    let start = Bytes(f::AREA_START.u64(bytes));
    if start != layout.area().start {
        return malformed(f::AREA_START, start.0, "where an area of this size lies on a target of this length");
    }
    let kind = f::LAYOUT_KIND.u8(bytes);
    if kind != layout.kind().number() {
        return malformed(f::LAYOUT_KIND, kind, kind_name(layout.kind()));
    }
    Ok(layout)
}

const fn kind_name(kind: LayoutKind) -> &'static str {
    match kind {
        LayoutKind::PastEnd => "1, as it must be where the area lies past the source's end",
        LayoutKind::Overlay => "2, as it must be where the area lies over the source's last bytes",
    }
}

/// The slot that the record says it belongs to.
pub(super) fn slot_at(bytes: &[u8; RECORD_LEN], layout: Layout, target_block: u32) -> Result<SlotId, Defect> {
    let position = Bytes(f::SLOT_POSITION.u64(bytes));
    let Some(slot) = SlotId::BOTH.into_iter().find(|slot| layout.slot(*slot).start == position) else {
        return malformed(f::SLOT_POSITION, position.0, "one of the area's two slots");
    };
    let lba = f::SLOT_LBA.u64(bytes);
    if lba != position.lba(Bytes(u64::from(target_block))).0 {
        return malformed(f::SLOT_LBA, lba, "the slot's position in logical blocks");
    }
    Ok(slot)
}
