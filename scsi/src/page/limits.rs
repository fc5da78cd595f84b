//! What a block device can do: Block Limits (B0h), Block Device Characteristics (B1h), Logical Block Provisioning
//! (B2h).
//!
//! Pure: bytes in, values out. Each page has grown with each standard, and devices send the length of theirs: a field
//! behind a page's end is `None`. Zero means "no limit reported" in most fields of B0h, and is given as `None` too;
//! where it means "not supported", it stays zero.

use crate::bytes::{Completeness, Fields, ParseError, bit};
use crate::page::inquiry::vpd;

/// Block Limits, VPD page B0h (SBC-3: Block Limits VPD page). Counts are in logical blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// WSNZ: WRITE SAME with a count of zero is refused.
    pub write_same_non_zero: bool,
    /// MAXIMUM COMPARE AND WRITE LENGTH; zero: it has no COMPARE AND WRITE.
    pub max_compare_and_write: u8,
    /// OPTIMAL TRANSFER LENGTH GRANULARITY.
    pub optimal_granularity: Option<u16>,
    /// MAXIMUM TRANSFER LENGTH.
    pub max_transfer: Option<u32>,
    /// OPTIMAL TRANSFER LENGTH.
    pub optimal_transfer: Option<u32>,
    /// MAXIMUM UNMAP LBA COUNT; zero: it has no UNMAP; FFFFFFFFh: no limit. Nothing: the page ends before it.
    pub max_unmap_blocks: Option<u32>,
    /// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT, with the same meanings.
    pub max_unmap_descriptors: Option<u32>,
    /// OPTIMAL UNMAP GRANULARITY.
    pub unmap_granularity: Option<u32>,
    /// UNMAP GRANULARITY ALIGNMENT, where UGAVALID says that it means something.
    pub unmap_alignment: Option<u32>,
    /// MAXIMUM WRITE SAME LENGTH.
    pub max_write_same: Option<u64>,
    /// Whether the page came as long as it was announced.
    pub completeness: Completeness,
}

fn u32_at(page: Fields<'_>, at: usize) -> Option<u32> {
    page.get(at).map(u32::from_be_bytes)
}

/// Reads VPD page B0h.
///
/// # Errors
/// Where it is another page or ends before SBC-2's shortest one, 16 bytes.
pub fn block_limits(bytes: &[u8]) -> Result<BlockLimits, ParseError> {
    let (page, _, completeness) = vpd("VPD page B0h", 0xB0, bytes)?;
    let reported = |value: u32| Some(value).filter(|value| *value != 0);
    let granularity = page.u16(6, "OPTIMAL TRANSFER LENGTH GRANULARITY")?;
    Ok(BlockLimits {
        write_same_non_zero: bit(page.u8(4, "WSNZ")?, 0),
        max_compare_and_write: page.u8(5, "MAXIMUM COMPARE AND WRITE LENGTH")?,
        optimal_granularity: Some(granularity).filter(|value| *value != 0),
        max_transfer: reported(page.u32(8, "MAXIMUM TRANSFER LENGTH")?),
        optimal_transfer: reported(page.u32(12, "OPTIMAL TRANSFER LENGTH")?),
        max_unmap_blocks: u32_at(page, 20),
        max_unmap_descriptors: u32_at(page, 24),
        unmap_granularity: u32_at(page, 28).and_then(reported),
        unmap_alignment: u32_at(page, 32).filter(|value| value >> 31 == 1).map(|value| value & 0x7FFF_FFFF),
        max_write_same: page.get(36).map(u64::from_be_bytes).filter(|value| *value != 0),
        completeness,
    })
}

/// MEDIUM ROTATION RATE (SBC-3: Block Device Characteristics VPD page).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// 0000h.
    NotReported,
    /// 0001h: no spindle.
    SolidState,
    /// Revolutions a minute.
    Rpm(u16),
    /// Reserved.
    Other(u16),
}

