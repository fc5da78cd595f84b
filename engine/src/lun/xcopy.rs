//! Copies inside the array: EXTENDED COPY(LID1) between two LUNs (SPC-4: EXTENDED COPY command).
//!
//! Acts: sends commands to the target, and blocks until the array says that they are done. What is sent follows from `plan`
//! (pure). Whether an array that says so has copied is the lanes' business: they try it first.
//!
//! What must hold: a command whose outcome is not known ends the copy. The array may still be copying, and nobody could say
//! when the target is safe to use.

pub mod plan;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use lunferry_scsi::category::Category;
use lunferry_scsi::command::copy::{CopyPlace, ExtendedCopy, ListIdUsage, ReceiveCopyResults, Segment};
use lunferry_scsi::initiator::{CommandError, Initiator};
use lunferry_scsi::page::copy::operating_parameters;
use lunferry_scsi::sense::Code;
use lunferry_scsi::transport::Transport;
use lunferry_scsi::units::ListId;

use self::plan::{CopyLimits, limits, places};
use super::device_error::{device_error, errno_of, of_command};
use super::sg::ScsiLun;
use super::sg::shape::{Shape, pieces};
use crate::units::Span;

/// COPY TARGET DEVICE NOT REACHABLE. LIO's copy manager says so too where its write met a reservation: it writes as an
/// initiator of its own, which is not registered (`target_xcopy_issue_pt_cmd`, measured on 6.1).
const NOT_REACHABLE: Code = Code { asc: 0x0D, ascq: 0x02 };

/// Why a range was not copied by the array.
#[derive(Debug)]
pub enum ArrayError {
    /// The array does not do it. Whoever asked copies the range, which may hold anything now.
    GaveUp(String),
    /// The copy can't go on.
    Fatal(io::Error),
}

/// An array that says that it copies from one of its LUNs to another.
pub struct ArrayPair {
    transport: Arc<dyn Transport>,
    source: CopyPlace,
    target: CopyPlace,
    shape: Shape,
    limits: CopyLimits,
    list: AtomicU8,
}

impl ArrayPair {
    /// Of two LUNs. Asks the target's copy manager what it takes.
    ///
    /// # Errors
    /// Why it can't copy between them, in words.
    pub fn between(source: &ScsiLun, target: &ScsiLun) -> Result<Self, String> {
        let (from, to) = places(source.facts(), target.facts())?;
        let transport = Arc::clone(target.transport());
        let asked = Initiator::new(&*transport).ask(&ReceiveCopyResults::OperatingParameters, operating_parameters);
        let parameters = asked.map_err(|error| format!("the copy manager does not tell what it takes: {error}"))?;
        let limits = limits(&parameters, target.shape().block)?;
        tracing::debug!(?limits, "the array says that it copies");
        Ok(Self { transport, source: from, target: to, shape: *target.shape(), limits, list: AtomicU8::new(0) })
    }

    /// What its copy manager takes.
    pub fn limits(&self) -> &CopyLimits {
        &self.limits
    }

    /// `span` in ranges of one command each; nothing where the array can't copy it to its last byte.
    pub fn commands(&self, span: Span) -> Option<Vec<Span>> {
        let fits = span.start.is_multiple_of(self.limits.grain) && span.len().is_multiple_of(self.limits.grain);
        fits.then(|| pieces(span, self.limits.command()).collect())
    }

    /// Copies `span`, one of [`ArrayPair::commands`].
    ///
    /// # Errors
    /// See [`ArrayError`].
    pub fn copy(&self, span: Span) -> Result<(), ArrayError> {
        let segment = |piece| {
            let from = self.shape.range(piece);
            Segment { from, to: from.lba }
        };
        let (list, usage) = if self.limits.unnamed {
            (ListId(0), ListIdUsage::Unnamed)
        } else {
            // 1 to 255: zero is no name.
            (ListId(self.list.fetch_add(1, Ordering::Relaxed) % 255 + 1), ListIdUsage::Discard)
        };
        let command = ExtendedCopy {
            list,
            usage,
            priority: 1,
            source: self.source.clone(),
            target: self.target.clone(),
            segments: pieces(span, self.limits.segment).map(segment).collect(),
        };
        match Initiator::new(&*self.transport).send(&command) {
            Ok(_) => Ok(()),
            Err(error) => Err(meaning(&error)),
        }
    }
}

fn meaning(error: &CommandError) -> ArrayError {
    let io = of_command(error);
    match error.category() {
        Some(Category::ReservationConflict | Category::Deferred(_)) => ArrayError::Fatal(io),
        Some(Category::OutcomeUnknown(_) | Category::TransportLost(_)) => {
            let words =
                format!("{error}; the array may still be copying: let it come to rest before the target is used");
            ArrayError::Fatal(device_error(errno_of(&io).unwrap_or(libc::EIO), words))
        }
        Some(Category::CopyAborted(Some(NOT_REACHABLE))) => ArrayError::GaveUp(format!(
            "{error}; an array that copies as a host of its own is refused by the reservation, as on LIO"
        )),
        // Not begun, or ended by the array itself.
        Some(
            Category::CopyAborted(_)
            | Category::IllegalRequest(_)
            | Category::Busy
            | Category::TaskSetFull
            | Category::NoSpace
            | Category::MediumError { .. }
            | Category::WriteProtected(_),
        ) if !matches!(error, CommandError::Unknown { .. }) => ArrayError::GaveUp(error.to_string()),
        // It may still be copying, or this is another LUN by now.
        _ => ArrayError::Fatal(io),
    }
}
