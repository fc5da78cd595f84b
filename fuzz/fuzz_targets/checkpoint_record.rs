//! The checkpoint record as a device gives it back: no 512 bytes make decoding panic, and what it accepts is exactly what
//! encoding makes.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;
use lunferry_engine::checkpoint::record::Record;

fuzz_target!(|data: &[u8]| {
    let bytes = image::from(data);
    if let Ok(placed) = Record::decode(&bytes) {
        assert_eq!(placed.record.encode(placed.slot), bytes, "accepted, and not what encoding makes");
    }
});
