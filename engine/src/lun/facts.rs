//! What is known of one LUN, as values: its limits, its identity, who uses it, what is written on it.
//!
//! Pure: `probe`, `usage` and `signature` fill these in; `safety`, `sizing` and `topology` decide upon them.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::identity::Identity;
use crate::units::Bytes;

/// What a copy does with a LUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Data leaves it; it is opened for reading alone.
    Source,
    /// Data moves to it.
    Target,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// What keeps a second copier off a LUN. Both kinds bind the processes of this host alone: **neither stops another host**
/// that reaches the same storage. Only a reservation on the LUN itself does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LockKind {
    /// A block device opened with `O_EXCL`: the kernel refuses mounts, swap, device-mapper and other `O_EXCL` openers while
    /// it is held. An opener without `O_EXCL` is *not* refused; `usage` looks for those.
    #[serde(rename = "o_excl")]
    ExclusiveOpen,
    /// An exclusive flock(2) on a regular file. Advisory: only programs that ask for the lock are stopped.
    #[serde(rename = "flock")]
    FileLock,
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ExclusiveOpen => "o_excl",
            Self::FileLock => "flock",
        })
    }
}

/// Which kind of thing a LUN is to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A regular file.
    File,
    /// A loop device.
    Loop,
    /// A partition of any block device.
    Partition,
    /// A device-mapper device: LVM, crypt.
    DeviceMapper,
    /// A device-mapper device whose slaves are paths to one LUN, by multipath-tools' prefix (libmultipath/devmapper.h). What
    /// lies below other device-mapper devices is no path to the same LUN.
    Multipath,
    /// An NVMe namespace.
    Nvme,
    /// A SCSI disk.
    Scsi,
    /// Any other block device.
    OtherBlock,
}

impl DeviceKind {
    /// Whether it is a block device.
    pub fn is_block(self) -> bool {
        self != Self::File
    }
}

/// A device number: major, minor.
pub type DeviceNumber = (u32, u32);

/// What names a file for as long as it exists: the file system's device number and the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct FileId {
    /// Device number of the file system (`st_dev`).
    pub device: DeviceNumber,
    /// Inode number.
    pub inode: u64,
}

/// The facts of one LUN, as the kernel tells them of the opened descriptor.
#[derive(Clone, Debug, Serialize)]
pub struct LunInfo {
    /// The path as it was given.
    pub path: PathBuf,
    /// What kind of thing it is.
    pub device: DeviceKind,
    /// Its size. More than zero and a multiple of `logical_block`.
    pub capacity: Bytes,
    /// The unit of addressing and of direct I/O. A power of two, at least 512.
    pub logical_block: Bytes,
    /// The unit that the medium writes whole. A power of two, at least `logical_block`.
    pub physical_block: Bytes,
    /// The transfer size that the device asks for (`queue/optimal_io_size`; SBC-4, VPD B0h), where it asks for one.
    pub optimal_io: Option<Bytes>,
    /// The largest single request (`queue/max_sectors_kb`); the kernel splits larger ones.
    pub max_io: Option<Bytes>,
    /// Whether it turns; `None` for a file.
    pub rotational: Option<bool>,
    /// The driver of the host adapter that leads to it (`scsi_host/hostN/proc_name`), for a SCSI disk and what lies on one: of
    /// a multipath map its first path's.
    pub adapter: Option<String>,
    /// Whether a range can be made to read as zeroes without sending zeroes (files: punching a hole; block devices:
    /// `queue/write_zeroes_max_bytes`).
    pub can_punch: bool,
    /// Whether it takes a discard (`queue/discard_max_bytes`). What a discarded range reads as is another question.
    pub discard: bool,
    /// Whether it can't be written to.
    pub read_only: bool,
    /// Whether direct I/O really is direct (statx, `STATX_DIOALIGN`, since Linux 6.1). `None` where the kernel doesn't tell;
    /// a file system may then take `O_DIRECT` and buffer all the same.
    pub direct_io: Option<bool>,
    /// Rises with each new medium or attachment behind one device name (since Linux 5.15).
    pub diskseq: Option<u64>,
    /// Major and minor number of a block device.
    pub device_number: Option<DeviceNumber>,
    /// Which file it is, for a regular file.
    pub file_id: Option<FileId>,
    /// What names it for good.
    pub identity: Identity,
    /// For a regular file, and for the file behind a loop device, its time of last change in nanoseconds since 1970; 0 for
    /// everything else. Unequal stamps of one source mean that it was written to in between. Equal ones prove nothing.
    pub content_stamp: u64,
    /// Whether it is a regular file that has no data at all (`SEEK_DATA`), so that every byte reads as zero.
    pub is_all_hole: bool,
}

/// A file system that is mounted from a LUN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MountUse {
    /// Kernel name of what is mounted: the LUN itself, a partition of it, or the disk that it is a partition of.
    pub device: String,
    /// Where.
    pub at: PathBuf,
}

/// A process that has a LUN open, or mapped into its memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opener {
    /// Its process id.
    pub pid: u32,
    /// Its command name (`/proc/PID/comm`).
    pub command: String,
    /// Whether it can write through what it has open.
    pub writes: bool,
}

/// Which other processes have a LUN open, as far as could be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OpenElsewhere {
    /// The processes, without this one.
    pub by: Vec<Opener>,
    /// How many processes did not let their descriptors be looked at. Where this is not zero, an empty `by` means
    /// "unknown", not "nobody". Processes in another container's name space are not even counted.
    pub unseen: usize,
}

/// Who on this host uses a LUN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Mounted file systems: from the LUN, a partition of it, or the disk that it is a partition of.
    pub mounts: Vec<MountUse>,
    /// Swap areas on the same, or the path of a swap file.
    pub swaps: Vec<String>,
    /// Kernel devices stacked on the same: `dm-0 (vg-data)`, `md0`, `dm-2 on sda1`.
    pub holders: Vec<String>,
    /// Other loop devices over the same file or block device: `/dev/loop4`.
    pub loop_devices: Vec<String>,
    /// Other processes that have it open.
    pub open_elsewhere: OpenElsewhere,
}

impl Usage {
    /// Every use in words, for an error message; `None` where none was seen.
    pub fn in_words(&self) -> Option<String> {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.mounts.iter().map(|mount| format!("{} is mounted at {}", mount.device, mount.at.display())));
        words.extend(self.swaps.iter().map(|swap| format!("{swap} is swap space")));
        words.extend(self.holders.iter().map(|holder| format!("held by {holder}")));
        words.extend(self.loop_devices.iter().map(|name| format!("behind {name}")));
        words.extend(self.open_elsewhere.by.iter().map(|opener| {
            format!(
                "open{} in process {} ({})",
                if opener.writes { " for writing" } else { "" },
                opener.pid,
                opener.command
            )
        }));
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// What a signature stands for, in libblkid's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureUse {
    /// A file system.
    Filesystem,
    /// A member of a RAID or of a volume group.
    Raid,
    /// An encrypted volume.
    Crypto,
    /// A partition table.
    PartitionTable,
    /// Swap space and everything else.
    Other,
}

/// One magic string that libblkid found on a LUN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// libblkid's name: `ext4`, `xfs`, `gpt`, `dos`, `LVM2_member`, `crypto_LUKS`, `swap`.
    pub kind: String,
    /// What it stands for.
    pub usage: SignatureUse,
    /// Where the magic string lies.
    pub offset: Bytes,
    /// The label that belongs to it.
    pub label: Option<String>,
    /// The UUID that belongs to it.
    pub uuid: Option<String>,
}
