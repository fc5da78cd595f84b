//! What the end of a command means: one category for each completion.
//!
//! Pure: a [`Completion`] in, a [`Category`] out; total. Two rules go before all others: a reservation conflict is one
//! whatever the other layers say, and blocks that were not all transferred are never good, whatever the status says.

mod display;

use crate::cdb::Transfer;
use crate::sense::{Code, Sense, SenseKey, Specific, sense};
use crate::status::{Completion, DriverStatus, HostStatus, Status};
use crate::units::Lba;

/// What a completion means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Done, all of it.
    Good,
    /// Done, all of it, after some effort of the device.
    Recovered(Sense),
    /// Something happened before this command, which was not begun. A hint to look again.
    UnitAttention(Attention),
    /// The storage refuses this nexus.
    ReservationConflict,
    /// The LUN can't do it now.
    NotReady(NotReady),
    /// BUSY status.
    Busy,
    /// TASK SET FULL status.
    TaskSetFull,
    /// ACA ACTIVE status.
    AcaActive,
    /// ABORTED COMMAND, or TASK ABORTED status: some of it may have been done.
    Aborted(Option<Code>),
    /// A block can't be read or written.
    MediumError {
        /// The first one, where the device says.
        lba: Option<Lba>,
    },
    /// The device failed.
    HardwareError(Option<Code>),
    /// The device does not do this.
    IllegalRequest(IllegalRequest),
    /// The LUN takes no writes.
    WriteProtected(Option<Code>),
    /// The device has no space left to allocate (27h/07h).
    NoSpace,
    /// What is on the medium differs from what was sent.
    Miscompare {
        /// The first byte that differs, where the device says (COMPARE AND WRITE: SBC-3: COMPARE AND WRITE command).
        offset: Option<u64>,
    },
    /// An EXTENDED COPY ended before its end.
    CopyAborted(Option<Code>),
    /// The sense data is of an earlier command: data that was acknowledged is lost. This one was not begun.
    Deferred(Sense),
    /// The device or the link transferred fewer bytes than the command has.
    ShortTransfer {
        /// How many are missing.
        missing: u32,
    },
    /// Whether it was done, in whole or in part or will be, is not known.
    OutcomeUnknown(Unknown),
    /// The path is gone, and the outcome is not known either.
    TransportLost(HostStatus),
}

/// What a unit attention announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// 29h/xxh: power on, reset or nexus loss. What was in a volatile cache may be gone (design H17).
    PowerOnOrReset(Code),
    /// 2Ah/03h.
    ReservationsPreempted,
    /// 2Ah/04h.
    ReservationsReleased,
    /// 2Ah/05h.
    RegistrationsPreempted,
    /// 2Ah/06h and 07h: look at the target port groups again.
    AccessStateChanged,
    /// 2Ah/09h: look at the capacity again.
    CapacityChanged,
    /// 2Ah/00h, 01h and 02h.
    ParametersChanged,
    /// 28h/00h: the medium may be another.
    MediumChanged,
    /// 2Fh/xxh: commands in flight were cleared.
    CommandsCleared,
    /// 38h/07h: a thin LUN nears its end.
    SoftThreshold,
    /// 3Fh/01h.
    MicrocodeChanged,
    /// 3Fh/03h.
    InquiryChanged,
    /// 3Fh/05h: look at the identity again before writing.
    IdentifierChanged,
    /// 3Fh/0Eh.
    LunsChanged,
    /// Any other, or one without a code.
    Other(Option<Code>),
}

/// Why a LUN is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// It will be, by itself.
    Becoming {
        /// In parts of 65536, where the device says.
        progress: Option<u16>,
    },
    /// 04h/0Ah: the path changes its state.
    Transition,
    /// 04h/0Bh and 0Ch: not on this path.
    PathInactive,
    /// 04h/02h, 03h, 11h, 12h: somebody must do something.
    Manual(Code),
    /// 3Ah/xxh.
    NoMedium,
    /// It does not say; 04h/00h among them.
    Other(Option<Code>),
}

/// What a device refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IllegalRequest {
    /// 20h/00h: it has no such command.
    Opcode,
    /// 24h/00h: a field of the CDB, at this byte where it says.
    CdbField(Option<u16>),
    /// 26h/00h to 02h and 1Ah/00h: a field of the parameter list, at this byte where it says.
    ParameterField(Option<u16>),
    /// 21h/00h.
    LbaOutOfRange(Option<Lba>),
    /// 25h/00h: there is no LUN.
    NoLun,
    /// 26h/04h: RELEASE with another type.
    InvalidRelease,
    /// 55h/02h, 03h and 04h: no room for a registration or a reservation.
    NoResources,
    /// 26h/06h, 08h and 0Bh: more than the copy manager takes.
    CopyTooMuch(Code),
    /// 26h/07h, 09h, 0Ah, 0Ch, 0Dh, 08h/04h and 0Dh/xxh: what the copy manager can't do or reach.
    CopyImpossible(Code),
    /// Any other, or one without a code.
    Other(Option<Code>),
}

