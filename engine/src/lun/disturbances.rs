//! Whether something may have cost a LUN what it had only cached (design H17).
//!
//! Acts: reads /sys and the kernel's log. A SCSI LUN with a volatile cache tells of a power cycle or a reset by a unit attention
//! (29h), once to each nexus, and whoever sends the next command gets it: the kernel's own retry eats it, and so does a look at
//! the lock. What nobody can eat is the kernel's word of it in its log, which is written before the command is sent again
//! (drivers/scsi/scsi_error.c: `scsi_report_sense`, since Linux 5.4). So a log without such a word between a write and the end
//! of a flush behind it says that the write is durable.
//!
//! Where the log can't be read, the kernel's count of a device's commands that ended badly stands in for it (`ioerr_cnt`,
//! `scsi_complete`). It rises before the retry too, but also for a BUSY.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;

use crate::lun::facts::{DeviceKind, LunInfo};
use crate::lun::sysfs;

const LOG: &str = "/dev/kmsg";

/// A record of the log is never longer (Documentation/ABI/testing/dev-kmsg).
const LONGEST_RECORD: usize = 8192;

/// The kernel's word for sense 29h/xxh.
const WORD: &str = "Power-on or device reset occurred";

/// How often something has happened to one LUN, by whoever counts.
#[derive(Clone)]
pub struct Disturbances(Arc<dyn Fn() -> io::Result<u64> + Send + Sync>);

impl Disturbances {
    /// Of a SCSI LUN whose cache is volatile; nothing where nothing is cached, or nobody counts.
    pub fn of(info: &LunInfo) -> Option<Self> {
        let is_scsi = matches!(info.device, DeviceKind::Scsi | DeviceKind::Multipath | DeviceKind::Partition);
        let dir = info.device_number.filter(|_| is_scsi).and_then(|number| sysfs::directory(number).ok())?;
        let dir = sysfs::disk_of(&dir).unwrap_or(dir);
        let is_volatile = sysfs::text(&dir, "queue/write_cache").as_deref() == Some("write back");
        // A partition may lie on a disk that is no SCSI one.
        if !is_volatile || paths(&dir).iter().any(|path| !path.join("device/ioerr_cnt").exists()) {
            return None;
        }
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(LOG);
        match opened.and_then(|mut log| log.seek(SeekFrom::End(0)).map(|_| log)) {
            Ok(log) => Some(Self::told_by(log, dir)),
            Err(error) => {
                let device = info.path.display();
                tracing::warn!(%device, %error, "the kernel's log can't be read: any error of this volatile LUN ends the copy");
                Some(Self::counted_by(move || errors(&paths(&dir))))
            }
        }
    }

    /// By the kernel's log, for the disk or the map with this sysfs directory.
    fn told_by(log: impl Read + Send + 'static, dir: PathBuf) -> Self {
        let watch = Mutex::new(Watch { log, names: BTreeSet::new(), count: 0 });
        Self::counted_by(move || {
            let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            // A path that has gone since may have said its word before.
            watch.names.extend(paths(&dir).iter().filter_map(|path| address(path)));
            watch.drain()
        })
    }

    /// By another count than the kernel's, which must have risen before whatever comes after the event has ended.
    pub fn counted_by(count: impl Fn() -> io::Result<u64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }

    /// The count, of all paths together.
    ///
    /// # Errors
    /// Where it can't be had any more: then nothing can be said.
    pub fn count(&self) -> io::Result<u64> {
        (self.0)()
    }
}

/// The kernel's log, read as far as it goes.
struct Watch<L> {
    log: L,
    /// The SCSI addresses of every path that the LUN has had.
    names: BTreeSet<String>,
    count: u64,
}

