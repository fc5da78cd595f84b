//! What is encoded comes back; what nobody encoded doesn't, and is named.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use proptest::prelude::*;

use super::read::COUNT_LIMIT;
use super::*;
use crate::checkpoint::layout::AreaSpec;
use crate::checkpoint::state::Leg;
use crate::lun::identity::{Identity, IdentityKind};

/// A record in the middle of a copy, for these tests and those of the slots.
pub(crate) fn sample() -> Record {
    let target_len = Bytes::gib(2);
    Record {
        writer: WriterVersion::THIS,
        flags: Flags { target_was_zero: true, fill_unreadable: false },
        migration: Uuid::from_u128(0x1111),
        group: None,
        source: StoredIdentity::of(&Identity::new(IdentityKind::Naa, "naa.6001405aaaa")),
        target: StoredIdentity::of(&Identity::new(IdentityKind::Naa, "naa.6001405bbbb")),
        source_block: 512,
        target_block: 4096,
        layout: Layout::of(AreaSpec::V1, target_len, Bytes::gib(1)).unwrap(),
        epoch: Epoch(3),
        sequence: Sequence(8),
        owner: Owner { node: NodeId(2), since_unix_s: 1_700_000_000, reservation_key: 0x4c46_0002_dead_beef },
        state: State::Syncing,
        suspension: None,
        pending_step: None,
        watermark: Bytes::mib(300),
        source_stamp: 77,
        extent_size: 512 << 10,
        written_at_unix_s: 1_700_000_123,
        counters: Counters { copied_bytes: Bytes::mib(300), ..Counters::default() },
    }
}

/// `bytes` after `change`, with a CRC that fits.
pub(crate) fn with_crc(mut bytes: [u8; RECORD_LEN], change: impl FnOnce(&mut [u8; RECORD_LEN])) -> [u8; RECORD_LEN] {
    change(&mut bytes);
    let crc = crc_of(&bytes);
    f::CRC32C.put(&mut bytes, crc.to_le_bytes());
    bytes
}

#[test]
fn a_record_comes_back_from_either_slot() {
    for slot in SlotId::BOTH {
        assert_eq!(Record::decode(&sample().encode(slot)), Ok(Placed { slot, record: sample() }));
    }
}

#[test]
fn the_two_slots_differ_in_place_and_crc_alone() {
    let [a, b] = SlotId::BOTH.map(|slot| sample().encode(slot));
    let places = [f::SLOT_POSITION, f::SLOT_LBA, f::CRC32C].map(|field| field.range());
    for at in (0..RECORD_LEN).filter(|at| a[*at] != b[*at]) {
        assert!(places.iter().any(|place| place.contains(&at)), "byte {at}");
    }
}

/// Every state, kind of layout and flag has its own bytes and comes back.
#[test]
fn every_state_flag_and_layout_comes_back() {
    let overlay = Layout::of(AreaSpec::COMPACT, Bytes::mib(2), Bytes::mib(2)).unwrap();
    for (at, state) in State::ALL.into_iter().enumerate() {
        let record = Record {
            state,
            suspension: (state == State::Suspended)
                .then_some(Suspension { from: State::TargetSelected, primary: Leg::Source }),
            pending_step: State::ALL.get(at + 1).copied(),
            flags: Flags { target_was_zero: at % 2 == 0, fill_unreadable: at % 3 == 0 },
            group: (at % 2 == 0).then(|| Uuid::from_u128(9)),
            layout: overlay,
            watermark: Bytes::mib(2),
            ..sample()
        };
        assert_eq!(Record::decode(&record.encode(SlotId::B)).map(|placed| placed.record), Ok(record));
    }
}

#[test]
fn no_flipped_bit_is_ever_accepted() {
    let good = sample().encode(SlotId::A);
    for bit in 0..RECORD_LEN * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        let defect = Record::decode(&bad).unwrap_err();
        let byte = bit / 8;
        let expected = match byte {
            _ if f::MAGIC.range().contains(&byte) => matches!(defect, Defect::NotARecord),
            _ if bit == f::FORMAT_VERSION.offset * 8 => matches!(defect, Defect::Torn { .. }),
            _ if f::FORMAT_VERSION.range().contains(&byte) => matches!(defect, Defect::TooNew { .. }),
            _ if f::RECORD_LENGTH.range().contains(&byte) => matches!(defect, Defect::Malformed { .. }),
            _ => matches!(defect, Defect::Torn { .. }),
        };
        assert!(expected, "bit {bit}: {defect:?}");
    }
}

#[test]
fn blank_strange_and_newer_bytes_are_told_apart() {
    assert_eq!(Record::decode(&[0; RECORD_LEN]), Err(Defect::Blank));
    assert_eq!(Record::decode(&[0xff; RECORD_LEN]), Err(Defect::NotARecord));
    assert_eq!(Record::decode(&[0x5a; RECORD_LEN]), Err(Defect::NotARecord));
    // A later format is recognised whatever stands behind the stable first bytes, its CRC included.
    let mut newer = [0xee; RECORD_LEN];
    newer[..20].copy_from_slice(&sample().encode(SlotId::A)[..20]);
    f::FORMAT_VERSION.put(&mut newer, 2_u16.to_le_bytes());
    f::WRITER_MAJOR.put(&mut newer, 7_u16.to_le_bytes());
    let writer = WriterVersion { major: 7, ..WriterVersion::THIS };
    assert_eq!(Record::decode(&newer), Err(Defect::TooNew { version: 2, writer }));
}

