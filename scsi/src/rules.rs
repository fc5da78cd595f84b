//! Persistent reservations as a device server keeps them (SPC-4: persistent reservations): who is registered, who holds
//! the reservation, and what a PERSISTENT RESERVE OUT does to both.
//!
//! Pure: a state and an action in, the new state and its effects out. It serves the simulated LUN of the tests and the
//! emulation beside a file. What must hold after each action ([`Reservations::from_parts`] refuses anything else):
//! - no registration has the key zero, and a nexus has one key;
//! - a reservation has one holder, who is registered; with an all-registrants type it has at least one registrant;
//! - an action that was refused has changed nothing.
//!
//! ```text
//!                    RESERVE                              RELEASE, or the holder unregisters
//!   registered nexus ---------> holds the reservation  -----------------------------------> nobody holds it
//!                                  |        ^
//!                 PREEMPT of the   |        |  PREEMPT by itself: another type
//!                 holder's key     v        |
//!                               the preempting nexus holds it, with the type that it asked for
//! ```
//!
//! Left out, and reported so by [`Reservations::capabilities`]: SPEC_I_PT, ALL_TG_PT, REGISTER AND MOVE, and the old
//! RESERVE and RELEASE. One thing is narrower than the standard: a PREEMPT with a type that does not exist is refused
//! even where it would only remove registrations, and the type would be ignored. LIO does the same.

pub mod access;
pub mod answers;
pub mod wire;

use std::collections::BTreeMap;

use crate::command::reservation::{Reach, ReservationOut, ReservationType};
use crate::key::Key;
use crate::rules::access::Access;
use crate::sense::Code;
use crate::units::Generation;

/// What a device server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// PTPL_C: registrations and reservation can persist through power loss.
    pub aptpl: bool,
    /// How many registrations there is room for.
    pub most_registrations: usize,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { aptpl: true, most_registrations: 1024 }
    }
}

/// A reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding<N> {
    /// Its type.
    pub kind: ReservationType,
    /// Its holder; nothing with an all-registrants type, where every registrant is one.
    pub holder: Option<N>,
}

/// Why an action is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// RESERVATION CONFLICT status.
    #[error("reservation conflict")]
    Conflict,
    /// 24h/00h: this byte of the CDB.
    #[error("invalid field in CDB, byte {0}")]
    CdbField(u16),
    /// 26h/00h: this byte of the parameter list.
    #[error("invalid field in parameter list, byte {0}")]
    ParameterField(u16),
    /// 1Ah/00h: the parameter list has not the 24 bytes that it has without SPEC_I_PT.
    #[error("parameter list length error")]
    ListLength,
    /// 26h/04h: RELEASE by the holder, with another type than the reservation's.
    #[error("invalid release of persistent reservation")]
    InvalidRelease,
    /// 55h/04h.
    #[error("insufficient registration resources")]
    NoRoom,
}

impl Refusal {
    /// The additional sense code, with sense key ILLEGAL REQUEST; nothing for RESERVATION CONFLICT, which is a status.
    pub fn code(self) -> Option<Code> {
        let (asc, ascq) = match self {
            Self::Conflict => return None,
            Self::CdbField(_) => (0x24, 0x00),
            Self::ParameterField(_) => (0x26, 0x00),
            Self::ListLength => (0x1A, 0x00),
            Self::InvalidRelease => (0x26, 0x04),
            Self::NoRoom => (0x55, 0x04),
        };
        Some(Code { asc, ascq })
    }
}

/// What another nexus is told by a unit attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// 2Ah/03h.
    ReservationsPreempted,
    /// 2Ah/04h.
    ReservationsReleased,
    /// 2Ah/05h.
    RegistrationsPreempted,
}

impl Notice {
    /// The additional sense code of the unit attention.
    pub fn code(self) -> Code {
        let ascq = match self {
            Self::ReservationsPreempted => 0x03,
            Self::ReservationsReleased => 0x04,
            Self::RegistrationsPreempted => 0x05,
        };
        Code { asc: 0x2A, ascq }
    }
}

/// What an action does besides changing the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects<N> {
    /// Unit attentions to establish, for whom.
    pub notices: Vec<(N, Notice)>,
    /// Whose commands are to be aborted (PREEMPT AND ABORT).
    pub aborted: Vec<N>,
}

