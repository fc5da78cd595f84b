//! The lock that other hosts meet, on files: the emulation beside them. Another host is a file that says so.

use std::fs;
use std::path::{Path, PathBuf};

use lunferry_fixtures::loopdev::{LoopLun, LoopOptions};
use lunferry_fixtures::stamp;
use nix::sys::signal::Signal;
use serde_json::json as value;

use crate::support::{
    Background, Files, MIB, Refused, alone, assert_holds, json, lunferry, needs_loop_devices, refused, text,
};

const SIZE: usize = 24 * MIB;

/// Node 7, incarnation 00c0ffee.
const THEIRS: u64 = 0x4C46_0007_00C0_FFEE;

fn beside(lun: &Path) -> PathBuf {
    let mut name = lun.as_os_str().to_owned();
    name.push(".lunferry-reservations");
    name.into()
}

/// Another host registers `key`, and reserves where `holds`.
fn elsewhere(lun: &Path, key: u64, holds: bool) -> PathBuf {
    let reservation = if holds { value!({ "type": 5, "holder": "elsewhere" }) } else { value!(null) };
    let stored = value!({
        "format": "lunferry reservations",
        "version": 1,
        "generation": 4,
        "aptpl": true,
        "registrations": [{ "nexus": "elsewhere", "key": key }],
        "reservation": reservation,
    });
    // Not in place: a reader must see the old file or the new one.
    let (file, new) = (beside(lun), lun.with_extension("other"));
    fs::write(&new, stored.to_string()).unwrap();
    fs::rename(new, &file).unwrap();
    file
}

/// The metadata area, which lies over the last 4 MiB of a target of the source's size.
fn area(target: &Path) -> Vec<u8> {
    fs::read(target).unwrap().split_off(SIZE - 4 * MIB)
}

fn pair(files: &Files) -> (PathBuf, PathBuf) {
    (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 2))
}

#[test]
fn what_another_host_holds_is_refused_with_its_name_and_taken_over_on_demand() {
    let _alone = alone();
    for held in ["source", "target"] {
        let files = Files::new();
        let (source, target) = pair(&files);
        let file = elsewhere(if held == "source" { &source } else { &target }, THEIRS, true);
        let words = ["another copier holds it", "0x4c46000700c0ffee", "node 7", "no checkpoint of it yet"];
        let want = Refused { exit: 4, code: "held_elsewhere", words: &words };
        refused(&[&source, &target, &file], &[text(&source), text(&target)], &want);
        // Whether a key of its own number is its own can be told only by registering: the generation goes on.
        refused(
            &[&source, &target],
            &[text(&source), text(&target), "--node", "7"],
            &Refused { words: &words[..2], ..want },
        );
        let told = json(0, &["copy", text(&source), text(&target), "--take-over", "--node", "9"]);
        let [theirs, other] = if held == "source" { ["source", "target"] } else { ["target", "source"] };
        assert_eq!(told["lock"][theirs]["fenced"], value!(["0x4c46000700c0ffee"]), "{told}");
        assert_eq!(
            (&told["lock"][theirs]["drained"], &told["lock"][other]["drained"]),
            (&value!("reset"), &value!("reset"))
        );
        assert_eq!((&told["lock"]["node"], &told["lock"]["stops_other_hosts"]), (&value!(9), &value!(false)));
        assert_holds(&target, &stamp::stamped(SIZE, 1));
        // The fenced host may wake up: both stay reserved until the operator says otherwise.
        assert_eq!(
            (&told["lock"]["source"]["stays"], &told["lock"]["target"]["stays"]),
            (&value!(true), &value!(true))
        );
        for lun in [&source, &target] {
            assert!(beside(lun).exists());
            let elsewhere = lunferry(&["lun", "release", text(lun), "--node", "7"]);
            assert_eq!(elsewhere.code, Some(4), "{elsewhere:?}");
            assert_eq!(json(0, &["lun", "release", text(lun), "--node", "9"])["result"], "released");
            assert_eq!(json(0, &["lun", "release", text(lun), "--node", "9"])["result"], "nothing_held");
            assert!(!beside(lun).exists(), "nothing is left behind");
        }
    }
}

#[test]
fn a_take_over_of_a_host_that_is_down_leaves_nothing_behind() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = pair(&files);
    elsewhere(&source, THEIRS, true);
    let told = json(0, &["copy", text(&source), text(&target), "--take-over", "--fenced-hosts-are-down"]);
    assert_eq!(told["lock"]["source"]["stays"], false, "{told}");
    assert!(!beside(&source).exists() && !beside(&target).exists());
}

#[test]
fn a_take_over_that_was_interrupted_still_knows_whom_it_fenced() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = pair(&files);
    elsewhere(&source, THEIRS, true);
    let args = ["copy", text(&source), text(&target), "--node", "9"];
    let mut copy = Background::start(&[&args[..], &["--take-over", "--limit", "8MiB/s"]].concat());
    copy.wait_for("copied");
    copy.signal(Signal::SIGINT);
    assert_eq!(copy.end().code, Some(6));
    let told = json(0, &[&args[..], &["--resume"]].concat());
    assert_eq!(
        (&told["lock"]["source"]["fenced"], &told["lock"]["source"]["stays"]),
        (&value!([]), &value!(true)),
        "{told}"
    );
    assert!(beside(&source).exists() && beside(&target).exists());
}

