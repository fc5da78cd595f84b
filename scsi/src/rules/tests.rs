//! The rules against a table of the standard's words, and against their invariants in random order.

use proptest::prelude::*;

use super::answers::{encode_capabilities, encode_full_status, encode_keys, encode_reservation};
use super::wire::{LIST_BYTES, decode_in, decode_out};
use super::*;
use crate::cdb::{Command, Transfer};
use crate::command::enquiry::{PersistentReserveIn, ReservationQuestion};
use crate::page::reservation::{capabilities, full_status, read_keys, read_reservation};
use crate::page::transport_id::TransportId;
use crate::units::RelativePort;

use ReservationType::{
    ExclusiveAccess as Ea, ExclusiveAccessAllRegistrants as EaAr, ExclusiveAccessRegistrantsOnly as EaRo,
    WriteExclusive as We, WriteExclusiveAllRegistrants as WeAr, WriteExclusiveRegistrantsOnly as WeRo,
};

type Nexus = u8;

const PLAIN: Reach = Reach { aptpl: false, all_target_ports: false };

fn register(nexus: u8) -> (Nexus, ReservationOut) {
    (nexus, ReservationOut::Register { current: Key::NONE, new: own(nexus), reach: PLAIN })
}

fn own(nexus: u8) -> Key {
    Key(0x10 + u64::from(nexus))
}

fn reserve(nexus: u8, kind: ReservationType) -> (Nexus, ReservationOut) {
    (nexus, ReservationOut::Reserve { key: own(nexus), kind })
}

fn release(nexus: u8, kind: ReservationType) -> (Nexus, ReservationOut) {
    (nexus, ReservationOut::Release { key: own(nexus), kind })
}

fn unregister(nexus: u8) -> (Nexus, ReservationOut) {
    (nexus, ReservationOut::Register { current: own(nexus), new: Key::NONE, reach: PLAIN })
}

fn preempt(nexus: u8, victim: Key, kind: ReservationType) -> (Nexus, ReservationOut) {
    (nexus, ReservationOut::Preempt { key: own(nexus), victim, kind })
}

/// Nexuses 1, 2 and 3 are registered; 1 has reserved, where a type is given.
fn three(kind: Option<ReservationType>) -> Reservations<Nexus> {
    let mut state = Reservations::new(Abilities::default());
    for nexus in 1..=3 {
        let (nexus, action) = register(nexus);
        state.apply(&nexus, action).expect("nobody is in the way");
    }
    if let Some(kind) = kind {
        let (nexus, action) = reserve(1, kind);
        state.apply(&nexus, action).expect("nothing is reserved");
    }
    state
}

/// One row: the reservation before, what is done, and what comes of it.
struct Row {
    before: Option<ReservationType>,
    action: (Nexus, ReservationOut),
    result: Result<Vec<(Nexus, Notice)>, Refusal>,
    registered: Vec<Nexus>,
    after: Option<(ReservationType, Option<Nexus>)>,
    generation_rises: u32,
}

