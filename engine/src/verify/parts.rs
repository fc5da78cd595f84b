//! Which part of a copy is verified by its digests and which by reading both sides.
//!
//! Pure.

use rangemap::RangeSet;

use crate::copy::unreadable::Unreadable;
use crate::units::{Bytes, Span};

/// Which part of a verify is done how.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts {
    /// Bytes that are compared with digests.
    pub by_digest: Bytes,
    /// Ranges that are read on both sides.
    pub by_reading: Vec<Span>,
    /// Bytes of which nothing can be said.
    pub left_out: Bytes,
}

impl Parts {
    /// Everything outside the digests' span is read on both sides, and so is what lies around unreadable blocks in it, whose
    /// extents have no digest. The unreadable blocks themselves, widened to `block`, are left out.
    pub fn of(
        whole: Span,
        digested: Span,
        extent: Bytes,
        block: Bytes,
        unreadable: &[Unreadable],
        suspects: &[Span],
    ) -> Self {
        let range = |span: Span| span.start.0..span.end.0;
        let mut by_reading = RangeSet::new();
        for outside in [Span::new(whole.start, digested.start), Span::new(digested.end, whole.end)] {
            if !outside.is_empty() {
                by_reading.insert(range(outside));
            }
        }
        let mut touched = RangeSet::new();
        for Unreadable { span, .. } in unreadable.iter().filter(|bad| bad.span.overlaps(digested)) {
            let from = digested.start + (span.start.saturating_sub(digested.start)).align_down(extent);
            let to = digested.end.min(digested.start + (span.end - digested.start).align_up(extent));
            touched.insert(from.0..to.0);
        }
        let undigested: u64 = touched.iter().map(|range| range.end - range.start).sum();
        by_reading.extend(touched);
        by_reading.extend(suspects.iter().map(|&span| range(span)));
        let mut left_out = RangeSet::new();
        for Unreadable { span, .. } in unreadable {
            left_out.insert(span.start.align_down(block).0..span.end.align_up(block).0);
        }
        for range in left_out.iter() {
            by_reading.remove(range.clone());
        }
        Self {
            by_digest: digested.len() - Bytes(undigested),
            by_reading: by_reading.iter().map(|range| Span::new(Bytes(range.start), Bytes(range.end))).collect(),
            left_out: left_out.iter().map(|range| Bytes(range.end - range.start)).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Lba;

    fn span(start: u64, end: u64) -> Span {
        Span::new(Bytes(start), Bytes(end))
    }

    fn bad(start: u64, end: u64) -> Unreadable {
        Unreadable { span: span(start, end), lba: Lba(start / 10), blocks: (end - start) / 10, errno: 5 }
    }

    fn parts(unreadable: &[Unreadable], suspects: &[Span]) -> Parts {
        // Extents of 100 from 200 on; blocks of 20.
        Parts::of(span(0, 1000), span(200, 900), Bytes(100), Bytes(20), unreadable, suspects)
    }

    #[test]
    fn what_has_no_digest_is_read() {
        let all = parts(&[], &[]);
        assert_eq!((all.by_digest, all.left_out), (Bytes(700), Bytes(0)));
        assert_eq!(all.by_reading, [span(0, 200), span(900, 1000)]);
    }

    #[test]
    fn the_rest_of_an_extent_with_a_bad_block_is_read_and_the_block_is_not() {
        let around = parts(&[bad(330, 340), bad(940, 950)], &[]);
        assert_eq!((around.by_digest, around.left_out), (Bytes(600), Bytes(40)));
        let read = [span(0, 200), span(300, 320), span(340, 400), span(900, 940), span(960, 1000)];
        assert_eq!(around.by_reading, read);
    }

    #[test]
    fn a_bad_run_over_extents_and_the_last_short_one() {
        let around = parts(&[bad(380, 420), bad(880, 900)], &[]);
        assert_eq!((around.by_digest, around.left_out), (Bytes(400), Bytes(60)));
        let read = [span(0, 200), span(300, 380), span(420, 500), span(800, 880), span(900, 1000)];
        assert_eq!(around.by_reading, read);
    }

    #[test]
    fn what_differed_by_digest_is_read_too() {
        assert_eq!(parts(&[], &[span(400, 500)]).by_reading, [span(0, 200), span(400, 500), span(900, 1000)]);
    }
}
