//! Where the metadata area lies on the target, and which of its bytes belong to the source's data in the end.
//!
//! Pure: numbers in, ranges out.
//!
//! ```text
//!   area:  | slot A | heartbeats, one a node | bitmaps, one a node | unused | slot B |
//!          ^ area_end - size                                                         ^ area_end
//! ```
//!
//! What must hold:
//! - The slots' places follow from the target's length and the [`AreaSpec`] alone, so that they are found without the
//!   source, and whatever the source's length.
//! - No two of slots, heartbeats and bitmaps share a [`GRANULE`], hence none share a physical block (larger physical
//!   blocks are refused when a LUN is opened): a torn write of one never damages another.
//! - Bulk range, overlay pieces and slot parts tile the source's length exactly.

use serde::Serialize;

use crate::units::{Bytes, NodeId, Span};

/// What every part of the area is aligned to and rounded up to: the largest physical block that is supported.
pub const GRANULE: Bytes = Bytes::kib(64);

/// How far apart the two slots start, at least: further than one damaged spot of a medium is wide.
pub const SLOT_DISTANCE: Bytes = Bytes::mib(1);

/// The last byte position that a file offset of the kernel (`off_t`) can name.
const MAX_POSITION: Bytes = Bytes(u64::MAX >> 1);

/// How large the area is and for how many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AreaSpec {
    /// The whole area. A multiple of [`GRANULE`].
    pub size: Bytes,
    /// How many nodes have a heartbeat and a bitmap; node ids lie below this.
    pub nodes: u16,
    /// One node's bitmap. At most `u32::MAX` bytes.
    pub bitmap: Bytes,
}

impl AreaSpec {
    /// What this version writes: 4 MiB, 16 nodes, 128 KiB of bitmap each.
    pub const V1: Self = Self { size: Bytes::mib(4), nodes: 16, bitmap: Bytes::kib(128) };

    /// The smallest area that there can be: the two slots at their least distance, no nodes.
    pub const COMPACT: Self = Self { size: Bytes(SLOT_DISTANCE.0 + GRANULE.0), nodes: 0, bitmap: Bytes::ZERO };

    /// Where the area lies on a target of `target_len` bytes, whatever the source.
    ///
    /// # Errors
    /// Where the spec is impossible or the target too small for it.
    pub fn area(self, target_len: Bytes) -> Result<Span, LayoutError> {
        self.check()?;
        if target_len > MAX_POSITION {
            return Err(LayoutError::TooLarge { target_len });
        }
        let end = target_len.align_down(GRANULE);
        if end < self.size {
            return Err(LayoutError::TooSmall { target_len, size: self.size });
        }
        Ok(Span::new(end - self.size, end))
    }

    /// Where one slot lies on a target of `target_len` bytes: its whole granule, of which the record is the first bytes.
    ///
    /// # Errors
    /// As for [`AreaSpec::area`].
    pub fn slot(self, target_len: Bytes, slot: SlotId) -> Result<Span, LayoutError> {
        Ok(slot_in(self.area(target_len)?, slot))
    }

    fn check(self) -> Result<(), LayoutError> {
        if self.bitmap.0 > u64::from(u32::MAX) {
            return Err(LayoutError::Spec { field: "bitmap size", value: self.bitmap.0, mend: "at most 4294967295" });
        }
        // No overflow: 2^16 nodes of less than 2^32 + 2^17 bytes each.
        let nodes = u64::from(self.nodes) * (GRANULE.0 + self.bitmap_stride().0);
        let needed = Bytes(nodes + 2 * GRANULE.0).0.max(SLOT_DISTANCE.0 + GRANULE.0);
        if self.size.0 < needed {
            let mend = "room for two slots 1 MiB apart, and for a heartbeat and a bitmap for each node";
            return Err(LayoutError::Spec { field: "area size", value: self.size.0, mend });
        }
        if !self.size.is_multiple_of(GRANULE) {
            return Err(LayoutError::Spec { field: "area size", value: self.size.0, mend: "a multiple of 64 KiB" });
        }
        Ok(())
    }

    fn bitmap_stride(self) -> Bytes {
        self.bitmap.align_up(GRANULE)
    }
}

/// One of the two places of the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotId {
    /// The area's first granule. At the end of an overlay migration it is the first of the two to go.
    A,
    /// The area's last granule. At the end of an overlay migration it is the very last to go.
    B,
}

impl SlotId {
    /// Both, in the order of their places.
    pub const BOTH: [SlotId; 2] = [Self::A, Self::B];

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl std::fmt::Display for SlotId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// Whether the area takes room that the source's data needs in the end. The numbers are part of the on-disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LayoutKind {
    /// The area lies past the source's end.
    PastEnd = 1,
    /// The area lies over the target's last bytes, some of which belong to the source's data: copied last, at commit.
    Overlay = 2,
}