impl<L: Read> Watch<L> {
    fn drain(&mut self) -> io::Result<u64> {
        let mut record = vec![0; LONGEST_RECORD];
        loop {
            match self.log.read(&mut record) {
                Ok(0) => return Ok(self.count),
                Ok(len) => {
                    let text = String::from_utf8_lossy(&record[..len]);
                    self.count += u64::from(tells_of(&text, &self.names));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Records were overwritten before they were read: one of them may have been it.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => self.count += 1,
                Err(error) => return Err(io::Error::new(error.kind(), format!("{LOG}: {error}"))),
            }
        }
    }
}

/// Whether a record, `PRIORITY,SEQUENCE,TIME,FLAGS;sd 2:0:1:0: words`, tells that of one of these addresses.
fn tells_of(record: &str, names: &BTreeSet<String>) -> bool {
    let Some((_, message)) = record.split_once(';') else { return false };
    let line = message.lines().next().unwrap_or_default();
    line.contains(WORD) && names.iter().any(|name| line.contains(&format!(" {name}: ")))
}

/// The sysfs directories of a disk, or of every path of a map.
fn paths(dir: &Path) -> Vec<PathBuf> {
    let slaves = sysfs::entries(&dir.join("slaves"));
    if slaves.is_empty() {
        return vec![dir.to_owned()];
    }
    slaves.iter().map(|slave| dir.join("slaves").join(slave)).collect()
}

/// `2:0:1:0`: host, channel, target, LUN.
fn address(path: &Path) -> Option<String> {
    let device = fs::canonicalize(path.join("device")).ok()?;
    Some(device.file_name()?.to_string_lossy().into_owned())
}

fn errors(paths: &[PathBuf]) -> io::Result<u64> {
    paths.iter().try_fold(0u64, |sum, path| Ok(sum.wrapping_add(read(&path.join("device/ioerr_cnt"))?)))
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
    use std::collections::VecDeque;

    use super::*;

    fn disk(dir: &Path, address: &str, count: &str) {
        let device = dir.join(address);
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("ioerr_cnt"), count).unwrap();
        std::os::unix::fs::symlink(&device, dir.join("device")).unwrap();
    }

    #[test]
    fn every_path_counts_and_one_that_is_gone_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        disk(dir, "1:0:0:0", "0x1f\n");
        assert_eq!(errors(&paths(dir)).unwrap(), 0x1f);
        disk(&dir.join("slaves/sda"), "2:0:0:0", "0x2\n");
        disk(&dir.join("slaves/sdb"), "3:0:0:0", "0x3\n");
        let both = paths(dir);
        assert_eq!(errors(&both).unwrap(), 5);
        assert_eq!(both.iter().filter_map(|path| address(path)).collect::<Vec<_>>(), ["2:0:0:0", "3:0:0:0"]);
        fs::write(dir.join("slaves/sdb/device/ioerr_cnt"), "none\n").unwrap();
        assert!(errors(&both).unwrap_err().to_string().contains("sdb/device/ioerr_cnt"));
        fs::remove_dir_all(dir.join("slaves/sda")).unwrap();
        assert_eq!(errors(&both).unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// A log that gives one record, or one error, at each read.
    struct Records(Arc<Mutex<VecDeque<io::Result<&'static str>>>>);

    impl Read for Records {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let next = self.0.lock().unwrap().pop_front().unwrap_or(Err(ErrorKind::WouldBlock.into()))?;
            buf[..next.len()].copy_from_slice(next.as_bytes());
            Ok(next.len())
        }
    }

    #[test]
    fn the_log_tells_of_this_lun_alone_and_what_was_lost_of_it_counts() {
        let temp = tempfile::tempdir().unwrap();
        disk(temp.path(), "2:0:1:0", "0x0\n");
        let records = Arc::new(Mutex::new(VecDeque::new()));
        let told = Disturbances::told_by(Records(Arc::clone(&records)), temp.path().into());
        let after = |next: Vec<io::Result<&'static str>>| {
            records.lock().unwrap().extend(next);
            told.count().unwrap()
        };
        assert_eq!(after(vec![]), 0);
        let others = [
            "4,900,12345,-;sd 2:0:1:1: Power-on or device reset occurred\n SUBSYSTEM=scsi\n",
            "4,901,12346,-;sd 12:0:1:0: Power-on or device reset occurred\n",
            "4,902,12347,-;sd 2:0:1:0: [sda] tag#3 Add. Sense: Internal target failure\n",
            "no record at all 2:0:1:0: Power-on or device reset occurred",
        ];
        assert_eq!(after(others.into_iter().map(Ok).collect()), 0);
        assert_eq!(after(vec![Ok("4,903,12348,-;sd 2:0:1:0: Power-on or device reset occurred\n DEVICE=+scsi\n")]), 1);
        assert_eq!(after(vec![Err(io::Error::from_raw_os_error(libc::EPIPE)), Ok("6,904,1,-;usb")]), 2);
        assert_eq!(after(vec![]), 2);
        records.lock().unwrap().push_back(Err(io::Error::from_raw_os_error(libc::EIO)));
        assert!(told.count().is_err());
    }
}
