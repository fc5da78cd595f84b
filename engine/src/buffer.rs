//! Memory for direct I/O: one arena on huge pages for each worker, cut into buffers that are reused for ever; and small
//! buffers of their own for metadata.
//!
//! This is the one file of the project with `unsafe` in it. What it must uphold:
//! - an [`AlignedBuf`] is the only way to its bytes, and no two of an arena overlap;
//! - the arena is unmapped only after the last of its buffers is gone, wherever the kernel may still hold one.
//!
//! Huge pages are worth it: a 512 KiB request in one of them is one segment for the kernel instead of 128, and on
//! disk a copy is half again as fast. A buffer of a block or two gets none: the kernel would clear 2 MiB for each.
#![allow(unsafe_code, reason = "mmap, and the buffer traits of tokio-uring, have no safe form")]

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use tokio_uring::buf::{IoBuf, IoBufMut};

/// The size and the alignment of a huge page on x86-64 and on arm64 with 4 KiB pages.
const HUGE_PAGE: usize = 2 << 20;

/// What a small arena is aligned to: what mmap gives.
const PAGE: usize = 4096;

/// An anonymous mapping. The usable part of one that has room for a huge page starts on the border of one.
struct Arena {
    mapping: NonNull<u8>,
    mapped: usize,
    base: NonNull<u8>,
}

// SAFETY: the arena is plain memory that no thread is bound to; it has no interior access of its own, all of it goes
// through the disjoint buffers.
unsafe impl Send for Arena {}
// SAFETY: as above: a shared `Arena` gives no access to its bytes.
unsafe impl Sync for Arena {}

impl Arena {
    fn new(len: usize) -> io::Result<Self> {
        let is_large = len >= HUGE_PAGE;
        let mapped = if is_large { len.next_multiple_of(HUGE_PAGE) + HUGE_PAGE } else { len.next_multiple_of(PAGE) };
        let length = NonZeroUsize::new(mapped).expect("at least one page");
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches no existing memory.
        let mapping = unsafe {
            mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        }?
        .cast::<u8>();
        let skip = if is_large { mapping.as_ptr().align_offset(HUGE_PAGE) } else { 0 };
        // SAFETY: `skip` is zero, or below HUGE_PAGE and the mapping is longer than that.
        let base = unsafe { mapping.add(skip) };
        let arena = Self { mapping, mapped, base };
        if is_large {
            // Advice only: without huge pages the copy is slower and as right.
            // SAFETY: the range lies inside the mapping that was made above, and the advice does not change its contents.
            let advised = unsafe { madvise(base.cast(), len.next_multiple_of(HUGE_PAGE), MmapAdvise::MADV_HUGEPAGE) };
            if let Err(errno) = advised {
                tracing::debug!(%errno, "the kernel gives no huge pages; buffers are on small ones");
            }
        }
        Ok(arena)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and every buffer that points into it holds an `Arc` of this arena, so none is left.
        let unmapped = unsafe { munmap(self.mapping.cast(), self.mapped) };
        assert!(unmapped.is_ok(), "munmap of our own mapping failed: {unmapped:?}");
    }
}

/// A buffer for direct I/O: aligned to at least 4096 bytes, of fixed length, zeroes at first.
pub struct AlignedBuf {
    arena: Arc<Arena>,
    offset: usize,
    len: usize,
}

impl AlignedBuf {
    /// `count` buffers of `len` bytes each in one arena. `len` is rounded up to whole pages between the buffers, not in
    /// what they show.
    ///
    /// # Errors
    /// `ENOMEM` where the kernel has no room for the mapping.
    ///
    /// # Panics
    /// Where `len` or `count` is zero.
    pub fn many(count: usize, len: usize) -> io::Result<Vec<Self>> {
        assert!(count > 0 && len > 0, "buffers of {count} x {len} bytes");
        let stride = len.next_multiple_of(PAGE);
        let total = stride.checked_mul(count).ok_or(io::ErrorKind::OutOfMemory)?;
        let arena = Arc::new(Arena::new(total)?);
        Ok((0..count).map(|i| Self { arena: Arc::clone(&arena), offset: i * stride, len }).collect())
    }

    /// One buffer of `len` bytes.
    ///
    /// # Errors
    /// As [`AlignedBuf::many`].
    pub fn one(len: usize) -> io::Result<Self> {
        Ok(Self::many(1, len)?.pop().expect("one buffer was asked for"))
    }

    fn ptr(&self) -> *mut u8 {
        // SAFETY: `offset` was chosen inside the arena's mapping by `many`.
        unsafe { self.arena.base.add(self.offset) }.as_ptr()
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `ptr` lie inside the mapping, which is initialised (anonymous memory is zeroes) and
        // lives as long as `self.arena`; the shared borrow of `self` keeps the only other way in, `as_mut`, shut.
        unsafe { std::slice::from_raw_parts(self.ptr(), self.len) }
    }
}

impl AsMut<[u8]> for AlignedBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_ref`, and the exclusive borrow of `self`, which alone covers these bytes, makes it unique.
        unsafe { std::slice::from_raw_parts_mut(self.ptr(), self.len) }
    }
}

// SAFETY: the address is that of the mapping and does not move with the struct; all of it is initialised.
unsafe impl IoBuf for AlignedBuf {
    fn stable_ptr(&self) -> *const u8 {
        self.ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len
    }

    fn bytes_total(&self) -> usize {
        self.len
    }
}

// SAFETY: as for `IoBuf`; there is no uninitialised part, so `set_init` has nothing to record.
unsafe impl IoBufMut for AlignedBuf {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.ptr()
    }

    unsafe fn set_init(&mut self, _pos: usize) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn buffers_are_aligned_disjoint_and_zero() {
        let mut bufs = AlignedBuf::many(5, 512 * 3).unwrap();
        for (i, buf) in bufs.iter_mut().enumerate() {
            assert_eq!(buf.as_ref().as_ptr().align_offset(4096), 0);
            assert!(buf.as_ref().iter().all(|&b| b == 0));
            buf.as_mut().fill(u8::try_from(i + 1).unwrap());
        }
        for (i, buf) in bufs.iter().enumerate() {
            assert!(buf.as_ref().iter().all(|&b| usize::from(b) == i + 1), "buffer {i} was written by a neighbour");
        }
    }

    #[test]
    fn only_what_fills_a_huge_page_is_put_on_one() {
        for (count, len, mapped) in [
            (1, 512, 4096),
            (1, 4097, 8192),
            (1, HUGE_PAGE - 4096, HUGE_PAGE - 4096),
            (1, HUGE_PAGE, 2 * HUGE_PAGE),
            (8, 1 << 20, 5 * HUGE_PAGE),
        ] {
            let mut bufs = AlignedBuf::many(count, len).unwrap();
            assert_eq!(bufs[0].arena.mapped, mapped, "{count} x {len}");
            let align = if mapped > HUGE_PAGE { HUGE_PAGE } else { PAGE };
            assert_eq!(bufs[0].ptr().align_offset(align), 0, "{count} x {len}");
            let last = bufs.last_mut().unwrap();
            last.as_mut().fill(7);
            assert_eq!(last.as_ref()[len - 1], 7);
        }
    }

    #[test]
    fn a_buffer_outlives_its_siblings() {
        let mut bufs = AlignedBuf::many(2, 4096).unwrap();
        let mut last = bufs.pop().unwrap();
        drop(bufs);
        last.as_mut().fill(7);
        assert_eq!(last.as_ref()[4095], 7);
    }
}
