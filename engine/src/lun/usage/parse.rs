//! Reads the texts of /proc that tell who uses what.
//!
//! Pure: text in, values out. A line that doesn't have its documented form is an error: in these files an overlooked user
//! is worse than a stop.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::lun::facts::{DeviceNumber, FileId};

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The device that the file system says it lies on; 0:N for one without a device of its own (btrfs, overlay).
    pub device: DeviceNumber,
    /// Where it is mounted.
    pub at: PathBuf,
    /// What was mounted: `/dev/sda1`, `tmpfs`.
    pub source: PathBuf,
}

/// One line of /proc/swaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The device or the file.
    pub path: PathBuf,
    /// Whether it is a swap file.
    pub is_file: bool,
}

/// A file that a process has mapped so that its writes reach the file (proc_pid_maps(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedMapping {
    /// Which file.
    pub file: FileId,
    /// Whether the process may write there now.
    pub writes: bool,
}

/// Undoes the octal escapes (`\040` for a blank) that the kernel writes in place of blanks, tabs, newlines and backslashes.
pub fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let Some(code) = octal_escape(rest) {
            bytes.push(code);
            rest = &rest[4..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes).into()
}

fn octal_escape(text: &[u8]) -> Option<u8> {
    let [b'\\', digits @ ..] = text else { return None };
    let digits = digits.get(..3)?;
    if !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return None;
    }
    let code = digits.iter().fold(0_u16, |code, digit| code * 8 + u16::from(digit - b'0'));
    u8::try_from(code).ok()
}

/// /proc/self/mountinfo.
///
/// # Errors
/// The first line that has not the documented form.
pub fn mountinfo(text: &[u8]) -> Result<Vec<Mount>, String> {
    lines(text).map(|line| mount(line).ok_or_else(|| lossy(line))).collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = words(line).collect();
    let device = device(fields.get(2)?)?;
    let at = unescape(fields.get(4)?);
    // Optional fields end with a lone dash; type and source follow.
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    // A file system may have been mounted with an empty source: nothing then stands between two blanks.
    let source = unescape(fields.get(dash + 2).copied().unwrap_or_default());
    Some(Mount { device, at, source })
}

/// /proc/swaps.
///
/// # Errors
/// The first line that has not the documented form.
pub fn swaps(text: &[u8]) -> Result<Vec<Swap>, String> {
    lines(text).skip(1).map(|line| swap(line).ok_or_else(|| lossy(line))).collect()
}

fn swap(line: &[u8]) -> Option<Swap> {
    let mut fields = words(line);
    let path = unescape(fields.next()?);
    let is_file = match fields.next()? {
        b"file" => true,
        b"partition" => false,
        _ => return None,
    };
    // The kernel marks a swap file without a name so.
    let path = match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(name) => OsString::from_vec(name.to_vec()).into(),
        None => path,
    };
    Some(Swap { path, is_file })
}

/// The shared mappings of files in /proc/PID/maps. A private mapping never writes to its file.
///
/// # Errors
/// The first line that has not the documented form.
pub fn shared_mappings(text: &[u8]) -> Result<Vec<SharedMapping>, String> {
    lines(text).filter_map(|line| mapping(line).ok_or_else(|| lossy(line)).transpose()).collect()
}

/// `None` for a malformed line, `Some(None)` for a mapping that is private or has no file.
fn mapping(line: &[u8]) -> Option<Option<SharedMapping>> {
    let mut fields = words(line);
    let permissions = fields.nth(1)?;
    let device = text(fields.nth(1)?)?;
    let inode = text(fields.next()?)?.parse().ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let [_, write, _, share] = permissions else { return None };
    let mapping = SharedMapping { file: FileId { device, inode }, writes: *write == b'w' };
    Some((*share == b's' && inode != 0).then_some(mapping))
}

/// The flags of an open descriptor, from /proc/PID/fdinfo/FD: whether it reads or writes at all, and whether it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `O_PATH`: it names the file, and can neither read nor write.
    NameOnly,
    /// For reading.
    Reads,
    /// For writing, or both.
    Writes,
}

