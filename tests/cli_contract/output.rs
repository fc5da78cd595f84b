//! What is printed, where, and that a reader who has gone never stops a copy.

use std::process::{Command, Stdio};

use lunferry_fixtures::loopdev::LoopLun;
use lunferry_fixtures::stamp;

use crate::support::{Files, LUNFERRY, MIB, alone, assert_holds, json, lunferry, needs_loop_devices, shape, text};

const SIZE: usize = 8 * MIB;

#[test]
fn closed_outputs_do_not_stop_a_copy() {
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", SIZE, 1);
    // Closed from the start; a pipe whose reader has gone; a full device.
    for (i, how) in [">&- 2>&-", "2>&1 | true", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"].iter().enumerate() {
        for flag in ["--json", "-vv"] {
            let target = files.stamped(&format!("target-{i}{flag}"), SIZE, 2);
            let copy = format!("{LUNFERRY} {flag} copy {} {}", text(&source), text(&target));
            // The status of the program itself, also where it stands before a pipe.
            let code = files.path("code");
            let script = format!("({copy}; echo $? > {}) {how}", text(&code));
            assert!(Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status().unwrap().success());
            assert_eq!(std::fs::read_to_string(&code).unwrap().trim(), "0", "{script}");
            assert_holds(&target, &stamp::stamped(SIZE, 1));
        }
    }
}

#[test]
fn quiet_prints_nothing_but_errors() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 2));
    let pair = [text(&source), text(&target)];
    for verb in ["copy", "verify"] {
        let run = lunferry(&["--quiet", verb, pair[0], pair[1]]);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), "", ""), "{verb}");
    }
    let run = lunferry(&["--quiet", "copy", pair[0], pair[0]]);
    assert!(run.code == Some(3) && run.stdout.is_empty() && run.stderr.contains("same storage"), "{run:?}");
}

#[test]
fn text_goes_to_stdout_and_progress_to_stderr() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 2));
    let run = lunferry(&["copy", text(&source), text(&target), "--verify"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for word in [
        ": complete",
        "copied",
        "zeroes",
        "reads",
        "p99.9",
        "checkpoints",
        "vehicle uring (the source ",
        "flock",
        "memory",
        "equal",
    ] {
        assert!(run.stdout.contains(word), "no `{word}`: {run:?}");
    }
    assert!(run.stderr.contains("copied 8.0 MiB of 8.0 MiB (100 %)"), "{run:?}");
    assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'), "{run:?}");
}

#[test]
fn the_shape_of_a_copys_summary() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 2));
    let told = json(0, &["copy", text(&source), text(&target), "--verify"]);
    assert_eq!((&told["vehicle"], &told["lock"]["target"]["local"]), (&"uring".into(), &"flock".into()));
    insta::assert_snapshot!(shape(&told), @"
    .buffer_bytes: number
    .bytes_copied: number
    .bytes_skipped: number
    .bytes_total: number
    .bytes_unreadable: number
    .bytes_unreadable_before: number
    .bytes_zeroed: number
    .checkpoint_layout: string
    .checkpoints: number
    .cpu_seconds: number
    .depth: number
    .exit_code: number
    .extent_bytes: number
    .lock.key: string
    .lock.node: number
    .lock.node_from: string
    .lock.source.aptpl: bool
    .lock.source.drained: null
    .lock.source.fenced[]: empty
    .lock.source.file: string
    .lock.source.local: string
    .lock.source.paths[].error: null
    .lock.source.paths[].path: string
    .lock.source.paths[].registered: bool
    .lock.source.reservation: string
    .lock.source.stays: bool
    .lock.source.why: null
    .lock.stops_other_hosts: bool
    .lock.target.aptpl: bool
    .lock.target.drained: null
    .lock.target.fenced[]: empty
    .lock.target.file: string
    .lock.target.local: string
    .lock.target.paths[].error: null
    .lock.target.paths[].path: string
    .lock.target.paths[].registered: bool
    .lock.target.reservation: string
    .lock.target.stays: bool
    .lock.target.why: null
    .mb_per_s: number
    .migration: string
    .overridden_signatures[]: empty
    .peak_memory_bytes: number
    .read_latency_us.count: number
    .read_latency_us.max: number
    .read_latency_us.p50: number
    .read_latency_us.p99: number
    .read_latency_us.p999: number
    .result: string
    .resumed_from_bytes: null
    .retries: number
    .seconds: number
    .source: string
    .source_identity: string
    .target: string
    .target_identity: string
    .unreadable[]: empty
    .vehicle: string
    .vehicle_detail.array_gave_up: null
    .vehicle_detail.bytes_by_array: number
    .vehicle_detail.checkpoints_by: string
    .vehicle_detail.wanted: string
    .vehicle_detail.why: string
    .verify.by_device_bytes: number
    .verify.by_digest_bytes: number
    .verify.by_reading_bytes: number
    .verify.differences[]: empty
    .verify.differing_bytes: number
    .verify.interrupted: bool
    .verify.left_out_bytes: number
    .verify.unlisted_bytes: number
    .verify_error: null
    .watermark_bytes: number
    .workers: number
    .workers_why: string
    .write_latency_us.count: number
    .write_latency_us.max: number
    .write_latency_us.p50: number
    .write_latency_us.p99: number
    .write_latency_us.p999: number
    .zeroes.fell_back: bool
    .zeroes.known_zero: null
    .zeroes.mode: string
    ");
}

