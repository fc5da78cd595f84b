//! The checkpoints of one copy: the record that is written next, and when.
//!
//! Acts through the store. The record's counters are those of all runs of the copy together. What could not be read is
//! counted below the watermark alone: it decides whether the copy may be committed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::checkpoint::layout::SlotId;
use crate::checkpoint::record::{Counters, Record};
use crate::checkpoint::state::State;
use crate::checkpoint::store::{Store, StoreError};
use crate::copy::board::{Board, Progress};
use crate::copy::unreadable::UnreadableList;
use crate::lock::Guard;
use crate::lun::LunIo;
use crate::units::{Bytes, Epoch};

/// The least time between two looks at the clock.
const SHORTEST_PACE: Duration = Duration::from_millis(1);

/// How often a checkpoint is written: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After this much was copied.
    pub bytes: Bytes,
    /// After this much time, where anything was copied.
    pub time: Duration,
}

/// Writes the checkpoints of one copy.
pub struct Ledger<'a, L> {
    store: Store<'a, L>,
    record: Record,
    before: Counters,
    progress: Arc<Progress>,
    unreadable: &'a Mutex<UnreadableList>,
    pace: Pace,
    unix_now: fn() -> u64,
    guard: Option<Arc<dyn Guard>>,
}

impl<'a, L: LunIo> Ledger<'a, L> {
    /// A ledger that goes on from `record`.
    pub fn new(
        store: Store<'a, L>,
        record: Record,
        progress: Arc<Progress>,
        unreadable: &'a Mutex<UnreadableList>,
        pace: Pace,
        unix_now: fn() -> u64,
    ) -> Self {
        let before = record.counters;
        Self { store, record, before, progress, unreadable, pace, unix_now, guard: None }
    }

    /// Looks by this guard before each checkpoint whether the copy still has its lock.
    #[must_use]
    pub fn guarded_by(self, guard: Option<Arc<dyn Guard>>) -> Self {
        Self { guard, ..self }
    }

    async fn look_at_lock(&self) -> Result<(), StoreError> {
        look(self.guard.as_ref()).await
    }

    /// The record as it was last written.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Starts a copy on a target: whatever the slots held goes first, so that no crash in between can leave an old record
    /// beside the new one.
    ///
    /// # Errors
    /// The store's.
    pub async fn define(&mut self, slots_are_blank: bool) -> Result<(), StoreError> {
        if !slots_are_blank {
            self.look_at_lock().await?;
            self.store.erase(&SlotId::BOTH).await?;
        }
        self.enter(State::Defined, Bytes::ZERO).await
    }

    /// Takes over the copy that the record tells of: the same state under the next epoch, in both slots (design H9).
    ///
    /// # Errors
    /// The store's.
    pub async fn adopt(&mut self) -> Result<(), StoreError> {
        self.record.epoch = Epoch(self.record.epoch.0 + 1);
        self.enter(self.record.state, self.record.watermark).await
    }

    /// Changes the state, durably.
    ///
    /// # Errors
    /// The store's.
    pub async fn enter(&mut self, state: State, watermark: Bytes) -> Result<(), StoreError> {
        self.look_at_lock().await?;
        self.fill_in(watermark);
        self.record.state = state;
        self.store.write_state(&mut self.record).await?;
        self.progress.checkpoints.fetch_add(1, Ordering::Relaxed);
        tracing::info!(%state, watermark = watermark.0, epoch = self.record.epoch.0, "state written to both slots");
        Ok(())
    }

    /// Before the first data is written: see [`Store::watch`].
    ///
    /// # Errors
    /// The store's.
    pub fn watch(&mut self) -> Result<(), StoreError> {
        self.store.watch()
    }

    /// Writes a checkpoint at `watermark`, which must have been read before this call.
    ///
    /// # Errors
    /// The store's.
    pub async fn checkpoint(&mut self, watermark: Bytes) -> Result<(), StoreError> {
        let watermark = self.claimable(watermark);
        if watermark == self.record.watermark {
            return Ok(());
        }
        self.look_at_lock().await?;
        self.fill_in(watermark);
        self.store.write_watermark(&mut self.record).await?;
        self.progress.checkpoints.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(watermark = watermark.0, sequence = self.record.sequence.0, "checkpoint");
        Ok(())
    }

