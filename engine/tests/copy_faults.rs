//! Copies whose source can't be read everywhere, or whose LUNs hesitate.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lunferry_engine::checkpoint::layout::{LayoutKind, SlotId};
use lunferry_engine::checkpoint::state::State;
use lunferry_engine::copy::board::Controls;
use lunferry_engine::copy::error::{CopyError, Side};
use lunferry_engine::copy::session::End;
use lunferry_engine::copy::unreadable::{MOST_RANGES, Unreadable};
use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::units::{Bytes, Lba, Span};
use lunferry_fixtures::faults::{FaultPlan, Faulty, Op};
use lunferry_fixtures::pair::Pair;
use lunferry_fixtures::rig::simulate;
use lunferry_fixtures::sim::SimLun;
use nix::libc::{EAGAIN, EINTR, EIO, ENODATA};
use proptest::prelude::*;
use tokio::time::Instant;

const BLOCK: u64 = 512;
const PER_EXTENT: u64 = 16;

fn blocks(first: u64, end: u64) -> Span {
    Span::new(Bytes(first * BLOCK), Bytes(end * BLOCK))
}

/// What the list says of blocks `first..end`.
fn listed(first: u64, end: u64, errno: i32) -> Unreadable {
    Unreadable { span: blocks(first, end), lba: Lba(first), blocks: end - first, errno }
}

fn with_bad_blocks(pair: &Pair, bad: &[(Span, i32)], seed: u64) -> Faulty<SimLun> {
    let block = pair.rig.source_block.as_len();
    Faulty::new(pair.source_lun(seed), FaultPlan { unreadable: bad.to_vec(), block, ..FaultPlan::default() })
}

fn strict_target(pair: &Pair, seed: u64) -> (SimLun, Faulty<SimLun>) {
    let lun = pair.target_lun(seed);
    let plan = FaultPlan { block: pair.rig.block.as_len(), ..FaultPlan::default() };
    (lun.clone(), Faulty::new(lun, plan))
}

/// Copies with these blocks bad and looks at everything that the copy says and does. Nothing of the area is among them.
fn copy_around(pair: &Pair, bad: &[(Span, i32)], want: &[Unreadable], what: &str) {
    let (lun, target) = strict_target(pair, 2);
    let ran = pair.copy(&with_bad_blocks(pair, bad, 1), &target);
    assert_eq!(ran.end.unwrap(), End::Complete, "{what}");
    assert_eq!(ran.unreadable, want, "{what}");
    let spans: Vec<_> = bad.iter().map(|(span, _)| *span).collect();
    pair.check_without(&lun, &spans, what);
    let bytes: Bytes = spans.iter().map(|span| span.len()).sum();
    assert_eq!(ran.progress.unreadable.load(Ordering::Relaxed), bytes.0, "{what}");
    if pair.rig.layout().kind() == LayoutKind::PastEnd {
        let record = pair.checkpoint(&lun).unwrap();
        let state = if bad.is_empty() { State::Committed } else { State::Syncing };
        assert_eq!((record.state, record.watermark), (state, pair.rig.source_len), "{what}");
        assert_eq!(record.counters.unreadable_bytes, bytes, "{what}");
    }
}

#[test]
fn bad_blocks_anywhere_are_listed_and_the_rest_is_copied() {
    let last = 4 * PER_EXTENT + 2;
    let cases: &[&[(u64, u64)]] = &[
        &[(5, 6)],
        &[(5, 7)],
        &[(15, 17)],
        &[(0, 1)],
        &[(last, last + 1)],
        &[(16, 32)],
        &[(3, 4), (9, 12), (31, 40), (60, 61), (last - 1, last + 1)],
    ];
    for zeroes in [ZeroMode::Write, ZeroMode::Punch, ZeroMode::Skip] {
        for fill_unreadable in [false, true] {
            for bad in cases {
                let mut rig = Pair::past_end((last + 1) * BLOCK);
                (rig.zeroes, rig.fill_unreadable) = (zeroes, fill_unreadable);
                let faults: Vec<_> = bad.iter().map(|&(first, end)| (blocks(first, end), EIO)).collect();
                let want: Vec<_> = bad.iter().map(|&(first, end)| listed(first, end, EIO)).collect();
                copy_around(&Pair::new(rig), &faults, &want, &format!("{zeroes:?}, fill {fill_unreadable}, {bad:?}"));
            }
        }
    }
}

