//! Copies inside the array: equal, tried before they are trusted, and given up aloud.

use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::session::End;
use lunferry_engine::copy::zeroes::ZeroMode;
use lunferry_engine::units::Bytes;
use lunferry_fixtures::pair::Pair;
use lunferry_fixtures::rig::Ran;
use lunferry_fixtures::scsi::{Fault, FaultKind, LuOptions, SimArray, SimClock};
use lunferry_scsi::sense::Code;
use lunferry_scsi::status::HostStatus;

use crate::support::{EXTENDED_COPY, Luns, READ, WRITE, lying};

fn pair(zeroes: ZeroMode) -> Pair {
    let mut rig = Pair::past_end(300_032);
    rig.zeroes = zeroes;
    let mut pair = Pair::new(rig);
    pair.source[..8192].fill(0);
    pair.source[40_960..131_072].fill(0);
    pair
}

fn by_array(ran: &Ran) -> (Bytes, Option<&str>) {
    let offload = ran.offload.as_ref().unwrap();
    (offload.moved(), offload.gave_up())
}

#[test]
fn the_array_copies_what_holds_data_and_this_host_reads_the_trial_alone() {
    for zeroes in [ZeroMode::Write, ZeroMode::Punch] {
        let luns = Luns::new(pair(zeroes), |_| {});
        let opened = luns.open();
        let ran = opened.copy(&luns.pair, Some(opened.offload().unwrap()));
        assert_eq!(by_array(&ran).1, None);
        assert_eq!(by_array(&ran).0, Bytes(300_032 - 8192 - 90_112), "the holes were not copied");
        assert_eq!(ran.end.unwrap(), End::Complete);
        luns.assert_equal();
        assert_eq!(Luns::count(&luns.source, READ), 8, "two extents, read before and after their trials");
    }
}

#[test]
fn zeroes_that_must_stay_are_not_written_for_a_trial() {
    let luns = Luns::new(pair(ZeroMode::Skip), |_| {});
    let opened = luns.open();
    let ran = opened.copy(&luns.pair, Some(opened.offload().unwrap()));
    assert_eq!(ran.end.unwrap(), End::Complete);
    assert!(ran.offload.unwrap().gave_up().unwrap().contains("left alone"));
    luns.assert_equal();
    assert_eq!(Luns::count(&luns.target, EXTENDED_COPY), 0);
}

#[test]
fn luns_that_share_a_designator_are_refused() {
    let luns = Luns::new(pair(ZeroMode::Write), |options| options.naa = [0x60; 16]);
    let refused = luns.open().offload().err().unwrap();
    assert!(refused.contains("the same designator, naa.6060"), "{refused}");
    let luns = Luns::new(pair(ZeroMode::Write), |options| options.third_party_copy = false);
    let refused = luns.open().offload().err().unwrap();
    assert!(refused.contains("3PC"), "{refused}");
}

/// A third LUN of the array bears the target's designator, and the array takes that one.
#[test]
fn an_array_that_writes_to_another_lun_is_caught_by_the_trial() {
    for zeroes in [ZeroMode::Write, ZeroMode::Punch] {
        let array = SimArray::new(&SimClock::default());
        let third = array.lu(LuOptions::new("target", 2000, 512));
        let luns = Luns::on(array, pair(zeroes), |_| {});
        let opened = luns.open();
        let ran = opened.copy(&luns.pair, Some(opened.offload().unwrap()));
        let (moved, gave_up) = by_array(&ran);
        assert!(moved == Bytes::ZERO && gave_up.unwrap().contains("does not hold that"), "{gave_up:?}");
        assert_eq!(ran.end.unwrap(), End::Complete);
        luns.assert_equal();
        let hit = third.mapped().iter().filter(|mapped| **mapped).count();
        assert_eq!(hit, 16, "no more than the trial's extent went astray");
    }
}

/// What a broken copy manager makes of a command: a change of the parameter list with one segment.
type Lie = fn(&mut Vec<u8>) -> bool;

