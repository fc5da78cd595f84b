//! VERIFY(16) with BYTCHK: the device compares its medium with what it is sent.
//!
//! Acts through the LUN's commands; changes nothing on the medium. Not every device that takes the command compares (LIO
//! takes it and does not, measured): it is believed only after it has told wrong blocks from right ones.

use std::io;

use lunferry_scsi::category::Category;
use lunferry_scsi::command::transfer::{ByteCheck, Verify16};
use lunferry_scsi::initiator::CommandError;

use super::{ScsiLun, SgLun};
use crate::buffer::AlignedBuf;
use crate::lun::device_error::of_command;
use crate::units::{Bytes, Span};

impl SgLun {
    /// Whether the medium holds the beginning of `buf` in `span`.
    pub async fn holds(&self, buf: AlignedBuf, span: Span) -> (io::Result<bool>, AlignedBuf) {
        let job = move |lun: &ScsiLun| {
            let holds = lun.holds(&buf.as_ref()[..span.len().as_len()], span.start);
            (holds.map_err(|error| of_command(&error)), buf)
        };
        self.blocking(job).await
    }
}

impl ScsiLun {
    /// Whether the medium holds `buffer` at `at`.
    ///
    /// # Errors
    /// What the device said, where it did not compare.
    pub fn holds(&self, buffer: &[u8], at: Bytes) -> Result<bool, CommandError> {
        let most = self.shape().transfer.as_len();
        for (i, part) in buffer.chunks(most).enumerate() {
            let span = Span::at(at + Bytes::from(i * most), Bytes::from(part.len()));
            let command = Verify16 { range: self.shape().range(span), check: ByteCheck::EachBlock, dpo: false };
            match self.initiator().write_blocks(&command, self.block_size(), part) {
                Ok(_) => {}
                Err(error) if matches!(error.category(), Some(Category::Miscompare { .. })) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Why the device's compare is not to be believed; nothing where it is. Sends it what it holds, which it must call
    /// equal, and the same with one wrong bit in the first and in the last byte of a transfer, which it must not.
    ///
    /// # Errors
    /// Where its first blocks can't be read, or the storage refuses this host.
    pub fn does_not_compare(&self) -> io::Result<Option<String>> {
        let len = self.shape().transfer.min(self.shape().capacity);
        let mut data = self.read_exactly(Bytes::ZERO, len.as_len())?;
        let asked = |data: &[u8]| match self.holds(data, Bytes::ZERO) {
            Err(error) if error.is_conflict() => Err(of_command(&error)),
            other => Ok(other),
        };
        match asked(data.as_ref())? {
            Ok(true) => {}
            Ok(false) => return Ok(Some("VERIFY(16) called the device's own data different".into())),
            Err(error) => return Ok(Some(error.to_string())),
        }
        for at in [0, len.as_len() - 1] {
            data.as_mut()[at] ^= 1;
            let told = asked(data.as_ref())?;
            data.as_mut()[at] ^= 1;
            match told {
                Ok(false) => {}
                Ok(true) => {
                    return Ok(Some(format!(
                        "VERIFY(16) called data equal that was wrong in byte {at}: it does not compare"
                    )));
                }
                Err(error) => return Ok(Some(error.to_string())),
            }
        }
        Ok(None)
    }
}
