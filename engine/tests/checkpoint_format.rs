//! The on-disk format is a promise: the golden image of every version is read and written for ever, and the document says
//! what the code does.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::fs;
use std::path::{Path, PathBuf};

use lunferry_engine::checkpoint::heartbeat::{BEAT_FIELDS, BEAT_LEN, Heartbeat};
use lunferry_engine::checkpoint::layout::{AreaSpec, Layout, LayoutKind, SlotId};
use lunferry_engine::checkpoint::record::{
    Counters, FIELDS, Field, Flags, IDENTITY_FIELDS, Owner, Placed, RECORD_LEN, Record, StoredIdentity, WriterVersion,
};
use lunferry_engine::checkpoint::state::{Leg, State, Suspension};
use lunferry_engine::lun::identity::{Identity, IdentityKind};
use lunferry_engine::units::{Bytes, Epoch, NodeId, Sequence};
use uuid::Uuid;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// What stands in `fixtures/golden/checkpoint-v1.bin`: every field has a value of its own.
fn golden_v1() -> Record {
    let spec = AreaSpec { size: Bytes::mib(6), nodes: 9, bitmap: Bytes::kib(192) };
    let (target_len, source_len) = (Bytes::gib(5) + Bytes(4096), Bytes::gib(5) - Bytes(512 * 77));
    Record {
        writer: WriterVersion { major: 11, minor: 12, patch: 13 },
        flags: Flags { target_was_zero: false, fill_unreadable: true },
        migration: Uuid::from_u128(0x0102_0304_0506_4708_890a_0b0c_0d0e_0f10),
        group: Some(Uuid::from_u128(0x2122_2324_2526_4728_892a_2b2c_2d2e_2f30)),
        source: StoredIdentity::of(&Identity::new(IdentityKind::Naa, "naa.60014051234567890abcdef012345678")),
        target: StoredIdentity::of(&Identity::new(
            IdentityKind::File,
            "/srv/luns/a-rather-long-folder-name/größer/target.img inode 4711",
        )),
        source_block: 512,
        target_block: 4096,
        layout: Layout::of(spec, target_len, source_len).unwrap(),
        epoch: Epoch(0x4142_4344_4546_4748),
        sequence: Sequence(0x5152_5354_5556_5758),
        owner: Owner { node: NodeId(0x6162), since_unix_s: 0x6364_6566, reservation_key: 0xf172_7374_7576_7778 },
        state: State::Suspended,
        suspension: Some(Suspension { from: State::TargetSelected, primary: Leg::Target }),
        pending_step: Some(State::Finalising),
        watermark: Bytes(0x1_0040_0200),
        source_stamp: 0xf192_9394_9596_9798,
        extent_size: 384 << 10,
        written_at_unix_s: 0x6465_6667,
        counters: Counters {
            copied_bytes: Bytes(0x1112_1314_1516_1718),
            zeroed_bytes: Bytes(0x191a_1b1c_1d1e_1f20),
            skipped_bytes: Bytes(0x3132_3334_3536_3738),
            retried: 0x393a_3b3c_3d3e_3f40,
            unreadable_bytes: Bytes(0x494a_4b4c_4d4e_4f50),
            checkpoints: 0x595a_5b5c_5d5e_5f60,
        },
    }
}

#[test]
fn the_golden_image_of_version_1_is_read_and_written_as_ever() {
    let image = fs::read(in_repository("fixtures/golden/checkpoint-v1.bin")).unwrap();
    let image: [u8; RECORD_LEN] = image.try_into().unwrap();
    assert_eq!(golden_v1().layout.kind(), LayoutKind::Overlay);
    assert_eq!(Record::decode(&image), Ok(Placed { slot: SlotId::B, record: golden_v1() }));
    assert_eq!(golden_v1().encode(SlotId::B), image);
}

/// What stands in `fixtures/golden/heartbeat-v1.bin`.
const BEAT_V1: Heartbeat = Heartbeat {
    migration: Uuid::from_u128(0x0102_0304_0506_4708_890a_0b0c_0d0e_0f10),
    node: NodeId(0x6162),
    incarnation: 0x7172_7374,
    count: Sequence(0x4142_4344_4546_4748),
};

#[test]
fn the_golden_heartbeat_of_version_1_is_read_and_written_as_ever() {
    let image = fs::read(in_repository("fixtures/golden/heartbeat-v1.bin")).unwrap();
    let (image, at): ([u8; BEAT_LEN], _) = (image.try_into().unwrap(), Bytes(0x5152_5354_5556_5758));
    assert_eq!(Heartbeat::decode(&image, at), Ok(BEAT_V1));
    assert_eq!(BEAT_V1.encode(at), image);
    for field in BEAT_FIELDS {
        let is_blank = image[field.range()].iter().all(|byte| *byte == 0);
        assert_eq!(is_blank, field.name == "reserved", "{}", field.name);
    }
}

/// Every byte that isn't reserved takes part: no field of the image is blank by accident.
#[test]
fn no_field_of_the_golden_image_is_blank() {
    let image = golden_v1().encode(SlotId::B);
    for field in FIELDS {
        let is_blank = image[field.range()].iter().all(|byte| *byte == 0);
        assert_eq!(is_blank, field.name == "reserved", "{}", field.name);
    }
}

/// A row of a table in the document.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    offset: usize,
    len: usize,
    name: String,
    meaning: String,
}

/// The rows of the table that follows the heading `heading`: `| offset | length | field | meaning |`.
fn rows(document: &str, heading: &str) -> Vec<Row> {
    let lines = document.lines().skip_while(|line| *line != heading).skip(1);
    let table = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table
        .skip(2)
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [offset, len, name, meaning] = cells[..] else { panic!("four columns, not: {line}") };
            let (name, meaning) = (name.trim_matches('`').into(), meaning.into());
            Row { offset: offset.parse().unwrap(), len: len.parse().unwrap(), name, meaning }
        })
        .collect()
}

fn as_rows(fields: &[Field]) -> Vec<Row> {
    let row = |field: &Field| Row {
        offset: field.offset,
        len: field.len,
        name: field.name.into(),
        meaning: field.meaning.into(),
    };
    fields.iter().map(row).collect()
}

/// Whole tables are compared, in order: a row too many in the document fails as well as one too few.
#[test]
fn the_document_says_what_the_code_does() {
    let document = fs::read_to_string(in_repository("docs/on-disk-format.md")).unwrap();
    assert_eq!(rows(&document, "## The record, version 1"), as_rows(FIELDS));
    assert_eq!(rows(&document, "## A heartbeat, version 1"), as_rows(BEAT_FIELDS));
    assert_eq!(rows(&document, "## The identity of a LUN"), as_rows(IDENTITY_FIELDS));
}

/// The lists of numbers in the document: `| number | name |`.
#[test]
fn the_document_knows_every_state_and_kind() {
    let document = fs::read_to_string(in_repository("docs/on-disk-format.md")).unwrap();
    for state in State::ALL {
        let row = format!("| {} | `{}` |", state.number(), state.name());
        assert!(document.contains(&row), "no row {row}");
    }
    let kinds = [
        IdentityKind::Naa,
        IdentityKind::Eui,
        IdentityKind::NvmeUuid,
        IdentityKind::Serial,
        IdentityKind::DmUuid,
        IdentityKind::File,
        IdentityKind::KernelName,
    ];
    for kind in kinds {
        let row = format!("| {} | `{}` |", kind as u8, serde_json::to_value(kind).unwrap().as_str().unwrap());
        assert!(document.contains(&row), "no row {row}");
    }
}
