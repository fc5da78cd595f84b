//! A message as an authenticated datagram.
//!
//! Pure: values in, bytes out, and back. The layout is in `docs/wire-format.md`, which a test holds against [`FIELDS`].
//!
//! What must hold:
//! - The MAC covers every byte before it and is checked, in constant time, before anything else is looked at.
//! - Decoding is total: no bytes make it panic, and it accepts only bytes that encoding makes. What is not used must be zero.
//! - Every datagram has the same length, so that its length says nothing.

use lunferry_engine::checkpoint::state::State;
use lunferry_engine::units::{Bytes, Epoch};
use lunferry_scsi::key::{Incarnation, NodeId};
use uuid::Uuid;

use crate::message::{Agreed, Body, Message, Role, Unfit, Window};

/// The version of the format that this code writes and reads.
pub const VERSION: u16 = 1;

/// Bytes of a datagram, far below the 1,200 that pass any network in one piece.
pub const LEN: usize = 144;

const MAGIC: [u8; 4] = *b"LFDG";

/// One field: its name, its first byte and how many it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// As the document calls it.
    pub name: &'static str,
    /// The first byte.
    pub at: usize,
    /// How many.
    pub len: usize,
}

const fn field(name: &'static str, after: Field, len: usize) -> Field {
    Field { name, at: after.at + after.len, len }
}

const F_MAGIC: Field = Field { name: "magic", at: 0, len: 4 };
const F_VERSION: Field = field("version", F_MAGIC, 2);
const F_KIND: Field = field("kind", F_VERSION, 1);
const F_SMALL: Field = field("small", F_KIND, 1);
const F_CLUSTER: Field = field("cluster", F_SMALL, 16);
const F_MIGRATION: Field = field("migration", F_CLUSTER, 16);
const F_SENDER: Field = field("sender", F_MIGRATION, 2);
const F_RECEIVER: Field = field("receiver", F_SENDER, 2);
const F_INCARNATION: Field = field("incarnation", F_RECEIVER, 4);
const F_COUNTER: Field = field("counter", F_INCARNATION, 8);
const F_EPOCH: Field = field("epoch", F_COUNTER, 8);
const F_NUMBER: Field = field("number", F_EPOCH, 4);
const F_STEP: Field = field("step", F_NUMBER, 4);
const F_FOR: Field = field("for_incarnation", F_STEP, 4);
const F_STATE: Field = field("state", F_FOR, 1);
const F_LED: Field = field("led", F_STATE, 1);
const F_UNUSED: Field = field("unused", F_LED, 2);
const F_LO: Field = field("lo", F_UNUSED, 8);
const F_HI: Field = field("hi", F_LO, 8);
const F_NONCE: Field = field("nonce", F_HI, 8);
const F_REST: Field = field("rest", F_NONCE, 8);
const F_MAC: Field = field("mac", F_REST, 32);

/// Every field, in the order of the bytes.
pub const FIELDS: [Field; 22] = [
    F_MAGIC,
    F_VERSION,
    F_KIND,
    F_SMALL,
    F_CLUSTER,
    F_MIGRATION,
    F_SENDER,
    F_RECEIVER,
    F_INCARNATION,
    F_COUNTER,
    F_EPOCH,
    F_NUMBER,
    F_STEP,
    F_FOR,
    F_STATE,
    F_LED,
    F_UNUSED,
    F_LO,
    F_HI,
    F_NONCE,
    F_REST,
    F_MAC,
];

const _: () = assert!(F_MAC.at + F_MAC.len == LEN);

/// What a datagram carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A message of the protocol.
    Message(Message),
    /// To a start of a node that isn't known yet: prove that you're alive.
    Challenge {
        /// Any number that was not used before.
        nonce: u64,
    },
    /// The proof: the same number.
    Answer {
        /// The challenge's.
        nonce: u64,
    },
}

/// A datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Which cluster.
    pub cluster: Uuid,
    /// Which migration.
    pub migration: Uuid,
    /// Who sends.
    pub sender: NodeId,
    /// Who is to receive.
    pub receiver: NodeId,
    /// Which start of the sender.
    pub incarnation: Incarnation,
    /// Rises with each datagram of that start to that receiver, from 1.
    pub counter: u64,
    /// What it carries.
    pub content: Content,
}

/// The cluster's keys: the first one is used to send, all are accepted, so that they can be changed one node at a time.
#[derive(Clone)]
pub struct Keys {
    current: [u8; 32],
    other: Option<[u8; 32]>,
}

impl Keys {
    /// One key, or two while they change.
    pub fn new(current: [u8; 32], other: Option<[u8; 32]>) -> Self {
        Self { current, other }
    }

    fn all(&self) -> impl Iterator<Item = &[u8; 32]> {
        std::iter::once(&self.current).chain(&self.other)
    }
}

