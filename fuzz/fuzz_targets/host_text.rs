//! What the kernel and util-linux say of who uses a LUN: whatever stands in /proc/self/mountinfo, /proc/swaps,
//! /proc/PID/maps, /proc/PID/fdinfo or wipefs' JSON (paths and labels are anybody's bytes), reading it doesn't panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lunferry_engine::lun::{signature, usage};

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else {
        return;
    };
    // What is refused is refused with a reason; that is all that can be said of arbitrary text.
    match which % 6 {
        0 => drop(usage::parse::mountinfo(text)),
        1 => drop(usage::parse::swaps(text)),
        2 => drop(usage::parse::shared_mappings(text)),
        3 => drop(usage::parse::fdinfo_access(&String::from_utf8_lossy(text))),
        4 => drop(signature::parse::wipefs(text)),
        _ => drop(usage::parse::unescape(text)),
    }
});
