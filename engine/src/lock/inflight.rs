//! Waits until what other loop devices over a file had in flight has ended: a reset, as far as a file can be reset.
//!
//! Acts: reads /sys. A request that was in flight when this was called has ended once the device's count was seen at zero.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lun::facts::{DeviceNumber, FileId};
use crate::lun::sysfs::{self, LoopDevice};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a device may take: as long as the block layer gives a request.
const LONGEST: Duration = Duration::from_secs(30);

/// Those of `devices` that lie over `file`, but for `own`. A file has many names: it is known by its inode.
///
/// # Errors
/// Where that can't be told of a device.
pub(super) fn over(
    file: FileId,
    own: Option<DeviceNumber>,
    devices: Vec<LoopDevice>,
) -> io::Result<BTreeSet<DeviceNumber>> {
    let mut found = BTreeSet::new();
    for device in devices.into_iter().filter(|device| Some(device.number) != own) {
        if behind(&device)? == file {
            found.insert(device.number);
        }
    }
    Ok(found)
}

/// What lies behind a device. Where losetup may not ask the device, its path has to tell.
fn behind(device: &LoopDevice) -> io::Result<FileId> {
    if let Some(id) = device.back_id {
        return Ok(id);
    }
    fs::metadata(&device.back_file).map(|metadata| sysfs::file_id(&metadata)).map_err(|error| {
        let LoopDevice { name, back_file, .. } = device;
        io::Error::new(error.kind(), format!("{name}: which file is behind it, `{back_file}`, can't be told: {error}"))
    })
}

/// Returns when every one of these devices was seen with nothing in flight.
///
/// # Errors
/// `TimedOut` where one never was, and what kept a count from being read.
pub(super) fn drain(devices: BTreeSet<DeviceNumber>, wait: impl Fn(Duration)) -> io::Result<()> {
    let directory = |(major, minor)| PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    drain_all(devices.into_iter().map(directory).collect(), wait)
}

/// The same, of devices by their directories in /sys.
fn drain_all(mut busy: BTreeSet<PathBuf>, wait: impl Fn(Duration)) -> io::Result<()> {
    let mut waited = Duration::ZERO;
    loop {
        for device in std::mem::take(&mut busy) {
            if is_busy(&device)? {
                busy.insert(device);
            }
        }
        let Some(device) = busy.first() else {
            return Ok(());
        };
        if waited >= LONGEST {
            let words = format!("{}: it had requests in flight all the time", device.display());
            return Err(io::Error::new(ErrorKind::TimedOut, words));
        }
        wait(PAUSE);
        waited += PAUSE;
    }
}

/// Whether writes of the device are in flight. One that is gone has none.
fn is_busy(device: &Path) -> io::Result<bool> {
    let Some(text) = sysfs::text(device, "inflight") else {
        let gone = sysfs::text(device, "loop/backing_file").is_none();
        let unknown = || io::Error::other(format!("{}: what it has in flight can't be read", device.display()));
        return if gone { Ok(false) } else { Err(unknown()) };
    };
    writes(&text).map(|writes| writes > 0).ok_or_else(|| {
        io::Error::new(ErrorKind::InvalidData, format!("{}/inflight holds `{text}`, not two numbers", device.display()))
    })
}

/// `READS WRITES`, with spaces around.
fn writes(text: &str) -> Option<u64> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let (_, writes) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    numbers.next().is_none().then_some(writes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::units::Bytes;

    const FILE: FileId = FileId { device: (254, 0), inode: 7 };

    fn device(minor: u32, back_file: &Path, back_id: Option<FileId>) -> LoopDevice {
        let (name, back_file) = (format!("/dev/loop{minor}"), back_file.display().to_string());
        LoopDevice { name, number: (7, minor), back_file, back_id, offset: Bytes::ZERO, limit: Bytes::ZERO }
    }

    #[test]
    fn counts_are_read_or_refused() {
        assert_eq!(["0 0", "       3        7"].map(writes), [Some(0), Some(7)]);
        assert_eq!(["", "1", "1 x", "1 2 3", "-1 -1"].map(writes), [None; 5]);
    }

    #[test]
    fn a_device_is_found_by_the_inode_behind_it_and_the_callers_own_is_left_out() {
        let other = FileId { inode: 8, ..FILE };
        let path = Path::new("/luns/a");
        let all = || {
            vec![
                device(0, path, Some(FILE)),
                device(1, Path::new("/a hard link"), Some(FILE)),
                // Another file has the name by now.
                device(2, path, Some(other)),
            ]
        };
        assert_eq!(over(FILE, None, all()).unwrap(), [(7, 0), (7, 1)].into());
        assert_eq!(over(FILE, Some((7, 0)), all()).unwrap(), [(7, 1)].into());
    }

    #[test]
    fn without_an_inode_the_path_tells_or_it_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (lun, link, away) = (dir.path().join("lun"), dir.path().join("link"), dir.path().join("away"));
        fs::write(&lun, "").unwrap();
        fs::hard_link(&lun, &link).unwrap();
        let id = sysfs::file_id(&fs::metadata(&lun).unwrap());
        assert_eq!(over(id, None, vec![device(3, &link, None)]).unwrap(), [(7, 3)].into());
        let error = over(id, None, vec![device(3, &away, None)]).unwrap_err();
        assert!(error.to_string().contains("/dev/loop3"), "{error}");
        over(id, Some((7, 3)), vec![device(3, &away, None)]).expect("its own is not asked");
    }

    #[test]
    fn a_device_is_waited_for_until_it_was_seen_idle_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (busy, gone) = (dir.path().join("busy"), dir.path().join("gone"));
        fs::create_dir(&busy).unwrap();
        let inflight = |text: &str| fs::write(busy.join("inflight"), text).unwrap();
        inflight("0 1");
        let waits = Cell::new(0);
        let devices: BTreeSet<_> = [busy.clone(), gone].into();
        drain_all(devices.clone(), |_| {
            waits.set(waits.get() + 1);
            if waits.get() == 3 {
                inflight("5 0");
            }
        })
        .unwrap();
        assert_eq!(waits.get(), 3);
        inflight("0 1");
        assert_eq!(drain_all(devices, |_| {}).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
