//! Values that do not fit a field are errors and never cut.

use lunferry_scsi::cdb::{Command, EncodeError};
use lunferry_scsi::command::enquiry::{
    Inquiry, LunSelection, PersistentReserveIn, PortGroupsFormat, ReportLuns, ReportTargetPortGroups,
    ReservationQuestion,
};
use lunferry_scsi::command::reservation::{ReservationOut, ReservationType};
use lunferry_scsi::command::thin::{GetLbaStatus, Pattern, Unmap, WriteSame16};
use lunferry_scsi::command::transfer::{
    ByteCheck, Caching, CompareAndWrite, FlushRange, Read10, Read16, SynchronizeCache10, SynchronizeCache16, Verify16,
    Write10, Write16,
};
use lunferry_scsi::key::Key;
use lunferry_scsi::units::{BlockRange, Lba};

const CACHING: Caching = Caching { fua: false, dpo: false };
const TEN: u64 = u32::MAX as u64;

fn ranged(range: BlockRange) -> Vec<(&'static str, Result<(), EncodeError>)> {
    let flush = FlushRange::Blocks(range);
    let commands: [(&'static str, &dyn Command); 11] = [
        ("read10", &Read10 { range, caching: CACHING }),
        ("write10", &Write10 { range, caching: CACHING }),
        ("flush10", &SynchronizeCache10 { range: flush }),
        ("swap", &CompareAndWrite { range, caching: CACHING }),
        ("read16", &Read16 { range, caching: CACHING }),
        ("write16", &Write16 { range, caching: CACHING }),
        ("flush16", &SynchronizeCache16 { range: flush }),
        ("verify", &Verify16 { range, check: ByteCheck::EachBlock, dpo: false }),
        ("same", &WriteSame16 { range, pattern: Pattern::NoData, unmap: false }),
        ("unmap", &Unmap { ranges: vec![range], anchor: false }),
        ("unmap2", &Unmap { ranges: vec![BlockRange::new(0, 1), range], anchor: false }),
    ];
    commands.map(|(name, command)| (name, command.request().map(drop))).to_vec()
}

/// The names of the commands that took the range.
fn taken(lba: u64, blocks: u64) -> Vec<&'static str> {
    ranged(BlockRange::new(lba, blocks))
        .into_iter()
        .filter(|(_, result)| result.is_ok())
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn each_command_takes_what_its_fields_hold() {
    let sixteen = ["read16", "write16", "flush16", "verify", "same", "unmap", "unmap2"];
    assert_eq!(taken(0, 1).len(), 11);
    assert_eq!(taken(TEN, 255).len(), 11);
    assert_eq!(taken(TEN, 256).len(), 10, "COMPARE AND WRITE has one byte for its count");
    assert_eq!(taken(TEN + 1, 65535), sixteen);
    assert_eq!(taken(0, 65536), sixteen);
    assert_eq!(taken(u64::MAX - TEN, TEN), sixteen);
    assert_eq!(taken(0, TEN + 1), [""; 0]);
    assert_eq!(taken(u64::MAX - TEN + 1, TEN), [""; 0], "goes past the last address");
}

#[test]
fn an_empty_range_is_refused_everywhere() {
    for (name, result) in ranged(BlockRange::new(0, 0)) {
        assert!(matches!(result, Err(EncodeError::Zero { .. })), "{name}: {result:?}");
    }
}

#[test]
fn a_list_has_an_end() {
    let unmap = |count| Unmap { ranges: vec![BlockRange::new(0, 1); count], anchor: false }.request();
    assert!(matches!(unmap(0), Err(EncodeError::Zero { .. })));
    assert!(unmap(4095).is_ok());
    assert!(matches!(unmap(4096), Err(EncodeError::TooLarge { .. })));
}

#[test]
fn an_allocation_length_has_room_for_the_header() {
    let keys = |allocation| PersistentReserveIn { question: ReservationQuestion::ReadKeys, allocation }.request();
    assert!(keys(7).is_err() && keys(8).is_ok() && keys(65535).is_ok() && keys(65536).is_err());
    let inquiry = |page, allocation| Inquiry { page, allocation }.request();
    assert!(inquiry(None, 4).is_err() && inquiry(None, 5).is_ok() && inquiry(Some(0x80), 3).is_err());
    assert!(ReportLuns { selection: LunSelection::All, allocation: 15 }.request().is_err());
    assert!(ReportTargetPortGroups { format: PortGroupsFormat::Extended, allocation: 7 }.request().is_err());
    assert!(GetLbaStatus { from: Lba(0), allocation: 23 }.request().is_err());
}

#[test]
fn a_reservation_is_changed_under_a_key() {
    let kind = ReservationType::WriteExclusiveRegistrantsOnly;
    let (none, key) = (Key::NONE, Key(1));
    let refused = [
        ReservationOut::Reserve { key: none, kind },
        ReservationOut::Release { key: none, kind },
        ReservationOut::Clear { key: none },
        ReservationOut::Preempt { key: none, victim: key, kind },
        ReservationOut::Preempt { key, victim: none, kind },
        ReservationOut::PreemptAndAbort { key, victim: none, kind },
    ];
    for command in refused {
        assert!(matches!(command.request(), Err(EncodeError::Zero { .. })), "{command:?}");
    }
}

#[test]
fn an_error_names_command_field_value_and_mend() {
    let error = Read10 { range: BlockRange::new(TEN + 1, 1), caching: CACHING }.request().unwrap_err().to_string();
    for part in ["READ(10)", "LOGICAL BLOCK ADDRESS", "4294967296", "4294967295", "16-byte"] {
        assert!(error.contains(part), "{error}");
    }
}
