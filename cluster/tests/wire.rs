//! Datagrams there and back, what is refused, and that recordings are never believed.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

use lunferry_cluster::config::Ms;
use lunferry_cluster::message::{Agreed, Body, Message, Role, Unfit, Window};
use lunferry_cluster::session::{Dropped, Sessions, Verdict};
use lunferry_cluster::wire::{Content, Datagram, Defect, FIELDS, Keys, LEN};
use lunferry_engine::checkpoint::state::State;
use lunferry_engine::units::{Bytes, Epoch};
use lunferry_scsi::key::{Incarnation, NodeId};
use proptest::prelude::*;
use uuid::Uuid;

const CLUSTER: Uuid = Uuid::from_u128(1);
const MIGRATION: Uuid = Uuid::from_u128(2);

fn keys() -> Keys {
    Keys::new([7; 32], None)
}

fn datagram(content: Content) -> Datagram {
    let (sender, receiver, incarnation) = (NodeId(1), NodeId(2), Incarnation(3));
    Datagram { cluster: CLUSTER, migration: MIGRATION, sender, receiver, incarnation, counter: 4, content }
}

fn held(number: u32) -> Content {
    Content::Message(Message { epoch: Epoch(5), body: Body::Held { number } })
}

fn bodies() -> impl Strategy<Value = Body> {
    let state = || (0..State::ALL.len()).prop_map(|at| State::ALL[at]);
    let agreed = move || (any::<u32>(), state()).prop_map(|(step, state)| Agreed { step, state });
    let role = (0..Role::ALL.len()).prop_map(|at| Role::ALL[at]);
    let window = (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(number, a, b)| Window {
        number,
        lo: Bytes(a.min(b)),
        hi: Bytes(a.max(b)),
    });
    let incarnation = || any::<u32>().prop_map(Incarnation);
    let heartbeat = (role, any::<bool>(), agreed(), any::<u64>());
    prop_oneof![
        heartbeat.prop_map(|(role, led, agreed, lo)| Body::Heartbeat { role, led, agreed, lo: Bytes(lo) }),
        incarnation().prop_map(|incarnation| Body::Admit { incarnation }),
        Just(Body::Registered),
        (incarnation(), window, agreed()).prop_map(|(incarnation, window, agreed)| Body::Window {
            incarnation,
            window,
            agreed
        }),
        any::<u32>().prop_map(|number| Body::Held { number }),
        (any::<u32>(), state()).prop_map(|(step, to)| Body::Prepare { step, to }),
        any::<u32>().prop_map(|step| Body::Prepared { step }),
        (any::<u32>(), 0..Unfit::ALL.len()).prop_map(|(step, at)| Body::Refused { step, why: Unfit::ALL[at] }),
        agreed().prop_map(|agreed| Body::Commit { agreed }),
        any::<u32>().prop_map(|step| Body::Cancel { step }),
        any::<u32>().prop_map(|step| Body::Settled { step }),
        Just(Body::HandOver),
    ]
}

fn datagrams() -> impl Strategy<Value = Datagram> {
    let content = prop_oneof![
        8 => (0..=u64::MAX >> 1, bodies()).prop_map(|(epoch, body)| Content::Message(Message { epoch: Epoch(epoch), body })),
        1 => any::<u64>().prop_map(|nonce| Content::Challenge { nonce }),
        1 => any::<u64>().prop_map(|nonce| Content::Answer { nonce }),
    ];
    let head = (any::<[u128; 2]>(), any::<[u16; 2]>(), any::<u32>(), any::<u64>());
    (head, content).prop_map(|((uuids, nodes, incarnation, counter), content)| Datagram {
        cluster: Uuid::from_u128(uuids[0]),
        migration: Uuid::from_u128(uuids[1]),
        sender: NodeId(nodes[0]),
        receiver: NodeId(nodes[1]),
        incarnation: Incarnation(incarnation),
        counter,
        content,
    })
}

/// `bytes` with a MAC that is right for what they are now.
fn sealed(mut bytes: [u8; LEN]) -> [u8; LEN] {
    let mac = blake3::keyed_hash(&[7; 32], &bytes[..LEN - 32]);
    bytes[LEN - 32..].copy_from_slice(mac.as_bytes());
    bytes
}

proptest! {
    #[test]
    fn there_and_back(datagram in datagrams()) {
        prop_assert_eq!(Datagram::decode(&datagram.encode(&keys()), &keys()), Ok(datagram));
    }

    #[test]
    fn one_flipped_bit_is_no_datagram(datagram in datagrams(), bit in 0..LEN * 8) {
        let mut bytes = datagram.encode(&keys());
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Datagram::decode(&bytes, &keys()), Err(Defect::Mac));
    }

    #[test]
    fn who_has_the_key_can_only_say_what_encoding_says(datagram in datagrams(), at in 0..LEN - 32, value: u8) {
        let mut bytes = datagram.encode(&keys());
        bytes[at] = value;
        let bytes = sealed(bytes);
        if let Ok(read) = Datagram::decode(&bytes, &keys()) {
            prop_assert_eq!(read.encode(&keys()), bytes);
        }
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Datagram::decode(&bytes, &keys()).is_err());
    }
}

