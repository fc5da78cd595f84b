//! A heartbeat block as a device gives it back: no 512 bytes make decoding panic, and what it accepts is exactly what encoding
//! makes.
//!
//! Half of the inputs get the golden image's magic and a CRC that fits, so that they get past both.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lunferry_engine::checkpoint::heartbeat::{BEAT_LEN, BEAT_MAGIC, BeatDefect, Heartbeat};
use lunferry_engine::units::Bytes;

const AT: Bytes = Bytes(0x10000);

fuzz_target!(|data: &[u8]| {
    let (Some(kind), mut bytes) = (data.first(), [0; BEAT_LEN]) else { return };
    let len = (data.len() - 1).min(BEAT_LEN);
    bytes[..len].copy_from_slice(&data[1..=len]);
    if kind % 2 == 1 {
        bytes[..8].copy_from_slice(&BEAT_MAGIC);
        if let Err(BeatDefect::Torn { computed, .. }) = Heartbeat::decode(&bytes, AT) {
            bytes[508..].copy_from_slice(&computed.to_le_bytes());
        }
    }
    if let Ok(beat) = Heartbeat::decode(&bytes, AT) {
        assert_eq!(beat.encode(AT), bytes, "accepted, and not what encoding makes");
    }
});
