//! What a device server gets: the CDBs of PERSISTENT RESERVE IN and OUT and OUT's parameter list (SPC-4: PERSISTENT
//! RESERVE OUT parameter list).
//!
//! Pure: bytes in, values out; the inverse of [`crate::command`]. What is not known, reserved or not supported is
//! refused with the byte that it stands in.

use crate::bytes::{Fields, bit};
use crate::command::enquiry::ReservationQuestion;
use crate::command::reservation::{Reach, ReservationOut, ReservationType};
use crate::key::Key;
use crate::rules::Refusal;

/// Bytes of OUT's parameter list without SPEC_I_PT.
pub const LIST_BYTES: usize = 24;

/// Where the service action reservation key stands in it.
pub(super) const ACTION_KEY: u16 = 8;
/// Where SPEC_I_PT, ALL_TG_PT and APTPL stand in it.
pub(super) const FLAGS: u16 = 20;

/// Reads PERSISTENT RESERVE IN: what is asked, and the allocation length.
///
/// # Errors
/// Where the service action is none of the four.
pub fn decode_in(cdb: &[u8]) -> Result<(ReservationQuestion, u16), Refusal> {
    let fields = Fields::new("PERSISTENT RESERVE IN", cdb);
    let action = fields.u8(1, "SERVICE ACTION").map_err(|_| Refusal::CdbField(1))? & 0x1F;
    let allocation = fields.u16(7, "ALLOCATION LENGTH").map_err(|_| Refusal::CdbField(7))?;
    let question = match action {
        0 => ReservationQuestion::ReadKeys,
        1 => ReservationQuestion::ReadReservation,
        2 => ReservationQuestion::ReportCapabilities,
        3 => ReservationQuestion::ReadFullStatus,
        _ => return Err(Refusal::CdbField(1)),
    };
    Ok((question, allocation))
}

/// Reads PERSISTENT RESERVE OUT and its parameter list.
///
/// # Errors
/// Where the service action, the scope or the type is none, the list has another length, or SPEC_I_PT is set.
pub fn decode_out(cdb: &[u8], list: &[u8]) -> Result<ReservationOut, Refusal> {
    let fields = Fields::new("PERSISTENT RESERVE OUT", cdb);
    let action = fields.u8(1, "SERVICE ACTION").map_err(|_| Refusal::CdbField(1))? & 0x1F;
    let scope_and_type = fields.u8(2, "SCOPE and TYPE").map_err(|_| Refusal::CdbField(2))?;
    let announced = fields.u32(5, "PARAMETER LIST LENGTH").map_err(|_| Refusal::CdbField(5))?;
    if action > 6 {
        return Err(Refusal::CdbField(1));
    }
    // The type, with the scope zero: the logical unit. The other actions ignore both.
    let kind = || match scope_and_type >> 4 {
        0 => ReservationType::from_code(scope_and_type & 0x0F).ok_or(Refusal::CdbField(2)),
        _ => Err(Refusal::CdbField(2)),
    };
    let list = Fields::new("PERSISTENT RESERVE OUT parameter list", list);
    if list.bytes.len() != LIST_BYTES || usize::try_from(announced) != Ok(LIST_BYTES) {
        return Err(Refusal::ListLength);
    }
    let key_at = |at: u16| list.u64(usize::from(at), "RESERVATION KEY").map(Key).map_err(|_| Refusal::ListLength);
    let (key, action_key) = (key_at(0)?, key_at(ACTION_KEY)?);
    let flags = list.u8(usize::from(FLAGS), "APTPL").map_err(|_| Refusal::ListLength)?;
    let reach = Reach { aptpl: bit(flags, 0), all_target_ports: bit(flags, 2) };
    let registers = matches!(action, 0 | 6);
    if registers && bit(flags, 3) {
        return Err(Refusal::ParameterField(FLAGS));
    }
    Ok(match action {
        0 => ReservationOut::Register { current: key, new: action_key, reach },
        1 => ReservationOut::Reserve { key, kind: kind()? },
        2 => ReservationOut::Release { key, kind: kind()? },
        3 => ReservationOut::Clear { key },
        4 => ReservationOut::Preempt { key, victim: action_key, kind: kind()? },
        5 => ReservationOut::PreemptAndAbort { key, victim: action_key, kind: kind()? },
        _ => ReservationOut::RegisterAndIgnore { new: action_key, reach },
    })
}
