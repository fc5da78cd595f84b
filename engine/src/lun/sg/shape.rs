//! What a device's answers mean for the commands that are sent to it.
//!
//! Pure: facts in, sizes and ways out.

use lunferry_scsi::page::limits::UnmappedRead;
use lunferry_scsi::units::BlockRange;

use super::facts::ScsiFacts;
use crate::units::{Bytes, Span};

/// The most that one READ or WRITE moves. Above this nothing is won, and a retried command costs more.
const LARGEST_TRANSFER: Bytes = Bytes::mib(1);

/// The most that one WRITE SAME or UNMAP covers: some devices write at disk speed what they are told to make zero, and must
/// be done within the command's timeout.
const LARGEST_ZEROING: Bytes = Bytes::mib(64);

/// A page of memory: what one segment of a request holds at least.
const PAGE: u64 = 4096;

/// What the kernel's queue of a device takes (sysfs, `queue/`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLimits {
    /// `max_hw_sectors_kb`: SG_IO above it fails with EINVAL.
    pub max_hw: Option<Bytes>,
    /// `max_segments`: a buffer that is scattered over small pages needs one for each.
    pub max_segments: Option<u64>,
    /// `fua`: the device honours FUA, by its mode parameters (SBC-3: DPOFUA in the mode parameter header), which the
    /// kernel has read.
    pub fua: bool,
}

/// How commands to one device look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its logical block.
    pub block: Bytes,
    /// Its size.
    pub capacity: Bytes,
    /// The most that one READ, WRITE or VERIFY moves: whole blocks.
    pub transfer: Bytes,
    /// The most that one WRITE SAME covers.
    pub write_same: Bytes,
    /// The most that one COMPARE AND WRITE replaces; none where the device has no such command.
    pub compare_and_write: Option<Bytes>,
    /// How ranges are unmapped, where that makes them read as zeroes.
    pub unmap: Option<Unmapping>,
}

/// How a device unmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmapping {
    /// By which command.
    pub by: UnmapBy,
    /// Smaller pieces are not unmapped.
    pub grain: Bytes,
    /// Where its grid begins.
    pub offset: Bytes,
    /// The most that one command covers.
    pub most: Bytes,
}

/// The commands that unmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmapBy {
    /// WRITE SAME(16) with UNMAP.
    WriteSame,
    /// UNMAP.
    Unmap,
}

/// Whether unmapped blocks are zeroes, by everything that the device says of it: one page that says no is enough.
pub fn unmapped_reads_zero(facts: &ScsiFacts) -> bool {
    let by_capacity = facts.capacity.geometry.map(|geometry| geometry.provisioned && geometry.unmapped_reads_zero);
    let by_page = facts.provisioning.map(|page| page.unmapped_read == UnmappedRead::Zeroes);
    by_capacity == Some(true) && by_page != Some(false)
}

/// How commands to the device look.
pub fn shape(facts: &ScsiFacts, queue: QueueLimits) -> Shape {
    let block = Bytes(u64::from(facts.capacity.block.0));
    let capacity = Bytes(facts.capacity.blocks.0.saturating_mul(block.0));
    let limits = facts.limits.as_ref();
    let blocks = |count: u64| Bytes(count.saturating_mul(block.0));
    let by_device = limits.and_then(|limits| limits.max_transfer).map(|count| blocks(u64::from(count)));
    let by_segments = queue.max_segments.map(|segments| Bytes(segments.saturating_mul(PAGE)));
    let most = [by_device, queue.max_hw, by_segments].into_iter().flatten().fold(LARGEST_TRANSFER, Bytes::min);
    let write_same = limits.and_then(|limits| limits.max_write_same).map_or(LARGEST_ZEROING, blocks);
    Shape {
        block,
        capacity,
        transfer: most.align_down(block).max(block),
        write_same: write_same.min(LARGEST_ZEROING),
        compare_and_write: limits
            .map(|limits| blocks(u64::from(limits.max_compare_and_write)))
            .filter(|most| *most > Bytes::ZERO),
        unmap: unmapping(facts, block, write_same.min(LARGEST_ZEROING)),
    }
}

