//! Copies that are stopped: by a target that refuses, by metadata that fails, by an operator; and copies that are held back.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::single_range_in_vec_init, reason = "lists of one range are meant")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lunferry_engine::checkpoint::layout::{LayoutKind, SlotId};
use lunferry_engine::checkpoint::record::Record;
use lunferry_engine::checkpoint::state::State;
use lunferry_engine::checkpoint::store::StoreError;
use lunferry_engine::copy::board::Controls;
use lunferry_engine::copy::error::{CopyError, Side};
use lunferry_engine::copy::session::End;
use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::units::{Bytes, BytesPerSecond, Lba, Span};
use lunferry_fixtures::faults::{Failing, FaultPlan, Faulty, Op};
use lunferry_fixtures::pair::Pair;
use lunferry_fixtures::rig::{Ran, simulate};
use lunferry_fixtures::sim::SimLun;
use nix::libc::{EAGAIN, EBADE, EIO, ENOSPC, EOPNOTSUPP};
use tokio::time::Instant;

const EXTENT: u64 = 8192;

fn small(zeroes: ZeroMode) -> Pair {
    let mut rig = Pair::past_end(12 * EXTENT + 512);
    rig.zeroes = zeroes;
    Pair::new(rig)
}

fn overlay(zeroes: ZeroMode) -> Pair {
    let mut rig = Pair::overlay(3 * 65536);
    (rig.extent, rig.every, rig.zeroes) = (Bytes(65536), Bytes(65536), zeroes);
    Pair::new(rig)
}

fn failing(op: Op, after: usize, errno: i32) -> FaultPlan {
    FaultPlan { failing: vec![Failing { op, after, errno }], block: 512, ..FaultPlan::default() }
}

/// A copy to a target with `plan`; the LUN below stays readable.
fn copy_to(pair: &Pair, plan: FaultPlan) -> (Ran, SimLun, Faulty<SimLun>) {
    let lun = pair.target_lun(2);
    let target = Faulty::new(lun.clone(), plan);
    (pair.copy(&pair.source_lun(1), &target), lun, target)
}

/// Goes on, or starts again where nothing was checkpointed, on a target without faults.
fn mend(pair: &Pair, lun: &SimLun, what: &str) {
    match pair.checkpoint(lun) {
        Some(record) => {
            let watermark = record.watermark.as_len();
            assert!(lun.contents()[..watermark] == pair.source[..watermark], "{what}: a watermark claims too much");
            let ran = pair.resume(&pair.source_lun(5), lun);
            assert_eq!(ran.started_at, record.watermark.min(pair.rig.layout().bulk_end()), "{what}");
            assert_eq!(ran.end.unwrap(), End::Complete, "{what}");
        }
        None => assert_eq!(pair.copy(&pair.source_lun(5), lun).end.unwrap(), End::Complete, "{what}"),
    }
    pair.check(lun, what);
}

/// Whether anything was sent to the target that could change it, after the first `n` requests of kind `op`.
fn changed_after(target: &Faulty<SimLun>, op: Op, n: usize) -> Vec<(Op, Span)> {
    let requests = target.requests();
    let failed = requests.iter().enumerate().filter(|(_, (other, _))| *other == op).nth(n).unwrap().0;
    let changes = |(op, _): &&(Op, Span)| matches!(op, Op::Write | Op::Punch | Op::WriteDurable);
    requests[failed + 1..].iter().filter(changes).copied().collect()
}

