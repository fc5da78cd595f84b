//! A LUN as the engine uses it: the trait of one worker's I/O, and the facts that are fixed while it is open.
//!
//! The trait is the seam of the whole engine: the real vehicle, the simulated LUN and every fault layer stand behind it,
//! and the copy is generic over it.
//!
//! What must hold for an implementation:
//! - A buffer that was handed in comes back only after the kernel has given up every reference to it (S13).
//! - `write` may be torn or reordered by a power loss until a `flush` that was *submitted after its completion* returned.
//! - `write_durable` covers its own bytes and nothing else (FUA).
//! - `punch` makes the range read as zeroes, for certain, or fails; it never leaves something else there and says yes.

pub mod device_error;
pub mod disturbances;
pub mod error;
pub mod facts;
pub mod identity;
pub mod lba_map;
pub mod open;
pub mod probe;
pub mod safety;
pub mod sg;
pub mod signature;
pub mod sizing;
pub(crate) mod sysfs;
pub mod topology;
pub mod uring;
pub mod usage;
pub mod xcopy;

use std::future::Future;
use std::io;
use std::ops::Range;

use crate::units::{Bytes, Span};

/// What one worker thread can do with one opened LUN. Short transfers are allowed and are the caller's to continue.
pub trait LunIo {
    /// A buffer of the vehicle: aligned, reused, registered where the vehicle registers.
    type Buf: AsRef<[u8]> + AsMut<[u8]>;

    /// Reads into `buf[part]` from position `at`; the number of bytes read.
    fn read(
        &self,
        buf: Self::Buf,
        part: Range<usize>,
        at: Bytes,
    ) -> impl Future<Output = (io::Result<usize>, Self::Buf)>;

    /// Writes `buf[part]` to position `at`; the number of bytes written.
    fn write(
        &self,
        buf: Self::Buf,
        part: Range<usize>,
        at: Bytes,
    ) -> impl Future<Output = (io::Result<usize>, Self::Buf)>;

    /// Makes `span` read as zeroes, giving its storage back where the LUN can. `EOPNOTSUPP` where it has no such command.
    fn punch(&self, span: Span) -> impl Future<Output = io::Result<()>>;

    /// Makes every write that has completed before this call durable.
    fn flush(&self) -> impl Future<Output = io::Result<()>>;

    /// How often something has happened that may have cost the LUN what it had only cached. Where the count is the same before
    /// a write and after a flush that follows it, the write is durable. Nothing where nothing can be lost, or nobody counts.
    ///
    /// # Errors
    /// Where the count can't be had any more: then nothing may be taken as durable.
    fn disturbances(&self) -> io::Result<Option<u64>>;

    /// Reads `len` bytes of metadata from `at`. Both are multiples of the logical block.
    fn read_block(&self, at: Bytes, len: usize) -> impl Future<Output = io::Result<Vec<u8>>>;

    /// Writes one block of metadata with FUA: it is durable when this returns.
    fn write_durable(&self, at: Bytes, block: Vec<u8>) -> impl Future<Output = io::Result<()>>;

    /// Whether a hole (a range known to read as zeroes without reading it) or data starts at `at`, and where it ends.
    /// A LUN that can't tell says that all of it is data.
    ///
    /// # Errors
    /// What the LUN said.
    fn segment(&self, at: Bytes) -> io::Result<Segment>;
}

/// What a source knows of a range without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whether the range is a hole.
    pub is_hole: bool,
    /// Where it ends (exclusive).
    pub end: Bytes,
}
