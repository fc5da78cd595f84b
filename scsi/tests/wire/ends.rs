//! Completions: sense data and statuses of each layer to one category.

use lunferry_scsi::category::{Attention, Category, IllegalRequest, NotReady, Unknown, categorise};
use lunferry_scsi::cdb::Transfer;
use lunferry_scsi::sense::{Code, SenseKey, Specific, sense};
use lunferry_scsi::status::{Completion, DriverStatus, HostStatus, Status};
use lunferry_scsi::units::{BlockCount, Lba};

use crate::capture::bytes;

const BLOCKS: Transfer = Transfer::BlocksOut(BlockCount(8));

fn ended(status: u8, host: u16, driver: u16, sense: &[u8]) -> Completion {
    Completion {
        status: Status::from_code(status),
        host: HostStatus::from_code(host),
        driver: DriverStatus::from_code(driver),
        sense: sense.to_vec(),
        requested: 4096,
        residual: 0,
    }
}

fn checked(capture: &str) -> Category {
    categorise(&ended(2, 0, 8, &bytes(capture)), &BLOCKS)
}

/// Fixed sense data of a key and a code.
fn said(key: u8, asc: u8, ascq: u8) -> Category {
    categorise(&ended(2, 0, 8, &[0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0]), &BLOCKS)
}

#[test]
fn captured_sense() {
    let medium = sense(&bytes("sense-fixed-medium")).unwrap();
    assert_eq!((medium.information, medium.specific), (Some(0x1234), Some(Specific::Retries(3))));
    let far = sense(&bytes("sense-descriptor-medium")).unwrap();
    assert_eq!((far.key, far.information), (SenseKey::MediumError, Some(0x2_0000_1234)));
    let old = sense(&bytes("sense-fixed-old")).unwrap();
    assert_eq!((old.key, old.code), (SenseKey::NotReady, None));
    let copy = sense(&bytes("sense-descriptor-copy")).unwrap();
    assert_eq!(copy.command_specific, Some(1));
    assert_eq!(copy.specific, Some(Specific::Segment { in_descriptor: true, byte: 6, bit: None }));
    let field = sense(&bytes("sense-fixed-field")).unwrap();
    assert_eq!(field.specific, Some(Specific::Field { in_cdb: true, byte: 1, bit: Some(3) }));
    assert_eq!(field.to_string(), "ILLEGAL REQUEST, 24h/00h (invalid field in CDB)");
    assert!(sense(&[0x7E, 0, 0]).is_err() && sense(&[]).is_err());
}

#[test]
fn what_stands_behind_the_announced_end_is_not_read() {
    let mut padded = bytes("sense-fixed-medium");
    padded[7] = 4;
    assert_eq!(sense(&padded).unwrap().code, None);
    let mut longer = bytes("sense-descriptor-medium");
    longer[7] = 6;
    assert_eq!(sense(&longer).unwrap().information, None);
}

#[test]
fn captured_categories() {
    let power_on = Attention::PowerOnOrReset(Code { asc: 0x29, ascq: 0 });
    assert_eq!(checked("sense-fixed-power-on"), Category::UnitAttention(power_on));
    assert_eq!(checked("sense-fixed-medium"), Category::MediumError { lba: Some(Lba(0x1234)) });
    assert_eq!(checked("sense-descriptor-medium"), Category::MediumError { lba: Some(Lba(0x2_0000_1234)) });
    assert_eq!(checked("sense-fixed-old"), Category::NotReady(NotReady::Other(None)));
    assert_eq!(checked("sense-fixed-progress"), Category::NotReady(NotReady::Becoming { progress: Some(0x8000) }));
    assert_eq!(checked("sense-fixed-field"), Category::IllegalRequest(IllegalRequest::CdbField(Some(1))));
    assert_eq!(checked("sense-descriptor-miscompare"), Category::Miscompare { offset: Some(17) });
    assert_eq!(checked("sense-fixed-no-space"), Category::NoSpace);
    assert!(matches!(checked("sense-fixed-deferred"), Category::Deferred(said) if said.information == Some(0x40)));
    assert_eq!(checked("sense-descriptor-copy"), Category::CopyAborted(Some(Code { asc: 0x0D, ascq: 2 })));
}

