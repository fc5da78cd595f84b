//! Gives back what this node has reserved on one LUN, when no copy runs.
//!
//! Acts, through `claim`.

use super::claim::has_none;
use super::error::LockError;
use super::node::ThisNode;
use super::paths::{Means, Ways};
use super::standing::Standing;
use crate::lun::open::OpenLun;

/// Releases what this node holds on one LUN, of any of its starts.
///
/// # Errors
/// [`LockError::HeldElsewhere`] where another node holds it, and why it could not be released. Nothing of others is
/// touched.
pub fn release(lun: &OpenLun, node: &ThisNode) -> Result<Released, LockError> {
    let Ways { paths: Some(paths), means } = Ways::of(&lun.info, lun.file(), node) else {
        return Ok(Released::NothingHeld);
    };
    let own = node.key();
    match paths.standing(own) {
        Ok(Standing::Free) => return Ok(Released::NothingHeld),
        // Not even a registration for a moment: it would be one on somebody else's LUN.
        Ok(Standing::HeldBy(by)) if by.node != own.node => {
            return Err(LockError::HeldElsewhere { device: paths.device.clone(), by, since: None });
        }
        Ok(_) => {}
        Err(error) if means == Means::Scsi && has_none(&error) => return Ok(Released::NothingHeld),
        Err(error) => return Err(error),
    }
    // Only what this node's own paths prove to be its own is replaced; whoever calls has the LUN's exclusive open.
    let claim = paths.claim(own, None)?;
    paths.withdraw(own, claim.aptpl);
    Ok(if claim.replaced.is_empty() { Released::NothingHeld } else { Released::Released })
}

/// What a release came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// What this node held is gone.
    Released,
    /// This node held nothing.
    NothingHeld,
}
