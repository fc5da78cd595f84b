//! How a command ended, in the three layers that each have their own word: the device (SAM-5 status), the host adapter
//! and the kernel's driver.
//!
//! Pure: numbers in, values out. They are those that SG_IO gives in `sg_io_hdr` (include/scsi/sg.h).

/// SAM-5: status codes status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 00h.
    Good,
    /// 02h: sense data says why.
    CheckCondition,
    /// 04h: PRE-FETCH alone answers so.
    ConditionMet,
    /// 08h.
    Busy,
    /// 18h.
    ReservationConflict,
    /// 28h.
    TaskSetFull,
    /// 30h.
    AcaActive,
    /// 40h: another nexus' task management ended it (TAS).
    TaskAborted,
    /// Obsolete or reserved.
    Other(u8),
}

impl Status {
    /// Of SG_IO's `status`.
    pub fn from_code(code: u8) -> Self {
        match code {
            0x00 => Self::Good,
            0x02 => Self::CheckCondition,
            0x04 => Self::ConditionMet,
            0x08 => Self::Busy,
            0x18 => Self::ReservationConflict,
            0x28 => Self::TaskSetFull,
            0x30 => Self::AcaActive,
            0x40 => Self::TaskAborted,
            other => Self::Other(other),
        }
    }
}

/// The host adapter's word (`DID_*`, include/scsi/scsi_status.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStatus {
    /// 00h.
    Ok,
    /// 01h: the device is not there.
    NoConnect,
    /// 02h.
    BusBusy,
    /// 03h.
    TimeOut,
    /// 04h.
    BadTarget,
    /// 05h.
    Abort,
    /// 06h.
    Parity,
    /// 07h: internal error; some adapters say so where data is missing.
    Error,
    /// 08h: somebody reset the device or the bus.
    Reset,
    /// 09h.
    BadInterrupt,
    /// 0Ah: let it pass the middle layer as it is.
    Passthrough,
    /// 0Bh.
    SoftError,
    /// 0Ch.
    ImmediateRetry,
    /// 0Dh.
    Requeue,
    /// 0Eh: the link is being recovered.
    TransportDisrupted,
    /// 0Fh: the link was given up.
    TransportFailFast,
    /// 10h: will fail on every path.
    TargetFailure,
    /// 11h: a reservation conflict, as older kernels hand it on.
    NexusFailure,
    /// 12h: the device has no space.
    AllocationFailure,
    /// 13h.
    MediumError,
    /// 14h: this path is bad, and another may be better.
    TransportMarginal,
    /// Of a newer kernel.
    Other(u16),
}

impl HostStatus {
    /// Of SG_IO's `host_status`.
    pub fn from_code(code: u16) -> Self {
        match code {
            0x00 => Self::Ok,
            0x01 => Self::NoConnect,
            0x02 => Self::BusBusy,
            0x03 => Self::TimeOut,
            0x04 => Self::BadTarget,
            0x05 => Self::Abort,
            0x06 => Self::Parity,
            0x07 => Self::Error,
            0x08 => Self::Reset,
            0x09 => Self::BadInterrupt,
            0x0A => Self::Passthrough,
            0x0B => Self::SoftError,
            0x0C => Self::ImmediateRetry,
            0x0D => Self::Requeue,
            0x0E => Self::TransportDisrupted,
            0x0F => Self::TransportFailFast,
            0x10 => Self::TargetFailure,
            0x11 => Self::NexusFailure,
            0x12 => Self::AllocationFailure,
            0x13 => Self::MediumError,
            0x14 => Self::TransportMarginal,
            other => Self::Other(other),
        }
    }
}

/// The driver's word: the lower four bits of SG_IO's `driver_status`. Kernels from 5.14 on give 0 or 8h only; the upper
/// four bits were suggestions and are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverStatus {
    /// 0h.
    Ok,
    /// 8h: sense data was written.
    Sense,
    /// 6h.
    TimeOut,
    /// 1h to 5h and 7h: busy, soft, media, error, invalid, hard.
    Failed(u8),
}

impl DriverStatus {
    /// Of SG_IO's `driver_status`.
    pub fn from_code(code: u16) -> Self {
        match code & 0x0F {
            0x0 => Self::Ok,
            0x8 => Self::Sense,
            0x6 => Self::TimeOut,
            other => Self::Failed(u8::try_from(other).expect("four bits")),
        }
    }
}

/// What came back of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The device's word.
    pub status: Status,
    /// The host adapter's.
    pub host: HostStatus,
    /// The driver's.
    pub driver: DriverStatus,
    /// The bytes that were written to the sense buffer (`sb_len_wr` of them).
    pub sense: Vec<u8>,
    /// How many bytes were to be transferred.
    pub requested: u32,
    /// How many of them were not (`resid`). Below zero, the device had more than that.
    pub residual: i32,
}

impl Completion {
    /// How many bytes of the buffer hold what was transferred: never more than were asked for, whatever the residual
    /// says.
    pub fn transferred(&self) -> u32 {
        self.requested.saturating_sub(u32::try_from(self.residual).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wild_residual_never_reaches_past_the_buffer() {
        let with = |residual| Completion {
            status: Status::Good,
            host: HostStatus::Ok,
            driver: DriverStatus::Ok,
            sense: Vec::new(),
            requested: 96,
            residual,
        };
        let transferred: Vec<u32> = [0, 60, 96, 97, i32::MAX, -1, i32::MIN].map(|r| with(r).transferred()).to_vec();
        assert_eq!(transferred, [96, 36, 0, 0, 0, 96, 96]);
    }
}
