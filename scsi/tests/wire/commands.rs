//! Golden bytes of every command. Where a line of bytes is not from the standard's table, it is wrong, whatever the
//! code says.

use lunferry_scsi::cdb::{Command, Kind, Request, TimeoutClass, Transfer};
use lunferry_scsi::command::enquiry::{
    Inquiry, LunSelection, PersistentReserveIn, PortGroupsFormat, ReadCapacity10, ReadCapacity16, ReportLuns,
    ReportTargetPortGroups, ReservationQuestion, TestUnitReady,
};
use lunferry_scsi::command::reservation::{Reach, ReservationOut, ReservationType};
use lunferry_scsi::command::thin::{GetLbaStatus, Pattern, Unmap, WriteSame16};
use lunferry_scsi::command::transfer::{
    ByteCheck, Caching, CompareAndWrite, FlushRange, Read10, Read16, SynchronizeCache10, SynchronizeCache16, Verify16,
    Write10, Write16,
};
use lunferry_scsi::key::Key;
use lunferry_scsi::units::{BlockCount, BlockRange, Lba};

use crate::capture::parse;

const FUA: Caching = Caching { fua: true, dpo: false };
const BOTH: Caching = Caching { fua: true, dpo: true };
const NEITHER: Caching = Caching { fua: false, dpo: false };
const SMALL: BlockRange = BlockRange::new(0x1234_5678, 0x9ABC);
const LARGE: BlockRange = BlockRange::new(0x0123_4567_89AB_CDEF, 0x1000_0001);

/// Checks the CDB and gives the rest.
pub fn golden(command: &dyn Command, cdb: &str) -> Request {
    let request = command.request().unwrap();
    assert_eq!(request.cdb.as_bytes(), parse(cdb).unwrap(), "{}", request.name);
    request
}

fn list(request: Request) -> Vec<u8> {
    match request.transfer {
        Transfer::Out(list) => list,
        other => panic!("{}: {other:?}", request.name),
    }
}

#[test]
fn questions() {
    let standard = golden(&Inquiry { page: None, allocation: 36 }, "12 00 00 00 24 00");
    assert_eq!(standard.transfer, Transfer::In(36));
    assert_eq!((standard.kind, standard.timeout), (Kind::Query, TimeoutClass::Query));
    golden(&Inquiry { page: Some(0x83), allocation: 0x1234 }, "12 01 83 12 34 00");
    golden(&Inquiry { page: Some(0), allocation: 252 }, "12 01 00 00 fc 00");
    assert_eq!(golden(&TestUnitReady, "00 00 00 00 00 00").transfer, Transfer::None);
    assert_eq!(golden(&ReadCapacity10, "25 00 00 00 00 00 00 00 00 00").transfer, Transfer::In(8));
    golden(&ReadCapacity16, "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00");
    let luns = ReportLuns { selection: LunSelection::All, allocation: 0x1000 };
    golden(&luns, "a0 00 02 00 00 00 00 00 10 00 00 00");
    let groups = |format| ReportTargetPortGroups { format, allocation: 0x400 };
    golden(&groups(PortGroupsFormat::LengthOnly), "a3 0a 00 00 00 00 00 00 04 00 00 00");
    golden(&groups(PortGroupsFormat::Extended), "a3 2a 00 00 00 00 00 00 04 00 00 00");
    let status = GetLbaStatus { from: Lba(0x0123_4567_89AB_CDEF), allocation: 0x2008 };
    golden(&status, "9e 12 01 23 45 67 89 ab cd ef 00 00 20 08 00 00");
}

#[test]
fn transfers() {
    let read = golden(&Read10 { range: SMALL, caching: NEITHER }, "28 00 12 34 56 78 00 9a bc 00");
    assert_eq!((read.transfer, read.kind), (Transfer::BlocksIn(BlockCount(0x9ABC)), Kind::Query));
    let write = golden(&Write10 { range: SMALL, caching: BOTH }, "2a 18 12 34 56 78 00 9a bc 00");
    assert_eq!((write.transfer, write.kind), (Transfer::BlocksOut(BlockCount(0x9ABC)), Kind::Overwrite));
    let dpo = Caching { fua: false, dpo: true };
    golden(&Read16 { range: LARGE, caching: dpo }, "88 10 01 23 45 67 89 ab cd ef 10 00 00 01 00 00");
    golden(&Write16 { range: LARGE, caching: FUA }, "8a 08 01 23 45 67 89 ab cd ef 10 00 00 01 00 00");
    let one = BlockRange::new(0x22, 4);
    let swap = golden(&CompareAndWrite { range: one, caching: FUA }, "89 08 00 00 00 00 00 00 00 22 00 00 00 04 00 00");
    assert_eq!((swap.transfer, swap.kind), (Transfer::BlocksOut(BlockCount(8)), Kind::Conditional));
}

