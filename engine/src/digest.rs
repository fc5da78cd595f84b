//! Digests of what was copied, so that a verify has to read the target alone.
//!
//! Pure.
//!
//! A fixed table, whatever the LUN's size: the LUN is cut into equal buckets, and each bucket keeps the sum of what its
//! extents contribute, in any order. An extent contributes a hash of its place, its length and its contents, so neither a
//! changed byte nor two extents that changed places go unseen. XXH3-128 guards against accidents, not against an
//! adversary who can choose the data.

use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use crate::units::{Bytes, Span};

/// How many buckets a table has at most: 64 KiB of memory, and a difference is narrowed down to 1/4096 of the LUN.
const MOST_BUCKETS: u64 = 4096;

/// What one extent adds to its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contribution(u128);

/// The digest of one extent of data at `at`.
pub fn contribution(at: Bytes, data: &[u8]) -> Contribution {
    placed(at, data.len(), xxh3_128(data))
}

/// The hash of an extent's contents, for contents that come again and again: an extent of zeroes.
#[derive(Clone, Debug)]
pub struct ZeroExtents {
    extent: usize,
    hash: u128,
}

impl ZeroExtents {
    /// For extents of `extent` bytes.
    pub fn new(extent: Bytes) -> Self {
        Self { extent: extent.as_len(), hash: xxh3_128(&vec![0; extent.as_len()]) }
    }

    /// The digest of `len` zero bytes at `at`, where `len` is at most an extent.
    pub fn contribution(&self, at: Bytes, len: Bytes) -> Contribution {
        let len = len.as_len();
        let hash = if len == self.extent { self.hash } else { xxh3_128(&vec![0; len]) };
        placed(at, len, hash)
    }
}

fn placed(at: Bytes, len: usize, hash: u128) -> Contribution {
    let mut place = [0; 32];
    place[..8].copy_from_slice(&at.0.to_le_bytes());
    place[8..16].copy_from_slice(&(len as u64).to_le_bytes());
    place[16..].copy_from_slice(&hash.to_le_bytes());
    Contribution(xxh3_128_with_seed(&place, 0x6c75_6e66_6572_7279))
}

/// The digests of one LUN, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestTable {
    span: Span,
    bucket: Bytes,
    sums: Vec<u128>,
}

impl DigestTable {
    /// An empty table over `span`, whose extents of `extent` bytes start at `span.start`.
    pub fn new(span: Span, extent: Bytes) -> Self {
        let extents = span.len().0.div_ceil(extent.0).max(1);
        let bucket = Bytes(extents.div_ceil(MOST_BUCKETS) * extent.0);
        let buckets = usize::try_from(span.len().0.div_ceil(bucket.0)).expect("at most MOST_BUCKETS");
        Self { span, bucket, sums: vec![0; buckets] }
    }

    /// What the table covers.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Adds the extent at `at`, which the table covers. Each extent is added once.
    pub fn add(&mut self, at: Bytes, contribution: Contribution) {
        let bucket = usize::try_from((at - self.span.start).0 / self.bucket.0).expect("at most MOST_BUCKETS");
        self.sums[bucket] = self.sums[bucket].wrapping_add(contribution.0);
    }

    /// The ranges whose digests differ from `other`'s, neighbours merged.
    ///
    /// # Panics
    /// Where the tables cover different spans or extents.
    pub fn differences(&self, other: &DigestTable) -> Vec<Span> {
        assert_eq!((self.span, self.bucket), (other.span, other.bucket), "tables of different LUNs");
        let mut ranges: Vec<Span> = Vec::new();
        for (i, _) in self.sums.iter().zip(&other.sums).enumerate().filter(|(_, (a, b))| a != b) {
            let start = self.span.start + Bytes(i as u64 * self.bucket.0);
            let end = self.span.end.min(start + self.bucket);
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(Span::new(start, end)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Bytes = Bytes(16);

    fn table(contents: &[&[u8; 16]], order: &[usize]) -> DigestTable {
        let mut table = DigestTable::new(Span::new(Bytes(32), Bytes(32 + 16 * contents.len() as u64)), EXTENT);
        for &i in order {
            let at = Bytes(32 + 16 * i as u64);
            table.add(at, contribution(at, contents[i]));
        }
        table
    }

    #[test]
    fn the_order_of_extents_does_not_matter_and_their_places_do() {
        let (a, b) = (b"aaaaaaaaaaaaaaaa", b"bbbbbbbbbbbbbbbb");
        let one = table(&[a, b, a], &[0, 1, 2]);
        assert!(one.differences(&table(&[a, b, a], &[2, 0, 1])).is_empty());
        let swapped = table(&[b, a, a], &[0, 1, 2]);
        assert_eq!(one.differences(&swapped), [Span::new(Bytes(32), Bytes(64))]);
    }

    #[test]
    fn a_table_stays_small_and_still_sees_one_byte() {
        let span = Span::new(Bytes::ZERO, Bytes::gib(64 << 10));
        let mut one = DigestTable::new(span, Bytes::kib(512));
        assert!(one.sums.len() <= 4096);
        let mut other = one.clone();
        one.add(Bytes::gib(1), contribution(Bytes::gib(1), b"x"));
        other.add(Bytes::gib(1), contribution(Bytes::gib(1), b"y"));
        assert_eq!(one.differences(&other).len(), 1);
    }

    #[test]
    fn known_zeroes_and_read_zeroes_are_the_same() {
        let zeroes = ZeroExtents::new(EXTENT);
        for len in [16, 7] {
            let read = contribution(Bytes(48), &vec![0; len]);
            assert_eq!(zeroes.contribution(Bytes(48), Bytes::from(len)), read);
        }
    }
}