/// For each checked field a value that it may not have, in a record whose CRC fits.
#[test]
fn what_is_out_of_range_is_named() {
    let far = u64::MAX.to_le_bytes();
    let cases: &[(Field, &[u8])] = &[
        (f::FORMAT_VERSION, &[0, 0]),
        (f::RECORD_LENGTH, &[0, 4, 0, 0]),
        (f::FLAGS, &[4, 0, 0, 0]),
        (f::SLOT_POSITION, &4096_u64.to_le_bytes()),
        (f::SLOT_LBA, &1_u64.to_le_bytes()),
        (f::TARGET_BLOCK, &[0, 0, 0, 0]),
        (f::TARGET_BLOCK, &[0, 3, 0, 0]),
        (f::SOURCE_BLOCK, &[0, 1, 0, 0]),
        (f::SOURCE_BLOCK, &[0, 0, 2, 0]),
        (f::MIGRATION, &[0; 16]),
        (f::SOURCE_IDENTITY, &[0; 64]),
        (f::TARGET_IDENTITY, &[0xff; 64]),
        (f::SOURCE_LENGTH, &(Bytes::gib(2).0 + 1).to_le_bytes()),
        (f::TARGET_LENGTH, &far),
        (f::EPOCH, &far),
        (f::SEQUENCE, &(1_u64 << 63).to_le_bytes()),
        (f::OWNER_SINCE, &far),
        (f::STATE, &[0]),
        (f::STATE, &[9]),
        (f::PENDING_STEP, &[9]),
        (f::LAYOUT_KIND, &[0]),
        (f::LAYOUT_KIND, &[2]),
        (f::SUSPENDED_FROM, &[2]),
        (f::SUSPENDED_FROM, &[9]),
        (f::PRIMARY, &[1]),
        (f::AREA_NODES, &[0xff, 0xff]),
        (f::BITMAP_SIZE, &[0xff, 0xff, 0xff, 0xff]),
        (f::EXTENT_SIZE, &[0, 0, 0, 0]),
        (f::EXTENT_SIZE, &[1, 2, 0, 0]),
        (f::WATERMARK, &(Bytes::gib(1).0 + 1).to_le_bytes()),
        (f::AREA_START, &0_u64.to_le_bytes()),
        (f::AREA_SIZE, &far),
        (f::WRITTEN_AT, &far),
        (f::COPIED, &far),
        (f::ZEROED, &far),
        (f::SKIPPED, &far),
        (f::RETRIED, &far),
        (f::UNREADABLE, &far),
        (f::CHECKPOINTS, &far),
        (f::RESERVED, &[1; 147]),
    ];
    // Lengths, nodes and bitmaps make an impossible layout, which is reported at the area's size.
    let reported_at = |field: Field| match field {
        f::SOURCE_LENGTH | f::TARGET_LENGTH | f::AREA_NODES | f::BITMAP_SIZE => f::AREA_SIZE.name,
        field => field.name,
    };
    let good = sample().encode(SlotId::A);
    for (field, value) in cases {
        let bad = with_crc(good, |bytes| bytes[field.range()].copy_from_slice(value));
        match Record::decode(&bad) {
            Err(Defect::Malformed { field: named, .. }) => assert_eq!(named, reported_at(*field), "{value:x?}"),
            other => panic!("{} = {value:x?}: {other:?}", field.name),
        }
    }
    let unchecked = ["magic", "writer_major", "writer_minor", "writer_patch", "group", "reservation_key"];
    let unchecked = [&unchecked[..], &["owner_node", "source_stamp", "crc32c"]].concat();
    for field in FIELDS {
        let is_checked = cases.iter().any(|(checked, _)| checked == field);
        assert!(is_checked != unchecked.contains(&field.name), "{} has no case here", field.name);
    }
}

/// What a suspended record must say, and what it can't.
#[test]
fn a_suspension_that_makes_no_sense_is_named() {
    let suspended = Record {
        state: State::Suspended,
        suspension: Some(Suspension { from: State::SourceSelected, primary: Leg::Source }),
        ..sample()
    };
    let good = suspended.encode(SlotId::A);
    assert_eq!(Record::decode(&good).unwrap().record, suspended);
    for (field, value) in
        [(f::SUSPENDED_FROM, 0), (f::SUSPENDED_FROM, 6), (f::PRIMARY, 0), (f::PRIMARY, 2), (f::PRIMARY, 3)]
    {
        let bad = with_crc(good, |bytes| bytes[field.offset] = value);
        let named = Record::decode(&bad).unwrap_err();
        assert!(matches!(named, Defect::Malformed { field: name, .. } if name == field.name), "{value}: {named}");
    }
}

