//! Every combination of two slots against a table that was written by hand, and the rules against any bytes.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use proptest::prelude::*;

use super::*;
use crate::checkpoint::layout::{AreaSpec, Layout};
use crate::checkpoint::record::tests::{sample, with_crc};
use crate::checkpoint::state::Suspension;
use crate::lun::identity::{Identity, IdentityKind};

/// What can stand in a slot, in the order of the table's rows and columns.
const KINDS: [&str; 18] = [
    "newer", "equal", "fork", "older", "epoch", "uuid", "source", "target", "size", "toonew", "torn", "malf",
    "shifted", "slot", "zeroes", "ones", "garbage", "short",
];

/// Rows: what stands in slot A. Columns: what stands in slot B, in the order of [`KINDS`].
///
/// `A`, `B`: use that one; `F`: fork; `2`: two migrations; `N`: too new; `X`, `x`: foreign, from slot A or B;
/// `D`: damaged; `-`: nothing of ours; `*`: `N`, but `B` where slot B's record is Finalising over an overlay.
const TABLE: [&str; 18] = [
    // newer equal fork older epoch uuid | source target size | toonew torn malf | shifted slot | zeroes ones garbage short
    "AAAAA2 AAA NAA AA AAAA", // newer: epoch 3, sequence 9
    "BAFAA2 AAA NAA AA AAAA", // equal: epoch 3, sequence 8
    "BFAAA2 AAA NAA AA AAAA", // fork: epoch 3, sequence 8, another watermark
    "BBBAA2 AAA NAA AA AAAA", // older: epoch 3, sequence 7
    "BBBBA2 AAA NAA AA AAAA", // epoch: epoch 2, sequence 1000
    "22222A AAA NAA AA AAAA", // uuid: another migration of the same LUNs
    "BBBBBB XXX NXX XX XXXX", // source: the same migration's numbers, another source
    "BBBBBB XXX NXX XX XXXX", // target
    "BBBBBB XXX NXX XX XXXX", // size
    "****** NNN NNN NN NNNN", // toonew: format 2
    "BBBBBB xxx NDD DD DDDD", // torn
    "BBBBBB xxx NDD DD DDDD", // malf: the right CRC over a state that is none
    "BBBBBB xxx NDD -- ----", // shifted: a record of a target of another length
    "BBBBBB xxx NDD -- ----", // slot: the other slot's record
    "BBBBBB xxx NDD -- ----", // zeroes
    "BBBBBB xxx NDD -- ----", // ones
    "BBBBBB xxx NDD -- ----", // garbage
    "BBBBBB xxx NDD -- ----", // short: fewer bytes than a record has
];

fn identity(text: &str) -> StoredIdentity {
    StoredIdentity::of(&Identity::new(IdentityKind::Naa, text))
}

fn expected(record: &Record) -> Expected {
    Expected {
        source: record.source.clone(),
        target: record.target.clone(),
        source_len: record.layout.source_len(),
        target_len: record.layout.target_len(),
        target_block: record.target_block,
    }
}

/// The slot's first 4096 bytes when `kind` stands in it, seen from a migration whose record is `base`.
fn raw(kind: &str, base: &Record, slot: SlotId) -> Vec<u8> {
    let base = base.clone();
    let (spec, target, source) = (base.layout.spec(), base.layout.target_len(), base.layout.source_len());
    let moved = |target, source| Layout::of(spec, target, source).unwrap();
    let torn = |mut bytes: [u8; RECORD_LEN]| {
        bytes[300] ^= 1;
        bytes
    };
    let newer_format = |mut bytes: [u8; RECORD_LEN]| {
        bytes[8] = 2;
        bytes
    };
    let record = match kind {
        "newer" => Record { sequence: Sequence(9), ..base },
        "equal" => base,
        "fork" => Record { watermark: base.watermark + Bytes(512), ..base },
        "older" => Record { sequence: Sequence(7), ..base },
        "epoch" => Record { epoch: Epoch(2), sequence: Sequence(1000), ..base },
        "uuid" => Record { migration: Uuid::from_u128(0x2222), ..base },
        "source" => Record { source: identity("naa.5"), ..base },
        "target" => Record { target: identity("naa.6"), ..base },
        "size" => Record { target_block: 512, ..base },
        "shifted" => Record { layout: moved(target + Bytes::mib(1), source), ..base },
        "slot" => return padded(&base.encode(slot.other()), 0),
        "toonew" => return padded(&newer_format(base.encode(slot)), 0),
        "torn" => return padded(&torn(base.encode(slot)), 0),
        "malf" => return padded(&with_crc(base.encode(slot), |bytes| bytes[258] = 77), 0),
        "zeroes" => return vec![0; 4096],
        "ones" => return vec![0xff; 4096],
        "garbage" => return padded(b"whatever a file system leaves at the end of its device", 0x5a),
        "short" => return vec![0; 511],
        _ => unreachable!("{kind} is no kind"),
    };
    padded(&record.encode(slot), 0)
}