impl<N> Effects<N> {
    fn none() -> Self {
        Self { notices: Vec::new(), aborted: Vec::new() }
    }
}

/// All of a state, to be stored and restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts<N> {
    /// Each registered nexus with its key.
    pub registrations: Vec<(N, Key)>,
    /// The reservation.
    pub reservation: Option<Holding<N>>,
    /// PRGENERATION.
    pub generation: Generation,
    /// PTPL_A: what the last registration said of power loss.
    pub aptpl: bool,
}

/// A stored state that no device server can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenParts {
    /// The key zero.
    #[error("a registration has the key zero, which means none")]
    ZeroKey,
    /// A nexus stands there twice.
    #[error("a nexus is registered twice")]
    Twice,
    /// More than there is room for.
    #[error("there are more registrations than the limit")]
    TooMany,
    /// Nobody could release it.
    #[error("the reservation's holder is not registered")]
    HolderNotRegistered,
    /// All-registrants types have no holder of their own, and the others have one.
    #[error("the reservation's type and its holder do not go together")]
    HolderUnfit,
    /// Not on this device server.
    #[error("persistence through power loss is on, and this device server has none")]
    Aptpl,
}

/// The registrations and the reservation of one logical unit. `N` is what an I_T nexus is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservations<N> {
    registrations: BTreeMap<N, Key>,
    held: Option<Holding<N>>,
    generation: Generation,
    aptpl: bool,
    abilities: Abilities,
}

/// Whether every registrant is the holder.
fn for_all_registrants(kind: ReservationType) -> bool {
    match kind {
        ReservationType::WriteExclusiveAllRegistrants | ReservationType::ExclusiveAccessAllRegistrants => true,
        ReservationType::WriteExclusive
        | ReservationType::ExclusiveAccess
        | ReservationType::WriteExclusiveRegistrantsOnly
        | ReservationType::ExclusiveAccessRegistrantsOnly => false,
    }
}

/// Whether registrants other than the holder lose something when the reservation goes, and so are told.
fn serves_registrants(kind: ReservationType) -> bool {
    !matches!(kind, ReservationType::WriteExclusive | ReservationType::ExclusiveAccess)
}

impl<N: Clone + Ord> Reservations<N> {
    /// Nobody registered, nothing reserved.
    pub fn new(abilities: Abilities) -> Self {
        Self { registrations: BTreeMap::new(), held: None, generation: Generation(0), aptpl: false, abilities }
    }

    /// A state that was stored.
    ///
    /// # Errors
    /// Where it is none that a device server can be in.
    pub fn from_parts(parts: Parts<N>, abilities: Abilities) -> Result<Self, BrokenParts> {
        let count = parts.registrations.len();
        if count > abilities.most_registrations {
            return Err(BrokenParts::TooMany);
        }
        if parts.aptpl && !abilities.aptpl {
            return Err(BrokenParts::Aptpl);
        }
        if parts.registrations.iter().any(|(_, key)| *key == Key::NONE) {
            return Err(BrokenParts::ZeroKey);
        }
        let registrations: BTreeMap<N, Key> = parts.registrations.into_iter().collect();
        if registrations.len() != count {
            return Err(BrokenParts::Twice);
        }
        if let Some(Holding { kind, holder }) = &parts.reservation {
            if for_all_registrants(*kind) != holder.is_none() {
                return Err(BrokenParts::HolderUnfit);
            }
            let registered = holder.as_ref().map_or(count > 0, |holder| registrations.contains_key(holder));
            if !registered {
                return Err(BrokenParts::HolderNotRegistered);
            }
        }
        let (held, generation, aptpl) = (parts.reservation, parts.generation, parts.aptpl);
        Ok(Self { registrations, held, generation, aptpl, abilities })
    }

    /// All of the state.
    pub fn parts(&self) -> Parts<N> {
        Parts {
            registrations: self.registrations.iter().map(|(nexus, key)| (nexus.clone(), *key)).collect(),
            reservation: self.held.clone(),
            generation: self.generation,
            aptpl: self.aptpl,
        }
    }