impl LayoutKind {
    /// The number on disk.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// Why there is no layout for these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The target can't hold the area. A copy is still possible, without checkpoints.
    #[error(
        "the target has {} bytes, too few for a metadata area of {} bytes: without it a copy can't be resumed",
        target_len.0, size.0
    )]
    TooSmall {
        /// The target's length.
        target_len: Bytes,
        /// The area's size.
        size: Bytes,
    },
    /// No file offset reaches the target's end.
    #[error("the target claims {} bytes; positions above 2^63 - 1 can't be addressed", target_len.0)]
    TooLarge {
        /// The target's length.
        target_len: Bytes,
    },
    /// The target is smaller than the source.
    #[error("the target has {} bytes, the source {}: take a target that is at least as large", target_len.0, source_len.0)]
    SourceLarger {
        /// The target's length.
        target_len: Bytes,
        /// The source's length.
        source_len: Bytes,
    },
    /// The spec contradicts itself.
    #[error("the metadata area's {field} is {value}; it must be {mend}")]
    Spec {
        /// What is wrong.
        field: &'static str,
        /// Its value, in bytes.
        value: u64,
        /// What it must be.
        mend: &'static str,
    },
}

/// Where everything of the metadata area lies, for one source and one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    spec: AreaSpec,
    target_len: Bytes,
    source_len: Bytes,
    area: Span,
}

impl Layout {
    /// The layout of an area of `spec` on a target of `target_len` bytes for a source of `source_len` bytes.
    ///
    /// # Errors
    /// Where there is none: see [`LayoutError`].
    pub fn of(spec: AreaSpec, target_len: Bytes, source_len: Bytes) -> Result<Self, LayoutError> {
        if source_len > target_len {
            return Err(LayoutError::SourceLarger { target_len, source_len });
        }
        let area = spec.area(target_len)?;
        Ok(Self { spec, target_len, source_len, area })
    }

    /// The spec that it was made of.
    pub const fn spec(&self) -> AreaSpec {
        self.spec
    }

    /// The target's length.
    pub const fn target_len(&self) -> Bytes {
        self.target_len
    }

    /// The source's length.
    pub const fn source_len(&self) -> Bytes {
        self.source_len
    }

    /// The whole area.
    pub const fn area(&self) -> Span {
        self.area
    }

    /// Whether the area takes room of the source's data.
    pub fn kind(&self) -> LayoutKind {
        if self.area.start >= self.source_len { LayoutKind::PastEnd } else { LayoutKind::Overlay }
    }

    /// One slot's granule. The record is its first 512 bytes; the rest of it is unused.
    pub fn slot(&self, slot: SlotId) -> Span {
        slot_in(self.area, slot)
    }

    /// One node's heartbeat granule; `None` for a node that the area has no room for.
    pub fn heartbeat(&self, node: NodeId) -> Option<Span> {
        let first = self.slot(SlotId::A).end;
        (node.0 < self.spec.nodes).then(|| Span::at(first + times(GRANULE, node.0), GRANULE))
    }

    /// One node's bitmap; `None` for a node that the area has no room for.
    pub fn bitmap(&self, node: NodeId) -> Option<Span> {
        let first = self.slot(SlotId::A).end + times(GRANULE, self.spec.nodes);
        (node.0 < self.spec.nodes).then(|| Span::at(first + times(self.spec.bitmap_stride(), node.0), self.spec.bitmap))
    }

    /// Where ordinary copying ends: at the source's end, or where the overlay range starts.
    pub fn bulk_end(&self) -> Bytes {
        self.source_len.min(self.area.start)
    }

    /// The source's bytes that can be copied only when the area goes. Empty where the area lies past the end.
    pub fn overlay(&self) -> Span {
        Span::new(self.bulk_end(), self.source_len)
    }

    /// What of the overlay range is copied before the slots' granules: at most two pieces, none of them empty, in the
    /// order of their places.
    pub fn overlay_without_slots(&self) -> Vec<Span> {
        let [a, b] = SlotId::BOTH.map(|slot| self.slot(slot));
        [Span::new(a.end, b.start), Span::new(b.end, self.source_len.max(b.end))]
            .into_iter()
            .map(|gap| self.of_source(gap))
            .filter(|piece| !piece.is_empty())
            .collect()
    }

    /// What of a slot's granule belongs to the source's data. Empty where the area lies past the source's end, or where
    /// the source ends before this slot; such a slot is erased instead of overwritten.
    pub fn slot_source_part(&self, slot: SlotId) -> Span {
        self.of_source(self.slot(slot))
    }

    /// The part of [`Layout::slot_source_part`] that shares a physical block with the record. It is written twice, each time
    /// in one write: first with the source's data behind the record that stands on, and last of all, after a flush, with the
    /// data in the record's place too. Once the record is gone, nothing tells a restart that the rest was still to be copied.
    pub fn slot_head(&self, slot: SlotId, target_physical_block: Bytes) -> Span {
        let granule = self.slot(slot);
        self.of_source(Span::at(granule.start, target_physical_block.min(GRANULE)))
    }

    /// The part of [`Layout::slot_source_part`] behind the record's physical block. It is copied while both records stand.
    pub fn slot_rest(&self, slot: SlotId, target_physical_block: Bytes) -> Span {
        let granule = self.slot(slot);
        self.of_source(Span::new(granule.start + target_physical_block.min(GRANULE), granule.end))
    }

    /// What of `span` lies below the source's end.
    fn of_source(&self, span: Span) -> Span {
        Span::new(span.start.min(self.source_len), span.end.min(self.source_len))
    }
}

fn slot_in(area: Span, slot: SlotId) -> Span {
    match slot {
        SlotId::A => Span::at(area.start, GRANULE),
        SlotId::B => Span::new(area.end - GRANULE, area.end),
    }
}

fn times(size: Bytes, count: u16) -> Bytes {
    Bytes(size.0 * u64::from(count))
}

#[cfg(test)]
mod tests;