/// Where the only segment descriptor begins.
const SEGMENT: usize = 16 + 64;

fn add(list: &mut [u8], at: usize, blocks: u64) {
    let lba = u64::from_be_bytes(list[at..at + 8].try_into().unwrap());
    list[at..at + 8].copy_from_slice(&(lba + blocks).to_be_bytes());
}

#[test]
fn every_lie_of_a_copy_manager_is_caught() {
    let lies: [(&str, Lie); 7] = [
        ("says that it copied, and did not", |_| false),
        ("writes one block further", |list| {
            add(list, SEGMENT + 20, 1);
            true
        }),
        ("reads one block further", |list| {
            add(list, SEGMENT + 12, 1);
            true
        }),
        ("leaves out the last block", |list| {
            list[SEGMENT + 11] -= 1;
            true
        }),
        ("writes always to the start", |list| {
            list[SEGMENT + 20..SEGMENT + 28].fill(0);
            true
        }),
        ("copies always from the start to the start", |list| {
            list[SEGMENT + 12..SEGMENT + 28].fill(0);
            true
        }),
        ("copies the target onto itself", |list| {
            list[SEGMENT + 5] = 1;
            true
        }),
    ];
    for (what, lie) in lies {
        for zeroes in [ZeroMode::Write, ZeroMode::Punch] {
            // What lay on the target before is what should come there: only the pattern tells that nothing did.
            let mut pair = pair(zeroes);
            let len = pair.source.len();
            pair.target[..len].copy_from_slice(&pair.source);
            let luns = Luns::new(pair, |_| {});
            let opened = luns.open_by(lying(move |operation, list| operation != EXTENDED_COPY || lie(list)));
            let ran = opened.copy(&luns.pair, Some(opened.offload().unwrap()));
            assert!(by_array(&ran).1.is_some(), "{what}, {zeroes:?}: trusted");
            assert_eq!(ran.end.unwrap(), End::Complete, "{what}, {zeroes:?}");
            assert_eq!(luns.wrong(), None, "{what}, {zeroes:?}");
        }
    }
}

/// A copy that was stopped when some of it was on the target.
fn stopped() -> Luns {
    let luns = Luns::new(pair(ZeroMode::Write), |_| {});
    let (target, mut writes) = (luns.target.clone(), 0);
    let opened = luns.open_by(lying(move |operation, data| {
        writes += usize::from(operation == WRITE && data.len() == 4096);
        if writes == 40 {
            target.inject(Fault::once(FaultKind::Host(HostStatus::NoConnect)).times(1000).on(WRITE));
        }
        true
    }));
    opened.copy(&luns.pair, None).end.unwrap_err();
    luns.target.heal();
    luns
}

#[test]
fn the_array_may_go_on_with_what_this_host_began() {
    let luns = stopped();
    let opened = luns.open();
    let ran = opened.resume(&luns.pair, Some(opened.offload().unwrap()));
    assert!(ran.started_at > Bytes::ZERO && by_array(&ran).0 > Bytes::ZERO);
    assert_eq!(ran.end.unwrap(), End::Complete);
    luns.assert_equal();
}

#[test]
fn a_copy_that_goes_on_ends_where_the_array_may_have_damaged_what_it_has() {
    let luns = stopped();
    let opened = luns.open_by(lying(|operation, list| {
        if operation == EXTENDED_COPY {
            list[SEGMENT + 20..SEGMENT + 28].fill(0);
        }
        true
    }));
    let error = opened.resume(&luns.pair, Some(opened.offload().unwrap())).end.unwrap_err();
    assert!(matches!(error, CopyError::ArrayLied { .. }), "{error}");
    assert!(luns.wrong().unwrap().contains("the first is block 0"), "the trial went to the start");
}

