//! The way to one device server: a command goes out, and a completion comes back.
//!
//! The trait holds the two things of this room that are not pure: a descriptor and a clock. Kernel devices are behind it
//! ([`crate::sg`]), a LUN in memory for tests, and the reservations that files have instead of SCSI ones. Nothing here
//! retries: that is [`crate::initiator`]'s business, by [`crate::retry`].

use std::io;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::cdb::Cdb;
use crate::status::Completion;

/// The memory of one transfer.
#[derive(Debug)]
pub enum Data<'a> {
    /// Nothing moves.
    None,
    /// The device fills this, or its beginning.
    In(&'a mut [u8]),
    /// The device gets this.
    Out(&'a [u8]),
}

impl Data<'_> {
    /// How many bytes are to move.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::In(buffer) => buffer.len(),
            Self::Out(buffer) => buffer.len(),
        }
    }

    /// Whether nothing moves.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One I_T_L nexus: this host's way to a logical unit through one path.
pub trait Transport: Send + Sync {
    /// How messages name it, such as `/dev/sdc`.
    fn name(&self) -> &str;

    /// Sends one command and waits for its end. Several threads may send at once.
    ///
    /// # Errors
    /// Where the command did not get as far as a completion: no SCSI device (ENOTTY), not allowed (EPERM), gone (ENODEV,
    /// ENXIO), or more than the queue takes (EINVAL, EIO). Whatever the device, the adapter or the driver says is no
    /// error here but stands in the completion.
    fn send(&self, cdb: &Cdb, data: Data<'_>, timeout: Duration) -> io::Result<Completion>;

    /// LOGICAL UNIT RESET (SAM-5), of this unit alone: nothing wider is tried where that fails. It returns when all that
    /// was in flight has ended, which on a slow device is a matter of seconds.
    ///
    /// # Errors
    /// EOPNOTSUPP or the like where the path can't, EIO where the reset failed.
    fn reset_logical_unit(&self) -> io::Result<()>;

    /// The time since some fixed moment, by the clock that [`Transport::wait`] waits by.
    fn now(&self) -> Duration {
        STARTED.elapsed()
    }

    /// Waits before a command is sent again.
    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// The fixed moment of this process.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
