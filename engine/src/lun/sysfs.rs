//! Small readers of sysfs for one block device, and the tools of util-linux that are asked where sysfs doesn't tell.
//!
//! Acts: reads /sys, runs `losetup` and `wipefs`. Writes nothing.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use serde::Deserialize;

use super::error::LunError;
use super::facts::{DeviceNumber, FileId};
use crate::units::{Bytes, Span};

/// The sector of sysfs' `size` and `start`, whatever the device's own block is (Documentation/ABI/stable/sysfs-block).
pub(crate) const SYSFS_SECTOR: u64 = 512;

/// The sysfs directory of a block device, links resolved.
pub(crate) fn directory(number: DeviceNumber) -> io::Result<PathBuf> {
    fs::canonicalize(format!("/sys/dev/block/{}:{}", number.0, number.1))
}

/// The kernel name of the device behind a sysfs directory: `sda1`, `dm-0`.
pub(crate) fn kernel_name(dir: &Path) -> String {
    // `!` stands for `/` in sysfs (cciss!c0d0).
    dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().replace('!', "/"))
}

/// A trimmed attribute; `None` where there is no such file, or nothing in it, or the driver doesn't answer.
pub(crate) fn text(dir: &Path, attribute: &str) -> Option<String> {
    let text = fs::read_to_string(dir.join(attribute)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A number; `None` where there is no such file or no number in it.
pub(crate) fn number<T: FromStr>(dir: &Path, attribute: &str) -> Option<T> {
    text(dir, attribute)?.parse().ok()
}

/// A number without which nothing can be decided.
pub(crate) fn required(dir: &Path, attribute: &'static str, path: &Path) -> Result<u64, LunError> {
    let fact = |source| LunError::Fact { path: path.into(), field: attribute, source };
    let text = fs::read_to_string(dir.join(attribute)).map_err(fact)?;
    text.trim().parse().map_err(|err| fact(io::Error::new(ErrorKind::InvalidData, err)))
}

/// Which file this is of.
pub(crate) fn file_id(metadata: &fs::Metadata) -> FileId {
    let device = metadata.dev();
    FileId { device: (rustix::fs::major(device), rustix::fs::minor(device)), inode: metadata.ino() }
}

/// `8:1` as a device number.
pub(crate) fn device_number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.trim().parse().ok()?, minor.trim().parse().ok()?))
}

/// The names of a directory's entries, sorted; none where there is no such directory.
pub(crate) fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort_unstable();
    names
}

/// The sysfs directories of a disk's partitions.
pub(crate) fn partitions(dir: &Path) -> Vec<PathBuf> {
    entries(dir).iter().map(|name| dir.join(name)).filter(|dir| dir.join("partition").exists()).collect()
}

/// The sysfs directory of the disk that a partition lies on; `None` for what is no partition.
pub(crate) fn disk_of(dir: &Path) -> Option<PathBuf> {
    dir.join("partition").exists().then(|| dir.parent().map(Path::to_path_buf)).flatten()
}

/// A tool of util-linux. It is looked for in the system's own directories too: a user's PATH often lacks sbin.
pub(crate) fn tool(name: &'static str) -> Command {
    let in_sbin = ["/usr/sbin", "/sbin"].iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    let mut command = Command::new(in_sbin.unwrap_or_else(|| name.into()));
    command.env("LC_ALL", "C");
    command
}

