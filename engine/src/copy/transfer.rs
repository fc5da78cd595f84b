//! Whole transfers out of a LUN's short, interrupted and failing ones.
//!
//! Acts, through the LUN trait alone; what an error means is decided in `retry`.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::copy::board::Progress;
use crate::copy::error::{CopyError, Side};
use crate::copy::latency::Latencies;
use crate::copy::ledger::look;
use crate::copy::retry::{Category, categorise, next_try};
use crate::lock::Guard;
use crate::lun::device_error::errno_of;
use crate::lun::{LunIo, Segment};
use crate::units::{Bytes, Span};

/// How often a request may meet a reservation conflict while a look says that the lock is held.
const CONFLICTS: u32 = 4;

/// A buffer that comes back with the outcome of what was done with it.
pub type WithBuf<T, B> = (Result<T, CopyError>, B);

/// Transfers to and from one LUN.
pub struct Transfers<'a, L> {
    /// The LUN.
    pub lun: &'a L,
    /// Which one of the pair it is, for errors.
    pub side: Side,
    /// Its logical block.
    pub block: Bytes,
    /// Where retries are counted.
    pub progress: &'a Progress,
    /// This worker's latencies.
    pub latencies: &'a RefCell<Latencies>,
    /// Who knows whether the lock still is held; nothing where no lock binds other hosts.
    pub guard: Option<&'a Arc<dyn Guard>>,
}

impl<L: LunIo> Transfers<'_, L> {
    /// Reads `buf[part]`, which belongs at `base + part.start`. `Some((at, errno))` where the medium failed at offset `at`.
    ///
    /// # Errors
    /// What the LUN said, with the place, where reading other blocks would not help.
    pub async fn part(
        &self,
        mut buf: L::Buf,
        part: Range<usize>,
        base: Bytes,
    ) -> WithBuf<Option<(usize, i32)>, L::Buf> {
        let (mut at, mut attempts) = (part.start, 0);
        while at < part.end {
            let position = base + Bytes::from(at);
            let started = Instant::now();
            let read;
            (read, buf) = self.lun.read(buf, at..part.end, position).await;
            self.latencies.borrow_mut().read(started.elapsed());
            if matches!(read, Ok(0)) {
                return (Err(CopyError::Ended { side: self.side, at: position.0 }), buf);
            }
            let alone = part.end - at <= self.block.as_len();
            match self.moved(read, &mut attempts, alone).await {
                Ok(moved) => at += moved,
                Err((Category::Medium, error)) => return (Ok(Some((at, failed_with(&error)))), buf),
                Err((_, error)) => {
                    let span = Span::new(position, base + Bytes::from(part.end));
                    return (Err(CopyError::of_request("reading", self.side, span, self.block, error)), buf);
                }
            }
        }
        (Ok(None), buf)
    }

    /// What the LUN knows of the range at `at` without reading it.
    ///
    /// # Errors
    /// What the LUN said, with the place.
    pub fn segment(&self, at: Bytes) -> Result<Segment, CopyError> {
        let place = Span::at(at, Bytes::ZERO);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => CopyError::Ended { side: self.side, at: at.0 },
            _ => CopyError::of_request("looking for holes at", self.side, place, self.block, error),
        };
        self.lun.segment(at).map_err(failed)
    }

    /// Reads all of `span` into the buffer's start.
    ///
    /// # Errors
    /// What the LUN said, with the place; for the medium too.
    pub async fn exactly(&self, buf: L::Buf, span: Span) -> WithBuf<(), L::Buf> {
        let (done, buf) = self.part(buf, 0..span.len().as_len(), span.start).await;
        let done = done.and_then(|failed| match failed {
            None => Ok(()),
            Some((at, errno)) => {
                let place = Span::new(span.start + Bytes::from(at), span.end);
                let error = io::Error::from_raw_os_error(errno);
                Err(CopyError::of_request("reading", self.side, place, self.block, error))
            }
        });
        (done, buf)
    }

    /// Writes `buf[part]` to `base + part.start`. `false` where `stopped` said so before all of it was sent.
    ///
    /// # Errors
    /// What the LUN said, with the place.
    pub async fn all(
        &self,
        mut buf: L::Buf,
        part: Range<usize>,
        base: Bytes,
        stopped: impl Fn() -> bool,
    ) -> WithBuf<bool, L::Buf> {
        let (mut at, mut attempts) = (part.start, 0);
        while at < part.end {
            if stopped() {
                return (Ok(false), buf);
            }
            let position = base + Bytes::from(at);
            let started = Instant::now();
            let written;
            (written, buf) = self.lun.write(buf, at..part.end, position).await;
            self.latencies.borrow_mut().write(started.elapsed());
            match self.moved(written, &mut attempts, false).await {
                Ok(moved) => at += moved,
                Err((_, error)) => {
                    let span = Span::new(position, base + Bytes::from(part.end));
                    return (Err(CopyError::of_request("writing", self.side, span, self.block, error)), buf);
                }
            }
        }
        (Ok(true), buf)
    }

    /// What one attempt has moved, in whole blocks; nothing where it is to be made again, after the wait that is due. Errors of
    /// the medium are tried again only where `also_medium`.
    async fn moved(
        &self,
        done: io::Result<usize>,
        attempts: &mut u32,
        also_medium: bool,
    ) -> Result<usize, (Category, io::Error)> {
        let block = self.block.as_len();
        let error = match done {
            Ok(n) if n >= block => {
                *attempts = 0;
                return Ok(n - n % block);
            }
            // Less than a block: as if nothing had come.
            Ok(_) => io::Error::from_raw_os_error(libc::EAGAIN),
            Err(error) => error,
        };
        *attempts += 1;
        let category = categorise(&error);
        let may_ask = category == Category::Fenced && *attempts < CONFLICTS && self.guard.is_some();
        if may_ask && look(self.guard).await.is_ok() {
            // A path had come back that was not registered, and is now.
            self.retry_after(Duration::ZERO).await;
            return Ok(0);
        }
        match next_try(category, *attempts) {
            Some(wait) if category == Category::Transient || also_medium => {
                self.retry_after(wait).await;
                Ok(0)
            }
            _ => Err((category, error)),
        }
    }

    /// Waits before a request is sent again, and counts it.
    pub async fn retry_after(&self, wait: Duration) {
        self.progress.retried.fetch_add(1, Ordering::Relaxed);
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
    }
}

fn failed_with(error: &io::Error) -> i32 {
    errno_of(error).unwrap_or(libc::EIO)
}
