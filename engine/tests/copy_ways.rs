//! Copies of every size and shape, what becomes of zeroes, digests, and LUNs that lie: the comparison must catch each.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::single_range_in_vec_init, reason = "lists of one range are meant")]

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use lunferry_engine::checkpoint::layout::{AreaSpec, LayoutKind};
use lunferry_engine::checkpoint::state::State;
use lunferry_engine::copy::session::End;
use lunferry_engine::copy::zeroes::{GRAIN, ZeroMode};
use lunferry_engine::digest::{DigestTable, contribution};
use lunferry_engine::lun::{LunIo, Segment};
use lunferry_engine::units::{Bytes, Span};
use lunferry_fixtures::faults::{FaultPlan, Faulty, Op};
use lunferry_fixtures::pair::Pair;
use lunferry_fixtures::rig::{Ran, Rig};
use lunferry_fixtures::sim::SimLun;

const EXTENT: usize = 8192;
const MODES: [ZeroMode; 3] = [ZeroMode::Write, ZeroMode::Punch, ZeroMode::Skip];

/// Copies onto a target that refuses requests off its blocks' borders, and looks at every byte. The LUN and its layer.
fn copied(pair: &Pair, holes: &[Range<usize>], seed: u64, what: &str) -> (Ran, Faulty<SimLun>) {
    let source = pair.source_lun(seed);
    source.set_holes(holes.to_vec());
    let strict = |block: Bytes| FaultPlan { block: block.as_len(), ..FaultPlan::default() };
    let lun = pair.target_lun(!seed);
    let target = Faulty::new(lun.clone(), strict(pair.rig.block));
    let ran = pair.copy(&Faulty::new(source, strict(pair.rig.source_block)), &target);
    assert_eq!(*ran.end.as_ref().unwrap(), End::Complete, "{what}");
    pair.check(&lun, what);
    match pair.rig.layout().kind() {
        LayoutKind::PastEnd => assert_eq!(pair.checkpoint(&lun).unwrap().state, State::Committed, "{what}"),
        LayoutKind::Overlay => assert_eq!(pair.checkpoint(&lun), None, "{what}"),
    }
    (ran, target)
}

/// Several blocks, lanes and seeds of one pair of lengths.
fn every_way(rig: &Rig, lens: &[u64]) {
    for (i, &len) in lens.iter().enumerate() {
        for (lanes, seed) in [(1, 1), (2, 2), (5, 3), (16, 4)] {
            let mut rig = rig.clone();
            (rig.lanes, rig.zeroes) = (lanes, MODES[(i + lanes) % 3]);
            copied(&Pair::new(rig), &[], seed, &format!("{len} bytes, {lanes} lanes, seed {seed}"));
        }
    }
}

#[test]
fn every_size_past_the_end() {
    let extent = EXTENT as u64;
    for block in [512, 4096] {
        let lens =
            [block, extent - block, extent, extent + block, 3 * extent, 7 * extent + block, 8 * extent - block, 65536];
        for len in lens.into_iter().filter(|&len| len > 0) {
            for physical in [block, 4096] {
                let mut rig = Pair::past_end(len);
                (rig.source_block, rig.block, rig.physical) = (Bytes(block), Bytes(block), Bytes(physical));
                every_way(&rig, &[len]);
            }
        }
    }
}

#[test]
fn every_size_of_an_overlay() {
    let area = AreaSpec::COMPACT.size.0;
    // Behind the last granule of the target there may be a rest that belongs to nobody, or to the source.
    let sizes = [
        (area, area),
        (area + 65536, area + 65536),
        (area + 3 * 65536 + 4096, area + 3 * 65536 + 4096),
        (area - 65536, area + 4096),
        (area + 4096, area + 65536),
        (area + 65536 - 4096, area + 65536),
        (area + 2 * 65536 + 8192, area + 4 * 65536),
        (2 * 65536 + 4096, area + 65536 + 4096),
    ];
    for block in [512, 4096] {
        for (source, target) in sizes {
            let mut rig = Pair::overlay(0);
            (rig.source_len, rig.target_len) = (Bytes(source), Bytes(target));
            (rig.source_block, rig.block, rig.physical) = (Bytes(block), Bytes(block), Bytes(4096));
            (rig.extent, rig.every) = (Bytes(32768), Bytes(65536));
            assert_eq!(rig.layout().kind(), LayoutKind::Overlay, "{source} of {target}");
            every_way(&rig, &[source]);
        }
    }
}

#[test]
fn blocks_may_differ_on_the_two_sides() {
    for (source, target) in [(512, 4096), (4096, 512)] {
        for mut rig in [Pair::past_end(9 * 8192 + 4096), Pair::overlay(65536)] {
            (rig.source_block, rig.block, rig.physical) = (Bytes(source), Bytes(target), Bytes(4096));
            every_way(&rig, &[rig.source_len.0]);
        }
    }
}

