//! The vehicle against a LUN in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use lunferry_scsi::status::{HostStatus, Status};

use super::fake::{BLOCK, CDB_FIELD, Fake, ended};
use super::*;
use crate::copy::retry::{Category as Means, categorise};
use crate::lun::device_error::errno_of;
use crate::lun::sg::durable::DurableBy;

const READ: u8 = 0x88;
const WRITE: u8 = 0x8A;
const COMPARE_AND_WRITE: u8 = 0x89;
const SYNCHRONIZE: u8 = 0x91;
const WRITE_SAME: u8 = 0x93;
const UNMAP: u8 = 0x42;

fn block(n: usize) -> Bytes {
    Bytes::from(n * BLOCK)
}

fn blocks(from: usize, to: usize) -> Span {
    Span::new(block(from), block(to))
}

#[test]
fn transfers_are_cut_to_what_the_queue_takes() {
    // One segment of 4 KiB: eight blocks a command.
    let fake = Fake::new(64, |_| {});
    let lun = fake.open();
    let data: Vec<u8> = (0..20 * BLOCK).map(|i| u8::try_from(i % 251).unwrap()).collect();
    lun.write_at(&data, block(3), Caching::default()).unwrap();
    let mut read = vec![0; data.len()];
    assert_eq!(lun.read_at(&mut read, block(3)).unwrap(), data.len());
    assert_eq!(read, data);
    let counts: Vec<u32> = fake.lu().sent.iter().map(|(_, _, blocks)| *blocks).collect();
    assert_eq!(counts, [8, 8, 4, 8, 8, 4]);
}

#[test]
fn a_bad_block_is_reached_and_no_more() {
    let fake = Fake::new(64, |lu| lu.bad_block = Some(13));
    let lun = fake.open();
    let mut read = vec![0; 16 * BLOCK];
    assert_eq!(lun.read_at(&mut read, block(2)).unwrap(), 11 * BLOCK, "up to the bad block");
    let error = lun.read_at(&mut read, block(13)).unwrap_err();
    assert_eq!(errno_of(&error), Some(libc::ENODATA));
    assert!(error.to_string().contains("READ(16)"), "{error}");
}

#[test]
fn a_conflict_is_a_fence_and_is_not_sent_again() {
    let fake = Fake::new(64, |_| {});
    let lun = fake.open();
    fake.lu().ends.push_back((WRITE, false, ended(Status::ReservationConflict, HostStatus::Ok, None)));
    let error = of_command(&lun.write_at(&[0; BLOCK], block(1), Caching::default()).unwrap_err());
    assert_eq!(categorise(&error), Means::Fenced);
    assert_eq!(fake.count(WRITE), 1);
}

#[test]
fn a_checkpoint_replaces_only_what_this_copy_left_there() {
    let fake = Fake::new(64, |_| {});
    let lun = fake.open();
    lun.durable().write(&lun, block(5), &[1; BLOCK]).unwrap();
    lun.durable().write(&lun, block(5), &[2; BLOCK]).unwrap();
    assert_eq!(lun.durable().by(), Some(DurableBy::CompareAndWrite));
    assert_eq!((fake.count(COMPARE_AND_WRITE), fake.count(WRITE), fake.count(SYNCHRONIZE)), (2, 0, 0));
    fake.lu().data[5 * BLOCK] = 9;
    let error = lun.durable().write(&lun, block(5), &[3; BLOCK]).unwrap_err();
    assert_eq!(categorise(&error), Means::Fenced, "{error}");
    assert!(error.to_string().contains("another host"), "{error}");
    assert_eq!(fake.lu().data[5 * BLOCK], 9, "what the other one wrote stays");
}

#[test]
fn what_changed_between_the_first_look_and_the_first_write_is_found() {
    let fake = Fake::new(64, |_| {});
    let lun = fake.open();
    lun.durable().expect(block(5), vec![0xC3; 100]);
    lun.durable().expect(block(6), vec![0; 100]);
    lun.durable().write(&lun, block(5), &[1; BLOCK]).unwrap();
    let error = lun.durable().write(&lun, block(6), &[1; BLOCK]).unwrap_err();
    assert_eq!(categorise(&error), Means::Fenced, "{error}");
}

