//! Records for the checkpoint targets, from whatever bytes the fuzzer tries.
//!
//! What must hold: any 512 bytes can come out, and so can a golden image with a few bytes changed and its CRC right again.
//! Without the latter hardly an input would get past the magic and the CRC to the fields behind them.

use lunferry_engine::checkpoint::record::{Defect, FIELDS, RECORD_LEN, Record};

const GOLDEN: &[u8; RECORD_LEN] = include_bytes!("../../fixtures/golden/checkpoint-v1.bin");

/// The first byte says how: bit 0 takes the golden image as the base and the rest as changes to it (place, place, value),
/// otherwise the rest is the image; bit 1 puts the CRC right.
pub(crate) fn from(data: &[u8]) -> [u8; RECORD_LEN] {
    let Some((how, rest)) = data.split_first() else {
        return [0; RECORD_LEN];
    };
    let mut bytes = if how & 1 == 1 { *GOLDEN } else { [0; RECORD_LEN] };
    if how & 1 == 1 {
        for change in rest.chunks_exact(3) {
            bytes[usize::from(u16::from_le_bytes([change[0], change[1]])) % RECORD_LEN] = change[2];
        }
    } else {
        let len = rest.len().min(RECORD_LEN);
        bytes[..len].copy_from_slice(&rest[..len]);
    }
    if how & 2 == 2
        && let Err(Defect::Torn { computed, .. }) = Record::decode(&bytes)
    {
        let field = FIELDS.iter().find(|field| field.name == "crc32c").expect("a record has a CRC");
        bytes[field.range()].copy_from_slice(&computed.to_le_bytes());
    }
    bytes
}
