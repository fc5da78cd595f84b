//! Third-party copy: golden bytes, and what is refused before anything is sent.

use lunferry_scsi::cdb::{Command, EncodeError, Kind, TimeoutClass, Transfer};
use lunferry_scsi::command::copy::{CopyPlace, ExtendedCopy, ListIdUsage, ReceiveCopyResults, Segment};
use lunferry_scsi::page::designator::{Association, CodeSet, Designator, DesignatorKind};
use lunferry_scsi::units::{BlockRange, BlockSize, Lba, ListId};

use crate::capture::parse;
use crate::commands::golden;

fn place(last: u8) -> CopyPlace {
    let mut bytes = parse("60 01 40 5c 0f fe e0 01 23 45 67 89 ab cd ef 00").unwrap();
    bytes[15] = last;
    let (association, kind, code_set) = (Association::LogicalUnit, DesignatorKind::Naa, CodeSet::Binary);
    let designator = Designator { association, kind, code_set, protocol: None, bytes };
    CopyPlace { designator, block: BlockSize(512) }
}

fn copy() -> ExtendedCopy {
    let segments = vec![Segment { from: BlockRange::new(0x0123_4567_89AB_CDEF, 0x8000), to: Lba(0x10) }];
    let (source, target) = (place(1), place(2));
    ExtendedCopy { list: ListId(7), usage: ListIdUsage::Discard, priority: 1, source, target, segments }
}

#[test]
fn a_copy_between_two_luns() {
    let request = golden(&copy(), "83 00 00 00 00 00 00 00 00 00 00 00 00 6c 00 00");
    assert_eq!((request.kind, request.timeout), (Kind::Copy, TimeoutClass::Copy));
    let wanted = "07 11 00 40 00 00 00 00 00 00 00 1c 00 00 00 00 \
        e4 00 00 00 01 03 00 10 60 01 40 5c 0f fe e0 01 23 45 67 89 ab cd ef 01 00 00 00 00 00 00 02 00 \
        e4 00 00 00 01 03 00 10 60 01 40 5c 0f fe e0 01 23 45 67 89 ab cd ef 02 00 00 00 00 00 00 02 00 \
        02 00 00 18 00 00 00 01 00 00 80 00 01 23 45 67 89 ab cd ef 00 00 00 00 00 00 00 10";
    assert_eq!(request.transfer, Transfer::Out(parse(wanted).unwrap()));
}

#[test]
fn the_header_says_how_long_results_are_kept() {
    let second = |usage, list, priority| match (ExtendedCopy { usage, list, priority, ..copy() }).request() {
        Ok(request) => match request.transfer {
            Transfer::Out(list) => Ok(list[1]),
            other => panic!("{other:?}"),
        },
        Err(error) => Err(error),
    };
    assert_eq!(second(ListIdUsage::Hold, ListId(1), 0), Ok(0x00));
    assert_eq!(second(ListIdUsage::Discard, ListId(1), 7), Ok(0x17));
    assert_eq!(second(ListIdUsage::Unnamed, ListId(0), 3), Ok(0x1B));
    assert!(matches!(second(ListIdUsage::Unnamed, ListId(1), 0), Err(EncodeError::Unfit { .. })));
    assert!(matches!(second(ListIdUsage::Hold, ListId(0), 0), Err(EncodeError::Unfit { .. })));
    assert!(matches!(second(ListIdUsage::Hold, ListId(1), 8), Err(EncodeError::TooLarge { .. })));
}

#[test]
fn asking_after_a_copy() {
    golden(&ReceiveCopyResults::Status(ListId(7)), "84 00 07 00 00 00 00 00 00 00 00 00 00 0c 00 00");
    golden(&ReceiveCopyResults::OperatingParameters, "84 03 00 00 00 00 00 00 00 00 00 00 02 00 00 00");
}

#[test]
fn luns_with_the_same_designator_are_never_copied_between() {
    let error = ExtendedCopy { target: place(1), ..copy() }.request().unwrap_err();
    assert!(error.to_string().contains("same designator"), "{error}");
}

#[test]
fn a_copy_that_can_not_be_said_is_refused() {
    let with = |change: &dyn Fn(&mut ExtendedCopy)| {
        let mut copy = copy();
        change(&mut copy);
        copy.request().expect_err("refused").to_string()
    };
    let segment = |lba, blocks, to| vec![Segment { from: BlockRange::new(lba, blocks), to: Lba(to) }];
    assert!(with(&|copy| copy.segments.clear()).contains("segment"));
    assert!(with(&|copy| copy.segments = segment(0, 0, 0)).contains("zero"));
    assert!(with(&|copy| copy.segments = segment(0, 65536, 0)).contains("65535"));
    assert!(with(&|copy| copy.segments = segment(u64::MAX, 1, 0)).contains("past the last"));
    assert!(with(&|copy| copy.segments = segment(0, 1, u64::MAX)).contains("past the last"));
    assert!(with(&|copy| copy.target.block = BlockSize(4096)).contains("block sizes"));
    assert!(with(&|copy| copy.source.designator.code_set = CodeSet::Ascii).contains("not binary"));
    assert!(with(&|copy| copy.source.designator.bytes = vec![1; 21]).contains("1 to 20"));
    assert!(with(&|copy| copy.source.designator.bytes.clear()).contains("1 to 20"));
    let huge = BlockSize(1 << 24);
    assert!(with(&|copy| (copy.source.block, copy.target.block) = (huge, huge)).contains("DISK BLOCK LENGTH"));
}