/// Block Device Characteristics, VPD page B1h (SBC-3: Block Device Characteristics VPD page).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Characteristics {
    /// How fast the medium turns.
    pub rotation: Rotation,
    /// FUAB: SYNCHRONIZE CACHE and FUA behave as SBC-3 says. Nothing: the page ends before it.
    pub fuab: Option<bool>,
    /// Whether the page came as long as it was announced.
    pub completeness: Completeness,
}

/// Reads VPD page B1h.
///
/// # Errors
/// Where it is another page or ends before the rotation rate.
pub fn characteristics(bytes: &[u8]) -> Result<Characteristics, ParseError> {
    let (page, _, completeness) = vpd("VPD page B1h", 0xB1, bytes)?;
    let rotation = match page.u16(4, "MEDIUM ROTATION RATE")? {
        0 => Rotation::NotReported,
        1 => Rotation::SolidState,
        rpm @ 0x0401..=0xFFFE => Rotation::Rpm(rpm),
        other => Rotation::Other(other),
    };
    Ok(Characteristics { rotation, fuab: page.get(8).map(|[byte]: [u8; 1]| bit(byte, 1)), completeness })
}

/// PROVISIONING TYPE (SBC-3: Logical Block Provisioning VPD page).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvisioningType {
    /// 0: fully provisioned, or it does not say.
    Full,
    /// 1: resource provisioned.
    Resource,
    /// 2: thin.
    Thin,
    /// Reserved.
    Other(u8),
}

/// What unmapped blocks read as (LBPRZ: one bit in SBC-3, three in SBC-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmappedRead {
    /// 000b: anything.
    Anything,
    /// xx1b: zeroes.
    Zeroes,
    /// 010b: the provisioning initialization pattern, and so does WRITE SAME without data (NDOB) write it.
    Pattern,
    /// Reserved; to be treated as anything.
    Other(u8),
}

/// Logical Block Provisioning, VPD page B2h (SBC-3: Logical Block Provisioning VPD page).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provisioning {
    /// LBPU: UNMAP is there.
    pub unmap: bool,
    /// LBPWS: WRITE SAME(16) with UNMAP is there.
    pub write_same_16: bool,
    /// LBPWS10: WRITE SAME(10) with UNMAP is there.
    pub write_same_10: bool,
    /// LBPRZ.
    pub unmapped_read: UnmappedRead,
    /// ANC_SUP: blocks can be anchored.
    pub anchors: bool,
    /// THRESHOLD EXPONENT: a threshold set is 2 to this many blocks; zero: no thresholds.
    pub threshold_exponent: u8,
    /// What kind of provisioning. Nothing: the page ends before it.
    pub kind: Option<ProvisioningType>,
    /// Whether the page came as long as it was announced.
    pub completeness: Completeness,
}

/// Reads VPD page B2h.
///
/// # Errors
/// Where it is another page or ends before the flags.
pub fn provisioning(bytes: &[u8]) -> Result<Provisioning, ParseError> {
    let (page, _, completeness) = vpd("VPD page B2h", 0xB2, bytes)?;
    let threshold_exponent = page.u8(4, "THRESHOLD EXPONENT")?;
    let flags = page.u8(5, "LBPU")?;
    let unmapped_read = match flags >> 2 & 0b111 {
        0b000 => UnmappedRead::Anything,
        0b010 => UnmappedRead::Pattern,
        bits if bits & 1 == 1 => UnmappedRead::Zeroes,
        other => UnmappedRead::Other(other),
    };
    let kind = page.get(6).map(|[byte]: [u8; 1]| match byte & 0b111 {
        0 => ProvisioningType::Full,
        1 => ProvisioningType::Resource,
        2 => ProvisioningType::Thin,
        other => ProvisioningType::Other(other),
    });
    Ok(Provisioning {
        unmap: bit(flags, 7),
        write_same_16: bit(flags, 6),
        write_same_10: bit(flags, 5),
        unmapped_read,
        anchors: bit(flags, 1),
        threshold_exponent,
        kind,
        completeness,
    })
}
