//! The extent queue: hands out extents in order, takes them back in any order, and knows the watermark.
//!
//! Pure: every answer follows from the calls made so far. Workers share one queue behind a lock of their own.
//!
//! ```text
//!   start        lo                 next        hi            end
//!     |----done---|--in flight, done,--|----------|-------------|
//!                 |   pending zeroes   |          |
//!                 '---------- the window ---------'
//! ```
//!
//! What holds after every call:
//! - each byte of `[start, next)` is in exactly one of: below `lo`, in flight, finished, pending zero;
//! - every byte below `lo` is finished, and `lo` never falls;
//! - nothing at or above `lo + window`, or above the limit, is handed out.
//!
//! Extents that turned out to be zeroes are not punched one by one, which is slower than writing them: they wait here until
//! their neighbours are known, and leave as one run.

use std::collections::BTreeMap;

use crate::lun::Segment;
use crate::units::{Bytes, Span};

/// The sizes that a queue works with.
#[derive(Clone, Copy, Debug)]
pub struct QueueSizes {
    /// The length of an extent. The last one may be shorter.
    pub extent: Bytes,
    /// How far the queue runs ahead of the watermark.
    pub window: Bytes,
    /// The longest run of zeroes that is punched in one command.
    pub max_run: Bytes,
    /// The longest hole of the source that is handed out in one piece: `max_run`, or an extent where zeroes are written.
    pub max_hole: Bytes,
}

/// What a worker should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Read this extent and write it.
    Extent(Span),
    /// This range of the source is a hole: nothing needs to be read.
    Hole(Span),
    /// Make this range of the target read as zeroes. Every extent in it was read, or known, to be zeroes.
    Punch(Span),
    /// Nothing now; ask again after another extent has come back.
    Wait,
    /// Nothing any more.
    Finished,
}

/// The queue over one span of a LUN.
#[derive(Debug)]
pub struct ExtentQueue {
    sizes: QueueSizes,
    start: Bytes,
    end: Bytes,
    limit: Bytes,
    lo: Bytes,
    next: Bytes,
    stopped: bool,
    in_flight: BTreeMap<Bytes, Bytes>,
    finished: BTreeMap<Bytes, Bytes>,
    zeroes: BTreeMap<Bytes, Bytes>,
    segment: Option<Segment>,
}

impl ExtentQueue {
    /// A queue over `span`. The grid of extents starts at `span.start`.
    ///
    /// # Panics
    /// Where a size is zero, or the window is smaller than an extent.
    pub fn new(span: Span, sizes: QueueSizes) -> Self {
        assert!(sizes.extent > Bytes::ZERO && sizes.window >= sizes.extent, "{sizes:?}");
        assert!(sizes.max_run >= sizes.extent && sizes.max_hole >= sizes.extent, "{sizes:?}");
        Self {
            sizes,
            start: span.start,
            end: span.end,
            limit: span.end,
            lo: span.start,
            next: span.start,
            stopped: false,
            in_flight: BTreeMap::new(),
            finished: BTreeMap::new(),
            zeroes: BTreeMap::new(),
            segment: None,
        }
    }

    /// The watermark: everything from the span's start to here has come back as done.
    pub fn lo(&self) -> Bytes {
        self.lo
    }

    /// What lies above the watermark.
    pub fn rest(&self) -> Span {
        Span::new(self.lo, self.end)
    }

    /// Whether all of the span is done.
    pub fn is_complete(&self) -> bool {
        self.lo == self.end
    }

    /// Hands out nothing new from now on. What is in flight still comes back.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Nothing from `hi` on is handed out until the limit is raised. The limit never falls below what was handed out.
    pub fn set_limit(&mut self, hi: Bytes) {
        self.limit = hi.clamp(self.next, self.end);
    }

    /// As [`ExtentQueue::set_limit`], where that raises it.
    pub fn raise_limit(&mut self, hi: Bytes) {
        self.set_limit(hi.max(self.limit));
    }

