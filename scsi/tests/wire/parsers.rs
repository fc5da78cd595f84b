//! Each capture against what an engineer reads out of it by hand.

use std::time::Duration;

use lunferry_scsi::bytes::{Completeness, ParseError};
use lunferry_scsi::command::enquiry::PortGroupsFormat;
use lunferry_scsi::command::reservation::ReservationType;
use lunferry_scsi::key::{Key, NodeId, OwnKey};
use lunferry_scsi::page::capacity::{Capacity10, Geometry, capacity_10, capacity_16};
use lunferry_scsi::page::copy::{CopyProgress, copy_status, operating_parameters};
use lunferry_scsi::page::designator::{Association, DesignatorKind, designators};
use lunferry_scsi::page::identity::{IdentityKind, choose};
use lunferry_scsi::page::inquiry::{Qualifier, serial, standard, supported_pages};
use lunferry_scsi::page::limits::{
    ProvisioningType, Rotation, UnmappedRead, block_limits, characteristics, provisioning,
};
use lunferry_scsi::page::lists::{LbaState, lba_status, report_luns};
use lunferry_scsi::page::ports::{AccessState, target_port_groups};
use lunferry_scsi::page::reservation::{HeldType, capabilities, full_status, read_keys, read_reservation};
use lunferry_scsi::units::{BlockCount, BlockRange, BlockSize, Generation, Lba, PortGroup, RelativePort};

use crate::capture::bytes;

const OURS: Key = Key(0x4C46_0001_A1B2_C3D4);
const TYPE: HeldType = HeldType::Known(ReservationType::WriteExclusiveRegistrantsOnly);

#[test]
fn inquiry() {
    let lio = standard(&bytes("inquiry-lio")).unwrap();
    assert_eq!((lio.qualifier, lio.device_type, lio.version), (Qualifier::Connected, 0, 6));
    assert_eq!((lio.tpgs, lio.third_party_copy, lio.protect), (Some(3), Some(true), Some(false)));
    assert_eq!((lio.vendor.as_deref(), lio.product.as_deref()), (Some("LIO-ORG"), Some("IBLOCK")));
    assert_eq!((lio.revision.as_deref(), lio.queues), (Some("4.0"), Some(true)));
    assert!(lio.completeness.is_whole());
    assert_eq!(standard(&bytes("inquiry-absent")).unwrap().qualifier, Qualifier::Impossible);
    let cut = standard(&bytes("inquiry-cut")).unwrap();
    assert_eq!(cut.completeness, Completeness::Cut { announced: 96, received: 36 });
    assert_eq!(cut.product.as_deref(), Some("scsi_debug"));
}

#[test]
fn pages_and_serial() {
    let pages = supported_pages(&bytes("vpd00-lio")).unwrap();
    assert_eq!(pages.pages, [0x00, 0x80, 0x83, 0x86, 0xB0, 0xB1, 0xB2]);
    assert_eq!(serial(&bytes("vpd80-padded")).unwrap().as_deref(), Some("0123456789ABCD"));
    assert!(serial(&bytes("vpd80-padded")[..20]).is_err(), "a cut serial may be another LUN's");
    let wrong = serial(&bytes("vpd83-lio")).unwrap_err();
    assert!(matches!(wrong, ParseError::Wrong { field: "PAGE CODE", value: 0x83, .. }), "{wrong}");
}

#[test]
fn designations() {
    let lio = designators(&bytes("vpd83-lio")).unwrap();
    assert!(lio.completeness.is_whole());
    let kinds: Vec<_> = lio.list.iter().map(|designator| designator.kind).collect();
    use DesignatorKind::{LunGroup, Naa, PortGroup, RelativePort, ScsiName, T10Vendor};
    assert_eq!(kinds, [Naa, T10Vendor, RelativePort, PortGroup, LunGroup, ScsiName]);
    assert_eq!((lio.list[5].association, lio.list[5].protocol), (Association::TargetPort, Some(5)));
    assert_eq!((lio.list[5].shown().as_str(), lio.list[0].protocol), ("iqn.2003-01.org.x:a", None));
    assert_eq!(lio.list[1].shown(), "LIO-ORG lun0:c0ffee01");
}

