//! Ctrl-C and its kin in the middle of a copy: a checkpoint, exit code 6, and a resume that goes on from there.

use std::fs;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use lunferry_fixtures::loopdev::LoopLun;
use lunferry_fixtures::stamp;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Background, Files, LUNFERRY, MIB, alone, assert_holds, json, needs_loop_devices, text};

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

/// A pipe that takes nothing more, and its reader, who does not read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let size = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    writer.write_all(&vec![b'x'; size.try_into().unwrap()]).unwrap();
    (reader, writer)
}

/// Whether a process has a handler for SIGINT by now.
fn handles_sigint(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() >> (Signal::SIGINT as u32 - 1) & 1 == 1
}

/// Copies with a stderr that stands still, and sends the signals. The exit code, which must come within half a minute.
fn copy_unheard(flags: &[&str], source: &Path, target: &Path, signals: &[Signal]) -> Option<i32> {
    let (_reader, writer) = full_pipe();
    let mut command = Command::new(LUNFERRY);
    command.args(["copy", text(source), text(target)]).args(flags);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    let id = child.id();
    let pid = Pid::from_raw(id.try_into().unwrap());
    let (ended, end) = channel();
    let waiter = thread::spawn(move || ended.send(child.wait().unwrap().code()).unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    if !signals.is_empty() {
        while !handles_sigint(id) {
            assert!(Instant::now() < deadline, "no handler for SIGINT");
            thread::yield_now();
        }
    }
    signals.iter().for_each(|&signal| kill(pid, signal).unwrap());
    let code = end.recv_timeout(Duration::from_secs(30));
    if code.is_err() {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    waiter.join().unwrap();
    code.expect("it hangs at a stderr that nobody reads")
}

#[test]
fn a_stderr_that_nobody_reads_stops_neither_a_copy_nor_ctrl_c() {
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", SIZE, 1);
    for flags in [&["-vv"][..], &["--verify"], &["--json", "-v"]] {
        let target = files.stamped("target", SIZE, 2);
        assert_eq!(copy_unheard(flags, &source, &target, &[]), Some(0), "{flags:?}");
        assert_holds(&target, &stamp::stamped(SIZE, 1));
        let target = files.stamped("interrupted", SIZE, 2);
        let slow = [flags, &["--limit", "1MiB/s"]].concat();
        assert_eq!(copy_unheard(&slow, &source, &target, &[Signal::SIGINT]), Some(6), "{flags:?}");
        assert_eq!(json(0, &["copy", text(&source), text(&target), "--resume"])["result"], "complete");
    }
    let target = files.stamped("target", SIZE, 2);
    let twice = [Signal::SIGINT, Signal::SIGTERM];
    assert_eq!(copy_unheard(&["--limit", "1MiB/s"], &source, &target, &twice), Some(6));
}

#[test]
fn quiet_is_interrupted_without_a_word() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 2));
    let mut copy = Background::start(&["copy", text(&source), text(&target), "-q", "-v", "--limit", "1MiB/s"]);
    copy.wait_for("state=syncing");
    copy.signal(Signal::SIGINT);
    let run = copy.end();
    assert_eq!((run.code, run.stdout.as_str()), (Some(6), ""), "{run:?}");
    assert!(!run.stderr.contains("interrupted"), "{run:?}");
}