#[test]
fn neighbours_with_different_errnos_are_listed_apart() {
    let pair = Pair::new(Pair::past_end(64 * BLOCK));
    let bad = [(blocks(7, 9), EIO), (blocks(9, 10), ENODATA)];
    copy_around(&pair, &bad, &[listed(7, 9, EIO), listed(9, 10, ENODATA)], "two errnos");
}

#[test]
fn bad_blocks_at_every_place_of_an_extent() {
    for first in 0..PER_EXTENT {
        for end in first + 1..=PER_EXTENT {
            let pair = Pair::new(Pair::past_end(3 * PER_EXTENT * BLOCK));
            let (a, b) = (PER_EXTENT + first, PER_EXTENT + end);
            copy_around(&pair, &[(blocks(a, b), EIO)], &[listed(a, b, EIO)], &format!("blocks {a}..{b}"));
        }
    }
}

#[test]
fn a_small_bad_block_does_not_break_a_larger_block_of_the_target() {
    for fill_unreadable in [false, true] {
        for bad in [(3, 4), (0, 8), (7, 9), (5, 20), (40, 41)] {
            let mut rig = Pair::past_end(64 * BLOCK);
            (rig.block, rig.physical, rig.fill_unreadable) = (Bytes(4096), Bytes(4096), fill_unreadable);
            let want = [listed(bad.0, bad.1, EIO)];
            copy_around(&Pair::new(rig), &[(blocks(bad.0, bad.1), EIO)], &want, &format!("blocks {bad:?}"));
        }
    }
}