/// Runs a tool and gives what it printed.
pub(crate) fn output(
    mut command: Command,
    path: &Path,
    tool: &'static str,
    package: &'static str,
    by_hand: &str,
) -> Result<Vec<u8>, LunError> {
    let output =
        command.output().map_err(|source| LunError::ToolMissing { path: path.into(), tool, package, source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Err(LunError::ToolFailed { path: path.into(), tool, said, by_hand: by_hand.into() })
}

/// A loop device that has something behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoopDevice {
    /// `/dev/loop0`.
    pub name: String,
    /// Its own device number.
    pub number: DeviceNumber,
    /// The path of what is behind it, as the kernel names it now; ends with ` (deleted)` where the name is gone.
    pub back_file: String,
    /// Which file that is: the inode of a file or of a device node. `None` where losetup may not ask the device.
    pub back_id: Option<FileId>,
    /// Where it starts in there.
    pub offset: Bytes,
    /// How far it reaches at most; zero: to the end.
    pub limit: Bytes,
}

impl LoopDevice {
    /// The bytes of the file that it shows, as far as they reach.
    pub(crate) fn place(&self) -> Span {
        let end = if self.limit == Bytes::ZERO { u64::MAX } else { self.offset.0.saturating_add(self.limit.0) };
        Span::new(self.offset, Bytes(end))
    }
}

/// Every attached loop device. losetup is run only where there is one.
pub(crate) fn loop_devices(path: &Path) -> Result<Vec<LoopDevice>, LunError> {
    if !may_be_attached(Path::new("/sys/block")) {
        return Ok(Vec::new());
    }
    let mut command = tool("losetup");
    command.args(["--json", "--list", "--output", "NAME,MAJ:MIN,BACK-FILE,BACK-INO,BACK-MAJ:MIN,OFFSET,SIZELIMIT"]);
    let by_hand = "losetup --json --list";
    let json = output(command, path, "losetup", "mount", by_hand)?;
    parse_loop_devices(&json).map_err(|said| LunError::ToolFailed {
        path: path.into(),
        tool: "losetup",
        said,
        by_hand: by_hand.into(),
    })
}

/// Whether one of these block devices is an attached loop device, by the file that losetup itself goes by (util-linux,
/// `loopcxt_next_from_sysfs`). What can't be looked at may be one.
fn may_be_attached(block_devices: &Path) -> bool {
    let Ok(list) = fs::read_dir(block_devices) else { return true };
    let mut loops = list
        .filter(|entry| entry.as_ref().map_or(true, |entry| entry.file_name().as_encoded_bytes().starts_with(b"loop")));
    loops.any(|entry| entry.and_then(|entry| entry.path().join("loop/backing_file").try_exists()).unwrap_or(true))
}

/// What `losetup --json` prints. Its columns are numbers or strings, by version.
#[derive(Deserialize)]
struct LoopList {
    loopdevices: Vec<LoopRow>,
}

#[derive(Deserialize)]
struct LoopRow {
    name: String,
    #[serde(rename = "maj:min")]
    number: String,
    #[serde(rename = "back-file")]
    back_file: Option<String>,
    #[serde(rename = "back-ino")]
    back_ino: serde_json::Value,
    #[serde(rename = "back-maj:min")]
    back_number: Option<String>,
    offset: serde_json::Value,
    sizelimit: serde_json::Value,
}

fn parse_loop_devices(json: &[u8]) -> Result<Vec<LoopDevice>, String> {
    if json.trim_ascii().is_empty() {
        // Before util-linux 2.37 an empty list was printed as nothing.
        return Ok(Vec::new());
    }
    let list: LoopList = serde_json::from_slice(json).map_err(|err| format!("no list of loop devices: {err}"))?;
    // A row without a file is a device that was detached while losetup walked the list.
    list.loopdevices.into_iter().filter(|row| row.back_file.is_some()).map(loop_device).collect()
}

fn loop_device(row: LoopRow) -> Result<LoopDevice, String> {
    let number = device_number(&row.number).ok_or(format!("`{}` as the number of {}", row.number, row.name))?;
    let back_number = row.back_number.as_deref().and_then(device_number);
    let back_id = back_number.zip(json_u64(&row.back_ino)).map(|(device, inode)| FileId { device, inode });
    let field = |name, value: &serde_json::Value| match value {
        // Unknown: taken as the whole file, which can only make a check stricter.
        serde_json::Value::Null => Ok(Bytes::ZERO),
        _ => json_u64(value).map(Bytes).ok_or(format!("`{value}` as the {name} of {}", row.name)),
    };
    let (offset, limit) = (field("offset", &row.offset)?, field("sizelimit", &row.sizelimit)?);
    Ok(LoopDevice { name: row.name, number, back_file: row.back_file.unwrap_or_default(), back_id, offset, limit })
}

fn json_u64(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn losetup_is_read_with_numbers_and_with_strings() {
        let new = br#"{"loopdevices": [{"name": "/dev/loop1", "maj:min": "  7:1  ", "back-file": "/tmp/a b (deleted)",
            "back-ino": 10182663, "back-maj:min": "     254:0  ", "offset": 4096, "sizelimit": 33554432}]}"#;
        let old = br#"{"loopdevices": [{"name": "/dev/loop1", "maj:min": "7:1", "back-file": "/tmp/a b (deleted)",
            "back-ino": "10182663", "back-maj:min": "254:0", "offset": "4096", "sizelimit": "33554432"}]}"#;
        let expected = LoopDevice {
            name: "/dev/loop1".into(),
            number: (7, 1),
            back_file: "/tmp/a b (deleted)".into(),
            back_id: Some(FileId { device: (254, 0), inode: 10_182_663 }),
            offset: Bytes(4096),
            limit: Bytes::mib(32),
        };
        let expected = vec![expected];
        assert_eq!(parse_loop_devices(new).unwrap(), expected);
        assert_eq!(parse_loop_devices(old).unwrap(), expected);
        assert_eq!(parse_loop_devices(b"\n"), Ok(vec![]));
        assert!(parse_loop_devices(b"loop0: 0").is_err());
    }

    #[test]
    fn losetup_is_asked_where_a_loop_device_is_attached_or_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::create_dir_all(dir.path().join(name)).unwrap();
        make("sda");
        make("loop0");
        assert!(!may_be_attached(dir.path()), "a loop device that nothing is behind");
        make("loop7/loop");
        assert!(!may_be_attached(dir.path()));
        fs::write(dir.path().join("loop7/loop/backing_file"), "/tmp/a\n").unwrap();
        assert!(may_be_attached(dir.path()));
        assert!(may_be_attached(&dir.path().join("nowhere")), "what can't be looked at");
    }

    #[test]
    fn a_tool_that_is_missing_or_fails_is_an_error_and_never_an_empty_answer() {
        let run = |program| output(Command::new(program), Path::new("/dev/a"), "wipefs", "util-linux", "wipefs /dev/a");
        let missing = run("/nowhere/wipefs").unwrap_err();
        assert!(matches!(missing, LunError::ToolMissing { tool: "wipefs", .. }), "{missing}");
        let failed = run("false").unwrap_err();
        assert!(matches!(failed, LunError::ToolFailed { .. }), "{failed}");
        assert!(failed.to_string().contains("wipefs /dev/a"), "{failed}");
    }

    #[test]
    fn device_numbers_are_read() {
        assert_eq!(device_number(" 259:0\n"), Some((259, 0)));
        assert_eq!(device_number("259"), None);
    }
}
