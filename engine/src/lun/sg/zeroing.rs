//! Ranges that must read as zeroes, without sending them where the device can do without.
//!
//! Acts through the LUN's commands. What must hold: a range that was punched reads as zeroes, for certain.
//! - Unmapping is done only where everything that the device says of it promises zeroes (LBPRZ), on its own grid; the
//!   ends off the grid are written, since a thin target ignores them.
//! - A device may leave blocks mapped that it was told to unmap (SBC-3: UNMAP command), and LIO turns a WRITE SAME with
//!   UNMAP into a discard. So it is asked what became of them (GET LBA STATUS); what it does not call unmapped is read, and
//!   what is not zero there is written.
//! - Everything else is WRITE SAME(16) with one block of zeroes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use lunferry_scsi::command::thin::{GetLbaStatus, Pattern, Unmap, WriteSame16};
use lunferry_scsi::command::transfer::Caching;
use lunferry_scsi::initiator::CommandError;
use lunferry_scsi::page::lists::lba_status;
use lunferry_scsi::units::Lba;

use super::ScsiLun;
use super::shape::{UnmapBy, Unmapping, pieces};
use crate::buffer::AlignedBuf;
use crate::copy::zeroes::is_zero;
use crate::lun::device_error::of_command;
use crate::units::{Bytes, Span};

/// What turned out not to work on a device.
#[derive(Debug, Default)]
pub struct Zeroing {
    no_unmap: AtomicBool,
    no_write_same: AtomicBool,
    no_status: AtomicBool,
}

fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

fn set(flag: &AtomicBool) {
    flag.store(true, Ordering::Relaxed);
}

impl Zeroing {
    /// Makes `span` read as zeroes.
    ///
    /// # Errors
    /// EOPNOTSUPP where the device has no command for it: zeroes must be written then.
    pub fn punch(&self, lun: &ScsiLun, span: Span) -> io::Result<()> {
        let Some(unmapping) = lun.shape().unmap.filter(|_| !is_set(&self.no_unmap)) else {
            return self.write_same(lun, span).map_err(|error| of_command(&error));
        };
        let (middle, ends) = unmapping.split(span);
        if !middle.is_empty() {
            match self.unmap(lun, unmapping, middle) {
                Ok(()) => self.confirm(lun, middle)?,
                Err(error) if error.is_unsupported() => {
                    tracing::warn!(%error, "nothing is unmapped from here on");
                    set(&self.no_unmap);
                    return self.write_same(lun, span).map_err(|error| of_command(&error));
                }
                Err(error) => return Err(of_command(&error)),
            }
        }
        ends.into_iter().filter(|end| !end.is_empty()).try_for_each(|end| self.write_zeroes(lun, end))
    }

    fn unmap(&self, lun: &ScsiLun, unmapping: Unmapping, middle: Span) -> Result<(), CommandError> {
        let block = one_block(lun)?;
        for piece in pieces(middle, unmapping.most) {
            let range = lun.shape().range(piece);
            match unmapping.by {
                UnmapBy::Unmap => lun.initiator().send(&Unmap { ranges: vec![range], anchor: false })?,
                UnmapBy::WriteSame => {
                    let command = WriteSame16 { range, pattern: Pattern::OneBlock, unmap: true };
                    lun.initiator().write_blocks(&command, lun.block_size(), block.as_ref())?
                }
            };
        }
        Ok(())
    }

    /// Looks what became of `middle`, and writes zeroes where there are none.
    fn confirm(&self, lun: &ScsiLun, middle: Span) -> io::Result<()> {
        let mut at = middle.start;
        while at < middle.end {
            let (unmapped, end) = self.status(lun, at)?;
            let here = Span::new(at, end.min(middle.end));
            if !unmapped {
                self.read_back(lun, here)?;
            }
            at = here.end;
        }
        Ok(())
    }

    /// Whether the range at `at` is unmapped for certain, and where it ends.
    fn status(&self, lun: &ScsiLun, at: Bytes) -> io::Result<(bool, Bytes)> {
        let unknown = (false, Bytes(u64::MAX));
        if is_set(&self.no_status) {
            return Ok(unknown);
        }
        let block = lun.shape().block;
        let from = Lba(at.0 / block.0);
        match lun.initiator().ask(&GetLbaStatus { from, allocation: 24 }, |bytes| lba_status(bytes, from)) {
            Ok(status) => Ok(status.ranges.first().map_or(unknown, |(range, state)| {
                (state.is_unmapped(), Bytes((range.lba.0 + range.blocks.0).saturating_mul(block.0)))
            })),
            Err(error) if error.is_unsupported() || matches!(error, CommandError::Parse { .. }) => {
                tracing::info!(%error, "what was unmapped is read back from here on");
                set(&self.no_status);
                Ok(unknown)
            }
            Err(error) => Err(of_command(&error)),
        }
    }

    fn read_back(&self, lun: &ScsiLun, span: Span) -> io::Result<()> {
        for piece in pieces(span, lun.shape().transfer) {
            let read = lun.read_exactly(piece.start, piece.len().as_len())?;
            if !is_zero(read.as_ref()) {
                self.write_zeroes(lun, piece)?;
            }
        }
        Ok(())
    }

    /// By WRITE SAME, or by writing them where the device has no such command.
    fn write_zeroes(&self, lun: &ScsiLun, span: Span) -> io::Result<()> {
        if !is_set(&self.no_write_same) {
            match self.write_same(lun, span) {
                Err(error) if error.is_unsupported() => set(&self.no_write_same),
                done => return done.map_err(|error| of_command(&error)),
            }
        }
        let zeroes = AlignedBuf::one(lun.shape().transfer.as_len())?;
        for piece in pieces(span, lun.shape().transfer) {
            let part = &zeroes.as_ref()[..piece.len().as_len()];
            lun.write_at(part, piece.start, Caching::default()).map_err(|error| of_command(&error))?;
        }
        Ok(())
    }

    fn write_same(&self, lun: &ScsiLun, span: Span) -> Result<(), CommandError> {
        let block = one_block(lun)?;
        for piece in pieces(span, lun.shape().write_same) {
            let command = WriteSame16 { range: lun.shape().range(piece), pattern: Pattern::OneBlock, unmap: false };
            lun.initiator().write_blocks(&command, lun.block_size(), block.as_ref())?;
        }
        Ok(())
    }
}

/// One block of zeroes, within a page: LIO takes no WRITE SAME whose block lies on two.
fn one_block(lun: &ScsiLun) -> Result<AlignedBuf, CommandError> {
    let (device, command) = (lun.transport().name().to_owned(), "WRITE SAME(16)");
    AlignedBuf::one(lun.shape().block.as_len()).map_err(|error| CommandError::NotSent { device, command, error })
}
