//! Copies by READ and WRITE: equal, thin, and whatever a device may answer on the way.

use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::session::End;
use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::units::Bytes;
use lunferry_fixtures::pair::Pair;
use lunferry_fixtures::scsi::{Fault, FaultKind};
use lunferry_scsi::sense::Code;
use lunferry_scsi::status::HostStatus;

use crate::support::{COMPARE_AND_WRITE, INQUIRY, Luns, READ, SYNCHRONIZE, UNMAP, WRITE};

/// Stamps with two ranges of zeroes, one of them over the borders of extents.
fn with_zeroes(mut pair: Pair) -> Pair {
    for zeroes in [40_960..131_072, 200_704..201_216] {
        let len = pair.source.len();
        pair.source[zeroes.start.min(len)..zeroes.end.min(len)].fill(0);
    }
    pair
}

#[test]
fn copies_are_equal_in_both_layouts_and_both_block_sizes() {
    for rig in [Pair::past_end(300_032), Pair::past_end(65_536), Pair::overlay(200_000 / 512 * 512)] {
        for (source_block, block) in [(512, 512), (4096, 4096), (512, 4096), (4096, 512)] {
            let fits = [source_block, block].iter().all(|block| rig.source_len.0.is_multiple_of(*block));
            if !fits {
                continue;
            }
            for zeroes in [ZeroMode::Write, ZeroMode::Punch, ZeroMode::Skip] {
                let (source_block, block) = (Bytes(source_block), Bytes(block));
                let rig = lunferry_fixtures::rig::Rig { source_block, block, physical: block, zeroes, ..rig.clone() };
                let luns = Luns::new(with_zeroes(Pair::new(rig)), |options| options.unmap_granularity = 4);
                let ran = luns.open().copy(&luns.pair, None);
                assert_eq!(ran.end.unwrap(), End::Complete);
                luns.assert_equal();
            }
        }
    }
}

#[test]
fn what_is_unmapped_on_the_source_is_not_read_and_is_unmapped_on_the_target() {
    let mut rig = Pair::past_end(300_032);
    rig.zeroes = ZeroMode::Punch;
    let luns = Luns::new(with_zeroes(Pair::new(rig)), |_| {});
    luns.open().copy(&luns.pair, None).end.unwrap();
    luns.assert_equal();
    assert!(luns.target.mapped()[80..256].iter().all(|mapped| !mapped), "the hole's whole extents");
    let read: usize = Luns::count(&luns.source, READ);
    assert_eq!(read, (300_032usize - 90_112).div_ceil(4096), "eight blocks a command, and the hole left out");
    // A device whose unmapped blocks may hold anything has no holes, and nothing is unmapped on it.
    let luns = Luns::new(luns.pair, |options| options.unmapped_reads_zero = false);
    for lba in 0..luns.pair.source.len() / 512 {
        luns.source.fill(lba as u64, &luns.pair.source[lba * 512..][..512]);
    }
    luns.open().copy(&luns.pair, None).end.unwrap();
    luns.assert_equal();
    assert_eq!(Luns::count(&luns.target, UNMAP), 0);
    assert_eq!(Luns::count(&luns.source, READ), 300_032usize.div_ceil(4096));
}

#[test]
fn a_device_may_hesitate() {
    let code = |asc, ascq| Code { asc, ascq };
    let attentions = [code(0x29, 0), code(0x2A, 1), code(0x2A, 3), code(0x2F, 0), code(0x3F, 0x0E), code(0x38, 7)];
    let senses = attentions.map(|code| FaultKind::Sense { key: 6, code });
    let others = [
        FaultKind::Busy,
        FaultKind::TaskSetFull,
        FaultKind::Sense { key: 0xB, code: code(0x47, 0) },
        FaultKind::Host(HostStatus::SoftError),
        FaultKind::LostReply(HostStatus::TimeOut),
        FaultKind::Short(512),
    ];
    for kind in senses.into_iter().chain(others) {
        let luns = Luns::new(Pair::new(Pair::past_end(100_352)), |_| {});
        let opened = luns.open();
        for lu in [&luns.source, &luns.target] {
            lu.inject(Fault::once(kind).on(READ));
            lu.inject(Fault::once(kind).on(WRITE));
        }
        opened.copy(&luns.pair, None).end.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        luns.assert_equal();
    }
}

#[test]
fn a_bad_block_is_listed_and_the_rest_is_copied() {
    let luns = Luns::new(Pair::new(Pair::past_end(100_352)), |_| {});
    luns.source.spoil(37);
    let ran = luns.open().copy(&luns.pair, None);
    assert_eq!(ran.end.unwrap(), End::Complete);
    let bad: Vec<_> = ran.unreadable.iter().map(|range| (range.lba.0, range.blocks, range.errno)).collect();
    assert_eq!(bad, [(37, 1, nix::libc::ENODATA)]);
    let spans: Vec<_> = ran.unreadable.iter().map(|range| range.span).collect();
    assert_eq!(luns.pair.wrong(&luns.target.contents(), &luns.pair.wanted(&spans)), None);
}

#[test]
fn a_flush_that_met_a_reset_or_failed_is_not_believed() {
    for (key, code) in [(6, Code { asc: 0x29, ascq: 3 }), (4, Code { asc: 0x44, ascq: 0 })] {
        let luns = Luns::new(Pair::new(Pair::past_end(100_352)), |options| options.write_cache = true);
        let opened = luns.open();
        luns.target.inject(Fault::once(FaultKind::Sense { key, code }).times(9).on(SYNCHRONIZE));
        let error = opened.copy(&luns.pair, None).end.unwrap_err();
        assert!(matches!(error, CopyError::Store(_)), "{error}");
        let sent = Luns::count(&luns.target, SYNCHRONIZE);
        assert_eq!(
            (sent, Luns::count(&luns.target, COMPARE_AND_WRITE)),
            (1, 2),
            "both slots were erased, then one flush, and nothing behind it"
        );
    }
}

#[test]
fn a_target_that_becomes_another_stops_the_copy() {
    for code in [Code { asc: 0x3F, ascq: 5 }, Code { asc: 0x28, ascq: 0 }, Code { asc: 0x2A, ascq: 9 }] {
        let luns = Luns::new(Pair::new(Pair::past_end(100_352)), |_| {});
        let opened = luns.open();
        luns.target.inject(Fault::once(FaultKind::Sense { key: 6, code }).on(WRITE));
        opened.copy(&luns.pair, None).end.unwrap_err();
    }
}

#[test]
fn opening_asks_and_changes_nothing() {
    let luns = Luns::new(Pair::new(Pair::past_end(100_352)), |_| {});
    luns.open();
    for lu in [&luns.source, &luns.target] {
        assert!(Luns::count(lu, INQUIRY) >= 4);
        assert_eq!(Luns::count(lu, WRITE) + Luns::count(lu, UNMAP), 0);
    }
}
