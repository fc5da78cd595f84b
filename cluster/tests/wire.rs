//! Datagrams there and back, what is refused, and that recordings are never believed.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

use lunferry_cluster::config::Ms;
use lunferry_cluster::event::{Declined, Wish};
use lunferry_cluster::message::{Agreed, Body, Gauges, Message, Role, Unfit, Window};
use lunferry_cluster::order::{Order, Reply};
use lunferry_cluster::session::{Dropped, Sessions, Verdict};
use lunferry_cluster::wire::{
    Boot, Content, Datagram, Defect, ENTRY_FIELDS, ENTRY_LEN, Entry, FIELDS, Keys, MAX_ENTRIES, MAX_LEN, Said,
};
use lunferry_engine::checkpoint::state::State;
use lunferry_engine::units::{Bytes, BytesPerSecond, Epoch};
use lunferry_scsi::key::{Incarnation, NodeId};
use proptest::prelude::*;
use uuid::Uuid;

const CLUSTER: Uuid = Uuid::from_u128(1);
const MIGRATION: Uuid = Uuid::from_u128(2);
const MAC_LEN: usize = 32;

fn keys() -> Keys {
    Keys::new([7; 32], None)
}

fn datagram(content: Content) -> Datagram {
    Datagram { cluster: CLUSTER, sender: NodeId(1), receiver: NodeId(2), boot: Boot(3), counter: 4, content }
}

fn held(number: u32) -> Entry {
    let said = Said::Message(Message { epoch: Epoch(5), body: Body::Held { number } });
    Entry { migration: MIGRATION, incarnation: Incarnation(6), said }
}

fn holds(number: u32) -> Content {
    Content::Entries(vec![held(number)])
}

fn states() -> impl Strategy<Value = State> {
    (0..State::ALL.len()).prop_map(|at| State::ALL[at])
}

/// Whole KiB a second, as they go over the wire.
fn rates() -> impl Strategy<Value = BytesPerSecond> {
    any::<u32>().prop_map(|kib| BytesPerSecond(u64::from(kib) << 10))
}

fn gauges() -> impl Strategy<Value = Gauges> {
    let limit = proptest::option::of(rates().prop_filter("no limit of nothing", |rate| rate.0 > 0));
    (any::<u64>(), rates(), limit).prop_map(|(written, rate, limit)| Gauges { written: Bytes(written), rate, limit })
}

fn bodies() -> impl Strategy<Value = Body> {
    let agreed = move || (any::<u32>(), states()).prop_map(|(step, state)| Agreed { step, state });
    let role = (0..Role::ALL.len()).prop_map(|at| Role::ALL[at]);
    let window = (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(number, a, b)| Window {
        number,
        lo: Bytes(a.min(b)),
        hi: Bytes(a.max(b)),
    });
    let incarnation = || any::<u32>().prop_map(Incarnation);
    let heartbeat = (role, any::<bool>(), agreed(), any::<u64>().prop_map(Bytes), gauges());
    prop_oneof![
        heartbeat.prop_map(|(role, led, agreed, lo, gauges)| Body::Heartbeat { role, led, agreed, lo, gauges }),
        incarnation().prop_map(|incarnation| Body::Admit { incarnation }),
        Just(Body::Registered),
        (incarnation(), window, agreed()).prop_map(|(incarnation, window, agreed)| Body::Window {
            incarnation,
            window,
            agreed
        }),
        any::<u32>().prop_map(|number| Body::Held { number }),
        (any::<u32>(), states()).prop_map(|(step, to)| Body::Prepare { step, to }),
        any::<u32>().prop_map(|step| Body::Prepared { step }),
        (any::<u32>(), 0..Unfit::ALL.len()).prop_map(|(step, at)| Body::Refused { step, why: Unfit::ALL[at] }),
        agreed().prop_map(|agreed| Body::Commit { agreed }),
        any::<u32>().prop_map(|step| Body::Cancel { step }),
        any::<u32>().prop_map(|step| Body::Settled { step }),
        Just(Body::HandOver),
    ]
}

