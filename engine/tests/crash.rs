//! Power loss at every write and flush of a copy.
//!
//! Pass one counts the operations on the target. Pass two stops at each of them, builds every image that the power loss may
//! have left (any subset of the volatile writes, the last one torn at any sector), goes on from what the slots say, and looks
//! at every byte of the target. Where the images are too many, a seeded sample stands for them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use lunferry_engine::checkpoint::layout::{AreaSpec, LayoutKind, SlotId};
use lunferry_engine::checkpoint::record::Record;
use lunferry_engine::checkpoint::slots::Choice;
use lunferry_engine::copy::board::Controls;
use lunferry_engine::copy::session::End;
use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::units::Bytes;
use lunferry_fixtures::rig::{Rig, simulate};
use lunferry_fixtures::sim::{SimLun, Wreck};
use lunferry_fixtures::stamp::{Dice, difference, stamped};

/// One case: a rig and what the LUNs hold.
struct Case {
    rig: Rig,
    source: Vec<u8>,
    target: Vec<u8>,
    flushes_are_lies: bool,
}

impl Case {
    fn new(rig: Rig, zero_extents: &[usize]) -> Self {
        let mut source = stamped(rig.source_len.as_len(), 0x5eed);
        for &i in zero_extents {
            let from = i * rig.extent.as_len();
            source[from..from + rig.extent.as_len()].fill(0);
        }
        let mut target = stamped(rig.target_len.as_len(), 0x01d);
        if rig.zeroes == ZeroMode::Skip {
            target.fill(0);
        }
        Self { rig, source, target, flushes_are_lies: false }
    }

    fn target(&self, image: Vec<u8>, seed: u64) -> SimLun {
        let target = SimLun::new(image, seed);
        if self.flushes_are_lies {
            target.ignore_flushes();
        }
        target
    }

    fn choice(&self, image: Vec<u8>) -> Choice {
        simulate(self.rig.choice(&SimLun::new(image, 1)))
    }

    fn run(&self, target: &SimLun, start: Option<(Record, SlotId)>) -> Bytes {
        let source = SimLun::new(self.source.clone(), 3);
        let ran = simulate(self.rig.copy(&source, target, start, &Arc::new(Controls::default())));
        if let Ok(end) = ran.end {
            assert_eq!(end, End::Complete);
        }
        ran.started_at
    }

    /// The target holds the source's data, and nothing else outside the metadata area has changed.
    fn check(&self, target: &SimLun, what: &str) {
        let got = target.contents();
        let (data, rest) = got.split_at(self.source.len());
        if let Some(wrong) = difference(data, &self.source) {
            panic!("{what}: {wrong}");
        }
        let area = self.rig.layout().area();
        let before = self.target[self.source.len()..].iter();
        for (i, (now, before)) in rest.iter().zip(before).enumerate() {
            let at = Bytes::from(self.source.len() + i);
            assert!(now == before || (area.start <= at && at < area.end), "{what}: byte {} was changed", at.0);
        }
    }

    /// The wreck of a run whose power failed at operation `n`, and the watermark that survives without any luck.
    fn wreck(&self, seed: u64, n: u64) -> (Wreck, Option<Bytes>) {
        let target = self.target(self.target.clone(), seed);
        target.fail_power_at(n);
        self.run(&target, None);
        let wreck = target.wreck();
        let floor = match self.choice(wreck.image(0)) {
            Choice::Use { record, .. } => Some(record.watermark),
            Choice::None | Choice::Refused(_) => None,
        };
        (wreck, floor)
    }

    /// Goes on from `image` to the end.
    fn resume(&self, image: Vec<u8>, floor: Bytes, defined: bool, what: &str) -> SimLun {
        let target = self.target(image, 11);
        self.go_on(&target, floor, defined, what);
        target
    }

    fn go_on(&self, target: &SimLun, floor: Bytes, defined: bool, what: &str) {
        match self.choice(target.contents()) {
            Choice::Use { record, next_write, .. } => {
                let started_at = self.run(target, Some((*record, next_write)));
                assert!(started_at >= floor, "{what}: started at {started_at}, below the checkpoint at {floor}");
            }
            // Only a copy that is done leaves no record, and only in the overlay layout.
            Choice::None if defined => {
                assert_eq!(self.rig.layout().kind(), LayoutKind::Overlay, "{what}: the checkpoint is gone");
            }
            Choice::None => {
                self.run(target, None);
            }
            Choice::Refused(refusal) => panic!("{what}: {refusal}"),
        }
    }

    /// Every stop, and every image of each, or `most` of them by a seed where they are more. How many there were.
    fn every_stop(&self, seed: u64, most: u64) -> u64 {
        let whole = self.target(self.target.clone(), seed);
        self.run(&whole, None);
        self.check(&whole, "without a crash");
        let operations = whole.operations();
        let (mut images, mut defined) = (0, false);
        for n in 0..operations {
            let (wreck, floor) = self.wreck(seed, n);
            let all = wreck.images();
            let mut dice = Dice::new(seed ^ n);
            for k in 0..all.map_or(most, |all| all.min(most)) {
                let number = if all.is_some_and(|all| all <= most) { k } else { dice.below(all.unwrap_or(u64::MAX)) };
                let what = format!("seed {seed}, stop {n} of {operations}, image {number}");
                let target = self.resume(wreck.image(number), floor.unwrap_or_default(), defined, &what);
                self.check(&target, &what);
                images += 1;
            }
            defined |= floor.is_some();
        }
        images
    }
}