#[test]
fn the_best_name_is_chosen() {
    let inquiry = standard(&bytes("inquiry-lio")).unwrap();
    let lio = designators(&bytes("vpd83-lio")).unwrap();
    let identity = choose(Some(&lio), Some("S"), &inquiry).unwrap();
    assert_eq!(identity.to_string(), "naa.6001405c0ffee0012345".to_owned() + "6789abcdef01");
    let mut many = designators(&bytes("vpd83-many")).unwrap();
    assert!(many.completeness.is_whole());
    use IdentityKind::{Eui64, Naa3, Naa5, ScsiName, T10};
    for wanted in [Naa5, Naa3, Eui64, ScsiName, T10] {
        let identity = choose(Some(&many), Some("S"), &inquiry).unwrap();
        assert_eq!(identity.kind, wanted);
        let best = many.list.iter().position(|designator| identity.name == designator.shown()).unwrap();
        many.list.remove(best);
    }
    assert_eq!(choose(Some(&many), Some("S1"), &inquiry).unwrap().to_string(), "serial.LIO-ORG.IBLOCK.S1");
    assert_eq!(choose(None, Some("S1"), &inquiry).unwrap().kind, IdentityKind::Serial);
    assert_eq!(choose(Some(&many), None, &inquiry), None);
}

#[test]
fn no_name_is_chosen_from_a_cut_list() {
    let inquiry = standard(&bytes("inquiry-lio")).unwrap();
    let cut = designators(&bytes("vpd83-cut")).unwrap();
    assert_eq!(cut.list.len(), 1);
    assert_eq!(cut.completeness, Completeness::Cut { announced: 68, received: 24 });
    assert_eq!(choose(Some(&cut), Some("S1"), &inquiry), None);
}

#[test]
fn limits() {
    let lio = block_limits(&bytes("vpdb0-lio")).unwrap();
    assert_eq!((lio.write_same_non_zero, lio.max_compare_and_write), (true, 1));
    assert_eq!((lio.max_transfer, lio.optimal_transfer, lio.optimal_granularity), (Some(16384), Some(8192), Some(1)));
    assert_eq!((lio.max_unmap_blocks, lio.max_unmap_descriptors), (Some(131_072), Some(1)));
    assert_eq!((lio.unmap_granularity, lio.unmap_alignment, lio.max_write_same), (Some(8), Some(3), Some(4096)));
    let old = block_limits(&bytes("vpdb0-sbc2")).unwrap();
    assert_eq!((old.max_transfer, old.max_unmap_blocks, old.max_write_same), (None, None, None));
    let disk = characteristics(&bytes("vpdb1-disk")).unwrap();
    assert_eq!((disk.rotation, disk.fuab), (Rotation::Rpm(7200), Some(true)));
    let thin = provisioning(&bytes("vpdb2-thin")).unwrap();
    assert_eq!((thin.unmap, thin.write_same_16, thin.write_same_10, thin.anchors), (true, true, true, true));
    assert_eq!((thin.unmapped_read, thin.kind), (UnmappedRead::Zeroes, Some(ProvisioningType::Thin)));
    let short = provisioning(&bytes("vpdb2-short")).unwrap();
    assert_eq!((short.unmap, short.unmapped_read, short.kind), (true, UnmappedRead::Anything, None));
}

