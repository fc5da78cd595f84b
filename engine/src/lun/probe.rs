//! Reads the facts of one LUN from its opened descriptor and from sysfs.
//!
//! Acts: opens for reading, seeks, reads /sys. Everything starts from the descriptor (fstat, statx, lseek), so that a path
//! which is replaced meanwhile changes nothing. Writes nothing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, SeekFrom, StatxFlags};

use super::error::LunError;
pub use super::facts::{DeviceKind, DeviceNumber, FileId, LunInfo};
use super::identity::{Identity, IdentityKind};
use super::sysfs::{self, SYSFS_SECTOR};
use crate::units::Bytes;

/// What a regular file's medium is taken to write whole: the block of nearly every file system.
const FILE_PHYSICAL: Bytes = Bytes(4096);

/// A UUID that the kernel makes at each boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Direct I/O's unit where the kernel doesn't tell one.
const SMALLEST_BLOCK: u64 = 512;

/// The facts of the LUN at `path`, without any lock, as for a look at it.
///
/// # Errors
/// Where it can't be opened, is neither file nor block device, or a fact is missing or senseless.
pub fn probe(path: &Path) -> Result<LunInfo, LunError> {
    check_kind(path)?;
    // O_NONBLOCK: should a FIFO stand there by now, the open must not hang.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|err| LunError::Open {
        path: path.into(),
        access: "reading",
        source: err.into(),
    })?;
    probe_file(&File::from(opened), path)
}

/// Refuses what is neither a regular file nor a block device, by name, before it is opened: to open a tape or a FIFO does
/// something. Whether it is a block device.
pub(crate) fn check_kind(path: &Path) -> Result<bool, LunError> {
    let stat = rustix::fs::stat(path).map_err(|err| LunError::Open {
        path: path.into(),
        access: "looking at it",
        source: err.into(),
    })?;
    is_block(FileType::from_raw_mode(stat.st_mode), path)
}

/// Whether it is a block device; an error where it is no LUN at all.
fn is_block(kind: FileType, path: &Path) -> Result<bool, LunError> {
    let kind = match kind {
        FileType::BlockDevice => return Ok(true),
        FileType::RegularFile => return Ok(false),
        FileType::Directory => "a directory",
        FileType::CharacterDevice => "a character device",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        _ => "neither a block device nor a regular file",
    };
    Err(LunError::WrongKind { path: path.into(), kind })
}

/// The facts of the LUN behind an opened descriptor. `path` is what the operator called it.
///
/// # Errors
/// Where it is neither file nor block device, or a fact is missing or senseless.
pub fn probe_file(file: &File, path: &Path) -> Result<LunInfo, LunError> {
    let stat = rustix::fs::fstat(file).map_err(fact(path, "its kind (fstat)"))?;
    let info = if is_block(FileType::from_raw_mode(stat.st_mode), path)? {
        let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        block_device(file, path, number)?
    } else {
        regular_file(file, path)?
    };
    check_sizes(&info)?;
    Ok(info)
}

/// An error of a kernel call that was to tell `field`.
fn fact<E: Into<io::Error>>(path: &Path, field: &'static str) -> impl Fn(E) -> LunError {
    move |err| LunError::Fact { path: path.into(), field, source: err.into() }
}

fn capacity(file: &File, path: &Path) -> Result<Bytes, LunError> {
    let end = rustix::fs::seek(file, SeekFrom::End(0)).map_err(fact(path, "its capacity (SEEK_END)"))?;
    rustix::fs::seek(file, SeekFrom::Start(0)).map_err(fact(path, "its capacity (SEEK_END)"))?;
    Ok(Bytes(end))
}

fn regular_file(file: &File, path: &Path) -> Result<LunInfo, LunError> {
    let metadata = file.metadata().map_err(fact(path, "its inode (fstat)"))?;
    let (direct_io, logical_block) = direct_io(file, path)?;
    let capacity = capacity(file, path)?;
    let canonical = canonical(file, path)?;
    let device = metadata.dev();
    Ok(LunInfo {
        path: path.into(),
        device: DeviceKind::File,
        capacity,
        logical_block,
        physical_block: FILE_PHYSICAL.max(logical_block),
        optimal_io: None,
        max_io: None,
        rotational: None,
        adapter: None,
        can_punch: true,
        discard: true,
        read_only: !is_writable(file),
        direct_io,
        diskseq: None,
        device_number: None,
        file_id: Some(FileId { device: (rustix::fs::major(device), rustix::fs::minor(device)), inode: metadata.ino() }),
        identity: file_identity(&canonical, metadata.ino(), 0),
        content_stamp: stamp(&metadata),
        is_all_hole: is_all_hole(file, path)?,
    })
}