fn padded(bytes: &[u8], fill: u8) -> Vec<u8> {
    let mut block = bytes.to_vec();
    block.resize(4096, fill);
    block
}

fn seen(kind: &str, base: &Record, slot: SlotId) -> SlotView {
    inspect(&raw(kind, base, slot), slot, base.layout.slot(slot).start, Some(&expected(base)))
}

/// The table's letter for a choice; what the letter doesn't say is asserted.
fn letter(choice: &Choice, a: &SlotView, b: &SlotView) -> char {
    let holds = |view: &SlotView, record: &Record| matches!(view, SlotView::Valid(held) if **held == *record);
    match choice {
        Choice::None => '-',
        Choice::Use { record, from, next_write, .. } => {
            assert_eq!(*next_write, from.other());
            let (letter, view) = match from {
                SlotId::A => ('A', a),
                SlotId::B => ('B', b),
            };
            assert!(holds(view, record), "a record that is not in slot {from}");
            letter
        }
        Choice::Refused(refusal) => match refusal {
            Refusal::Fork { a: in_a, b: in_b } => {
                assert!(holds(a, in_a) && holds(b, in_b));
                'F'
            }
            Refusal::TwoMigrations { a, b } => {
                assert_ne!(a, b);
                '2'
            }
            Refusal::TooNew { version, .. } => {
                assert_eq!(*version, 2);
                'N'
            }
            Refusal::Foreign { slot: SlotId::A, .. } => 'X',
            Refusal::Foreign { slot: SlotId::B, .. } => 'x',
            Refusal::Damaged { .. } => 'D',
        },
    }
}

/// Migrations in every state and both layouts, all with epoch 3 and sequence 8.
fn bases() -> Vec<Record> {
    let past_end = sample().layout;
    let overlay = Layout::of(AreaSpec::COMPACT, Bytes::mib(512), Bytes::mib(512)).unwrap();
    let suspension = |state| Suspension::of(State::Syncing).filter(|_| state == State::Suspended);
    let with = |layout| State::ALL.map(|state| Record { state, suspension: suspension(state), layout, ..sample() });
    [with(past_end), with(overlay)].concat()
}

#[test]
fn every_combination_is_decided_as_the_table_says() {
    for base in bases() {
        let slot_a_may_be_source = base.state == State::Finalising && base.layout.kind() == LayoutKind::Overlay;
        for (in_a, row) in KINDS.iter().zip(TABLE) {
            let row: Vec<char> = row.chars().filter(|cell| *cell != ' ').collect();
            assert_eq!(row.len(), KINDS.len());
            for (in_b, cell) in KINDS.iter().zip(row) {
                let cell = match cell {
                    '*' if slot_a_may_be_source => 'B',
                    '*' => 'N',
                    cell => cell,
                };
                let (a, b) = (seen(in_a, &base, SlotId::A), seen(in_b, &base, SlotId::B));
                let choice = choose(a.clone(), b.clone());
                assert_eq!(
                    letter(&choice, &a, &b),
                    cell,
                    "A {in_a}, B {in_b}, {} {:?}",
                    base.state,
                    base.layout.kind()
                );
            }
        }
    }
}

/// The kinds are what they claim to be, or the table proves nothing.
#[test]
fn every_kind_is_seen_as_what_it_is() {
    for base in bases() {
        for slot in SlotId::BOTH {
            for kind in KINDS {
                let view = seen(kind, &base, slot);
                let is_right = match kind {
                    "newer" | "equal" | "fork" | "older" | "epoch" | "uuid" => matches!(view, SlotView::Valid(_)),
                    "source" => matches!(view, SlotView::Foreign { why: Otherness::Source, .. }),
                    "target" => matches!(view, SlotView::Foreign { why: Otherness::Target, .. }),
                    "size" => matches!(view, SlotView::Foreign { why: Otherness::Size, .. }),
                    "toonew" => view == SlotView::TooNew { version: 2, writer: WriterVersion::THIS },
                    "torn" => view == SlotView::Torn,
                    "malf" => view == SlotView::Malformed { field: "state", value: "77".into() },
                    "shifted" => {
                        let at = base.layout.slot(slot).start + Bytes::mib(1);
                        view == SlotView::Misplaced { slot, at }
                    }
                    "slot" => {
                        let at = base.layout.slot(slot.other()).start;
                        view == SlotView::Misplaced { slot: slot.other(), at }
                    }
                    "zeroes" => view == SlotView::Blank,
                    "ones" => view == SlotView::AllOnes,
                    "garbage" | "short" => view == SlotView::NotARecord,
                    _ => unreachable!("{kind} is no kind"),
                };
                assert!(is_right, "{kind} in slot {slot}: {view:?}");
            }
        }
    }
}

