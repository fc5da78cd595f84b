//! Holes: not read on the source; kept, punched or skipped on the target, and always equal in the end.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lunferry_fixtures::loopdev::{LoopLun, LoopOptions};
use lunferry_fixtures::stamp;
use serde_json::Value;

use crate::support::{Files, MIB, alone, json, needs_loop_devices, text};

const SIZE: usize = 64 * MIB;
const DATA: [usize; 2] = [0, 40 * MIB];

/// 64 MiB with two pieces of data of 1 MiB each.
fn sparse(files: &Files) -> PathBuf {
    let path = files.hole("source", SIZE);
    let mut file = File::options().write(true).open(&path).unwrap();
    for at in DATA {
        let mut data = vec![0; MIB];
        stamp::fill(&mut data, 1, at as u64);
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&data).unwrap();
    }
    file.sync_all().unwrap();
    path
}

fn allocated(path: &Path) -> usize {
    File::open(path).unwrap().sync_all().unwrap();
    fs::metadata(path).unwrap().blocks() as usize * 512
}

fn assert_equal(source: &Path, target: &Path) {
    assert!(fs::read(source).unwrap() == fs::read(target).unwrap(), "the target differs");
}

/// What was read is little more than the data.
fn assert_holes_were_not_read(told: &Value) {
    let read = told["read_latency_us"]["count"].as_u64().unwrap() * told["extent_bytes"].as_u64().unwrap();
    assert!(read <= 8 * MIB as u64, "{told}");
    let [copied, zeroed, skipped] =
        ["bytes_copied", "bytes_zeroed", "bytes_skipped"].map(|key| told[key].as_u64().unwrap() as usize);
    assert_eq!(copied + zeroed + skipped, SIZE, "{told}");
    assert!(zeroed + skipped >= SIZE - 4 * MIB, "{told}");
}

#[test]
fn a_sparse_target_stays_sparse() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (sparse(&files), files.hole("target", SIZE));
    let told = json(0, &["copy", text(&source), text(&target), "--verify"]);
    assert_eq!(told["zeroes"]["mode"], "skip", "{told}");
    assert_eq!(told["zeroes"]["known_zero"], "all_hole", "{told}");
    assert_holes_were_not_read(&told);
    assert_equal(&source, &target);
    assert!(allocated(&target) < 4 * MIB, "{}", allocated(&target));
}

#[test]
fn garbage_under_a_hole_is_punched() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (sparse(&files), files.stamped("target", SIZE, 2));
    assert!(allocated(&target) >= SIZE);
    let told = json(0, &["copy", text(&source), text(&target), "--verify"]);
    assert_eq!(told["zeroes"]["mode"], "punch", "{told}");
    assert_holes_were_not_read(&told);
    assert_equal(&source, &target);
    assert!(allocated(&target) < 8 * MIB, "{}", allocated(&target));
}

#[test]
fn garbage_behind_a_loop_device_is_punched() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let (source, back) = (sparse(&files), files.stamped("back", SIZE, 2));
    let target = LoopLun::over(&back, LoopOptions::default()).unwrap();
    let told = json(0, &["copy", text(&source), text(target.path()), "--verify"]);
    assert_holes_were_not_read(&told);
    drop(target);
    assert_equal(&source, &back);
    assert!(allocated(&back) < 8 * MIB, "{}", allocated(&back));
}

#[test]
fn zeroes_are_written_where_that_is_wished() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (sparse(&files), files.hole("target", SIZE));
    let told = json(0, &["copy", text(&source), text(&target), "--zeroes", "write"]);
    assert_eq!((&told["zeroes"]["mode"], &told["bytes_skipped"]), (&"write".into(), &0.into()), "{told}");
    assert_equal(&source, &target);
    assert!(allocated(&target) >= SIZE, "{}", allocated(&target));
}

#[test]
fn the_operators_word_makes_zeroes_be_skipped() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (sparse(&files), files.path("target"));
    fs::write(&target, vec![0; SIZE]).unwrap();
    let told = json(0, &["copy", text(&source), text(&target), "--target-is-zero", "--zeroes", "skip", "--verify"]);
    assert_eq!((&told["zeroes"]["known_zero"], &told["bytes_zeroed"]), (&"operator".into(), &0.into()), "{told}");
    assert_equal(&source, &target);
    // The word was wrong, and neither the target's end nor a signature gives it away: --verify tells.
    let (other, garbage) = (sparse(&files), files.stamped("garbage", SIZE, 2));
    let file = fs::OpenOptions::new().write(true).open(&garbage).unwrap();
    file.write_all_at(&vec![0; 4 * MIB], (SIZE - 4 * MIB) as u64).unwrap();
    drop(file);
    let told = json(5, &["copy", text(&other), text(&garbage), "--target-is-zero", "--verify"]);
    assert!(
        told["verify"]["differing_bytes"].as_u64().unwrap() > 50 * MIB as u64,
        "{}",
        told["verify"]["differing_bytes"]
    );
}
