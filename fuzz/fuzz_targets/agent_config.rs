//! A config file that an operator wrote: no text makes reading it panic, what is refused is refused with a reason, and each
//! mistake lies within the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lunferry_cluster::agent::settings::{Whoami, parse};

fuzz_target!(|text: &str| {
    if let Err(mistakes) = parse(text, Whoami { asked: None, host: "alpha" }) {
        assert!(!mistakes.is_empty(), "refused without a reason");
        let lines = text.split('\n').count();
        assert!(
            mistakes.iter().all(|mistake| (1..=lines).contains(&mistake.line) && mistake.column >= 1),
            "{mistakes:?}"
        );
    }
});