    /// What of a watermark a checkpoint may claim: whole physical blocks of the target, since the next write into a block
    /// that is done in part makes the device read and rewrite all of it, and a torn one damages what was claimed. Never less
    /// than was claimed before.
    fn claimable(&self, watermark: Bytes) -> Bytes {
        let whole = if watermark < self.record.layout.bulk_end() {
            watermark.align_down(self.store.block())
        } else {
            watermark
        };
        whole.max(self.record.watermark)
    }

    /// Writes a last checkpoint at `watermark` and lets go of the copy: no key stands in the record, so that whoever goes on
    /// knows that this node has nothing in flight.
    ///
    /// # Errors
    /// The store's.
    pub async fn let_go(&mut self, watermark: Bytes) -> Result<(), StoreError> {
        self.look_at_lock().await?;
        self.record.owner.reservation_key = 0;
        self.fill_in(self.claimable(watermark));
        self.store.write_watermark(&mut self.record).await?;
        self.progress.checkpoints.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes checkpoints at their pace until the pass on `board` is over. A checkpoint that fails stops the pass.
    pub async fn keep(&mut self, board: &Board) {
        let mut last = Instant::now();
        loop {
            // A pace of nothing means at every move; without the lower bounds this loop would never wait.
            let enough = Bytes(self.record.watermark.0.saturating_add(self.pace.bytes.0.max(1)));
            let due = last + self.pace.time.max(SHORTEST_PACE);
            let over = tokio::select! {
                biased;
                over = board.moved_to(enough) => over,
                () = tokio::time::sleep_until(due) => false,
            };
            if over {
                return;
            }
            last = Instant::now();
            // The session decides what is still written after a failure.
            if board.has_failed() {
                continue;
            }
            if let Err(error) = self.checkpoint(board.lo()).await {
                board.fail(error.into());
                return;
            }
        }
    }

    /// The end of an overlay copy: gives both slots' heads over to the source's data, A's before B's. Everything else must
    /// be on the target, though not yet durable.
    ///
    /// # Errors
    /// The store's.
    pub async fn give_up_heads(&mut self, heads: &[Vec<u8>; 2]) -> Result<(), StoreError> {
        self.look_at_lock().await?;
        for (slot, head) in SlotId::BOTH.into_iter().zip(heads) {
            self.store.fill_behind_record(slot, &self.record, head).await?;
        }
        self.store.flush().await?;
        for (slot, head) in SlotId::BOTH.into_iter().zip(heads) {
            self.store.give_up_head(slot, head).await?;
        }
        Ok(())
    }

    fn fill_in(&mut self, watermark: Bytes) {
        let now = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (before, run) = (&self.before, &self.progress);
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        self.record.watermark = watermark;
        self.progress.watermark.store(watermark.0, Ordering::Relaxed);
        self.record.written_at_unix_s = (self.unix_now)();
        self.record.counters = Counters {
            copied_bytes: before.copied_bytes + Bytes(now(&run.copied)),
            zeroed_bytes: before.zeroed_bytes + Bytes(now(&run.zeroed)),
            skipped_bytes: before.skipped_bytes + Bytes(now(&run.skipped)),
            retried: before.retried + now(&run.retried),
            // What lies above is read again after a resume, and counted then.
            unreadable_bytes: before.unreadable_bytes + unreadable.below(watermark),
            checkpoints: before.checkpoints + now(&run.checkpoints) + 1,
        };
    }
}

/// Looks whether the lock is still held, where one binds other hosts. Off the ring: the answer may take as long as a path needs
/// to fail.
///
/// # Errors
/// [`StoreError::Lock`] where it is not, or that can't be told.
pub async fn look(guard: Option<&Arc<dyn Guard>>) -> Result<(), StoreError> {
    let Some(guard) = guard.cloned() else { return Ok(()) };
    let looked = tokio::task::spawn_blocking(move || guard.still_held()).await;
    looked
        .map_err(|error| StoreError::LookFailed(error.to_string()))?
        .map_err(|error| StoreError::Lock(Box::new(error)))
}