#[test]
fn a_large_bad_block_of_the_source_is_listed_in_its_own_blocks() {
    let mut rig = Pair::past_end(64 * BLOCK);
    rig.source_block = Bytes(4096);
    let span = Span::new(Bytes(8192), Bytes(12_288));
    let want = [Unreadable { span, lba: Lba(2), blocks: 1, errno: EIO }];
    copy_around(&Pair::new(rig), &[(span, EIO)], &want, "a block of 4096 bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The rescue path finds one bad block of 1024 with few reads.
    #[test]
    fn the_rescue_is_cheap(at in 0u64..1024) {
        let mut rig = Pair::past_end(1024 * BLOCK);
        (rig.extent, rig.lanes) = (Bytes(1024 * BLOCK), 1);
        let pair = Pair::new(rig);
        let source = with_bad_blocks(&pair, &[(blocks(at, at + 1), EIO)], 1);
        let (lun, target) = strict_target(&pair, 2);
        let ran = pair.copy(&source, &target);
        prop_assert_eq!(ran.unreadable, [listed(at, at + 1, EIO)]);
        prop_assert!(source.count(Op::Read) < 40, "{} reads", source.count(Op::Read));
        pair.check_without(&lun, &[blocks(at, at + 1)], &format!("block {at}"));
    }

    /// Any set of bad blocks, in any extent size.
    #[test]
    fn any_bad_blocks(picks in prop::collection::btree_set(0u64..67, 0..20), per_extent in 1u64..40, lanes in 1usize..5) {
        let mut rig = Pair::past_end(67 * BLOCK);
        (rig.extent, rig.lanes) = (Bytes(per_extent * BLOCK), lanes);
        let faults: Vec<_> = picks.iter().map(|&block| (blocks(block, block + 1), EIO)).collect();
        let mut want: Vec<Unreadable> = Vec::new();
        for &block in &picks {
            match want.last_mut() {
                Some(last) if last.span.end.0 == block * BLOCK => *last = listed(last.lba.0, block + 1, EIO),
                _ => want.push(listed(block, block + 1, EIO)),
            }
        }
        copy_around(&Pair::new(rig), &faults, &want, &format!("{picks:?} in extents of {per_extent}"));
    }
}

#[test]
fn bad_blocks_of_the_overlay_range_and_of_the_slots() {
    for (physical, fill_unreadable) in [(512, false), (4096, false), (512, true), (4096, true)] {
        let mut rig = Pair::overlay(2 * 65536);
        (rig.extent, rig.physical, rig.fill_unreadable) = (Bytes(65536), Bytes(physical), fill_unreadable);
        let pair = Pair::new(rig);
        let layout = pair.rig.layout();
        let block_of = |at: Bytes, n: u64| at.0 / BLOCK + n;
        let [a, b] = SlotId::BOTH.map(|slot| layout.slot(slot));
        let behind_head = physical / BLOCK;
        let ordinary = [
            block_of(Bytes::ZERO, 9),
            block_of(a.start, behind_head),
            block_of(a.start, 60),
            block_of(a.end, 0),
            block_of(b.start, 127),
        ];
        for block in ordinary {
            let bad = [(blocks(block, block + 1), EIO)];
            copy_around(&pair, &bad, &[listed(block, block + 1, EIO)], &format!("block {block}, physical {physical}"));
        }
        // Where a record stood, nothing old is left that could be kept.
        for block in [block_of(a.start, 0), block_of(b.start, behind_head - 1)] {
            let (lun, target) = strict_target(&pair, 2);
            let ran = pair.copy(&with_bad_blocks(&pair, &[(blocks(block, block + 1), EIO)], 1), &target);
            assert_eq!(ran.unreadable, [listed(block, block + 1, EIO)]);
            let mut want = pair.wanted(&[]);
            want[blocks(block, block + 1).start.as_len()..][..512].fill(0);
            assert_eq!(pair.wrong(&lun.contents(), &want), None, "block {block} of a head, physical {physical}");
        }
    }
}

#[test]
fn what_could_not_be_read_is_remembered_over_a_resume() {
    let pair = Pair::new(Pair::past_end(10 * PER_EXTENT * BLOCK));
    let source = with_bad_blocks(&pair, &[(blocks(3, 5), EIO)], 1);
    let controls = Arc::new(Controls::default());
    let (lun, target) = strict_target(&pair, 2);
    let operator = Arc::clone(&controls);
    target.at_request(14, move || operator.interrupt());
    let End::Interrupted(watermark) = pair.copy_under(&source, &target, &controls).end.unwrap() else {
        panic!("not interrupted");
    };
    assert!(watermark > Bytes(5 * BLOCK));
    assert_eq!(pair.checkpoint(&lun).unwrap().counters.unreadable_bytes, Bytes(2 * BLOCK));
    let ran = pair.resume(&pair.source_lun(3), &lun);
    assert_eq!(ran.end.unwrap(), End::Complete);
    pair.check_without(&lun, &[blocks(3, 5)], "resumed");
    let record = pair.checkpoint(&lun).unwrap();
    assert_eq!((record.state, record.counters.unreadable_bytes), (State::Syncing, Bytes(2 * BLOCK)));
    // And again, with nothing left to do.
    assert_eq!(pair.resume(&pair.source_lun(4), &lun).end.unwrap(), End::Complete);
    assert_eq!(pair.checkpoint(&lun).unwrap().state, State::Syncing);
}

#[test]
fn too_many_bad_ranges_stop_the_copy() {
    let count = MOST_RANGES as u64 + 1;
    let mut rig = Pair::past_end(2 * count * BLOCK);
    (rig.extent, rig.every) = (Bytes(65536), Bytes::mib(1));
    let pair = Pair::new(rig);
    let bad: Vec<_> = (0..count).map(|i| (blocks(2 * i, 2 * i + 1), EIO)).collect();
    let (lun, target) = strict_target(&pair, 2);
    let ran = pair.copy(&with_bad_blocks(&pair, &bad, 1), &target);
    assert!(matches!(ran.end, Err(CopyError::TooManyUnreadable(MOST_RANGES))), "{:?}", ran.end);
    let record = pair.checkpoint(&lun).unwrap();
    assert_eq!(record.state, State::Syncing);
    assert!(record.watermark > Bytes::mib(8), "{:?}", record.watermark);
}

#[test]
fn luns_that_hesitate_cost_time_and_no_byte() {
    for seed in 0..80 {
        let mut rig = Pair::past_end(67 * BLOCK);
        rig.lanes = 1 + usize::try_from(seed % 4).unwrap();
        rig.zeroes = [ZeroMode::Write, ZeroMode::Punch, ZeroMode::Skip][usize::try_from(seed % 3).unwrap()];
        let mut pair = Pair::new(rig);
        pair.source[2 * 8192..4 * 8192].fill(0);
        let plan = FaultPlan {
            short_one_in: 3,
            crumb_one_in: 5,
            interrupt_one_in: 4,
            seed,
            block: 512,
            ..FaultPlan::default()
        };
        let lun = pair.target_lun(seed);
        let target = Faulty::new(lun.clone(), FaultPlan { nothing_one_in: 6, seed: !seed, ..plan.clone() });
        let ran = pair.copy(&Faulty::new(pair.source_lun(seed), plan), &target);
        assert_eq!(ran.end.unwrap(), End::Complete, "seed {seed}");
        pair.check(&lun, &format!("seed {seed}"));
        assert!(ran.progress.retried.load(Ordering::Relaxed) > 0, "seed {seed}");
        assert_eq!(pair.checkpoint(&lun).unwrap().state, State::Committed, "seed {seed}");
    }
}

/// Copies between LUNs with these plans; why it failed, and after how much simulated time.
fn fails(source: FaultPlan, target: FaultPlan) -> (CopyError, Duration) {
    let pair = Pair::new(Pair::past_end(67 * BLOCK));
    let source = Faulty::new(pair.source_lun(1), FaultPlan { block: 512, ..source });
    let target = Faulty::new(pair.target_lun(2), FaultPlan { block: 512, ..target });
    simulate(async {
        let started = Instant::now();
        let ran = pair.rig.copy(&source, &target, None, &Arc::default()).await;
        (ran.end.unwrap_err(), started.elapsed())
    })
}

#[test]
fn a_lun_that_hesitates_for_ever_is_given_up() {
    let never = FaultPlan { interrupt_one_in: 1, ..FaultPlan::default() };
    let nothing = FaultPlan { nothing_one_in: 1, ..FaultPlan::default() };
    let crumbs = FaultPlan { crumb_one_in: 1, ..FaultPlan::default() };
    let cases = [
        (never.clone(), FaultPlan::default(), Side::Source),
        (crumbs.clone(), FaultPlan::default(), Side::Source),
        (FaultPlan::default(), never, Side::Target),
        (FaultPlan::default(), crumbs, Side::Target),
        (FaultPlan::default(), nothing, Side::Target),
    ];
    for (source, target, culprit) in cases {
        let (error, took) = fails(source, target);
        let CopyError::Io { side, source: ref errno, .. } = error else { panic!("{error}") };
        assert_eq!(side, culprit);
        assert!(matches!(errno.raw_os_error(), Some(EAGAIN | EINTR)), "{error}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn a_source_that_ends_early_is_named() {
    let (error, _) = fails(FaultPlan { nothing_one_in: 1, ..FaultPlan::default() }, FaultPlan::default());
    assert!(matches!(error, CopyError::Ended { side: Side::Source, at: 0 }), "{error}");
}
