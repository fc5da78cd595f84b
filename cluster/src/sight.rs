//! What the storage says of itself: who is registered, who holds, whose heartbeat sector moves.
//!
//! Pure: values, and questions to them.

use std::collections::BTreeSet;

use lunferry_scsi::key::{Incarnation, Key, NodeId, OwnKey};

/// One of the two LUNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lun {
    /// The LUN that data leaves. Its reservation is the election (design H10).
    Source,
    /// The LUN that data moves to.
    Target,
}

impl Lun {
    /// Both, the source first, as every fence goes.
    pub const BOTH: [Self; 2] = [Self::Source, Self::Target];
}

/// READ KEYS and READ RESERVATION of one LUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Every registered key, each once.
    pub keys: BTreeSet<Key>,
    /// Who holds Lunferry's kind of reservation.
    pub holder: Option<Key>,
}

impl Standing {
    /// Whether `key` is registered.
    pub fn has(&self, key: Key) -> bool {
        self.keys.contains(&key)
    }

    /// Whether `key` is registered and holds.
    pub fn is_held_by(&self, key: Key) -> bool {
        self.holder == Some(key) && self.has(key)
    }

    /// The nodes that are registered, each with its start.
    pub fn nodes(&self) -> impl Iterator<Item = OwnKey> + '_ {
        self.keys.iter().filter_map(|key| OwnKey::from_key(*key))
    }
}

/// One node's heartbeat sector on the target. It moves as long as the node reaches the storage and is registered there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskBeat {
    /// Whose.
    pub node: NodeId,
    /// Which start of it wrote last.
    pub incarnation: Incarnation,
    /// How often.
    pub count: u64,
}

/// What a look at both LUNs shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The source.
    pub source: Standing,
    /// The target.
    pub target: Standing,
    /// The heartbeat sectors that were ever written.
    pub beats: Vec<DiskBeat>,
}

impl Sight {
    /// One LUN's part.
    pub fn of(&self, lun: Lun) -> &Standing {
        match lun {
            Lun::Source => &self.source,
            Lun::Target => &self.target,
        }
    }

    /// Whether `key` is registered on both.
    pub fn has_both(&self, key: Key) -> bool {
        self.source.has(key) && self.target.has(key)
    }

    /// Whether `key` holds both.
    pub fn holds_both(&self, key: Key) -> bool {
        self.source.is_held_by(key) && self.target.is_held_by(key)
    }
}