#[test]
fn actions_do_what_the_standard_says() {
    use Notice::{RegistrationsPreempted as Gone, ReservationsPreempted as Cleared, ReservationsReleased as Released};
    let row = |before, action, result, registered: &[Nexus], after, generation_rises| Row {
        before,
        action,
        result,
        registered: registered.to_vec(),
        after,
        generation_rises,
    };
    let ok = |notices: &[(Nexus, Notice)]| Ok(notices.to_vec());
    let no = Err::<Vec<(Nexus, Notice)>, _>;
    let (all, ours) = (&[1, 2, 3][..], Some((WeRo, Some(1))));
    let stranger_release = (9, ReservationOut::Release { key: Key(1), kind: We });
    let change = |nexus, current, new| (nexus, ReservationOut::Register { current, new, reach: PLAIN });
    let ignore = |nexus, new| (nexus, ReservationOut::RegisterAndIgnore { new, reach: PLAIN });
    let clear = |nexus, key| (nexus, ReservationOut::Clear { key });
    for (number, row) in [
        // REGISTER.
        row(Some(WeRo), change(9, Key::NONE, Key(5)), ok(&[]), &[1, 2, 3, 9], ours, 1),
        row(Some(WeRo), change(9, Key::NONE, Key::NONE), ok(&[]), all, ours, 0),
        row(Some(WeRo), change(9, Key(5), Key(6)), no(Refusal::Conflict), all, ours, 0),
        row(Some(WeRo), change(1, Key::NONE, Key(6)), no(Refusal::Conflict), all, ours, 0),
        row(Some(WeRo), change(1, own(2), Key(6)), no(Refusal::Conflict), all, ours, 0),
        row(Some(WeRo), change(1, own(1), Key(6)), ok(&[]), all, ours, 1),
        row(Some(WeRo), ignore(1, Key(6)), ok(&[]), all, ours, 1),
        row(Some(WeRo), ignore(9, Key(6)), ok(&[]), &[1, 2, 3, 9], ours, 1),
        row(Some(WeRo), ignore(9, Key::NONE), ok(&[]), all, ours, 0),
        // Unregistering.
        row(Some(We), unregister(1), ok(&[]), &[2, 3], None, 1),
        row(Some(Ea), unregister(1), ok(&[]), &[2, 3], None, 1),
        row(Some(WeRo), unregister(1), ok(&[(2, Released), (3, Released)]), &[2, 3], None, 1),
        row(Some(EaRo), ignore(1, Key::NONE), ok(&[(2, Released), (3, Released)]), &[2, 3], None, 1),
        row(Some(WeRo), unregister(2), ok(&[]), &[1, 3], ours, 1),
        row(Some(WeAr), unregister(1), ok(&[]), &[2, 3], Some((WeAr, None)), 1),
        // RESERVE.
        row(None, reserve(2, Ea), ok(&[]), all, Some((Ea, Some(2))), 0),
        row(None, reserve(2, EaAr), ok(&[]), all, Some((EaAr, None)), 0),
        row(None, reserve(9, Ea), no(Refusal::Conflict), all, None, 0),
        row(None, (1, ReservationOut::Reserve { key: own(2), kind: We }), no(Refusal::Conflict), all, None, 0),
        row(Some(WeRo), reserve(1, WeRo), ok(&[]), all, ours, 0),
        row(Some(WeRo), reserve(1, EaRo), no(Refusal::Conflict), all, ours, 0),
        row(Some(WeRo), reserve(2, WeRo), no(Refusal::Conflict), all, ours, 0),
        row(Some(WeAr), reserve(2, WeAr), ok(&[]), all, Some((WeAr, None)), 0),
        row(Some(WeAr), reserve(2, EaAr), no(Refusal::Conflict), all, Some((WeAr, None)), 0),
        // RELEASE.
        row(Some(We), release(1, We), ok(&[]), all, None, 0),
        row(Some(WeRo), release(1, WeRo), ok(&[(2, Released), (3, Released)]), all, None, 0),
        row(Some(EaAr), release(2, EaAr), ok(&[(1, Released), (3, Released)]), all, None, 0),
        row(Some(WeRo), release(1, EaRo), no(Refusal::InvalidRelease), all, ours, 0),
        row(Some(WeRo), release(2, WeRo), ok(&[]), all, ours, 0),
        row(Some(WeRo), release(2, EaRo), ok(&[]), all, ours, 0),
        row(Some(WeRo), stranger_release, no(Refusal::Conflict), all, ours, 0),
        row(Some(WeRo), (1, ReservationOut::Release { key: own(2), kind: WeRo }), no(Refusal::Conflict), all, ours, 0),
        row(None, release(1, WeRo), ok(&[]), all, None, 0),
        // CLEAR.
        row(Some(Ea), clear(2, own(2)), ok(&[(1, Cleared), (3, Cleared)]), &[], None, 1),
        row(None, clear(2, own(2)), ok(&[(1, Cleared), (3, Cleared)]), &[], None, 1),
        row(Some(Ea), clear(2, own(1)), no(Refusal::Conflict), all, Some((Ea, Some(1))), 0),
        row(Some(Ea), clear(9, own(1)), no(Refusal::Conflict), all, Some((Ea, Some(1))), 0),
        // PREEMPT of the holder.
        row(Some(WeRo), preempt(2, own(1), WeRo), ok(&[(1, Gone)]), &[2, 3], Some((WeRo, Some(2))), 1),
        row(Some(WeRo), preempt(2, own(1), Ea), ok(&[(1, Gone), (3, Released)]), &[2, 3], Some((Ea, Some(2))), 1),
        row(Some(WeRo), preempt(2, own(1), EaAr), ok(&[(1, Gone), (3, Released)]), &[2, 3], Some((EaAr, None)), 1),
        // PREEMPT of another, and of nobody.
        row(Some(WeRo), preempt(2, own(3), Ea), ok(&[(3, Gone)]), &[1, 2], ours, 1),
        row(None, preempt(2, own(3), Ea), ok(&[(3, Gone)]), &[1, 2], None, 1),
        row(Some(WeRo), preempt(2, Key(0x99), WeRo), no(Refusal::Conflict), all, ours, 0),
        row(None, preempt(2, Key(0x99), WeRo), no(Refusal::Conflict), all, None, 0),
        row(Some(WeRo), preempt(9, own(1), WeRo), no(Refusal::Conflict), all, ours, 0),
        // PREEMPT of itself: the holder changes the type, another removes itself.
        row(Some(WeRo), preempt(1, own(1), Ea), ok(&[(2, Released), (3, Released)]), all, Some((Ea, Some(1))), 1),
        row(Some(WeRo), preempt(1, own(1), WeRo), ok(&[]), all, ours, 1),
        row(Some(WeRo), preempt(2, own(2), Ea), ok(&[]), &[1, 3], ours, 1),
        row(None, preempt(2, own(2), Ea), ok(&[]), &[1, 3], None, 1),
        // PREEMPT of key zero: everybody else, with an all-registrants type alone.
        row(Some(WeAr), preempt(2, Key::NONE, WeRo), ok(&[(1, Gone), (3, Gone)]), &[2], Some((WeRo, Some(2))), 1),
        row(Some(WeAr), preempt(2, own(1), WeRo), ok(&[(1, Gone)]), &[2, 3], Some((WeAr, None)), 1),
        row(Some(WeRo), preempt(2, Key::NONE, WeRo), no(Refusal::ParameterField(8)), all, ours, 0),
        row(None, preempt(2, Key::NONE, WeRo), no(Refusal::ParameterField(8)), all, None, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let mut state = three(row.before);
        let before = state.clone();
        let (nexus, action) = row.action;
        let what = format!("row {number}: {action:?} of {nexus} with {:?}", row.before);
        let result = state.apply(&nexus, action);
        assert_eq!(result.map(|effects| effects.notices), row.result, "{what}");
        assert_eq!(state.registrations.keys().copied().collect::<Vec<_>>(), row.registered, "{what}");
        let after = state.reservation().map(|held| (held.kind, held.holder));
        assert_eq!(after, row.after, "{what}");
        assert_eq!(state.generation.0 - before.generation.0, row.generation_rises, "{what}");
    }
}

#[test]
fn the_last_registrant_takes_an_all_registrants_reservation_along() {
    let mut state = three(Some(WeAr));
    for nexus in [1, 2, 3] {
        assert!(state.reservation().is_some());
        let (nexus, action) = unregister(nexus);
        state.apply(&nexus, action).expect("registered");
    }
    assert_eq!(state.reservation(), None);
    let mut state = Reservations::new(Abilities::default());
    for (nexus, action) in [register(1), reserve(1, EaAr), preempt(1, own(1), EaAr)] {
        state.apply(&nexus, action).expect("alone");
    }
    assert_eq!((state.reservation(), state.keys().keys), (None, Vec::new()));
}

#[test]
fn two_nexuses_with_the_holders_key_are_one_victim() {
    let mut state = three(Some(WeRo));
    state.apply(&2, ReservationOut::RegisterAndIgnore { new: own(1), reach: PLAIN }).expect("free");
    let effects = state.apply(&2, ReservationOut::Preempt { key: own(1), victim: own(1), kind: WeRo });
    assert_eq!(effects.expect("registered").notices, [(1, Notice::RegistrationsPreempted)]);
    assert!(state.holds(&2) && !state.holds(&1));
}

#[test]
fn preempt_and_abort_names_whose_commands_end() {
    let mut state = three(Some(WeRo));
    let action = ReservationOut::PreemptAndAbort { key: own(2), victim: own(1), kind: Ea };
    assert_eq!(state.apply(&2, action).expect("registered").aborted, [1]);
    assert!(state.holds(&2));
}

#[test]
fn each_type_lets_in_whom_it_says() {
    // Holder, another registrant, stranger: who reads and who writes.
    for (kind, reads, writes) in [
        (We, [true, true, true], [true, false, false]),
        (Ea, [true, false, false], [true, false, false]),
        (WeRo, [true, true, true], [true, true, false]),
        (EaRo, [true, true, false], [true, true, false]),
        (WeAr, [true, true, true], [true, true, false]),
        (EaAr, [true, true, false], [true, true, false]),
    ] {
        let state = three(Some(kind));
        assert_eq!([1, 2, 9].map(|nexus| state.may(&nexus, Access::Read)), reads, "{kind:?}");
        assert_eq!([1, 2, 9].map(|nexus| state.may(&nexus, Access::Write)), writes, "{kind:?}");
        assert!([1, 2, 9].iter().all(|nexus| state.may(nexus, Access::Free)), "{kind:?}");
    }
    let state = three(None);
    assert!([1, 2, 9].iter().all(|nexus| state.may(nexus, Access::Write)), "registrations alone keep nobody out");
}

#[test]
fn power_takes_what_aptpl_does_not_keep() {
    for aptpl in [true, false] {
        let mut state = three(Some(WeRo));
        let reach = Reach { aptpl, all_target_ports: false };
        state.apply(&3, ReservationOut::RegisterAndIgnore { new: own(3), reach }).expect("registered");
        assert_eq!(state.capabilities().persist_activated, aptpl);
        state.power_cycle();
        assert_eq!(state.keys().keys.len(), if aptpl { 3 } else { 0 });
        assert_eq!(state.holds(&1), aptpl);
        assert_eq!(state.keys().generation, Generation(0));
    }
}

#[test]
fn what_is_not_there_is_refused() {
    let mut state = Reservations::new(Abilities { aptpl: false, most_registrations: 1 });
    let new = |reach| ReservationOut::RegisterAndIgnore { new: Key(1), reach };
    let refused = Err(Refusal::ParameterField(20));
    assert_eq!(state.apply(&1, new(Reach { aptpl: true, all_target_ports: false })), refused);
    assert_eq!(state.apply(&1, new(Reach { aptpl: false, all_target_ports: true })), refused);
    assert_eq!(state.apply(&1, new(PLAIN)), Ok(Effects::none()));
    assert_eq!(state.apply(&2, new(PLAIN)), Err(Refusal::NoRoom));
    assert_eq!(state.apply(&1, new(PLAIN)), Ok(Effects::none()), "a known nexus needs no room");
}

#[test]
fn a_stored_state_that_can_not_be_is_refused() {
    let good = three(Some(WeRo)).parts();
    let broken = |change: &dyn Fn(&mut Parts<Nexus>)| {
        let mut parts = good.clone();
        change(&mut parts);
        Reservations::from_parts(parts, Abilities { aptpl: false, most_registrations: 3 }).expect_err("broken")
    };
    let held = |kind, holder| Some(Holding { kind, holder });
    assert_eq!(broken(&|parts| parts.registrations[1].1 = Key::NONE), BrokenParts::ZeroKey);
    assert_eq!(broken(&|parts| parts.registrations[1].0 = 1), BrokenParts::Twice);
    assert_eq!(broken(&|parts| parts.registrations.push((4, Key(4)))), BrokenParts::TooMany);
    assert_eq!(broken(&|parts| parts.reservation = held(WeRo, Some(4))), BrokenParts::HolderNotRegistered);
    assert_eq!(broken(&|parts| parts.reservation = held(WeRo, None)), BrokenParts::HolderUnfit);
    assert_eq!(broken(&|parts| parts.reservation = held(WeAr, Some(1))), BrokenParts::HolderUnfit);
    assert_eq!(broken(&|parts| parts.aptpl = true), BrokenParts::Aptpl);
    let nobody = |parts: &mut Parts<Nexus>| {
        parts.registrations.clear();
        parts.reservation = held(WeAr, None);
    };
    assert_eq!(broken(&nobody), BrokenParts::HolderNotRegistered);
}

#[test]
fn the_wire_is_read_as_it_was_written() {
    let reach = Reach { aptpl: true, all_target_ports: true };
    let (key, victim) = (Key(0x0102_0304_0506_0708), Key(0x1112_1314_1516_1718));
    let mut actions = vec![
        ReservationOut::Register { current: key, new: victim, reach },
        ReservationOut::RegisterAndIgnore { new: victim, reach },
        ReservationOut::Clear { key },
    ];
    for kind in ReservationType::ALL {
        actions.push(ReservationOut::Reserve { key, kind });
        actions.push(ReservationOut::Release { key, kind });
        actions.push(ReservationOut::Preempt { key, victim, kind });
        actions.push(ReservationOut::PreemptAndAbort { key, victim, kind });
    }
    for action in actions {
        let request = action.request().expect("fits");
        let Transfer::Out(list) = request.transfer else { panic!("{action:?} has a list") };
        assert_eq!(decode_out(request.cdb.as_bytes(), &list), Ok(action));
        assert_eq!(decode_out(request.cdb.as_bytes(), &list[1..]), Err(Refusal::ListLength));
    }
    for question in [
        ReservationQuestion::ReadKeys,
        ReservationQuestion::ReadReservation,
        ReservationQuestion::ReportCapabilities,
        ReservationQuestion::ReadFullStatus,
    ] {
        let request = PersistentReserveIn { question, allocation: 0x1234 }.request().expect("fits");
        assert_eq!(decode_in(request.cdb.as_bytes()), Ok((question, 0x1234)));
    }
}

#[test]
fn the_wire_refuses_what_it_does_not_know() {
    let cdb = |action: u8, scope_and_type: u8| [0x5F, action, scope_and_type, 0, 0, 0, 0, 0, 24, 0];
    let list = |flags: u8| {
        let mut list = [0; LIST_BYTES];
        list[20] = flags;
        list
    };
    assert_eq!(decode_out(&cdb(7, 5), &list(0)), Err(Refusal::CdbField(1)));
    assert_eq!(decode_out(&cdb(1, 2), &list(0)), Err(Refusal::CdbField(2)));
    assert_eq!(decode_out(&cdb(1, 0x15), &list(0)), Err(Refusal::CdbField(2)));
    assert_eq!(decode_out(&cdb(0, 0), &list(0x08)), Err(Refusal::ParameterField(20)));
    assert!(decode_out(&cdb(0, 0xFF), &list(0)).is_ok(), "REGISTER has no type");
    assert!(decode_out(&cdb(1, 5), &list(0x0D)).is_ok(), "RESERVE ignores the flags");
    assert_eq!(decode_in(&[0x5E, 4, 0, 0, 0, 0, 0, 0, 8, 0]), Err(Refusal::CdbField(1)));
    assert_eq!(Refusal::Conflict.code(), None);
    assert_eq!(Refusal::InvalidRelease.code(), Some(Code { asc: 0x26, ascq: 0x04 }));
}

fn ports(nexus: &Nexus) -> (RelativePort, Option<TransportId>) {
    let id = match nexus % 4 {
        0 => TransportId::Iscsi(format!("iqn.2020-01.example:host{nexus},i,0x00000000000{nexus}")),
        1 => TransportId::Sas(0x6001_4050_0000_0000 + u64::from(*nexus)),
        2 => TransportId::FibreChannel(0x2100_0000_0000_0000 + u64::from(*nexus)),
        _ => TransportId::Srp(1 << 100 | u128::from(*nexus)),
    };
    (RelativePort(u16::from(*nexus)), Some(id))
}

fn action() -> impl Strategy<Value = ReservationOut> {
    let key = || (0u64..5).prop_map(Key);
    let kind = || (0usize..6).prop_map(|at| ReservationType::ALL[at]);
    let reach = || any::<(bool, bool)>().prop_map(|(aptpl, _)| Reach { aptpl, all_target_ports: false });
    prop_oneof![
        4 => (key(), key(), reach()).prop_map(|(current, new, reach)| ReservationOut::Register { current, new, reach }),
        4 => (key(), reach()).prop_map(|(new, reach)| ReservationOut::RegisterAndIgnore { new, reach }),
        4 => (key(), kind()).prop_map(|(key, kind)| ReservationOut::Reserve { key, kind }),
        2 => (key(), kind()).prop_map(|(key, kind)| ReservationOut::Release { key, kind }),
        1 => key().prop_map(|key| ReservationOut::Clear { key }),
        4 => (key(), key(), kind()).prop_map(|(key, victim, kind)| ReservationOut::Preempt { key, victim, kind }),
        2 => (key(), key(), kind())
            .prop_map(|(key, victim, kind)| ReservationOut::PreemptAndAbort { key, victim, kind }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever is asked in whatever order: the invariants of the head hold, what is refused changes nothing, and every
    /// state can be stored, and told.
    #[test]
    fn invariants_hold_after_every_action(actions in prop::collection::vec((0u8..5, action()), 1..60)) {
        let abilities = Abilities { aptpl: true, most_registrations: 4 };
        let mut state = Reservations::new(abilities);
        for (nexus, action) in actions {
            let before = state.clone();
            match state.apply(&nexus, action) {
                Err(_) => prop_assert_eq!(&state, &before),
                Ok(effects) => {
                    let told: Vec<Nexus> = effects.notices.iter().map(|(told, _)| *told).collect();
                    prop_assert!(!told.contains(&nexus), "who asks is not told");
                    prop_assert!(told.iter().all(|told| before.key_of(told).is_some()), "strangers are not told");
                    let lost = before.registrations.keys().filter(|other| state.key_of(other).is_none());
                    let untold = lost.filter(|other| **other != nexus && !told.contains(other)).count();
                    prop_assert_eq!(untold, 0, "nobody loses a registration without a word");
                    prop_assert!(effects.aborted.iter().all(|gone| state.key_of(gone).is_none()));
                }
            }
            let restored = Reservations::from_parts(state.parts(), abilities);
            prop_assert_eq!(restored.as_ref(), Ok(&state), "a state that can't be restored is none");
            let holders = (0u8..5).filter(|nexus| state.holds(nexus)).count();
            match state.reservation() {
                None => prop_assert_eq!(holders, 0),
                Some(held) if held.holder.is_some() => prop_assert_eq!(holders, 1),
                Some(_) => prop_assert_eq!(holders, state.registrations.len()),
            }
            prop_assert_eq!(read_keys(&encode_keys(&state.keys())), Ok(state.keys()));
            prop_assert_eq!(read_reservation(&encode_reservation(&state.holder())), Ok(state.holder()));
            prop_assert_eq!(capabilities(&encode_capabilities(&state.capabilities())), Ok(state.capabilities()));
            let status = state.full_status(ports);
            prop_assert_eq!(full_status(&encode_full_status(&status)), Ok(status));
        }
    }

    /// Bytes off the wire never make the decoders panic.
    #[test]
    fn decoding_is_total(
        cdb in prop::collection::vec(any::<u8>(), 0..17),
        list in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let _ = decode_out(&cdb, &list);
        let _ = decode_in(&cdb);
        let _ = access::access(&cdb);
    }
}
