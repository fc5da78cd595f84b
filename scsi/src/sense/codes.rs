//! Names of the additional sense codes that a copy between block devices can meet.
//!
//! Pure: a table. The numbers are those of SPC-4's annex on numeric order codes (table "ASC and ASCQ assignments"); the
//! selection and the wording are Lunferry's own. Each was compared with what sg_decode_sense of sg3_utils 1.46 says of it.
//! A code without a name here is shown by its number.

use crate::sense::Code;

/// What a code says, in few words.
pub fn name(code: Code) -> Option<&'static str> {
    let exact = TABLE.iter().find(|(asc, ascq, _)| (*asc, *ascq) == (code.asc, code.ascq));
    exact.map(|(_, _, name)| *name)
}

/// Ascending, so that a wrong place shows.
const TABLE: &[(u8, u8, &str)] = &[
    (0x00, 0x00, "nothing more to say"),
    (0x00, 0x06, "I/O process terminated"),
    (0x00, 0x16, "operation in progress"),
    (0x03, 0x00, "peripheral device write fault"),
    (0x04, 0x00, "not ready, cause not reportable"),
    (0x04, 0x01, "becoming ready"),
    (0x04, 0x02, "not ready, needs an initializing command"),
    (0x04, 0x03, "not ready, needs manual intervention"),
    (0x04, 0x04, "not ready, format in progress"),
    (0x04, 0x05, "not ready, rebuild in progress"),
    (0x04, 0x06, "not ready, recalculation in progress"),
    (0x04, 0x07, "not ready, operation in progress"),
    (0x04, 0x09, "not ready, self-test in progress"),
    (0x04, 0x0A, "asymmetric access state transition"),
    (0x04, 0x0B, "target port in standby state"),
    (0x04, 0x0C, "target port in unavailable state"),
    (0x04, 0x11, "not ready, needs a notify"),
    (0x04, 0x12, "not ready, offline"),
    (0x04, 0x14, "not ready, space allocation in progress"),
    (0x04, 0x1A, "not ready, start stop unit in progress"),
    (0x04, 0x1B, "not ready, sanitize in progress"),
    (0x04, 0x1D, "not ready, configuration in progress"),
    (0x05, 0x00, "does not respond to selection"),
    (0x08, 0x00, "communication failure"),
    (0x08, 0x01, "communication time-out"),
    (0x08, 0x02, "communication parity error"),
    (0x08, 0x04, "unreachable copy target"),
    (0x0B, 0x00, "warning"),
    (0x0B, 0x06, "warning, non-volatile cache now volatile"),
    (0x0B, 0x08, "warning, power loss expected"),
    (0x0C, 0x00, "write error"),
    (0x0C, 0x02, "write error, automatic reallocation failed"),
    (0x0C, 0x03, "write error, reassignment recommended"),
    (0x0C, 0x0C, "write error, unexpected unsolicited data"),
    (0x0C, 0x0D, "write error, not enough unsolicited data"),
    (0x0D, 0x00, "error detected by third party temporary initiator"),
    (0x0D, 0x01, "third party device failure"),
    (0x0D, 0x02, "copy target device not reachable"),
    (0x0D, 0x03, "incorrect copy target device type"),
    (0x0D, 0x04, "copy target device data underrun"),
    (0x0D, 0x05, "copy target device data overrun"),
    (0x0E, 0x00, "invalid information unit"),
    (0x10, 0x00, "id CRC or ECC error"),
    (0x10, 0x01, "logical block guard check failed"),
    (0x10, 0x02, "logical block application tag check failed"),
    (0x10, 0x03, "logical block reference tag check failed"),
    (0x11, 0x00, "unrecovered read error"),
    (0x11, 0x01, "read retries exhausted"),
    (0x11, 0x04, "unrecovered read error, automatic reallocation failed"),
    (0x11, 0x0B, "unrecovered read error, reassignment recommended"),
    (0x11, 0x0C, "unrecovered read error, rewriting recommended"),
    (0x11, 0x14, "read error, LBA marked bad by a host"),
    (0x14, 0x00, "recorded entity not found"),
    (0x14, 0x01, "record not found"),
    (0x17, 0x00, "recovered data without error correction"),
    (0x17, 0x01, "recovered data with retries"),
    (0x18, 0x00, "recovered data with error correction"),
    (0x18, 0x02, "recovered data, automatically reallocated"),
    (0x1A, 0x00, "parameter list length error"),
    (0x1D, 0x00, "miscompare during verify operation"),
    (0x1D, 0x01, "miscompare verify of unmapped LBA"),
    (0x20, 0x00, "invalid command operation code"),
    (0x20, 0x02, "access denied, no access rights"),
    (0x21, 0x00, "logical block address out of range"),
    (0x24, 0x00, "invalid field in CDB"),
    (0x25, 0x00, "logical unit not supported"),
    (0x26, 0x00, "invalid field in parameter list"),
    (0x26, 0x01, "parameter not supported"),
    (0x26, 0x02, "parameter value invalid"),
    (0x26, 0x04, "invalid release of persistent reservation"),
    (0x26, 0x06, "too many target descriptors"),
    (0x26, 0x07, "unsupported target descriptor type code"),
    (0x26, 0x08, "too many segment descriptors"),
    (0x26, 0x09, "unsupported segment descriptor type code"),
    (0x26, 0x0A, "unexpected inexact segment"),
    (0x26, 0x0B, "inline data length exceeded"),
    (0x26, 0x0C, "invalid operation for copy source or destination"),
    (0x26, 0x0D, "copy segment granularity violation"),
    (0x27, 0x00, "write protected"),
    (0x27, 0x01, "hardware write protected"),
    (0x27, 0x02, "logical unit software write protected"),
    (0x27, 0x04, "persistent write protect"),
    (0x27, 0x05, "permanent write protect"),
    (0x27, 0x07, "space allocation failed, write protected"),
    (0x28, 0x00, "not ready to ready change, medium may have changed"),
    (0x29, 0x00, "power on, reset, or bus device reset"),
    (0x29, 0x01, "power on"),
    (0x29, 0x02, "bus reset"),
    (0x29, 0x03, "bus device reset function"),
    (0x29, 0x04, "device internal reset"),
    (0x29, 0x07, "I_T nexus loss"),
    (0x2A, 0x00, "parameters changed"),
    (0x2A, 0x01, "mode parameters changed"),
    (0x2A, 0x02, "log parameters changed"),
    (0x2A, 0x03, "reservations preempted"),
    (0x2A, 0x04, "reservations released"),
    (0x2A, 0x05, "registrations preempted"),
    (0x2A, 0x06, "asymmetric access state changed"),
    (0x2A, 0x07, "implicit asymmetric access state transition failed"),
    (0x2A, 0x09, "capacity data has changed"),
    (0x2C, 0x00, "command sequence error"),
    (0x2C, 0x0B, "not reserved"),
    (0x2F, 0x00, "commands cleared by another initiator"),
    (0x2F, 0x01, "commands cleared by power loss notification"),
    (0x2F, 0x02, "commands cleared by device server"),
    (0x31, 0x00, "medium format corrupted"),
    (0x32, 0x00, "no defect spare location available"),
    (0x38, 0x07, "thin provisioning soft threshold reached"),
    (0x3A, 0x00, "medium not present"),
    (0x3E, 0x00, "logical unit has not configured itself yet"),
    (0x3E, 0x01, "logical unit failure"),
    (0x3E, 0x02, "timeout on logical unit"),
    (0x3F, 0x01, "microcode has been changed"),
    (0x3F, 0x02, "changed operating definition"),
    (0x3F, 0x03, "inquiry data has changed"),
    (0x3F, 0x05, "device identifier changed"),
    (0x3F, 0x0E, "reported LUNs data has changed"),
    (0x44, 0x00, "internal target failure"),
    (0x47, 0x00, "SCSI parity error"),
    (0x47, 0x03, "information unit iuCRC error detected"),
    (0x47, 0x7F, "some commands cleared by iSCSI protocol event"),
    (0x48, 0x00, "initiator detected error message received"),
    (0x4B, 0x00, "data phase error"),
    (0x4E, 0x00, "overlapped commands attempted"),
    (0x55, 0x02, "insufficient reservation resources"),
    (0x55, 0x03, "insufficient resources"),
    (0x55, 0x04, "insufficient registration resources"),
    (0x5D, 0x00, "failure prediction threshold exceeded"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascending_and_each_once() {
        assert!(TABLE.windows(2).all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1)));
    }

    #[test]
    fn a_code_without_a_name_is_shown_by_its_number() {
        assert_eq!(Code { asc: 0x29, ascq: 0x01 }.to_string(), "29h/01h (power on)");
        assert_eq!(Code { asc: 0x80, ascq: 0x1A }.to_string(), "80h/1Ah");
    }
}
