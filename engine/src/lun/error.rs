//! What can go wrong while a LUN is probed, opened or looked at. Each error names the device, the field, the value and the
//! mend, and keeps the kernel's errno as its source.
//!
//! Pure: values in, words out.

use std::io;
use std::path::PathBuf;

use super::facts::Role;

/// Why a LUN could not be probed, opened or looked at.
#[derive(Debug, thiserror::Error)]
pub enum LunError {
    /// `open` or `stat` failed.
    #[error("{path}: can't open it for {access}: {source}; {}", open_mend(source), path = path.display())]
    Open {
        /// The path as given.
        path: PathBuf,
        /// `reading`, `writing` or `looking at it`.
        access: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Neither a regular file nor a block device.
    #[error("{path}: it is {kind}; give a block device or a regular file", path = path.display())]
    WrongKind {
        /// The path as given.
        path: PathBuf,
        /// `a directory`, `a character device`.
        kind: &'static str,
    },
    /// Something else stood behind the path when it was opened than when it was looked at.
    #[error("{path}: it was replaced while it was being opened; find out by what, then try again", path = path.display())]
    Replaced {
        /// The path as given.
        path: PathBuf,
    },
    /// A block device that the kernel gives to nobody else now (`EBUSY`). Nothing overrides this.
    #[error("{path}: the {role} is in use: {by}; end that use, then try again", path = path.display())]
    InUse {
        /// The path as given.
        path: PathBuf,
        /// What it was to be opened as.
        role: Role,
        /// Who uses it, as far as could be found out.
        by: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process holds the lock of a regular file.
    #[error(
        "{path}: another process holds the lock of this {role} file (flock); wait until it has finished, or see who it is \
         with `lslocks`", path = path.display()
    )]
    LockedElsewhere {
        /// The path as given.
        path: PathBuf,
        /// What it was to be opened as.
        role: Role,
        /// What the kernel said.
        source: io::Error,
    },
    /// The lock of a regular file could not be asked for: the file system has no locks.
    #[error(
        "{path}: can't lock this {role} file: {source}; put it on a file system with flock, or reach it through a loop \
         device (`losetup --find --show --direct-io=on FILE`)", path = path.display()
    )]
    NoLock {
        /// The path as given.
        path: PathBuf,
        /// What it was to be opened as.
        role: Role,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file system refuses O_DIRECT, or says that it would buffer it.
    #[error(
        "{path}: its file system has no direct I/O{}; put the file on one that has (ext4, xfs, btrfs), or reach it through \
         a loop device (`losetup --find --show FILE`)", said(source), path = path.display()
    )]
    NoDirectIo {
        /// The path as given.
        path: PathBuf,
        /// What the kernel said to the open; `None` where it opened, but statx says that it isn't direct.
        source: Option<io::Error>,
    },
    /// A target that can't be written to.
    #[error("{path}: the target is read-only: {source}; {mend}", path = path.display())]
    ReadOnly {
        /// The path as given.
        path: PathBuf,
        /// What to do about it.
        mend: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A fact could not be read.
    #[error("{path}: can't read {field}: {source}; without it nothing safe can be said of the device", path = path.display())]
    Fact {
        /// The device as given, or the file of /proc that was being read.
        path: PathBuf,
        /// Which fact: `capacity (SEEK_END)`, `queue/logical_block_size`.
        field: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A fact was read and makes no sense, or doesn't suit.
    #[error("{path}: {field} is {value}; {mend}", path = path.display())]
    Unfit {
        /// The device as given, or the file of /proc that was being read.
        path: PathBuf,
        /// Which fact.
        field: &'static str,
        /// What was read.
        value: String,
        /// What to do about it.
        mend: String,
    },
    /// A tool of util-linux could not be run.
    #[error("{path}: can't run `{tool}`: {source}; install util-linux (Debian: {package})", path = path.display())]
    ToolMissing {
        /// The device that it was to look at.
        path: PathBuf,
        /// `wipefs`, `losetup`.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A tool of util-linux failed, or gave something that isn't its documented output.
    #[error("{path}: `{tool}` said {said}; run it by hand to see why: `{by_hand}`", path = path.display())]
    ToolFailed {
        /// The device that it looked at.
        path: PathBuf,
        /// `wipefs`, `losetup`.
        tool: &'static str,
        /// What was wrong: its exit status and its error output, or what could not be parsed.
        said: String,
        /// The command line for the operator.
        by_hand: String,
    },
}

/// The mend for a failed open.
fn open_mend(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "check the path (`lsblk` lists the block devices)",
        io::ErrorKind::PermissionDenied => "run as root, or as a user who may open it",
        _ => "see the kernel's log (`dmesg`) for why",
    }
}

/// `: Invalid argument`, or what statx says.
fn said(source: &Option<io::Error>) -> String {
    source.as_ref().map_or_else(|| " for this file (statx)".into(), |source| format!(" ({source})"))
}
