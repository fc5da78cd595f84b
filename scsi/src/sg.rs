//! SG_IO, version 3 of its interface (include/scsi/sg.h), on a block device or an sg node; and SG_SCSI_RESET.
//!
//! Acts: sends what it is given and reports what came back. Persistent reservations need CAP_SYS_RAWIO, and the kernel
//! checks the opcode of everything else against the descriptor's access mode.
//!
//! One of the files with `unsafe`: an ioctl is a foreign call, and the kernel writes through the header's pointers. What
//! must hold is that buffer and sense live until the ioctl returns, which borrowing them for the whole call guarantees:
//! SG_IO returns only when the kernel has let go of the pages.
#![allow(unsafe_code, reason = "SG_IO is an ioctl that takes pointers")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cdb::{Cdb, TimeoutClass};
use crate::status::{Completion, DriverStatus, HostStatus, Status};
use crate::transport::{Data, Transport};

/// The kernel keeps 252 bytes of sense at most.
const SENSE_BYTES: usize = 252;

const SG_IO: libc::Ioctl = 0x2285;
const SG_SCSI_RESET: libc::Ioctl = 0x2284;
const SG_GET_VERSION_NUM: libc::Ioctl = 0x2282;

/// `SG_SCSI_RESET_DEVICE | SG_SCSI_RESET_NO_ESCALATE`: the logical unit, and nothing wider where that fails.
const RESET_DEVICE_ALONE: libc::c_int = 1 | 0x100;

/// The first version of the driver with this interface.
const SG_VERSION_3: libc::c_int = 30_000;

/// `struct sg_io_hdr`.
#[repr(C)]
struct Header {
    interface_id: libc::c_int,
    dxfer_direction: libc::c_int,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut libc::c_void,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: libc::c_int,
    usr_ptr: *mut libc::c_void,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: libc::c_int,
    duration: u32,
    info: u32,
}

/// The interface's magic, `'S'`.
const INTERFACE: libc::c_int = b'S' as libc::c_int;

const TO_DEVICE: libc::c_int = -2;
const FROM_DEVICE: libc::c_int = -3;
const NO_TRANSFER: libc::c_int = -1;

/// A device that takes SG_IO.
#[derive(Debug)]
pub struct SgDevice {
    file: Arc<File>,
    name: String,
}

impl SgDevice {
    /// Over a descriptor that is open already, such as the one that holds O_EXCL. Messages call it `name`.
    ///
    /// # Errors
    /// ENOTTY, EINVAL and the like where no SCSI device is behind it.
    pub fn over(file: Arc<File>, name: impl Into<String>) -> io::Result<Self> {
        let mut version: libc::c_int = 0;
        // SAFETY: the ioctl writes one int, and `version` outlives the call.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), SG_GET_VERSION_NUM, &raw mut version) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        if version < SG_VERSION_3 {
            return Err(io::Error::from_raw_os_error(libc::ENOTTY));
        }
        Ok(Self { file, name: name.into() })
    }

    /// Opens a path for reading and writing, without O_EXCL: for asking, and for reservations on each path below a
    /// multipath device that somebody else keeps open. Waits for nothing: a device that is not ready opens too.
    ///
    /// # Errors
    /// What opening says, and what [`SgDevice::over`] does.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        let file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
        Self::over(Arc::new(file), path.display().to_string())
    }

    /// What is open.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Transport for SgDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, cdb: &Cdb, data: Data<'_>, timeout: Duration) -> io::Result<Completion> {
        let requested = u32::try_from(data.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let (dxfer_direction, dxferp) = match data {
            Data::None => (NO_TRANSFER, std::ptr::null_mut()),
            Data::In(buffer) => (FROM_DEVICE, buffer.as_mut_ptr().cast()),
            Data::Out(buffer) => (TO_DEVICE, buffer.as_ptr().cast_mut().cast()),
        };
        let mut sense = [0u8; SENSE_BYTES];
        let command = cdb.as_bytes();
        let timeout = TimeoutClass::asked(timeout);
        let mut header = Header {
            interface_id: INTERFACE,
            dxfer_direction,
            cmd_len: u8::try_from(command.len()).expect("a CDB has 16 bytes at most"),
            mx_sb_len: u8::try_from(SENSE_BYTES).expect("252"),
            iovec_count: 0,
            dxfer_len: requested,
            dxferp,
            cmdp: command.as_ptr(),
            sbp: sense.as_mut_ptr(),
            timeout: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            flags: 0,
            pack_id: 0,
            usr_ptr: std::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            msg_status: 0,
            sb_len_wr: 0,
            host_status: 0,
            driver_status: 0,
            resid: 0,
            duration: 0,
            info: 0,
        };
        // SAFETY: the header is `struct sg_io_hdr`; its pointers lead to the CDB, the sense buffer and the caller's
        // buffer with the lengths beside them, all of which are borrowed past the end of the call. With TO_DEVICE the
        // kernel only reads the data buffer, so that casting away its constness lets nobody write there.
        let done = unsafe { libc::ioctl(self.file.as_raw_fd(), SG_IO, &raw mut header) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        let written = usize::from(header.sb_len_wr).min(SENSE_BYTES);
        Ok(Completion {
            status: Status::from_code(header.status),
            host: HostStatus::from_code(header.host_status),
            driver: DriverStatus::from_code(header.driver_status),
            sense: sense[..written].to_vec(),
            requested,
            residual: header.resid,
        })
    }

    fn reset_logical_unit(&self) -> io::Result<()> {
        let mut what = RESET_DEVICE_ALONE;
        // SAFETY: the ioctl reads one int, and `what` outlives the call.
        let done = unsafe { libc::ioctl(self.file.as_raw_fd(), SG_SCSI_RESET, &raw mut what) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_kernels() {
        assert_eq!(size_of::<Header>(), 88);
        assert_eq!(std::mem::offset_of!(Header, dxferp), 16);
        assert_eq!(std::mem::offset_of!(Header, status), 64);
        assert_eq!(std::mem::offset_of!(Header, resid), 72);
    }

    #[test]
    fn what_is_no_scsi_device_is_refused() {
        let file = Arc::new(File::open("/dev/null").expect("/dev/null"));
        let refused = SgDevice::over(file, "/dev/null").expect_err("no SCSI");
        assert!(matches!(refused.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)), "{refused}");
    }
}
