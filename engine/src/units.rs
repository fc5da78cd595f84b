//! Newtypes for every number that has a unit, and how they are read and shown.
//!
//! Pure: values in, values out. Arithmetic that would overflow is a bug of ours and stops the process (release builds
//! check overflow too); numbers from outside go through the checked functions.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A count of bytes, or a byte position counted from the start of a LUN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Zero bytes; the start of a LUN.
    pub const ZERO: Self = Self(0);

    /// `n` KiB (1024 bytes each).
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB (1024 KiB each).
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` GiB (1024 MiB each).
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// As a length in memory. Only for what is known to be a buffer's size.
    ///
    /// # Panics
    /// Where the count is larger than the address space.
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).expect("a buffer length fits the address space")
    }

    /// The largest multiple of `align` that is not above `self`.
    pub fn align_down(self, align: Bytes) -> Self {
        Self(self.0 - self.0 % align.0)
    }

    /// The smallest multiple of `align` that is not below `self`.
    pub fn align_up(self, align: Bytes) -> Self {
        Self(self.0.next_multiple_of(align.0))
    }

    /// Whether `self` is a multiple of `align`.
    pub fn is_multiple_of(self, align: Bytes) -> bool {
        self.0.is_multiple_of(align.0)
    }

    /// `self - other`, or zero where `other` is larger.
    pub fn saturating_sub(self, other: Bytes) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The block that holds this position, for a LUN with blocks of `block`.
    pub fn lba(self, block: Bytes) -> Lba {
        Lba(self.0 / block.0)
    }
}

impl From<usize> for Bytes {
    fn from(len: usize) -> Self {
        Self(len as u64)
    }
}

impl Add for Bytes {
    type Output = Bytes;
    fn add(self, other: Bytes) -> Bytes {
        Bytes(self.0 + other.0)
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Bytes) {
        self.0 += other.0;
    }
}

impl Sub for Bytes {
    type Output = Bytes;
    fn sub(self, other: Bytes) -> Bytes {
        Bytes(self.0 - other.0)
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(iter: I) -> Bytes {
        iter.fold(Bytes::ZERO, Add::add)
    }
}

/// Binary units, as storage tools show them: `512 B`, `64.0 MiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&bytesize::ByteSize(self.0).display().iec().to_string())
    }
}

/// `64MiB`, `1.5 GiB`, `4096`, `10MB` (decimal), with or without a space.
impl FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        bytesize::ByteSize::from_str(text)
            .map(|size| Bytes(size.0))
            .map_err(|_| format!("`{text}` is no size; write it as 512KiB, 64MiB, 1GiB, 10MB or a number of bytes"))
    }
}

/// Bytes in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BytesPerSecond(pub u64);

impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", Bytes(self.0)))
    }
}

/// `200MiB/s`; the `/s` may be left out.
impl FromStr for BytesPerSecond {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.strip_suffix("/s").unwrap_or(text);
        match size.trim_end().parse::<Bytes>()? {
            Bytes(0) => {
                Err("a limit of 0 would never end; leave the limit out, or give a rate such as 200MiB/s".into())
            }
            Bytes(rate) => Ok(Self(rate)),
        }
    }
}

/// A logical block address, in the logical blocks of the LUN that it belongs to (SBC-3, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lba(pub u64);

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LBA {}", self.0)
    }
}

/// A host of the cluster; stable, from the config file. 0 where there is no cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u16);

/// Rises by one at each change of mover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Rises by one at each checkpoint of an epoch's mover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// A half-open range of bytes `[start, end)` on a LUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first byte.
    pub start: Bytes,
    /// The byte after the last one.
    pub end: Bytes,
}

impl Span {
    /// `[start, end)`.
    ///
    /// # Panics
    /// Where `end` lies before `start`.
    pub fn new(start: Bytes, end: Bytes) -> Self {
        assert!(start <= end, "a span ends before it starts: {start:?}..{end:?}");
        Self { start, end }
    }

    /// The range of `len` bytes from `start`.
    pub fn at(start: Bytes, len: Bytes) -> Self {
        Self { start, end: start + len }
    }

    /// How many bytes.
    pub fn len(self) -> Bytes {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether both have a byte in common.
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}..{}", self.start.0, self.end.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units() {
        for (text, bytes) in
            [("4096", 4096), ("512KiB", 512 << 10), ("64 MiB", 64 << 20), ("1.5GiB", 3 << 29), ("10MB", 10_000_000)]
        {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "12 parsecs", "999999999999999999999"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_read_with_units_and_never_zero() {
        assert_eq!("200MiB/s".parse(), Ok(BytesPerSecond(200 << 20)));
        assert_eq!("200MiB".parse(), Ok(BytesPerSecond(200 << 20)));
        assert!("0".parse::<BytesPerSecond>().is_err());
    }

    #[test]
    fn sizes_are_shown_in_binary_units() {
        assert_eq!(Bytes::mib(64).to_string(), "64.0 MiB");
        assert_eq!(Bytes(512).to_string(), "512 B");
    }
}
