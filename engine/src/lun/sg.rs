//! The `sg` vehicle: READ(16), WRITE(16) and the commands around them, sent to one SCSI LUN through a transport.
//!
//! Acts. A transport blocks, so every command runs on the blocking threads of the worker's runtime; as many are in flight as
//! the copy has lanes. Retries are the initiator's business (`lunferry_scsi::retry`); what it gives up comes out with an
//! errno and the device's words (`device_error`).
//!
//! What must hold:
//! - A command owns its buffer until it has ended, also where nobody waits for it any more (S13): the buffer moves into the
//!   blocking call and back.
//! - A checkpoint goes through `durable`, zeroes go through `zeroing`: each says what it promises.
//!
//! ```text
//!   sg/facts     what the device says of itself
//!   sg/shape     pure: sizes and ways that follow from it
//!   sg/durable   the checkpoint's writes: COMPARE AND WRITE, FUA, or a flush behind the write
//!   sg/zeroing   ranges that must read as zeroes
//!   sg/check     VERIFY(16), and whether the device really compares
//!   sg/open      the transport over the descriptor that holds the lock
//! ```

pub mod check;
pub mod durable;
pub mod facts;
pub mod open;
pub mod shape;
pub mod zeroing;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use lunferry_scsi::category::Category;
use lunferry_scsi::command::transfer::{Caching, FlushRange, Read16, SynchronizeCache10, SynchronizeCache16, Write16};
use lunferry_scsi::initiator::{CommandError, Initiator};
use lunferry_scsi::transport::Transport;
use lunferry_scsi::units::{BlockSize, Lba};

use self::durable::Durable;
use self::facts::ScsiFacts;
use self::shape::{QueueLimits, Shape};
use self::zeroing::Zeroing;
use super::device_error::of_command;
use super::disturbances::Disturbances;
use super::lba_map::LbaMap;
use super::{LunIo, Segment};
use crate::buffer::AlignedBuf;
use crate::units::{Bytes, Span};

/// A SCSI LUN that commands are sent to. Its methods block.
pub struct ScsiLun {
    transport: Arc<dyn Transport>,
    facts: ScsiFacts,
    shape: Shape,
    map: Option<Arc<LbaMap>>,
    durable: Durable,
    zeroing: Zeroing,
    disturbances: Option<Disturbances>,
}

impl ScsiLun {
    /// Over `transport`, whose queue takes what `queue` says. Asks the device what it is.
    ///
    /// # Errors
    /// Where it can't be asked.
    pub fn new(transport: Arc<dyn Transport>, queue: QueueLimits) -> Result<Self, CommandError> {
        let facts = facts::ask(&*transport)?;
        let shape = shape::shape(&facts, queue);
        let map = || Arc::new(LbaMap::new(Arc::clone(&transport), shape.block));
        let map = shape::unmapped_reads_zero(&facts).then(map);
        let durable = Durable::new(shape.compare_and_write.is_some(), queue.fua);
        Ok(Self { transport, facts, shape, map, durable, zeroing: Zeroing::default(), disturbances: None })
    }

    /// The same, where what it caches may be lost.
    #[must_use]
    pub fn with_disturbances(self, disturbances: Option<Disturbances>) -> Self {
        Self { disturbances, ..self }
    }

    /// What it says of itself.
    pub fn facts(&self) -> &ScsiFacts {
        &self.facts
    }

    /// How commands to it look.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The way to it.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// What is unmapped on it; nothing where unmapped blocks may hold anything.
    pub fn map(&self) -> Option<&Arc<LbaMap>> {
        self.map.as_ref()
    }

    /// The checkpoint's writes.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Whether it says that it can make ranges zero without being sent them.
    pub fn can_zero(&self) -> bool {
        self.shape.unmap.is_some() || self.facts.limits.is_some_and(|limits| limits.max_write_same.is_some())
    }