fn orders() -> impl Strategy<Value = Order> {
    let node = || any::<u16>().prop_map(NodeId);
    prop_oneof![
        Just(Order::Wish(Wish::Define)),
        Just(Order::Wish(Wish::Sync)),
        Just(Order::Wish(Wish::Pause)),
        Just(Order::Wish(Wish::Resume)),
        node().prop_map(|node| Order::Wish(Wish::MoveTo(node))),
        node().prop_map(|node| Order::Wish(Wish::Evict(node))),
        Just(Order::Throttle(None)),
        (1..u64::MAX).prop_map(|rate| Order::Throttle(Some(BytesPerSecond(rate)))),
    ]
}

fn replies() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Accepted),
        Just(Reply::NotOpen),
        Just(Reply::Declined(Declined::NotMover)),
        Just(Reply::Declined(Declined::Busy)),
        states().prop_map(|state| Reply::Declined(Declined::State(state))),
        any::<u16>().prop_map(|node| Reply::Declined(Declined::NoMember(NodeId(node)))),
    ]
}

fn entries() -> impl Strategy<Value = Entry> {
    let said = prop_oneof![
        8 => (0..=u64::MAX >> 2, bodies()).prop_map(|(epoch, body)| Said::Message(Message { epoch: Epoch(epoch), body })),
        1 => (any::<u64>(), orders()).prop_map(|(id, order)| Said::Asked { id, order }),
        1 => (any::<u64>(), replies()).prop_map(|(id, reply)| Said::Answered { id, reply }),
    ];
    (any::<u128>(), any::<u32>(), said).prop_map(|(migration, incarnation, said)| Entry {
        migration: Uuid::from_u128(migration),
        incarnation: Incarnation(incarnation),
        said,
    })
}

fn datagrams() -> impl Strategy<Value = Datagram> {
    let content = prop_oneof![
        8 => proptest::collection::vec(entries(), 0..=MAX_ENTRIES).prop_map(Content::Entries),
        1 => any::<u64>().prop_map(|nonce| Content::Challenge { nonce }),
        1 => any::<u64>().prop_map(|nonce| Content::Answer { nonce }),
    ];
    let head = (any::<u128>(), any::<[u16; 2]>(), any::<[u64; 2]>());
    (head, content).prop_map(|((cluster, nodes, numbers), content)| Datagram {
        cluster: Uuid::from_u128(cluster),
        sender: NodeId(nodes[0]),
        receiver: NodeId(nodes[1]),
        boot: Boot(numbers[0]),
        counter: numbers[1],
        content,
    })
}

/// `bytes` with a MAC that is right for what they are now.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.len() - MAC_LEN;
    let mac = blake3::keyed_hash(&[7; 32], &bytes[..at]);
    bytes[at..].copy_from_slice(mac.as_bytes());
    bytes
}

proptest! {
    #[test]
    fn there_and_back(datagram in datagrams()) {
        let bytes = datagram.encode(&keys());
        prop_assert!(bytes.len() <= MAX_LEN);
        prop_assert_eq!(Datagram::decode(&bytes, &keys()), Ok(datagram));
    }

    #[test]
    fn one_flipped_bit_is_no_datagram(datagram in datagrams(), at: prop::sample::Index) {
        let mut bytes = datagram.encode(&keys());
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Datagram::decode(&bytes, &keys()), Err(Defect::Mac));
    }

    #[test]
    fn who_has_the_key_can_only_say_what_encoding_says(datagram in datagrams(), at: prop::sample::Index, value: u8) {
        let mut bytes = datagram.encode(&keys());
        let at = at.index(bytes.len() - MAC_LEN);
        bytes[at] = value;
        let bytes = sealed(bytes);
        if let Ok(read) = Datagram::decode(&bytes, &keys()) {
            prop_assert_eq!(read.encode(&keys()), bytes);
        }
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..1_300)) {
        prop_assert!(Datagram::decode(&bytes, &keys()).is_err());
    }
}

