//! Which nexuses lead to a LUN, and what stands in for SCSI where there is none.
//!
//! Acts: reads /sys, opens the paths below a multipath device. Sends nothing.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lunferry_scsi::cdb::Cdb;
use lunferry_scsi::sg::SgDevice;
use lunferry_scsi::status::Completion;
use lunferry_scsi::transport::{Data, Transport};
use serde::Serialize;

use super::claim::Paths;
use super::emulated::Emulated;
use super::node::{ThisNode, host_name};
use crate::lun::facts::{DeviceKind, LunInfo};
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
            DeviceKind::File => emulated(device, &info.path, "", node),
            DeviceKind::Loop => match behind_loop(info) {
                Ok((file, part)) => emulated(device, &file, &part, node),
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

    fn scsi(device: String, paths: Vec<Box<dyn Transport>>) -> Self {
        Self { means: Means::Scsi, paths: Some(Paths { device, paths }) }
    }
}

/// The emulation beside a file, where its directory lets itself be written to.
fn emulated(device: String, file: &Path, part: &str, node: &ThisNode) -> Ways {
    let nexus = format!("{}/{}", host_name(), node.id.0);
    match Emulated::beside(file, part, nexus) {
        Ok(emulated) => Ways {
            means: Means::Emulated { file: emulated.file().to_owned() },
            paths: Some(Paths { device, paths: vec![Box::new(emulated)] }),
        },
        Err(error) => Ways::none(format!("no reservations can be kept beside {} ({error})", file.display())),
    }
}

/// The file behind a loop device, and which part of it that shows: one file may be several LUNs, each with a lock of its own.
fn behind_loop(info: &LunInfo) -> Result<(PathBuf, String), String> {
    let number = info.device_number.ok_or("its device number is not known")?;
    let dir = sysfs::directory(number).map_err(|error| format!("/sys does not know it ({error})"))?;
    let file = sysfs::text(&dir, "loop/backing_file").ok_or("the file behind it is not known")?;
    let path = PathBuf::from(&file);
    let place = |field| sysfs::number::<u64>(&dir, field).ok_or(format!("/sys does not tell its {field}"));
    let part = match (place("loop/offset")?, place("loop/sizelimit")?) {
        (0, 0) => String::new(),
        (offset, limit) => format!(".{offset}+{limit}"),
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
    let mut paths: Vec<Box<dyn Transport>> = Vec::new();
    for slave in sysfs::entries(&dir.join("slaves")) {
        let node = Path::new("/dev").join(slave.replace('!', "/"));
        paths.push(Box::new(PathDevice::new(node)));
    }
    if paths.is_empty() {
        return Ways::none("it is a multipath device without paths");
    }
    Ways::scsi(device, paths)
}

/// A path below a multipath device. One that can't be opened counts as down, with its error, and is opened when it answers.
struct PathDevice {
    node: PathBuf,
    name: String,
    open: Mutex<Option<Arc<SgDevice>>>,
}

impl PathDevice {
    fn new(node: PathBuf) -> Self {
        Self { name: node.display().to_string(), node, open: Mutex::new(None) }
    }

    fn device(&self) -> io::Result<Arc<SgDevice>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = open.as_ref() {
            return Ok(Arc::clone(device));
        }
        let device = Arc::new(SgDevice::open(&self.node)?);
        *open = Some(Arc::clone(&device));
        Ok(device)
    }
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
