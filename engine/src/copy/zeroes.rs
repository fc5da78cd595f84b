//! What becomes of zeroes: found in a buffer, and skipped, punched or written.
//!
//! Pure.
//!
//! A block may be skipped only where the target is *known* to read zeroes there already. A punch is right everywhere, since
//! the LUN promises the zeroes or refuses. Writing is always right.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// The grain in which zeroes are looked for inside an extent that holds data too. Finer grains make more and smaller
/// writes.
pub const GRAIN: usize = 64 << 10;

/// What is done with zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroMode {
    /// Nothing: the target is known to read zeroes.
    Skip,
    /// Whole extents of zeroes are punched, in runs as long as possible; shorter zeroes are written.
    Punch,
    /// Written like data.
    Write,
}

impl fmt::Display for ZeroMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Skip => "skipped (the target is known to read zeroes)",
            Self::Punch => "punched (write-zeroes, unmapping where the LUN can)",
            Self::Write => "written",
        })
    }
}

/// Whether all of `bytes` are zero. Stops at the first 4 KiB that are not.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| {
        let mut words = page.chunks_exact(8);
        let folded = words.by_ref().fold(0, |or, word| or | u64::from_ne_bytes(word.try_into().expect("8 bytes")));
        folded == 0 && words.remainder().iter().all(|&b| b == 0)
    })
}

/// The parts of an extent that must be written: everything, or in [`ZeroMode::Skip`] what is not zeroes in grains of
/// [`GRAIN`], neighbours merged.
pub fn parts_to_write(extent: &[u8], mode: ZeroMode) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    if mode != ZeroMode::Skip {
        parts.push(0..extent.len());
        return parts;
    }
    for (i, grain) in extent.chunks(GRAIN).enumerate().filter(|(_, grain)| !is_zero(grain)) {
        let part = i * GRAIN..i * GRAIN + grain.len();
        match parts.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "lists of one range are meant")]
    use super::*;

    #[test]
    fn one_byte_anywhere_is_seen() {
        let mut bytes = vec![0; 3 * 4096 + 13];
        assert!(is_zero(&bytes));
        for at in [0, 7, 8, 4095, 4096, 12_287, 12_288, 12_300] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "byte {at}");
            bytes[at] = 0;
        }
    }

    #[test]
    fn only_a_target_known_to_be_zero_lets_grains_be_skipped() {
        let mut extent = vec![0; 5 * GRAIN + 512];
        extent[GRAIN + 3] = 1;
        extent[2 * GRAIN] = 1;
        extent[5 * GRAIN + 511] = 1;
        let parts = parts_to_write(&extent, ZeroMode::Skip);
        assert_eq!(parts, [GRAIN..3 * GRAIN, 5 * GRAIN..5 * GRAIN + 512]);
        for mode in [ZeroMode::Punch, ZeroMode::Write] {
            assert_eq!(parts_to_write(&extent, mode), [0..extent.len()]);
        }
    }
}
