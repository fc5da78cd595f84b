//! What stands on a target's slots, and what `copy`, `checkpoint show` and `checkpoint erase` make of it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use lunferry_fixtures::loopdev::{LoopLun, LoopOptions};
use lunferry_fixtures::stamp;
use nix::sys::signal::Signal;

use crate::support::{
    Background, Before, Files, MIB, Refused, alone, assert_holds, json, lunferry, needs_loop_devices, refused, shape,
    text,
};

const SIZE: usize = 8 * MIB;
const AREA: usize = 4 * MIB;
const SLOT: usize = 64 << 10;

/// Where both records of a target of `len` bytes stand.
fn slots(len: usize) -> [usize; 2] {
    [len - AREA, len - SLOT]
}

/// A pair whose copy was interrupted after its first checkpoint. The target is `larger` than the source.
fn interrupted(files: &Files, larger: usize) -> (PathBuf, PathBuf) {
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE + larger, 2));
    let mut copy = Background::start(&["copy", text(&source), text(&target), "-v", "--limit", "1MiB/s"]);
    copy.wait_for("state=syncing");
    copy.signal(Signal::SIGINT);
    let run = copy.end();
    assert_eq!(run.code, Some(6), "{run:?}");
    (source, target)
}

/// Puts `bytes` over both records.
fn overwrite_slots(target: &Path, offset: usize, bytes: &[u8]) {
    let len = fs::metadata(target).unwrap().len() as usize;
    let mut file = File::options().write(true).open(target).unwrap();
    for slot in slots(len) {
        file.seek(SeekFrom::Start((slot + offset) as u64)).unwrap();
        file.write_all(bytes).unwrap();
    }
}

fn read_at(path: &Path, at: usize, len: usize) -> Vec<u8> {
    let mut file = File::open(path).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_unfinished_copy_is_neither_begun_anew_nor_mixed_with_another() {
    let _alone = alone();
    for larger in [0, 5 * MIB] {
        let files = Files::new();
        let (source, target) = interrupted(&files, larger);
        let other = files.stamped("other", SIZE, 3);
        let words = ["unfinished copy of this source", "of 8.0 MiB copied", "--resume", "lunferry checkpoint erase"];
        let unfinished = Refused { exit: 3, code: "unfinished_copy", words: &words };
        refused(&[&source, &target], &[text(&source), text(&target)], &unfinished);
        let words = ["another source", "lunferry checkpoint show", "lunferry checkpoint erase"];
        let foreign = Refused { exit: 3, code: "checkpoint_not_usable", words: &words };
        refused(&[&other, &target], &[text(&other), text(&target), "--resume"], &foreign);
        refused(&[&other, &target], &[text(&other), text(&target)], &foreign);

        let told = json(0, &["copy", text(&source), text(&target), "--resume"]);
        assert_eq!(told["result"], "complete", "{told}");
        assert_holds(&target, &stamp::stamped(SIZE, 1));
    }
}

#[test]
fn there_must_be_something_to_resume() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 2));
    let words = ["no checkpoint to resume from", "leave --resume out"];
    let want = Refused { exit: 3, code: "nothing_to_resume", words: &words };
    refused(&[&source, &target], &[text(&source), text(&target), "--resume"], &want);
    json(0, &["copy", text(&source), text(&target)]);
    refused(&[&source, &target], &[text(&source), text(&target), "--resume"], &want);
}

#[test]
fn a_source_that_was_written_to_is_not_resumed() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = interrupted(&files, 0);
    let mut file = File::options().write(true).open(&source).unwrap();
    file.write_all(&stamp::stamped(512, 9)).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let words = ["was written to since the checkpoint", "lunferry checkpoint erase"];
    let want = Refused { exit: 3, code: "source_changed", words: &words };
    refused(&[&source, &target], &[text(&source), text(&target), "--resume"], &want);

    let told = json(0, &["checkpoint", "erase", text(&target)]);
    assert_eq!(told["slots"], serde_json::json!(["A", "B"]), "{told}");
    json(0, &["copy", text(&source), text(&target)]);
    assert_eq!(fs::read(&source).unwrap(), fs::read(&target).unwrap());
}