/// Why bytes are no datagram for this node. Each kind is counted; none is ever answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Defect {
    /// Another length than [`LEN`].
    #[error("a datagram has another length")]
    Length,
    /// No key of the cluster made this MAC.
    #[error("a datagram has no valid MAC")]
    Mac,
    /// Another version, from somebody who has the key.
    #[error("a datagram has version {0}, this program speaks {VERSION}")]
    Version(u16),
    /// A field has a value that this version doesn't write.
    #[error("a datagram's field `{0}` has a value that can't be")]
    Malformed(&'static str),
}

/// The fields behind the head, in one shape for every kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flat {
    kind: u8,
    small: u8,
    epoch: u64,
    number: u32,
    step: u32,
    incarnation: u32,
    state: u8,
    led: u8,
    lo: u64,
    hi: u64,
    nonce: u64,
}

impl Datagram {
    /// The datagram's bytes.
    pub fn encode(&self, keys: &Keys) -> [u8; LEN] {
        let (mut bytes, flat) = ([0; LEN], flatten(self.content));
        put(&mut bytes, F_MAGIC, &MAGIC);
        put(&mut bytes, F_VERSION, &VERSION.to_le_bytes());
        put(&mut bytes, F_KIND, &[flat.kind]);
        put(&mut bytes, F_SMALL, &[flat.small]);
        put(&mut bytes, F_CLUSTER, self.cluster.as_bytes());
        put(&mut bytes, F_MIGRATION, self.migration.as_bytes());
        put(&mut bytes, F_SENDER, &self.sender.0.to_le_bytes());
        put(&mut bytes, F_RECEIVER, &self.receiver.0.to_le_bytes());
        put(&mut bytes, F_INCARNATION, &self.incarnation.0.to_le_bytes());
        put(&mut bytes, F_COUNTER, &self.counter.to_le_bytes());
        put(&mut bytes, F_EPOCH, &flat.epoch.to_le_bytes());
        put(&mut bytes, F_NUMBER, &flat.number.to_le_bytes());
        put(&mut bytes, F_STEP, &flat.step.to_le_bytes());
        put(&mut bytes, F_FOR, &flat.incarnation.to_le_bytes());
        put(&mut bytes, F_STATE, &[flat.state]);
        put(&mut bytes, F_LED, &[flat.led]);
        put(&mut bytes, F_LO, &flat.lo.to_le_bytes());
        put(&mut bytes, F_HI, &flat.hi.to_le_bytes());
        put(&mut bytes, F_NONCE, &flat.nonce.to_le_bytes());
        let mac = blake3::keyed_hash(&keys.current, &bytes[..F_MAC.at]);
        put(&mut bytes, F_MAC, mac.as_bytes());
        bytes
    }

    /// The datagram that `bytes` are.
    ///
    /// # Errors
    /// Why they are none: see [`Defect`].
    pub fn decode(bytes: &[u8], keys: &Keys) -> Result<Self, Defect> {
        let bytes: &[u8; LEN] = bytes.try_into().map_err(|_| Defect::Length)?;
        let mac: [u8; 32] = get(bytes, F_MAC);
        // `Hash` compares in constant time.
        if !keys.all().any(|key| blake3::keyed_hash(key, &bytes[..F_MAC.at]) == mac) {
            return Err(Defect::Mac);
        }
        let version = u16::from_le_bytes(get(bytes, F_VERSION));
        if get(bytes, F_MAGIC) != MAGIC {
            return Err(Defect::Malformed(F_MAGIC.name));
        }
        if version != VERSION {
            return Err(Defect::Version(version));
        }
        let flat = Flat {
            kind: u8::from_le_bytes(get(bytes, F_KIND)),
            small: u8::from_le_bytes(get(bytes, F_SMALL)),
            epoch: u64::from_le_bytes(get(bytes, F_EPOCH)),
            number: u32::from_le_bytes(get(bytes, F_NUMBER)),
            step: u32::from_le_bytes(get(bytes, F_STEP)),
            incarnation: u32::from_le_bytes(get(bytes, F_FOR)),
            state: u8::from_le_bytes(get(bytes, F_STATE)),
            led: u8::from_le_bytes(get(bytes, F_LED)),
            lo: u64::from_le_bytes(get(bytes, F_LO)),
            hi: u64::from_le_bytes(get(bytes, F_HI)),
            nonce: u64::from_le_bytes(get(bytes, F_NONCE)),
        };
        let content = unflatten(flat)?;
        for unused in [F_UNUSED, F_REST] {
            if bytes[unused.at..unused.at + unused.len].iter().any(|byte| *byte != 0) {
                return Err(Defect::Malformed(unused.name));
            }
        }
        // Whatever a kind doesn't use is zero, and nothing has two spellings.
        if flatten(content) != flat {
            return Err(Defect::Malformed(F_KIND.name));
        }
        Ok(Self {
            cluster: Uuid::from_bytes(get(bytes, F_CLUSTER)),
            migration: Uuid::from_bytes(get(bytes, F_MIGRATION)),
            sender: NodeId(u16::from_le_bytes(get(bytes, F_SENDER))),
            receiver: NodeId(u16::from_le_bytes(get(bytes, F_RECEIVER))),
            incarnation: Incarnation(u32::from_le_bytes(get(bytes, F_INCARNATION))),
            counter: u64::from_le_bytes(get(bytes, F_COUNTER)),
            content,
        })
    }
}