/// Why an outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It took longer than its timeout.
    Timeout,
    /// The device was reset while it ran.
    Reset,
    /// The host adapter says that it failed or must be sent again, and not whether it had been sent.
    Host(HostStatus),
    /// The driver says that it failed.
    Driver(u8),
    /// CHECK CONDITION without sense data that can be read.
    NoSense,
    /// Sense data that says nothing.
    Unexplained(Sense),
    /// A status that no command of Lunferry is answered with.
    Status(Status),
}

/// What the end of a command means that was to transfer `transfer`.
pub fn categorise(completion: &Completion, transfer: &Transfer) -> Category {
    let conflict = completion.status == Status::ReservationConflict || completion.host == HostStatus::NexusFailure;
    if conflict {
        return Category::ReservationConflict;
    }
    let said = (completion.status == Status::CheckCondition).then(|| sense(&completion.sense).ok()).flatten();
    match (host(completion.host), completion.driver) {
        (Host::Silent, DriverStatus::TimeOut) => Category::OutcomeUnknown(Unknown::Timeout),
        (Host::Silent, DriverStatus::Failed(code)) if said.is_none() => Category::OutcomeUnknown(Unknown::Driver(code)),
        (Host::Silent, DriverStatus::Ok | DriverStatus::Sense | DriverStatus::Failed(_)) => {
            device(completion, said, transfer)
        }
        (Host::Names(category), _) => said.map_or(category, of_sense),
        (Host::Says(category), _) => category,
    }
}

/// What a host status means for the layers below it.
enum Host {
    /// The others say it.
    Silent,
    /// It has passed on what the device said; the sense data, if any, says it better.
    Names(Category),
    /// The device's word is not known or does not count.
    Says(Category),
}

fn host(status: HostStatus) -> Host {
    let unknown = |why| Host::Says(Category::OutcomeUnknown(why));
    match status {
        HostStatus::Ok | HostStatus::Passthrough => Host::Silent,
        HostStatus::TimeOut => unknown(Unknown::Timeout),
        HostStatus::Reset => unknown(Unknown::Reset),
        HostStatus::Abort
        | HostStatus::BusBusy
        | HostStatus::Parity
        | HostStatus::Error
        | HostStatus::BadInterrupt
        | HostStatus::SoftError
        | HostStatus::ImmediateRetry
        | HostStatus::Requeue
        | HostStatus::Other(_) => unknown(Unknown::Host(status)),
        HostStatus::NoConnect
        | HostStatus::BadTarget
        | HostStatus::TransportDisrupted
        | HostStatus::TransportFailFast
        | HostStatus::TransportMarginal => Host::Says(Category::TransportLost(status)),
        HostStatus::NexusFailure => Host::Says(Category::ReservationConflict),
        HostStatus::TargetFailure => Host::Names(Category::HardwareError(None)),
        HostStatus::AllocationFailure => Host::Names(Category::NoSpace),
        HostStatus::MediumError => Host::Names(Category::MediumError { lba: None }),
    }
}

/// By the device's own status.
fn device(completion: &Completion, said: Option<Sense>, transfer: &Transfer) -> Category {
    match completion.status {
        Status::Good => complete(completion, transfer, Category::Good),
        Status::CheckCondition => match said.map(of_sense) {
            Some(done @ Category::Recovered(_)) => complete(completion, transfer, done),
            Some(category) => category,
            None => Category::OutcomeUnknown(Unknown::NoSense),
        },
        Status::Busy => Category::Busy,
        Status::TaskSetFull => Category::TaskSetFull,
        Status::AcaActive => Category::AcaActive,
        Status::TaskAborted => Category::Aborted(None),
        Status::ReservationConflict => Category::ReservationConflict,
        Status::ConditionMet | Status::Other(_) => Category::OutcomeUnknown(Unknown::Status(completion.status)),
    }
}

/// `done`, unless bytes are missing that the command must have moved. Parameter data from the device may be shorter
/// than its allocation length.
fn complete(completion: &Completion, transfer: &Transfer, done: Category) -> Category {
    let missing = completion.requested - completion.transferred();
    match transfer {
        Transfer::BlocksIn(_) | Transfer::BlocksOut(_) | Transfer::Out(_) if missing > 0 => {
            Category::ShortTransfer { missing }
        }
        Transfer::None | Transfer::In(_) | Transfer::BlocksIn(_) | Transfer::BlocksOut(_) | Transfer::Out(_) => done,
    }
}

