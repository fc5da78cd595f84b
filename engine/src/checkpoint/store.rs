//! Reads and writes the superblock slots on the target.
//!
//! Acts, through the LUN trait alone. What must hold:
//! - every write follows a flush of the target that was submitted after the data it speaks of had completed (S7); the
//!   flush is made here, so that no caller can forget it;
//! - a watermark goes to one slot, the older one; a state goes to both before anyone acts on it (S8);
//! - the only valid record is never overwritten first;
//! - of a target that may lose what it caches no flush is believed before which something has happened to it (H17);
//! - after a failed write or flush the store refuses everything: nothing can be known of the slots any more, and a flush
//!   that is tried again reports success for data that is lost.

use std::io;

use thiserror::Error;

use crate::checkpoint::layout::{Layout, LayoutError, SlotId};
use crate::checkpoint::record::{RECORD_LEN, Record};
use crate::lock::error::LockError;
use crate::lun::LunIo;
use crate::units::{Bytes, Sequence};

/// Why the metadata area could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A slot could not be read.
    #[error("reading the target's checkpoint slot {slot} at byte {} failed: {source}", at.0)]
    Read {
        /// Which slot.
        slot: SlotId,
        /// Where it lies.
        at: Bytes,
        /// The kernel's word.
        source: io::Error,
    },
    /// A slot could not be written.
    #[error(
        "writing the target's checkpoint slot {slot} at byte {} failed: {source}; the copy stopped, the checkpoint before it \
         is still good",
        at.0
    )]
    Write {
        /// Which slot.
        slot: SlotId,
        /// Where it lies.
        at: Bytes,
        /// The kernel's word.
        source: io::Error,
    },
    /// The flush before a write failed.
    #[error(
        "flushing the target before a checkpoint failed: {0}; nothing after the last checkpoint is taken as durable"
    )]
    Flush(#[source] io::Error),
    /// The flush returned, and may not have found everything that it was for.
    #[error(
        "the target was reset or lost power since its last checkpoint (told {} times, and {before} before): its cache is volatile, so \
         nothing after that checkpoint is taken as durable; go on from it with --resume",
        now.map_or_else(|| "unknown".into(), |now| now.to_string())
    )]
    Disturbed {
        /// The count when the target was known to hold what it was sent.
        before: u64,
        /// The count after the flush.
        now: Option<u64>,
    },
    /// An earlier write or flush failed.
    #[error("the target's metadata failed before in this run and is not touched again; start again with --resume")]
    Latched,
    /// The target has no room for the area.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The look at the lock before a write says that it is lost, or can't be told. Nothing was written.
    #[error(transparent)]
    Lock(Box<LockError>),
    /// The look at the lock before a write could not be made.
    #[error("looking at the lock failed: {0}")]
    LookFailed(String),
}

/// The slots of one target, open for writing.
pub struct Store<'a, L> {
    lun: &'a L,
    layout: Layout,
    /// How much of a slot is written at once: the target's physical block, so that no device has to read and rewrite a
    /// block that holds a record.
    block: Bytes,
    next: SlotId,
    /// The count of disturbances while the target is known to hold everything that it was sent.
    calm: Option<u64>,
    latched: bool,
}

impl<'a, L: LunIo> Store<'a, L> {
    /// The store of a target with physical blocks of `block`, whose slot `next` is the older or the broken one.
    pub fn new(lun: &'a L, layout: Layout, block: Bytes, next: SlotId) -> Self {
        Self { lun, layout, block, next, calm: None, latched: false }
    }

    /// The target's physical block.
    pub fn block(&self) -> Bytes {
        self.block
    }

    /// Writes the watermark and the counters of `record` to the older slot, under the next sequence number.
    ///
    /// # Errors
    /// Where the flush or the write failed; the store is latched then.
    pub async fn write_watermark(&mut self, record: &mut Record) -> Result<(), StoreError> {
        record.sequence = Sequence(record.sequence.0 + 1);
        self.write_older(record).await
    }

    /// Writes `record` as it is to the older slot, which is the newer one from then on. Twice, and it is in both.
    ///
    /// # Errors
    /// As [`Store::write_watermark`].
    pub async fn write_older(&mut self, record: &Record) -> Result<(), StoreError> {
        self.flush().await?;
        self.write(self.next, record).await?;
        self.next = self.next.other();
        Ok(())
    }

    /// Nothing is believed of the target any more, as after a failed flush.
    pub fn latch(&mut self) {
        self.latched = true;
    }