fn put(bytes: &mut [u8; LEN], field: Field, value: &[u8]) {
    bytes[field.at..field.at + field.len].copy_from_slice(value);
}

fn get<const N: usize>(bytes: &[u8; LEN], field: Field) -> [u8; N] {
    bytes[field.at..field.at + field.len].try_into().expect("a field has its own length")
}

fn role_number(role: Role) -> u8 {
    match role {
        Role::Starting => 0,
        Role::Joining => 1,
        Role::Member => 2,
        Role::Candidate => 3,
        Role::Claimant => 4,
        Role::Mover => 5,
    }
}

fn unfit_number(unfit: Unfit) -> u8 {
    match unfit {
        Unfit::Door => 0,
        Unfit::Source => 1,
        Unfit::Target => 2,
        Unfit::Registration => 3,
    }
}

fn flatten(content: Content) -> Flat {
    let (epoch, body) = match content {
        Content::Message(Message { epoch, body }) => (epoch.0, body),
        Content::Challenge { nonce } => return Flat { kind: 13, nonce, ..Flat::default() },
        Content::Answer { nonce } => return Flat { kind: 14, nonce, ..Flat::default() },
    };
    let flat = |kind: u8| Flat { kind, epoch, ..Flat::default() };
    match body {
        Body::Heartbeat { role, led, agreed, lo } => {
            let (small, led, state) = (role_number(role), u8::from(led), agreed.state.number());
            Flat { small, led, state, step: agreed.step, lo: lo.0, ..flat(1) }
        }
        Body::Admit { incarnation } => Flat { incarnation: incarnation.0, ..flat(2) },
        Body::Registered => flat(3),
        Body::Window { incarnation, window, agreed } => Flat {
            incarnation: incarnation.0,
            number: window.number,
            lo: window.lo.0,
            hi: window.hi.0,
            state: agreed.state.number(),
            step: agreed.step,
            ..flat(4)
        },
        Body::Held { number } => Flat { number, ..flat(5) },
        Body::Prepare { step, to } => Flat { step, state: to.number(), ..flat(6) },
        Body::Prepared { step } => Flat { step, ..flat(7) },
        Body::Refused { step, why } => Flat { step, small: unfit_number(why), ..flat(8) },
        Body::Commit { agreed } => Flat { step: agreed.step, state: agreed.state.number(), ..flat(9) },
        Body::Cancel { step } => Flat { step, ..flat(10) },
        Body::Settled { step } => Flat { step, ..flat(11) },
        Body::HandOver => flat(12),
    }
}

fn unflatten(flat: Flat) -> Result<Content, Defect> {
    let state = || State::from_number(flat.state).ok_or(Defect::Malformed(F_STATE.name));
    let agreed = || Ok(Agreed { step: flat.step, state: state()? });
    let bad_small = || Defect::Malformed(F_SMALL.name);
    let body = match flat.kind {
        1 => {
            let role = Role::ALL.into_iter().find(|role| role_number(*role) == flat.small).ok_or_else(bad_small)?;
            Body::Heartbeat { role, led: flat.led == 1, agreed: agreed()?, lo: Bytes(flat.lo) }
        }
        2 => Body::Admit { incarnation: Incarnation(flat.incarnation) },
        3 => Body::Registered,
        4 => {
            let window = Window { number: flat.number, lo: Bytes(flat.lo), hi: Bytes(flat.hi) };
            if window.lo > window.hi {
                return Err(Defect::Malformed(F_HI.name));
            }
            Body::Window { incarnation: Incarnation(flat.incarnation), window, agreed: agreed()? }
        }
        5 => Body::Held { number: flat.number },
        6 => Body::Prepare { step: flat.step, to: state()? },
        7 => Body::Prepared { step: flat.step },
        8 => {
            let why = Unfit::ALL.into_iter().find(|unfit| unfit_number(*unfit) == flat.small).ok_or_else(bad_small)?;
            Body::Refused { step: flat.step, why }
        }
        9 => Body::Commit { agreed: agreed()? },
        10 => Body::Cancel { step: flat.step },
        11 => Body::Settled { step: flat.step },
        12 => Body::HandOver,
        13 => return Ok(Content::Challenge { nonce: flat.nonce }),
        14 => return Ok(Content::Answer { nonce: flat.nonce }),
        _ => return Err(Defect::Malformed(F_KIND.name)),
    };
    // An epoch rises by one at each change of mover; a huge one would leave no room above it.
    if flat.epoch > u64::MAX >> 1 {
        return Err(Defect::Malformed(F_EPOCH.name));
    }
    Ok(Content::Message(Message { epoch: Epoch(flat.epoch), body }))
}
