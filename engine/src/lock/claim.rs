//! Takes, keeps and gives back the reservation of one LUN, over every path to it.
//!
//! Acts, through [`Transport`]s alone. After each PERSISTENT RESERVE OUT what counts is what the LUN says when it is read:
//! a conflict is ambiguous (won, lost, never registered), and so is a command that timed out.

use std::time::Duration;

use lunferry_scsi::category::{Category, IllegalRequest, NotReady};
use lunferry_scsi::command::enquiry::{PersistentReserveIn, ReservationQuestion};
use lunferry_scsi::command::reservation::{Reach, ReservationOut};
use lunferry_scsi::initiator::{CommandError, Initiator};
use lunferry_scsi::key::{Key, OwnKey};
use lunferry_scsi::page::reservation::{Capabilities, capabilities, read_keys, read_reservation};
use lunferry_scsi::transport::Transport;
use serde::Serialize;

use super::error::LockError;
use super::standing::{KIND, Standing, View, stale, standing};

/// Room for some 8,000 registrations.
const ALLOCATION: u32 = 0xFFFF;

/// How often one PERSISTENT RESERVE OUT is sent again after a look at what the last one did. Each unit attention that
/// announces a changed reservation costs one.
const TRIES: u32 = 8;

/// How long registrations without a holder may take to become something else: another copier that starts at this moment
/// either reserves or lets go.
const SETTLE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The longest that Linux lets a block request of a SCSI disk take (`/sys/block/sdX/device/timeout`, 30 s) and then tries
/// again before it gives up. A fence waits that long where a device can't be reset.
const DRAIN: Duration = Duration::from_secs(60);

/// Every path to one LUN.
pub struct Paths {
    /// The LUN's name for messages: the device that is copied.
    pub device: String,
    /// One for each nexus; at least one.
    pub paths: Vec<Box<dyn Transport>>,
}

/// What came of one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathState {
    /// Its name.
    pub path: String,
    /// Whether this start of this node is registered there.
    pub registered: bool,
    /// Why not.
    pub error: Option<String>,
}

/// A LUN that is reserved.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What this host has registered.
    pub own: OwnKey,
    /// Whether registrations outlive a loss of the LUN's power.
    pub aptpl: bool,
    /// Each path.
    pub paths: Vec<PathState>,
    /// Whose registrations a fence has removed.
    pub fenced: Vec<Key>,
    /// How the fence made sure that nothing was in flight any more; nothing where nobody was fenced.
    pub drained: Option<Drained>,
}

/// How a fence made sure that what the victim had in flight has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drained {
    /// LOGICAL UNIT RESET returned.
    Reset,
    /// The device can't be reset: the longest time that a command may take was waited out.
    WaitedOut,
    /// This host's own earlier start: its exclusive open has fallen, and the unit was reset.
    OwnAndReset,
    /// The same without a reset, which the device can't.
    Own,
}

impl Paths {
    /// What the LUN says of its reservation, by the first path that answers.
    ///
    /// # Errors
    /// Where no path answers. A LUN that has no persistent reservations says so in [`LockError::Command`]:
    /// [`has_none`] tells.
    pub fn look(&self) -> Result<View, LockError> {
        self.on_any(look)
    }

    /// The same by each path on its own, with its name.
    pub fn look_at_each(&self) -> Vec<(String, Result<View, LockError>)> {
        self.paths.iter().map(|path| (path.name().into(), look(&Initiator::new(path.as_ref())))).collect()
    }

    /// What the LUN can do.
    ///
    /// # Errors
    /// As [`Paths::look`].
    pub fn capabilities(&self) -> Result<Capabilities, LockError> {
        self.on_any(|path| Ok(path.ask(&ask(ReservationQuestion::ReportCapabilities), capabilities)?))
    }

    /// How the LUN stands to `own`, before anything is changed.
    ///
    /// # Errors
    /// As [`Paths::look`].
    pub fn standing(&self, own: OwnKey) -> Result<Standing, LockError> {
        Ok(standing(&self.look()?, own))
    }

    /// Registers `own` on every path and reserves. With `take_over` whoever holds it is fenced first. Earlier starts of this
    /// node are replaced, where this host's own paths prove to be theirs: whoever calls holds the LUN's exclusive open, so
    /// they are dead.
    ///
    /// # Errors
    /// Why it was not taken. Then nothing of this start is left on the LUN, as far as it let itself be removed.
    pub fn claim(&self, own: OwnKey, take_over: bool) -> Result<Claim, LockError> {
        let claimed = self.try_claim(own, take_over);
        if claimed.is_err() {
            self.withdraw(own);
        }
        claimed
    }

