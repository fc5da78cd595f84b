//! Sends commands until the retry policy says that they are done, and hands back what came, typed.
//!
//! Acts, through a [`Transport`] alone, so that a LUN in memory with a clock of its own drives the very same code.
//! Whatever a device says on the way stands in the answer or in the error: nothing is swallowed.

use std::io;

use crate::bytes::ParseError;
use crate::category::{Attention, Category, categorise};
use crate::cdb::{Command, EncodeError, Kind, Request, Transfer};
use crate::command::enquiry::TestUnitReady;
use crate::retry::{Decision, decide};
use crate::transport::{Data, Transport};
use crate::units::BlockSize;

/// A command that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the device sent, cut to what it says that it transferred. Empty for blocks: those are in the caller's buffer.
    pub data: Vec<u8>,
    /// How often it was sent.
    pub attempts: u32,
    /// The unit attentions that were met: each is a hint to look again.
    pub attentions: Vec<Attention>,
}

/// A command that was not done, or of which that is not known.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It can't be said.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It did not get as far as the device.
    #[error("{device}: {command} could not be sent: {error}{}", sending_mend(error))]
    NotSent {
        /// The device.
        device: String,
        /// The command's name.
        command: &'static str,
        /// Why.
        error: io::Error,
    },
    /// It failed.
    #[error("{device}: {command}: {category} (sent {attempts} times)")]
    Failed {
        /// The device.
        device: String,
        /// The command's name.
        command: &'static str,
        /// What the end means.
        category: Category,
        /// How often it was sent.
        attempts: u32,
    },
    /// Whether it was done is not known: look before anything is sent again.
    #[error("{device}: {command}: {category}; whether it was done must be read back")]
    Unknown {
        /// The device.
        device: String,
        /// The command's name.
        command: &'static str,
        /// What the end means.
        category: Category,
    },
    /// What came can't be read.
    #[error("{device}: {source}")]
    Parse {
        /// The device.
        device: String,
        /// The field, its value, and what it should be.
        source: ParseError,
    },
    /// The data's length is not the command's.
    #[error("{device}: {command} moves {wanted} bytes, and the buffer has {given}")]
    Buffer {
        /// The device.
        device: String,
        /// The command's name.
        command: &'static str,
        /// What the command moves.
        wanted: u64,
        /// What the buffer holds.
        given: usize,
    },
}

fn sending_mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; SCSI commands need CAP_SYS_RAWIO: run as root",
        _ => "",
    }
}

impl CommandError {
    /// What the end of the command means, where it had one.
    pub fn category(&self) -> Option<&Category> {
        match self {
            Self::Failed { category, .. } | Self::Unknown { category, .. } => Some(category),
            Self::Encode(_) | Self::NotSent { .. } | Self::Parse { .. } | Self::Buffer { .. } => None,
        }
    }

    /// Whether the storage refused this nexus.
    pub fn is_conflict(&self) -> bool {
        matches!(self.category(), Some(Category::ReservationConflict))
    }

    /// Whether the device says that it does not know the command or one of its fields.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.category(), Some(Category::IllegalRequest(_)))
    }
}

/// One nexus, and the retry policy.
pub struct Initiator<'a> {
    transport: &'a dyn Transport,
}

impl<'a> Initiator<'a> {
    /// Over one path.
    pub fn new(transport: &'a dyn Transport) -> Self {
        Self { transport }
    }

