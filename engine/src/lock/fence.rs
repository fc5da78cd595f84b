//! Fencing: PREEMPT, then LOGICAL UNIT RESET, then a look that shows the outcome (design 10).
//!
//! Acts, through [`Transport`]s alone.

use std::io;
use std::time::Duration;

use lunferry_scsi::cdb::TimeoutClass;
use lunferry_scsi::command::reservation::ReservationOut;
use lunferry_scsi::initiator::{CommandError, Initiator};
use lunferry_scsi::key::{Key, OwnKey};
use lunferry_scsi::transport::Transport;

use super::claim::{Claim, Drained, Paths, TRIES, look};
use super::error::LockError;
use super::standing::{KIND, Standing, standing};

/// How long a reset is tried while the host adapter recovers (EAGAIN).
const RESET_TRIES: u32 = 30;
const RESET_PAUSE: Duration = Duration::from_secs(1);

/// How long after its timeout a command may still be on its way down.
const MARGIN: Duration = Duration::from_secs(30);

impl Paths {
    /// Fences each of these, who hold nothing.
    pub(super) fn fence_all(&self, path: &Initiator<'_>, victims: &[Key], claim: &mut Claim) -> Result<(), LockError> {
        victims.iter().try_for_each(|victim| self.fence(path, *victim, false, claim))
    }

    /// The three steps of a fence. `is_holder`: the victim holds the reservation, which goes to this start with it.
    pub(super) fn fence(
        &self,
        path: &Initiator<'_>,
        victim: Key,
        is_holder: bool,
        claim: &mut Claim,
    ) -> Result<(), LockError> {
        tracing::warn!(device = %self.device, %victim, "fencing");
        let own = claim.own;
        let preempted = self.preempt(path, own, victim, is_holder);
        // The LUN must stay locked from here on, whatever fails: also where the PREEMPT may have been done, and nobody could look.
        let is_lost = matches!(preempted, Err(LockError::HeldElsewhere { .. } | LockError::Lost { .. }));
        if !is_lost && !claim.replaced.contains(&victim) && !claim.fenced.contains(&victim) {
            claim.fenced.push(victim);
        }
        preempted?;
        let drained = self.drain(path);
        // The weakest of several counts.
        if claim.drained != Some(Drained::WaitedOut) {
            claim.drained = Some(drained);
        }
        self.clear_attentions();
        let view = self.look()?;
        if view.keys.contains(&victim) {
            let why = "it is registered again".to_owned();
            return Err(LockError::FenceUnproven { device: self.device.clone(), victim, why });
        }
        if is_holder && !view.is_held_by(own.key()) {
            return Err(LockError::Lost { device: self.device.clone(), by: view.held.map(|held| held.key) });
        }
        Ok(())
    }

    /// Returns when nothing that was in flight before can land any more.
    pub(super) fn drain(&self, path: &Initiator<'_>) -> Drained {
        match reset(path.transport()) {
            Ok(()) => Drained::Reset,
            Err(error) => self.wait_out(path.transport(), &error),
        }
    }

    /// Waits until nothing can be in flight any more at a unit that can't be reset, for this reason.
    pub(super) fn wait_out(&self, transport: &dyn Transport, error: &io::Error) -> Drained {
        // The longest that Lunferry's own commands may take, and more than the block layer's (30 s).
        let time = TimeoutClass::Copy.duration() + MARGIN;
        let seconds = time.as_secs();
        tracing::warn!(device = %self.device, %error, seconds, "the unit can't be reset; waiting until nothing can be in flight");
        transport.wait(time);
        Drained::WaitedOut
    }

    /// PREEMPT until a look shows that the victim's registrations are gone. Of two who preempt the same victim one wins; the
    /// other one reads who.
    pub(super) fn preempt(
        &self,
        path: &Initiator<'_>,
        own: OwnKey,
        victim: Key,
        is_holder: bool,
    ) -> Result<(), LockError> {
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
}

/// LOGICAL UNIT RESET, while the host adapter recovers again and again.
pub(super) fn reset(transport: &dyn Transport) -> io::Result<()> {
    let mut tries = 1;
    loop {
        match transport.reset_logical_unit() {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries < RESET_TRIES => {
                tries += 1;
                transport.wait(RESET_PAUSE);
            }
            done => return done,
        }
    }
}