#[test]
fn an_array_that_copies_the_wrong_way_round_is_told_of() {
    let luns = Luns::new(pair(ZeroMode::Write), |_| {});
    let swap = |operation, list: &mut Vec<u8>| {
        if operation == EXTENDED_COPY {
            (list[SEGMENT + 5], list[SEGMENT + 7]) = (1, 0);
        }
        true
    };
    let opened = luns.open_by(lying(swap));
    let error = opened.copy(&luns.pair, Some(opened.offload().unwrap())).end.unwrap_err();
    assert!(matches!(&error, CopyError::SourceChanged(words) if words.contains("wrong way round")), "{error}");
    assert_eq!(Luns::count(&luns.target, EXTENDED_COPY), 1);
}

#[test]
fn this_host_goes_on_where_the_array_gives_up() {
    let full = FaultKind::Sense { key: 5, code: Code { asc: 0x26, ascq: 0x08 } };
    let aborted = FaultKind::Sense { key: 0xA, code: Code { asc: 0x0D, ascq: 0x02 } };
    for kind in [full, aborted] {
        for zeroes in [ZeroMode::Write, ZeroMode::Punch] {
            let luns = Luns::new(pair(zeroes), |_| {});
            let (target, mut sent) = (luns.target.clone(), 0);
            let opened = luns.open_by(lying(move |operation, _| {
                sent += usize::from(operation == EXTENDED_COPY);
                if operation == EXTENDED_COPY && sent == 6 {
                    target.inject(Fault::once(kind).times(100).on(EXTENDED_COPY));
                }
                true
            }));
            let ran = opened.copy(&luns.pair, Some(opened.offload().unwrap()));
            let (moved, gave_up) = by_array(&ran);
            assert!(moved == Bytes(3 * 8192) && gave_up.unwrap().contains("EXTENDED COPY"), "{moved}, {gave_up:?}");
            assert_eq!(ran.end.unwrap(), End::Complete);
            luns.assert_equal();
        }
    }
}

#[test]
fn an_outcome_that_is_not_known_ends_the_copy() {
    for kind in [FaultKind::Hung, FaultKind::LostReply(HostStatus::TimeOut), FaultKind::Host(HostStatus::NoConnect)] {
        let luns = Luns::new(pair(ZeroMode::Write), |_| {});
        let opened = luns.open();
        luns.target.inject(Fault::once(kind).times(1).on(EXTENDED_COPY));
        let error = opened.copy(&luns.pair, Some(opened.offload().unwrap())).end.unwrap_err();
        assert!(error.to_string().contains("may still be copying"), "{kind:?}: {error}");
        assert_eq!(Luns::count(&luns.target, EXTENDED_COPY), 1, "{kind:?}: nothing is sent again");
        let opened = luns.open();
        assert_eq!(opened.resume(&luns.pair, Some(opened.offload().unwrap())).end.unwrap(), End::Complete);
        luns.assert_equal();
    }
}

#[test]
fn a_bad_block_is_found_by_this_host() {
    let luns = Luns::new(pair(ZeroMode::Write), |_| {});
    luns.source.spoil(400);
    let opened = luns.open();
    let ran = opened.copy(&luns.pair, Some(opened.offload().unwrap()));
    assert!(by_array(&ran).1.is_some(), "COPY ABORTED: the lanes look for themselves");
    let bad: Vec<_> = ran.unreadable.iter().map(|range| (range.lba.0, range.blocks)).collect();
    assert_eq!(bad, [(400, 1)]);
    assert_eq!(ran.end.unwrap(), End::Complete);
}

#[test]
fn a_fenced_host_writes_nothing_more_by_the_array_either() {
    let luns = Luns::new(pair(ZeroMode::Write), |_| {});
    let opened = luns.open();
    let conflict = FaultKind::Host(HostStatus::NexusFailure);
    luns.target.inject(Fault::once(conflict).times(1000).on(EXTENDED_COPY));
    luns.target.inject(Fault::once(conflict).times(1000).on(WRITE));
    let error = opened.copy(&luns.pair, Some(opened.offload().unwrap())).end.unwrap_err();
    assert!(error.is_fenced(), "{error}");
}
