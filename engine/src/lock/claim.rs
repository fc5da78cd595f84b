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
use super::standing::{KIND, Standing, View, guards, stale, standing};

/// Room for some 8,000 registrations.
const ALLOCATION: u32 = 0xFFFF;

/// How often one PERSISTENT RESERVE OUT is sent again after a look at what the last one did. Each unit attention that
/// announces a changed reservation costs one.
pub(super) const TRIES: u32 = 8;

/// How long registrations without a holder may take to become something else: another copier that starts at this moment
/// either reserves or lets go.
const SETTLE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Every path to one LUN.
pub struct Paths {
    /// The LUN's name for messages: the device that is copied.
    pub device: String,
    /// One for each nexus; at least one.
    pub paths: Vec<Box<dyn Transport>>,
    /// Who tells of paths that it gets later; nothing where it gets none.
    pub later: Option<Box<dyn LaterPaths>>,
}

/// Who knows the paths that a LUN gets while it is reserved.
pub trait LaterPaths: Send + Sync {
    /// Those that were not there at the last look. One that was taken away and has come back is a new one.
    fn since_last(&mut self) -> Vec<Box<dyn Transport>>;
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
    /// Registrations of other hosts that a fence has removed.
    pub fenced: Vec<Key>,
    /// Keys of earlier starts of this node that were replaced or fenced.
    pub replaced: Vec<Key>,
    /// How the fence made sure that nothing was in flight any more; nothing where nobody was fenced.
    pub drained: Option<Drained>,
}

impl Claim {
    /// Whether the reservation must outlive this process: somebody was fenced for it who may wake up, or an earlier start of
    /// this node kept it for that reason.
    pub fn guards(&self) -> bool {
        !self.fenced.is_empty() || guards(&self.replaced)
    }

    /// Whether giving it back would take away what others rely on: see [`Claim::guards`]; and what an earlier start of this
    /// node left behind stays until a run of it ends well.
    pub(super) fn is_inherited(&self) -> bool {
        !self.fenced.is_empty() || !self.replaced.is_empty()
    }
}

/// A claim on its way.
pub(super) struct Attempt {
    pub(super) claim: Claim,
    pub(super) take_over: bool,
    /// Holders that may be fenced.
    pub(super) victims: Vec<Key>,
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

    /// Registers `own` on every path and reserves. With `take_over` whoever holds it is fenced first, once it has been seen to
    /// hold it for that long: one who has only just taken over is alive. Earlier starts of this node are replaced, where this
    /// host's own paths prove to be theirs: whoever calls holds the LUN's exclusive open, so they are dead.
    ///
    /// # Errors
    /// Why it was not taken. Then nothing of this start is left on the LUN, as far as it let itself be removed; unless
    /// somebody was fenced, or an earlier start of this node replaced: then the LUN must not be opened to everyone, and what
    /// was registered stays.
    pub fn claim(&self, own: OwnKey, take_over: Option<Duration>) -> Result<Claim, LockError> {
        let before = self.look()?;
        self.may_register(&before, own)?;
        let victims = match (take_over, before.held) {
            (Some(stood), Some(held)) => vec![self.still_there(held.key, stood)?],
            _ => Vec::new(),
        };
        let mut attempt = self.attempt(own);
        (attempt.take_over, attempt.victims) = (take_over.is_some(), victims);
        let tried = self.try_claim(&mut attempt);
        self.ended(attempt, tried)
    }

    /// A claim that nothing was done for yet.
    pub(super) fn attempt(&self, own: OwnKey) -> Attempt {
        let aptpl = self.capabilities().is_ok_and(|able| able.persist_through_power_loss);
        let (paths, fenced, replaced) = (Vec::new(), Vec::new(), Vec::new());
        let claim = Claim { own, aptpl, paths, fenced, replaced, drained: None };
        Attempt { claim, take_over: false, victims: Vec::new() }
    }

    /// The claim, or, where it failed, nothing of it is left on the LUN but what must stay.
    pub(super) fn ended(&self, attempt: Attempt, tried: Result<(), LockError>) -> Result<Claim, LockError> {
        let claim = attempt.claim;
        match tried {
            Ok(()) => Ok(claim),
            Err(error) if claim.is_inherited() => {
                tracing::warn!(device = %self.device, "what is registered stays, or a fenced host could write");
                Err(error)
            }
            Err(error) => {
                self.withdraw(claim.own, claim.aptpl);
                Err(error)
            }
        }
    }

    fn try_claim(&self, attempt: &mut Attempt) -> Result<(), LockError> {
        let own = attempt.claim.own;
        self.register_everywhere(attempt)?;
        let first = self.first_registered(&attempt.claim.paths).expect("one path is registered at least");
        self.settle(&first, attempt)?;
        if !attempt.claim.replaced.is_empty() && attempt.claim.drained.is_none() {
            // What an earlier start had in flight is done, since its exclusive open has fallen; the reset is for what a
            // target may still hold back (H7).
            let reset = first.transport().reset_logical_unit().is_ok();
            attempt.claim.drained = Some(if reset { Drained::OwnAndReset } else { Drained::Own });
            self.clear_attentions();
        } else if attempt.take_over && attempt.claim.drained.is_none() {
            // Nobody holds it, and a dead host may still have writes in flight: a power loss of the LUN, say, has taken the
            // registration and not the host.
            attempt.claim.drained = Some(self.drain(&first));
        }
        self.holds(own).map(drop)
    }

