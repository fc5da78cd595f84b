//! REPORT TARGET PORT GROUPS parameter data (SPC-4: REPORT TARGET PORT GROUPS command): which paths are good (ALUA).
//!
//! Pure: bytes in, values out.

use std::time::Duration;

use crate::bytes::{Completeness, Fields, ParseError, bit, entries, ragged};
use crate::command::enquiry::PortGroupsFormat;
use crate::units::{PortGroup, RelativePort};

/// ASYMMETRIC ACCESS STATE (SPC-4: ASYMMETRIC ACCESS STATE field).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessState {
    /// 0h.
    ActiveOptimized,
    /// 1h.
    ActiveNonOptimized,
    /// 2h: knows the LUN, takes no I/O.
    Standby,
    /// 3h.
    Unavailable,
    /// 4h: which of its blocks are good depends on the block.
    LbaDependent,
    /// Eh.
    Offline,
    /// Fh: changing from one to another.
    Transitioning,
    /// Reserved.
    Other(u8),
}

/// One target port group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPortGroup {
    /// Its number.
    pub group: PortGroup,
    /// What its ports do now.
    pub state: AccessState,
    /// PREF: the array would like its I/O here.
    pub preferred: bool,
    /// Byte 1 as it is: which states the group can have (T_SUP, O_SUP, LBD_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP).
    pub supported: u8,
    /// STATUS CODE: 1h: changed by SET TARGET PORT GROUPS, 2h: implicitly.
    pub reason: u8,
    /// Its ports.
    pub ports: Vec<RelativePort>,
}

/// All groups of a logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPortGroups {
    /// IMPLICIT TRANSITION TIME: how long a transition may take. Only the extended form has it, and zero is none.
    pub transition_time: Option<Duration>,
    /// As the device lists them.
    pub groups: Vec<TargetPortGroup>,
    /// Whether that is all of them.
    pub completeness: Completeness,
}

fn state(code: u8) -> AccessState {
    match code & 0x0F {
        0x0 => AccessState::ActiveOptimized,
        0x1 => AccessState::ActiveNonOptimized,
        0x2 => AccessState::Standby,
        0x3 => AccessState::Unavailable,
        0x4 => AccessState::LbaDependent,
        0xE => AccessState::Offline,
        0xF => AccessState::Transitioning,
        other => AccessState::Other(other),
    }
}

/// Reads the parameter data of a command that asked for `format`.
///
/// # Errors
/// Where it ends in its header, or an extended header was asked for and is another.
pub fn target_port_groups(bytes: &[u8], format: PortGroupsFormat) -> Result<TargetPortGroups, ParseError> {
    let what = "REPORT TARGET PORT GROUPS parameter data";
    let fields = Fields::new(what, bytes);
    let length = u64::from(fields.u32(0, "RETURN DATA LENGTH")?);
    let (header, transition_time) = match format {
        PortGroupsFormat::LengthOnly => (4, None),
        PortGroupsFormat::Extended => {
            let value = fields.u8(4, "FORMAT TYPE")?;
            if value >> 4 & 0b111 != 0b001 {
                let expected = "001b in bits 6 to 4; the device ignored the form, so ask for the length-only one";
                let (field, value) = ("FORMAT TYPE", u64::from(value));
                return Err(ParseError::Wrong { what, field, value, expected });
            }
            let seconds = fields.u8(5, "IMPLICIT TRANSITION TIME")?;
            (8, Some(Duration::from_secs(u64::from(seconds))).filter(|time| !time.is_zero()))
        }
    };
    let (mut rest, completeness) = fields.body(header, length.saturating_sub(header as u64 - 4));
    let mut groups = Vec::new();
    while let Some((group, behind)) = next(rest) {
        groups.push(group);
        rest = behind;
    }
    Ok(TargetPortGroups { transition_time, groups, completeness: ragged(rest.len(), completeness) })
}

/// The first descriptor and what stands behind it; nothing where no whole one is left.
fn next(bytes: &[u8]) -> Option<(TargetPortGroup, &[u8])> {
    let head: [u8; 8] = *bytes.first_chunk()?;
    let (ports, rest) = bytes[8..].split_at_checked(usize::from(head[7]) * 4)?;
    let (ports, _) = entries::<4>(ports, Completeness::Whole);
    let group = TargetPortGroup {
        group: PortGroup(u16::from_be_bytes([head[2], head[3]])),
        state: state(head[0]),
        preferred: bit(head[0], 7),
        supported: head[1],
        reason: head[5],
        ports: ports.iter().map(|[_, _, high, low]| RelativePort(u16::from_be_bytes([*high, *low]))).collect(),
    };
    Some((group, rest))
}
