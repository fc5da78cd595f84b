//! Who on this host uses a LUN: mounts, swap, stacked devices, loop devices, other processes.
//!
//! Acts: reads /proc and /sys, runs `losetup --list`. Writes nothing.
//!
//! What must hold: what can't be read is an error or is counted as unseen; it never passes for "nobody". Other hosts are
//! not seen at all, and neither are processes and mounts of other containers, except through `O_EXCL` on a block device.

pub mod parse;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::LunError;
use super::facts::{DeviceNumber, FileId, LunInfo};
pub use super::facts::{MountUse, OpenElsewhere, Opener, Usage};
use super::probe;
use super::sysfs::{self, LoopDevice};

/// Every use of the LUN on this host, but for what this process itself does with it. For a disk, what uses its partitions
/// counts too; for a partition, what uses the whole disk; for a loop device, what uses the file or device behind it.
///
/// # Errors
/// Where /proc or /sys can't be read or isn't what it is documented to be, or losetup can't be run.
pub fn read(info: &LunInfo) -> Result<Usage, LunError> {
    let [usage] = read_each([info])?;
    Ok(usage)
}

/// The same of several LUNs, by one look at the loop devices and one at the processes.
///
/// # Errors
/// As [`read`].
pub fn read_each<const N: usize>(infos: [&LunInfo; N]) -> Result<[Usage; N], LunError> {
    let Some(first) = infos.first() else { return Ok(std::array::from_fn(|_| Usage::default())) };
    let loops = sysfs::loop_devices(&first.path)?;
    let subjects = infos.iter().map(|info| Subject::of(info, &loops)).collect::<Result<Vec<_>, _>>()?;
    let mut usages = std::array::from_fn(|_| Usage::default());
    for ((usage, me), elsewhere) in usages.iter_mut().zip(&subjects).zip(open_elsewhere(&subjects)?) {
        *usage = Usage {
            mounts: mounts(me)?,
            swaps: swaps(me)?,
            holders: me.devices.iter().flat_map(holders).collect(),
            loop_devices: loop_devices(me, &loops),
            open_elsewhere: elsewhere,
        };
    }
    Ok(usages)
}

/// Of these loop devices those that are not this LUN by another loop device, or that are mounted, swap, or below another
/// device. One that shows the beginning alone has been cut off meanwhile.
///
/// # Errors
/// As [`read`], and where one can't be looked at.
pub fn without_siblings(info: &LunInfo, devices: Vec<String>) -> Result<Vec<String>, LunError> {
    let loops = sysfs::loop_devices(&info.path)?;
    let mut others = Vec::new();
    for name in devices {
        let Some(device) = loops.iter().find(|device| device.name == name) else { continue };
        if !is_idle_sibling(info, device, &loops)? {
            others.push(name);
        }
    }
    Ok(others)
}

fn is_idle_sibling(info: &LunInfo, device: &LoopDevice, loops: &[LoopDevice]) -> Result<bool, LunError> {
    let path = PathBuf::from(&device.name);
    let fact = |source| LunError::Fact { path: path.clone(), field: "what it shows, in /sys/dev/block", source };
    let dir = sysfs::directory(device.number).map_err(fact)?;
    let size = sysfs::required(&dir, "size", &path)?.saturating_mul(sysfs::SYSFS_SECTOR);
    let identity = probe::identity_of(&dir).map_err(fact)?;
    let me = Subject::of(&LunInfo { path: path.clone(), device_number: Some(device.number), ..info.clone() }, loops)?;
    let is_idle =
        mounts(&me)?.is_empty() && swaps(&me)?.is_empty() && me.devices.iter().flat_map(holders).next().is_none();
    Ok(is_idle && identity == info.identity && size <= info.capacity.0)
}

/// A block device that shares the LUN's bytes: itself, a partition of it, its disk, or what lies behind a loop device.
struct Device {
    number: DeviceNumber,
    name: String,
    dir: PathBuf,
}

/// What to look for.
struct Subject {
    /// The LUN itself comes first.
    devices: Vec<Device>,
    /// The LUN itself, where it is a file.
    file: Option<FileId>,
    /// The file behind the LUN, where it is a loop device.
    backing: Option<FileId>,
}

/// One thing that a path or a descriptor leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thing {
    Block(DeviceNumber),
    File(FileId),
    Other,
}