fn rig(source_len: u64, target_len: u64, zeroes: ZeroMode) -> Rig {
    Rig {
        source_len: Bytes(source_len),
        target_len: Bytes(target_len),
        spec: AreaSpec::COMPACT,
        source_block: Bytes(512),
        block: Bytes(512),
        physical: Bytes(512),
        extent: Bytes(8192),
        lanes: 3,
        every: Bytes(16384),
        zeroes,
        fill_unreadable: false,
    }
}

const AREA: u64 = AreaSpec::COMPACT.size.0;

#[test]
fn past_the_end_every_stop_and_every_image() {
    for zeroes in [ZeroMode::Write, ZeroMode::Punch, ZeroMode::Skip] {
        let case = Case::new(rig(8 * 8192 + 512, (9 * 8192u64).next_multiple_of(65536) + AREA, zeroes), &[2, 3]);
        assert_eq!(case.rig.layout().kind(), LayoutKind::PastEnd);
        let images = case.every_stop(1, u64::MAX);
        println!("{zeroes:?}: {images} images");
        assert!(images > 500, "only {images} images");
    }
}

#[test]
fn overlay_every_stop() {
    for (physical, zeroes) in [(512, ZeroMode::Write), (512, ZeroMode::Punch), (4096, ZeroMode::Skip)] {
        // The overlay range is most of this LUN; larger extents keep the number of volatile writes small.
        let mut rig = rig(AREA + 3 * 65536, AREA + 3 * 65536, zeroes);
        rig.extent = Bytes(65536);
        rig.every = Bytes(65536);
        rig.physical = Bytes(physical);
        let case = Case::new(rig, &[1, 6, 7, 8]);
        assert_eq!(case.rig.layout().kind(), LayoutKind::Overlay);
        let images = case.every_stop(2, 100);
        println!("{zeroes:?}, physical {physical}: {images} images");
        assert!(images > 1000, "only {images} images");
    }
}

#[test]
fn a_target_a_little_larger_than_the_source() {
    // The area lies across the source's end: slot B belongs to nobody's data, and its record is erased at the end.
    let mut rig = rig(AREA, AREA + 512 * 9 + 65536, ZeroMode::Write);
    rig.extent = Bytes(65536);
    let case = Case::new(rig, &[]);
    assert_eq!(case.rig.layout().kind(), LayoutKind::Overlay);
    case.every_stop(3, 20);
}

#[test]
fn a_second_power_loss_while_going_on() {
    let mut small = rig(AREA + 65536, AREA + 65536, ZeroMode::Punch);
    small.extent = Bytes(65536);
    let overlay = Case::new(small, &[4]);
    let past_end = Case::new(rig(8 * 8192, 65536 * 2 + AREA, ZeroMode::Punch), &[5]);
    for (case, rounds) in [(overlay, 150), (past_end, 300)] {
        let whole = case.target(case.target.clone(), 4);
        case.run(&whole, None);
        let operations = whole.operations();
        for seed in 0..rounds {
            let mut dice = Dice::new(seed);
            let pick = |dice: &mut Dice, wreck: &Wreck| wreck.image(dice.below(wreck.images().unwrap_or(u64::MAX)));
            // After the first state is in both slots, so that a record is there.
            let (wreck, _) = case.wreck(4, 8 + dice.below(operations - 8));
            let target = case.target(pick(&mut dice, &wreck), seed);
            target.fail_power_at(dice.below(12));
            case.go_on(&target, Bytes::ZERO, true, &format!("seed {seed}, first"));
            let what = format!("seed {seed}, second");
            let target = case.resume(pick(&mut dice, &target.wreck()), Bytes::ZERO, true, &what);
            case.check(&target, &what);
        }
    }
}

#[test]
fn a_lun_of_a_few_mebibytes_with_the_real_area() {
    for (target_len, kind) in [(5 << 20, LayoutKind::Overlay), (10 << 20, LayoutKind::PastEnd)] {
        let mut rig = rig(5 << 20, target_len, ZeroMode::Punch);
        rig.spec = AreaSpec::V1;
        rig.extent = Bytes::kib(64);
        rig.lanes = 8;
        rig.every = Bytes::kib(256);
        let case = Case::new(rig, &[3, 4, 5, 20, 40]);
        assert_eq!(case.rig.layout().kind(), kind);
        case.every_stop(5, 1);
    }
}

/// The crash tests can fail: a target that forgets its flushes must be caught.
#[test]
#[should_panic(expected = "blocks differ")]
fn a_target_that_ignores_flushes_is_caught() {
    let mut case = Case::new(rig(8 * 8192, 65536 * 2 + AREA, ZeroMode::Write), &[]);
    case.flushes_are_lies = true;
    case.every_stop(1, 8);
}
