//! The next step of a fence, from what the storage shows.
//!
//! Pure: a look in, one storage action out. After each action somebody looks again and asks again, so that a lost answer,
//! an ambiguous conflict and a race are all the same case: what counts is what is there now.
//!
//! ```text
//!   source: own key registered -> victims preempted, the holder among them -> reset
//!   target: own key registered -> whoever holds and every victim preempted -> reset
//!   then one more look: both held, no victim left
//! ```
//!
//! What must hold:
//! - The source's reservation is the election (design H10): the holder that is preempted there is the one that was to be
//!   fenced, or it is left alone, and the target isn't touched before the source is held.
//! - A key that stands on the target and not on the source belongs to somebody who was fenced half: it goes.
//! - Nothing is complete before a reset that came after the last PREEMPT, and a look that came after the reset.

use std::collections::BTreeSet;

use lunferry_scsi::key::{Key, OwnKey};

use crate::event::Op;
use crate::sight::{Lun, Sight};

/// A fence on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    own: OwnKey,
    victims: BTreeSet<Key>,
    /// Whether the source has been seen to be held.
    elected: bool,
    /// LUNs at which something of a victim may still be in flight.
    dirty: BTreeSet<Lun>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Do this, then look again.
    Do(Op),
    /// Both LUNs are held, no victim is left, nothing of theirs is in flight.
    Complete,
    /// Somebody else holds the source.
    Lost,
}

impl Fence {
    /// Takes both LUNs from `holder`, who was seen to hold the source; from nobody where nobody held it. Both are reset in
    /// any case: what an earlier start of this node had in flight counts as well (design H7).
    ///
    /// # Panics
    /// Where `holder` is the own key: who holds has nobody to fence there.
    pub fn take_over(own: OwnKey, holder: Option<Key>) -> Self {
        assert!(holder != Some(own.key()), "{own} was to fence itself");
        Self { own, victims: holder.into_iter().collect(), elected: false, dirty: Lun::BOTH.into() }
    }

    /// Removes `victims` from both LUNs, which `own` holds.
    ///
    /// # Panics
    /// Where the own key is among them.
    pub fn evict(own: OwnKey, victims: BTreeSet<Key>) -> Self {
        assert!(!victims.contains(&own.key()), "{own} was to fence itself");
        Self { own, victims, elected: true, dirty: Lun::BOTH.into() }
    }

    /// Whose keys go.
    pub fn victims(&self) -> &BTreeSet<Key> {
        &self.victims
    }

    /// Whether the source was won.
    pub fn is_elected(&self) -> bool {
        self.elected
    }

    /// What `sight` calls for.
    pub fn next(&mut self, sight: &Sight) -> Next {
        let own = self.own.key();
        if self.elected && !sight.source.is_held_by(own) {
            return Next::Lost;
        }
        if !sight.source.has(own) {
            return Next::Do(Op::Register(Lun::Source));
        }
        match sight.source.holder {
            Some(holder) if holder == own => self.elected = true,
            Some(holder) if self.victims.contains(&holder) => return self.preempt(Lun::Source, holder),
            Some(_) => return Next::Lost,
            None => return Next::Do(Op::Reserve(Lun::Source)),
        }
        self.widen(sight);
        if let Some(op) = self.clean(Lun::Source, sight) {
            return Next::Do(op);
        }
        if !sight.target.has(own) {
            return Next::Do(Op::Register(Lun::Target));
        }
        match sight.target.holder {
            Some(holder) if holder == own => {}
            Some(holder) => return self.preempt(Lun::Target, holder),
            None => return Next::Do(Op::Reserve(Lun::Target)),
        }
        self.clean(Lun::Target, sight).map_or(Next::Complete, Next::Do)
    }

    /// A reset has returned.
    pub fn was_reset(&mut self, lun: Lun) {
        self.dirty.remove(&lun);
    }

    /// Who else has to go, now that the source is held: the target's holder, those who stand on the target alone, and
    /// earlier starts of this node.
    fn widen(&mut self, sight: &Sight) {
        let own = self.own;
        let holder = sight.target.holder.filter(|holder| *holder != own.key());
        let half = sight.target.nodes().filter(|key| *key != own && !sight.source.has(key.key()));
        let earlier = Lun::BOTH.into_iter().flat_map(|lun| sight.of(lun).nodes());
        let earlier = earlier.filter(|key| key.node == own.node && !key.same_incarnation(own));
        self.victims.extend(holder.into_iter().chain(half.chain(earlier).map(OwnKey::key)));
    }

    fn clean(&mut self, lun: Lun, sight: &Sight) -> Option<Op> {
        if let Some(victim) = self.victims.iter().copied().find(|victim| sight.of(lun).has(*victim)) {
            self.dirty.insert(lun);
            return Some(Op::Preempt(lun, victim));
        }
        self.dirty.contains(&lun).then_some(Op::Reset(lun))
    }

    fn preempt(&mut self, lun: Lun, victim: Key) -> Next {
        self.victims.insert(victim);
        self.dirty.insert(lun);
        Next::Do(Op::Preempt(lun, victim))
    }
}