impl Subject {
    fn of(info: &LunInfo, loops: &[LoopDevice]) -> Result<Self, LunError> {
        let mut me = Self { devices: Vec::new(), file: info.file_id, backing: None };
        let mut next = info.device_number;
        // A loop device over a loop device over a disk: each of them counts.
        while let Some(number) = next.take().filter(|number| !me.is(Thing::Block(*number))) {
            me.add(number).map_err(|source| LunError::Fact {
                path: info.path.clone(),
                field: "its directory in /sys/dev/block",
                source,
            })?;
            let own = loops.iter().find(|device| me.is(Thing::Block(device.number)) && !me.is(behind(device)));
            match own.map(behind) {
                Some(Thing::Block(number)) => next = Some(number),
                Some(Thing::File(id)) => me.backing = Some(id),
                Some(Thing::Other) | None => {}
            }
        }
        Ok(me)
    }

    /// Adds a device, its partitions and its disk.
    fn add(&mut self, number: DeviceNumber) -> io::Result<()> {
        let dir = sysfs::directory(number)?;
        let mut dirs = vec![dir.clone()];
        dirs.extend(sysfs::partitions(&dir));
        dirs.extend(sysfs::disk_of(&dir));
        self.devices.extend(dirs.into_iter().filter_map(Device::of));
        Ok(())
    }

    /// The kernel name of the device that `thing` is, or the empty name for the file itself; `None` where it is another.
    fn name_of(&self, thing: Thing) -> Option<&str> {
        match thing {
            Thing::Block(number) => {
                self.devices.iter().find(|device| device.number == number).map(|device| device.name.as_str())
            }
            Thing::File(id) => [self.file, self.backing].contains(&Some(id)).then_some(""),
            Thing::Other => None,
        }
    }

    fn is(&self, thing: Thing) -> bool {
        self.name_of(thing).is_some()
    }
}

impl Device {
    /// `None` for a partition that went away meanwhile.
    fn of(dir: PathBuf) -> Option<Self> {
        let number = sysfs::device_number(&sysfs::text(&dir, "dev")?)?;
        Some(Self { number, name: sysfs::kernel_name(&dir), dir })
    }
}

/// What a path leads to, links followed.
fn thing_at(path: &Path) -> io::Result<Thing> {
    let metadata = fs::metadata(path)?;
    let number = |raw| (rustix::fs::major(raw), rustix::fs::minor(raw));
    Ok(if metadata.file_type().is_block_device() {
        Thing::Block(number(metadata.rdev()))
    } else if metadata.is_file() {
        Thing::File(sysfs::file_id(&metadata))
    } else {
        Thing::Other
    })
}

/// What lies behind a loop device. By its path it may be a block device; a file is known by its inode.
fn behind(device: &LoopDevice) -> Thing {
    match thing_at(Path::new(&device.back_file)) {
        Ok(Thing::Block(number)) => Thing::Block(number),
        found => device.back_id.map_or_else(|| found.unwrap_or(Thing::Other), Thing::File),
    }
}

/// A file of /proc, parsed.
fn parsed<T>(path: &str, parse: impl Fn(&[u8]) -> Result<Vec<T>, String>) -> Result<Vec<T>, LunError> {
    let text =
        fs::read(path).map_err(|source| LunError::Fact { path: path.into(), field: "the users of devices", source })?;
    parse(&text).map_err(|line| LunError::Unfit {
        path: path.into(),
        field: "a line",
        value: format!("`{line}`"),
        mend: "it has not the form that proc(5) gives; report this kernel".into(),
    })
}

fn mounts(me: &Subject) -> Result<Vec<MountUse>, LunError> {
    let mut found = Vec::new();
    for mount in parsed("/proc/self/mountinfo", parse::mountinfo)? {
        // A file system over several devices (btrfs) has a number of its own; its source names one of them.
        let by_source = || mount.source.is_absolute().then(|| thing_at(&mount.source).ok()).flatten();
        let device = me.name_of(Thing::Block(mount.device)).or_else(|| me.name_of(by_source()?));
        found.extend(device.map(|device| MountUse { device: device.to_owned(), at: mount.at.clone() }));
    }
    Ok(found)
}

fn swaps(me: &Subject) -> Result<Vec<String>, LunError> {
    let swaps = parsed("/proc/swaps", parse::swaps)?;
    let is_mine = |swap: &parse::Swap| thing_at(&swap.path).is_ok_and(|thing| me.is(thing));
    Ok(swaps.into_iter().filter(is_mine).map(|swap| swap.path.display().to_string()).collect())
}

