//! What a typed command turns into: the CDB, what is transferred in which direction, how long it may take, and what it
//! means to send it twice.
//!
//! Pure: values in, values out. A value that does not fit its field is an error; nothing is ever cut to fit.

use std::time::Duration;

use crate::units::{BlockCount, BlockRange, BlockSize};

/// A command that a device server knows.
pub trait Command {
    /// The command as it goes over the wire.
    ///
    /// # Errors
    /// Where a value does not fit its field or would mean something else there.
    fn request(&self) -> Result<Request, EncodeError>;
}

/// An encoded command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The standard's name, for messages.
    pub name: &'static str,
    /// The command descriptor block.
    pub cdb: Cdb,
    /// What moves besides it.
    pub transfer: Transfer,
    /// How long the device may take.
    pub timeout: TimeoutClass,
    /// What sending it again would do.
    pub kind: Kind,
}

/// A command descriptor block of 6, 10, 12 or 16 bytes (SPC-4: fixed length CDB formats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; 16],
    len: u8,
}

impl Cdb {
    /// As sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Bytes that came from somewhere else; nothing where no CDB has that length. For device servers in tests and for
    /// what no typed command says.
    pub fn from_bytes(sent: &[u8]) -> Option<Self> {
        let len = u8::try_from(sent.len()).ok().filter(|len| matches!(len, 6 | 10 | 12 | 16))?;
        let mut bytes = [0; 16];
        bytes[..sent.len()].copy_from_slice(sent);
        Some(Self { bytes, len })
    }

    /// All zero but the operation code. The CONTROL byte stays zero in every command: no ACA.
    pub(crate) fn new(operation: u8, len: u8) -> Self {
        assert!(matches!(len, 6 | 10 | 12 | 16), "no CDB has {len} bytes");
        let mut bytes = [0; 16];
        bytes[0] = operation;
        Self { bytes, len }
    }

    /// Puts a field, big-endian, at its place in the standard's table.
    pub(crate) fn put<const N: usize>(mut self, at: usize, field: [u8; N]) -> Self {
        assert!(at + N < usize::from(self.len), "a field reaches the CONTROL byte");
        self.bytes[at..at + N].copy_from_slice(&field);
        self
    }
}

/// What is transferred besides the CDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Nothing.
    None,
    /// The device sends parameter data, at most this many bytes: the allocation length.
    In(u32),
    /// This goes to the device: the command's own parameter list.
    Out(Vec<u8>),
    /// The device sends this many of its logical blocks into the caller's buffer.
    BlocksIn(BlockCount),
    /// This many logical blocks go to the device from the caller's buffer.
    BlocksOut(BlockCount),
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Neither.
    None,
    /// Device to host.
    In,
    /// Host to device.
    Out,
}

impl Transfer {
    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        match self {
            Self::None => Direction::None,
            Self::In(_) | Self::BlocksIn(_) => Direction::In,
            Self::Out(_) | Self::BlocksOut(_) => Direction::Out,
        }
    }

    /// Its length in bytes on a LUN with blocks of `block`; nothing where that overflows.
    pub fn bytes(&self, block: BlockSize) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::In(length) => Some(u64::from(*length)),
            Self::Out(list) => u64::try_from(list.len()).ok(),
            Self::BlocksIn(blocks) | Self::BlocksOut(blocks) => blocks.0.checked_mul(u64::from(block.0)),
        }
    }
}

/// SG_IO and devices between do not keep promises below this (measured against tgtd and LIO under load).
pub const SHORTEST_TIMEOUT: Duration = Duration::from_secs(7);

/// How long a command may take before its outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutClass {
    /// Answered from the device server's memory.
    Query,
    /// Persistent reservations: an array agrees on them among its controllers.
    Reservation,
    /// Moves blocks.
    Data,
    /// Waits for a cache, or unmaps or writes many blocks that are not transferred.
    Medium,
    /// The array copies.
    Copy,
}

impl TimeoutClass {
    /// The time that the class gives.
    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Query => 10,
            Self::Reservation => 20,
            Self::Data => 30,
            Self::Medium => 60,
            Self::Copy => 120,
        })
    }

    /// The time that an operator asked for, but never less than [`SHORTEST_TIMEOUT`].
    pub fn asked(wanted: Duration) -> Duration {
        wanted.max(SHORTEST_TIMEOUT)
    }
}