#[test]
fn a_place_that_cant_be_written_is_named_and_the_copy_goes_on_later() {
    for block in [0, 15, 16, 100, 192] {
        let pair = small(ZeroMode::Write);
        let bad = Span::at(Bytes(block * 512), Bytes(512));
        let plan = FaultPlan { unwritable: vec![(bad, EIO)], block: 512, ..FaultPlan::default() };
        let (ran, lun, _) = copy_to(&pair, plan);
        let Err(CopyError::Io { what, side, span, lba, source }) = ran.end else { panic!("{:?}", ran.end) };
        assert_eq!((what, side, source.raw_os_error()), ("writing", Side::Target, Some(EIO)));
        assert!(span.overlaps(bad) && lba == Lba(span.start.0 / 512), "{span} does not name {bad}");
        let record = pair.checkpoint(&lun).unwrap();
        assert!(record.watermark <= bad.start && record.watermark + Bytes(4 * 3 * EXTENT) > bad.start);
        mend(&pair, &lun, &format!("block {block}"));
    }
}

#[test]
fn a_full_pool_is_named() {
    for (op, zeroes) in [(Op::Write, ZeroMode::Write), (Op::Punch, ZeroMode::Punch)] {
        let mut pair = small(zeroes);
        pair.source[4 * 8192..6 * 8192].fill(0);
        let (ran, lun, _) = copy_to(&pair, failing(op, 0, ENOSPC));
        assert!(matches!(ran.end, Err(CopyError::NoSpace { .. })), "{:?}", ran.end);
        mend(&pair, &lun, "no space");
    }
}

#[test]
fn a_fenced_host_writes_nothing_more() {
    for n in 0..12 {
        let mut pair = small(ZeroMode::Write);
        (pair.rig.every, pair.rig.lanes) = (Bytes::gib(1), 4);
        let (ran, lun, target) = copy_to(&pair, failing(Op::Write, n, EBADE));
        assert!(matches!(ran.end, Err(CopyError::Fenced { side: Side::Target, .. })), "{:?}", ran.end);
        assert!(ran.end.unwrap_err().is_fenced());
        assert_eq!(changed_after(&target, Op::Write, n), [], "write {n}");
        mend(&pair, &lun, &format!("write {n}"));
    }
}

#[test]
fn a_host_fenced_from_the_source_stops_too() {
    for n in 0..12 {
        let mut pair = small(ZeroMode::Write);
        pair.rig.every = Bytes::gib(1);
        let source = Faulty::new(pair.source_lun(1), failing(Op::Read, n, EBADE));
        let lun = pair.target_lun(2);
        let ran = pair.copy(&source, &lun);
        assert!(matches!(ran.end, Err(CopyError::Fenced { side: Side::Source, .. })), "{:?}", ran.end);
        let record = pair.checkpoint(&lun).unwrap();
        assert_eq!(record.watermark, Bytes::ZERO, "no checkpoint after the fence");
        mend(&pair, &lun, &format!("read {n}"));
    }
}

/// A source whose path dies is not a source full of bad blocks: nothing is given up, and the copy goes on later.
#[test]
fn a_source_that_dies_is_not_a_bad_medium() {
    for n in 0..24 {
        for pair in [small(ZeroMode::Punch), overlay(ZeroMode::Write)] {
            let mut plan = failing(Op::Read, n, EIO);
            plan.failing.push(Failing { op: Op::ReadBlock, after: 0, errno: EIO });
            let source = Faulty::new(pair.source_lun(1), plan);
            let lun = pair.target_lun(2);
            let ran = pair.copy(&source, &lun);
            if matches!(ran.end, Ok(End::Complete)) {
                assert!(n > 8, "it died after {n} reads");
                pair.check(&lun, "complete before the source died");
                continue;
            }
            assert!(matches!(ran.end, Err(CopyError::SourceDead { .. })), "{n}: {:?}", ran.end);
            assert!(ran.unreadable.is_empty(), "{n}: {:?}", ran.unreadable);
            assert!(pair.checkpoint(&lun).is_some(), "{n}: the checkpoint is gone");
            mend(&pair, &lun, &format!("dead after {n} reads"));
        }
    }
}