    /// The next thing to do. `scout` tells what the source knows of a position; it is asked only at the borders of its
    /// own answers.
    ///
    /// # Errors
    /// The scout's.
    pub fn take<E>(&mut self, scout: impl FnOnce(Bytes) -> Result<Segment, E>) -> Result<Take, E> {
        if self.stopped {
            return Ok(Take::Finished);
        }
        if let Some(run) = self.ready_run() {
            self.zeroes.remove(&run.start);
            self.in_flight.insert(run.start, run.end);
            return Ok(Take::Punch(run));
        }
        if self.next == self.end {
            let nothing_left = self.in_flight.is_empty() && self.zeroes.is_empty();
            return Ok(if nothing_left { Take::Finished } else { Take::Wait });
        }
        let extent = self.next_extent();
        if extent.end > self.hi() {
            return Ok(Take::Wait);
        }
        let hole = self.hole_from(extent, scout)?;
        let span = hole.unwrap_or(extent);
        self.next = span.end;
        self.in_flight.insert(span.start, span.end);
        Ok(if hole.is_some() { Take::Hole(span) } else { Take::Extent(span) })
    }

    /// What was handed out as `span` is done: both LUNs hold the same there.
    ///
    /// # Panics
    /// Where `span` was not handed out, or has come back already.
    pub fn done(&mut self, span: Span) {
        self.land(span);
        self.finished.insert(span.start, span.end);
        while let Some(end) = self.finished.remove(&self.lo) {
            self.lo = end;
        }
    }

    /// The extent or hole `span` is all zeroes on the source; its punch will be handed out as part of a run.
    ///
    /// # Panics
    /// As [`ExtentQueue::done`].
    pub fn zero(&mut self, span: Span) {
        self.land(span);
        let mut run = span;
        let before = self.zeroes.range(..run.start).next_back().map(|(&start, &end)| Span::new(start, end));
        if let Some(before) = before.filter(|b| b.end == run.start && (b.len() + run.len()) <= self.sizes.max_run) {
            self.zeroes.remove(&before.start);
            run.start = before.start;
        }
        if let Some(&end) = self.zeroes.get(&run.end)
            && end - run.start <= self.sizes.max_run
        {
            self.zeroes.remove(&run.end);
            run.end = end;
        }
        self.zeroes.insert(run.start, run.end);
    }

    /// What was handed out as `span` comes back undone. Only a queue that was stopped, or will be, may forget it.
    ///
    /// # Panics
    /// As [`ExtentQueue::done`].
    pub fn abandon(&mut self, span: Span) {
        self.land(span);
        self.stopped = true;
    }

    /// Whether nothing is out and nothing will be handed out any more.
    pub fn is_idle(&self, stopping: bool) -> bool {
        self.is_complete() || ((self.stopped || stopping) && self.in_flight.is_empty())
    }

    fn land(&mut self, span: Span) {
        let end = self.in_flight.remove(&span.start);
        assert_eq!(end, Some(span.end), "{span} came back, but was not in flight");
    }

    fn hi(&self) -> Bytes {
        self.limit.min(Bytes(self.lo.0.saturating_add(self.sizes.window.0)))
    }

    fn next_extent(&self) -> Span {
        Span::new(self.next, self.end.min(self.next + self.sizes.extent))
    }

    /// The hole that starts at `extent.start`, cut to whole extents, to the window and to the longest hole allowed; none
    /// where less than an extent is a hole.
    fn hole_from<E>(
        &mut self,
        extent: Span,
        scout: impl FnOnce(Bytes) -> Result<Segment, E>,
    ) -> Result<Option<Span>, E> {
        let segment = match self.segment.filter(|s| extent.start < s.end) {
            Some(segment) => segment,
            None => {
                let mut segment = scout(extent.start)?;
                if segment.is_hole {
                    // Above the limit others may still write: what is a hole there now may be none when the limit has risen.
                    segment.end = segment.end.min(self.limit);
                }
                *self.segment.insert(segment)
            }
        };
        if !segment.is_hole || segment.end < extent.end {
            return Ok(None);
        }
        let most = segment.end.min(self.hi()).min(extent.start + self.sizes.max_hole);
        let end = if most >= self.end {
            self.end
        } else {
            extent.end.max(self.start + (most - self.start).align_down(self.sizes.extent))
        };
        Ok(Some(Span::new(extent.start, end)))
    }