#[test]
fn golden() {
    let bytes = datagram(holds(0x0102_0304)).encode(&keys());
    assert_eq!(bytes[..8], *b"LFDG\x01\x00\x01\x01");
    assert_eq!(bytes[24..40], [1, 0, 2, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[40..56], [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let entry = &bytes[56..120];
    assert_eq!(entry[..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 6, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(entry[24..40], [5, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0]);
    assert_eq!(entry[40..], [0; 24]);
    assert_eq!(bytes, sealed(bytes.clone()));
}

#[test]
fn sixteen_migrations_beat_in_one_datagram() {
    const { assert!(MAX_ENTRIES >= 16) };
    let full = datagram(Content::Entries(vec![held(1); MAX_ENTRIES])).encode(&keys());
    assert!(full.len() <= MAX_LEN && full.len() + ENTRY_LEN > MAX_LEN, "{} bytes", full.len());
}

#[test]
fn either_key_is_accepted_while_they_change_and_no_other() {
    let bytes = datagram(holds(1)).encode(&keys());
    assert!(Datagram::decode(&bytes, &Keys::new([8; 32], Some([7; 32]))).is_ok());
    assert_eq!(Datagram::decode(&bytes, &Keys::new([8; 32], Some([9; 32]))), Err(Defect::Mac));
    let mut later = bytes.clone();
    later[4] = 2;
    assert_eq!(Datagram::decode(&sealed(later), &keys()), Err(Defect::Version(2)));
    for len in [0, 55, 87, bytes.len() - 1, MAX_LEN + 1] {
        assert_eq!(Datagram::decode(&vec![0; len], &keys()), Err(Defect::Length), "{len} bytes");
    }
}

#[test]
fn the_document_has_every_field_in_its_place() {
    let document = include_str!("../../docs/wire-format.md");
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows.len(), FIELDS.len() + ENTRY_FIELDS.len());
    for (row, field) in rows.into_iter().zip(FIELDS.iter().chain(&ENTRY_FIELDS)) {
        let expected = format!("| `{}` | {} | {} |", field.name, field.at, field.len);
        assert!(row.starts_with(&expected), "{row}: the code says {expected}");
    }
    for fields in [&FIELDS[..], &ENTRY_FIELDS[..]] {
        assert!(fields.windows(2).all(|two| two[0].at + two[0].len == two[1].at), "a gap between two fields");
    }
}

fn sessions() -> Sessions {
    Sessions::new(CLUSTER, NodeId(2), [1, 2, 3].map(NodeId))
}

/// One who knows start 3 of node 1, by the answer with the counter 9.
fn acquainted() -> Sessions {
    let mut sessions = sessions();
    let challenge = sessions.judge(Ms(0), datagram(holds(1)), 77);
    assert_eq!(challenge, Verdict::Say(Content::Challenge { nonce: 77 }));
    let answer = Datagram { counter: 9, ..datagram(Content::Answer { nonce: 77 }) };
    assert_eq!(sessions.judge(Ms(10), answer, 0), Verdict::Known);
    sessions
}

#[test]
fn an_unknown_start_is_challenged_first_and_once_at_a_time() {
    let mut sessions = sessions();
    assert_eq!(sessions.judge(Ms(0), datagram(holds(1)), 77), Verdict::Say(Content::Challenge { nonce: 77 }));
    assert_eq!(sessions.judge(Ms(499), datagram(holds(2)), 78), Verdict::Drop(Dropped::Unproven));
    let late = datagram(Content::Answer { nonce: 77 });
    assert_eq!(sessions.judge(Ms(500), late.clone(), 0), Verdict::Drop(Dropped::Answer));
    assert_eq!(sessions.judge(Ms(501), datagram(holds(3)), 79), Verdict::Say(Content::Challenge { nonce: 79 }));
    assert_eq!(sessions.judge(Ms(502), late, 0), Verdict::Drop(Dropped::Answer), "an earlier nonce");
    // The challenge went to a recording of another start; the one that answers is alive.
    let another = Datagram { boot: Boot(4), ..datagram(Content::Answer { nonce: 79 }) };
    assert_eq!(sessions.judge(Ms(503), another, 0), Verdict::Known);
    let said = Datagram { boot: Boot(4), counter: 1_000, ..datagram(holds(4)) };
    assert!(matches!(sessions.judge(Ms(504), said, 0), Verdict::Believe(_)), "that start is known now");
    assert!(matches!(sessions.judge(Ms(505), datagram(holds(5)), 80), Verdict::Say(_)), "and the recorded one isn't");
}

#[test]
fn a_recording_is_never_believed() {
    let mut sessions = acquainted();
    let said = |counter, boot| Datagram { counter, boot: Boot(boot), ..datagram(holds(1)) };
    let believed = Verdict::Believe(vec![held(1)]);
    assert_eq!(sessions.judge(Ms(20), said(9, 3), 0), Verdict::Drop(Dropped::Replay));
    assert_eq!(sessions.judge(Ms(20), said(11, 3), 0), believed);
    for old in [4, 10, 11] {
        assert_eq!(sessions.judge(Ms(21), said(old, 3), 0), Verdict::Drop(Dropped::Replay));
    }
    // A later start takes its place; then the earlier one is as unknown as any other.
    assert_eq!(sessions.judge(Ms(30), said(1, 8), 88), Verdict::Say(Content::Challenge { nonce: 88 }));
    let answer = Datagram { counter: 2, boot: Boot(8), ..datagram(Content::Answer { nonce: 88 }) };
    assert_eq!(sessions.judge(Ms(31), answer, 0), Verdict::Known);
    assert_eq!(sessions.judge(Ms(32), said(99, 3), 89), Verdict::Say(Content::Challenge { nonce: 89 }));
    assert_eq!(sessions.judge(Ms(33), said(3, 8), 0), believed);
}

#[test]
fn a_recorded_challenge_is_not_answered_again_and_again() {
    let challenge = |counter, boot| Datagram { counter, boot: Boot(boot), ..datagram(Content::Challenge { nonce: 5 }) };
    let answer = Verdict::Say(Content::Answer { nonce: 5 });
    let mut known = acquainted();
    assert_eq!(known.judge(Ms(20), challenge(12, 3), 0), answer);
    assert_eq!(known.judge(Ms(21), challenge(12, 3), 0), Verdict::Drop(Dropped::Replay));
    assert_eq!(known.judge(Ms(22), challenge(13, 3), 0), answer);
    let mut unknown = sessions();
    assert_eq!(unknown.judge(Ms(20), challenge(12, 3), 0), answer);
    assert_eq!(unknown.judge(Ms(119), challenge(12, 3), 0), Verdict::Drop(Dropped::Unproven));
    assert_eq!(unknown.judge(Ms(120), challenge(12, 3), 0), answer);
}

#[test]
fn what_is_for_others_or_of_strangers_is_dropped() {
    let mut sessions = acquainted();
    let base = Datagram { counter: 20, ..datagram(holds(1)) };
    let cases = [
        (Datagram { cluster: MIGRATION, ..base.clone() }, Dropped::Cluster),
        (Datagram { receiver: NodeId(3), ..base.clone() }, Dropped::Address),
        (Datagram { sender: NodeId(4), ..base.clone() }, Dropped::Address),
        (Datagram { sender: NodeId(2), ..base }, Dropped::Address),
    ];
    for (datagram, why) in cases {
        assert_eq!(sessions.judge(Ms(20), datagram, 0), Verdict::Drop(why));
    }
}