/// What is said of the slot that was not used.
#[test]
fn the_note_says_why_the_other_slot_was_not_used() {
    let base = sample();
    let at = base.layout.slot(SlotId::A).start;
    let notes = [
        ("equal", Note::Same),
        ("older", Note::Older { epoch: Epoch(3), sequence: Sequence(7) }),
        ("source", Note::Foreign(Otherness::Source)),
        ("target", Note::Foreign(Otherness::Target)),
        ("size", Note::Foreign(Otherness::Size)),
        ("torn", Note::Torn),
        ("malf", Note::Malformed { field: "state", value: "77".into() }),
        ("slot", Note::Misplaced { at }),
        ("zeroes", Note::Blank),
        ("ones", Note::AllOnes),
        ("garbage", Note::NotARecord),
    ];
    for (kind, expected) in notes {
        match choose(seen("equal", &base, SlotId::A), seen(kind, &base, SlotId::B)) {
            Choice::Use { from: SlotId::A, next_write: SlotId::B, note, .. } => assert_eq!(note, expected),
            other => panic!("{kind}: {other:?}"),
        }
    }
}

/// Between two foreign records the later one is shown: it says best what the other migration has reached.
#[test]
fn of_two_foreign_records_the_later_one_is_shown() {
    let base = sample();
    let foreign = |kind, slot, sequence| {
        let other = Record { sequence: Sequence(sequence), target: identity("naa.6"), ..base.clone() };
        inspect(&raw(kind, &other, slot), slot, base.layout.slot(slot).start, Some(&expected(&base)))
    };
    let choice = choose(foreign("equal", SlotId::A, 5), foreign("equal", SlotId::B, 6));
    assert!(
        matches!(choice, Choice::Refused(Refusal::Foreign { slot: SlotId::B, why: Otherness::Target, .. })),
        "{choice:?}"
    );
}

/// For showing a target's area nothing is known of the source; a record is then held against its place alone.
#[test]
fn without_anything_expected_a_well_placed_record_is_valid() {
    let base = sample();
    let at = base.layout.slot(SlotId::A).start;
    let bytes = raw("source", &base, SlotId::A);
    assert!(matches!(inspect(&bytes, SlotId::A, at, None), SlotView::Valid(_)));
    assert!(matches!(inspect(&bytes, SlotId::A, at + Bytes(512), None), SlotView::Misplaced { .. }));
    assert!(matches!(inspect(&bytes, SlotId::B, at, None), SlotView::Misplaced { .. }));
}

/// A blank record in front of other bytes is no blank slot.
#[test]
fn blank_means_every_byte() {
    let mut block = vec![0; 4096];
    block[4095] = 1;
    assert_eq!(inspect(&block, SlotId::A, Bytes::ZERO, None), SlotView::NotARecord);
}

proptest! {
    #[test]
    fn no_bytes_are_valid_and_none_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1024)) {
        let base = sample();
        let view = |slot| inspect(&bytes, slot, base.layout.slot(slot).start, Some(&expected(&base)));
        let [a, b] = SlotId::BOTH.map(view);
        prop_assert!(!matches!(a, SlotView::Valid(_)));
        let is_used = matches!(choose(a, b), Choice::Use { .. });
        prop_assert!(!is_used);
    }

    /// One damaged bit in one slot never loses the migration, and never makes an older record win over a good newer one.
    #[test]
    fn a_flipped_bit_leaves_the_other_slot_in_charge(bit in 0..RECORD_LEN * 8, damaged_is_a: bool) {
        let base = sample();
        let damaged_slot = if damaged_is_a { SlotId::A } else { SlotId::B };
        let views = SlotId::BOTH.map(|slot| {
            let kind = if slot == damaged_slot { "newer" } else { "equal" };
            let mut bytes = raw(kind, &base, slot);
            if slot == damaged_slot {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            inspect(&bytes, slot, base.layout.slot(slot).start, Some(&expected(&base)))
        });
        let [a, b] = views;
        match choose(a, b) {
            Choice::Use { record, from, next_write, .. } => {
                prop_assert_eq!(*record, base);
                prop_assert_eq!((from, next_write), (damaged_slot.other(), damaged_slot));
            }
            // A flipped version can't be told from a later format, and that is refused.
            Choice::Refused(Refusal::TooNew { .. }) => prop_assert!((64..80).contains(&bit)),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