    /// A run of zeroes that can't grow any more, or is as long as allowed.
    fn ready_run(&self) -> Option<Span> {
        let blocked = self.next == self.end || self.next_extent().end > self.hi();
        let runs = self.zeroes.iter().map(|(&start, &end)| Span::new(start, end));
        runs.into_iter().find(|run| {
            let full = run.len() + self.sizes.extent > self.sizes.max_run;
            let left_open = self.in_flight.values().any(|&end| end == run.start);
            let right_open = self.in_flight.contains_key(&run.end) || (run.end == self.next && !blocked);
            full || !(left_open || right_open)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const SIZES: QueueSizes =
        QueueSizes { extent: Bytes(10), window: Bytes(40), max_run: Bytes(30), max_hole: Bytes(30) };

    fn data(_: Bytes) -> Result<Segment, Infallible> {
        Ok(Segment { is_hole: false, end: Bytes(u64::MAX) })
    }

    fn span(start: u64, end: u64) -> Span {
        Span::new(Bytes(start), Bytes(end))
    }

    #[test]
    fn extents_leave_in_order_and_the_last_one_is_short() {
        let mut queue = ExtentQueue::new(span(5, 30), SIZES);
        for extent in [span(5, 15), span(15, 25), span(25, 30)] {
            assert_eq!(queue.take(data).unwrap(), Take::Extent(extent));
        }
        assert_eq!(queue.take(data).unwrap(), Take::Wait);
        for extent in [span(25, 30), span(5, 15)] {
            queue.done(extent);
        }
        assert_eq!(queue.lo(), Bytes(15), "the middle one is still out");
        queue.done(span(15, 25));
        assert_eq!(queue.lo(), Bytes(30));
        assert_eq!(queue.take(data).unwrap(), Take::Finished);
    }

    #[test]
    fn a_slow_extent_holds_the_window() {
        let mut queue = ExtentQueue::new(span(0, 1000), SIZES);
        for i in 0..4 {
            assert_eq!(queue.take(data).unwrap(), Take::Extent(span(i * 10, i * 10 + 10)));
        }
        for i in 1..4 {
            queue.done(span(i * 10, i * 10 + 10));
        }
        assert_eq!(queue.take(data).unwrap(), Take::Wait);
        queue.done(span(0, 10));
        assert_eq!(queue.take(data).unwrap(), Take::Extent(span(40, 50)));
    }

    #[test]
    fn the_limit_holds_back_what_lies_above_it() {
        let mut queue = ExtentQueue::new(span(0, 100), SIZES);
        queue.set_limit(Bytes(10));
        assert_eq!(queue.take(data).unwrap(), Take::Extent(span(0, 10)));
        assert_eq!(queue.take(data).unwrap(), Take::Wait);
        queue.set_limit(Bytes(20));
        assert_eq!(queue.take(data).unwrap(), Take::Extent(span(10, 20)));
        queue.raise_limit(Bytes(30));
        queue.raise_limit(Bytes(20));
        assert_eq!(queue.take(data).unwrap(), Take::Extent(span(20, 30)), "a raised limit stays");
        assert_eq!(queue.take(data).unwrap(), Take::Wait);
    }

    #[test]
    fn neighbouring_zeroes_leave_as_one_run() {
        let mut queue = ExtentQueue::new(span(0, 50), SIZES);
        let out: Vec<_> = (0..4).map(|_| queue.take(data).unwrap()).collect();
        assert_eq!(out.len(), 4);
        queue.zero(span(10, 20));
        assert_eq!(queue.take(data).unwrap(), Take::Wait, "its neighbours may be zeroes too");
        queue.zero(span(20, 30));
        queue.done(span(0, 10));
        queue.done(span(30, 40));
        assert_eq!(queue.take(data).unwrap(), Take::Punch(span(10, 30)));
        assert_eq!(queue.lo(), Bytes(10), "a punch that is out is not done");
        queue.done(span(10, 30));
        assert_eq!(queue.lo(), Bytes(40));
    }

    #[test]
    fn a_window_full_of_zeroes_does_not_block() {
        let mut queue = ExtentQueue::new(span(0, 1000), SIZES);
        for _ in 0..4 {
            queue.take(data).unwrap();
        }
        for i in 0..4 {
            queue.zero(span(i * 10, i * 10 + 10));
        }
        assert_eq!(queue.take(data).unwrap(), Take::Punch(span(0, 30)), "as long as a run may be");
        assert_eq!(queue.take(data).unwrap(), Take::Wait, "the window is full, and the run's left neighbour is out");
        queue.done(span(0, 30));
        assert_eq!(queue.take(data).unwrap(), Take::Extent(span(40, 50)), "the run may still grow to the right");
    }

    #[test]
    fn a_hole_is_taken_whole_but_within_bounds() {
        let mut queue = ExtentQueue::new(span(0, 100), SIZES);
        let hole = |_| Ok::<_, Infallible>(Segment { is_hole: true, end: Bytes(95) });
        assert_eq!(queue.take(hole).unwrap(), Take::Hole(span(0, 30)));
        assert_eq!(queue.take(hole).unwrap(), Take::Hole(span(30, 40)), "no further than the window");
        queue.done(span(0, 30));
        queue.done(span(30, 40));
        assert_eq!(queue.take(hole).unwrap(), Take::Hole(span(40, 70)));
        queue.done(span(40, 70));
        assert_eq!(queue.take(hole).unwrap(), Take::Hole(span(70, 90)), "cut to whole extents");
        assert_eq!(queue.take(hole).unwrap(), Take::Extent(span(90, 100)), "a part of it is data");
    }

    #[test]
    fn a_stopped_queue_gives_nothing_and_keeps_its_watermark() {
        let mut queue = ExtentQueue::new(span(0, 100), SIZES);
        queue.take(data).unwrap();
        queue.take(data).unwrap();
        queue.zero(span(10, 20));
        queue.stop();
        assert_eq!(queue.take(data).unwrap(), Take::Finished);
        queue.done(span(0, 10));
        assert_eq!(queue.lo(), Bytes(10), "zeroes that were not punched are not done");
    }

    #[test]
    #[should_panic(expected = "was not in flight")]
    fn an_extent_comes_back_once() {
        let mut queue = ExtentQueue::new(span(0, 100), SIZES);
        queue.take(data).unwrap();
        queue.done(span(0, 10));
        queue.done(span(0, 10));
    }

    proptest! {
        /// Any order of completions, any mix of data, zeroes and holes: each byte is done exactly once, the watermark
        /// never claims a byte that is not, and the queue never blocks for good.
        #[test]
        fn every_byte_is_done_exactly_once(
            start in 0u64..100, len in 0u64..400, kinds in prop::collection::vec(0u8..3, 1..60), seed in any::<u64>(),
        ) {
            let end = start + len;
            let mut queue = ExtentQueue::new(span(start, end), SIZES);
            let mut covered = vec![false; usize::try_from(len).unwrap()];
            let mut out: Vec<Take> = Vec::new();
            let mut dice = seed;
            let mut steps = 0;
            loop {
                steps += 1;
                prop_assert!(steps < 10_000, "blocked: {queue:?}");
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let kind = |at: Bytes| kinds[usize::try_from(at.0 / 17).unwrap() % kinds.len()];
                let scout = |at: Bytes| Ok::<_, Infallible>(Segment {
                    is_hole: kind(at) == 2, end: Bytes((at.0 / 17 + 1) * 17),
                });
                let take = queue.take(scout).unwrap();
                match take {
                    Take::Finished => break,
                    Take::Wait => prop_assert!(!out.is_empty(), "waits for nothing: {queue:?}"),
                    other => out.push(other),
                }
                if take == Take::Wait || dice >> 63 == 1 {
                    let pick = usize::try_from(dice >> 32).unwrap() % out.len().max(1);
                    if pick < out.len() {
                        match out.swap_remove(pick) {
                            Take::Extent(s) | Take::Hole(s) if kind(s.start) > 0 => queue.zero(s),
                            Take::Extent(s) | Take::Hole(s) | Take::Punch(s) => {
                                for byte in s.start.0..s.end.0 {
                                    let seen = &mut covered[usize::try_from(byte - start).unwrap()];
                                    prop_assert!(!*seen, "byte {byte} done twice");
                                    *seen = true;
                                }
                                queue.done(s);
                            }
                            Take::Wait | Take::Finished => unreachable!("never put there"),
                        }
                    }
                }
                let lo = usize::try_from(queue.lo().0 - start).unwrap();
                prop_assert!(covered[..lo].iter().all(|&c| c), "the watermark claims too much");
            }
            prop_assert!(queue.is_complete() && covered.iter().all(|&c| c));
        }
    }
}
