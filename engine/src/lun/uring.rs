//! The `uring` vehicle: one worker's O_DIRECT I/O to one LUN through its thread's io_uring.
//!
//! Acts: owns a duplicate of the LUN's descriptor (the same open file description, so the same O_EXCL or flock). Data goes
//! through registered buffers on the ring; so do flush and punch. Metadata goes through the very same open file
//! description, off the ring, because the ring's binding has no RWF_DSYNC: a second description could not hold O_EXCL, and
//! a write of it could outlive this process (design H7).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::FallocateFlags;
use nix::unistd::{Whence, lseek};
use rustix::io::{ReadWriteFlags, preadv2, pwritev2};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::buf::fixed::{FixedBuf, FixedBufRegistry};

use crate::buffer::AlignedBuf;
use crate::lun::disturbances::Disturbances;
use crate::lun::lba_map::LbaMap;
use crate::lun::{LunIo, Segment};
use crate::units::{Bytes, Span};

/// A buffer that is registered with the worker's ring. Must be dropped inside [`run_on_ring`].
pub struct RegisteredBuf {
    buf: FixedBuf,
    lease: Rc<Lease>,
}

/// The registration of a ring's buffers. It ends with the last of them: the kernel gives the locked memory of a ring that
/// is closed back some time later, when the next phase of the same process may long have asked for its own.
struct Lease(FixedBufRegistry<AlignedBuf>);

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.0.unregister() {
            tracing::debug!(%error, "the buffers stay registered until the ring is gone");
        }
    }
}

impl AsRef<[u8]> for RegisteredBuf {
    fn as_ref(&self) -> &[u8] {
        &self.buf
    }
}

impl AsMut<[u8]> for RegisteredBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.buf
    }
}

/// The fewest buffers worth trying: a compare needs two for a lane.
const FEWEST_BUFFERS: usize = 2;