    fn try_claim(&self, own: OwnKey, take_over: bool) -> Result<Claim, LockError> {
        self.may_register(&self.look()?, own)?;
        let aptpl = self.capabilities().is_ok_and(|able| able.persist_through_power_loss);
        let mut claim = Claim { own, aptpl, paths: Vec::new(), fenced: Vec::new(), drained: None };
        let mut replaced = Vec::new();
        for path in &self.paths {
            let state = self.register(&Initiator::new(path.as_ref()), own, &mut claim.aptpl, &mut replaced);
            claim.paths.push(match state {
                Ok(()) => PathState { path: path.name().into(), registered: true, error: None },
                Err(error) if self.paths.len() == 1 || matches!(error, LockError::OtherProgram { .. }) => {
                    return Err(error);
                }
                Err(error) => PathState { path: path.name().into(), registered: false, error: Some(error.to_string()) },
            });
        }
        let Some(first) = self.first_registered(&claim.paths) else {
            let last = claim.paths.last().and_then(|path| path.error.clone()).unwrap_or_default();
            return Err(LockError::NoPath { device: self.device.clone(), paths: self.paths.len(), last });
        };
        self.settle(&first, own, take_over, &replaced, &mut claim)?;
        self.reserve(&first, own)?;
        if !replaced.is_empty() {
            // What an earlier start had in flight is done, since its exclusive open has fallen; the reset is for what a
            // target may still hold back (H7).
            let reset = first.transport().reset_logical_unit().is_ok();
            claim.drained.get_or_insert(if reset { Drained::OwnAndReset } else { Drained::Own });
            self.clear_attentions();
        }
        self.holds(own)?;
        Ok(claim)
    }

    /// Whether the look allows for a registration at all.
    fn may_register(&self, view: &View, own: OwnKey) -> Result<(), LockError> {
        match standing(view, own) {
            Standing::Foreign { keys, holder } => {
                Err(LockError::Foreign { device: self.device.clone(), keys, holder, may_waive: false })
            }
            Standing::Unclear => Err(LockError::Unclear { device: self.device.clone() }),
            Standing::Free | Standing::Ours | Standing::HeldBy(_) | Standing::Registered(_) => Ok(()),
        }
    }

    /// Puts `own` on one path. Where the path still bears a key of an earlier start of this node, that one is replaced, and
    /// with it the reservation that it may hold.
    fn register(
        &self,
        path: &Initiator<'_>,
        own: OwnKey,
        aptpl: &mut bool,
        replaced: &mut Vec<Key>,
    ) -> Result<(), LockError> {
        let mut last = None;
        for _ in 0..TRIES {
            path.clear_attentions()?;
            let reach = Reach { aptpl: *aptpl, all_target_ports: false };
            let register = |current| path.send(&ReservationOut::Register { current, new: own.key(), reach });
            let error = match register(Key::NONE) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if *aptpl && refuses_aptpl(&error) {
                tracing::warn!(path = path.transport().name(), %error, "registrations will not outlive a power loss of the LUN");
                *aptpl = false;
                continue;
            }
            if !matches!(error, CommandError::Unknown { .. }) {
                return Err(error.into());
            }
            // The nexus bears a key already: this start's, by a command whose answer was lost, or an earlier start's.
            if register(own.key()).is_ok() {
                return Ok(());
            }
            for old in stale(&look(path)?, own) {
                if register(old).is_ok() {
                    tracing::warn!(path = path.transport().name(), %old, "replaced the key of an earlier start of this node");
                    replaced.push(old);
                    return Ok(());
                }
            }
            let is_conflict = error.is_conflict();
            last = Some(error);
            if is_conflict
                && path.clear_attentions()?.is_empty()
                && look(path)?.keys.iter().all(|key| *key != own.key())
            {
                return Err(LockError::OtherProgram { path: path.transport().name().into() });
            }
        }
        Err(last.expect("a try without an end has an error").into())
    }

