//! What the workers of one pass over a LUN share: the queue, the first failure, the operator's wishes, the progress.
//!
//! Acts: locks and wake-ups, and the clock of the rate limit. Decides nothing itself: it asks the queue and the throttle.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::copy::error::CopyError;
use crate::copy::queue::{ExtentQueue, Take};
use crate::copy::throttle::Throttle;
use crate::lun::Segment;
use crate::units::{Bytes, BytesPerSecond, Span};

/// What the operator may change while a copy runs. Cheap to share; every change is seen at once.
#[derive(Debug, Default)]
pub struct Controls {
    rate: AtomicU64,
    interrupted: AtomicBool,
    changed: Notify,
}

impl Controls {
    /// Limits the copy to `rate`, or lifts the limit.
    pub fn set_rate(&self, rate: Option<BytesPerSecond>) {
        self.rate.store(rate.map_or(0, |rate| rate.0), Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// The limit now.
    pub fn rate(&self) -> Option<BytesPerSecond> {
        Some(self.rate.load(Ordering::SeqCst)).filter(|&rate| rate > 0).map(BytesPerSecond)
    }

    /// Asks the copy to stop at the next extent, with a checkpoint.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Whether it was asked to.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
}

/// How far a copy is, for whoever shows it. Counters only rise within a run.
#[derive(Debug, Default)]
pub struct Progress {
    /// The watermark of the last checkpoint that was begun.
    pub watermark: AtomicU64,
    /// Bytes of data written to the target.
    pub copied: AtomicU64,
    /// Bytes of zeroes punched or written.
    pub zeroed: AtomicU64,
    /// Bytes of zeroes left alone, because the target had them.
    pub skipped: AtomicU64,
    /// Requests sent again.
    pub retried: AtomicU64,
    /// Bytes that could not be read.
    pub unreadable: AtomicU64,
    /// Checkpoints written.
    pub checkpoints: AtomicU64,
    /// Bytes that a verify has looked at.
    pub verified: AtomicU64,
}

impl Progress {
    /// Adds `n` to one of the counters.
    pub fn add(counter: &AtomicU64, n: Bytes) {
        counter.fetch_add(n.0, Ordering::Relaxed);
    }
}

/// The state that the lanes of all workers share during one pass.
pub struct Board {
    queue: Mutex<ExtentQueue>,
    throttle: Mutex<Throttle>,
    epoch: Instant,
    returned: Notify,
    failed: AtomicBool,
    failure: Mutex<Option<CopyError>>,
    controls: Arc<Controls>,
}

impl Board {
    /// A board over `queue`. It is held: nothing is handed out before [`Board::open`].
    pub fn new(mut queue: ExtentQueue, controls: Arc<Controls>) -> Self {
        queue.set_limit(Bytes::ZERO);
        Self {
            queue: Mutex::new(queue),
            throttle: Mutex::new(Throttle::default()),
            epoch: Instant::now(),
            returned: Notify::new(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            controls,
        }
    }

    fn queue(&self) -> MutexGuard<'_, ExtentQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the lanes start.
    pub fn open(&self) {
        self.queue().set_limit(Bytes(u64::MAX));
        self.returned.notify_waiters();
    }

    /// Lets the lanes go on to `to`. What was allowed before stays so.
    pub fn extend(&self, to: Bytes) {
        self.queue().raise_limit(to);
        self.returned.notify_waiters();
    }

    /// Hands out nothing more.
    pub fn stop(&self) {
        self.queue().stop();
        self.returned.notify_waiters();
    }

    /// What is not done: from the watermark to the span's end.
    pub fn rest(&self) -> Span {
        self.queue().rest()
    }

    /// Whether all of the span is done.
    pub fn is_complete(&self) -> bool {
        self.queue().is_complete()
    }

    /// The next thing to do; waits until there is one. `Finished` also after a failure or an interruption; a scout that
    /// fails is a failure.
    pub async fn take(&self, scout: impl Fn(Bytes) -> Result<Segment, CopyError>) -> Take {
        loop {
            let returned = self.returned.notified();
            let changed = self.controls.changed.notified();
            match self.try_take(&scout) {
                Ok(Take::Wait) => {}
                Ok(take) => return take,
                Err(error) => self.fail(error),
            }
            tokio::select! { biased; () = changed => {}, () = returned => {} }
        }
    }

    fn try_take(&self, scout: impl Fn(Bytes) -> Result<Segment, CopyError>) -> Result<Take, CopyError> {
        let mut queue = self.queue();
        if self.controls.is_interrupted() {
            queue.stop();
        }
        queue.take(scout)
    }

    /// Holds back until the rate limit lets `bytes` through. `false` where the copy was stopped meanwhile.
    pub async fn pace(&self, bytes: Bytes) -> bool {
        if self.controls.rate().is_none() {
            return true;
        }
        let ticket = self.throttle().admit(self.epoch.elapsed(), bytes, self.controls.rate());
        loop {
            let changed = self.controls.changed.notified();
            let returned = self.returned.notified();
            if self.is_stopped() {
                return false;
            }
            let wait = self.throttle().wait(self.epoch.elapsed(), ticket, self.controls.rate());
            if wait.is_zero() {
                return true;
            }
            tokio::select! { biased; () = changed => {}, () = returned => {}, () = tokio::time::sleep(wait) => {} }
        }
    }

    /// `span` is the same on both LUNs now.
    pub fn done(&self, span: Span) {
        self.queue().done(span);
        self.returned.notify_waiters();
    }

    /// `span` is zeroes on the source, and waits for its punch.
    pub fn zero(&self, span: Span) {
        self.queue().zero(span);
        self.returned.notify_waiters();
    }

    /// `span` comes back undone, because the copy was stopped or failed.
    pub fn abandon(&self, span: Span) {
        self.queue().abandon(span);
        self.returned.notify_waiters();
    }

    /// Stops everything because of `error`. The first one wins (S13).
    pub fn fail(&self, error: CopyError) {
        {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            match failure.as_ref() {
                Some(_) => tracing::warn!(%error, "a further failure after the first"),
                None => *failure = Some(error),
            }
        }
        self.failed.store(true, Ordering::SeqCst);
        self.queue().stop();
        self.returned.notify_waiters();
    }

    /// Lets nothing more go out, not even what was read already. What is on its way to a LUN comes back as ever.
    pub fn halt(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.stop();
    }

    /// Whether a failure or the operator stopped this pass.
    pub fn is_stopped(&self) -> bool {
        self.has_failed() || self.controls.is_interrupted()
    }

    /// Whether a failure stopped this pass. What is not on its way to the target yet stays behind then: a host that was fenced
    /// must not write any more (design S3).
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// The watermark.
    pub fn lo(&self) -> Bytes {
        self.queue().lo()
    }

    /// Waits until the watermark has reached `enough`, or until nothing is in flight and nothing more will be.
    /// `true` for the latter; nothing else is waited for once the pass was stopped.
    pub async fn moved_to(&self, enough: Bytes) -> bool {
        loop {
            let returned = self.returned.notified();
            let changed = self.controls.changed.notified();
            {
                let queue = self.queue();
                let stopped = self.is_stopped();
                if queue.is_idle(stopped) {
                    return true;
                }
                if queue.lo() >= enough && !stopped {
                    return false;
                }
            }
            tokio::select! { biased; () = changed => {}, () = returned => {} }
        }
    }

    /// The watermark, when the pass is over.
    ///
    /// # Errors
    /// The first failure of the pass.
    pub fn finish(&self) -> Result<Bytes, CopyError> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(self.lo()),
        }
    }
}