#[test]
fn a_fence_that_the_metadata_meets_is_told_as_one() {
    for (op, n) in [(Op::WriteDurable, 0), (Op::WriteDurable, 7), (Op::Flush, 3)] {
        let pair = small(ZeroMode::Write);
        let (ran, _, target) = copy_to(&pair, failing(op, n, EBADE));
        let error = ran.end.unwrap_err();
        assert!(error.is_fenced(), "{error}");
        let metadata: Vec<_> =
            changed_after(&target, op, n).into_iter().filter(|(op, _)| *op == Op::WriteDurable).collect();
        assert_eq!(metadata, [], "{op:?} {n}");
    }
}

#[test]
fn a_target_that_cant_punch_is_written() {
    for after in 0..3 {
        let mut pair = small(ZeroMode::Punch);
        for extent in [1, 2, 5, 9, 11] {
            pair.source[extent * 8192..][..8192].fill(0);
        }
        let (ran, lun, target) = copy_to(&pair, failing(Op::Punch, after, EOPNOTSUPP));
        assert_eq!(ran.end.unwrap(), End::Complete);
        assert!(target.count(Op::Punch) <= after + pair.rig.lanes, "{} punches", target.count(Op::Punch));
        assert_eq!(ran.progress.zeroed.load(Ordering::Relaxed), 5 * EXTENT);
        pair.check(&lun, &format!("punch {after}"));
    }
}

#[test]
fn a_punch_that_fails_stops_the_copy_at_its_place() {
    let mut pair = small(ZeroMode::Punch);
    pair.source[3 * 8192..5 * 8192].fill(0);
    let (ran, lun, _) = copy_to(&pair, failing(Op::Punch, 0, EIO));
    let Err(CopyError::Io { what: "punching", side: Side::Target, span, .. }) = ran.end else {
        panic!("{:?}", ran.end)
    };
    assert_eq!(span, Span::new(Bytes(3 * EXTENT), Bytes(5 * EXTENT)));
    assert!(pair.checkpoint(&lun).unwrap().watermark <= Bytes(3 * EXTENT));
    mend(&pair, &lun, "a punch");
}

/// Every metadata write, or every flush, fails in turn: nothing is written to the slots after it.
fn metadata_fails(pair: &Pair, op: Op) {
    let (ran, _, whole) = copy_to(pair, FaultPlan::default());
    assert_eq!(ran.end.unwrap(), End::Complete);
    for n in 0..whole.count(op) {
        let (ran, lun, target) = copy_to(pair, failing(op, n, EIO));
        match (op, ran.end.unwrap_err()) {
            (Op::WriteDurable, CopyError::Store(StoreError::Write { .. }) | CopyError::Io { .. }) => {}
            (Op::Flush, CopyError::Store(StoreError::Flush(_))) => {}
            (_, error) => panic!("{op:?} {n}: {error}"),
        }
        let after: Vec<_> =
            changed_after(&target, op, n).into_iter().filter(|(op, _)| *op == Op::WriteDurable).collect();
        assert_eq!(after, [], "{op:?} {n}");
        mend(pair, &lun, &format!("{op:?} {n}"));
    }
}

#[test]
fn failing_metadata_is_latched() {
    for pair in [small(ZeroMode::Write), overlay(ZeroMode::Punch)] {
        metadata_fails(&pair, Op::WriteDurable);
        metadata_fails(&pair, Op::Flush);
    }
}