/// Whether direct I/O is direct on this file, and its unit.
fn direct_io(file: &File, path: &Path) -> Result<(Option<bool>, Bytes), LunError> {
    let statx = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        .map_err(fact(path, "its direct I/O alignment (statx)"))?;
    if !StatxFlags::from_bits_retain(statx.stx_mask).contains(StatxFlags::DIOALIGN) {
        return Ok((None, Bytes(SMALLEST_BLOCK)));
    }
    let align = u64::from(statx.stx_dio_offset_align);
    Ok((Some(align != 0), Bytes(align.max(SMALLEST_BLOCK))))
}

/// Whether this process may write to what `file` is, whatever it was opened for.
fn is_writable(file: &File) -> bool {
    rustix::fs::access(descriptor_path(file), Access::WRITE_OK).is_ok()
}

/// The descriptor as a path, which leads to the very file that is open.
fn descriptor_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// The path of what is open, links resolved, as the kernel knows it.
fn canonical(file: &File, path: &Path) -> Result<PathBuf, LunError> {
    fs::read_link(descriptor_path(file)).map_err(fact(path, "its canonical path (/proc/self/fd)"))
}

/// Whether a regular file has no data at all. A file system that can't tell says that all is data.
fn is_all_hole(file: &File, path: &Path) -> Result<bool, LunError> {
    let found = rustix::fs::seek(file, SeekFrom::Data(0));
    rustix::fs::seek(file, SeekFrom::Start(0)).map_err(fact(path, "its holes (SEEK_DATA)"))?;
    match found {
        Ok(_) | Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(rustix::io::Errno::NXIO) => Ok(true),
        Err(err) => Err(fact(path, "its holes (SEEK_DATA)")(err)),
    }
}

/// The time of the last change in nanoseconds. Times before 1970 wrap, which still tells one from another.
fn stamp(metadata: &fs::Metadata) -> u64 {
    metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec()).cast_unsigned()
}

fn block_device(file: &File, path: &Path, number: DeviceNumber) -> Result<LunInfo, LunError> {
    let dir = sysfs::directory(number).map_err(fact(path, "its directory in /sys/dev/block"))?;
    // A partition has no queue of its own.
    let disk = sysfs::disk_of(&dir).unwrap_or_else(|| dir.clone());
    let positive = |attribute| sysfs::number::<u64>(&disk, attribute).filter(|value| *value > 0);
    Ok(LunInfo {
        path: path.into(),
        device: kind_of(&dir),
        capacity: capacity(file, path)?,
        logical_block: Bytes(sysfs::required(&disk, "queue/logical_block_size", path)?),
        physical_block: Bytes(sysfs::required(&disk, "queue/physical_block_size", path)?),
        optimal_io: positive("queue/optimal_io_size").map(Bytes),
        max_io: positive("queue/max_sectors_kb").map(Bytes::kib),
        rotational: sysfs::number::<u8>(&disk, "queue/rotational").map(|value| value != 0),
        adapter: adapter_of(&disk),
        can_punch: positive("queue/write_zeroes_max_bytes").is_some(),
        discard: positive("queue/discard_max_bytes").is_some(),
        read_only: sysfs::required(&dir, "ro", path)? != 0 || sysfs::required(&disk, "ro", path)? != 0,
        direct_io: Some(true),
        diskseq: sysfs::number(&disk, "diskseq"),
        device_number: Some(number),
        file_id: None,
        identity: identity_of(&dir).map_err(fact(path, "its identity"))?,
        content_stamp: backing_file(&disk).map_or(0, |(_, metadata)| stamp(&metadata)),
        is_all_hole: false,
    })
}

/// The driver of the host adapter behind a SCSI disk or a multipath map: the nearest `hostN` above the device names it.
fn adapter_of(disk: &Path) -> Option<String> {
    let path = match is_multipath(disk) {
        true => disk.join("slaves").join(sysfs::entries(&disk.join("slaves")).into_iter().next()?),
        false => disk.to_owned(),
    };
    let device = fs::canonicalize(path.join("device")).ok()?;
    device.ancestors().find_map(|dir| {
        let host = dir.file_name()?.to_str()?;
        sysfs::text(&dir.join("scsi_host").join(host), "proc_name")
    })
}

