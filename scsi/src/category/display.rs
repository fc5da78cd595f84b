//! Categories in an operator's words, for messages.
//!
//! Pure: a category in, text out.

use std::fmt;

use super::{Attention, Category, IllegalRequest, NotReady, Unknown};
use crate::sense::Code;
use crate::units::Lba;

/// A message, and the device's own code behind it where it gave one.
fn with_code(f: &mut fmt::Formatter<'_>, text: &str, code: Option<Code>) -> fmt::Result {
    f.write_str(text)?;
    code.map_or(Ok(()), |code| write!(f, ": {code}"))
}

fn at_lba(f: &mut fmt::Formatter<'_>, text: &str, lba: Option<Lba>) -> fmt::Result {
    f.write_str(text)?;
    lba.map_or(Ok(()), |lba| write!(f, " at LBA {lba}"))
}

fn at_byte(f: &mut fmt::Formatter<'_>, text: &str, byte: Option<u16>) -> fmt::Result {
    f.write_str(text)?;
    byte.map_or(Ok(()), |byte| write!(f, ", byte {byte}"))
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("done"),
            Self::Recovered(sense) => write!(f, "done after an effort: {sense}"),
            Self::UnitAttention(attention) => write!(f, "unit attention: {attention}"),
            Self::ReservationConflict => f.write_str("reservation conflict: the storage refuses this nexus"),
            Self::NotReady(why) => write!(f, "not ready: {why}"),
            Self::Busy => f.write_str("busy"),
            Self::TaskSetFull => f.write_str("task set full"),
            Self::AcaActive => f.write_str("ACA active"),
            Self::Aborted(code) => with_code(f, "aborted by the device", *code),
            Self::MediumError { lba } => at_lba(f, "medium error", *lba),
            Self::HardwareError(code) => with_code(f, "hardware error", *code),
            Self::IllegalRequest(why) => write!(f, "the device refuses the request: {why}"),
            Self::WriteProtected(code) => with_code(f, "write protected", *code),
            Self::NoSpace => f.write_str("no space left to allocate on the device"),
            Self::Miscompare { offset: None } => f.write_str("what is on the medium differs"),
            Self::Miscompare { offset: Some(offset) } => {
                write!(f, "what is on the medium differs from byte {offset} on")
            }
            Self::CopyAborted(code) => with_code(f, "the copy manager gave up", *code),
            Self::Deferred(sense) => write!(f, "an earlier command had failed: {sense}"),
            Self::ShortTransfer { missing } => write!(f, "{missing} bytes were not transferred"),
            Self::OutcomeUnknown(why) => write!(f, "outcome unknown: {why}"),
            Self::TransportLost(host) => write!(f, "the path is gone (host status {host:?})"),
        }
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOnOrReset(code) => return write!(f, "power on or reset: {code}"),
            Self::Other(code) => return with_code(f, "of another kind", *code),
            Self::ReservationsPreempted => "reservations preempted",
            Self::ReservationsReleased => "reservations released",
            Self::RegistrationsPreempted => "registrations preempted",
            Self::AccessStateChanged => "the path's access state has changed",
            Self::CapacityChanged => "the capacity has changed",
            Self::ParametersChanged => "parameters have changed",
            Self::MediumChanged => "the medium may have changed",
            Self::CommandsCleared => "commands were cleared",
            Self::SoftThreshold => "a thin provisioning threshold was reached",
            Self::MicrocodeChanged => "the microcode has changed",
            Self::InquiryChanged => "INQUIRY data has changed",
            Self::IdentifierChanged => "the device identifier has changed",
            Self::LunsChanged => "the list of LUNs has changed",
        })
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Becoming { progress: None } => f.write_str("it is becoming ready"),
            Self::Becoming { progress: Some(parts) } => {
                write!(f, "it is becoming ready, {} %", u32::from(*parts) * 100 / 65536)
            }
            Self::Transition => f.write_str("the path's access state is changing"),
            Self::PathInactive => f.write_str("not on this path"),
            Self::Manual(code) => write!(f, "somebody must see to it: {code}"),
            Self::NoMedium => f.write_str("no medium"),
            Self::Other(code) => with_code(f, "for a reason of its own", *code),
        }
    }
}

impl fmt::Display for IllegalRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opcode => f.write_str("it has no such command"),
            Self::CdbField(byte) => at_byte(f, "a field of the CDB", *byte),
            Self::ParameterField(byte) => at_byte(f, "a field of the parameter list", *byte),
            Self::LbaOutOfRange(lba) => at_lba(f, "past the LUN's end", *lba),
            Self::NoLun => f.write_str("there is no such LUN"),
            Self::InvalidRelease => f.write_str("the reservation is of another type"),
            Self::NoResources => f.write_str("it has no room for another registration or reservation"),
            Self::CopyTooMuch(code) => with_code(f, "more than its copy manager takes", Some(*code)),
            Self::CopyImpossible(code) => with_code(f, "its copy manager can't", Some(*code)),
            Self::Other(code) => with_code(f, "for a reason of its own", *code),
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("it took longer than its timeout"),
            Self::Reset => f.write_str("the device was reset meanwhile"),
            Self::Host(status) => write!(f, "host status {status:?}"),
            Self::Driver(code) => write!(f, "driver status {code:X}h"),
            Self::NoSense => f.write_str("CHECK CONDITION without sense data"),
            Self::Unexplained(sense) => write!(f, "sense that says nothing: {sense}"),
            Self::Status(status) => write!(f, "status {status:?}"),
        }
    }
}