#[test]
fn damaged_and_later_records_are_refused_and_erased_by_force_alone() {
    let _alone = alone();
    for (offset, bytes, kind, words) in [
        (100, &[0xa5; 16][..], "torn", ["torn checkpoint", "checkpoint show", "checkpoint erase"]),
        (8, &[9, 0], "too_new", ["format 9", "checkpoint show", "checkpoint erase"]),
    ] {
        let files = Files::new();
        let (source, target) = interrupted(&files, 5 * MIB);
        overwrite_slots(&target, offset, bytes);
        let want = Refused { exit: 3, code: "checkpoint_not_usable", words: &words };
        refused(&[&source, &target], &[text(&source), text(&target), "--resume"], &want);
        refused(&[&source, &target], &[text(&source), text(&target)], &want);
        let shown = json(0, &["checkpoint", "show", text(&target)]);
        assert!(shown["checkpoint"].is_null(), "{shown}");
        assert_eq!([&shown["slots"][0]["kind"], &shown["slots"][1]["kind"]], [kind, kind]);

        let before = Before::of(&target);
        let told = json(3, &["checkpoint", "erase", text(&target)]);
        assert_eq!(told["errors"][0]["code"], "may_be_data", "{told}");
        assert!(told["errors"][0]["message"].as_str().unwrap().contains("--force"), "{told}");
        before.assert_untouched();
        assert_eq!(json(0, &["checkpoint", "erase", text(&target), "--force"])["result"], "erased");
        json(0, &["copy", text(&source), text(&target)]);
        assert_holds(&target, &stamp::stamped(SIZE, 1));
    }
}

#[test]
fn one_damaged_slot_does_not_stop_a_resume() {
    let _alone = alone();
    for slot in [0, 1] {
        let files = Files::new();
        let (source, target) = interrupted(&files, 0);
        let mut file = File::options().write(true).open(&target).unwrap();
        file.seek(SeekFrom::Start(slots(SIZE)[slot] as u64 + 100)).unwrap();
        file.write_all(&[0xa5; 16]).unwrap();
        drop(file);
        assert_eq!(json(0, &["copy", text(&source), text(&target), "--resume"])["result"], "complete");
        assert_holds(&target, &stamp::stamped(SIZE, 1));
    }
}

#[test]
fn erase_takes_the_records_and_nothing_else() {
    let _alone = alone();
    let files = Files::new();
    let (_source, target) = interrupted(&files, 5 * MIB);
    let before = fs::read(&target).unwrap();
    assert_eq!(json(0, &["checkpoint", "erase", text(&target)])["result"], "erased");
    let after = fs::read(&target).unwrap();
    let changed: Vec<usize> = (0..after.len()).filter(|&i| before[i] != after[i]).collect();
    let in_a_record = |&at: &usize| slots(after.len()).iter().any(|&slot| (slot..slot + 512).contains(&at));
    assert!(!changed.is_empty() && changed.iter().all(in_a_record));
    for slot in slots(after.len()) {
        assert_eq!(read_at(&target, slot, 512), [0; 512]);
    }

    let untouched = Before::of(&target);
    assert_eq!(json(0, &["checkpoint", "erase", text(&target)])["result"], "nothing_to_erase");
    let run = lunferry(&["checkpoint", "erase", text(&target)]);
    assert!(run.code == Some(0) && run.stdout.contains("no checkpoint to erase"), "{run:?}");
    untouched.assert_untouched();
}

#[test]
fn a_record_that_came_along_as_data_is_erased_by_force_alone() {
    let _alone = alone();
    let files = Files::new();
    // The target of an unfinished copy is itself copied: its records are data now, and name another LUN.
    let (_source, first) = interrupted(&files, 0);
    let second = files.stamped("second", SIZE, 7);
    json(0, &["copy", text(&first), text(&second)]);
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let shown = json(0, &["checkpoint", "show", text(&second)]);
    assert_eq!(shown["about_this_lun"], false, "{shown}");
    let before = Before::of(&second);
    assert_eq!(json(3, &["checkpoint", "erase", text(&second)])["errors"][0]["code"], "may_be_data");
    before.assert_untouched();
    assert_eq!(json(0, &["checkpoint", "erase", text(&second), "--force"])["result"], "erased");
}