/// What kind of block device a sysfs directory is for.
fn kind_of(dir: &Path) -> DeviceKind {
    let name = sysfs::kernel_name(dir);
    if dir.join("partition").exists() {
        DeviceKind::Partition
    } else if is_multipath(dir) {
        DeviceKind::Multipath
    } else if dir.join("dm").exists() {
        DeviceKind::DeviceMapper
    } else if name.starts_with("loop") {
        DeviceKind::Loop
    } else if name.starts_with("nvme") {
        DeviceKind::Nvme
    } else if dir.join("device/scsi_level").exists() {
        DeviceKind::Scsi
    } else {
        DeviceKind::OtherBlock
    }
}

/// Whether a sysfs directory is that of a map of paths to one LUN.
fn is_multipath(dir: &Path) -> bool {
    sysfs::text(dir, "dm/uuid").is_some_and(|uuid| uuid.starts_with("mpath-"))
}

/// The identity of the block device with this sysfs directory. A partition has its disk's, with its number and its place
/// behind that: a partition that was deleted and made anew elsewhere is another LUN.
///
/// # Errors
/// Where sysfs doesn't tell a partition's place, or the kernel no boot id for a device that has nothing better.
pub(crate) fn identity_of(dir: &Path) -> io::Result<Identity> {
    let Some(disk) = sysfs::disk_of(dir) else { return disk_identity(dir) };
    let disk = disk_identity(&disk)?;
    let number = sysfs::text(dir, "partition").unwrap_or_else(|| sysfs::kernel_name(dir));
    let sectors = |attribute| sysfs::number::<u64>(dir, attribute).ok_or(io::ErrorKind::NotFound);
    let (start, size) = (sectors("start")?, sectors("size")?);
    Ok(Identity::new(disk.kind, format!("{disk}-part{number} start {start} sectors {size}")))
}

fn disk_identity(dir: &Path) -> io::Result<Identity> {
    // SCSI has it with the device below, NVMe with the namespace itself.
    let wwid = sysfs::text(dir, "device/wwid").or_else(|| sysfs::text(dir, "wwid"));
    if let Some(identity) = wwid.as_deref().and_then(wwid_identity) {
        return Ok(identity);
    }
    // virtio-blk has no wwid, only the serial that its host gave it (drivers/block/virtio_blk.c, serial_show).
    if let Some(serial) = sysfs::text(dir, "serial") {
        return Ok(Identity::new(IdentityKind::Serial, format!("serial.{serial}")));
    }
    if let Some(identity) = identity_of_paths(dir) {
        return Ok(identity);
    }
    if let Some(uuid) = sysfs::text(dir, "dm/uuid") {
        return Ok(Identity::new(IdentityKind::DmUuid, uuid));
    }
    if let Some((path, metadata)) = backing_file(dir) {
        let offset = sysfs::number(dir, "loop/offset").unwrap_or(0);
        return Ok(file_identity(&path, metadata.ino(), offset));
    }
    let boot = fs::read_to_string(BOOT_ID)?;
    Ok(kernel_name_identity(&sysfs::kernel_name(dir), &boot, sysfs::number(dir, "diskseq")))
}

/// A multipath map is the LUN that its paths lead to, and bears its name, so that a host with one plain path to it knows it
/// too. Where the paths don't agree it is nothing but a map.
fn identity_of_paths(dir: &Path) -> Option<Identity> {
    if !is_multipath(dir) {
        return None;
    }
    let slaves = sysfs::entries(&dir.join("slaves"));
    let mut all = slaves.iter().map(|slave| {
        let wwid = sysfs::text(&dir.join("slaves").join(slave), "device/wwid");
        wwid.as_deref().and_then(wwid_identity)
    });
    let first = all.next()??;
    all.all(|identity| identity.as_ref() == Some(&first)).then_some(first)
}

/// A device that nothing lasting names. Another one may bear its name after the next boot, and even before: the boot and
/// the sequence number that the kernel gives to each medium (diskseq, from Linux 5.15 on) tell them apart. Sixteen digits
/// of the boot id are enough for that, and leave the whole text readable in a record.
fn kernel_name_identity(name: &str, boot: &str, diskseq: Option<u64>) -> Identity {
    let boot: String = boot.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    let diskseq = diskseq.map_or_else(String::new, |diskseq| format!(" diskseq {diskseq}"));
    Identity::new(IdentityKind::KernelName, format!("{name} boot {boot}{diskseq}"))
}

