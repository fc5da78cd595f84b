//! The retry policy over every kind of command and every category.

use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::*;
use crate::category::IllegalRequest;
use crate::sense::{Code, Sense, SenseKey};
use crate::status::HostStatus;

const KINDS: [Kind; 6] =
    [Kind::Query, Kind::Overwrite, Kind::Flush, Kind::Conditional, Kind::ReservationOut, Kind::Copy];

const CODE: Code = Code { asc: 0x29, ascq: 0 };

fn some_sense(key: SenseKey) -> Sense {
    Sense { deferred: false, key, code: Some(CODE), information: None, command_specific: None, specific: None }
}

fn first(category: Category, kind: Kind) -> Decision {
    decide(&category, kind, 1, Duration::ZERO)
}

fn failures() -> Vec<Category> {
    let attentions = [
        Attention::PowerOnOrReset(CODE),
        Attention::ReservationsPreempted,
        Attention::ReservationsReleased,
        Attention::RegistrationsPreempted,
        Attention::AccessStateChanged,
        Attention::CapacityChanged,
        Attention::ParametersChanged,
        Attention::MediumChanged,
        Attention::CommandsCleared,
        Attention::SoftThreshold,
        Attention::MicrocodeChanged,
        Attention::InquiryChanged,
        Attention::IdentifierChanged,
        Attention::LunsChanged,
        Attention::Other(None),
    ];
    let mut all: Vec<Category> = attentions.map(Category::UnitAttention).to_vec();
    all.extend([
        Category::ReservationConflict,
        Category::NotReady(NotReady::Becoming { progress: None }),
        Category::NotReady(NotReady::Transition),
        Category::NotReady(NotReady::PathInactive),
        Category::NotReady(NotReady::Manual(CODE)),
        Category::NotReady(NotReady::NoMedium),
        Category::NotReady(NotReady::Other(None)),
        Category::Busy,
        Category::TaskSetFull,
        Category::AcaActive,
        Category::Aborted(None),
        Category::MediumError { lba: None },
        Category::HardwareError(None),
        Category::IllegalRequest(IllegalRequest::Opcode),
        Category::WriteProtected(None),
        Category::NoSpace,
        Category::Miscompare { offset: None },
        Category::CopyAborted(None),
        Category::Deferred(some_sense(SenseKey::MediumError)),
        Category::ShortTransfer { missing: 512 },
        Category::TransportLost(HostStatus::NoConnect),
    ]);
    all.extend(unknown().map(Category::OutcomeUnknown));
    all
}

fn unknown() -> [Unknown; 7] {
    [
        Unknown::Timeout,
        Unknown::Reset,
        Unknown::Host(HostStatus::Error),
        Unknown::Driver(4),
        Unknown::NoSense,
        Unknown::Unexplained(some_sense(SenseKey::NoSense)),
        Unknown::Status(crate::status::Status::ConditionMet),
    ]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Query),
        Just(Kind::Overwrite),
        Just(Kind::Flush),
        Just(Kind::Conditional),
        Just(Kind::ReservationOut),
        Just(Kind::Copy)
    ]
}

proptest::proptest! {
    #[test]
    fn a_reservation_conflict_is_never_retried(kind in any_kind(), attempts: u32, elapsed in any::<Duration>()) {
        let decision = decide(&Category::ReservationConflict, kind, attempts, elapsed);
        let wanted = if kind == Kind::ReservationOut { Decision::ReadBack } else { Decision::Fail };
        assert_eq!(decision, wanted);
    }

    #[test]
    fn no_retry_is_endless_or_far_away(kind in any_kind(), attempts: u32, elapsed in any::<Duration>()) {
        for category in failures() {
            let decision = decide(&category, kind, attempts, elapsed);
            assert_ne!(decision, Decision::Done, "{category:?}");
            if let Decision::Retry { after } = decision {
                assert!(attempts < 200 && elapsed < Duration::from_secs(90), "{category:?} {kind:?}");
                assert!(after <= Duration::from_secs(2), "{category:?} {kind:?}");
            }
        }
    }
}