/// Makes and registers `count` buffers of `len` bytes with the ring of the runtime that runs on this thread. Where the
/// process may not lock that much memory (`ulimit -l`), half as many, and half of these, down to two: always an even number
/// then, and a warning says so.
///
/// # Errors
/// `ENOMEM` where not even two can be locked, or the process has no more memory; `InvalidInput` for more buffers than a
/// ring's registry takes.
pub fn register_buffers(count: usize, len: Bytes) -> io::Result<Vec<RegisteredBuf>> {
    let mut got = count;
    loop {
        match try_register(got, len) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOMEM as i32) && got > FEWEST_BUFFERS => {
                got = half(got);
                tracing::debug!(got, %error, "trying fewer buffers");
            }
            Ok(bufs) => {
                if got < count {
                    let error = io::Error::from(Errno::ENOMEM);
                    tracing::warn!(
                        wanted = count,
                        got,
                        buffer_bytes = len.0,
                        %error,
                        "the kernel does not let this process lock all buffers in memory (`ulimit -l`): fewer run at once, \
                         which may be slower; raise the limit for full speed"
                    );
                }
                return Ok(bufs);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Half of `count`, even, and not below what is worth trying.
fn half(count: usize) -> usize {
    (count / 4 * 2).max(FEWEST_BUFFERS)
}

fn try_register(count: usize, len: Bytes) -> io::Result<Vec<RegisteredBuf>> {
    let registry = FixedBufRegistry::new(AlignedBuf::many(count, len.as_len())?);
    registry.register()?;
    let lease = Rc::new(Lease(registry));
    // The registry takes UIO_MAXIOV buffers (1024) and drops the rest without a word.
    let taken = |i| {
        let missing = || {
            let words = format!("{count} buffers were asked for, and a ring takes {i} at most: lower the depth");
            io::Error::new(io::ErrorKind::InvalidInput, words)
        };
        let buf = lease.0.check_out(i).ok_or_else(missing)?;
        Ok(RegisteredBuf { buf, lease: Rc::clone(&lease) })
    };
    (0..count).map(taken).collect()
}

/// Runs `future` on a new io_uring runtime on this thread, with room for `depth` requests in flight.
///
/// # Errors
/// Where the kernel gives no ring: `ENOSYS` without io_uring, `EPERM` where it is forbidden (`kernel.io_uring_disabled`, a
/// seccomp filter), `ENOMEM` where the process may not lock so much memory.
pub fn run_on_ring<F: Future>(depth: usize, future: F) -> io::Result<F::Output> {
    let entries = u32::try_from(depth.next_power_of_two().clamp(8, 4096)).expect("clamped");
    // The runtime panics where it gets no ring; one that was made and dropped before says whether it will.
    drop(tokio_uring::uring_builder().build(entries)?);
    Ok(tokio_uring::builder().entries(entries).start(future))
}

/// One worker's view of one open LUN.
pub struct UringLun {
    ring: tokio_uring::fs::File,
    direct: Arc<File>,
    /// Whether SEEK_HOLE tells the truth here: on regular files it does, on block devices it knows nothing.
    tells_holes: bool,
    /// What a SCSI device says of what is unmapped.
    map: Option<Arc<LbaMap>>,
    disturbances: Option<Disturbances>,
    /// What it had when it was opened: a file that is shorter by now has no holes at its end, it has no end there.
    capacity: Bytes,
}

impl UringLun {
    /// A view of `file`, which was opened with O_DIRECT and had `capacity` bytes then. Must be called, used and dropped inside
    /// [`run_on_ring`].
    ///
    /// # Errors
    /// Where the descriptor can't be duplicated.
    pub fn new(file: &File, tells_holes: bool, capacity: Bytes) -> io::Result<Self> {
        let ring = tokio_uring::fs::File::from_std(file.try_clone()?);
        Ok(Self { ring, direct: Arc::new(file.try_clone()?), tells_holes, map: None, disturbances: None, capacity })
    }

    /// The same, with what a SCSI device says of what is unmapped: the kernel's block device does not tell.
    #[must_use]
    pub fn with_map(self, map: Arc<LbaMap>) -> Self {
        Self { map: Some(map), ..self }
    }

    /// The same, where what it caches may be lost.
    #[must_use]
    pub fn with_disturbances(self, disturbances: Option<Disturbances>) -> Self {
        Self { disturbances, ..self }
    }

    /// A hole from `at` to `end`, unless the file became shorter: SEEK_DATA says ENXIO both for "no data up to the end" and
    /// for "past the end", and what a file has lost must never be copied as zeroes. Looks after the seek, so that a file
    /// that is cut between the two is caught.
    fn hole(&self, at: Bytes, end: Bytes) -> io::Result<Segment> {
        let now = self.direct.metadata()?.len();
        if now < self.capacity.0 || at.0 >= now {
            let words = format!(
                "the file has {now} bytes now and had {} when it was opened, byte {} is wanted: it was cut short",
                self.capacity.0, at.0
            );
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
        }
        Ok(Segment { is_hole: true, end })
    }
}

impl LunIo for UringLun {
    type Buf = RegisteredBuf;

    async fn read(&self, buf: RegisteredBuf, part: Range<usize>, at: Bytes) -> (io::Result<usize>, RegisteredBuf) {
        let RegisteredBuf { buf, lease } = buf;
        let (done, slice) = self.ring.read_fixed_at(buf.slice(part), at.0).await;
        (done, RegisteredBuf { buf: slice.into_inner(), lease })
    }

    async fn write(&self, buf: RegisteredBuf, part: Range<usize>, at: Bytes) -> (io::Result<usize>, RegisteredBuf) {
        let RegisteredBuf { buf, lease } = buf;
        let (done, slice) = self.ring.write_fixed_at(buf.slice(part), at.0).await;
        (done, RegisteredBuf { buf: slice.into_inner(), lease })
    }

    /// For a block device the kernel turns this into a write-zeroes command that may unmap, and refuses where the device has
    /// none (`BLKDEV_ZERO_NOFALLBACK`, block/fops.c); a discard, which promises nothing, is never sent.
    async fn punch(&self, span: Span) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.ring.fallocate(span.start.0, span.len().0, flags.bits()).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.ring.sync_data().await
    }

    fn disturbances(&self) -> io::Result<Option<u64>> {
        self.disturbances.as_ref().map(Disturbances::count).transpose()
    }

    async fn read_block(&self, at: Bytes, len: usize) -> io::Result<Vec<u8>> {
        let file = Arc::clone(&self.direct);
        off_the_ring(move || read_block(&file, at, len)).await
    }

    async fn write_durable(&self, at: Bytes, block: Vec<u8>) -> io::Result<()> {
        let file = Arc::clone(&self.direct);
        off_the_ring(move || write_block_durable(&file, at, &block)).await
    }

    fn segment(&self, at: Bytes) -> io::Result<Segment> {
        if let Some(map) = &self.map {
            return map.segment(at);
        }
        if !self.tells_holes {
            return Ok(Segment { is_hole: false, end: Bytes(u64::MAX) });
        }
        let start = i64::try_from(at.0).map_err(|_| Errno::EOVERFLOW)?;
        match lseek(self.direct.as_fd(), start, Whence::SeekData) {
            Ok(data) if data > start => self.hole(at, position(data)),
            Ok(_) => {
                let hole = lseek(self.direct.as_fd(), start, Whence::SeekHole)?;
                Ok(Segment { is_hole: false, end: position(hole) })
            }
            // No data up to the end of the file.
            Err(Errno::ENXIO) => self.hole(at, Bytes(u64::MAX)),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn position(offset: i64) -> Bytes {
    Bytes(u64::try_from(offset).expect("lseek gives no negative position"))
}

async fn off_the_ring<T: Send + 'static>(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(job).await.map_err(io::Error::other)?
}

/// Reads `len` bytes at `at` from a LUN opened with O_DIRECT. Both are multiples of its logical block.
///
/// # Errors
/// The LUN's own, or `UnexpectedEof` where it ends before.
pub fn read_block(file: &File, at: Bytes, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = AlignedBuf::one(len)?;
    let mut done = 0;
    while done < len {
        let into = &mut buf.as_mut()[done..];
        match preadv2(file, &mut [io::IoSliceMut::new(into)], at.0 + done as u64, ReadWriteFlags::empty()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(buf.as_ref().to_vec())
}

/// Writes `block` at `at` with RWF_DSYNC: durable when it returns.
///
/// # Errors
/// The LUN's own, or `WriteZero` where it took only a part: half a block of metadata is none.
pub fn write_block_durable(file: &File, at: Bytes, block: &[u8]) -> io::Result<()> {
    let mut buf = AlignedBuf::one(block.len())?;
    buf.as_mut().copy_from_slice(block);
    loop {
        match pwritev2(file, &[io::IoSlice::new(buf.as_ref())], at.0, ReadWriteFlags::DSYNC) {
            Ok(n) if n == block.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn segments(at: u64, cut_to: Option<u64>) -> io::Result<Segment> {
        let file = tempfile::tempfile().unwrap();
        pwritev2(&file, &[io::IoSlice::new(&[7; 65536])], 0, ReadWriteFlags::empty()).unwrap();
        file.set_len(1 << 20).unwrap();
        run_on_ring(8, async {
            let lun = UringLun::new(&file, true, Bytes::mib(1)).unwrap();
            cut_to.into_iter().for_each(|len| file.set_len(len).unwrap());
            lun.segment(Bytes(at))
        })
        .unwrap()
    }

    #[test]
    fn a_hole_at_the_end_is_one_and_a_file_that_was_cut_has_none() {
        assert_eq!(segments(0, None).unwrap(), Segment { is_hole: false, end: Bytes(65536) });
        assert_eq!(segments(65536, None).unwrap(), Segment { is_hole: true, end: Bytes(u64::MAX) });
        for (at, cut_to) in [(65536, 524_288), (524_288, 524_288), (524_288, 0), ((1 << 20) - 512, (1 << 20) - 512)] {
            let error = segments(at, Some(cut_to)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "at {at}: {error}");
            assert!(error.to_string().contains("cut short"), "{error}");
        }
        assert_eq!(segments(1 << 20, None).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "past the end");
        // A file that grew meanwhile is none of ours.
        assert!(segments(65536, Some(2 << 20)).unwrap().is_hole);
    }

    #[test]
    fn more_buffers_than_a_ring_takes_are_an_error() {
        let register =
            |count| run_on_ring(8, async move { register_buffers(count, Bytes(512)).map(|bufs| bufs.len()) });
        assert_eq!(register(1024).unwrap().unwrap(), 1024);
        let error = register(1025).unwrap().unwrap_err();
        assert!(error.kind() == io::ErrorKind::InvalidInput && error.to_string().contains("1024 at most"), "{error}");
    }

    #[test]
    fn half_is_even_and_no_less_than_two() {
        let halves: Vec<_> = std::iter::successors(Some(30), |&count| Some(half(count))).take(6).collect();
        assert_eq!(halves, [30, 14, 6, 2, 2, 2]);
        assert_eq!([half(3), half(5), half(16)], [2, 2, 8]);
    }
}