/// The kernel devices that are stacked on one device.
fn holders(device: &Device) -> Vec<String> {
    sysfs::entries(&device.dir.join("holders"))
        .into_iter()
        .map(|holder| {
            let label = sysfs::text(&device.dir, &format!("holders/{holder}/dm/name"));
            let label = label.map_or_else(String::new, |label| format!(" ({label})"));
            format!("{holder}{label} on {}", device.name)
        })
        .collect()
}

/// The loop devices over the same bytes. For a loop device: the other ones over its file, where they overlap it.
fn loop_devices(me: &Subject, loops: &[LoopDevice]) -> Vec<String> {
    let own = loops.iter().find(|device| me.is(Thing::Block(device.number)));
    let shows_me = |device: &LoopDevice| match behind(device) {
        Thing::File(id) => me.file == Some(id) || own.is_some_and(|own| share_bytes(own, device)),
        thing => me.is(thing),
    };
    let others = loops.iter().filter(|device| !me.is(Thing::Block(device.number)));
    others.filter(|device| shows_me(device)).map(|device| device.name.clone()).collect()
}

/// Whether two loop devices lie over common bytes of one file.
fn share_bytes(one: &LoopDevice, other: &LoopDevice) -> bool {
    behind(one) == behind(other) && one.place().overlaps(other.place())
}

/// Looks through the descriptors and the mappings of every process of this host: who has which of these open.
fn open_elsewhere(all: &[Subject]) -> Result<Vec<OpenElsewhere>, LunError> {
    let list = fs::read_dir("/proc").map_err(|source| LunError::Fact {
        path: "/proc".into(),
        field: "the list of processes",
        source,
    })?;
    let mut found = vec![OpenElsewhere::default(); all.len()];
    for pid in list.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if pid == std::process::id() {
            continue;
        }
        match access_by(Path::new(&format!("/proc/{pid}")), all) {
            Ok(accesses) => {
                for (found, access) in found.iter_mut().zip(accesses) {
                    found.by.extend(access.map(|access| opener(pid, access)));
                }
            }
            Err(err) if is_gone(&err) => {}
            Err(_) => found.iter_mut().for_each(|found| found.unseen += 1),
        }
    }
    found.iter_mut().for_each(|found| found.by.sort_unstable_by_key(|opener| opener.pid));
    Ok(found)
}

fn opener(pid: u32, access: parse::Access) -> Opener {
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Opener { pid, command: command.trim().to_owned(), writes: access == parse::Access::Writes }
}

/// Whether a process ended, or closed a descriptor, while it was looked at.
fn is_gone(err: &io::Error) -> bool {
    matches!(rustix::io::Errno::from_io_error(err), Some(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH))
}

/// The strongest access that one process has to each of these.
fn access_by(process: &Path, all: &[Subject]) -> io::Result<Vec<Option<parse::Access>>> {
    let mut strongest = vec![None; all.len()];
    let mut note = |thing: Thing, access: parse::Access| {
        for (strongest, _) in strongest.iter_mut().zip(all).filter(|(_, me)| me.is(thing)) {
            *strongest = stronger(*strongest, access);
        }
    };
    for descriptor in fs::read_dir(process.join("fd"))? {
        let descriptor = descriptor?;
        // What can't be looked up (a socket of a dead name space, a file of a dead server) is no local LUN.
        let Some(thing) = thing_at(&descriptor.path()).ok().filter(|thing| all.iter().any(|me| me.is(*thing))) else {
            continue;
        };
        match fs::read_to_string(process.join("fdinfo").join(descriptor.file_name())) {
            Ok(info) => note(thing, parse::fdinfo_access(&info).map_err(io::Error::other)?),
            Err(err) if is_gone(&err) => {}
            Err(err) => return Err(err),
        }
    }
    if all.iter().any(|me| me.file.is_some() || me.backing.is_some()) {
        let maps = parse::shared_mappings(&fs::read(process.join("maps"))?).map_err(io::Error::other)?;
        for mapping in maps {
            let access = if mapping.writes { parse::Access::Writes } else { parse::Access::Reads };
            note(Thing::File(mapping.file), access);
        }
    }
    Ok(strongest)
}

/// The stronger of two accesses; one by name alone is none.
fn stronger(one: Option<parse::Access>, other: parse::Access) -> Option<parse::Access> {
    match (one, other) {
        (one, parse::Access::NameOnly) => one,
        (Some(parse::Access::Writes), _) => one,
        (_, other) => Some(other),
    }
}
