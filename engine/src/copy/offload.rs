//! An array that copies in place of the lanes: on trial at first, trusted then, or given up for good.
//!
//! Acts: runs the array's commands on blocking threads, bounded by what its copy manager takes at once. What the lanes do
//! with it stands in `lane/by_array`.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::lun::xcopy::{ArrayError, ArrayPair};
use crate::units::{Bytes, Span};

/// An array, shared by the lanes of a copy.
pub struct Offload {
    array: Arc<ArrayPair>,
    permits: Semaphore,
    trusted: AtomicBool,
    gave_up: OnceLock<String>,
    moved: AtomicU64,
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").field("moved", &self.moved).field("gave_up", &self.gave_up).finish_non_exhaustive()
    }
}

impl Offload {
    /// An array that has to prove itself.
    pub fn new(array: Arc<ArrayPair>) -> Self {
        let permits = Semaphore::new(array.limits().at_once.min(Semaphore::MAX_PERMITS));
        Self { array, permits, trusted: AtomicBool::new(false), gave_up: OnceLock::new(), moved: AtomicU64::new(0) }
    }

    /// Why the array is not used any more.
    pub fn gave_up(&self) -> Option<&str> {
        self.gave_up.get().map(String::as_str)
    }

    /// The array is not used any more. The first reason stands (S13).
    pub fn give_up(&self, why: String) {
        tracing::warn!(why, "the array does not copy on; this host does");
        if let Err(later) = self.gave_up.set(why) {
            tracing::debug!(later, "a further reason after the first");
        }
    }

    /// Bytes that the array has copied.
    pub fn moved(&self) -> Bytes {
        Bytes(self.moved.load(Ordering::Relaxed))
    }

    /// `span` is on the target, by the array.
    pub fn has_moved(&self, span: Span) {
        self.moved.fetch_add(span.len().0, Ordering::Relaxed);
    }

    /// `span` in ranges of one command each.
    pub fn commands(&self, span: Span) -> Option<Vec<Span>> {
        self.array.commands(span)
    }

    /// Waits until the array may be given another command.
    pub async fn turn(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }

    /// It has copied right, and may go on.
    pub fn trust(&self) {
        self.trusted.store(true, Ordering::Relaxed);
    }

    /// Whether it may copy: it has proven itself, and has not given up.
    pub fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Relaxed) && self.gave_up().is_none()
    }

    /// Copies `span`, one of [`Offload::commands`].
    ///
    /// # Errors
    /// See [`ArrayError`].
    pub async fn send(&self, span: Span) -> Result<(), ArrayError> {
        let array = Arc::clone(&self.array);
        let done = tokio::task::spawn_blocking(move || array.copy(span)).await;
        done.expect("a panic stops the process, and nothing else ends a command before its time")
    }
}