/// By sense data.
fn of_sense(sense: Sense) -> Category {
    if sense.deferred {
        return Category::Deferred(sense);
    }
    match sense.key {
        SenseKey::RecoveredError | SenseKey::Completed => Category::Recovered(sense),
        SenseKey::NotReady => Category::NotReady(not_ready(sense)),
        SenseKey::MediumError => Category::MediumError { lba: sense.information.map(Lba) },
        SenseKey::HardwareError => Category::HardwareError(sense.code),
        SenseKey::IllegalRequest => Category::IllegalRequest(illegal(sense)),
        SenseKey::UnitAttention => Category::UnitAttention(attention(sense.code)),
        SenseKey::DataProtect => match pair(sense.code) {
            Some((0x27, 0x07)) => Category::NoSpace,
            _ => Category::WriteProtected(sense.code),
        },
        SenseKey::CopyAborted => Category::CopyAborted(sense.code),
        SenseKey::AbortedCommand => Category::Aborted(sense.code),
        SenseKey::Miscompare => Category::Miscompare { offset: sense.information },
        SenseKey::NoSense
        | SenseKey::BlankCheck
        | SenseKey::VendorSpecific
        | SenseKey::Reserved
        | SenseKey::VolumeOverflow => Category::OutcomeUnknown(Unknown::Unexplained(sense)),
    }
}

fn pair(code: Option<Code>) -> Option<(u8, u8)> {
    code.map(|code| (code.asc, code.ascq))
}

fn attention(code: Option<Code>) -> Attention {
    let Some(code) = code else {
        return Attention::Other(None);
    };
    match (code.asc, code.ascq) {
        (0x29, _) => Attention::PowerOnOrReset(code),
        (0x2A, 0x00..=0x02) => Attention::ParametersChanged,
        (0x2A, 0x03) => Attention::ReservationsPreempted,
        (0x2A, 0x04) => Attention::ReservationsReleased,
        (0x2A, 0x05) => Attention::RegistrationsPreempted,
        (0x2A, 0x06 | 0x07) => Attention::AccessStateChanged,
        (0x2A, 0x09) => Attention::CapacityChanged,
        (0x28, 0x00) => Attention::MediumChanged,
        (0x2F, _) => Attention::CommandsCleared,
        (0x38, 0x07) => Attention::SoftThreshold,
        (0x3F, 0x01) => Attention::MicrocodeChanged,
        (0x3F, 0x03) => Attention::InquiryChanged,
        (0x3F, 0x05) => Attention::IdentifierChanged,
        (0x3F, 0x0E) => Attention::LunsChanged,
        _ => Attention::Other(Some(code)),
    }
}

fn not_ready(sense: Sense) -> NotReady {
    let progress = match sense.specific {
        Some(Specific::Progress(progress)) => Some(progress),
        _ => None,
    };
    let Some(code) = sense.code else {
        return NotReady::Other(None);
    };
    match (code.asc, code.ascq) {
        (0x04, 0x01 | 0x04..=0x09 | 0x14 | 0x1A | 0x1B | 0x1D) => NotReady::Becoming { progress },
        (0x04, 0x0A) => NotReady::Transition,
        (0x04, 0x0B | 0x0C) => NotReady::PathInactive,
        (0x04, 0x02 | 0x03 | 0x11 | 0x12) => NotReady::Manual(code),
        (0x3A, _) => NotReady::NoMedium,
        _ => NotReady::Other(Some(code)),
    }
}

fn illegal(sense: Sense) -> IllegalRequest {
    let byte_in = |wanted: bool| match sense.specific {
        Some(Specific::Field { in_cdb, byte, .. }) if in_cdb == wanted => Some(byte),
        _ => None,
    };
    let Some(code) = sense.code else {
        return IllegalRequest::Other(None);
    };
    match (code.asc, code.ascq) {
        (0x20, 0x00) => IllegalRequest::Opcode,
        (0x24, 0x00) => IllegalRequest::CdbField(byte_in(true)),
        (0x26, 0x00..=0x02) | (0x1A, 0x00) => IllegalRequest::ParameterField(byte_in(false)),
        (0x21, 0x00) => IllegalRequest::LbaOutOfRange(sense.information.map(Lba)),
        (0x25, 0x00) => IllegalRequest::NoLun,
        (0x26, 0x04) => IllegalRequest::InvalidRelease,
        (0x55, 0x02..=0x04) => IllegalRequest::NoResources,
        (0x26, 0x06 | 0x08 | 0x0B) => IllegalRequest::CopyTooMuch(code),
        (0x26, 0x07 | 0x09 | 0x0A | 0x0C | 0x0D) | (0x08, 0x04) | (0x0D, _) => IllegalRequest::CopyImpossible(code),
        _ => IllegalRequest::Other(Some(code)),
    }
}
