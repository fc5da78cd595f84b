//! Whether two LUNs are the same storage by different paths.
//!
//! Acts: reads /sys, runs `losetup --list`. The decision itself is in `decide` (pure). Writes nothing.

pub mod decide;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use self::decide::{Below, Key, Layer, Part, Stack};
use super::error::LunError;
use super::facts::{DeviceNumber, LunInfo};
use super::sysfs::{self, LoopDevice};
use super::{identity::IdentityKind, probe};
use crate::units::Span;

/// In which way both LUNs are the same storage, wholly or in part, in words; `None` where they are not, as far as this host
/// can tell.
///
/// # Errors
/// Where /sys can't be read or losetup can't be run.
pub fn same_storage(source: &LunInfo, target: &LunInfo) -> Result<Option<String>, LunError> {
    let loops = sysfs::loop_devices(&source.path)?;
    Ok(decide::same_storage(&stack(source, &loops)?, &stack(target, &loops)?))
}

/// What the LUN is made of, down to the lowest devices that this host knows.
fn stack(info: &LunInfo, loops: &[LoopDevice]) -> Result<Stack, LunError> {
    let name = info.path.display().to_string();
    let top = match (info.device_number, info.file_id) {
        (Some(number), _) => Key::Device(number),
        (None, Some(id)) => Key::File(id),
        (None, None) => Key::Identity(info.identity.clone()),
    };
    let mut stack = Stack { name, top: top.clone(), layers: Vec::new() };
    let mut open = vec![top];
    while let Some(key) = open.pop() {
        let Key::Device(number) = key else { continue };
        if stack.layers.iter().any(|layer| layer.key == key) {
            continue;
        }
        let layer = layer(number, loops, &info.path)?;
        open.extend(layer.below.iter().map(|below| below.key.clone()));
        stack.layers.push(layer);
    }
    Ok(stack)
}

/// One block device and what lies directly below it.
fn layer(number: DeviceNumber, loops: &[LoopDevice], path: &Path) -> Result<Layer, LunError> {
    let dir = sysfs::directory(number).map_err(|source| LunError::Fact {
        path: path.into(),
        field: "the devices below it in /sys/dev/block",
        source,
    })?;
    let mut below = Vec::new();
    if let Some(disk) = sysfs::disk_of(&dir) {
        // Where sysfs doesn't say where a partition lies, it may be anywhere on its disk.
        let part = probe::partition_place(&dir)
            .map_or(Part::SomewhereIn(decide::WHOLE), |(start, len)| Part::Exactly(Span::at(start, len)));
        below.extend(device_key(&disk).map(|key| Below { key, part }));
    } else {
        let identity = probe::identity_of(&dir).map_err(|source| LunError::Fact {
            path: path.into(),
            field: "the identity of a device below it",
            source,
        })?;
        if identity.kind <= IdentityKind::DmUuid {
            below.push(Below { key: Key::Identity(identity), part: Part::Exactly(decide::WHOLE) });
        }
    }
    for slave in sysfs::entries(&dir.join("slaves")) {
        let key = device_key(&dir.join("slaves").join(slave));
        below.extend(key.map(|key| Below { key, part: Part::SomewhereIn(decide::WHOLE) }));
    }
    if let Some(own) = loops.iter().find(|device| device.number == number) {
        below.extend(backing_key(own).map(|key| Below { key, part: Part::Exactly(own.place()) }));
    }
    Ok(Layer { key: Key::Device(number), name: sysfs::kernel_name(&dir), below })
}

fn device_key(dir: &Path) -> Option<Key> {
    sysfs::device_number(&sysfs::text(dir, "dev")?).map(Key::Device)
}

/// What lies behind a loop device: a file, or a block device by one of its nodes.
fn backing_key(device: &LoopDevice) -> Option<Key> {
    if let Ok(metadata) = fs::metadata(&device.back_file)
        && metadata.file_type().is_block_device()
    {
        let raw = metadata.rdev();
        return Some(Key::Device((rustix::fs::major(raw), rustix::fs::minor(raw))));
    }
    device.back_id.map(Key::File)
}