#[test]
fn foreign_registrations_are_refused_and_the_sources_can_be_waived() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = pair(&files);
    let on_source = elsewhere(&source, 0xABCD, true);
    let words = ["not Lunferry's", "0x000000000000abcd", "--source-fencing none"];
    let want = Refused { exit: 3, code: "foreign_registrations", words: &words };
    refused(&[&source, &target, &on_source], &[text(&source), text(&target)], &want);
    refused(&[&source, &target, &on_source], &[text(&source), text(&target), "--take-over"], &want);
    let on_target = elsewhere(&target, 0xABCD, false);
    let args = [text(&source), text(&target), "--source-fencing", "none"];
    let want = Refused { words: &["not Lunferry's", "before it is overwritten"], ..want };
    refused(&[&source, &target, &on_source, &on_target], &args, &want);
    fs::remove_file(on_target).unwrap();
    let told = json(0, &[&["copy"], &args[..]].concat());
    assert_eq!(told["lock"]["source"]["reservation"], "none", "{told}");
    assert_eq!(told["lock"]["source"]["why"], "--source-fencing none", "{told}");
    assert!(on_source.exists(), "what was others' stays");
    assert_holds(&target, &stamp::stamped(SIZE, 1));
}

#[test]
fn a_copier_that_was_fenced_writes_no_further_checkpoint() {
    let _alone = alone();
    for fenced in ["source", "target"] {
        let files = Files::new();
        let (source, target) = pair(&files);
        let flags = ["--limit", "8MiB/s", "--checkpoint-interval-ms", "50"];
        let mut copy = Background::start(&[&["--json", "copy", text(&source), text(&target)], &flags[..]].concat());
        copy.wait_for("copied");
        // Paused, so that the checkpoint that is read is the last one before the fence.
        copy.signal(Signal::SIGSTOP);
        let file = elsewhere(if fenced == "source" { &source } else { &target }, THEIRS, true);
        let kept = fs::read(&file).unwrap();
        let before = area(&target);
        copy.signal(Signal::SIGCONT);
        let run = copy.end();
        assert_eq!(run.code, Some(4), "{run:?}");
        let error = &run.json()["errors"][0];
        assert_eq!(error["code"], "fenced", "{error}");
        assert!(error["message"].as_str().unwrap().contains("0x4c46000700c0ffee holds the reservation now"), "{error}");
        // A checkpoint that was on its way when the process was stopped may still have landed; a second one may not.
        let changed = before.chunks(512).zip(area(&target).chunks(512)).filter(|(a, b)| a != b).count();
        assert!(changed <= 1, "{changed} blocks of the metadata area changed after the fence");
        assert_eq!(fs::read(&file).unwrap(), kept, "the new holder's reservation is as it was");
        let other = beside(if fenced == "source" { &target } else { &source });
        assert!(!other.exists(), "it let go of what it still had");
    }
}

#[test]
fn an_earlier_run_that_was_killed_is_replaced_by_the_next_one() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = pair(&files);
    let mut copy = Background::start(&[
        "copy",
        text(&source),
        text(&target),
        "--limit",
        "8MiB/s",
        "--checkpoint-interval-ms",
        "50",
    ]);
    copy.wait_for("copied");
    copy.signal(Signal::SIGKILL);
    copy.end();
    let left = json(0, &["lun", "show", text(&target)]);
    let holder = &left["reservations"]["holder"];
    assert_eq!(holder["type"], "write exclusive, registrants only", "{left}");
    assert_eq!(left["reservations"]["keys"][0]["key"], holder["key"], "{left}");
    let told = json(0, &["copy", text(&source), text(&target), "--resume"]);
    assert_eq!(told["lock"]["target"]["drained"], "own_and_reset", "{told}");
    assert_eq!(told["lock"]["target"]["fenced"], value!([]), "{told}");
    assert!(told["resumed_from_bytes"].as_u64().unwrap() > 0, "{told}");
    assert_holds(&target, &stamp::stamped(SIZE, 1));
    assert!(!beside(&source).exists() && !beside(&target).exists());
}

#[test]
fn parts_of_one_file_have_locks_of_their_own() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let (sources, targets) = (files.stamped("sources", 2 * SIZE, 1), files.stamped("targets", 2 * SIZE, 2));
    let part = |file: &Path, number: u64| {
        let options = LoopOptions { offset: number * SIZE as u64, limit: SIZE as u64, ..LoopOptions::default() };
        LoopLun::over(file, options).unwrap()
    };
    let [from, to] = [&sources, &targets].map(|file| [0, 1].map(|number| part(file, number)));
    let mut first = Background::start(&["copy", text(from[0].path()), text(to[0].path()), "--limit", "8MiB/s"]);
    first.wait_for("copied");
    // The same host and the same node: nothing of the first copy's may be taken for an earlier start's.
    let told = json(0, &["copy", text(from[1].path()), text(to[1].path())]);
    assert_eq!(told["lock"]["target"]["drained"], value!(null), "{told}");
    assert_ne!(told["lock"]["target"]["file"], told["lock"]["source"]["file"], "{told}");
    let run = first.end();
    assert_eq!(run.code, Some(0), "{run:?}");
}