    /// Fences whoever stands in the way, or says who it is.
    fn settle(
        &self,
        path: &Initiator<'_>,
        own: OwnKey,
        take_over: bool,
        replaced: &[Key],
        claim: &mut Claim,
    ) -> Result<(), LockError> {
        let started = path.transport().now();
        loop {
            let view = look(path)?;
            self.may_register(&view, own)?;
            let waiting = path.transport().now().saturating_sub(started) < SETTLE;
            match standing(&view, own) {
                Standing::Free => return Ok(()),
                Standing::Ours if view.others(own).is_empty() => return Ok(()),
                // A start that one path has proven to be this host's own is dead, though another path still bears its key.
                Standing::HeldBy(by) if !take_over && !replaced.contains(&by.key()) => return Err(self.held(by)),
                Standing::HeldBy(by) => self.fence(path, own, by.key(), true, claim)?,
                Standing::Ours | Standing::Registered(_) if take_over => {
                    for victim in view.others(own) {
                        self.fence(path, own, victim, false, claim)?;
                    }
                }
                // One that starts at this moment reserves or goes away.
                Standing::Registered(_) if view.keys.iter().any(|key| *key == own.key()) && waiting => {
                    // Whoever reserves first has it.
                    if self.reserve(path, own).is_ok() {
                        continue;
                    }
                    path.transport().wait(LOOK_AGAIN);
                }
                Standing::Ours if waiting => path.transport().wait(LOOK_AGAIN),
                Standing::Ours | Standing::Registered(_) => {
                    return Err(LockError::Registered { device: self.device.clone(), keys: view.others(own) });
                }
                Standing::Foreign { .. } | Standing::Unclear => unreachable!("may_register has refused these"),
            }
        }
    }

    fn held(&self, by: OwnKey) -> LockError {
        LockError::HeldElsewhere { device: self.device.clone(), by, since: None }
    }

    /// Reserves; to reserve again what one holds is no error.
    fn reserve(&self, path: &Initiator<'_>, own: OwnKey) -> Result<(), LockError> {
        for _ in 0..TRIES {
            path.clear_attentions()?;
            let sent = path.send(&ReservationOut::Reserve { key: own.key(), kind: KIND });
            let view = look(path)?;
            if view.is_held_by(own.key()) {
                return Ok(());
            }
            match (standing(&view, own), sent) {
                (Standing::HeldBy(by), _) => return Err(self.held(by)),
                (Standing::Foreign { keys, holder }, _) => {
                    return Err(LockError::Foreign { device: self.device.clone(), keys, holder, may_waive: false });
                }
                (_, Err(error @ CommandError::Failed { .. })) => return Err(error.into()),
                // The reservation was lost between command and look, or the outcome was unknown: once more.
                (_, Ok(_) | Err(_)) => {}
            }
        }
        Err(LockError::Lost { device: self.device.clone(), by: look(path)?.held.map(|held| held.key) })
    }

    /// The three steps of a fence (design 10). `is_holder`: the victim holds the reservation, which goes to `own` with it.
    fn fence(
        &self,
        path: &Initiator<'_>,
        own: OwnKey,
        victim: Key,
        is_holder: bool,
        claim: &mut Claim,
    ) -> Result<(), LockError> {
        tracing::warn!(device = %self.device, %victim, "fencing");
        self.preempt(path, own, victim, is_holder)?;
        let drained = match path.transport().reset_logical_unit() {
            Ok(()) => Drained::Reset,
            Err(error) => {
                let seconds = DRAIN.as_secs();
                tracing::warn!(device = %self.device, %error, seconds, "the unit can't be reset; waiting until nothing can be in flight");
                path.transport().wait(DRAIN);
                Drained::WaitedOut
            }
        };
        self.clear_attentions();
        let view = look(path)?;
        if view.keys.contains(&victim) {
            let why = "it is registered again".to_owned();
            return Err(LockError::FenceUnproven { device: self.device.clone(), victim, why });
        }
        if is_holder && !view.is_held_by(own.key()) {
            return Err(LockError::Lost { device: self.device.clone(), by: view.held.map(|held| held.key) });
        }
        claim.fenced.push(victim);
        claim.drained = Some(drained);
        Ok(())
    }

    /// PREEMPT until a look shows that the victim's registrations are gone. Of two who preempt the same victim one wins; the
    /// other one reads who.
    fn preempt(&self, path: &Initiator<'_>, own: OwnKey, victim: Key, is_holder: bool) -> Result<(), LockError> {
        for _ in 0..TRIES {
            path.clear_attentions()?;
            let sent = path.send(&ReservationOut::Preempt { key: own.key(), victim, kind: KIND });
            let view = look(path)?;
            let is_gone = !view.keys.contains(&victim);
            if is_gone && (!is_holder || view.is_held_by(own.key())) {
                return Ok(());
            }
            if is_gone || !view.keys.contains(&own.key()) {
                return Err(match standing(&view, own) {
                    Standing::HeldBy(by) => self.held(by),
                    _ => LockError::Lost { device: self.device.clone(), by: view.held.map(|held| held.key) },
                });
            }
            if let Err(error @ (CommandError::Failed { .. } | CommandError::NotSent { .. })) = sent {
                return Err(error.into());
            }
        }
        let why = format!("PREEMPT was sent {TRIES} times, and it is still registered");
        Err(LockError::FenceUnproven { device: self.device.clone(), victim, why })
    }