    /// `next` has turned out to be the older or the broken slot. Nothing is written.
    pub fn start_at(&mut self, next: SlotId) {
        self.next = next;
    }

    /// Writes `record` to both slots, the older one first, under the next sequence number. Its state is decided when this
    /// returns.
    ///
    /// # Errors
    /// As [`Store::write_watermark`].
    pub async fn write_state(&mut self, record: &mut Record) -> Result<(), StoreError> {
        self.flush().await?;
        record.sequence = Sequence(record.sequence.0 + 1);
        self.write(self.next, record).await?;
        self.write(self.next.other(), record).await
    }

    /// Overwrites `slots` with zeroes: what stands there belongs to no copy any more.
    ///
    /// # Errors
    /// As [`Store::write_watermark`].
    pub async fn erase(&mut self, slots: &[SlotId]) -> Result<(), StoreError> {
        for &slot in slots {
            self.put(slot, vec![0; self.block.as_len()]).await?;
        }
        Ok(())
    }

    /// Flushes the target. Latches where that fails.
    ///
    /// # Errors
    /// As [`Store::write_watermark`].
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        if self.latched {
            return Err(StoreError::Latched);
        }
        self.latched = true;
        self.lun.flush().await.map_err(StoreError::Flush)?;
        if let Some(before) = self.calm {
            undisturbed(self.lun, before)?;
        }
        self.latched = false;
        Ok(())
    }

    /// From now on data is written: no flush is believed before which something has happened to the target since this call.
    ///
    /// # Errors
    /// Where that can't be told of a target for which it matters.
    pub fn watch(&mut self) -> Result<(), StoreError> {
        self.calm = self.lun.disturbances().map_err(StoreError::Flush)?;
        Ok(())
    }

    /// Whether something has happened to the target since [`Store::watch`], before something is done that happens to it too.
    /// Where something has, or that can't be told, no flush is believed any more.
    pub fn mind(&mut self) {
        self.latched |= self.calm.is_some_and(|before| undisturbed(self.lun, before).is_err());
    }

    /// What has happened to the target since [`Store::mind`] is known, and has cost nothing: [`Store::watch`] begins anew, where
    /// it has begun.
    ///
    /// # Errors
    /// As there.
    pub fn rewatch(&mut self) -> Result<(), StoreError> {
        if self.calm.is_some() { self.watch() } else { Ok(()) }
    }

    /// Puts the source's data behind the record that stands in a slot's head, its first physical block. The record stays.
    ///
    /// # Errors
    /// As [`Store::write_watermark`].
    pub async fn fill_behind_record(&mut self, slot: SlotId, record: &Record, head: &[u8]) -> Result<(), StoreError> {
        let mut block = self.head_block(head);
        block[..RECORD_LEN].copy_from_slice(&record.encode(slot));
        self.put(slot, block).await
    }

    /// Gives the head of a slot over to the source's data. The record in it is gone. After [`Store::fill_behind_record`]
    /// only the record's own sector changes, so that it does not matter where a device tears this write.
    ///
    /// # Errors
    /// As [`Store::write_watermark`].
    pub async fn give_up_head(&mut self, slot: SlotId, head: &[u8]) -> Result<(), StoreError> {
        self.put(slot, self.head_block(head)).await
    }

    fn head_block(&self, head: &[u8]) -> Vec<u8> {
        let mut block = head.to_vec();
        block.resize(self.block.as_len(), 0);
        block
    }

    async fn write(&mut self, slot: SlotId, record: &Record) -> Result<(), StoreError> {
        let mut block = vec![0; self.block.as_len()];
        block[..RECORD_LEN].copy_from_slice(&record.encode(slot));
        self.put(slot, block).await
    }

    async fn put(&mut self, slot: SlotId, block: Vec<u8>) -> Result<(), StoreError> {
        if self.latched {
            return Err(StoreError::Latched);
        }
        let at = self.layout.slot(slot).start;
        self.lun.write_durable(at, block).await.map_err(|source| {
            self.latched = true;
            StoreError::Write { slot, at, source }
        })
    }
}

/// Whether nothing has happened since the count stood at `before`.
///
/// # Errors
/// [`StoreError::Disturbed`] where something has, or that can't be told.
pub fn undisturbed<L: LunIo>(lun: &L, before: u64) -> Result<(), StoreError> {
    match lun.disturbances().map_err(StoreError::Flush)? {
        Some(now) if now == before => Ok(()),
        now => Err(StoreError::Disturbed { before, now }),
    }
}
