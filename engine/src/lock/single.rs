//! The steps of a lock one at a time, for who decides elsewhere which comes next: the agents' state machine.
//!
//! Acts, through [`Transport`](lunferry_scsi::transport::Transport)s alone. A claim and a fence are made of the same steps; here nobody
//! waits for others and nobody is fenced who was not named.

use std::io;

use lunferry_scsi::initiator::Initiator;
use lunferry_scsi::key::{Key, OwnKey};

use super::claim::{Claim, Drained, Paths, is_path_trouble, look};
use super::error::LockError;
use super::fence::reset;

impl Paths {
    /// Registers `own` on every path, on one at least. Where a path still bears the key of an earlier start of this node, that
    /// one is replaced, and the reservation that it may hold comes with it: whoever calls holds the LUN's exclusive open.
    ///
    /// # Errors
    /// Why it is not registered. Then nothing of this start is left there, unless it has replaced an earlier one.
    pub fn enrol(&self, own: OwnKey) -> Result<Claim, LockError> {
        self.may_register(&self.look()?, own)?;
        let mut attempt = self.attempt(own);
        let tried = self.register_everywhere(&mut attempt);
        self.ended(attempt, tried)
    }

    /// RESERVE. To reserve again what one holds is no error.
    ///
    /// # Errors
    /// Who holds it, and why it can't be had.
    pub fn reserve_by(&self, claim: &Claim) -> Result<(), LockError> {
        self.on_registered(claim, |path| self.reserve(path, claim.own))
    }

    /// PREEMPT of `victim`: its registrations are gone when this returns, and where it held the reservation, this start does.
    /// It may still have requests in flight: see [`Paths::drain_by`].
    ///
    /// # Errors
    /// Who was quicker, and why it is not gone.
    pub fn preempt_by(&self, claim: &Claim, victim: Key) -> Result<(), LockError> {
        self.on_registered(claim, |path| {
            let is_holder = look(path)?.held.is_some_and(|held| held.key == victim);
            self.preempt(path, claim.own, victim, is_holder)
        })
    }

    /// LOGICAL UNIT RESET by the first registered path that can, or a wait that is long enough. When this returns, nothing that was
    /// in flight at the LUN before can land any more.
    ///
    /// # Errors
    /// [`LockError::NoPath`] where no path is registered.
    pub fn drain_by(&self, claim: &Claim) -> Result<Drained, LockError> {
        let mut last: Option<io::Error> = None;
        for path in self.registered(claim) {
            match reset(path.transport()) {
                Ok(()) => {
                    self.clear_attentions();
                    return Ok(Drained::Reset);
                }
                Err(error) => last = Some(error),
            }
        }
        match (last, self.registered(claim).next()) {
            (Some(error), Some(path)) => Ok(self.wait_out(path.transport(), &error)),
            _ => Err(self.none_registered()),
        }
    }

    fn registered<'a>(&'a self, claim: &'a Claim) -> impl Iterator<Item = Initiator<'a>> {
        let both = self.paths.iter().zip(&claim.paths).filter(|(_, state)| state.registered);
        both.map(|(path, _)| Initiator::new(path.as_ref()))
    }

    /// By the first registered path that answers.
    fn on_registered<T>(
        &self,
        claim: &Claim,
        act: impl Fn(&Initiator<'_>) -> Result<T, LockError>,
    ) -> Result<T, LockError> {
        let mut last = None;
        for path in self.registered(claim) {
            match act(&path) {
                Err(error) if is_path_trouble(&error) => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| self.none_registered()))
    }

    fn none_registered(&self) -> LockError {
        let last = "this start of the node is registered on none".to_owned();
        LockError::NoPath { device: self.device.clone(), paths: self.paths.len(), last }
    }
}
