//! Keeping a reservation while a copy runs, and giving it back.
//!
//! Acts, through [`Transport`](lunferry_scsi::transport::Transport)s alone. What must hold: whoever was fenced is not
//! brought back by what was meant to mend a path.

use lunferry_scsi::command::reservation::{Reach, ReservationOut};
use lunferry_scsi::initiator::{CommandError, Initiator};
use lunferry_scsi::key::{Incarnation, Key, OwnKey};

use super::claim::{Claim, PathState, Paths, TRIES, look};
use super::error::LockError;
use super::standing::KIND;

impl Paths {
    /// Looks whether the claim still holds, after registering on paths that are new or have come back. A fenced host that has
    /// come back by way of a path that it registered at the last moment is fenced again.
    ///
    /// # Errors
    /// [`LockError::Lost`], and then nothing of this start is registered on any path that answers.
    pub fn keep(&mut self, claim: &mut Claim) -> Result<(), LockError> {
        self.find_later(claim);
        self.mend(claim);
        // The look comes last: while a path was mended somebody may have taken over.
        let view = self.holds(claim.own).inspect_err(|error| {
            if matches!(error, LockError::Lost { .. }) {
                self.withdraw(claim.own, claim.aptpl);
            }
        })?;
        let back: Vec<Key> = claim.fenced.iter().copied().filter(|key| view.keys.contains(key)).collect();
        match self.first_registered(&claim.paths) {
            Some(path) if !back.is_empty() => self.fence_all(&path, &back, claim),
            _ => Ok(()),
        }
    }

    /// Takes up the paths that the LUN has got since, each in the place of an older one of its name. None is registered yet.
    fn find_later(&mut self, claim: &mut Claim) {
        for path in self.later.iter_mut().flat_map(|later| later.since_last()) {
            let error = Some("it is new, and could not be registered yet".into());
            let state = PathState { path: path.name().into(), registered: false, error };
            tracing::warn!(device = %self.device, path = %state.path, "a path is new");
            match claim.paths.iter().position(|known| known.path == state.path) {
                Some(known) => (self.paths[known], claim.paths[known]) = (path, state),
                None => {
                    self.paths.push(path);
                    claim.paths.push(state);
                }
            }
        }
    }

    /// Registers on the paths that are not and answer now, where the claim is seen to hold: they were down when the lock was taken,
    /// or are new. One try each: this is in front of a checkpoint.
    pub fn mend(&self, claim: &mut Claim) {
        for (path, state) in self.paths.iter().zip(&mut claim.paths).filter(|(_, state)| !state.registered) {
            let path = Initiator::new(path.as_ref());
            let still_ours = look(&path).is_ok_and(|view| view.is_held_by(claim.own.key()));
            if still_ours && self.register(&path, claim.own, &mut claim.aptpl, &mut Vec::new()).is_ok() {
                if !look(&path).is_ok_and(|view| view.is_held_by(claim.own.key())) {
                    // Somebody has taken over since the look before: this path must not write.
                    let reach = Reach { aptpl: claim.aptpl, all_target_ports: false };
                    if let Err(error) = unregister(&path, claim.own.key(), reach) {
                        tracing::warn!(path = %state.path, %error, "a registration that came too late could not be removed");
                    }
                    continue;
                }
                tracing::warn!(path = %state.path, "a path is back or new, and registered");
                *state = PathState { path: state.path.clone(), registered: true, error: None };
            }
        }
    }

    /// Unregisters `own` on every path, and the reservation goes with its holder. What somebody else has done to the LUN
    /// meanwhile stays as it is. `aptpl` as it was registered with: each registration sets it for all.
    pub fn withdraw(&self, own: OwnKey, aptpl: bool) {
        let reach = Reach { aptpl, all_target_ports: false };
        let (mut alive, mut failed) = (None, Vec::new());
        for path in &self.paths {
            let path = Initiator::new(path.as_ref());
            match unregister(&path, own.key(), reach) {
                Ok(()) => alive = Some(path),
                Err(error) => failed.push((path.transport().name(), error)),
            }
        }
        // What counts is what the LUN lists: a path that is down may never have been registered.
        let stays = match alive.map(|path| (look(&path), path)) {
            Some((Ok(view), path)) if view.keys.contains(&own.key()) => match remove_unreachable(&path, own, reach) {
                Ok(()) => return,
                Err(error) => Some(error),
            },
            Some((Ok(_), _)) => return,
            Some((Err(_), _)) | None => None,
        };
        for (path, error) in failed {
            tracing::warn!(path, %error, "the registration could not be removed there");
        }
        if let Some(error) = stays {
            tracing::warn!(device = %self.device, %error, "a registration through a path that is down stays");
        }
    }
}

/// Removes a key from one path. That it is not there is as good.
fn unregister(path: &Initiator<'_>, key: Key, reach: Reach) -> Result<(), LockError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let gone = ReservationOut::Register { current: key, new: Key::NONE, reach };
        let error = match path.clear_attentions().and_then(|_| path.send(&gone)) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let is_listed = look(path)?.keys.contains(&key);
        match error {
            _ if !is_listed => return Ok(()),
            // It may be listed for another path, which this nexus can't remove.
            error if error.is_conflict() && tries > 1 => return Ok(()),
            CommandError::Unknown { .. } if tries < TRIES => {}
            error => return Err(error.into()),
        }
    }
}

/// Removes a registration of this start, and the reservation with it, that stands on a path that is down: under a key for the
/// occasion, since a nexus that preempts its own key is a use after free in LIO.
fn remove_unreachable(path: &Initiator<'_>, own: OwnKey, reach: Reach) -> Result<(), LockError> {
    let other = OwnKey { incarnation: Incarnation(own.incarnation.0 ^ 1), ..own }.key();
    path.send(&ReservationOut::Register { current: Key::NONE, new: other, reach })?;
    let removed = path.send(&ReservationOut::Preempt { key: other, victim: own.key(), kind: KIND });
    unregister(path, other, reach)?;
    removed?;
    Ok(())
}