/// What sysfs' `wwid` says. Its prefixes are those of drivers/scsi/scsi_lib.c (scsi_vpd_lun_id) and
/// drivers/nvme/host/sysfs.c (wwid_show). Blanks inside are padding of the vendor's.
fn wwid_identity(wwid: &str) -> Option<Identity> {
    let kinds = [
        ("naa.", IdentityKind::Naa),
        ("eui.", IdentityKind::Eui),
        ("uuid.", IdentityKind::NvmeUuid),
        ("t10.", IdentityKind::Serial),
        ("nvme.", IdentityKind::Serial),
    ];
    let (_, kind) = kinds.into_iter().find(|(prefix, _)| wwid.starts_with(prefix) && wwid.len() > prefix.len())?;
    Some(Identity::new(kind, wwid))
}

/// The file behind a loop device, if it still bears the name that the kernel gives for it.
fn backing_file(dir: &Path) -> Option<(PathBuf, fs::Metadata)> {
    let mut raw = fs::read(dir.join("loop/backing_file")).ok()?;
    if raw.last() == Some(&b'\n') {
        raw.pop();
    }
    let path = PathBuf::from(OsString::from_vec(raw));
    let metadata = fs::metadata(&path).ok()?;
    Some((path, metadata))
}

fn file_identity(path: &Path, inode: u64, offset: u64) -> Identity {
    let path = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
    let offset = if offset == 0 { String::new() } else { format!(" offset {offset}") };
    Identity::new(IdentityKind::File, format!("{path} inode {inode}{offset}"))
}

/// The sizes that everything later divides by.
fn check_sizes(info: &LunInfo) -> Result<(), LunError> {
    let unfit = |field, value: Bytes, mend: String| {
        Err(LunError::Unfit { path: info.path.clone(), field, value: format!("{} bytes", value.0), mend })
    };
    let name = info.path.display();
    for (field, value) in [("logical block size", info.logical_block), ("physical block size", info.physical_block)] {
        if !value.0.is_power_of_two() || value.0 < SMALLEST_BLOCK {
            return unfit(field, value, "a power of two from 512 on was expected; the driver is at fault".into());
        }
    }
    if info.physical_block < info.logical_block {
        return unfit("physical block size", info.physical_block, "it is below the logical block's size".into());
    }
    let block = info.logical_block.0;
    if info.capacity == Bytes::ZERO {
        let mend = if info.device.is_block() {
            "attach what belongs behind the device, or wait until it is ready".into()
        } else {
            format!("make it as large as it shall be: `truncate -s SIZE {name}`")
        };
        return unfit("capacity", info.capacity, mend);
    }
    if !info.capacity.is_multiple_of(info.logical_block) {
        let mend = format!(
            "it must be a multiple of the {block}-byte logical block; round it up with `truncate -s %{} {name}`",
            FILE_PHYSICAL.max(info.logical_block).0
        );
        return unfit("capacity", info.capacity, mend);
    }
    Ok(())
}

