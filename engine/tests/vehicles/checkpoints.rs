//! Checkpoints by COMPARE AND WRITE: resumed from, and lost to whoever else writes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lunferry_engine::checkpoint::layout::SlotId;
use lunferry_engine::checkpoint::store::StoreError;
use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::session::End;
use lunferry_engine::units::Bytes;
use lunferry_fixtures::pair::Pair;
use lunferry_fixtures::rig::Ran;
use lunferry_fixtures::scsi::{Fault, FaultKind};
use lunferry_scsi::initiator::Initiator;
use lunferry_scsi::sense::Code;
use lunferry_scsi::status::HostStatus;

use crate::support::{COMPARE_AND_WRITE, Luns, WRITE, lying};

/// Another host writes both slots, past this copy's back, when the copy has written `after` checkpoints.
fn second_writer(luns: &Luns, after: usize) -> Ran {
    let (target, rig) = (luns.target.clone(), luns.pair.rig.clone());
    let mut seen = 0;
    let opened = luns.open_by(lying(move |operation, data| {
        let is_slot = operation == COMPARE_AND_WRITE || operation == WRITE && data.len() == rig.physical.as_len();
        seen += usize::from(is_slot);
        if is_slot && seen == after {
            for slot in SlotId::BOTH {
                let lba = rig.layout().slot(slot).start.0 / rig.block.0;
                target.fill(lba, &vec![0xEE; rig.block.as_len()]);
            }
        }
        true
    }));
    opened.copy(&luns.pair, None)
}

#[test]
fn somebody_elses_checkpoint_is_never_overwritten() {
    for after in 1..7 {
        let luns = Luns::new(Pair::new(Pair::past_end(100_352)), |_| {});
        let error = second_writer(&luns, after).end.unwrap_err();
        assert!(error.is_fenced(), "after {after}: {error}");
        let slot = luns.pair.rig.layout().slot(SlotId::A).start.as_len();
        assert_eq!(luns.target.contents()[slot..slot + 512], [0xEE; 512], "after {after}");
    }
}

#[test]
fn without_a_compare_a_second_writer_is_not_seen() {
    // What the compare is for: the same schedule on a device without it.
    let luns = Luns::new(Pair::new(Pair::past_end(100_352)), |options| options.compare_and_write = 0);
    assert_eq!(second_writer(&luns, 5).end.unwrap(), End::Complete);
}

#[test]
fn a_stopped_copy_goes_on_from_its_checkpoint() {
    for max in [0, 1, 8] {
        let luns = Luns::new(Pair::new(Pair::past_end(300_032)), |options| options.compare_and_write = max);
        let (target, mut writes) = (luns.target.clone(), 0);
        let opened = luns.open_by(lying(move |operation, data| {
            writes += usize::from(operation == WRITE && data.len() == 4096);
            if writes == 40 {
                let broken = FaultKind::Sense { key: 4, code: Code { asc: 0x44, ascq: 0 } };
                target.inject(Fault::once(broken).times(1000).on(WRITE));
                writes += 1;
            }
            true
        }));
        let error = opened.copy(&luns.pair, None).end.unwrap_err();
        assert!(error.to_string().contains("hardware error"), "the device's own words: {error}");
        luns.target.heal();
        let resumed = luns.open().resume(&luns.pair, None);
        assert_eq!(resumed.end.unwrap(), End::Complete);
        assert!(resumed.started_at > Bytes::ZERO);
        luns.assert_equal();
    }
}

#[test]
fn an_unknown_outcome_is_read_back_whether_it_was_done_or_not() {
    for kind in [FaultKind::LostReply(HostStatus::TimeOut), FaultKind::Hung, FaultKind::Host(HostStatus::Reset)] {
        let luns = Luns::new(Pair::new(Pair::past_end(100_352)), |_| {});
        let opened = luns.open();
        luns.target.inject(Fault::once(kind).times(3).on(COMPARE_AND_WRITE));
        opened.copy(&luns.pair, None).end.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        luns.assert_equal();
    }
}

/// The target loses power when `after` extents were written, and the first to hear of it is a look at the lock, which sends
/// its command again. `counted`: whether anybody counts.
fn power_loss(luns: &Luns, after: usize, counted: bool) -> Ran {
    let (target, count, mut writes) = (luns.target.clone(), Arc::new(AtomicU64::new(0)), 0);
    let kernel = Arc::clone(&count);
    let between = lying(move |operation, data| {
        writes += usize::from(operation == WRITE && data.len() == 4096);
        if writes == after {
            kernel.fetch_add(u64::from(counted), Ordering::SeqCst);
            target.power_cycle();
            // Another lane's write may have heard of it by now, which is as good.
            Initiator::new(&target.nexus(1)).clear_attentions().unwrap();
            writes += 1;
        }
        true
    });
    luns.open_cached(between, count).copy(&luns.pair, None)
}

#[test]
fn what_a_volatile_cache_may_have_lost_is_never_claimed() {
    for after in [2, 10, 24] {
        let cached = || Luns::new(Pair::new(Pair::past_end(300_032)), |options| options.write_cache = true);
        let luns = cached();
        let error = power_loss(&luns, after, true).end.unwrap_err();
        assert!(matches!(error, CopyError::Store(StoreError::Disturbed { before: 0, now: Some(1) })), "{error}");
        let resumed = luns.open().resume(&luns.pair, None);
        assert_eq!(resumed.end.unwrap(), End::Complete);
        luns.assert_equal();

        // What the count is for: without it the same copy ends well, and bytes are missing.
        let luns = cached();
        assert_eq!(power_loss(&luns, after, false).end.unwrap(), End::Complete);
        assert!(luns.wrong().is_some(), "after {after}: nothing was lost");
    }
}