#[test]
#[should_panic(expected = "can't be read back")]
fn what_could_not_be_read_is_never_written() {
    let _ = Record { watermark: Bytes::gib(1) + Bytes(1), ..sample() }.encode(SlotId::A);
}

#[test]
fn the_view_has_the_names_that_scripts_rely_on() {
    let view = serde_json::to_value(sample().view()).unwrap();
    let expected = serde_json::json!({
        "format_version": 1,
        "writer": env!("CARGO_PKG_VERSION"),
        "migration": "00000000-0000-0000-0000-000000001111",
        "group": null,
        "state": "syncing",
        "suspension": null,
        "pending_step": null,
        "epoch": 3,
        "sequence": 8,
        "owner": {"node": 2, "since_unix_s": 1_700_000_000, "reservation_key": "0x4c460002deadbeef"},
        "source": {
            "kind": "naa", "identity": "naa.6001405aaaa", "identity_is_whole": true,
            "identity_digest": format!("{:032x}", sample().source.digest()),
            "length_bytes": 1 << 30, "logical_block_bytes": 512,
        },
        "target": {
            "kind": "naa", "identity": "naa.6001405bbbb", "identity_is_whole": true,
            "identity_digest": format!("{:032x}", sample().target.digest()),
            "length_bytes": 2_u64 << 30, "logical_block_bytes": 4096,
        },
        "source_stamp": "0x000000000000004d",
        "watermark_bytes": 300 << 20,
        "extent_bytes": 512 << 10,
        "target_was_zero": true,
        "fill_unreadable": false,
        "written_at_unix_s": 1_700_000_123,
        "area": {
            "layout": "past_end", "start_bytes": (2_u64 << 30) - (4 << 20), "size_bytes": 4 << 20,
            "slot_a_bytes": (2_u64 << 30) - (4 << 20), "slot_b_bytes": (2_u64 << 30) - (64 << 10),
            "nodes": 16, "bitmap_bytes": 128 << 10,
        },
        "counters": {
            "copied_bytes": 300 << 20, "zeroed_bytes": 0, "skipped_bytes": 0, "retried": 0,
            "unreadable_bytes": 0, "checkpoints": 0,
        },
    });
    assert_eq!(view, expected);
}

fn block() -> impl Strategy<Value = [u8; RECORD_LEN]> {
    proptest::collection::vec(any::<u8>(), RECORD_LEN).prop_map(|bytes| bytes.try_into().unwrap())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in block(), framed: bool) {
        if framed {
            bytes[..20].copy_from_slice(&sample().encode(SlotId::A)[..20]);
            bytes = with_crc(bytes, |_| ());
        }
        prop_assert!(Record::decode(&bytes).is_err());
    }

    /// Whatever is accepted is what encoding makes of it: no byte was passed over.
    #[test]
    fn what_is_accepted_encodes_to_the_same_bytes(
        changes in proptest::collection::vec((0..RECORD_LEN, prop_oneof![Just(0_u8), Just(1), any::<u8>()]), 1..4),
        slot in prop_oneof![Just(SlotId::A), Just(SlotId::B)],
    ) {
        let bytes = with_crc(sample().encode(slot), |bytes| {
            for (at, value) in changes {
                bytes[at] = value;
            }
        });
        if let Ok(Placed { slot, record }) = Record::decode(&bytes) {
            prop_assert_eq!(record.encode(slot), bytes);
        }
    }

    #[test]
    fn numbers_come_back(
        source_len in 0..=Bytes::gib(2).0, share in 0.0..=1.0_f64, epoch in 0..COUNT_LIMIT, sequence in 0..COUNT_LIMIT,
        key: u64, node: u16, counts in proptest::array::uniform6(0..COUNT_LIMIT), extent in 1..8_388_607_u32,
        names in proptest::array::uniform2("\\PC{0,300}"),
    ) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any position below the length will do")]
        let watermark = Bytes((source_len as f64 * share) as u64).min(Bytes(source_len));
        let [copied, zeroed, skipped, retried, unreadable, checkpoints] = counts;
        let [source, target] = names.map(|name| StoredIdentity::of(&Identity::new(IdentityKind::File, name)));
        let record = Record {
            layout: Layout::of(AreaSpec::V1, Bytes::gib(2), Bytes(source_len)).unwrap(),
            watermark, source, target, epoch: Epoch(epoch), sequence: Sequence(sequence), extent_size: extent * 512,
            owner: Owner { node: NodeId(node), reservation_key: key, ..sample().owner },
            counters: Counters {
                copied_bytes: Bytes(copied), zeroed_bytes: Bytes(zeroed), skipped_bytes: Bytes(skipped), retried,
                unreadable_bytes: Bytes(unreadable), checkpoints,
            },
            ..sample()
        };
        prop_assert_eq!(Record::decode(&record.encode(SlotId::B)), Ok(Placed { slot: SlotId::B, record }));
    }
}
