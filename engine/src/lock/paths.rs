//! Which nexuses lead to a LUN, and what stands in for SCSI where there is none.
//!
//! Acts: reads /sys, opens the paths below a multipath device. Sends nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lunferry_scsi::cdb::Cdb;
use lunferry_scsi::key::Key;
use lunferry_scsi::sg::SgDevice;
use lunferry_scsi::status::Completion;
use lunferry_scsi::transport::{Data, Transport};
use serde::Serialize;

use super::claim::{LaterPaths, Paths};
use super::emulated::Emulated;
use super::gate::Gate;
use super::node::{ThisNode, host_name};
use crate::lun::facts::{DeviceKind, DeviceNumber, LunInfo};
use crate::lun::sysfs;

/// What keeps other hosts off a LUN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reservation", rename_all = "snake_case")]
pub enum Means {
    /// SCSI persistent reservations: the storage itself refuses strangers' writes.
    Scsi,
    /// Their emulation in a file: only copiers that look there are kept off.
    Emulated {
        /// The file.
        file: PathBuf,
    },
    /// Nothing.
    None {
        /// Why.
        why: String,
    },
}

/// A LUN's paths, or why it has none that a reservation could go through.
pub struct Ways {
    /// What keeps others off.
    pub means: Means,
    /// How to get there; nothing for [`Means::None`].
    pub paths: Option<Paths>,
}

impl Ways {
    /// None, for this reason.
    pub fn none(why: impl Into<String>) -> Self {
        Self { means: Means::None { why: why.into() }, paths: None }
    }

    /// Of a LUN that this process has open as `file`, which holds the LUN's exclusive open.
    pub fn of(info: &LunInfo, file: &File, node: &ThisNode) -> Self {
        let device = info.path.display().to_string();
        match info.device {
            DeviceKind::Scsi => {
                match file.try_clone().and_then(|file| SgDevice::over(Arc::new(file), device.clone())) {
                    Ok(sg) => Self::scsi(device, vec![Box::new(sg)]),
                    Err(error) => Self::none(format!("it takes no SCSI commands ({error})")),
                }
            }
            DeviceKind::Multipath => multipath(info, device),
            DeviceKind::DeviceMapper => Self::none("it is a device-mapper device, and no multipath one"),
            DeviceKind::File => emulated(device, &info.path, "", None, node),
            DeviceKind::Loop => match behind_loop(info) {
                Ok((file, part)) => emulated(device, &file, &part, info.device_number, node),
                Err(why) => Self::none(why),
            },
            DeviceKind::Partition => Self::none("it is a partition, and a reservation binds whole LUNs"),
            DeviceKind::Nvme => Self::none("it is an NVMe namespace, and only SCSI reservations are known here"),
            DeviceKind::OtherBlock => Self::none("it is no SCSI device"),
        }
    }

    /// The same for looking alone: nothing needs to be open, and nothing is locked.
    pub fn to_look(info: &LunInfo, node: &ThisNode) -> Self {
        match File::open(&info.path) {
            Ok(file) => Self::of(info, &file, node),
            Err(error) => Self::none(format!("it can't be opened ({error})")),
        }
    }

    /// What stands in front of `key`'s writes where the storage refuses nobody's; nothing where it does.
    pub fn gate(&self, key: Key, node: &ThisNode) -> Option<Gate> {
        match &self.means {
            Means::Emulated { file } => Some(Gate::new(file.clone(), nexus(node), key)),
            Means::Scsi | Means::None { .. } => None,
        }
    }

    fn scsi(device: String, paths: Vec<Box<dyn Transport>>) -> Self {
        Self { means: Means::Scsi, paths: Some(Paths { device, paths, later: None }) }
    }
}

/// The emulation beside a file, where its directory lets itself be written to.
fn emulated(device: String, file: &Path, part: &str, own: Option<DeviceNumber>, node: &ThisNode) -> Ways {
    match Emulated::beside(file, part, own, nexus(node)) {
        Ok(emulated) => Ways {
            means: Means::Emulated { file: emulated.file().to_owned() },
            paths: Some(Paths { device, paths: vec![Box::new(emulated)], later: None }),
        },
        Err(error) => Ways::none(format!("no reservations can be kept beside {} ({error})", file.display())),
    }
}

/// What tells this node from others in an emulation: several may run on one machine, each with a loop device of its own.
fn nexus(node: &ThisNode) -> String {
    format!("{}/{}", host_name(), node.id.0)
}

/// The file behind a loop device, and where in it that begins: one file may be several LUNs, each with a lock of its own. By the
/// beginning alone, as identities are: two devices that begin at one place share bytes, wherever they end.
fn behind_loop(info: &LunInfo) -> Result<(PathBuf, String), String> {
    let number = info.device_number.ok_or("its device number is not known")?;
    let dir = sysfs::directory(number).map_err(|error| format!("/sys does not know it ({error})"))?;
    let file = sysfs::text(&dir, "loop/backing_file").ok_or("the file behind it is not known")?;
    let path = PathBuf::from(&file);
    let part = match sysfs::number::<u64>(&dir, "loop/offset").ok_or("/sys does not tell its loop/offset")? {
        0 => String::new(),
        offset => format!(".{offset}"),
    };
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok((path, part)),
        Ok(_) => Err(format!("it lies over {file}, which is no regular file")),
        Err(error) => Err(format!("the file behind it, {file}, is out of reach ({error})")),
    }
}

