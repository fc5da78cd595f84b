//! Others who write to a LUN that is being copied, or was: the copy must notice, or what they wrote must not survive.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use lunferry_fixtures::loopdev::{LoopLun, run};
use lunferry_fixtures::stamp;
use nix::sys::signal::Signal;

use crate::support::{Background, Files, MIB, Run, alone, assert_holds, json, lunferry, needs_loop_devices, text};

const SIZE: usize = 24 * MIB;

fn scribble(path: &Path, at: usize) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"somebody", at as u64).unwrap();
}

/// A copy that was interrupted after some of it.
fn interrupted(source: &Path, target: &Path) -> u64 {
    let mut copy = Background::start(&["--json", "copy", text(source), text(target), "--limit", "8MiB/s"]);
    copy.wait_for("copied");
    copy.signal(Signal::SIGINT);
    let run = copy.end();
    assert_eq!(run.code, Some(6), "{run:?}");
    run.json()["watermark_bytes"].as_u64().unwrap()
}

fn fails_with(run: &Run, exit: i32, code: &str) {
    assert_eq!(run.code, Some(exit), "{run:?}");
    assert_eq!(run.json()["errors"][0]["code"], code, "{run:?}");
}

#[test]
fn a_source_that_is_written_to_meanwhile_is_noticed() {
    let _alone = alone();
    for larger in [0, 8 * MIB] {
        let files = Files::new();
        let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE + larger, 2));
        let args = ["--json", "copy", text(&source), text(&target), "--limit", "12MiB/s", "--verify"];
        let mut copy = Background::start(&args);
        copy.wait_for("copied");
        scribble(&source, SIZE / 2);
        fails_with(&copy.end(), 1, "source_changed");
        let shown = json(0, &["checkpoint", "show", text(&target)]);
        assert_eq!(shown["checkpoint"]["state"], "syncing", "{shown}");
        let resumed = lunferry(&["--json", "copy", text(&source), text(&target), "--resume"]);
        fails_with(&resumed, 3, "source_changed");
    }
}

#[test]
fn a_source_that_is_cut_short_meanwhile_is_no_hole() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.hole("source", SIZE), files.stamped("target", SIZE + 8 * MIB, 2));
    fs::write(&source, stamp::stamped(12 * MIB, 1)).unwrap();
    OpenOptions::new().write(true).open(&source).unwrap().set_len(SIZE as u64).unwrap();
    let mut copy = Background::start(&["--json", "copy", text(&source), text(&target), "--limit", "4MiB/s"]);
    copy.wait_for("copied");
    OpenOptions::new().write(true).open(&source).unwrap().set_len(11 * MIB as u64).unwrap();
    fails_with(&copy.end(), 1, "ended");
}

#[test]
fn a_finished_copy_whose_source_changed_is_not_complete() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE + 8 * MIB, 2));
    json(0, &["copy", text(&source), text(&target)]);
    assert_eq!(json(0, &["copy", text(&source), text(&target), "--resume"])["result"], "already_complete");
    scribble(&source, 0);
    let run = lunferry(&["--json", "copy", text(&source), text(&target), "--resume"]);
    fails_with(&run, 3, "source_changed");
}

#[test]
fn a_file_system_made_on_the_target_since_the_checkpoint_is_refused() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", SIZE, 1);
    let target = LoopLun::new(SIZE as u64, 512).unwrap();
    interrupted(&source, target.path());
    run("mkfs.ext4", &["-q", "-F", "-E", "nodiscard", text(target.path())]).unwrap();
    let resumed = lunferry(&["--json", "copy", text(&source), text(target.path()), "--resume"]);
    fails_with(&resumed, 3, "target_changed");
}

#[test]
fn zeroes_are_not_skipped_on_a_target_that_others_may_have_written_to() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.path("source"), files.hole("target", SIZE));
    let mut data = stamp::stamped(SIZE, 1);
    data[14 * MIB..20 * MIB].fill(0);
    fs::write(&source, &data).unwrap();
    let watermark = interrupted(&source, &target);
    assert!(watermark < 14 * MIB as u64, "{watermark}");
    scribble(&target, 16 * MIB);
    let told = json(0, &["copy", text(&source), text(&target), "--resume", "--verify"]);
    assert!(told["zeroes"]["known_zero"].is_null(), "{told}");
    assert_holds(&target, &data);
}

#[test]
fn a_target_with_a_signature_is_not_zero_whatever_the_operator_says() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.hole("target", SIZE));
    run("mkfs.ext4", &["-q", "-F", text(&target)]).unwrap();
    let args = ["copy", text(&source), text(&target), "--overwrite-signature", "ext4", "--target-is-zero", "--json"];
    fails_with(&lunferry(&args), 2, "option");
}

/// Direct writes go past the page cache. Whoever reads the device through it meanwhile keeps old pages alive.
#[test]
fn a_reader_of_the_target_sees_no_old_pages_in_the_end() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", SIZE, 1);
    let target = LoopLun::new(SIZE as u64, 512).unwrap();
    let reader = OpenOptions::new().read(true).open(target.path()).unwrap();
    let mut seen = vec![0; SIZE];
    let args = ["copy", text(&source), text(target.path()), "--limit", "12MiB/s"];
    let mut copy = Background::start(&args);
    copy.wait_for("copied");
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(copy.end().code, Some(0));
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(stamp::difference(&seen, &stamp::stamped(SIZE, 1)), None);
}