/// A pair with these zero extents on its source.
fn with_zeroes(extents: usize, zero: &[usize], zeroes: ZeroMode) -> Pair {
    let mut rig = Pair::past_end((extents * EXTENT) as u64 + 512);
    rig.zeroes = zeroes;
    let mut pair = Pair::new(rig);
    for &extent in zero {
        pair.source[extent * EXTENT..(extent + 1) * EXTENT].fill(0);
    }
    pair
}

/// The digests of what was copied in bulk, from the bytes alone.
fn digests_of(pair: &Pair, bytes: &[u8]) -> DigestTable {
    let extent = pair.rig.extent;
    let bulk = pair.rig.layout().bulk_end();
    let mut table = DigestTable::new(Span::new(Bytes::ZERO, bulk), extent);
    for (i, data) in bytes[..bulk.as_len()].chunks(extent.as_len()).enumerate() {
        let at = Bytes((i * extent.as_len()) as u64);
        table.add(at, contribution(at, data));
    }
    table
}

#[test]
fn zeroes_and_holes_in_every_mode_with_their_digests() {
    let zero = [0, 3, 4, 5, 9, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 39];
    let holes = [
        vec![],
        vec![3 * EXTENT..6 * EXTENT],
        vec![20 * EXTENT..36 * EXTENT, 39 * EXTENT..40 * EXTENT],
        // Off the grid of the extents.
        vec![3 * EXTENT + 512..5 * EXTENT + 1024, 20 * EXTENT..20 * EXTENT + 512],
    ];
    for mode in MODES {
        for (holes, lanes) in holes.iter().flat_map(|holes| [(holes, 1), (holes, 4)]) {
            let mut pair = with_zeroes(40, &zero, mode);
            pair.rig.lanes = lanes;
            let what = format!("{mode:?}, holes {holes:?}, {lanes} lanes");
            let (ran, target) = copied(&pair, holes, 9, &what);
            let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            let zeroes = (zero.len() * EXTENT) as u64;
            let (zeroed, skipped) = if mode == ZeroMode::Skip { (0, zeroes) } else { (zeroes, 0) };
            assert_eq!((count(&ran.progress.zeroed), count(&ran.progress.skipped)), (zeroed, skipped), "{what}");
            assert_eq!(count(&ran.progress.copied), pair.source.len() as u64 - zeroes, "{what}");
            let bytes_by = |op| -> u64 {
                target.requests().iter().filter(|(other, _)| *other == op).map(|(_, span)| span.len().0).sum()
            };
            let data = pair.source.len() as u64 - zeroes;
            let want = match mode {
                ZeroMode::Write => (data + zeroes, 0),
                ZeroMode::Punch => (data, zeroes),
                ZeroMode::Skip => (data, 0),
            };
            assert_eq!((bytes_by(Op::Write), bytes_by(Op::Punch)), want, "{what}");
            assert!(ran.digests.differences(&digests_of(&pair, &pair.source)).is_empty(), "{what}");
        }
    }
}

#[test]
fn one_byte_anywhere_changes_the_digests() {
    for mode in MODES {
        let pair = with_zeroes(12, &[3, 4, 7], mode);
        let (ran, _) = copied(&pair, &[], 9, "digests");
        for at in [0, 5000, 3 * EXTENT, 5 * EXTENT - 1, 7 * EXTENT + 77, pair.source.len() - 1] {
            let mut other = pair.source.clone();
            other[at] ^= 1;
            let differ = ran.digests.differences(&digests_of(&pair, &other));
            assert!(
                matches!(differ[..], [one] if one.overlaps(Span::at(Bytes(at as u64), Bytes(1)))),
                "{mode:?}, {at}"
            );
        }
    }
}

#[test]
fn neighbouring_zeroes_are_punched_together() {
    for lanes in [1, 3, 8] {
        let zero: Vec<usize> = (2..26).chain([30, 31]).collect();
        let mut pair = with_zeroes(40, &zero, ZeroMode::Punch);
        pair.rig.lanes = lanes;
        let (_, target) = copied(&pair, &[], 4, "punches");
        // A run is as long as a window, four extents a lane, or an extent less.
        let most = 24usize.div_ceil(4 * lanes - 1) + 2;
        assert!(target.count(Op::Punch) <= most, "{lanes} lanes: {} punches", target.count(Op::Punch));
    }
}