/// What a command does to the device, and so what it means to send it again without knowing how the first one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes nothing (INQUIRY, READ, PERSISTENT RESERVE IN, ...).
    Query,
    /// Makes blocks what the caller says, again and again (WRITE, WRITE SAME, UNMAP).
    Overwrite,
    /// Says that everything before is durable (SYNCHRONIZE CACHE). A second one that succeeds proves nothing about data
    /// that the first one lost.
    Flush,
    /// Changes blocks depending on what they are (COMPARE AND WRITE): a second one judges the first one's result.
    Conditional,
    /// Changes registrations or the reservation (PERSISTENT RESERVE OUT).
    ReservationOut,
    /// Starts a copy inside the array (EXTENDED COPY).
    Copy,
}

/// A command that can't be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Larger than its field.
    #[error("{command}: {field} is {value}, and the command's field ends at {max}; {mend}")]
    TooLarge {
        /// The command.
        command: &'static str,
        /// The field in the standard's words.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// What fits.
        max: u64,
        /// What to do instead.
        mend: &'static str,
    },
    /// Zero where zero means nothing, or everything.
    #[error("{command}: {field} is zero, which {means}")]
    Zero {
        /// The command.
        command: &'static str,
        /// The field in the standard's words.
        field: &'static str,
        /// What a device would understand.
        means: &'static str,
    },
    /// Values that do not go together.
    #[error("{command}: {field}: {why}")]
    Unfit {
        /// The command.
        command: &'static str,
        /// The field in the standard's words.
        field: &'static str,
        /// What is wrong, and the mend.
        why: &'static str,
    },
}

/// Checks that `value` is at most `max`.
pub(crate) fn at_most(
    command: &'static str,
    field: &'static str,
    value: u64,
    max: u64,
    mend: &'static str,
) -> Result<u64, EncodeError> {
    if value > max { Err(EncodeError::TooLarge { command, field, value, max, mend }) } else { Ok(value) }
}

/// Checks a range of blocks: not empty, no wrap-around, and within what the fields hold. Returns LBA and count.
pub(crate) fn checked_range(
    command: &'static str,
    range: BlockRange,
    max_lba: u64,
    max_blocks: u64,
) -> Result<(u64, u64), EncodeError> {
    let lba = at_most(command, "LOGICAL BLOCK ADDRESS", range.lba.0, max_lba, "use the command's 16-byte form")?;
    if range.blocks.0 == 0 {
        let means = "asks for nothing, or in some commands for everything up to the end";
        return Err(EncodeError::Zero { command, field: "number of logical blocks", means });
    }
    let blocks = at_most(command, "number of logical blocks", range.blocks.0, max_blocks, "split the range")?;
    if range.end().is_none() {
        let why = "the range goes past the last possible address; check the LUN's size";
        return Err(EncodeError::Unfit { command, field: "LOGICAL BLOCK ADDRESS", why });
    }
    Ok((lba, blocks))
}

/// The low 32 bits of a value that was checked to have no more.
pub(crate) fn be32(checked: u64) -> [u8; 4] {
    u32::try_from(checked).expect("checked against its field's size").to_be_bytes()
}

/// The low 16 bits of a value that was checked to have no more.
pub(crate) fn be16(checked: u64) -> [u8; 2] {
    u16::try_from(checked).expect("checked against its field's size").to_be_bytes()
}

/// `bit` where `set`.
pub(crate) fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_timeout_is_below_seven_seconds() {
        use TimeoutClass::{Copy, Data, Medium, Query, Reservation};
        assert!([Query, Reservation, Data, Medium, Copy].iter().all(|class| class.duration() >= SHORTEST_TIMEOUT));
        assert_eq!(TimeoutClass::asked(Duration::from_secs(1)), SHORTEST_TIMEOUT);
        assert_eq!(TimeoutClass::asked(Duration::from_secs(90)), Duration::from_secs(90));
    }

    #[test]
    fn a_transfer_knows_its_length() {
        assert_eq!(Transfer::BlocksIn(BlockCount(8)).bytes(BlockSize(4096)), Some(32768));
        assert_eq!(Transfer::BlocksOut(BlockCount(u64::MAX)).bytes(BlockSize(512)), None);
        assert_eq!(Transfer::Out(vec![0; 24]).bytes(BlockSize(512)), Some(24));
        assert_eq!(Transfer::In(96).direction(), Direction::In);
    }
}