    /// What this device server can do.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// The key of a nexus, where it is registered.
    pub fn key_of(&self, nexus: &N) -> Option<Key> {
        self.registrations.get(nexus).copied()
    }

    /// The reservation, where there is one.
    pub fn reservation(&self) -> Option<&Holding<N>> {
        self.held.as_ref()
    }

    /// Whether a nexus holds the reservation, alone or as one of all registrants.
    pub fn holds(&self, nexus: &N) -> bool {
        let held = |held: &Holding<N>| held.holder.as_ref().is_none_or(|holder| holder == nexus);
        self.registrations.contains_key(nexus) && self.held.as_ref().is_some_and(held)
    }

    /// Whether the reservation lets a nexus do this (SPC-4: commands that are allowed in the presence of various
    /// reservations).
    pub fn may(&self, nexus: &N, access: Access) -> bool {
        let Some(Holding { kind, .. }) = self.held.as_ref() else {
            return true;
        };
        let inside = if serves_registrants(*kind) { self.registrations.contains_key(nexus) } else { self.holds(nexus) };
        let readable = match kind {
            ReservationType::WriteExclusive
            | ReservationType::WriteExclusiveRegistrantsOnly
            | ReservationType::WriteExclusiveAllRegistrants => true,
            ReservationType::ExclusiveAccess
            | ReservationType::ExclusiveAccessRegistrantsOnly
            | ReservationType::ExclusiveAccessAllRegistrants => false,
        };
        match access {
            Access::Free => true,
            Access::Read => inside || readable,
            Access::Write => inside,
        }
    }

    /// Power was lost and has come back (SPC-4: preserving persistent reservations and registrations).
    pub fn power_cycle(&mut self) {
        self.generation = Generation(0);
        if !self.aptpl {
            self.registrations.clear();
            self.held = None;
        }
    }

    /// Does what `nexus` asks for.
    ///
    /// # Errors
    /// Where it is refused; nothing is changed then.
    pub fn apply(&mut self, nexus: &N, action: ReservationOut) -> Result<Effects<N>, Refusal> {
        match action {
            ReservationOut::Register { current, new, reach } => {
                let conflict = self.key_of(nexus).unwrap_or(Key::NONE) != current;
                if conflict { Err(Refusal::Conflict) } else { self.register(nexus, new, reach) }
            }
            ReservationOut::RegisterAndIgnore { new, reach } => self.register(nexus, new, reach),
            ReservationOut::Reserve { key, kind } => {
                self.registered_as(nexus, key)?;
                self.reserve(nexus, kind)
            }
            ReservationOut::Release { key, kind } => {
                self.registered_as(nexus, key)?;
                self.release(nexus, kind)
            }
            ReservationOut::Clear { key } => {
                self.registered_as(nexus, key)?;
                Ok(self.clear(nexus))
            }
            ReservationOut::Preempt { key, victim, kind } => {
                self.registered_as(nexus, key)?;
                self.preempt(nexus, victim, kind)
            }
            ReservationOut::PreemptAndAbort { key, victim, kind } => {
                self.registered_as(nexus, key)?;
                let mut effects = self.preempt(nexus, victim, kind)?;
                let lost = effects.notices.iter().filter(|(_, notice)| *notice == Notice::RegistrationsPreempted);
                effects.aborted = lost.map(|(nexus, _)| nexus.clone()).collect();
                Ok(effects)
            }
        }
    }