/// Interrupts a copy at every request that the target gets.
fn interrupt_everywhere(pair: &Pair) {
    let (ran, _, whole) = copy_to(pair, FaultPlan::default());
    assert_eq!(ran.end.unwrap(), End::Complete);
    let mut interrupted = 0;
    for n in 0..whole.requests().len() {
        let lun = pair.target_lun(2);
        let target = Faulty::new(lun.clone(), FaultPlan { block: 512, ..FaultPlan::default() });
        let source = Faulty::new(pair.source_lun(1), FaultPlan::default());
        let controls = Arc::new(Controls::default());
        let operator = Arc::clone(&controls);
        target.at_request(n, move || operator.interrupt());
        let ran = pair.copy_under(&source, &target, &controls);
        let what = format!("interrupted at request {n}");
        match ran.end.unwrap() {
            End::Complete => pair.check(&lun, &what),
            End::Interrupted(watermark) => {
                interrupted += 1;
                let record = pair.checkpoint(&lun).unwrap();
                assert_eq!(record.watermark, watermark, "{what}");
                assert!(matches!(record.state, State::Syncing | State::Finalising), "{what}");
                let extents = |lun: &Faulty<SimLun>, op| {
                    let mut spans: Vec<_> =
                        lun.requests().into_iter().filter(|(other, _)| *other == op).map(|(_, span)| span).collect();
                    spans.sort();
                    spans
                };
                assert_eq!(extents(&source, Op::Read), extents(&target, Op::Write), "{what}: what was read is written");
                mend(pair, &lun, &what);
            }
        }
    }
    assert!(interrupted > 10, "{interrupted}");
}

#[test]
fn an_interruption_anywhere_leaves_a_checkpoint() {
    interrupt_everywhere(&small(ZeroMode::Write));
    interrupt_everywhere(&overlay(ZeroMode::Write));
    let pair = overlay(ZeroMode::Write);
    assert_eq!(pair.rig.layout().kind(), LayoutKind::Overlay);
}

/// Copies under `rate`; `action` runs when the target gets its request `n`. The first write of data is number 8. How it ended and the simulated time.
fn paced(pair: &Pair, rate: u64, n: usize, action: impl FnOnce(&Controls) + 'static) -> (Ran, SimLun, Duration) {
    let lun = pair.target_lun(2);
    let target = Faulty::new(lun.clone(), FaultPlan::default());
    let controls = Arc::new(Controls::default());
    controls.set_rate(Some(BytesPerSecond(rate)));
    let operator = Arc::clone(&controls);
    target.at_request(n, move || action(&operator));
    let (ran, took) = simulate(async {
        let started = Instant::now();
        let ran = pair.rig.copy(&pair.source_lun(1), &target, None, &controls).await;
        (ran, started.elapsed())
    });
    (ran, lun, took)
}

fn within_five_percent(took: Duration, seconds: f64) {
    let ratio = took.as_secs_f64() / seconds;
    assert!((0.95..1.05).contains(&ratio), "{took:?} instead of {seconds} s");
}

#[test]
fn a_limit_is_kept() {
    for (lanes, zeroes) in [(1, ZeroMode::Write), (3, ZeroMode::Punch), (16, ZeroMode::Write)] {
        let mut rig = Pair::past_end(100 * EXTENT);
        (rig.lanes, rig.zeroes) = (lanes, zeroes);
        let pair = Pair::new(rig);
        let (ran, lun, took) = paced(&pair, 10 * EXTENT, 0, |_| ());
        assert_eq!(ran.end.unwrap(), End::Complete);
        within_five_percent(took, 10.0);
        pair.check(&lun, "paced");
    }
}

#[test]
fn holes_that_are_written_keep_to_the_limit_too() {
    let mut pair = Pair::new(Pair::past_end(100 * EXTENT));
    pair.source.fill(0);
    let source = pair.source_lun(1);
    source.set_holes(vec![0..pair.source.len()]);
    let lun = pair.target_lun(2);
    let controls = Arc::new(Controls::default());
    controls.set_rate(Some(BytesPerSecond(10 * EXTENT)));
    let took = simulate(async {
        let started = Instant::now();
        pair.rig.copy(&source, &lun, None, &controls).await.end.unwrap();
        started.elapsed()
    });
    // Holes are taken in runs of a window, twelve extents here; the last run is not waited for.
    assert!((8.0..10.5).contains(&took.as_secs_f64()), "{took:?}");
    pair.check(&lun, "holes");
}