#[test]
fn golden() {
    let bytes = datagram(held(0x0102_0304)).encode(&keys());
    assert_eq!(bytes[..8], *b"LFDG\x01\x00\x05\x00");
    assert_eq!(
        bytes[40..72],
        [1, 0, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0]
    );
    assert_eq!(bytes, sealed(bytes));
}

#[test]
fn either_key_is_accepted_while_they_change_and_no_other() {
    let bytes = datagram(held(1)).encode(&keys());
    assert!(Datagram::decode(&bytes, &Keys::new([8; 32], Some([7; 32]))).is_ok());
    assert_eq!(Datagram::decode(&bytes, &Keys::new([8; 32], Some([9; 32]))), Err(Defect::Mac));
    let mut later = bytes;
    later[4] = 2;
    assert_eq!(Datagram::decode(&sealed(later), &keys()), Err(Defect::Version(2)));
    assert_eq!(Datagram::decode(&bytes[1..], &keys()), Err(Defect::Length));
}

#[test]
fn the_document_has_every_field_in_its_place() {
    let document = include_str!("../../docs/wire-format.md");
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows.len(), FIELDS.len());
    for (row, field) in rows.into_iter().zip(FIELDS) {
        let expected = format!("| `{}` | {} | {} |", field.name, field.at, field.len);
        assert!(row.starts_with(&expected), "{row}: the code says {expected}");
    }
    assert!(FIELDS.windows(2).all(|two| two[0].at + two[0].len == two[1].at), "a gap between two fields");
    const { assert!(LEN <= 1_200) };
}

fn sessions() -> Sessions {
    Sessions::new(CLUSTER, MIGRATION, NodeId(2), [1, 2, 3].map(NodeId))
}

/// One who knows start 3 of node 1, by the answer with the counter 9.
fn acquainted() -> Sessions {
    let mut sessions = sessions();
    let challenge = sessions.judge(Ms(0), &datagram(held(1)), 77);
    assert_eq!(challenge, Verdict::Say(Content::Challenge { nonce: 77 }));
    let answer = Datagram { counter: 9, ..datagram(Content::Answer { nonce: 77 }) };
    assert_eq!(sessions.judge(Ms(10), &answer, 0), Verdict::Known);
    sessions
}

#[test]
fn an_unknown_start_is_challenged_first_and_once_at_a_time() {
    let mut sessions = sessions();
    assert_eq!(sessions.judge(Ms(0), &datagram(held(1)), 77), Verdict::Say(Content::Challenge { nonce: 77 }));
    assert_eq!(sessions.judge(Ms(499), &datagram(held(2)), 78), Verdict::Drop(Dropped::Unproven));
    let late = datagram(Content::Answer { nonce: 77 });
    assert_eq!(sessions.judge(Ms(500), &late, 0), Verdict::Drop(Dropped::Answer));
    assert_eq!(sessions.judge(Ms(501), &datagram(held(3)), 79), Verdict::Say(Content::Challenge { nonce: 79 }));
    assert_eq!(sessions.judge(Ms(502), &late, 0), Verdict::Drop(Dropped::Answer), "an earlier nonce");
    let another = Datagram { incarnation: Incarnation(4), ..datagram(Content::Answer { nonce: 79 }) };
    assert_eq!(sessions.judge(Ms(503), &another, 0), Verdict::Drop(Dropped::Answer), "another start");
}

#[test]
fn a_recording_is_never_believed() {
    let mut sessions = acquainted();
    let said = |counter, incarnation| Datagram { counter, incarnation: Incarnation(incarnation), ..datagram(held(1)) };
    let believed = Verdict::Believe(Message { epoch: Epoch(5), body: Body::Held { number: 1 } });
    assert_eq!(sessions.judge(Ms(20), &said(9, 3), 0), Verdict::Drop(Dropped::Replay));
    assert_eq!(sessions.judge(Ms(20), &said(11, 3), 0), believed);
    for old in [4, 10, 11] {
        assert_eq!(sessions.judge(Ms(21), &said(old, 3), 0), Verdict::Drop(Dropped::Replay));
    }
    // A later start takes its place; then the earlier one is as unknown as any other.
    assert_eq!(sessions.judge(Ms(30), &said(1, 8), 88), Verdict::Say(Content::Challenge { nonce: 88 }));
    let answer = Datagram { counter: 2, incarnation: Incarnation(8), ..datagram(Content::Answer { nonce: 88 }) };
    assert_eq!(sessions.judge(Ms(31), &answer, 0), Verdict::Known);
    assert_eq!(sessions.judge(Ms(32), &said(99, 3), 89), Verdict::Say(Content::Challenge { nonce: 89 }));
    assert_eq!(sessions.judge(Ms(33), &said(3, 8), 0), believed);
}

#[test]
fn what_is_for_others_or_of_strangers_is_dropped() {
    let mut sessions = acquainted();
    let base = Datagram { counter: 20, ..datagram(held(1)) };
    let cases = [
        (Datagram { cluster: MIGRATION, ..base }, Dropped::Cluster),
        (Datagram { migration: CLUSTER, ..base }, Dropped::Migration),
        (Datagram { receiver: NodeId(3), ..base }, Dropped::Address),
        (Datagram { sender: NodeId(4), ..base }, Dropped::Address),
        (Datagram { sender: NodeId(2), ..base }, Dropped::Address),
    ];
    for (datagram, why) in cases {
        assert_eq!(sessions.judge(Ms(20), &datagram, 0), Verdict::Drop(why));
    }
}
