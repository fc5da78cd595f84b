//! The list of what could not be read from the source.
//!
//! Pure. Bounded: neighbours with the same errno are merged, and past [`MOST_RANGES`] the copy stops.

use rangemap::RangeMap;
use serde::Serialize;

use crate::units::{Bytes, Lba, Span};

/// How many separate ranges are listed before a copy gives up.
pub const MOST_RANGES: usize = 10_000;

/// One range that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Where, in bytes.
    #[serde(flatten)]
    pub span: Span,
    /// Where, in the source's logical blocks.
    pub lba: Lba,
    /// How many logical blocks.
    pub blocks: u64,
    /// The kernel's errno for it.
    pub errno: i32,
}

/// All of them, in order of their place.
#[derive(Clone, Debug, Default)]
pub struct UnreadableList {
    ranges: RangeMap<u64, i32>,
}

impl UnreadableList {
    /// Adds the block `span`. `false` where the list is full.
    pub fn add(&mut self, span: Span, errno: i32) -> bool {
        self.ranges.insert(span.start.0..span.end.0, errno);
        self.ranges.len() <= MOST_RANGES
    }

    /// Whether any byte of `span` is on the list.
    pub fn touches(&self, span: Span) -> bool {
        self.ranges.overlaps(&(span.start.0..span.end.0))
    }

    /// How many bytes of the list lie below `watermark`.
    pub fn below(&self, watermark: Bytes) -> Bytes {
        let below = self.ranges.iter().take_while(|(range, _)| range.start < watermark.0);
        below.map(|(range, _)| Bytes(range.end.min(watermark.0) - range.start)).sum()
    }

    /// The list, for a source with logical blocks of `block`.
    pub fn listed(&self, block: Bytes) -> Vec<Unreadable> {
        let entry = |(range, &errno): (&std::ops::Range<u64>, &i32)| {
            let span = Span::new(Bytes(range.start), Bytes(range.end));
            Unreadable { span, lba: span.start.lba(block), blocks: span.len().0 / block.0, errno }
        };
        self.ranges.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, end: u64) -> Span {
        Span::new(Bytes(start), Bytes(end))
    }

    #[test]
    fn neighbours_merge_in_any_order_unless_their_errnos_differ() {
        let mut list = UnreadableList::default();
        for (start, errno) in [(1024, 5), (0, 5), (2048, 61), (512, 5), (1536, 5)] {
            assert!(list.add(span(start, start + 512), errno));
        }
        let listed: Vec<_> = list.listed(Bytes(512)).into_iter().map(|u| (u.span, u.blocks, u.errno)).collect();
        assert_eq!(listed, [(span(0, 2048), 4, 5), (span(2048, 2560), 1, 61)]);
        assert_eq!([0, 512, 700, 2048, 9999].map(|at| list.below(Bytes(at)).0), [0, 512, 700, 2048, 2560]);
        assert!(list.touches(span(2559, 3000)) && !list.touches(span(2560, 3000)));
    }

    #[test]
    fn the_list_is_bounded() {
        let mut list = UnreadableList::default();
        let added = (0..).take_while(|i| list.add(span(i * 1024, i * 1024 + 512), 5)).count();
        assert_eq!(added, MOST_RANGES);
    }
}
