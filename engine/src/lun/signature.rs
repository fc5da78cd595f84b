//! What lies on a LUN: file systems, RAID and volume-group members, partition tables, as libblkid sees them.
//!
//! Acts: runs `wipefs --no-act` of util-linux, which only reads. Writes nothing.
//!
//! wipefs is libblkid with every signature and its offset; a binding to libblkid would need C headers at build time.
//! What must hold: a tool that is missing, fails, or prints something else is an error, never "no signatures".

pub mod parse;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::error::LunError;
pub use super::facts::{Signature, SignatureUse};
use super::sysfs;

/// Every signature on the LUN that is open as `file`, in the order of libblkid. `path` is for messages.
///
/// wipefs opens what `file` is through /proc, so a path that was replaced meanwhile doesn't lead it elsewhere, and it
/// opens without `O_EXCL` and without a lock, so that it works beside our own.
///
/// # Errors
/// [`LunError::ToolMissing`] and [`LunError::ToolFailed`].
pub fn read(file: &File, path: &Path) -> Result<Vec<Signature>, LunError> {
    let mut command = sysfs::tool("wipefs");
    command.args(["--json", "--no-act", "--output", "OFFSET,TYPE,USAGE,LABEL,UUID"]);
    command.arg(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    let by_hand = format!("wipefs --json --no-act {}", path.display());
    let json = sysfs::output(command, path, "wipefs", "util-linux", &by_hand)?;
    parse::wipefs(&json).map_err(|said| LunError::ToolFailed { path: path.into(), tool: "wipefs", said, by_hand })
}
