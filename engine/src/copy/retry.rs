//! What an error of a LUN means, and whether the request is tried again.
//!
//! Pure: a function of the errno and of the attempts made.

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::lun::device_error::errno_of;

/// How often a request that the kernel merely interrupted or had no resources for is sent again: some three seconds.
const TRANSIENT_ATTEMPTS: u32 = 40;

/// The longest wait between two such attempts.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// How often a block that can't be read is read again before it is given up.
const MEDIUM_ATTEMPTS: u32 = 3;

/// What a failed request means for the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Nothing is wrong with the LUN: the same request may be sent again.
    Transient,
    /// These blocks can't be read or written now; others may.
    Medium,
    /// The target has no space left to allocate (thin provisioning).
    NoSpace,
    /// The storage refuses this host (SAM-5 status 18h, RESERVATION CONFLICT). Never retried.
    Fenced,
    /// The LUN can't do this at all.
    Unsupported,
    /// The LUN is gone, or the request was wrong.
    Fatal,
}

/// Sorts an error. Block layer errors come as errno (`blk_errors` in block/blk-core.c).
pub fn categorise(error: &io::Error) -> Category {
    match errno_of(error) {
        Some(libc::EINTR | libc::EAGAIN | libc::ENOMEM | libc::EBUSY) => Category::Transient,
        Some(libc::EIO | libc::ENODATA | libc::EREMOTEIO | libc::EILSEQ | libc::ETIMEDOUT) => Category::Medium,
        Some(libc::ENOSPC | libc::EDQUOT) => Category::NoSpace,
        Some(libc::EBADE) => Category::Fenced,
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY) => Category::Unsupported,
        _ => Category::Fatal,
    }
}

/// When a request that has failed `attempts` times may be sent again as it is: after this wait, or never.
pub fn next_try(category: Category, attempts: u32) -> Option<Duration> {
    match category {
        Category::Transient if attempts < TRANSIENT_ATTEMPTS => {
            Some(LONGEST_WAIT.min(Duration::from_millis(1) * (1 << attempts.min(10)) / 8))
        }
        Category::Medium if attempts < MEDIUM_ATTEMPTS => Some(Duration::ZERO),
        Category::Transient
        | Category::Medium
        | Category::NoSpace
        | Category::Fenced
        | Category::Unsupported
        | Category::Fatal => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_conflict_is_never_retried() {
        let conflict = categorise(&io::Error::from_raw_os_error(libc::EBADE));
        assert_eq!(conflict, Category::Fenced);
        assert_eq!(next_try(conflict, 0), None);
    }

    #[test]
    fn waits_grow_and_stay_short() {
        let waits: Vec<_> = (1..).map_while(|n| next_try(Category::Transient, n)).collect();
        assert!(waits.is_sorted() && waits.iter().sum::<Duration>() < Duration::from_secs(5), "{waits:?}");
    }

    #[test]
    fn retries_end() {
        for errno in [libc::EINTR, libc::EIO, libc::ENOSPC, libc::ENXIO, libc::EOPNOTSUPP] {
            let category = categorise(&io::Error::from_raw_os_error(errno));
            assert_eq!(next_try(category, 1000), None, "{category:?}");
        }
        assert_eq!(categorise(&io::Error::other("no errno")), Category::Fatal);
    }
}