#[test]
fn grains_of_zeroes_are_not_written_where_the_target_has_them() {
    let mut rig = Pair::past_end(10 * GRAIN as u64);
    (rig.extent, rig.zeroes) = (Bytes(5 * GRAIN as u64), ZeroMode::Skip);
    let mut pair = Pair::new(rig);
    pair.source[GRAIN..2 * GRAIN].fill(0);
    pair.source[4 * GRAIN..8 * GRAIN].fill(0);
    let (ran, target) = copied(&pair, &[], 4, "grains");
    let mut writes: Vec<_> =
        target.requests().into_iter().filter(|(op, _)| *op == Op::Write).map(|(_, span)| span).collect();
    writes.sort();
    let grains = |from: usize, to: usize| Span::new(Bytes((from * GRAIN) as u64), Bytes((to * GRAIN) as u64));
    assert_eq!(writes, [grains(0, 1), grains(2, 4), grains(8, 10)]);
    assert_eq!(ran.progress.skipped.load(Ordering::Relaxed), 5 * GRAIN as u64);
}

/// How a target lies about its writes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// One write is dropped.
    Drops,
    /// Two writes change places.
    Swaps,
    /// A write is done when the next one comes, the last one never; a flush does not hurry it.
    Late,
    /// Of one write a half is done, and all of it is acknowledged.
    Short,
    /// One write lands a block too far.
    Shifted,
    /// One punch is dropped.
    DropsPunch,
    /// No lie.
    None,
}

/// A target that lies at write number `n`.
struct Liar {
    lun: SimLun,
    lie: Lie,
    n: u64,
    writes: Cell<u64>,
    late: RefCell<Option<(Bytes, Vec<u8>)>>,
}

impl Liar {
    async fn put(&self, at: Bytes, data: Vec<u8>) -> io::Result<usize> {
        let len = data.len();
        self.lun.write(data, 0..len, at).await.0
    }
}

impl LunIo for Liar {
    type Buf = Vec<u8>;

    async fn read(&self, buf: Vec<u8>, part: Range<usize>, at: Bytes) -> (io::Result<usize>, Vec<u8>) {
        self.lun.read(buf, part, at).await
    }

    async fn write(&self, buf: Vec<u8>, part: Range<usize>, at: Bytes) -> (io::Result<usize>, Vec<u8>) {
        let number = self.writes.replace(self.writes.get() + 1);
        let (data, len) = (buf[part.clone()].to_vec(), part.len());
        let done = match self.lie {
            Lie::Drops if number == self.n => Ok(len),
            Lie::Short if number == self.n => self.put(at, data[..len / 2].to_vec()).await,
            Lie::Shifted if number == self.n => self.put(at + Bytes(512), data).await,
            Lie::Swaps if number == self.n => {
                *self.late.borrow_mut() = Some((at, data));
                Ok(len)
            }
            Lie::Swaps if number == self.n + 1 => {
                let (other_at, other) = self.late.take().expect("the write before");
                match self.put(at, other).await {
                    Ok(_) => self.put(other_at, data).await,
                    failed => failed,
                }
            }
            Lie::Late => match self.late.replace(Some((at, data))) {
                Some((at, data)) => self.put(at, data).await,
                None => Ok(len),
            },
            _ => self.put(at, data).await,
        };
        (done.map(|_| len), buf)
    }

    async fn punch(&self, span: Span) -> io::Result<()> {
        match self.lie {
            Lie::DropsPunch => Ok(()),
            _ => self.lun.punch(span).await,
        }
    }

    async fn flush(&self) -> io::Result<()> {
        self.lun.flush().await
    }

    fn disturbances(&self) -> io::Result<Option<u64>> {
        self.lun.disturbances()
    }

    async fn read_block(&self, at: Bytes, len: usize) -> io::Result<Vec<u8>> {
        self.lun.read_block(at, len).await
    }

    async fn write_durable(&self, at: Bytes, block: Vec<u8>) -> io::Result<()> {
        self.lun.write_durable(at, block).await
    }

    fn segment(&self, at: Bytes) -> io::Result<Segment> {
        self.lun.segment(at)
    }
}

/// These tests can fail: whatever a target makes of its writes is seen by the comparison and by the digests.
#[test]
fn a_target_that_lies_is_caught() {
    for lie in [Lie::Drops, Lie::Swaps, Lie::Late, Lie::Short, Lie::Shifted, Lie::DropsPunch, Lie::None] {
        for n in 0..8 {
            let pair = with_zeroes(12, &[5], ZeroMode::Punch);
            let lun = pair.target_lun(n);
            let liar = Liar { lun: lun.clone(), lie, n, writes: Cell::default(), late: RefCell::default() };
            let ran = pair.copy(&pair.source_lun(!n), &liar);
            assert_eq!(ran.end.unwrap(), End::Complete);
            let wrong = pair.wrong(&lun.contents(), &pair.wanted(&[]));
            let differ = ran.digests.differences(&digests_of(&pair, &lun.contents()));
            assert_eq!((wrong.is_none(), differ.is_empty()), (lie == Lie::None, lie == Lie::None), "{lie:?} at {n}");
        }
    }
}
