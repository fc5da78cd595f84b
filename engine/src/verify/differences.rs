//! What differs between two LUNs.
//!
//! Pure. Bounded: neighbours are merged, and past [`MOST_RANGES`] ranges only the blocks are counted.

use rangemap::RangeSet;
use serde::Serialize;

use crate::units::{Bytes, Lba, Span};

/// How many separate ranges are listed.
pub const MOST_RANGES: usize = 10_000;

/// One range that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where, in bytes.
    #[serde(flatten)]
    pub span: Span,
    /// Where, in the source's logical blocks.
    pub lba: Lba,
    /// How many of them.
    pub blocks: u64,
}

/// What differs, block by block.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    ranges: RangeSet<u64>,
    bytes: Bytes,
    unlisted: Bytes,
}

impl Differences {
    /// Looks at one extent, block by block. `at` is the place of both.
    pub fn compare(&mut self, at: Bytes, block: Bytes, one: &[u8], other: &[u8]) {
        assert_eq!(one.len(), other.len(), "extents of one place have one length");
        if one == other {
            return;
        }
        let step = block.as_len();
        for (i, (a, b)) in one.chunks(step).zip(other.chunks(step)).enumerate() {
            if a != b {
                self.add(Span::at(at + Bytes::from(i * step), Bytes::from(a.len())));
            }
        }
    }

    /// Adds a range that differs. Each range is added once.
    pub fn add(&mut self, span: Span) {
        self.bytes += span.len();
        if self.ranges.len() < MOST_RANGES {
            self.ranges.insert(span.start.0..span.end.0);
        } else {
            self.unlisted += span.len();
        }
    }

    /// How many bytes lie in blocks that differ.
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// How many of those are not on the list, because it is full.
    pub fn unlisted(&self) -> Bytes {
        self.unlisted
    }

    /// The ranges in order.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.ranges.iter().map(|range| Span::new(Bytes(range.start), Bytes(range.end)))
    }

    /// The ranges in order, for LUNs with blocks of `block`.
    pub fn listed(&self, block: Bytes) -> Vec<Difference> {
        let entry = |span: Span| Difference { span, lba: span.start.lba(block), blocks: span.len().0 / block.0 };
        self.spans().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_blocks_are_merged_and_counted() {
        let one = vec![0u8; 8 * 512];
        let mut other = one.clone();
        for at in [512, 1024 + 5, 2047, 7 * 512 + 511] {
            other[at] = 1;
        }
        let mut found = Differences::default();
        found.compare(Bytes(4096), Bytes(512), &one, &other);
        let listed: Vec<_> = found.listed(Bytes(512)).iter().map(|d| (d.lba.0, d.blocks)).collect();
        assert_eq!(listed, [(9, 3), (15, 1)]);
        assert_eq!(found.bytes(), Bytes(2048));
    }

    #[test]
    fn the_list_is_bounded_and_the_count_is_not() {
        let mut found = Differences::default();
        (0..MOST_RANGES as u64 + 5).for_each(|i| found.add(Span::at(Bytes(i * 1024), Bytes(512))));
        assert_eq!(found.spans().count(), MOST_RANGES);
        assert_eq!(found.unlisted(), Bytes(5 * 512));
    }
}