/// The access that a descriptor's `flags:` line gives.
///
/// # Errors
/// A text without that line, or without an octal number in it.
pub fn fdinfo_access(text: &str) -> Result<Access, String> {
    const O_PATH: u32 = 0o10_000_000;
    let flags = text
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .ok_or_else(|| text.to_owned())?;
    Ok(match flags & 0o3 {
        _ if flags & O_PATH != 0 => Access::NameOnly,
        0 => Access::Reads,
        _ => Access::Writes,
    })
}

fn device(field: &[u8]) -> Option<DeviceNumber> {
    let (major, minor) = text(field)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn text(field: &[u8]) -> Option<&str> {
    str::from_utf8(field).ok()
}

fn lossy(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_and_without_optional_fields_and_with_escapes() {
        let text = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            57 27 7:0 / /mnt/a\\040b\\134c rw,relatime shared:44 master:2 - ext4 /dev/loop0 rw\n\
            58 27 0:44 /sub /srv rw,noatime shared:45 - btrfs /dev/sdb rw,ssd\n\
            59 27 0:45 / /odd rw -  tmpfs  rw\n";
        let mounts = mountinfo(text).unwrap();
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[1].device, (7, 0));
        assert_eq!(mounts[1].at, PathBuf::from("/mnt/a b\\c"));
        assert_eq!(mounts[2].source, PathBuf::from("/dev/sdb"));
        assert_eq!(
            mountinfo(b"22 27 0:21 / /proc rw,relatime proc"),
            Err("22 27 0:21 / /proc rw,relatime proc".into())
        );
        assert!(mountinfo(b"22 27 x / /proc rw - proc proc rw").is_err());
    }

    #[test]
    fn swaps_are_read_files_and_partitions() {
        let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /dev/loop0                              partition\t65532\t\t0\t\t-2\n\
            /var/swap\\040file\\040(deleted)                    file\t\t65532\t\t0\t\t-3\n";
        assert_eq!(
            swaps(text).unwrap(),
            [Swap { path: "/dev/loop0".into(), is_file: false }, Swap { path: "/var/swap file".into(), is_file: true }]
        );
        assert_eq!(swaps(b"Filename Type Size Used Priority\n"), Ok(vec![]));
        assert!(swaps(b"Filename\n/dev/sda what 1 2 3\n").is_err());
    }

    #[test]
    fn only_shared_mappings_of_files_count() {
        let text = b"5652c6959000-5652c695b000 r--p 00000000 fe:00 247030                     /usr/bin/cat\n\
            7f0000000000-7f0000001000 rw-s 00000000 fe:00 10182663                   /data/a b (deleted)\n\
            7f0000002000-7f0000003000 r--s 00001000 fe:01 12 /data/c\n\
            7f0000004000-7f0000005000 rw-s 00000000 00:00 0 \n\
            7ffd0f1e0000-7ffd0f201000 rw-p 00000000 00:00 0                          [stack]\n";
        let file = |device, inode| FileId { device, inode };
        assert_eq!(
            shared_mappings(text).unwrap(),
            [
                SharedMapping { file: file((254, 0), 10_182_663), writes: true },
                SharedMapping { file: file((254, 1), 12), writes: false },
            ]
        );
        assert!(shared_mappings(b"5652c6959000-5652c695b000 r--p 00000000 zz:00 1 x").is_err());
    }

    #[test]
    fn a_descriptor_s_access_comes_from_its_flags() {
        for (flags, access) in [
            ("0100000", Access::Reads),
            ("0100001", Access::Writes),
            ("02140002", Access::Writes),
            ("012000000", Access::NameOnly),
        ] {
            let text = format!("pos:\t1867\nflags:\t{flags}\nmnt_id:\t27\nino:\t10182658\n");
            assert_eq!(fdinfo_access(&text), Ok(access), "{flags}");
        }
        assert!(fdinfo_access("pos:\t0\n").is_err());
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(b"a\\9b\\04"), PathBuf::from("a\\9b\\04"));
        assert_eq!(unescape(b"\\777"), PathBuf::from("\\777"));
    }
}