#[test]
fn the_shape_of_lun_show_and_list() {
    needs_loop_devices!();
    let _alone = alone();
    let lun = LoopLun::new(SIZE as u64, 4096).unwrap();
    let mut shown = json(0, &["lun", "show", text(lun.path())]);
    assert_eq!(shown["lun"]["logical_block"], 4096, "{shown}");
    assert_eq!(shown["checkpoint"], "none", "{shown}");
    // A device manager may be looking at a new device.
    shown["usage"]["open_elsewhere"]["by"].take();
    insta::assert_snapshot!(shape(&shown), @"
    .as_target[]: empty
    .checkpoint: string
    .exit_code: number
    .lun.adapter: null
    .lun.can_punch: bool
    .lun.capacity: number
    .lun.content_stamp: number
    .lun.device: string
    .lun.device_number[]: number
    .lun.direct_io: bool
    .lun.discard: bool
    .lun.diskseq: number
    .lun.file_id: null
    .lun.identity.kind: string
    .lun.identity.text: string
    .lun.is_all_hole: bool
    .lun.logical_block: number
    .lun.max_io: number
    .lun.optimal_io: null
    .lun.path: string
    .lun.physical_block: number
    .lun.read_only: bool
    .lun.rotational: bool
    .reservations.abilities.all_target_ports: bool
    .reservations.abilities.aptpl: bool
    .reservations.abilities.aptpl_active: bool
    .reservations.abilities.types[]: string
    .reservations.file: string
    .reservations.generation: number
    .reservations.holder: null
    .reservations.keys[]: empty
    .reservations.kind: string
    .reservations.paths[].error: null
    .reservations.paths[].path: string
    .reservations.why: null
    .result: string
    .signatures[]: empty
    .usage.holders[]: empty
    .usage.loop_devices[]: empty
    .usage.mounts[]: empty
    .usage.open_elsewhere.by: null
    .usage.open_elsewhere.unseen: number
    .usage.swaps[]: empty
    ");

    let listed = json(0, &["lun", "list"]);
    let luns = listed["luns"].as_array().unwrap();
    let ours = luns.iter().find(|entry| entry["lun"]["path"] == text(lun.path())).expect("the list has every device");
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(ours), ["as_target", "lun", "signatures", "usage"]);
    assert_eq!(keys(&ours["lun"]), keys(&shown["lun"]));
    let run = lunferry(&["lun", "list"]);
    assert!(run.code == Some(0) && run.stdout.contains(text(lun.path())), "{run:?}");
    let run = lunferry(&["lun", "show", text(lun.path())]);
    assert!(run.stdout.contains("nothing stands against it"), "{run:?}");
}

#[test]
fn help_and_completions() {
    let _alone = alone();
    let run = lunferry(&["--help"]);
    assert!(
        run.code == Some(0) && run.stdout.contains("Exit codes: 0 done; 1 failed; 2 wrong use; 3 refused"),
        "{run:?}"
    );
    for verb in ["copy", "verify", "checkpoint", "lun", "completions"] {
        assert!(run.stdout.contains(verb));
        assert_eq!(lunferry(&[verb, "--help"]).code, Some(0));
    }
    for shell in ["bash", "zsh", "fish"] {
        let run = lunferry(&["completions", shell]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        assert!(run.stdout.contains("checkpoint-every") && run.stdout.len() > 2000, "{shell}");
    }
    assert!(lunferry(&["--version"]).stdout.starts_with("lunferry "));
}
