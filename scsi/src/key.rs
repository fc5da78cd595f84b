//! Reservation keys: what the storage keeps for a nexus, and how Lunferry's own say who a holder is (design 10).
//!
//! Pure: values in, values out.
//!
//! ```text
//! bit 63        49  48  47            32 31                             0
//!    +------------+---+----------------+-------------------------------+
//!    | magic 15   | F | node 16        | incarnation 32                |
//!    +------------+---+----------------+-------------------------------+
//! ```
//!
//! The magic's 16 bits are `LF` in ASCII (4C46h), and its lowest bit is the flag F, "target outdated, source is
//! primary" (design H1). The flag stands there and not in the incarnation for two reasons: the same node with and
//! without the flag stays the same incarnation, which H6 would else fence as a new one; and a version that does not
//! know the flag finds a foreign key (4C47h) and refuses, instead of believing a checkpoint that H1 says is not to be
//! believed.

use std::fmt;

/// A reservation key as the device keeps it (SPC-4: registering). Any value but zero may be registered; zero means
/// "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

impl Key {
    /// No key: in a REGISTER it removes the registration.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.0)
    }
}

/// The stable number of a host of the cluster, from its config file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

/// One start of a node's process: random, new each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u32);

/// The top bit of an incarnation: the registration guards against a host that was fenced and may wake up, and so must outlive
/// the process that made it (design H2). It stands in the key, because nothing else is seen by whoever comes next.
const GUARDS: u32 = 1 << 31;

impl Incarnation {
    /// The same start, as one that guards.
    #[must_use]
    pub fn guarding(self) -> Self {
        Self(self.0 | GUARDS)
    }

    /// Whether it guards.
    pub fn guards(self) -> bool {
        self.0 & GUARDS != 0
    }

    /// A start that does not guard, of a random number.
    pub fn of_random(number: u32) -> Self {
        Self(number & !GUARDS)
    }
}

/// `LF`, with the flag's bit clear.
const MAGIC: u64 = 0x4C46;
const MAGIC_SHIFT: u32 = 48;
const NODE_SHIFT: u32 = 32;
const OUTDATED: u64 = 1 << MAGIC_SHIFT;

/// A key that Lunferry made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnKey {
    /// Whose it is.
    pub node: NodeId,
    /// Which start of that node.
    pub incarnation: Incarnation,
    /// Design H1: the target is outdated and the source is primary. Only ever set in the holder's key on the source.
    pub target_outdated: bool,
}

impl OwnKey {
    /// Reads a key off a device; nothing where it is not one of Lunferry's.
    pub fn from_key(key: Key) -> Option<Self> {
        let ours = (key.0 & !OUTDATED) >> MAGIC_SHIFT == MAGIC;
        ours.then_some(Self {
            node: NodeId((key.0 >> NODE_SHIFT & 0xFFFF) as u16),
            incarnation: Incarnation((key.0 & 0xFFFF_FFFF) as u32),
            target_outdated: key.0 & OUTDATED != 0,
        })
    }

    /// The key to register.
    pub fn key(self) -> Key {
        let flag = if self.target_outdated { OUTDATED } else { 0 };
        Key(MAGIC << MAGIC_SHIFT | flag | u64::from(self.node.0) << NODE_SHIFT | u64::from(self.incarnation.0))
    }

    /// Whether both are the same start of the same node, whatever the flag says.
    pub fn same_incarnation(self, other: Self) -> bool {
        self.node == other.node && self.incarnation == other.incarnation
    }
}

impl fmt::Display for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}, incarnation {:08x}", self.node.0, self.incarnation.0)?;
        f.write_str(if self.incarnation.guards() { ", guards against a fenced host" } else { "" })?;
        if self.target_outdated { f.write_str(", target outdated") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: OwnKey = OwnKey { node: NodeId(0x0102), incarnation: Incarnation(0x21B2_C3D4), target_outdated: false };

    #[test]
    fn golden() {
        assert_eq!(OWN.key(), Key(0x4C46_0102_21B2_C3D4));
        let flagged = OwnKey { target_outdated: true, ..OWN };
        assert_eq!(flagged.key(), Key(0x4C47_0102_21B2_C3D4));
        assert!(flagged.same_incarnation(OWN));
        assert_eq!(OWN.key().to_string(), "0x4c46010221b2c3d4");
        assert_eq!(flagged.to_string(), "node 258, incarnation 21b2c3d4, target outdated");
        let guarding = OwnKey { incarnation: OWN.incarnation.guarding(), ..OWN };
        assert_eq!(guarding.key(), Key(0x4C46_0102_A1B2_C3D4));
        assert!(!OWN.incarnation.guards() && guarding.incarnation.guards() && !guarding.same_incarnation(OWN));
        assert_eq!(guarding.to_string(), "node 258, incarnation a1b2c3d4, guards against a fenced host");
        assert_eq!(Incarnation::of_random(u32::MAX), Incarnation(0x7FFF_FFFF));
    }

    #[test]
    fn foreign_keys_are_not_ours() {
        for foreign in [0, 1, 0x4C45_0102_A1B2_C3D4, 0x4C48_0102_A1B2_C3D4, u64::MAX, 0xCC46_0000_0000_0000] {
            assert_eq!(OwnKey::from_key(Key(foreign)), None, "{foreign:x}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_ours_comes_back(node: u16, incarnation: u32, target_outdated: bool) {
            let own = OwnKey { node: NodeId(node), incarnation: Incarnation(incarnation), target_outdated };
            assert_eq!(OwnKey::from_key(own.key()), Some(own));
        }

        #[test]
        fn any_key_is_foreign_or_exact(raw: u64) {
            assert!(OwnKey::from_key(Key(raw)).is_none_or(|own| own.key() == Key(raw)));
        }
    }
}
