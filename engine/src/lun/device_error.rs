//! A device's error in its own words, with the errno that the rest of the engine judges it by.
//!
//! Pure. Block I/O gives errnos alone; SCSI says more, and a person should read it. The numbers are those that the kernel
//! gives for the same on block I/O (`blk_errors` in block/blk-core.c, `scsi_result_to_blk_status` in
//! drivers/scsi/scsi_lib.c), so that `copy::retry` needs no second table. What would only be sent again for nothing gets one
//! that is final there: the initiator has retried what can be retried.

use std::io;

use lunferry_scsi::category::{Category, IllegalRequest, NotReady, Unknown};
use lunferry_scsi::initiator::CommandError;
use thiserror::Error;

/// What a device said, and the errno for it.
#[derive(Debug, Error)]
#[error("{words}")]
struct DeviceError {
    errno: i32,
    words: String,
}

/// An error with words of its own and an errno.
pub fn device_error(errno: i32, words: impl Into<String>) -> io::Error {
    let kind = io::Error::from_raw_os_error(errno).kind();
    io::Error::new(kind, DeviceError { errno, words: words.into() })
}

/// The errno of an error: the kernel's, or the one that stands for a device's words.
pub fn errno_of(error: &io::Error) -> Option<i32> {
    let said = || error.get_ref()?.downcast_ref::<DeviceError>().map(|said| said.errno);
    error.raw_os_error().or_else(said)
}

/// A failed command as an error of I/O.
pub fn of_command(error: &CommandError) -> io::Error {
    let errno = match error {
        CommandError::Failed { category, .. } | CommandError::Unknown { category, .. } => of_category(category),
        CommandError::NotSent { error, .. } => errno_of(error).unwrap_or(libc::EIO),
        CommandError::Parse { .. } => libc::EPROTO,
        CommandError::Encode(_) | CommandError::Buffer { .. } => libc::EINVAL,
    };
    device_error(errno, error.to_string())
}

fn of_category(category: &Category) -> i32 {
    match category {
        Category::ReservationConflict => libc::EBADE,
        Category::MediumError { .. } => libc::ENODATA,
        Category::NoSpace => libc::ENOSPC,
        Category::WriteProtected(_) => libc::EROFS,
        Category::HardwareError(_) => libc::EREMOTEIO,
        Category::Miscompare { .. } => libc::EILSEQ,
        Category::Aborted(_) | Category::CopyAborted(_) | Category::ShortTransfer { .. } => libc::EIO,
        // Data that was acknowledged is lost: nothing of this run is to be believed.
        Category::Deferred(_) => libc::ENOTRECOVERABLE,
        Category::IllegalRequest(
            IllegalRequest::Opcode | IllegalRequest::CdbField(_) | IllegalRequest::ParameterField(_),
        ) => libc::EOPNOTSUPP,
        Category::IllegalRequest(IllegalRequest::NoLun) => libc::ENXIO,
        Category::IllegalRequest(_) => libc::EINVAL,
        // Another LUN, or another size of it, may be there: its identity must be read again (design S11).
        Category::UnitAttention(_) => libc::ESTALE,
        Category::NotReady(NotReady::NoMedium) => libc::ENOMEDIUM,
        Category::NotReady(_) | Category::Busy | Category::TaskSetFull | Category::AcaActive => libc::ENXIO,
        Category::TransportLost(_) => libc::ENOLINK,
        Category::OutcomeUnknown(Unknown::Timeout) => libc::ETIMEDOUT,
        Category::OutcomeUnknown(_) | Category::Good | Category::Recovered(_) => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::retry::{Category as Means, categorise};

    fn means(category: Category) -> Means {
        let (device, command) = ("/dev/sdx".into(), "WRITE(16)");
        categorise(&of_command(&CommandError::Failed { device, command, category, attempts: 1 }))
    }

    #[test]
    fn the_copy_understands_what_a_device_says() {
        assert_eq!(means(Category::ReservationConflict), Means::Fenced);
        assert_eq!(means(Category::MediumError { lba: None }), Means::Medium);
        assert_eq!(means(Category::NoSpace), Means::NoSpace);
        assert_eq!(means(Category::IllegalRequest(IllegalRequest::Opcode)), Means::Unsupported);
        for last in [Category::Busy, Category::TaskSetFull, Category::WriteProtected(None)] {
            assert_eq!(means(last), Means::Fatal, "{last:?}: the initiator has retried it");
        }
    }

    #[test]
    fn words_and_number_come_back() {
        let error = device_error(libc::EBADE, "somebody else's");
        assert_eq!((error.to_string().as_str(), errno_of(&error)), ("somebody else's", Some(libc::EBADE)));
        assert_eq!(errno_of(&io::Error::from_raw_os_error(5)), Some(5));
        assert_eq!(errno_of(&io::Error::other("no number")), None);
    }
}