#[test]
fn an_unknown_outcome_of_a_checkpoint_is_read_back() {
    let timeout = || ended(Status::Good, HostStatus::TimeOut, None);
    for was_done in [true, false] {
        let fake = Fake::new(64, |_| {});
        let lun = fake.open();
        fake.lu().ends.push_back((COMPARE_AND_WRITE, was_done, timeout()));
        lun.durable().write(&lun, block(5), &[1; BLOCK]).unwrap();
        assert_eq!(fake.lu().data[5 * BLOCK..6 * BLOCK], [1; BLOCK]);
        assert_eq!(fake.count(COMPARE_AND_WRITE), if was_done { 1 } else { 2 });
        assert_eq!(fake.count(SYNCHRONIZE), usize::from(was_done), "whether it came with FUA is not known");
    }
}

#[test]
fn the_ways_to_a_durable_write_are_tried_in_turn() {
    let fake = Fake::new(64, |lu| lu.unknown.push(COMPARE_AND_WRITE));
    let lun = fake.open();
    lun.durable().write(&lun, block(5), &[1; BLOCK]).unwrap();
    assert_eq!(lun.durable().by(), Some(DurableBy::WriteAndFlush), "the refusal could have been FUA's");
    assert_eq!((fake.count(WRITE), fake.count(SYNCHRONIZE)), (1, 1));

    let fake = Fake::new(64, |lu| lu.max_caw = 0);
    let lun = fake.open();
    lun.durable().write(&lun, block(5), &[1; BLOCK]).unwrap();
    assert_eq!((lun.durable().by(), fake.count(SYNCHRONIZE)), (Some(DurableBy::Fua), 0));
    assert_eq!(fake.lu().sent.last().map(|(_, bits, _)| *bits), Some(0x08));

    let fake = Fake::new(64, |lu| lu.takes_fua = false);
    let lun = fake.open();
    lun.durable().write(&lun, block(5), &[1; BLOCK]).unwrap();
    assert_eq!(lun.durable().by(), Some(DurableBy::CompareAndWrite), "without FUA, and flushed");
    assert_eq!(fake.count(SYNCHRONIZE), 1);
    // Two blocks are more than it compares.
    lun.durable().write(&lun, block(8), &[1; 2 * BLOCK]).unwrap();
    assert_eq!(lun.durable().by(), Some(DurableBy::WriteAndFlush));
}

#[test]
fn a_flush_has_a_shorter_form() {
    let fake = Fake::new(64, |lu| lu.unknown.push(SYNCHRONIZE));
    let lun = fake.open();
    lun.synchronize().unwrap();
    assert_eq!(fake.count(0x35), 1);
}

/// Punches blocks 3 to 29 of a LUN full of other bytes: they are zeroes, and their neighbours are not.
fn punched(change: impl FnOnce(&mut super::fake::Lu)) -> Arc<Fake> {
    let fake = Fake::new(64, change);
    let lun = fake.open();
    lun.zeroing.punch(&lun, blocks(3, 29)).unwrap();
    let data = fake.lu().data.clone();
    for (at, byte) in data.iter().enumerate() {
        let inside = (3 * BLOCK..29 * BLOCK).contains(&at);
        assert_eq!(*byte == 0, inside, "byte {at} is {byte}");
    }
    fake
}

#[test]
fn unmapping_keeps_to_the_grid_and_the_ends_are_written() {
    let fake = punched(|_| {});
    assert_eq!((fake.count(UNMAP), fake.count(WRITE_SAME), fake.count(READ)), (1, 2, 0));
    assert_eq!(fake.lu().mapped.iter().filter(|mapped| !**mapped).count(), 16);
    let fake = punched(|lu| lu.lbpws = true);
    assert_eq!((fake.count(UNMAP), fake.count(WRITE_SAME)), (0, 3));
}

