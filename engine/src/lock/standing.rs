//! What registrations and reservation of a LUN say of who may copy.
//!
//! Pure: what was read of a LUN and who asks in, a standing out.

use lunferry_scsi::command::reservation::ReservationType;
use lunferry_scsi::key::{Key, OwnKey};
use lunferry_scsi::page::reservation::{Held, HeldType};
use lunferry_scsi::units::Generation;

/// The type that Lunferry reserves with (design 10).
pub const KIND: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

/// What PERSISTENT RESERVE IN says of a LUN: READ KEYS and READ RESERVATION, read one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Of READ KEYS.
    pub generation: Generation,
    /// Every registered key, once for each nexus.
    pub keys: Vec<Key>,
    /// Whether that is all of them.
    pub is_whole: bool,
    /// The reservation.
    pub held: Option<Held>,
}

impl View {
    /// Whether `key` holds Lunferry's kind of reservation.
    pub fn is_held_by(&self, key: Key) -> bool {
        self.held.is_some_and(|held| held.key == key && held.kind == HeldType::Known(KIND))
    }

    /// The keys that aren't Lunferry's, each once.
    pub fn foreign(&self) -> Vec<Key> {
        self.distinct(|key| OwnKey::from_key(key).is_none())
    }

    /// Lunferry's keys but those of this very start of this node, each once.
    pub fn others(&self, own: OwnKey) -> Vec<Key> {
        self.distinct(|key| OwnKey::from_key(key).is_some_and(|other| !other.same_incarnation(own)))
    }

    fn distinct(&self, wanted: impl Fn(Key) -> bool) -> Vec<Key> {
        let mut keys: Vec<Key> = self.keys.iter().copied().filter(|key| wanted(*key)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// How a LUN stands to a node that wants to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody is registered.
    Free,
    /// This start of this node holds it.
    Ours,
    /// Another node, or an earlier start of this one, holds it.
    HeldBy(OwnKey),
    /// Nobody holds it, and these Lunferry keys are registered: of a copier that died on its way in or out, or that starts
    /// at this moment.
    Registered(Vec<Key>),
    /// Somebody else's registrations: a cluster of hosts that uses the LUN.
    Foreign {
        /// Their keys.
        keys: Vec<Key>,
        /// The holder's key, where there is a reservation; zero where every registrant holds it.
        holder: Option<Key>,
    },
    /// More is registered than could be read, so nothing can be said.
    Unclear,
}

/// Judges.
pub fn standing(view: &View, own: OwnKey) -> Standing {
    let holder = view.held.map(|held| held.key);
    let foreign = view.foreign();
    let held_by = holder.map(OwnKey::from_key);
    if !foreign.is_empty() || held_by == Some(None) {
        return Standing::Foreign { keys: foreign, holder };
    }
    if !view.is_whole {
        return Standing::Unclear;
    }
    match held_by.flatten() {
        Some(holder) if holder.same_incarnation(own) => Standing::Ours,
        Some(holder) => Standing::HeldBy(holder),
        None => {
            let others = view.others(own);
            if others.is_empty() { Standing::Free } else { Standing::Registered(others) }
        }
    }
}

/// The keys of earlier starts of this node that a nexus of this host may still bear.
pub fn stale(view: &View, own: OwnKey) -> Vec<Key> {
    view.distinct(|key| {
        OwnKey::from_key(key).is_some_and(|other| other.node == own.node && !other.same_incarnation(own))
    })
}

/// Whether one of these keys guards against a fenced host.
pub fn guards(keys: &[Key]) -> bool {
    keys.iter().filter_map(|key| OwnKey::from_key(*key)).any(|own| own.incarnation.guards())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lunferry_scsi::key::{Incarnation, NodeId};

    fn key(node: u16, incarnation: u32) -> OwnKey {
        OwnKey { node: NodeId(node), incarnation: Incarnation(incarnation), target_outdated: false }
    }

    fn view(keys: &[Key], held: Option<Key>) -> View {
        let held = held.map(|key| Held { key, kind: HeldType::Known(KIND), scope: 0 });
        View { generation: Generation(1), keys: keys.to_vec(), is_whole: true, held }
    }

    #[test]
    fn each_standing() {
        let (me, old, other) = (key(1, 7), key(1, 6), key(2, 9));
        let [mine, before, theirs] = [me, old, other].map(OwnKey::key);
        let foreign = Key(0xABCD);
        let cases = [
            (view(&[], None), Standing::Free),
            (view(&[mine, mine], None), Standing::Free),
            (view(&[mine], Some(mine)), Standing::Ours),
            (view(&[mine, theirs], Some(theirs)), Standing::HeldBy(other)),
            (view(&[before], Some(before)), Standing::HeldBy(old)),
            (view(&[theirs, before, theirs], None), Standing::Registered(vec![before, theirs])),
            (view(&[foreign, mine], Some(mine)), Standing::Foreign { keys: vec![foreign], holder: Some(mine) }),
            (view(&[mine], Some(Key::NONE)), Standing::Foreign { keys: vec![], holder: Some(Key::NONE) }),
            (View { is_whole: false, ..view(&[mine], Some(mine)) }, Standing::Unclear),
        ];
        for (view, expected) in cases {
            assert_eq!(standing(&view, me), expected, "{view:?}");
        }
    }

    #[test]
    fn only_this_nodes_earlier_starts_are_stale() {
        let me = key(1, 7);
        let flagged = OwnKey { target_outdated: true, ..me };
        let view = view(&[key(1, 6).key(), flagged.key(), key(2, 6).key(), Key(5)], None);
        assert_eq!(stale(&view, me), [key(1, 6).key()]);
    }

    #[test]
    fn a_reservation_of_another_type_is_not_held() {
        let me = key(1, 7).key();
        let held = |kind| View { held: Some(Held { key: me, kind, scope: 0 }), ..view(&[me], None) };
        assert!(held(HeldType::Known(KIND)).is_held_by(me));
        assert!(!held(HeldType::Known(ReservationType::WriteExclusive)).is_held_by(me));
        assert!(!held(HeldType::Other(2)).is_held_by(me));
    }
}
