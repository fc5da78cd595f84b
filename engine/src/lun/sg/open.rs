//! A SCSI LUN over the descriptor that holds its lock.
//!
//! Acts: duplicates the descriptor, reads sysfs, asks the device.
//!
//! What must hold: the LBAs of the commands are those of the block device. SG_IO on a partition, or on a device-mapper device
//! that maps a part of a disk, goes to the whole disk where the process may (CAP_SYS_RAWIO), and would write elsewhere. So
//! only whole disks and multipath devices are taken, and only where size and block are the same to both.

use std::sync::Arc;

use lunferry_scsi::page::inquiry::BLOCK_DEVICE;
use lunferry_scsi::sg::SgDevice;

use super::ScsiLun;
use super::shape::QueueLimits;
use crate::lun::disturbances::Disturbances;
use crate::lun::facts::{DeviceKind, LunInfo};
use crate::lun::open::OpenLun;
use crate::lun::sysfs;
use crate::units::Bytes;

/// Opens `lun` for SCSI commands.
///
/// # Errors
/// Why it can't be used so, in words.
pub fn open(lun: &OpenLun) -> Result<ScsiLun, String> {
    let info = &lun.info;
    is_whole_disk(info)?;
    let file = lun.file().try_clone().map_err(|error| format!("its descriptor can't be duplicated: {error}"))?;
    let device = SgDevice::over(Arc::new(file), info.path.display().to_string())
        .map_err(|error| format!("the kernel takes no SCSI commands for it: {error}"))?;
    let opened = ScsiLun::new(Arc::new(device), queue_limits(info)).map_err(|error| error.to_string())?;
    is_the_same(&opened, info)?;
    Ok(opened.with_disturbances(Disturbances::of(info)))
}

fn is_whole_disk(info: &LunInfo) -> Result<(), String> {
    match info.device {
        DeviceKind::Scsi | DeviceKind::Multipath => Ok(()),
        DeviceKind::File => Err("it is a file".into()),
        DeviceKind::Loop => Err("it is a loop device".into()),
        DeviceKind::Partition => Err("it is a partition, and SCSI commands go to the whole disk".into()),
        DeviceKind::DeviceMapper => Err("it is a device-mapper device, and no multipath one".into()),
        DeviceKind::Nvme => Err("it is an NVMe namespace".into()),
        DeviceKind::OtherBlock => Err("it is no SCSI disk".into()),
    }
}

/// Device and kernel must agree about what is addressed.
fn is_the_same(opened: &ScsiLun, info: &LunInfo) -> Result<(), String> {
    let (facts, shape) = (opened.facts(), opened.shape());
    if facts.inquiry.device_type != BLOCK_DEVICE {
        return Err(format!(
            "its peripheral device type is {:#04x}, which is no block device",
            facts.inquiry.device_type
        ));
    }
    if facts.capacity.protected == Some(true) {
        return Err("it is formatted with protection information".into());
    }
    if (shape.block, shape.capacity) != (info.logical_block, info.capacity) {
        return Err(format!(
            "it says that it has {} bytes in blocks of {}, and the kernel has {} in blocks of {}; rescan it",
            shape.capacity.0, shape.block.0, info.capacity.0, info.logical_block.0
        ));
    }
    Ok(())
}

fn queue_limits(info: &LunInfo) -> QueueLimits {
    let Some(dir) = info.device_number.and_then(|number| sysfs::directory(number).ok()) else {
        return QueueLimits::default();
    };
    let positive = |attribute| sysfs::number::<u64>(&dir, attribute).filter(|value| *value > 0);
    QueueLimits {
        max_hw: positive("queue/max_hw_sectors_kb").map(Bytes::kib),
        max_segments: positive("queue/max_segments"),
        fua: sysfs::number::<u8>(&dir, "queue/fua") == Some(1),
    }
}