    /// The path.
    pub fn transport(&self) -> &'a dyn Transport {
        self.transport
    }

    /// Sends a command that moves nothing, or parameter data of its own.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn send(&self, command: &impl Command) -> Result<Answer, CommandError> {
        let request = command.request()?;
        let mut data = match request.transfer {
            Transfer::In(allocation) => vec![0; allocation as usize],
            _ => Vec::new(),
        };
        let (transferred, mut answer) = match &request.transfer {
            Transfer::In(_) => self.until_done(&request, &mut Memory::In(&mut data))?,
            Transfer::Out(list) => self.until_done(&request, &mut Memory::Out(list))?,
            Transfer::None => self.until_done(&request, &mut Memory::None)?,
            Transfer::BlocksIn(_) | Transfer::BlocksOut(_) => return Err(self.wrong_buffer(&request, BlockSize(1), 0)),
        };
        if matches!(request.transfer, Transfer::In(_)) {
            data.truncate(transferred as usize);
            answer.data = data;
        }
        Ok(answer)
    }

    /// Sends a command and reads its parameter data.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn ask<T>(
        &self,
        command: &impl Command,
        parse: impl FnOnce(&[u8]) -> Result<T, ParseError>,
    ) -> Result<T, CommandError> {
        let answer = self.send(command)?;
        parse(&answer.data).map_err(|source| CommandError::Parse { device: self.transport.name().to_owned(), source })
    }

    /// Sends a command that reads blocks of `block` bytes into all of `buffer`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn read_blocks(
        &self,
        command: &impl Command,
        block: BlockSize,
        buffer: &mut [u8],
    ) -> Result<Answer, CommandError> {
        let request = command.request()?;
        match request.transfer {
            Transfer::BlocksIn(_) if request.transfer.bytes(block) == u64::try_from(buffer.len()).ok() => {}
            _ => return Err(self.wrong_buffer(&request, block, buffer.len())),
        }
        Ok(self.until_done(&request, &mut Memory::In(buffer))?.1)
    }

    /// Sends a command that gets blocks of `block` bytes from all of `buffer`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn write_blocks(
        &self,
        command: &impl Command,
        block: BlockSize,
        buffer: &[u8],
    ) -> Result<Answer, CommandError> {
        let request = command.request()?;
        match request.transfer {
            Transfer::BlocksOut(_) if request.transfer.bytes(block) == u64::try_from(buffer.len()).ok() => {}
            _ => return Err(self.wrong_buffer(&request, block, buffer.len())),
        }
        Ok(self.until_done(&request, &mut Memory::Out(buffer))?.1)
    }

    /// Takes the pending unit attentions off the nexus, so that the next command is not answered with one: TEST UNIT
    /// READY until it meets none (design 10).
    ///
    /// # Errors
    /// See [`CommandError`]. A unit that is not ready is one.
    pub fn clear_attentions(&self) -> Result<Vec<Attention>, CommandError> {
        self.send(&TestUnitReady).map(|answer| answer.attentions)
    }

    fn until_done(&self, request: &Request, memory: &mut Memory<'_>) -> Result<(u32, Answer), CommandError> {
        let device = || self.transport.name().to_owned();
        let (command, started) = (request.name, self.transport.now());
        let mut answer = Answer { data: Vec::new(), attempts: 0, attentions: Vec::new() };
        loop {
            answer.attempts += 1;
            let sent = self.transport.send(&request.cdb, memory.data(), request.timeout.duration());
            let completion = sent.map_err(|error| CommandError::NotSent { device: device(), command, error })?;
            let category = categorise(&completion, &request.transfer);
            if let Category::UnitAttention(attention) = category {
                answer.attentions.push(attention);
            }
            let elapsed = self.transport.now().saturating_sub(started);
            match decide(&category, request.kind, answer.attempts, elapsed) {
                Decision::Done => return Ok((completion.transferred(), answer)),
                Decision::Retry { after } => self.transport.wait(after),
                Decision::ReadBack => return Err(CommandError::Unknown { device: device(), command, category }),
                Decision::Fail if request.kind == Kind::ReservationOut && is_unknown(&category) => {
                    return Err(CommandError::Unknown { device: device(), command, category });
                }
                Decision::Fail => {
                    let attempts = answer.attempts;
                    return Err(CommandError::Failed { device: device(), command, category, attempts });
                }
            }
        }
    }

    fn wrong_buffer(&self, request: &Request, block: BlockSize, given: usize) -> CommandError {
        CommandError::Buffer {
            device: self.transport.name().to_owned(),
            command: request.name,
            wanted: request.transfer.bytes(block).unwrap_or(u64::MAX),
            given,
        }
    }
}

fn is_unknown(category: &Category) -> bool {
    matches!(category, Category::OutcomeUnknown(_) | Category::TransportLost(_))
}

/// The memory of a command, lent to each of its attempts.
enum Memory<'a> {
    None,
    In(&'a mut [u8]),
    Out(&'a [u8]),
}

impl Memory<'_> {
    fn data(&mut self) -> Data<'_> {
        match self {
            Self::None => Data::None,
            Self::In(buffer) => Data::In(buffer),
            Self::Out(buffer) => Data::Out(buffer),
        }
    }
}
