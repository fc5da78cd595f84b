//! Ctrl-C and its kin in the middle of a copy: a checkpoint, exit code 6, and a resume that goes on from there.

use lunferry_fixtures::loopdev::LoopLun;
use lunferry_fixtures::stamp;
use nix::sys::signal::Signal;

use crate::support::{Background, Files, MIB, alone, assert_holds, json, needs_loop_devices, text};

const SIZE: usize = 24 * MIB;

/// Interrupts a copy after some of it, resumes it with `flags`, and looks at every number on the way.
fn interrupt(signal: Signal, larger: usize, flags: &[&str]) {
    let files = Files::new();
    let source = files.stamped("source", SIZE, 1);
    let target = LoopLun::new((SIZE + larger) as u64, 512).unwrap();
    let pair = [text(&source), text(target.path())];
    let mut copy = Background::start(&["--json", "copy", pair[0], pair[1], "--limit", "8MiB/s"]);
    copy.wait_for("copied");
    copy.signal(signal);
    let run = copy.end();
    assert_eq!(run.code, Some(6), "{run:?}");
    assert!(run.stderr.contains("interrupted: what is in flight is finished and checkpointed"), "{run:?}");
    let told = run.json();
    let watermark = told["watermark_bytes"].as_u64().unwrap();
    assert_eq!(told["result"], "interrupted");
    assert!((1..(SIZE - 4 * MIB) as u64).contains(&watermark), "{told}");

    let shown = json(0, &["checkpoint", "show", pair[1]]);
    assert_eq!(shown["checkpoint"]["watermark_bytes"], watermark, "{shown}");
    let told = json(0, &[&["copy", pair[0], pair[1], "--resume", "--verify"], flags].concat());
    assert_eq!(told["resumed_from_bytes"], watermark, "{told}");
    assert_eq!(told["bytes_copied"], SIZE as u64 - watermark, "{told}");
    let verify = &told["verify"];
    let compared = [&verify["by_digest_bytes"], &verify["by_reading_bytes"]].map(|bytes| bytes.as_u64().unwrap());
    assert_eq!((compared.iter().sum(), &verify["differing_bytes"]), (SIZE as u64, &0.into()), "{told}");
    assert_holds(target.path(), &stamp::stamped(SIZE, 1));
}

#[test]
fn ctrl_c_writes_a_checkpoint() {
    needs_loop_devices!();
    let _alone = alone();
    interrupt(Signal::SIGINT, 0, &[]);
}

#[test]
fn sigterm_writes_a_checkpoint_that_other_sizes_can_go_on_from() {
    needs_loop_devices!();
    let _alone = alone();
    interrupt(Signal::SIGTERM, 5 * MIB, &["--extent", "12KiB", "--depth", "5", "--workers", "2"]);
}

#[test]
fn an_interrupted_verify_is_not_a_verdict() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 1));
    let mut verify = Background::start(&["--json", "verify", text(&source), text(&target), "--limit", "8MiB/s"]);
    verify.wait_for("verified");
    verify.signal(Signal::SIGINT);
    let run = verify.end();
    assert_eq!(run.code, Some(6), "{run:?}");
    assert_eq!(run.json()["verify"]["interrupted"], true, "{run:?}");
}