#[test]
fn a_finished_copy_beside_its_record() {
    let _alone = alone();
    let files = Files::new();
    let (len, larger) = (SIZE, 5 * MIB);
    let (source, target) = (files.stamped("source", len, 1), files.stamped("target", len + larger, 2));
    let beyond = read_at(&target, len, larger);
    let told = json(0, &["copy", text(&source), text(&target)]);
    assert_eq!(told["checkpoint_layout"], "past_end", "{told}");
    assert_holds(&target, &stamp::stamped(len, 1));
    let changed = read_at(&target, len, larger);
    assert!(beyond[..larger - AREA] == changed[..larger - AREA], "bytes between the source's end and the area");
    let between = |slot: usize| slots(larger)[slot];
    assert!(beyond[between(0) + SLOT..between(1)] == changed[between(0) + SLOT..between(1)], "between the slots");

    let shown = json(0, &["checkpoint", "show", text(&target)]);
    assert_eq!((&shown["checkpoint"]["state"], &shown["about_this_lun"]), (&"committed".into(), &true.into()));
    let words = ["finished copy of this source", "lunferry checkpoint erase"];
    let finished = Refused { exit: 3, code: "finished_copy", words: &words };
    refused(&[&source, &target], &[text(&source), text(&target)], &finished);

    let before = Before::of(&target);
    let told = json(0, &["copy", text(&source), text(&target), "--resume"]);
    assert_eq!((&told["result"], &told["verify"]), (&"already_complete".into(), &serde_json::Value::Null));
    assert_eq!((&told["source"], &told["target"]), (&text(&source).into(), &text(&target).into()), "{told}");
    assert_eq!(told["migration"], shown["checkpoint"]["migration"], "{told}");
    let told = json(0, &["copy", text(&source), text(&target), "--resume", "--verify"]);
    assert_eq!(told["verify"]["by_reading_bytes"], len, "{told}");
    before.assert_untouched();

    let mut damaged = File::options().write(true).open(&target).unwrap();
    damaged.seek(SeekFrom::Start(3 << 20)).unwrap();
    damaged.write_all(b"?").unwrap();
    drop(damaged);
    let told = json(5, &["copy", text(&source), text(&target), "--resume", "--verify"]);
    assert_eq!(told["verify"]["differences"][0]["lba"], (3 << 20) / 512, "{told}");
}

#[test]
fn what_lies_behind_an_overlay_copy_is_left_alone_but_for_the_slots() {
    let _alone = alone();
    let files = Files::new();
    // Less room behind the source's end than the area needs: it lies across the end, and slot B behind it.
    let (len, larger) = (SIZE, MIB);
    let (source, target) = (files.stamped("source", len, 1), files.stamped("target", len + larger, 2));
    let beyond = read_at(&target, len, larger);
    assert_eq!(json(0, &["copy", text(&source), text(&target)])["checkpoint_layout"], "overlay");
    assert_holds(&target, &stamp::stamped(len, 1));
    let changed = read_at(&target, len, larger);
    assert!(beyond[..larger - SLOT] == changed[..larger - SLOT]);
    assert_eq!(json(0, &["checkpoint", "show", text(&target)])["slots"][1]["record"], serde_json::Value::Null);
}

#[test]
fn a_target_too_small_for_checkpoints_is_said_aloud_and_works() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", MIB, 1), files.stamped("target", MIB, 2));
    let run = lunferry(&["copy", text(&source), text(&target)]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("too small for checkpoints"), "{run:?}");
    assert!(run.stdout.contains("none: the target is too small"), "{run:?}");
    assert_holds(&target, &stamp::stamped(MIB, 1));
    let told = json(0, &["copy", text(&source), text(&target), "--verify"]);
    assert_eq!((&told["checkpoints"], told["checkpoint_layout"].is_null()), (&0.into(), true), "{told}");
    assert_eq!(told["verify"]["differing_bytes"], 0, "{told}");
}

#[test]
fn a_lun_too_small_for_a_checkpoint_has_none() {
    let _alone = alone();
    let files = Files::new();
    let small = files.stamped("small", MIB, 1);
    let before = Before::of(&small);
    let shown = json(0, &["checkpoint", "show", text(&small)]);
    assert_eq!(
        (&shown["note"], &shown["slots"]),
        (&"no checkpoint (too small for one)".into(), &serde_json::json!([]))
    );
    let told = json(0, &["checkpoint", "erase", text(&small)]);
    assert_eq!((&told["result"], &told["slots"]), (&"nothing_to_erase".into(), &serde_json::json!([])), "{told}");
    for (verb, words) in [("show", "no checkpoint (too small for one)"), ("erase", "to erase (too small for one)")] {
        let run = lunferry(&["checkpoint", verb, text(&small)]);
        assert!(run.code == Some(0) && run.stdout.contains(words), "{run:?}");
    }
    let run = lunferry(&["lun", "show", text(&small)]);
    assert!(run.code == Some(0) && run.stdout.contains("none (the LUN is too small for one)"), "{run:?}");
    before.assert_untouched();
}