#[test]
fn success_is_done() {
    for kind in KINDS {
        assert_eq!(first(Category::Good, kind), Decision::Done);
        assert_eq!(first(Category::Recovered(some_sense(SenseKey::RecoveredError)), kind), Decision::Done);
    }
}

#[test]
fn an_unknown_outcome_is_read_back_unless_sending_again_changes_nothing() {
    let all = unknown().map(Category::OutcomeUnknown);
    for category in all.into_iter().chain([Category::Aborted(None), Category::ShortTransfer { missing: 1 }]) {
        for kind in [Kind::ReservationOut, Kind::Conditional, Kind::Copy] {
            assert_eq!(first(category, kind), Decision::ReadBack, "{category:?} {kind:?}");
        }
        for kind in [Kind::Query, Kind::Overwrite] {
            assert!(matches!(first(category, kind), Decision::Retry { .. }), "{category:?} {kind:?}");
        }
        assert_eq!(first(category, Kind::Flush), Decision::Fail, "{category:?}");
    }
}

#[test]
fn a_lost_path_is_left_and_what_it_may_have_done_is_read_back() {
    let lost = Category::TransportLost(HostStatus::TransportFailFast);
    for kind in [Kind::Query, Kind::Overwrite, Kind::Flush] {
        assert_eq!(first(lost, kind), Decision::Fail, "{kind:?}");
    }
    for kind in [Kind::ReservationOut, Kind::Conditional, Kind::Copy] {
        assert_eq!(first(lost, kind), Decision::ReadBack, "{kind:?}");
    }
}

#[test]
fn a_queue_of_unit_attentions_is_passed() {
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Flush) {
        for attempts in 1..8 {
            let category = Category::UnitAttention(Attention::PowerOnOrReset(CODE));
            let decision = decide(&category, kind, attempts, Duration::from_secs(1));
            assert_eq!(decision, Decision::Retry { after: Duration::ZERO }, "{kind:?} {attempts}");
        }
    }
}

#[test]
fn a_changed_reservation_is_looked_at_before_it_is_changed() {
    for attention in
        [Attention::ReservationsPreempted, Attention::ReservationsReleased, Attention::RegistrationsPreempted]
    {
        assert_eq!(first(Category::UnitAttention(attention), Kind::ReservationOut), Decision::ReadBack);
        let read = first(Category::UnitAttention(attention), Kind::Query);
        assert_eq!(read, Decision::Retry { after: Duration::ZERO });
    }
}

#[test]
fn a_flush_after_a_reset_is_not_believed() {
    let reset = Category::UnitAttention(Attention::PowerOnOrReset(CODE));
    assert_eq!(first(reset, Kind::Flush), Decision::Fail);
    let moved = Category::UnitAttention(Attention::ParametersChanged);
    assert_eq!(first(moved, Kind::Flush), Decision::Retry { after: Duration::ZERO });
}

#[test]
fn what_may_be_another_lun_is_not_written_to() {
    for attention in [Attention::IdentifierChanged, Attention::MediumChanged, Attention::CapacityChanged] {
        for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Query) {
            assert_eq!(first(Category::UnitAttention(attention), kind), Decision::Fail, "{attention:?} {kind:?}");
        }
    }
}

#[test]
fn waits_grow_and_end() {
    let wait = |attempts| match decide(&Category::Busy, Kind::ReservationOut, attempts, Duration::ZERO) {
        Decision::Retry { after } => Some(after),
        Decision::Done | Decision::ReadBack | Decision::Fail => None,
    };
    let waits: Vec<Duration> = (1..).map_while(wait).collect();
    assert_eq!(waits[..3], [10, 20, 40].map(Duration::from_millis));
    assert!(waits.is_sorted() && waits.len() == 59, "{waits:?}");
    let late = decide(&Category::Busy, Kind::Query, 3, Duration::from_secs(31));
    assert_eq!(late, Decision::Fail);
}

#[test]
fn a_registration_that_was_not_stored_is_read_back() {
    let not_stored = Category::NotReady(NotReady::Other(Some(Code { asc: 0x08, ascq: 0 })));
    assert_eq!(first(not_stored, Kind::ReservationOut), Decision::ReadBack);
    assert_eq!(first(not_stored, Kind::Query), Decision::Fail);
}