    /// Waits, and looks whether the same key still holds it. Whoever takes it meanwhile has won.
    fn still_there(&self, holder: Key, time: Duration) -> Result<Key, LockError> {
        self.paths.iter().take(1).for_each(|path| path.wait(time));
        match self.look()?.held {
            Some(held) if held.key != holder => Err(match OwnKey::from_key(held.key) {
                Some(by) => self.held(by),
                None => LockError::Lost { device: self.device.clone(), by: Some(held.key) },
            }),
            _ => Ok(holder),
        }
    }

    /// Registers on every path, on one at least. Earlier starts of this node that turn out to be this host's own become
    /// victims: they are dead, though a path that is down may still bear their key.
    pub(super) fn register_everywhere(&self, attempt: &mut Attempt) -> Result<(), LockError> {
        let claim = &mut attempt.claim;
        for path in &self.paths {
            let state = self.register(&Initiator::new(path.as_ref()), claim.own, &mut claim.aptpl, &mut claim.replaced);
            claim.paths.push(match state {
                Ok(()) => PathState { path: path.name().into(), registered: true, error: None },
                Err(error) if self.paths.len() == 1 || matches!(error, LockError::OtherProgram { .. }) => {
                    return Err(error);
                }
                Err(error) => PathState { path: path.name().into(), registered: false, error: Some(error.to_string()) },
            });
        }
        attempt.victims.extend(&claim.replaced);
        if claim.paths.iter().any(|path| path.registered) {
            return Ok(());
        }
        let last = claim.paths.last().and_then(|path| path.error.clone()).unwrap_or_default();
        Err(LockError::NoPath { device: self.device.clone(), paths: self.paths.len(), last })
    }

    /// Whether the look allows for a registration at all.
    pub(super) fn may_register(&self, view: &View, own: OwnKey) -> Result<(), LockError> {
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
    pub(super) fn register(
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

    /// Reserves and fences until this start alone is registered and holds the reservation, or says who stands in the way.
    ///
    /// Of several who start or take over at once those who lose go away by themselves, and are given the time, anew after
    /// each fence. To preempt them meanwhile would not only be rude: LIO deadlocks where a nexus is preempted while it
    /// preempts (ADR 0008).
    fn settle(&self, path: &Initiator<'_>, attempt: &mut Attempt) -> Result<(), LockError> {
        let (own, mut started) = (attempt.claim.own, path.transport().now());
        loop {
            let view = look(path)?;
            self.may_register(&view, own)?;
            let others = view.others(own);
            let dead: Vec<Key> = others.iter().copied().filter(|key| attempt.victims.contains(key)).collect();
            let waiting = path.transport().now().saturating_sub(started) < SETTLE;
            match standing(&view, own) {
                Standing::Ours if others.is_empty() => return Ok(()),
                Standing::Free => self.reserve(path, own)?,
                Standing::HeldBy(by) if attempt.victims.contains(&by.key()) => {
                    self.fence(path, by.key(), true, &mut attempt.claim)?;
                    started = path.transport().now();
                }
                Standing::HeldBy(by) => return Err(self.held(by)),
                Standing::Ours | Standing::Registered(_) if !dead.is_empty() => {
                    self.fence_all(path, &dead, &mut attempt.claim)?;
                    started = path.transport().now();
                }
                // Whoever reserves first has it.
                Standing::Registered(_) if waiting && self.reserve(path, own).is_ok() => {}
                Standing::Ours | Standing::Registered(_) if waiting => path.transport().wait(LOOK_AGAIN),
                Standing::Ours | Standing::Registered(_) if attempt.take_over => {
                    self.fence_all(path, &others, &mut attempt.claim)?;
                }
                Standing::Ours | Standing::Registered(_) => {
                    return Err(LockError::Registered { device: self.device.clone(), keys: others });
                }
                Standing::Foreign { .. } | Standing::Unclear => unreachable!("may_register has refused these"),
            }
        }
    }

    pub(super) fn held(&self, by: OwnKey) -> LockError {
        LockError::HeldElsewhere { device: self.device.clone(), by, since: None }
    }

    /// Reserves; to reserve again what one holds is no error.
    pub(super) fn reserve(&self, path: &Initiator<'_>, own: OwnKey) -> Result<(), LockError> {
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

    /// Looks whether `own` holds the reservation; what was seen.
    ///
    /// # Errors
    /// [`LockError::Lost`] where it does not, and why that can't be told.
    pub fn holds(&self, own: OwnKey) -> Result<View, LockError> {
        let view = self.look()?;
        if view.is_held_by(own.key()) && view.keys.contains(&own.key()) {
            return Ok(view);
        }
        Err(LockError::Lost { device: self.device.clone(), by: view.held.map(|held| held.key) })
    }

    pub(super) fn first_registered(&self, states: &[PathState]) -> Option<Initiator<'_>> {
        let mut both = self.paths.iter().zip(states);
        both.find(|(_, state)| state.registered).map(|(path, _)| Initiator::new(path.as_ref()))
    }

    pub(super) fn clear_attentions(&self) {
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
pub(super) fn is_path_trouble(error: &LockError) -> bool {
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

pub(super) fn look(path: &Initiator<'_>) -> Result<View, LockError> {
    let keys = path.ask(&ask(ReservationQuestion::ReadKeys), read_keys)?;
    let reservation = path.ask(&ask(ReservationQuestion::ReadReservation), read_reservation)?;
    Ok(View {
        generation: reservation.generation,
        is_whole: keys.completeness.is_whole(),
        keys: keys.keys,
        held: reservation.held,
    })
}
