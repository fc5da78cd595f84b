//! RECEIVE COPY RESULTS parameter data: what a copy manager can do (SPC-4: RECEIVE COPY OPERATING PARAMETERS command)
//! and how a copy stands (SPC-4: RECEIVE COPY STATUS(LID1) command).
//!
//! Pure: bytes in, values out.

use crate::bytes::{Completeness, Fields, ParseError, bit};

/// Operating parameters (service action 03h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatingParameters {
    /// SNLID: it knows list identifier usage 11b, a copy without a name.
    pub unnamed_lists: bool,
    /// MAXIMUM CSCD DESCRIPTOR COUNT: how many places one command may name.
    pub max_places: u16,
    /// MAXIMUM SEGMENT DESCRIPTOR COUNT.
    pub max_segments: u16,
    /// MAXIMUM DESCRIPTOR LIST LENGTH: places and segments together, in bytes.
    pub max_list_bytes: u32,
    /// MAXIMUM SEGMENT LENGTH, in bytes. Nothing where the device says zero, which here means that it has no limit.
    pub max_segment_bytes: Option<u32>,
    /// MAXIMUM CONCURRENT COPIES; nothing where the data ends before it.
    pub max_concurrent: Option<u8>,
    /// DATA SEGMENT GRANULARITY: a segment's length is a multiple of 2 to this many bytes.
    pub granularity_exponent: Option<u8>,
    /// The descriptor type codes that it knows: 02h block to block, E4h identification. Nothing where they did not
    /// come.
    pub descriptor_types: Option<Vec<u8>>,
    /// Whether all that was announced came.
    pub completeness: Completeness,
}

impl OperatingParameters {
    /// Whether it knows both descriptors that Lunferry sends.
    pub fn copies_between_blocks(&self) -> bool {
        self.descriptor_types.as_deref().is_some_and(|types| types.contains(&0x02) && types.contains(&0xE4))
    }
}

/// Reads operating parameters.
///
/// # Errors
/// Where they end before the maximum segment length.
pub fn operating_parameters(bytes: &[u8]) -> Result<OperatingParameters, ParseError> {
    let fields = Fields::new("RECEIVE COPY RESULTS operating parameters", bytes);
    let announced = fields.u32(0, "AVAILABLE DATA")?;
    let (body, completeness) = fields.body(4, u64::from(announced));
    let fields = Fields::new(fields.what, bytes.get(..body.len() + 4).unwrap_or(bytes));
    let byte = |at| fields.get(at).map(|[byte]: [u8; 1]| byte);
    let types = byte(43).and_then(|length| fields.bytes.get(44..)?.get(..usize::from(length)));
    Ok(OperatingParameters {
        unnamed_lists: bit(fields.u8(4, "SNLID")?, 0),
        max_places: fields.u16(8, "MAXIMUM CSCD DESCRIPTOR COUNT")?,
        max_segments: fields.u16(10, "MAXIMUM SEGMENT DESCRIPTOR COUNT")?,
        max_list_bytes: fields.u32(12, "MAXIMUM DESCRIPTOR LIST LENGTH")?,
        max_segment_bytes: Some(fields.u32(16, "MAXIMUM SEGMENT LENGTH")?).filter(|bytes| *bytes != 0),
        max_concurrent: byte(36),
        granularity_exponent: byte(37),
        descriptor_types: types.map(<[u8]>::to_vec),
        completeness,
    })
}

/// COPY MANAGER STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyProgress {
    /// 00h.
    Running,
    /// 01h: completed without errors.
    Done,
    /// 02h: completed with errors; the command's own sense data says which.
    Failed,
    /// Reserved.
    Other(u8),
}

/// Copy status (service action 00h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyStatus {
    /// How it stands.
    pub progress: CopyProgress,
    /// HDD: held data was discarded.
    pub discarded: bool,
    /// SEGMENTS PROCESSED.
    pub segments: u16,
    /// TRANSFER COUNT, in bytes. Nothing where its unit is a reserved one or the count is no u64 then.
    pub transferred: Option<u64>,
}

/// Reads copy status.
///
/// # Errors
/// Where it is shorter than 12 bytes.
pub fn copy_status(bytes: &[u8]) -> Result<CopyStatus, ParseError> {
    let fields = Fields::new("RECEIVE COPY RESULTS copy status", bytes);
    let status = fields.u8(4, "COPY MANAGER STATUS")?;
    let units = fields.u8(7, "TRANSFER COUNT UNITS")?;
    let count = u64::from(fields.u32(8, "TRANSFER COUNT")?);
    // 00h bytes, 01h KiB, ... 06h EiB (SPC-4: transfer count units).
    let transferred = if units <= 6 { count.checked_mul(1 << (10 * u32::from(units))) } else { None };
    Ok(CopyStatus {
        progress: match status & 0x7F {
            0 => CopyProgress::Running,
            1 => CopyProgress::Done,
            2 => CopyProgress::Failed,
            other => CopyProgress::Other(other),
        },
        discarded: bit(status, 7),
        segments: fields.u16(5, "SEGMENTS PROCESSED")?,
        transferred,
    })
}
