//! Writes that are durable when they return: those of the checkpoint.
//!
//! Acts through the LUN's commands. Three ways, the best that the device has:
//! - **COMPARE AND WRITE** (SBC-3: COMPARE AND WRITE command), where a slot's block fits its maximum: the slot is replaced
//!   only if it still holds what this copy last wrote or read there. Whoever else wrote it is found out by that, even where
//!   no reservation stands between.
//! - **FUA**, where the kernel has read that the device honours it, and until a write is refused for it.
//! - **A flush behind the write**, where it does not.
//!
//! The first COMPARE AND WRITE of a run is read back. LIO takes the two halves from where it believes a page to be, and has
//! written other bytes and said GOOD (measured on 6.1 with a buffer off a page's border; they are aligned since).
//!
//! What must hold: where the outcome of a COMPARE AND WRITE is not known, the block is read before anything is sent again.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use lunferry_scsi::category::Category;
use lunferry_scsi::command::transfer::{Caching, CompareAndWrite};
use lunferry_scsi::initiator::CommandError;
use serde::Serialize;

use super::ScsiLun;
use crate::buffer::AlignedBuf;
use crate::lun::device_error::{device_error, of_command};
use crate::units::{Bytes, Span};

/// How often a COMPARE AND WRITE is sent whose outcome was not known, and which turned out not to be done.
const MOST_ATTEMPTS: u32 = 4;

/// How a checkpoint is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DurableBy {
    /// RWF_DSYNC: the kernel chooses between FUA and a flush.
    Dsync,
    /// COMPARE AND WRITE with FUA, or with a flush behind it.
    CompareAndWrite,
    /// WRITE(16) with FUA.
    Fua,
    /// WRITE(16), then SYNCHRONIZE CACHE.
    WriteAndFlush,
}

/// How a device takes durable writes, and what it is known to hold.
pub struct Durable(Mutex<State>);

struct State {
    compares: bool,
    /// What it wrote was read back once, and was right.
    proven: bool,
    fua: bool,
    /// The way of the last write.
    last: Option<DurableBy>,
    /// What this copy last wrote or read at a place: the whole block, or its beginning.
    held: BTreeMap<Bytes, Vec<u8>>,
}

impl Durable {
    /// For a device that has COMPARE AND WRITE, or not, and honours FUA, or not.
    pub fn new(compares: bool, fua: bool) -> Self {
        Self(Mutex::new(State { compares, proven: false, fua, last: None, held: BTreeMap::new() }))
    }

    /// What was read at `at` before this copy began, or its beginning. Should something else stand there when it is written
    /// for the first time, somebody else wrote it.
    pub fn expect(&self, at: Bytes, read: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).held.insert(at, read);
    }

    /// The way of the last write; nothing before the first.
    pub fn by(&self) -> Option<DurableBy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Writes `block` to `at`, durably.
    ///
    /// # Errors
    /// What the device said; EBADE where the block is not the one that this copy left there.
    pub fn write(&self, lun: &ScsiLun, at: Bytes, block: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = lun.shape().compare_and_write.is_some_and(|most| Bytes::from(block.len()) <= most);
        if state.compares && fits {
            if state.compare_and_write(lun, at, block)? {
                state.last = Some(DurableBy::CompareAndWrite);
                state.held.insert(at, block.to_vec());
                return Ok(());
            }
            state.compares = false;
        }
        if state.fua {
            match lun.write_at(block, at, Caching { fua: true, dpo: false }) {
                Ok(()) => {
                    state.last = Some(DurableBy::Fua);
                    return Ok(());
                }
                Err(error) if error.is_unsupported() => {
                    tracing::info!(%error, "the device takes no FUA: a flush follows each checkpoint's write");
                    state.fua = false;
                }
                Err(error) => return Err(of_command(&error)),
            }
        }
        let written = lun.write_at(block, at, Caching::default()).and_then(|()| lun.synchronize());
        written.map_err(|error| of_command(&error))?;
        state.last = Some(DurableBy::WriteAndFlush);
        Ok(())
    }
}

impl State {
    /// `false` where the device has no such command after all.
    fn compare_and_write(&mut self, lun: &ScsiLun, at: Bytes, block: &[u8]) -> io::Result<bool> {
        let range = lun.shape().range(Span::at(at, Bytes::from(block.len())));
        let held = self.held_now(lun, at, block.len())?;
        let mut both = AlignedBuf::one(2 * block.len())?;
        let (expected, new) = both.as_mut().split_at_mut(block.len());
        expected.copy_from_slice(&held);
        new.copy_from_slice(block);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let command = CompareAndWrite { range, caching: Caching { fua: self.fua, dpo: false } };
            let sent = lun.initiator().write_blocks(&command, lun.block_size(), both.as_ref());
            let error = match sent {
                Ok(_) if self.fua => return self.is_proven(lun, at, block),
                Ok(_) => break,
                Err(error) => error,
            };
            match (&error, error.category()) {
                (_, Some(Category::Miscompare { .. })) => return Err(lost(at, &error.to_string())),
                (CommandError::Unknown { .. }, _) => {
                    let now = lun.read_exactly(at, block.len())?;
                    if now.as_ref() == block {
                        break;
                    } else if now.as_ref() != held {
                        return Err(lost(at, "it was read back after a COMPARE AND WRITE whose outcome is not known"));
                    } else if attempts == MOST_ATTEMPTS {
                        return Err(of_command(&error));
                    }
                }
                _ if error.is_unsupported() && self.fua => self.fua = false,
                _ if error.is_unsupported() || is_forbidden(&error) => {
                    tracing::warn!(%error, "checkpoints are written without a compare");
                    return Ok(false);
                }
                _ => return Err(of_command(&error)),
            }
        }
        // Without FUA, or not known whether with it.
        lun.synchronize().map_err(|error| of_command(&error))?;
        self.is_proven(lun, at, block)
    }

    /// Whether the device writes what it is told to: looked at once.
    fn is_proven(&mut self, lun: &ScsiLun, at: Bytes, block: &[u8]) -> io::Result<bool> {
        self.proven = self.proven || lun.read_exactly(at, block.len())?.as_ref() == block;
        if !self.proven {
            tracing::warn!(
                at = at.0,
                "COMPARE AND WRITE has written something else; checkpoints are written without it"
            );
        }
        Ok(self.proven)
    }

    /// The whole block that stands at `at`, which is the one that this copy knows.
    fn held_now(&self, lun: &ScsiLun, at: Bytes, len: usize) -> io::Result<Vec<u8>> {
        let held = self.held.get(&at).map_or(&[][..], Vec::as_slice);
        if held.len() == len {
            return Ok(held.to_vec());
        }
        let now = lun.read_exactly(at, len)?.as_ref().to_vec();
        let known = &held[..held.len().min(len)];
        if now.starts_with(known) { Ok(now) } else { Err(lost(at, "it was read before the first write")) }
    }
}

fn lost(at: Bytes, how: &str) -> io::Error {
    let words = format!(
        "what stands at byte {} is not what this copy wrote or read there, so another host writes checkpoints to this target \
         ({how})",
        at.0
    );
    device_error(libc::EBADE, words)
}

/// COMPARE AND WRITE is on no list of what the kernel lets through without CAP_SYS_RAWIO.
fn is_forbidden(error: &CommandError) -> bool {
    matches!(error, CommandError::NotSent { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
}
