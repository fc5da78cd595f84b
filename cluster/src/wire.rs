//! What agents say to each other as authenticated datagrams.
//!
//! Pure: values in, bytes out, and back. The layout is in `docs/wire-format.md`, which a test holds against [`FIELDS`] and
//! [`ENTRY_FIELDS`]. A datagram is a head, up to [`MAX_ENTRIES`] entries of one length, and a MAC: one datagram carries the
//! heartbeats of many migrations (ADR 0010).
//!
//! What must hold:
//! - The MAC covers every byte before it and is checked, in constant time, before anything but the length is looked at.
//! - Decoding is total: no bytes make it panic, and it accepts only bytes that encoding makes. What is not used must be zero.
//! - No datagram is longer than [`MAX_LEN`].

mod entry;

use lunferry_scsi::key::NodeId;
use uuid::Uuid;

pub use self::entry::{ENTRY_FIELDS, ENTRY_LEN, Entry, Said};

/// The version of the format that this code writes and reads.
pub const VERSION: u16 = 1;

/// The most bytes of a datagram: what passes any network in one piece (design 11).
pub const MAX_LEN: usize = 1_200;

/// The most entries of a datagram.
pub const MAX_ENTRIES: usize = (MAX_LEN - HEAD_LEN - MAC_LEN) / ENTRY_LEN;

/// Bytes of the head, and of the MAC behind the last entry.
const HEAD_LEN: usize = F_NONCE.at + F_NONCE.len;
const MAC_LEN: usize = 32;

const MAGIC: [u8; 4] = *b"LFDG";

/// One field: its name, its first byte and how many it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// As the document calls it.
    pub name: &'static str,
    /// The first byte, from the beginning of the head or of the entry.
    pub at: usize,
    /// How many.
    pub len: usize,
}

const fn first(name: &'static str, len: usize) -> Field {
    Field { name, at: 0, len }
}

const fn field(name: &'static str, after: Field, len: usize) -> Field {
    Field { name, at: after.at + after.len, len }
}

const F_MAGIC: Field = first("magic", 4);
const F_VERSION: Field = field("version", F_MAGIC, 2);
const F_KIND: Field = field("kind", F_VERSION, 1);
const F_COUNT: Field = field("count", F_KIND, 1);
const F_CLUSTER: Field = field("cluster", F_COUNT, 16);
const F_SENDER: Field = field("sender", F_CLUSTER, 2);
const F_RECEIVER: Field = field("receiver", F_SENDER, 2);
const F_UNUSED: Field = field("unused", F_RECEIVER, 4);
const F_BOOT: Field = field("boot", F_UNUSED, 8);
const F_COUNTER: Field = field("counter", F_BOOT, 8);
const F_NONCE: Field = field("nonce", F_COUNTER, 8);

/// Every field of the head, in the order of the bytes.
pub const FIELDS: [Field; 11] =
    [F_MAGIC, F_VERSION, F_KIND, F_COUNT, F_CLUSTER, F_SENDER, F_RECEIVER, F_UNUSED, F_BOOT, F_COUNTER, F_NONCE];

const KIND_ENTRIES: u8 = 1;
const KIND_CHALLENGE: u8 = 2;
const KIND_ANSWER: u8 = 3;

/// One start of an agent: random, new each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(pub u64);

/// What a datagram carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Entries, [`MAX_ENTRIES`] at most. None at all says that the agent is alive.
    Entries(Vec<Entry>),
    /// To a start of an agent that isn't known yet: prove that you're alive.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Which cluster.
    pub cluster: Uuid,
    /// Who sends.
    pub sender: NodeId,
    /// Who is to receive.
    pub receiver: NodeId,
    /// Which start of the sending agent.
    pub boot: Boot,
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
    /// No datagram has this length.
    #[error("no datagram has this length")]
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