#[test]
fn erase_refuses_what_is_in_use() {
    let _alone = alone();
    let files = Files::new();
    let (_source, target) = interrupted(&files, 5 * MIB);
    let before = Before::of(&target);
    let refused = |path: &Path, code: &str, words: &str| {
        for flags in [&[][..], &["--force"]] {
            let told = json(3, &[&["checkpoint", "erase", text(path)], flags].concat());
            assert_eq!((&told["errors"][0]["code"], &told["result"]), (&code.into(), &"refused".into()), "{told}");
            assert!(told["errors"][0]["message"].as_str().unwrap().contains(words), "{told}");
        }
        before.assert_untouched();
    };
    let open = File::options().append(true).open(&target).unwrap();
    refused(&target, "target_open_elsewhere", "has it open for writing; end that process first");
    drop(open);
    needs_loop_devices!();
    let lun = LoopLun::over(&target, LoopOptions::default()).unwrap();
    refused(&target, "target_behind_loop_device", "shows the same bytes");
    let other = LoopLun::over(&target, LoopOptions::default()).unwrap();
    refused(lun.path(), "target_behind_loop_device", text(other.path()));
    drop((lun, other));
    assert_eq!(json(0, &["checkpoint", "erase", text(&target), "--force"])["result"], "erased");
}

#[test]
fn erase_takes_one_logical_block_of_each_slot() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let back = files.stamped("back", SIZE, 3);
    // The physical block of a loop device over a file is the file system's.
    let lun = LoopLun::over(&back, LoopOptions::default()).unwrap();
    let mut damaged = File::options().write(true).open(lun.path()).unwrap();
    for slot in slots(SIZE) {
        damaged.seek(SeekFrom::Start(slot as u64)).unwrap();
        damaged.write_all(b"LUNFERRY").unwrap();
    }
    damaged.sync_all().unwrap();
    drop(damaged);
    let before = fs::read(lun.path()).unwrap();
    assert_eq!(json(0, &["checkpoint", "erase", text(lun.path()), "--force"])["result"], "erased");
    let after = fs::read(lun.path()).unwrap();
    for slot in slots(SIZE) {
        assert_eq!(after[slot..slot + 512], [0; 512]);
        assert!(after[slot + 512..slot + SLOT] == before[slot + 512..slot + SLOT], "data behind the block at {slot}");
    }
}

#[test]
fn the_shape_of_checkpoint_show() {
    let _alone = alone();
    let files = Files::new();
    let (_source, target) = interrupted(&files, 0);
    let mut shown = json(0, &["checkpoint", "show", text(&target)]);
    let slots = shown["slots"].take();
    assert_eq!(slots[0]["kind"], "valid");
    assert_eq!(
        slots[0]["record"].as_object().map(|map| map.len()),
        shown["checkpoint"].as_object().map(|map| map.len())
    );
    insta::assert_snapshot!(shape(&shown), @"
    .about_this_lun: bool
    .checkpoint.area.bitmap_bytes: number
    .checkpoint.area.layout: string
    .checkpoint.area.nodes: number
    .checkpoint.area.size_bytes: number
    .checkpoint.area.slot_a_bytes: number
    .checkpoint.area.slot_b_bytes: number
    .checkpoint.area.start_bytes: number
    .checkpoint.counters.checkpoints: number
    .checkpoint.counters.copied_bytes: number
    .checkpoint.counters.retried: number
    .checkpoint.counters.skipped_bytes: number
    .checkpoint.counters.unreadable_bytes: number
    .checkpoint.counters.zeroed_bytes: number
    .checkpoint.epoch: number
    .checkpoint.extent_bytes: number
    .checkpoint.fill_unreadable: bool
    .checkpoint.format_version: number
    .checkpoint.group: null
    .checkpoint.migration: string
    .checkpoint.owner.node: number
    .checkpoint.owner.reservation_key: string
    .checkpoint.owner.since_unix_s: number
    .checkpoint.pending_step: null
    .checkpoint.sequence: number
    .checkpoint.source.identity: string
    .checkpoint.source.identity_digest: string
    .checkpoint.source.identity_is_whole: bool
    .checkpoint.source.kind: string
    .checkpoint.source.length_bytes: number
    .checkpoint.source.logical_block_bytes: number
    .checkpoint.source_stamp: string
    .checkpoint.state: string
    .checkpoint.suspension: null
    .checkpoint.target.identity: string
    .checkpoint.target.identity_digest: string
    .checkpoint.target.identity_is_whole: bool
    .checkpoint.target.kind: string
    .checkpoint.target.length_bytes: number
    .checkpoint.target.logical_block_bytes: number
    .checkpoint.target_was_zero: bool
    .checkpoint.watermark_bytes: number
    .checkpoint.writer: string
    .checkpoint.written_at_unix_s: number
    .device: string
    .exit_code: number
    .note: string
    .result: string
    .slots: null
    ");
}
