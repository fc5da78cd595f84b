//! Waits until what other loop devices over a file had in flight has ended: a reset, as far as a file can be reset.
//!
//! Acts: reads /sys. A request that was in flight when this was called has ended once the device's count was seen at zero.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lun::sysfs;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a device may take: as long as the block layer gives a request.
const LONGEST: Duration = Duration::from_secs(30);

/// Returns when every loop device over `file` was seen with nothing in flight.
///
/// # Errors
/// `TimedOut` where one never was, and what kept a count from being read.
pub(super) fn drain(file: &Path, wait: impl Fn(Duration)) -> io::Result<()> {
    let mut busy: BTreeSet<PathBuf> = over(file).collect();
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

/// The loop devices over `file`, by their directories in /sys.
fn over(file: &Path) -> impl Iterator<Item = PathBuf> {
    let all = Path::new("/sys/block");
    let devices = sysfs::entries(all).into_iter().filter(|name| name.starts_with("loop")).map(|name| all.join(name));
    devices.filter(move |device| {
        sysfs::text(device, "loop/backing_file").is_some_and(|backing| Path::new(&backing) == file)
    })
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
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_or_refused() {
        assert_eq!(["0 0", "       3        7"].map(writes), [Some(0), Some(7)]);
        assert_eq!(["", "1", "1 x", "1 2 3", "-1 -1"].map(writes), [None; 5]);
    }

    #[test]
    fn a_file_behind_no_loop_device_has_nothing_in_flight() {
        drain(Path::new("/nowhere"), |_| panic!("nothing to wait for")).expect("nothing is over it");
    }
}