/// Every path below a dm-multipath device. The kernel's own passthrough would reach one of them at a time.
fn multipath(info: &LunInfo, device: String) -> Ways {
    let found = info.device_number.and_then(|number| sysfs::directory(number).ok());
    let Some(dir) = found else {
        return Ways::none("/sys does not know it");
    };
    let mut listed = Listed { map: dir, known: Vec::new() };
    let paths = listed.since_last();
    if paths.is_empty() {
        return Ways::none("it is a multipath device without paths");
    }
    Ways { means: Means::Scsi, paths: Some(Paths { device, paths, later: Some(Box::new(listed)) }) }
}

/// The paths of a multipath device, as /sys lists them.
struct Listed {
    /// The device's directory there.
    map: PathBuf,
    /// Each path with its diskseq, which tells a disk from another one that had the name before.
    known: Vec<(String, Option<String>)>,
}

impl LaterPaths for Listed {
    fn since_last(&mut self) -> Vec<Box<dyn Transport>> {
        let slaves = self.map.join("slaves");
        let with_diskseq = |slave: String| {
            let diskseq = sysfs::text(&slaves.join(&slave), "diskseq");
            (slave, diskseq)
        };
        let now: Vec<_> = sysfs::entries(&slaves).into_iter().map(with_diskseq).collect();
        let known = std::mem::replace(&mut self.known, now);
        let new = self.known.iter().filter(|path| !known.contains(path));
        new.map(|(slave, _)| Box::new(PathDevice::new(&self.map, slave)) as Box<dyn Transport>).collect()
    }
}

/// A path below a multipath device. One that can't be opened counts as down, with its error, and is opened when it answers.
struct PathDevice {
    /// What /sys says of it as a path of the map.
    listed: PathBuf,
    node: PathBuf,
    name: String,
    open: Mutex<Option<Arc<SgDevice>>>,
}

impl PathDevice {
    /// The path `slave` of the map with this directory in /sys.
    fn new(map: &Path, slave: &str) -> Self {
        let node = Path::new("/dev").join(slave.replace('!', "/"));
        let (listed, name) = (map.join("slaves").join(slave), node.display().to_string());
        Self { listed, node, name, open: Mutex::new(None) }
    }

    fn device(&self) -> io::Result<Arc<SgDevice>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = open.as_ref() {
            return Ok(Arc::clone(device));
        }
        let device = Arc::new(SgDevice::open(&self.node)?);
        let raw = device.file().metadata()?.rdev();
        is_still_listed(&self.listed, (rustix::fs::major(raw), rustix::fs::minor(raw)))?;
        *open = Some(Arc::clone(&device));
        Ok(device)
    }
}

/// A path may be opened long after it was listed, and its name be another disk's by then: nothing is registered on a disk that
/// is no path of the map now.
fn is_still_listed(listed: &Path, opened: DeviceNumber) -> io::Result<()> {
    let number = sysfs::text(listed, "dev").and_then(|text| sysfs::device_number(&text));
    if number == Some(opened) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the map does not list it as a path any more"))
}

impl Transport for PathDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, cdb: &Cdb, data: Data<'_>, timeout: Duration) -> io::Result<Completion> {
        self.device()?.send(cdb, data, timeout)
    }

    fn reset_logical_unit(&self) -> io::Result<()> {
        self.device()?.reset_logical_unit()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs;

    use super::*;

    #[test]
    fn paths_that_a_map_gets_later_are_new_once_and_again_when_another_disk_has_the_name() {
        let map = tempfile::tempdir().unwrap();
        let put = |slave: &str, diskseq: &str| {
            let dir = map.path().join("slaves").join(slave);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("diskseq"), diskseq).unwrap();
        };
        let mut listed = Listed { map: map.path().into(), known: Vec::new() };
        let mut new = || listed.since_last().iter().map(|path| path.name().to_owned()).collect::<Vec<_>>();
        put("sdb", "1\n");
        assert_eq!((new(), new()), (vec!["/dev/sdb".into()], vec![]));
        put("cciss!c0d1", "2\n");
        assert_eq!((new(), new()), (vec!["/dev/cciss/c0d1".into()], vec![]));
        put("sdb", "3\n");
        assert_eq!((new(), new()), (vec!["/dev/sdb".into()], vec![]));
        fs::remove_dir_all(map.path().join("slaves/sdb")).unwrap();
        assert_eq!(new(), Vec::<String>::new());
        put("sdb", "3\n");
        assert_eq!(new(), ["/dev/sdb"], "it was away");
    }

    #[test]
    fn a_disk_that_is_no_path_of_the_map_any_more_is_not_taken_for_one() {
        let map = tempfile::tempdir().unwrap();
        let listed = map.path().join("slaves/sdb");
        fs::create_dir_all(&listed).unwrap();
        fs::write(listed.join("dev"), "8:16\n").unwrap();
        is_still_listed(&listed, (8, 16)).unwrap();
        let another = is_still_listed(&listed, (8, 32)).unwrap_err();
        assert!(another.to_string().contains("does not list it"), "{another}");
        fs::remove_dir_all(&listed).unwrap();
        assert!(is_still_listed(&listed, (8, 16)).is_err(), "a map that lists nothing of that name");
    }
}