#[test]
fn keys_and_codes() {
    use Attention::{AccessStateChanged, CapacityChanged, IdentifierChanged, LunsChanged, RegistrationsPreempted};
    use IllegalRequest::{CopyImpossible, CopyTooMuch, InvalidRelease, LbaOutOfRange, NoLun, NoResources, Opcode};
    let code = |asc, ascq| Code { asc, ascq };
    let attentions = [
        (0x2A, 0x03, Attention::ReservationsPreempted),
        (0x2A, 0x04, Attention::ReservationsReleased),
        (0x2A, 0x05, RegistrationsPreempted),
        (0x2A, 0x06, AccessStateChanged),
        (0x2A, 0x09, CapacityChanged),
        (0x3F, 0x05, IdentifierChanged),
        (0x3F, 0x0E, LunsChanged),
        (0x38, 0x07, Attention::SoftThreshold),
        (0x55, 0x00, Attention::Other(Some(code(0x55, 0)))),
    ];
    for (asc, ascq, wanted) in attentions {
        assert_eq!(said(6, asc, ascq), Category::UnitAttention(wanted));
    }
    let refusals = [
        (0x20, 0x00, Opcode),
        (0x21, 0x00, LbaOutOfRange(None)),
        (0x25, 0x00, NoLun),
        (0x26, 0x00, IllegalRequest::ParameterField(None)),
        (0x26, 0x04, InvalidRelease),
        (0x26, 0x08, CopyTooMuch(code(0x26, 8))),
        (0x26, 0x07, CopyImpossible(code(0x26, 7))),
        (0x55, 0x04, NoResources),
        (0x99, 0x99, IllegalRequest::Other(Some(code(0x99, 0x99)))),
    ];
    for (asc, ascq, wanted) in refusals {
        assert_eq!(said(5, asc, ascq), Category::IllegalRequest(wanted));
    }
    assert_eq!(said(7, 0x27, 0x00), Category::WriteProtected(Some(code(0x27, 0))));
    assert_eq!(said(2, 0x04, 0x0A), Category::NotReady(NotReady::Transition));
    assert_eq!(said(2, 0x04, 0x03), Category::NotReady(NotReady::Manual(code(4, 3))));
    assert_eq!(said(2, 0x3A, 0x01), Category::NotReady(NotReady::NoMedium));
    assert_eq!(said(0xB, 0x47, 0x7F), Category::Aborted(Some(code(0x47, 0x7F))));
    assert_eq!(said(4, 0x44, 0x00), Category::HardwareError(Some(code(0x44, 0))));
    assert!(matches!(said(1, 0x17, 0x01), Category::Recovered(_)));
    assert!(matches!(said(0, 0, 0), Category::OutcomeUnknown(Unknown::Unexplained(_))));
    assert!(matches!(said(8, 0, 0), Category::OutcomeUnknown(Unknown::Unexplained(_))));
}

#[test]
fn statuses() {
    let of = |status| categorise(&ended(status, 0, 0, &[]), &BLOCKS);
    assert_eq!(of(0x00), Category::Good);
    assert_eq!(of(0x08), Category::Busy);
    assert_eq!(of(0x18), Category::ReservationConflict);
    assert_eq!(of(0x28), Category::TaskSetFull);
    assert_eq!(of(0x30), Category::AcaActive);
    assert_eq!(of(0x40), Category::Aborted(None));
    assert_eq!(of(0x02), Category::OutcomeUnknown(Unknown::NoSense), "CHECK CONDITION without sense data");
    assert_eq!(of(0x04), Category::OutcomeUnknown(Unknown::Status(Status::ConditionMet)));
    assert_eq!(of(0x10), Category::OutcomeUnknown(Unknown::Status(Status::Other(0x10))));
}

#[test]
fn hosts_and_drivers() {
    let of = |host, driver| categorise(&ended(0, host, driver, &[]), &BLOCKS);
    assert_eq!(of(0x01, 0), Category::TransportLost(HostStatus::NoConnect));
    assert_eq!(of(0x0F, 0), Category::TransportLost(HostStatus::TransportFailFast));
    assert_eq!(of(0x03, 0), Category::OutcomeUnknown(Unknown::Timeout));
    assert_eq!(of(0x00, 6), Category::OutcomeUnknown(Unknown::Timeout));
    assert_eq!(of(0x08, 0), Category::OutcomeUnknown(Unknown::Reset));
    assert_eq!(of(0x07, 0), Category::OutcomeUnknown(Unknown::Host(HostStatus::Error)));
    assert_eq!(of(0x00, 7), Category::OutcomeUnknown(Unknown::Driver(7)));
    assert_eq!(of(0x11, 0), Category::ReservationConflict);
    assert_eq!(of(0x12, 0), Category::NoSpace);
    assert_eq!(of(0x77, 0), Category::OutcomeUnknown(Unknown::Host(HostStatus::Other(0x77))));
    let target = ended(2, 0x10, 8, &bytes("sense-fixed-no-space"));
    assert_eq!(categorise(&target, &BLOCKS), Category::NoSpace, "the device says it better");
}

#[test]
fn a_reservation_conflict_is_one_in_every_company() {
    for host in 0..=0x20 {
        for driver in 0..=0x0F {
            assert_eq!(categorise(&ended(0x18, host, driver, &[]), &BLOCKS), Category::ReservationConflict);
        }
    }
}

#[test]
fn blocks_that_did_not_come_are_never_good() {
    let mut short = ended(0, 0, 0, &[]);
    short.residual = 512;
    let out = Transfer::Out(vec![0; 4096]);
    for transfer in [BLOCKS, Transfer::BlocksIn(BlockCount(8)), out] {
        assert_eq!(categorise(&short, &transfer), Category::ShortTransfer { missing: 512 });
    }
    assert_eq!(categorise(&short, &Transfer::In(4096)), Category::Good, "parameter data may be shorter");
    let mut recovered = ended(2, 0, 8, &[0x70, 0, 1, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x17, 1, 0, 0, 0, 0]);
    recovered.residual = 1;
    assert_eq!(categorise(&recovered, &BLOCKS), Category::ShortTransfer { missing: 1 });
}
