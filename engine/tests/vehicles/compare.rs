//! VERIFY(16): believed after a proof, and what it finds is found where it is.

use std::sync::Arc;

use lunferry_engine::copy::vehicle::SgPair;
use lunferry_engine::lun::sizing::Sizing;
use lunferry_engine::units::{Bytes, Span};
use lunferry_engine::verify::run::{Pass, Verified};
use lunferry_fixtures::pair::Pair;

use crate::support::{Luns, Opened, READ, VERIFY, lying};

pub fn equal() -> Pair {
    let mut pair = Pair::new(Pair::past_end(300_032));
    let len = pair.source.len();
    pair.target[..len].copy_from_slice(&pair.source);
    pair
}

fn verified(opened: &Opened) -> Verified {
    let pass = Pass {
        block: Bytes(512),
        grain: Bytes(512),
        sizing: Sizing { extent: Bytes(8192), depth: 3, workers: 2 },
        controls: &Arc::default(),
        progress: &Arc::default(),
    };
    let pair = SgPair::new(Arc::clone(&opened.source), Arc::clone(&opened.target));
    pass.by_device(&pair, &[Span::new(Bytes::ZERO, Bytes(300_032))]).unwrap()
}

#[test]
fn equal_luns_are_compared_by_the_device_alone() {
    let luns = Luns::new(equal(), |_| {});
    let opened = luns.open();
    assert_eq!(opened.target.does_not_compare().unwrap(), None);
    let before = Luns::count(&luns.target, READ);
    let found = verified(&opened);
    assert!(found.is_equal() && found.by_device_bytes == Bytes(300_032) && found.by_reading_bytes == Bytes::ZERO);
    assert_eq!(Luns::count(&luns.target, READ), before, "nothing of it was read");
    assert!(Luns::count(&luns.target, VERIFY) > 70);
}

#[test]
fn a_difference_is_found_where_it_is() {
    let mut pair = equal();
    for at in [0, 100_000, 300_031] {
        pair.target[at] ^= 0x80;
    }
    let found = verified(&Luns::new(pair, |_| {}).open());
    let blocks: Vec<_> = found.differences.iter().map(|range| (range.lba.0, range.blocks)).collect();
    assert_eq!(blocks, [(0, 1), (100_000 / 512, 1), (585, 1)]);
    assert_eq!(found.differing_bytes, Bytes(3 * 512));
}

#[test]
fn devices_that_do_not_compare_are_not_believed() {
    let why = Luns::new(equal(), |options| options.verify_lies = true).open().target.does_not_compare().unwrap();
    assert!(why.unwrap().contains("does not compare"));
    // One that looks at the first block of a transfer alone, and one that looks at all but the last byte.
    let first_only = |operation, data: &mut Vec<u8>| {
        if operation == VERIFY {
            let honest = equal().target;
            data[512..].copy_from_slice(&honest[512..4096]);
        }
        true
    };
    let not_the_last = |operation, data: &mut Vec<u8>| {
        if operation == VERIFY {
            let honest = equal().target;
            *data.last_mut().unwrap() = honest[4095];
        }
        true
    };
    for opened in
        [Luns::new(equal(), |_| {}).open_by(lying(first_only)), Luns::new(equal(), |_| {}).open_by(lying(not_the_last))]
    {
        assert!(opened.target.does_not_compare().unwrap().unwrap().contains("wrong in byte 4095"));
    }
}
