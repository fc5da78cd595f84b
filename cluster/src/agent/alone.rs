//! One agent for each state directory: two of one node would fence each other for ever.
//!
//! Acts: makes the directory, and locks a file in it for as long as the process lives.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Why this can't be the one agent.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// Another one is.
    #[error("state directory {dir}: another agent runs with it; stop it, or give this one another `state_dir`")]
    Taken {
        /// Which directory.
        dir: PathBuf,
    },
    /// The directory or the file can't be had.
    #[error("state directory {dir}: {source}")]
    Io {
        /// Which directory.
        dir: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Takes the lock, which falls with the file that is returned.
///
/// # Errors
/// Where another process has it, or it can't be taken.
pub fn only_one(dir: &Path) -> Result<File, AloneError> {
    let failed = |source| AloneError::Io { dir: dir.into(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join("agent.lock")).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(AloneError::Taken { dir: dir.into() }),
        Err(errno) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_second_one_is_refused_until_the_first_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("state");
        let first = only_one(&dir).unwrap();
        assert!(matches!(only_one(&dir), Err(AloneError::Taken { .. })));
        drop(first);
        only_one(&dir).unwrap();
    }
}
