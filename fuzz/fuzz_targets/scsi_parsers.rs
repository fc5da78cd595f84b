//! What a device answers: INQUIRY and VPD pages, capacities, lists, reservations, copy results, sense data and whole
//! completions; and the reservation commands that a device server gets. The first byte chooses the parser; no bytes
//! behind it make one panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lunferry_scsi::category::categorise;
use lunferry_scsi::cdb::{Kind, Transfer};
use lunferry_scsi::command::enquiry::PortGroupsFormat;
use lunferry_scsi::page::{
    capacity, copy, designator, identity, inquiry, limits, lists, ports, reservation, transport_id,
};
use lunferry_scsi::retry;
use lunferry_scsi::rules::{Abilities, Reservations, access, wire};
use lunferry_scsi::sense;
use lunferry_scsi::status::{Completion, DriverStatus, HostStatus, Status};
use lunferry_scsi::units::{BlockCount, Lba};

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    match which % 23 {
        0 => drop(inquiry::standard(bytes)),
        1 => drop(inquiry::supported_pages(bytes)),
        2 => drop(inquiry::serial(bytes)),
        3 => identities(bytes),
        4 => drop(limits::block_limits(bytes)),
        5 => drop(limits::characteristics(bytes)),
        6 => drop(limits::provisioning(bytes)),
        7 => drop(capacity::capacity_10(bytes)),
        8 => drop(capacity::capacity_16(bytes)),
        9 => block_states(bytes),
        10 => drop(lists::report_luns(bytes).map(|list| list.luns.iter().map(ToString::to_string).collect::<String>())),
        11 => drop(ports::target_port_groups(bytes, PortGroupsFormat::LengthOnly)),
        12 => drop(ports::target_port_groups(bytes, PortGroupsFormat::Extended)),
        13 => keys(bytes),
        14 => drop(reservation::read_reservation(bytes)),
        15 => drop(reservation::capabilities(bytes)),
        16 => drop(reservation::full_status(bytes)),
        17 => drop(copy::operating_parameters(bytes)),
        18 => drop(copy::copy_status(bytes)),
        19 => drop(sense::sense(bytes).map(|sense| sense.to_string())),
        20 => drop(transport_id::transport_id(bytes).map(|id| id.to_string())),
        21 => reservation_commands(bytes),
        _ => completion(bytes),
    }
});

/// A name is chosen from a whole list alone.
fn identities(bytes: &[u8]) {
    if let Ok(all) = designator::designators(bytes) {
        let best = identity::best_designator(&all);
        assert!(best.is_none() || all.completeness.is_whole(), "an identity out of a list that is not whole");
        all.list.iter().for_each(|one| drop(one.shown()));
    }
}

/// Ranges follow on each other from the block asked about.
fn block_states(bytes: &[u8]) {
    let from = Lba(100);
    if let Ok(status) = lists::lba_status(bytes, from) {
        let ends = status.ranges.iter().scan(from, |at, (range, _)| {
            assert_eq!(range.lba, *at, "a gap");
            assert_ne!(range.blocks, BlockCount(0), "an empty range");
            range.end().inspect(|end| *at = *end)
        });
        assert_eq!(ends.count(), status.ranges.len(), "a range without an end");
    }
}

/// "Not registered" is said of a whole list alone.
fn keys(bytes: &[u8]) {
    if let Ok(list) = reservation::read_keys(bytes) {
        let key = lunferry_scsi::key::Key(0x4C46_0001_0000_0001);
        assert!(list.lists(key) != Some(false) || list.completeness.is_whole());
    }
}

/// Whatever a device server is sent leaves it in a state that can be restored.
fn reservation_commands(bytes: &[u8]) {
    let abilities = Abilities::default();
    let mut rules = Reservations::new(abilities);
    for (nexus, sent) in (0u8..).zip(bytes.chunks(10 + wire::LIST_BYTES)) {
        let (cdb, list) = sent.split_at(sent.len().min(10));
        access::access(cdb);
        let _ = wire::decode_in(cdb);
        if let Ok(action) = wire::decode_out(cdb, list) {
            drop(rules.apply(&(nexus % 3), action));
        }
        assert_eq!(Reservations::from_parts(rules.parts(), abilities).as_ref(), Ok(&rules));
    }
}

/// Every completion has a category, and every category a decision.
fn completion(bytes: &[u8]) {
    let Some(([status, host, driver, residual], sense)) = bytes.split_first_chunk() else {
        return;
    };
    let completion = Completion {
        status: Status::from_code(*status),
        host: HostStatus::from_code(u16::from(*host)),
        driver: DriverStatus::from_code(u16::from(*driver)),
        sense: sense.to_vec(),
        requested: 128,
        residual: i32::from(i8::from_ne_bytes([*residual])),
    };
    let category = categorise(&completion, &Transfer::BlocksOut(BlockCount(1)));
    let decision = retry::decide(&category, Kind::ReservationOut, 1, std::time::Duration::ZERO);
    let retried = matches!(decision, retry::Decision::Retry { .. });
    assert!(!retried || *status != 0x18, "a reservation conflict was retried");
}
