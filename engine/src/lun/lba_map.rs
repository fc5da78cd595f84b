//! Which ranges of a SCSI LUN are unmapped, by GET LBA STATUS.
//!
//! Acts through a transport. Only for a LUN whose unmapped blocks read as zeroes (`sg::shape::unmapped_reads_zero`). One
//! answer tells many ranges, and is kept, so that not every extent asks. A device that can't tell has no holes. What is
//! kept grows old: it is for a LUN that nobody writes to, the source of a copy.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use lunferry_scsi::command::thin::GetLbaStatus;
use lunferry_scsi::initiator::{CommandError, Initiator};
use lunferry_scsi::page::lists::lba_status;
use lunferry_scsi::transport::Transport;
use lunferry_scsi::units::Lba;

use super::Segment;
use super::device_error::of_command;
use crate::units::{Bytes, Span};

/// Room for 1024 ranges in one answer.
const ALLOCATION: u32 = 8 + 16 * 1024;

/// What is kept of the answers.
#[derive(Default)]
struct Known {
    /// The ranges of the last answer, neighbours of one kind merged.
    ranges: Vec<(Span, bool)>,
    /// It has refused to answer.
    is_silent: bool,
    /// It has answered.
    has_answered: bool,
}

/// The unmapped ranges of one LUN.
pub struct LbaMap {
    transport: Arc<dyn Transport>,
    block: Bytes,
    known: Mutex<Known>,
}

impl LbaMap {
    /// Of the LUN behind `transport`, with blocks of `block`.
    pub fn new(transport: Arc<dyn Transport>, block: Bytes) -> Self {
        Self { transport, block, known: Mutex::new(Known::default()) }
    }

    /// What the device says of the range at `at`. Blocks where it has to be asked.
    ///
    /// # Errors
    /// Where the storage refuses this host. A device that fails otherwise is not asked again, and all of it is data.
    pub fn segment(&self, at: Bytes) -> io::Result<Segment> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_silent && !known.ranges.iter().any(|(span, _)| span.start <= at && at < span.end) {
            match self.ask(at) {
                Ok(ranges) => {
                    known.has_answered = true;
                    known.ranges = ranges;
                }
                Err(error) if error.is_conflict() => return Err(of_command(&error)),
                Err(error) => {
                    tracing::info!(%error, "the device does not tell what is unmapped: all of it is read from here on");
                    known.is_silent = true;
                    known.ranges.clear();
                }
            }
        }
        let here = known.ranges.iter().find(|(span, _)| span.start <= at && at < span.end);
        Ok(here.map_or(Segment { is_hole: false, end: Bytes(u64::MAX) }, |&(span, is_hole)| Segment {
            is_hole,
            end: span.end,
        }))
    }

    /// Whether the device has told of a range, and of every one that it was asked about.
    pub fn tells(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.has_answered && !known.is_silent
    }

    fn ask(&self, at: Bytes) -> Result<Vec<(Span, bool)>, CommandError> {
        let from = Lba(at.0 / self.block.0);
        let command = GetLbaStatus { from, allocation: ALLOCATION };
        let status = Initiator::new(&*self.transport).ask(&command, |bytes| lba_status(bytes, from))?;
        let mut merged: Vec<(Span, bool)> = Vec::new();
        for (range, state) in status.ranges {
            let is_hole = state.is_unmapped();
            let byte = |lba: u64| Bytes(lba.saturating_mul(self.block.0));
            let span = Span::new(byte(range.lba.0), byte(range.lba.0.saturating_add(range.blocks.0)));
            match merged.last_mut() {
                Some((last, kind)) if *kind == is_hole => last.end = span.end,
                _ => merged.push((span, is_hole)),
            }
        }
        if merged.is_empty() {
            // It answered, and said nothing of this place: then nothing is known of what follows either.
            merged.push((Span::new(at, Bytes(u64::MAX)), false));
        }
        Ok(merged)
    }
}
