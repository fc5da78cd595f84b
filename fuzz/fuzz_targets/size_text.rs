//! Sizes and rates as an operator writes them: no text makes the parser panic, a rate is the size with `/s` behind it, and
//! what is shown reads back as about the same size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lunferry_engine::units::{Bytes, BytesPerSecond};

fuzz_target!(|text: &str| {
    let rate = text.parse::<BytesPerSecond>();
    let Ok(size) = text.parse::<Bytes>() else {
        return;
    };
    assert_eq!(rate.ok(), Some(BytesPerSecond(size.0)).filter(|rate| rate.0 > 0), "without the /s");
    let rate = format!("{text}/s").parse::<BytesPerSecond>();
    assert_eq!(rate.ok(), Some(BytesPerSecond(size.0)).filter(|rate| rate.0 > 0), "with the /s");

    // It's shown with one decimal, so it may lose a twentieth of its unit and no more.
    let shown = size.to_string();
    let back: Bytes = shown.parse().expect("what is shown can be read");
    assert!(back.0.abs_diff(size.0) <= size.0 / 10, "{} is shown as {shown}, which reads {}", size.0, back.0);
});
