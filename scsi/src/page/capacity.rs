//! How large a LUN is and in which blocks: READ CAPACITY(10) and (16) parameter data (SBC-3: its two commands).
//!
//! Pure: bytes in, values out.

use crate::bytes::{Fields, ParseError, bit};
use crate::units::{BlockCount, BlockSize, Lba};

/// READ CAPACITY(10) parameter data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity10 {
    /// FFFFFFFFh: too large for this command; ask READ CAPACITY(16).
    TooLarge,
    /// It fits.
    Known {
        /// How many blocks.
        blocks: BlockCount,
        /// Of which size.
        block: BlockSize,
    },
}

/// A size that I/O can be done in.
fn block_size(what: &'static str, value: u32) -> Result<BlockSize, ParseError> {
    if value == 0 {
        let expected = "a block has bytes; the medium is not there or not formatted";
        return Err(ParseError::Wrong { what, field: "LOGICAL BLOCK LENGTH IN BYTES", value: 0, expected });
    }
    Ok(BlockSize(value))
}

/// Reads READ CAPACITY(10) parameter data.
///
/// # Errors
/// Where it is shorter than 8 bytes or the block length is zero.
pub fn capacity_10(bytes: &[u8]) -> Result<Capacity10, ParseError> {
    let what = "READ CAPACITY(10) parameter data";
    let fields = Fields::new(what, bytes);
    let last = fields.u32(0, "RETURNED LOGICAL BLOCK ADDRESS")?;
    let block = block_size(what, fields.u32(4, "LOGICAL BLOCK LENGTH IN BYTES")?)?;
    if last == u32::MAX {
        return Ok(Capacity10::TooLarge);
    }
    Ok(Capacity10::Known { blocks: BlockCount(u64::from(last) + 1), block })
}

/// What READ CAPACITY(16) says besides the size; SBC-2 devices may send the first twelve bytes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT: a physical block is 2 to this many logical ones; 0: one or more of
    /// them in one logical block.
    pub physical_exponent: u8,
    /// LOWEST ALIGNED LOGICAL BLOCK ADDRESS.
    pub lowest_aligned: Lba,
    /// LBPME: logical block provisioning management is on (the LUN is thin, or resource provisioned).
    pub provisioned: bool,
    /// LBPRZ: unmapped blocks read as zeroes. Means something only with `provisioned`.
    pub unmapped_reads_zero: bool,
}

/// READ CAPACITY(16) parameter data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity16 {
    /// How many blocks.
    pub blocks: BlockCount,
    /// Of which size.
    pub block: BlockSize,
    /// PROT_EN: it is formatted with protection information.
    pub protected: Option<bool>,
    /// What stands in bytes 13 to 15.
    pub geometry: Option<Geometry>,
}

/// Reads READ CAPACITY(16) parameter data.
///
/// # Errors
/// Where it is shorter than 12 bytes, the block length is zero, or the count of blocks overflows.
pub fn capacity_16(bytes: &[u8]) -> Result<Capacity16, ParseError> {
    let what = "READ CAPACITY(16) parameter data";
    let fields = Fields::new(what, bytes);
    let last = fields.u64(0, "RETURNED LOGICAL BLOCK ADDRESS")?;
    let block = block_size(what, fields.u32(8, "LOGICAL BLOCK LENGTH IN BYTES")?)?;
    let expected = "no LUN has that many blocks";
    let wrong = ParseError::Wrong { what, field: "RETURNED LOGICAL BLOCK ADDRESS", value: last, expected };
    let geometry = fields.get(13).map(|[exponent, high, low]: [u8; 3]| Geometry {
        physical_exponent: exponent & 0x0F,
        lowest_aligned: Lba(u64::from(u16::from_be_bytes([high & 0x3F, low]))),
        provisioned: bit(high, 7),
        unmapped_reads_zero: bit(high, 6),
    });
    Ok(Capacity16 {
        blocks: BlockCount(last.checked_add(1).ok_or(wrong)?),
        block,
        protected: fields.get(12).map(|[byte]: [u8; 1]| bit(byte, 0)),
        geometry,
    })
}