    /// Looks whether `own` holds the reservation.
    ///
    /// # Errors
    /// [`LockError::Lost`] where it does not, and why that can't be told.
    pub fn holds(&self, own: OwnKey) -> Result<(), LockError> {
        let view = self.look()?;
        if view.is_held_by(own.key()) && view.keys.contains(&own.key()) {
            return Ok(());
        }
        Err(LockError::Lost { device: self.device.clone(), by: view.held.map(|held| held.key) })
    }

    /// Tries to register on the paths that were down when the lock was taken; those that came back bear the key then.
    pub fn mend(&self, claim: &mut Claim) {
        for (path, state) in self.paths.iter().zip(&mut claim.paths).filter(|(_, state)| !state.registered) {
            let path = Initiator::new(path.as_ref());
            if self.register(&path, claim.own, &mut claim.aptpl, &mut Vec::new()).is_ok() {
                tracing::warn!(path = %state.path, "a path is back, and registered");
                *state = PathState { path: state.path.clone(), registered: true, error: None };
            }
        }
    }

    /// Unregisters `own` on every path; the last one gives up the reservation with it. What somebody else has done to the
    /// LUN meanwhile stays as it is.
    pub fn withdraw(&self, own: OwnKey) {
        for path in &self.paths {
            let path = Initiator::new(path.as_ref());
            let device = path.transport().name();
            for _ in 0..TRIES {
                let cleared = path.clear_attentions();
                let gone = ReservationOut::Register { current: own.key(), new: Key::NONE, reach: Reach::default() };
                let sent = cleared.and_then(|_| path.send(&gone));
                match (sent, look(&path)) {
                    (Ok(_), _) => break,
                    (Err(_), Ok(view)) if !view.keys.contains(&own.key()) => break,
                    (Err(CommandError::Unknown { .. }), Ok(_)) => {}
                    (Err(error), _) => {
                        tracing::warn!(device, %error, "the registration could not be removed");
                        break;
                    }
                }
            }
        }
    }

    fn first_registered(&self, states: &[PathState]) -> Option<Initiator<'_>> {
        let mut both = self.paths.iter().zip(states);
        both.find(|(_, state)| state.registered).map(|(path, _)| Initiator::new(path.as_ref()))
    }

    fn clear_attentions(&self) {
        for path in &self.paths {
            // A path that is down says so where it matters.
            let _ = Initiator::new(path.as_ref()).clear_attentions();
        }
    }

    fn on_any<T>(&self, ask: impl Fn(&Initiator<'_>) -> Result<T, LockError>) -> Result<T, LockError> {
        let mut last = String::new();
        for path in &self.paths {
            match ask(&Initiator::new(path.as_ref())) {
                Err(error) if is_path_trouble(&error) && self.paths.len() > 1 => last = error.to_string(),
                done => return done,
            }
        }
        Err(LockError::NoPath { device: self.device.clone(), paths: self.paths.len(), last })
    }
}

/// Whether another path may answer where this one did not.
fn is_path_trouble(error: &LockError) -> bool {
    match error {
        LockError::Command(CommandError::NotSent { .. }) => true,
        LockError::Command(error) => matches!(
            error.category(),
            Some(
                Category::TransportLost(_)
                    | Category::OutcomeUnknown(_)
                    | Category::NotReady(NotReady::PathInactive | NotReady::Transition)
            )
        ),
        _ => false,
    }
}

/// Whether a LUN that answered so has no persistent reservations at all.
pub fn has_none(error: &LockError) -> bool {
    matches!(
        error,
        LockError::Command(error) if matches!(
            error.category(),
            Some(Category::IllegalRequest(IllegalRequest::Opcode | IllegalRequest::CdbField(_)))
        )
    )
}

/// APTPL in a device that has none (26h/00h), and LIO where it has no place to keep it (NOT READY).
fn refuses_aptpl(error: &CommandError) -> bool {
    matches!(
        error.category(),
        Some(Category::IllegalRequest(IllegalRequest::ParameterField(_)) | Category::NotReady(NotReady::Other(_)))
    )
}

fn ask(question: ReservationQuestion) -> PersistentReserveIn {
    PersistentReserveIn { question, allocation: ALLOCATION }
}

fn look(path: &Initiator<'_>) -> Result<View, LockError> {
    let keys = path.ask(&ask(ReservationQuestion::ReadKeys), read_keys)?;
    let reservation = path.ask(&ask(ReservationQuestion::ReadReservation), read_reservation)?;
    Ok(View {
        generation: reservation.generation,
        is_whole: keys.completeness.is_whole(),
        keys: keys.keys,
        held: reservation.held,
    })
}