#[test]
fn capacities() {
    let small = capacity_10(&bytes("readcap10-small")).unwrap();
    assert_eq!(small, Capacity10::Known { blocks: BlockCount(131_072), block: BlockSize(512) });
    assert_eq!(capacity_10(&bytes("readcap10-large")).unwrap(), Capacity10::TooLarge);
    let e512 = capacity_16(&bytes("readcap16-512e")).unwrap();
    assert_eq!((e512.blocks, e512.block, e512.protected), (BlockCount(1 << 33), BlockSize(512), Some(false)));
    let lowest = Lba(1);
    let flat =
        Geometry { physical_exponent: 3, lowest_aligned: lowest, provisioned: false, unmapped_reads_zero: false };
    assert_eq!(e512.geometry, Some(flat));
    let thin = capacity_16(&bytes("readcap16-thin")).unwrap();
    let geometry = thin.geometry.unwrap();
    assert!(geometry.provisioned && geometry.unmapped_reads_zero && geometry.lowest_aligned == Lba(0));
    let short = capacity_16(&bytes("readcap16-short")).unwrap();
    assert_eq!((short.blocks, short.geometry), (BlockCount(1 << 18), None));
    assert!(capacity_16(&[0xFF; 32]).is_err(), "no LUN has 2^64 blocks");
    assert!(capacity_10(&[0; 8]).is_err(), "a block has bytes");
}

#[test]
fn block_states() {
    let data = bytes("lbastatus-two");
    let status = lba_status(&data, Lba(100)).unwrap();
    let mapped = (BlockRange::new(100, 156), LbaState::MappedOrUnknown);
    let free = (BlockRange::new(256, 4096), LbaState::Deallocated);
    assert_eq!(status.ranges, [mapped, free]);
    assert!(status.completeness.is_whole() && free.1.is_unmapped() && !mapped.1.is_unmapped());
    assert!(lba_status(&data, Lba(63)).is_err(), "begins behind what was asked about");
    assert!(lba_status(&data, Lba(256)).is_err(), "ends before what was asked about");
    let mut gap = data.clone();
    gap[31] = 1;
    assert!(lba_status(&gap, Lba(64)).is_err(), "a range that does not follow on the one before");
    let mut endless = data;
    endless[24..32].fill(0xFF);
    assert!(lba_status(&endless, Lba(64)).is_err());
}

#[test]
fn luns() {
    let list = report_luns(&bytes("luns-three")).unwrap();
    let numbers: Vec<_> = list.luns.iter().map(|lun| lun.number()).collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(300)]);
    assert!(list.completeness.is_whole());
}

#[test]
fn port_groups() {
    let two = target_port_groups(&bytes("rtpg-two"), PortGroupsFormat::LengthOnly).unwrap();
    assert_eq!((two.transition_time, two.groups.len()), (None, 2));
    let first = &two.groups[0];
    assert_eq!((first.group, first.state, first.preferred), (PortGroup(1), AccessState::ActiveOptimized, true));
    assert_eq!((two.groups[1].state, first.reason), (AccessState::ActiveNonOptimized, 2));
    assert_eq!(two.groups[1].ports, [RelativePort(2), RelativePort(3)]);
    let extended = target_port_groups(&bytes("rtpg-extended"), PortGroupsFormat::Extended).unwrap();
    assert_eq!(extended.transition_time, Some(Duration::from_secs(60)));
    assert_eq!((extended.groups.len(), extended.groups[0].state), (1, AccessState::Transitioning));
    assert!(target_port_groups(&bytes("rtpg-two"), PortGroupsFormat::Extended).is_err());
}

#[test]
fn keys() {
    let two = read_keys(&bytes("prkeys-two")).unwrap();
    assert_eq!((two.generation, two.keys.as_slice()), (Generation(7), [OURS, OURS, Key(0x1234_5678)].as_slice()));
    assert_eq!((two.lists(OURS), two.lists(Key(1))), (Some(true), Some(false)));
    let cut = read_keys(&bytes("prkeys-cut")).unwrap();
    assert_eq!(cut.completeness, Completeness::Cut { announced: 48, received: 24 });
    assert_eq!((cut.lists(Key(1)), cut.lists(Key(5))), (Some(true), None), "what was cut off is not known");
    assert_eq!(read_keys(&bytes("prkeys-none")).unwrap().lists(OURS), Some(false));
    let overlong = read_keys(&bytes("prkeys-overlong")).unwrap();
    assert_eq!(overlong.keys, [Key(42)], "padding is no key");
    assert!(overlong.completeness.is_whole());
    let mut ragged = bytes("prkeys-two");
    ragged[7] = 0x14;
    let ragged = read_keys(&ragged).unwrap();
    assert_eq!((ragged.completeness, ragged.lists(Key(1))), (Completeness::Ragged { leftover: 4 }, None));
}