    fn registered_as(&self, nexus: &N, key: Key) -> Result<(), Refusal> {
        if self.key_of(nexus) == Some(key) { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// (SPC-4: register behaviors for a REGISTER service action.)
    fn register(&mut self, nexus: &N, new: Key, reach: Reach) -> Result<Effects<N>, Refusal> {
        let refused = (reach.aptpl && !self.abilities.aptpl) || reach.all_target_ports;
        if refused {
            return Err(Refusal::ParameterField(wire::FLAGS));
        }
        let known = self.registrations.contains_key(nexus);
        if !known && new == Key::NONE {
            return Ok(Effects::none());
        }
        if !known && self.registrations.len() >= self.abilities.most_registrations {
            return Err(Refusal::NoRoom);
        }
        self.next_generation();
        self.aptpl = reach.aptpl;
        if new == Key::NONE {
            return Ok(self.unregister(nexus));
        }
        self.registrations.insert(nexus.clone(), new);
        Ok(Effects::none())
    }

    /// (SPC-4: unregistering.)
    fn unregister(&mut self, nexus: &N) -> Effects<N> {
        let held_alone = self.holds(nexus) && self.held.as_ref().is_some_and(|held| held.holder.is_some());
        self.registrations.remove(nexus);
        if held_alone || self.registrations.is_empty() { self.end_reservation(nexus) } else { Effects::none() }
    }

    /// Nobody holds it any more. Registrants that it had served are told, all but the one who did it.
    fn end_reservation(&mut self, by: &N) -> Effects<N> {
        let told = self.held.take().is_some_and(|held| serves_registrants(held.kind));
        let notices = if told { self.to_others(by, Notice::ReservationsReleased) } else { Vec::new() };
        Effects { notices, aborted: Vec::new() }
    }

    fn reserve(&mut self, nexus: &N, kind: ReservationType) -> Result<Effects<N>, Refusal> {
        match &self.held {
            Some(held) if held.kind == kind && self.holds(nexus) => {}
            Some(_) => return Err(Refusal::Conflict),
            None => self.hold(nexus, kind),
        }
        Ok(Effects::none())
    }

    fn release(&mut self, nexus: &N, kind: ReservationType) -> Result<Effects<N>, Refusal> {
        match &self.held {
            Some(held) if self.holds(nexus) && held.kind != kind => Err(Refusal::InvalidRelease),
            Some(_) if self.holds(nexus) => Ok(self.end_reservation(nexus)),
            Some(_) | None => Ok(Effects::none()),
        }
    }

    /// (SPC-4: clearing.)
    fn clear(&mut self, nexus: &N) -> Effects<N> {
        let notices = self.to_others(nexus, Notice::ReservationsPreempted);
        self.registrations.clear();
        self.held = None;
        self.next_generation();
        Effects { notices, aborted: Vec::new() }
    }

    /// (SPC-4: preempting.) The victim's registrations go; where it is the holder, the reservation is taken over in the
    /// same step. Key zero stands for every other registrant of an all-registrants reservation, and for nothing else.
    fn preempt(&mut self, nexus: &N, victim: Key, kind: ReservationType) -> Result<Effects<N>, Refusal> {
        let takes_over = self.held.as_ref().is_some_and(|held| match &held.holder {
            Some(holder) => self.key_of(holder) == Some(victim),
            None => victim == Key::NONE,
        });
        if victim == Key::NONE && !takes_over {
            return Err(Refusal::ParameterField(wire::ACTION_KEY));
        }
        // Who takes over stays registered, also where its own key is the victim's. Who only removes registrations may
        // remove its own.
        let goes =
            |(other, key): &(&N, &Key)| (victim == Key::NONE || **key == victim) && !(takes_over && *other == nexus);
        let lost: Vec<N> = self.registrations.iter().filter(goes).map(|(other, _)| other.clone()).collect();
        if lost.is_empty() && !takes_over {
            return Err(Refusal::Conflict);
        }
        self.registrations.retain(|other, _| !lost.contains(other));
        let others = lost.into_iter().filter(|other| other != nexus);
        let mut notices: Vec<(N, Notice)> = others.map(|other| (other, Notice::RegistrationsPreempted)).collect();
        if takes_over {
            if self.held.as_ref().is_some_and(|held| held.kind != kind) {
                notices.extend(self.to_others(nexus, Notice::ReservationsReleased));
            }
            self.hold(nexus, kind);
        } else if self.registrations.is_empty() {
            self.held = None;
        }
        self.next_generation();
        Ok(Effects { notices, aborted: Vec::new() })
    }

    fn hold(&mut self, nexus: &N, kind: ReservationType) {
        let holder = (!for_all_registrants(kind)).then(|| nexus.clone());
        self.held = Some(Holding { kind, holder });
    }

    fn to_others(&self, nexus: &N, notice: Notice) -> Vec<(N, Notice)> {
        self.registrations.keys().filter(|other| *other != nexus).map(|other| (other.clone(), notice)).collect()
    }

    fn next_generation(&mut self) {
        self.generation = Generation(self.generation.0.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests;