/// Where a partition lies on its disk: first byte and length.
pub(crate) fn partition_place(dir: &Path) -> Option<(Bytes, Bytes)> {
    let start = sysfs::number::<u64>(dir, "start")?.checked_mul(SYSFS_SECTOR)?;
    let size = sysfs::number::<u64>(dir, "size")?.checked_mul(SYSFS_SECTOR)?;
    Some((Bytes(start), Bytes(size)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_kernel_name_is_of_one_boot_and_one_medium() {
        let boot = "6f1c02aa-9d3e-4b57-8c11-0123456789ab\n";
        let identity = kernel_name_identity("vdb", boot, Some(7));
        assert_eq!(identity, Identity::new(IdentityKind::KernelName, "vdb boot 6f1c02aa9d3e4b57 diskseq 7"));
        assert_ne!(identity, kernel_name_identity("vdb", boot, Some(8)));
        assert_ne!(identity, kernel_name_identity("vdb", "7f1c02aa-9d3e-4b57-8c11-0123456789ab\n", Some(7)));
        assert_eq!(kernel_name_identity("vdb", boot, None).text, "vdb boot 6f1c02aa9d3e4b57");
    }

    #[test]
    fn a_disk_without_a_wwid_has_its_serial_and_a_partition_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, part) = (dir.path().join("vdb"), dir.path().join("vdb/vdb1"));
        fs::create_dir_all(&part).unwrap();
        let put = |path: &str, value: &str| fs::write(dir.path().join(path), value).unwrap();
        put("vdb/diskseq", "9\n");
        put("vdb/serial", "\n");
        let unnamed = identity_of(&disk).unwrap();
        assert!(unnamed.kind == IdentityKind::KernelName && unnamed.text.ends_with(" diskseq 9"), "{unnamed}");
        put("vdb/serial", "vol-4711\n");
        assert_eq!(identity_of(&disk).unwrap(), Identity::new(IdentityKind::Serial, "serial.vol-4711"));
        put("vdb/vdb1/partition", "1\n");
        assert!(identity_of(&part).is_err(), "a partition whose place nobody knows");
        put("vdb/vdb1/start", "2048\n");
        put("vdb/vdb1/size", "4096\n");
        assert_eq!(identity_of(&part).unwrap().text, "serial.vol-4711-part1 start 2048 sectors 4096");
    }

    #[test]
    fn a_multipath_map_is_the_lun_that_its_paths_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, value: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        };
        put("dm/uuid", "mpath-36001405a\n");
        let by_map = Identity::new(IdentityKind::DmUuid, "mpath-36001405a");
        assert_eq!(identity_of(dir.path()).unwrap(), by_map, "without paths");
        put("slaves/sda/device/wwid", "naa.6001405a\n");
        put("slaves/sdb/device/wwid", "naa.6001405a\n");
        assert_eq!(identity_of(dir.path()).unwrap(), Identity::new(IdentityKind::Naa, "naa.6001405a"));
        assert_eq!(kind_of(dir.path()), DeviceKind::Multipath);
        put("slaves/sdb/device/wwid", "naa.6001405b\n");
        assert_eq!(identity_of(dir.path()).unwrap(), by_map, "paths to two LUNs");
        put("slaves/sdb/device/wwid", "naa.6001405a\n");
        put("dm/uuid", "LVM-36001405a\n");
        assert_eq!(identity_of(dir.path()).unwrap().text, "LVM-36001405a");
        assert_eq!(kind_of(dir.path()), DeviceKind::DeviceMapper);
    }

    #[test]
    fn an_adapter_is_named_by_its_driver() {
        let dir = tempfile::tempdir().unwrap();
        let (host, disk, map) = (dir.path().join("host3"), dir.path().join("sdb"), dir.path().join("dm-0"));
        for made in ["scsi_host/host3", "target3:0:0/3:0:0:1"] {
            fs::create_dir_all(host.join(made)).unwrap();
        }
        fs::write(host.join("scsi_host/host3/proc_name"), "tcm_loopback\n").unwrap();
        fs::create_dir_all(&disk).unwrap();
        assert_eq!(adapter_of(&disk), None, "a device without an adapter");
        std::os::unix::fs::symlink(host.join("target3:0:0/3:0:0:1"), disk.join("device")).unwrap();
        assert_eq!(adapter_of(&disk).as_deref(), Some("tcm_loopback"));
        fs::create_dir_all(map.join("slaves")).unwrap();
        fs::create_dir_all(map.join("dm")).unwrap();
        fs::write(map.join("dm/uuid"), "mpath-naa\n").unwrap();
        assert_eq!(adapter_of(&map), None, "a map without paths");
        std::os::unix::fs::symlink(&disk, map.join("slaves/sdb")).unwrap();
        assert_eq!(adapter_of(&map).as_deref(), Some("tcm_loopback"));
    }

    #[test]
    fn a_wwid_tells_its_kind_by_its_prefix() {
        for (wwid, kind) in [
            ("naa.60014055f19e8d7e1f84b1c9d5c3a2b1", IdentityKind::Naa),
            ("eui.0025385b71b0a1f2", IdentityKind::Eui),
            ("uuid.9f6f5a8c-2f6d-4d4e-9f6d-1c2d3e4f5a6b", IdentityKind::NvmeUuid),
            ("t10.ATA     QEMU HARDDISK                           QM00001", IdentityKind::Serial),
            ("nvme.1b36-64656d6f-51454d55-00000001", IdentityKind::Serial),
        ] {
            assert_eq!(wwid_identity(wwid), Some(Identity::new(kind, wwid)), "{wwid}");
        }
        for wwid in ["naa.", "0QEMU", ""] {
            assert_eq!(wwid_identity(wwid), None, "{wwid}");
        }
    }
}
