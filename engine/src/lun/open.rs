//! Opens a LUN for a copy: direct, exclusively locked, and probed on the very descriptor that the copy will use.
//!
//! Acts: opens, locks. Writes nothing.
//!
//! What must hold:
//! - The facts are those of the opened descriptor, not of the path.
//! - No silent second best: no lock, or no direct I/O, is an error.
//! - The lock lives as long as the [`OpenLun`]: the kernel gives it up when the last descriptor of this open is closed.
//! - A copier that was killed keeps its locks until the kernel has finished what it had in flight, some time after the
//!   process is gone. An open waits for that, so that a resume never starts beside a write that may still land.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::error::LunError;
pub use super::facts::{LockKind, LunInfo, Role};
use super::{probe, usage};

/// How long an open waits at most for a lock whose holder can't be seen any more. Far longer than a healthy device needs
/// for what is in flight; a device that hangs longer is the operator's matter.
const LINGER: Duration = Duration::from_secs(30);

/// A wait longer than this is told of.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A LUN that is open and locked.
#[derive(Debug)]
pub struct OpenLun {
    /// Its facts, probed on the open descriptor.
    pub info: LunInfo,
    /// How it is locked against this host's other processes. No kind of lock stops another host.
    pub lock: LockKind,
    file: File,
}

impl OpenLun {
    /// Opens `path` with `O_DIRECT`: a source for reading, a target for reading and writing. A block device is opened with
    /// `O_EXCL`, a regular file is locked with flock(2).
    ///
    /// Source and target by different paths of one file end in [`LunError::LockedElsewhere`] here, since the second open
    /// meets the first one's lock: ask `topology::same_storage` before the second one is opened.
    ///
    /// # Errors
    /// [`LunError::InUse`] where the kernel gives the device to nobody else, [`LunError::LockedElsewhere`] where another
    /// process holds the file's lock, [`LunError::ReadOnly`], [`LunError::NoDirectIo`], and those of `probe`.
    pub fn open(path: &Path, role: Role) -> Result<Self, LunError> {
        let is_block = probe::check_kind(path)?;
        let (file, lock) = open_locked(path, role, is_block)?;
        let info = probe::probe_file(&file, path)?;
        if info.device.is_block() != is_block {
            return Err(LunError::Replaced { path: path.into() });
        }
        if info.direct_io == Some(false) {
            return Err(LunError::NoDirectIo { path: path.into(), source: None });
        }
        // The kernel opens a read-only block device for writing without a word; only the first write fails.
        if role == Role::Target && is_block && info.read_only {
            return Err(read_only(path, Errno::ROFS.into()));
        }
        Ok(Self { info, lock, file })
    }

    /// The open file. Its descriptor bears the lock: a duplicate of it keeps the lock alive.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Opens and locks. Waits for a lock that nobody who can be seen has: see this file's head.
fn open_locked(path: &Path, role: Role, is_block: bool) -> Result<(File, LockKind), LunError> {
    let started = Instant::now();
    let mut told = false;
    loop {
        let error = match try_open_locked(path, role, is_block) {
            Err(error @ (LunError::InUse { .. } | LunError::LockedElsewhere { .. })) => error,
            done => return done,
        };
        let waited = started.elapsed();
        if waited > LINGER || is_used(path) {
            return Err(error);
        }
        if waited > TELL_AFTER && !told {
            let device = path.display();
            tracing::warn!(%device, "locked by nobody who can be seen; waiting for what a killed process had in flight");
            told = true;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn try_open_locked(path: &Path, role: Role, is_block: bool) -> Result<(File, LockKind), LunError> {
    let file = open_direct(path, role, is_block)?;
    let lock = if is_block { LockKind::ExclusiveOpen } else { lock_file(&file, path, role)? };
    Ok((file, lock))
}

/// Whether anybody can be seen who uses it, or it can't be looked at.
fn is_used(path: &Path) -> bool {
    is_open_here(path)
        || probe::probe(path).and_then(|info| usage::read(&info)).map_or(true, |usage| usage.in_words().is_some())
}

/// Whether this process has it open, which `usage` leaves out: no wait would end that.
fn is_open_here(path: &Path) -> bool {
    let Ok(lun) = fs::metadata(path) else {
        return false;
    };
    let is_lun = |other: Metadata| match lun.file_type().is_block_device() {
        true => other.file_type().is_block_device() && other.rdev() == lun.rdev(),
        false => (other.dev(), other.ino()) == (lun.dev(), lun.ino()),
    };
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    descriptors.filter_map(|descriptor| fs::metadata(descriptor.path()).ok()).any(is_lun)
}

fn open_direct(path: &Path, role: Role, is_block: bool) -> Result<File, LunError> {
    let (access, words) = match role {
        Role::Source => (OFlags::RDONLY, "reading"),
        Role::Target => (OFlags::RDWR, "writing"),
    };
    // O_EXCL without O_CREAT means something for block devices alone. No O_NONBLOCK: io_uring would then answer EAGAIN
    // instead of waiting.
    let exclusive = if is_block { OFlags::EXCL } else { OFlags::empty() };
    let flags = access | exclusive | OFlags::DIRECT | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => Ok(file.into()),
        Err(err) => Err(open_error(path, role, words, err)),
    }
}

/// What a failed open means.
fn open_error(path: &Path, role: Role, access: &'static str, err: Errno) -> LunError {
    let source = io::Error::from(err);
    match err {
        // ETXTBSY: a program that runs from this file.
        Errno::BUSY | Errno::TXTBSY => LunError::InUse { path: path.into(), role, by: users(path), source },
        Errno::INVAL => LunError::NoDirectIo { path: path.into(), source: Some(source) },
        Errno::ROFS => {
            let mend = "its file system is mounted read-only; remount it writable, or choose another target";
            LunError::ReadOnly { path: path.into(), mend, source }
        }
        Errno::ACCESS | Errno::PERM if role == Role::Target && is_read_only(path) => read_only(path, source),
        _ => LunError::Open { path: path.into(), access, source },
    }
}

fn read_only(path: &Path, source: io::Error) -> LunError {
    let mend = "make it writable (`blockdev --setrw DEV`, `chmod u+w FILE`), or choose another target";
    LunError::ReadOnly { path: path.into(), mend, source }
}

/// Whether a look without a lock finds it read-only.
fn is_read_only(path: &Path) -> bool {
    probe::probe(path).is_ok_and(|info| info.read_only)
}

/// Who uses a busy device, in words.
fn users(path: &Path) -> String {
    match probe::probe(path).and_then(|info| usage::read(&info)) {
        Ok(usage) => usage
            .in_words()
            .unwrap_or_else(|| "the kernel says busy, but neither mounts, swap, holders nor processes show it".into()),
        Err(err) => format!("by whom could not be found out ({err})"),
    }
}

fn lock_file(file: &File, path: &Path, role: Role) -> Result<LockKind, LunError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(LockKind::FileLock),
        Err(err @ Errno::WOULDBLOCK) => Err(LunError::LockedElsewhere { path: path.into(), role, source: err.into() }),
        Err(err) => Err(LunError::NoLock { path: path.into(), role, source: err.into() }),
    }
}