fn unmapping(facts: &ScsiFacts, block: Bytes, write_same: Bytes) -> Option<Unmapping> {
    let (page, limits) = (facts.provisioning.as_ref()?, facts.limits.as_ref());
    if !unmapped_reads_zero(facts) {
        return None;
    }
    let blocks = |count: u32| Bytes(u64::from(count).saturating_mul(block.0));
    let grain = blocks(limits.and_then(|limits| limits.unmap_granularity).unwrap_or(1));
    let offset = blocks(limits.and_then(|limits| limits.unmap_alignment).unwrap_or(0));
    let most = limits.and_then(|limits| limits.max_unmap_blocks).map_or(Bytes::ZERO, blocks);
    let (by, most) = if page.write_same_16 {
        (UnmapBy::WriteSame, write_same)
    } else if page.unmap && most > Bytes::ZERO {
        (UnmapBy::Unmap, most.min(LARGEST_ZEROING))
    } else {
        return None;
    };
    // A piece between two commands that lies on no border of the grid would stay mapped.
    let most = most.align_down(grain);
    (most > Bytes::ZERO).then_some(Unmapping { by, grain, offset: Bytes(offset.0 % grain.0), most })
}

impl Shape {
    /// `span` in the device's blocks.
    ///
    /// # Panics
    /// Where it is not on their borders.
    pub fn range(&self, span: Span) -> BlockRange {
        assert!(span.start.is_multiple_of(self.block) && span.len().is_multiple_of(self.block), "{span}");
        BlockRange::new(span.start.0 / self.block.0, span.len().0 / self.block.0)
    }
}

impl Unmapping {
    /// The part of `span` that lies on the grid, and the ends before and behind it; all of it is the first end where it
    /// holds no whole piece of the grid.
    pub fn split(&self, span: Span) -> (Span, [Span; 2]) {
        let offset = self.offset;
        let up = |at: Bytes| Bytes((at.saturating_sub(offset)).align_up(self.grain).0 + offset.0);
        let start = if span.start <= offset { offset } else { up(span.start) };
        let end = if span.end < offset { Bytes::ZERO } else { (span.end - offset).align_down(self.grain) + offset };
        if start >= end {
            return (Span::new(span.end, span.end), [span, Span::new(span.end, span.end)]);
        }
        (Span::new(start, end), [Span::new(span.start, start), Span::new(end, span.end)])
    }
}

/// `span` in pieces of `most` at most.
pub fn pieces(span: Span, most: Bytes) -> impl Iterator<Item = Span> {
    let mut at = span.start;
    std::iter::from_fn(move || {
        let piece = Span::new(at, span.end.min(Bytes(at.0.saturating_add(most.0))));
        at = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, end: u64) -> Span {
        Span::new(Bytes(start), Bytes(end))
    }

    #[test]
    fn only_what_lies_on_the_grid_is_unmapped() {
        let on = |offset| Unmapping { by: UnmapBy::Unmap, grain: Bytes(40), offset: Bytes(offset), most: Bytes(400) };
        for (offset, whole, middle, ends) in [
            (0, span(0, 120), span(0, 120), [span(0, 0), span(120, 120)]),
            (0, span(10, 130), span(40, 120), [span(10, 40), span(120, 130)]),
            (0, span(10, 50), span(50, 50), [span(10, 50), span(50, 50)]),
            (30, span(0, 120), span(30, 110), [span(0, 30), span(110, 120)]),
            (30, span(31, 120), span(70, 110), [span(31, 70), span(110, 120)]),
            (30, span(0, 20), span(20, 20), [span(0, 20), span(20, 20)]),
        ] {
            assert_eq!(on(offset).split(whole), (middle, ends), "{whole} from {offset} on");
        }
    }

    #[test]
    fn pieces_cover_all_of_it() {
        assert_eq!(pieces(span(5, 30), Bytes(10)).collect::<Vec<_>>(), [span(5, 15), span(15, 25), span(25, 30)]);
        assert_eq!(pieces(span(5, 5), Bytes(10)).count(), 0);
    }
}