    fn initiator(&self) -> Initiator<'_> {
        Initiator::new(&*self.transport)
    }

    fn block_size(&self) -> BlockSize {
        self.facts.capacity.block
    }

    /// Reads into `buffer` from `at`. Less than all of it where a block in it can't be read: up to that one.
    ///
    /// # Errors
    /// What the device said of the first block.
    pub fn read_at(&self, buffer: &mut [u8], at: Bytes) -> io::Result<usize> {
        let (mut done, mut end) = (0, buffer.len());
        while done < end {
            let part = done..end.min(done + self.shape.transfer.as_len());
            let span = Span::at(at + Bytes::from(part.start), Bytes::from(part.len()));
            let command = Read16 { range: self.shape.range(span), caching: Caching::default() };
            match self.initiator().read_blocks(&command, self.block_size(), &mut buffer[part.clone()]) {
                Ok(_) => done = part.end,
                Err(error) => match bad_block(&error, self.shape.block) {
                    // What lies before the bad block is read once more, without it.
                    Some(bad) if span.start < bad && bad < span.end => end = done + (bad - span.start).as_len(),
                    Some(_) if done > 0 => return Ok(done),
                    _ => return Err(of_command(&error)),
                },
            }
        }
        Ok(done)
    }

    /// Writes all of `buffer` to `at`.
    ///
    /// # Errors
    /// What the device said.
    pub fn write_at(&self, buffer: &[u8], at: Bytes, caching: Caching) -> Result<(), CommandError> {
        let most = self.shape.transfer.as_len();
        for (i, part) in buffer.chunks(most).enumerate() {
            let span = Span::at(at + Bytes::from(i * most), Bytes::from(part.len()));
            let command = Write16 { range: self.shape.range(span), caching };
            self.initiator().write_blocks(&command, self.block_size(), part)?;
        }
        Ok(())
    }

    /// Reads exactly `len` bytes from `at`.
    ///
    /// # Errors
    /// What the device said.
    pub fn read_exactly(&self, at: Bytes, len: usize) -> io::Result<AlignedBuf> {
        let mut buf = AlignedBuf::one(len)?;
        let mut done = 0;
        while done < len {
            done += self.read_at(&mut buf.as_mut()[done..], at + Bytes::from(done))?;
        }
        Ok(buf)
    }

    /// Makes everything durable that was written before, by SYNCHRONIZE CACHE(16), or (10) where the device knows no other.
    ///
    /// # Errors
    /// What the device said.
    pub fn synchronize(&self) -> Result<(), CommandError> {
        let range = FlushRange::Everything;
        match self.initiator().send(&SynchronizeCache16 { range }) {
            Err(error) if error.is_unsupported() => self.initiator().send(&SynchronizeCache10 { range }).map(drop),
            done => done.map(drop),
        }
    }
}

impl fmt::Debug for ScsiLun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScsiLun")
            .field("name", &self.transport.name())
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// The first block that can't be read, where the device says which.
fn bad_block(error: &CommandError, block: Bytes) -> Option<Bytes> {
    match error.category() {
        Some(Category::MediumError { lba: Some(Lba(lba)) }) => lba.checked_mul(block.0).map(Bytes),
        _ => None,
    }
}

/// One worker's view of a SCSI LUN.
#[derive(Clone)]
pub struct SgLun(Arc<ScsiLun>);

impl SgLun {
    /// A view of `lun`.
    pub fn new(lun: Arc<ScsiLun>) -> Self {
        Self(lun)
    }

    /// Runs `job` where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(&self, job: impl FnOnce(&ScsiLun) -> T + Send + 'static) -> T {
        let lun = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || job(&lun)).await;
        done.expect("a panic stops the process, and nothing else ends a command before its time")
    }
}

impl LunIo for SgLun {
    type Buf = AlignedBuf;

    async fn read(&self, mut buf: AlignedBuf, part: Range<usize>, at: Bytes) -> (io::Result<usize>, AlignedBuf) {
        self.blocking(move |lun| (lun.read_at(&mut buf.as_mut()[part], at), buf)).await
    }

    async fn write(&self, buf: AlignedBuf, part: Range<usize>, at: Bytes) -> (io::Result<usize>, AlignedBuf) {
        let job = move |lun: &ScsiLun| {
            let (len, caching) = (part.len(), Caching::default());
            let done = lun.write_at(&buf.as_ref()[part], at, caching).map_err(|error| of_command(&error));
            (done.map(|()| len), buf)
        };
        self.blocking(job).await
    }

    async fn punch(&self, span: Span) -> io::Result<()> {
        self.blocking(move |lun| lun.zeroing.punch(lun, span)).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.blocking(|lun| lun.synchronize().map_err(|error| of_command(&error))).await
    }

    fn disturbances(&self) -> io::Result<Option<u64>> {
        self.0.disturbances.as_ref().map(Disturbances::count).transpose()
    }

    async fn read_block(&self, at: Bytes, len: usize) -> io::Result<Vec<u8>> {
        self.blocking(move |lun| Ok(lun.read_exactly(at, len)?.as_ref().to_vec())).await
    }

    async fn write_durable(&self, at: Bytes, block: Vec<u8>) -> io::Result<()> {
        self.blocking(move |lun| lun.durable.write(lun, at, &block)).await
    }

    fn segment(&self, at: Bytes) -> io::Result<Segment> {
        match &self.0.map {
            Some(map) => map.segment(at),
            None => Ok(Segment { is_hole: false, end: Bytes(u64::MAX) }),
        }
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