#[test]
fn verifying() {
    let verify = |check| Verify16 { range: LARGE, check, dpo: true };
    let none = golden(&verify(ByteCheck::MediumOnly), "8f 10 01 23 45 67 89 ab cd ef 10 00 00 01 00 00");
    assert_eq!(none.transfer, Transfer::None);
    let each = golden(&verify(ByteCheck::EachBlock), "8f 12 01 23 45 67 89 ab cd ef 10 00 00 01 00 00");
    assert_eq!(each.transfer, Transfer::BlocksOut(LARGE.blocks));
    let one = golden(&verify(ByteCheck::OneBlock), "8f 16 01 23 45 67 89 ab cd ef 10 00 00 01 00 00");
    assert_eq!(one.transfer, Transfer::BlocksOut(BlockCount(1)));
}

#[test]
fn flushing() {
    let all = golden(&SynchronizeCache10 { range: FlushRange::Everything }, "35 00 00 00 00 00 00 00 00 00");
    assert_eq!((all.transfer, all.kind, all.timeout), (Transfer::None, Kind::Flush, TimeoutClass::Medium));
    golden(&SynchronizeCache10 { range: FlushRange::Blocks(SMALL) }, "35 00 12 34 56 78 00 9a bc 00");
    let large = SynchronizeCache16 { range: FlushRange::Blocks(LARGE) };
    golden(&large, "91 00 01 23 45 67 89 ab cd ef 10 00 00 01 00 00");
}

#[test]
fn allocation() {
    let ranges = vec![LARGE, BlockRange::new(8, 16)];
    let unmap = golden(&Unmap { ranges, anchor: true }, "42 01 00 00 00 00 00 00 28 00");
    assert_eq!(unmap.kind, Kind::Overwrite);
    let wanted = "00 26 00 20 00 00 00 00 \
                  01 23 45 67 89 ab cd ef 10 00 00 01 00 00 00 00 \
                  00 00 00 00 00 00 00 08 00 00 00 10 00 00 00 00";
    assert_eq!(list(unmap), parse(wanted).unwrap());
    let same = |pattern, unmap| WriteSame16 { range: LARGE, pattern, unmap };
    let block = golden(&same(Pattern::OneBlock, true), "93 08 01 23 45 67 89 ab cd ef 10 00 00 01 00 00");
    assert_eq!(block.transfer, Transfer::BlocksOut(BlockCount(1)));
    let none = golden(&same(Pattern::NoData, false), "93 01 01 23 45 67 89 ab cd ef 10 00 00 01 00 00");
    assert_eq!(none.transfer, Transfer::None);
}

#[test]
fn reading_reservations() {
    let ask = |question| PersistentReserveIn { question, allocation: 0x1000 };
    let keys = golden(&ask(ReservationQuestion::ReadKeys), "5e 00 00 00 00 00 00 10 00 00");
    assert_eq!((keys.kind, keys.timeout), (Kind::Query, TimeoutClass::Reservation));
    golden(&ask(ReservationQuestion::ReadReservation), "5e 01 00 00 00 00 00 10 00 00");
    golden(&ask(ReservationQuestion::ReportCapabilities), "5e 02 00 00 00 00 00 10 00 00");
    golden(&ask(ReservationQuestion::ReadFullStatus), "5e 03 00 00 00 00 00 10 00 00");
}

#[test]
fn changing_reservations() {
    let (key, victim) = (Key(0x4C46_0001_A1B2_C3D4), Key(0x0102_0304_0506_0708));
    let kind = ReservationType::WriteExclusiveRegistrantsOnly;
    let aptpl = Reach { aptpl: true, all_target_ports: false };
    let both = Reach { aptpl: true, all_target_ports: true };
    let (own, other, none) = ("4c 46 00 01 a1 b2 c3 d4", "01 02 03 04 05 06 07 08", "00 00 00 00 00 00 00 00");
    let cases = [
        (ReservationOut::Register { current: Key::NONE, new: key, reach: aptpl }, "00 00", none, own, "01"),
        (ReservationOut::Register { current: key, new: Key::NONE, reach: Reach::default() }, "00 00", own, none, "00"),
        (ReservationOut::Reserve { key, kind }, "01 05", own, none, "00"),
        (ReservationOut::Release { key, kind }, "02 05", own, none, "00"),
        (ReservationOut::Clear { key }, "03 00", own, none, "00"),
        (ReservationOut::Preempt { key, victim, kind }, "04 05", own, other, "00"),
        (ReservationOut::PreemptAndAbort { key, victim, kind }, "05 05", own, other, "00"),
        (ReservationOut::RegisterAndIgnore { new: key, reach: both }, "06 00", none, own, "05"),
    ];
    for (command, action, first, second, flags) in cases {
        let request = golden(&command, &format!("5f {action} 00 00 00 00 00 18 00"));
        assert_eq!((request.kind, request.timeout), (Kind::ReservationOut, TimeoutClass::Reservation));
        let wanted = parse(&format!("{first} {second} 00 00 00 00 {flags} 00 00 00")).unwrap();
        assert_eq!(list(request), wanted, "{command:?}");
    }
    let codes = ReservationType::ALL.map(ReservationType::code);
    assert_eq!(codes, [1, 3, 5, 6, 7, 8]);
    let back = (0..=255).filter_map(ReservationType::from_code).collect::<Vec<_>>();
    assert_eq!(back, ReservationType::ALL);
}
