//! Whether something may have cost a LUN what it had only cached (design H17).
//!
//! Acts: reads /sys. A SCSI LUN with a volatile cache tells of a power cycle or a reset by a unit attention (29h), once to each
//! nexus, and whoever sends the next command gets it: the kernel's own retry eats it, and so does a look at the lock. What
//! nobody can eat is the kernel's count of a device's commands that ended badly (`ioerr_cnt`, drivers/scsi/scsi_lib.c:
//! `scsi_complete`): it rises before the retry is sent. So a count that stands still across a flush says that what was
//! written before it is durable. One that rose says that it may not be: BUSY counts as well.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::lun::facts::{DeviceKind, LunInfo};
use crate::lun::sysfs;

/// How often something has happened to one LUN, by whoever counts.
#[derive(Clone)]
pub struct Disturbances(Arc<dyn Fn() -> io::Result<u64> + Send + Sync>);

impl Disturbances {
    /// Of a SCSI LUN whose cache is volatile; nothing where nothing is cached, or nobody counts.
    pub fn of(info: &LunInfo) -> Option<Self> {
        let is_scsi = matches!(info.device, DeviceKind::Scsi | DeviceKind::Multipath);
        let dir = info.device_number.filter(|_| is_scsi).and_then(|number| sysfs::directory(number).ok())?;
        Self::below(&dir)
    }

    /// By another count than the kernel's, which must have risen before whatever comes after the event has ended.
    pub fn counted_by(count: impl Fn() -> io::Result<u64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }

    /// `dir`: the sysfs directory of a disk, or of a map with its paths as slaves.
    fn below(dir: &Path) -> Option<Self> {
        if sysfs::text(dir, "queue/write_cache").as_deref() != Some("write back") {
            return None;
        }
        let count = |disk: &Path| disk.join("device/ioerr_cnt");
        let slaves = sysfs::entries(&dir.join("slaves"));
        let files: Vec<PathBuf> = match slaves.is_empty() {
            true => vec![count(dir)],
            false => slaves.iter().map(|slave| count(&dir.join("slaves").join(slave))).collect(),
        };
        let sum = move || files.iter().try_fold(0u64, |sum, file| Ok(sum.wrapping_add(read(file)?)));
        Some(Self::counted_by(sum))
    }

    /// The count, of all paths together.
    ///
    /// # Errors
    /// Where a path has gone, and its count with it: then nothing can be said.
    pub fn count(&self) -> io::Result<u64> {
        (self.0)()
    }
}

/// `0x3`, as `show_iostat_counterbits` prints it.
fn read(file: &Path) -> io::Result<u64> {
    let name = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(name)?;
    let digits = text.trim().trim_start_matches("0x");
    u64::from_str_radix(digits, 16).map_err(|error| name(io::Error::new(ErrorKind::InvalidData, error)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn disk(dir: &Path, count: &str) {
        fs::create_dir_all(dir.join("device")).unwrap();
        fs::write(dir.join("device/ioerr_cnt"), count).unwrap();
    }

    fn cache(dir: &Path, kind: &str) {
        fs::create_dir_all(dir.join("queue")).unwrap();
        fs::write(dir.join("queue/write_cache"), kind).unwrap();
    }

    #[test]
    fn every_path_counts_and_one_that_is_gone_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        disk(dir, "0x1f\n");
        assert!(Disturbances::below(dir).is_none(), "a device that says nothing of a cache");
        cache(dir, "write through\n");
        assert!(Disturbances::below(dir).is_none());
        cache(dir, "write back\n");
        assert_eq!(Disturbances::below(dir).unwrap().count().unwrap(), 0x1f);

        disk(&dir.join("slaves/sda"), "0x2\n");
        disk(&dir.join("slaves/sdb"), "0x3\n");
        let both = Disturbances::below(dir).unwrap();
        assert_eq!(both.count().unwrap(), 5);
        fs::write(dir.join("slaves/sdb/device/ioerr_cnt"), "none\n").unwrap();
        assert!(both.count().unwrap_err().to_string().contains("sdb/device/ioerr_cnt"));
        fs::remove_dir_all(dir.join("slaves/sda")).unwrap();
        assert_eq!(both.count().unwrap_err().kind(), ErrorKind::NotFound);
    }
}