#[test]
fn a_limit_changes_while_the_copy_runs() {
    let pair = Pair::new(Pair::past_end(100 * EXTENT));
    // From the start on, but for what was admitted before.
    let (ran, _, took) =
        paced(&pair, EXTENT / 1024, 8, |controls| controls.set_rate(Some(BytesPerSecond(10 * EXTENT))));
    ran.end.unwrap();
    within_five_percent(took, 10.0);
    let (ran, _, took) = paced(&pair, 1, 8, |controls| controls.set_rate(None));
    ran.end.unwrap();
    assert!(took < Duration::from_secs(1), "{took:?}: a limit that was lifted still holds");
}

#[test]
fn an_interruption_ends_a_long_wait_at_once() {
    let pair = Pair::new(Pair::past_end(100 * EXTENT));
    let (ran, lun, took) = paced(&pair, 1, 8, Controls::interrupt);
    assert!(matches!(ran.end, Ok(End::Interrupted(_))), "{:?}", ran.end);
    assert!(took < Duration::from_secs(1), "{took:?}");
    mend(&pair, &lun, "a long wait");
}

#[test]
fn a_checkpoint_for_every_byte_is_no_hang() {
    let mut pair = small(ZeroMode::Write);
    pair.rig.every = Bytes::ZERO;
    let (ran, lun, _) = copy_to(&pair, FaultPlan::default());
    assert_eq!(ran.end.unwrap(), End::Complete);
    pair.check(&lun, "every byte");
}

#[test]
fn a_record_that_no_copy_goes_on_from_is_refused_untouched() {
    for pair in [small(ZeroMode::Write), overlay(ZeroMode::Write)] {
        let bulk_end = pair.rig.layout().bulk_end();
        for (state, watermark) in State::ALL.into_iter().flat_map(|state| [(state, Bytes(EXTENT)), (state, bulk_end)]) {
            let record = Record { state, watermark, ..pair.rig.new_record() };
            let lun = pair.target_lun(2);
            let target = Faulty::new(lun.clone(), FaultPlan::default());
            let start = Some((record, SlotId::A));
            let ran = simulate(pair.rig.copy(&pair.source_lun(1), &target, start, &Arc::default()));
            let at_the_end = match pair.rig.layout().kind() {
                LayoutKind::PastEnd => State::Committed,
                LayoutKind::Overlay => State::Finalising,
            };
            if state == State::Syncing || (state, watermark) == (at_the_end, bulk_end) {
                assert_eq!(ran.end.unwrap(), End::Complete, "{state} at {watermark}");
            } else {
                assert!(matches!(ran.end, Err(CopyError::State { .. })), "{state} at {watermark}: {:?}", ran.end);
                assert_eq!(target.requests(), [], "{state} at {watermark}");
            }
        }
    }
}

#[test]
fn a_block_counts_as_unreadable_once_and_only_below_the_watermark() {
    for seed in 0..8 {
        let pair = small(ZeroMode::Write);
        let (bad, stuck) = (Span::at(Bytes(4 * EXTENT), Bytes(512)), Span::at(Bytes(3 * EXTENT), Bytes(512)));
        let plan = FaultPlan { unreadable: vec![(bad, EIO)], block: 512, ..FaultPlan::default() };
        let source = Faulty::new(pair.source_lun(seed), plan);
        let plan = FaultPlan { unwritable: vec![(stuck, EAGAIN)], block: 512, ..FaultPlan::default() };
        let lun = pair.target_lun(2);
        let ran = pair.copy(&source, &Faulty::new(lun.clone(), plan));
        assert!(ran.end.is_err() && ran.unreadable.len() == 1, "seed {seed}");
        let record = pair.checkpoint(&lun).unwrap();
        assert_eq!((record.watermark, record.counters.unreadable_bytes), (stuck.start, Bytes::ZERO), "seed {seed}");
        // The block lay above the watermark, so it is read again; now it can be.
        mend(&pair, &lun, &format!("seed {seed}"));
        assert_eq!(pair.checkpoint(&lun).unwrap().state, State::Committed, "seed {seed}");
    }
}