#[test]
fn reservations() {
    let held = read_reservation(&bytes("prresv-held")).unwrap().held.unwrap();
    assert_eq!((held.key, held.kind, held.scope), (OURS, TYPE, 0));
    assert_eq!(OwnKey::from_key(held.key).unwrap().node, NodeId(1));
    assert_eq!(read_reservation(&bytes("prresv-none")).unwrap().held, None);
    let mut strange = bytes("prresv-held");
    strange[7] = 8;
    assert!(read_reservation(&strange).is_err());
}

#[test]
fn reservation_capabilities() {
    let lio = capabilities(&bytes("prcap-lio")).unwrap();
    assert!(lio.persist_through_power_loss && lio.persist_activated && lio.all_target_ports);
    assert!(lio.specify_initiator_ports && lio.compatible_handling);
    assert_eq!((lio.allow_commands, lio.types), (1, Some(ReservationType::ALL.to_vec())));
    let no_mask = capabilities(&[0, 8, 1, 0x10, 0xFF, 0xFF, 0, 0]).unwrap();
    assert_eq!(no_mask.types, None, "without TMV the mask means nothing");
    let one = capabilities(&[0, 8, 0, 0x80, 0x20, 0, 0, 0]).unwrap();
    assert_eq!(one.types, Some(vec![ReservationType::WriteExclusiveRegistrantsOnly]));
}

#[test]
fn full_statuses() {
    let three = full_status(&bytes("prfull-three")).unwrap();
    assert!(three.completeness.is_whole());
    let shown: Vec<_> = three.registrations.iter().map(|one| one.initiator.as_ref().map(ToString::to_string)).collect();
    assert_eq!(shown[0].as_deref(), Some("iscsi iqn.1993-08.org.x:n1,i,0x023d"));
    assert_eq!((shown[1].as_deref(), shown[2].as_deref()), (Some("fc 21000024ff010203"), None));
    let holds: Vec<_> = three.registrations.iter().map(|one| (one.holds, one.port)).collect();
    assert_eq!(holds, [(Some(TYPE), Some(RelativePort(1))), (None, None), (None, Some(RelativePort(2)))]);
}

#[test]
fn copy_managers() {
    let lio = operating_parameters(&bytes("rcrparams-lio")).unwrap();
    assert!(lio.completeness.is_whole() && lio.copies_between_blocks() && lio.unnamed_lists);
    assert_eq!((lio.max_places, lio.max_segments, lio.max_list_bytes), (2, 1, 1024));
    assert_eq!(lio.max_segment_bytes, Some(1 << 24));
    assert_eq!((lio.granularity_exponent, lio.max_concurrent), (Some(9), Some(1)));
    let mut endless = bytes("rcrparams-lio");
    endless[16..20].fill(0);
    assert_eq!(operating_parameters(&endless).unwrap().max_segment_bytes, None, "arrays say zero for no limit");
    let status = copy_status(&bytes("rcrstatus-running")).unwrap();
    assert_eq!((status.progress, status.segments), (CopyProgress::Running, 3));
    assert_eq!(status.transferred, Some(48 << 20));
    let strange = copy_status(&[0, 0, 0, 8, 0x82, 0, 1, 0xF1, 0, 0, 0, 1]).unwrap();
    assert_eq!((strange.progress, strange.discarded, strange.transferred), (CopyProgress::Failed, true, None));
}