impl Datagram {
    /// The datagram's bytes.
    ///
    /// # Panics
    /// Where there are more than [`MAX_ENTRIES`] entries.
    pub fn encode(&self, keys: &Keys) -> Vec<u8> {
        let (kind, entries, nonce) = match &self.content {
            Content::Entries(entries) => (KIND_ENTRIES, entries.as_slice(), 0),
            Content::Challenge { nonce } => (KIND_CHALLENGE, [].as_slice(), *nonce),
            Content::Answer { nonce } => (KIND_ANSWER, [].as_slice(), *nonce),
        };
        assert!(entries.len() <= MAX_ENTRIES, "{} entries, more than fit", entries.len());
        let count = u8::try_from(entries.len()).expect("fewer than 256 fit");
        let mut bytes = vec![0; HEAD_LEN + entries.len() * ENTRY_LEN];
        put(&mut bytes, F_MAGIC, &MAGIC);
        put(&mut bytes, F_VERSION, &VERSION.to_le_bytes());
        put(&mut bytes, F_KIND, &[kind]);
        put(&mut bytes, F_COUNT, &[count]);
        put(&mut bytes, F_CLUSTER, self.cluster.as_bytes());
        put(&mut bytes, F_SENDER, &self.sender.0.to_le_bytes());
        put(&mut bytes, F_RECEIVER, &self.receiver.0.to_le_bytes());
        put(&mut bytes, F_BOOT, &self.boot.0.to_le_bytes());
        put(&mut bytes, F_COUNTER, &self.counter.to_le_bytes());
        put(&mut bytes, F_NONCE, &nonce.to_le_bytes());
        for (entry, part) in entries.iter().zip(bytes[HEAD_LEN..].chunks_exact_mut(ENTRY_LEN)) {
            entry.encode(part);
        }
        let mac = blake3::keyed_hash(&keys.current, &bytes);
        bytes.extend_from_slice(mac.as_bytes());
        bytes
    }

    /// The datagram that `bytes` are.
    ///
    /// # Errors
    /// Why they are none: see [`Defect`].
    pub fn decode(bytes: &[u8], keys: &Keys) -> Result<Self, Defect> {
        let has_length = bytes.len() >= HEAD_LEN + MAC_LEN
            && bytes.len() <= MAX_LEN
            && (bytes.len() - HEAD_LEN - MAC_LEN).is_multiple_of(ENTRY_LEN);
        if !has_length {
            return Err(Defect::Length);
        }
        let (bytes, mac) = bytes.split_at(bytes.len() - MAC_LEN);
        let mac: [u8; MAC_LEN] = mac.try_into().map_err(|_| Defect::Length)?;
        // `Hash` compares in constant time.
        if !keys.all().any(|key| blake3::keyed_hash(key, bytes) == mac) {
            return Err(Defect::Mac);
        }
        if get(bytes, F_MAGIC) != MAGIC {
            return Err(Defect::Malformed(F_MAGIC.name));
        }
        let version = u16::from_le_bytes(get(bytes, F_VERSION));
        if version != VERSION {
            return Err(Defect::Version(version));
        }
        all_zero(bytes, F_UNUSED)?;
        Ok(Self {
            cluster: Uuid::from_bytes(get(bytes, F_CLUSTER)),
            sender: NodeId(u16::from_le_bytes(get(bytes, F_SENDER))),
            receiver: NodeId(u16::from_le_bytes(get(bytes, F_RECEIVER))),
            boot: Boot(u64::from_le_bytes(get(bytes, F_BOOT))),
            counter: u64::from_le_bytes(get(bytes, F_COUNTER)),
            content: content(bytes)?,
        })
    }
}

fn content(bytes: &[u8]) -> Result<Content, Defect> {
    let entries = &bytes[HEAD_LEN..];
    let [kind] = get(bytes, F_KIND);
    let [count] = get(bytes, F_COUNT);
    if usize::from(count) * ENTRY_LEN != entries.len() || (kind != KIND_ENTRIES && count != 0) {
        return Err(Defect::Malformed(F_COUNT.name));
    }
    let nonce = u64::from_le_bytes(get(bytes, F_NONCE));
    match kind {
        KIND_ENTRIES if nonce != 0 => Err(Defect::Malformed(F_NONCE.name)),
        KIND_ENTRIES => {
            entries.chunks_exact(ENTRY_LEN).map(Entry::decode).collect::<Result<_, _>>().map(Content::Entries)
        }
        KIND_CHALLENGE => Ok(Content::Challenge { nonce }),
        KIND_ANSWER => Ok(Content::Answer { nonce }),
        _ => Err(Defect::Malformed(F_KIND.name)),
    }
}

fn put(bytes: &mut [u8], field: Field, value: &[u8]) {
    bytes[field.at..field.at + field.len].copy_from_slice(value);
}

fn get<const N: usize>(bytes: &[u8], field: Field) -> [u8; N] {
    bytes[field.at..field.at + field.len].try_into().expect("a field has its own length")
}

fn all_zero(bytes: &[u8], field: Field) -> Result<(), Defect> {
    let is_zero = bytes[field.at..field.at + field.len].iter().all(|byte| *byte == 0);
    if is_zero { Ok(()) } else { Err(Defect::Malformed(field.name)) }
}