#[test]
fn a_device_that_leaves_blocks_mapped_is_found_out() {
    let fake = punched(|lu| lu.ignores_unmap = true);
    assert_eq!(fake.count(READ), 2, "GET LBA STATUS says that they are mapped, so they are read");
    // Without GET LBA STATUS all of it is read.
    let fake = Fake::new(64, |lu| lu.ignores_unmap = true);
    let lun = fake.open();
    fake.lu().unknown.push(0x9E);
    lun.zeroing.punch(&lun, blocks(8, 24)).unwrap();
    assert!(fake.lu().data[8 * BLOCK..24 * BLOCK].iter().all(|byte| *byte == 0));
}

#[test]
fn without_the_promise_of_zeroes_nothing_is_unmapped() {
    let fake = punched(|lu| lu.zeroes = false);
    assert_eq!((fake.count(UNMAP), fake.count(WRITE_SAME)), (0, 1));
    assert!(fake.open().map().is_none(), "and an unmapped range is no hole");
}

#[test]
fn a_device_without_write_same_says_so_unless_it_unmaps() {
    let fake = Fake::new(64, |lu| (lu.zeroes, lu.unknown) = (false, vec![WRITE_SAME]));
    let lun = fake.open();
    let error = lun.zeroing.punch(&lun, blocks(3, 29)).unwrap_err();
    assert_eq!(categorise(&error), Means::Unsupported);
    let fake = punched(|lu| lu.unknown.push(WRITE_SAME));
    assert_eq!(fake.count(WRITE), 2, "the ends");
    let fake = Fake::new(64, |_| {});
    let lun = fake.open();
    fake.lu().ends.push_back((UNMAP, false, ended(Status::CheckCondition, HostStatus::Ok, Some(CDB_FIELD))));
    lun.zeroing.punch(&lun, blocks(0, 64)).unwrap();
    assert!(fake.lu().data.iter().all(|byte| *byte == 0));
}

#[test]
fn one_answer_tells_many_holes() {
    let fake = Fake::new(64, |lu| lu.mapped[8..24].fill(false));
    let lun = fake.open();
    let map = lun.map().unwrap();
    let hole = |is_hole, end| Segment { is_hole, end: block(end) };
    assert_eq!(map.segment(block(0)).unwrap(), hole(false, 8));
    assert_eq!(map.segment(block(8)).unwrap(), hole(true, 24));
    assert_eq!(map.segment(block(20)).unwrap(), hole(true, 24));
    assert_eq!(map.segment(block(24)).unwrap(), hole(false, 64));
    assert_eq!(fake.count(0x9E), 1);
    assert!(map.tells());
}

#[test]
fn a_device_that_does_not_tell_has_no_holes() {
    let fake = Fake::new(64, |_| {});
    let lun = fake.open();
    fake.lu().unknown.push(0x9E);
    let map = lun.map().unwrap();
    for at in [0, 8] {
        assert_eq!(map.segment(block(at)).unwrap(), Segment { is_hole: false, end: Bytes(u64::MAX) });
    }
    assert_eq!((fake.count(0x9E), map.tells()), (1, false));
    let fake = Fake::new(64, |_| {});
    let lun = fake.open();
    fake.lu().ends.push_back((0x9E, false, ended(Status::ReservationConflict, HostStatus::Ok, None)));
    assert_eq!(categorise(&lun.map().unwrap().segment(block(0)).unwrap_err()), Means::Fenced);
}

#[test]
fn only_a_device_that_compares_is_believed() {
    assert_eq!(Fake::new(64, |_| {}).open().does_not_compare().unwrap(), None);
    let liar = Fake::new(64, |lu| lu.compares = false).open().does_not_compare().unwrap();
    assert!(liar.unwrap().contains("does not compare"));
    let without = Fake::new(64, |lu| lu.unknown.push(0x8F)).open().does_not_compare().unwrap();
    assert!(without.unwrap().contains("VERIFY(16)"));
}
