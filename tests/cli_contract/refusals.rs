//! Every safety refusal: exit code 3, or 4 for a lock, and a target that is as it was.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use lunferry_fixtures::loopdev::{LoopLun, LoopOptions, run};
use lunferry_fixtures::stamp;

use crate::support::{
    Background, Before, Files, MIB, Refused, alone, assert_holds, json, needs_loop_devices, refused, text,
};

const SIZE: usize = 8 * MIB;

/// Something that a tool undoes when this is dropped.
struct Undo(&'static str, PathBuf);

impl Drop for Undo {
    fn drop(&mut self) {
        run(self.0, &[text(&self.1)]).unwrap();
    }
}

fn read_only(file: &Path) -> LoopLun {
    LoopLun::over(file, LoopOptions { read_only: true, ..LoopOptions::default() }).unwrap()
}

fn over(file: &Path) -> LoopLun {
    LoopLun::over(file, LoopOptions::default()).unwrap()
}

/// A file system that no kernel thread goes on writing to after it was mounted.
fn make_ext4(path: &Path) {
    let lazy = "lazy_itable_init=0,lazy_journal_init=0";
    run("mkfs.ext4", &["-q", "-F", "-L", "vol", "-O", "^has_journal", "-E", lazy, text(path)]).unwrap();
}

#[test]
fn what_is_no_lun_is_refused() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 2));
    let (dir, fifo, none) = (files.path("."), files.path("fifo"), files.path("none"));
    run("mkfifo", &[text(&fifo)]).unwrap();
    let unfit = files.stamped("odd", SIZE, 3);
    File::options().write(true).open(&unfit).unwrap().set_len(SIZE as u64 - 100).unwrap();
    let empty = files.hole("empty", 0);
    for (path, exit, code, words) in [
        (dir.as_path(), 3, "wrong_kind", ["it is a directory", "give a block device"]),
        (&fifo, 3, "wrong_kind", ["it is a FIFO", "give a block device"]),
        (Path::new("/dev/null"), 3, "wrong_kind", ["it is a character device", "give a block device"]),
        (&none, 1, "open", ["No such file", "check the path"]),
        (&unfit, 3, "unfit", ["8388508", "truncate -s"]),
        (&empty, 3, "unfit", ["capacity is 0", "truncate -s"]),
    ] {
        let words = [text(path), words[0], words[1]];
        let want = Refused { exit, code, words: &words };
        refused(&[&source, &target], &[text(path), text(&target)], &want);
        refused(&[&source, &target], &[text(&source), text(path)], &want);
    }
    assert!(!none.exists());
}

#[test]
fn a_target_that_is_too_small_is_refused() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE - 4096, 2));
    let words = [text(&target), "8384512 bytes against 8388608", "4096 are missing", "enlarge it to 8388608"];
    let want = Refused { exit: 3, code: "target_too_small", words: &words };
    refused(&[&source, &target], &[text(&source), text(&target)], &want);
    refused(&[&source, &target], &[text(&source), text(&target), "--resume"], &want);
}

#[test]
fn the_source_by_another_name_is_refused() {
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", SIZE, 1);
    let (hard, soft) = (files.path("hard"), files.path("soft"));
    fs::hard_link(&source, &hard).unwrap();
    std::os::unix::fs::symlink(&source, &soft).unwrap();
    let want = Refused { exit: 3, code: "same_storage", words: &["same storage", "choose another target"] };
    for target in [&source, &hard, &soft] {
        refused(&[&source], &[text(&source), text(target)], &want);
        refused(&[&source], &[text(&source), text(target), "--overwrite-signature", "ext4"], &want);
    }
    needs_loop_devices!();
    let (one, other) = (over(&source), over(&source));
    refused(&[&source], &[text(&source), text(one.path())], &want);
    refused(&[&source], &[text(one.path()), text(&source)], &want);
    refused(&[&source], &[text(one.path()), text(other.path())], &want);
}

#[test]
fn what_is_mounted_is_refused_as_either() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let (free, used) = (files.stamped("free", SIZE, 1), files.hole("used", SIZE));
    make_ext4(&used);
    let lun = over(&used);
    let at = files.path("mount point");
    fs::create_dir(&at).unwrap();
    run("mount", &[text(lun.path()), text(&at)]).unwrap();
    let _mounted = Undo("umount", at.clone());
    run("sync", &["-f", text(&at)]).unwrap();

    let mend = format!("`umount {}` first", text(&at));
    let words = [text(lun.path()), "is mounted at", &mend];
    let target = Refused { exit: 3, code: "target_mounted", words: &words };
    refused(&[&free, &used], &[text(&free), text(lun.path())], &target);
    refused(&[&free, &used], &[text(&free), text(lun.path()), "--overwrite-signature", "ext4"], &target);
    let source = Refused { exit: 3, code: "source_mounted", words: &words };
    refused(&[&free, &used], &[text(lun.path()), text(&free)], &source);
    let detach = format!("`losetup --detach {}` first", text(lun.path()));
    let words = [text(&used), "shows the same bytes", &detach];
    let behind = Refused { exit: 3, code: "target_behind_loop_device", words: &words };
    refused(&[&free, &used], &[text(&free), text(&used)], &behind);
}

#[test]
fn swap_space_is_refused() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let (free, used) = (files.stamped("free", SIZE, 1), files.hole("used", SIZE));
    run("mkswap", &[text(&used)]).unwrap();
    let lun = over(&used);
    if let Err(error) = run("swapon", &[text(lun.path())]) {
        println!("SKIPPED: cli_contract: swapon: {error}");
        return;
    }
    let _swapping = Undo("swapoff", lun.path().into());
    let words = [text(lun.path()), "is swap space", "swapoff"];
    let target = Refused { exit: 3, code: "target_is_swap", words: &words };
    refused(&[&free, &used], &[text(&free), text(lun.path()), "--overwrite-signature", "swap"], &target);
    let source = Refused { exit: 3, code: "source_is_swap", words: &words };
    refused(&[&free, &used], &[text(lun.path()), text(&free)], &source);
}

#[test]
fn a_read_only_target_is_refused() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let (source, back) = (files.stamped("source", SIZE, 1), files.stamped("back", SIZE, 2));
    let lun = read_only(&back);
    let words = [text(lun.path()), "read-only", "blockdev --setrw"];
    let want = Refused { exit: 3, code: "target_read_only", words: &words };
    refused(&[&source, &back], &[text(&source), text(lun.path())], &want);
    assert_eq!(json(0, &["copy", text(lun.path()), text(&source)])["result"], "complete");
    assert_holds(&source, &stamp::stamped(SIZE, 2));
}

#[test]
fn a_signature_is_lifted_by_its_own_name_alone() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.hole("target", SIZE));
    make_ext4(&target);
    let words = [text(&target), "ext4 at byte 1080", "label vol", "--overwrite-signature ext4"];
    let want = Refused { exit: 3, code: "target_has_signature", words: &words };
    for lift in [&[][..], &["xfs"], &["EXT4"], &["ext"], &["dos", "gpt"]] {
        let mut args = vec![text(&source), text(&target)];
        lift.iter().for_each(|name| args.extend(["--overwrite-signature", name]));
        refused(&[&source, &target], &args, &want);
    }
    let told = json(0, &["copy", text(&source), text(&target), "--overwrite-signature", "ext4"]);
    assert_eq!(told["overridden_signatures"][0]["kind"], "ext4", "{told}");
    assert_holds(&target, &stamp::stamped(SIZE, 1));
}

#[test]
fn a_partition_table_is_lifted_by_its_own_name_alone() {
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", SIZE, 1);
    for (label, other) in [("dos", "gpt"), ("gpt", "dos")] {
        let target = files.hole(label, SIZE);
        let script = files.path("script");
        fs::write(&script, format!("label: {label}\n,1M\n,1M\n")).unwrap();
        let command = format!("sfdisk -q {} < {}", text(&target), text(&script));
        run("sh", &["-c", &format!("PATH=$PATH:/usr/sbin:/sbin; {command}")]).unwrap();
        let lift = format!("--overwrite-signature {label}");
        let words = [text(&target), "has a partition table", &lift];
        let want = Refused { exit: 3, code: "target_has_partition_table", words: &words };
        refused(&[&source, &target], &[text(&source), text(&target)], &want);
        refused(&[&source, &target], &[text(&source), text(&target), "--overwrite-signature", other], &want);
        json(0, &["copy", text(&source), text(&target), "--overwrite-signature", label]);
        assert_holds(&target, &stamp::stamped(SIZE, 1));
    }
}

#[test]
fn a_source_that_does_not_end_on_a_block_of_the_target_is_refused() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let (source, back) = (files.stamped("source", SIZE - 512, 1), files.stamped("back", SIZE, 2));
    let target = LoopLun::over(&back, LoopOptions { sector_size: 4096, ..LoopOptions::default() }).unwrap();
    let words = [text(target.path()), "8388096", "4096-byte block", "3584 bytes too many", "choose a target with"];
    let want = Refused { exit: 3, code: "block_mismatch", words: &words };
    refused(&[&source, &back], &[text(&source), text(target.path())], &want);
    drop(target);
    let plain = over(&back);
    json(0, &["copy", text(&source), text(plain.path())]);
    assert_holds(&back, &stamp::stamped(SIZE - 512, 1));
}

#[test]
fn a_lun_that_another_copy_has_is_refused() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.hole("target", SIZE));
    let (other, free) = (files.stamped("other", SIZE, 2), files.stamped("free", SIZE, 3));
    let mut first = Background::start(&["copy", text(&source), text(&target), "--limit", "1MiB/s"]);
    first.wait_for("copied");
    let untouched = Before::of(&other);
    // The lock says it: nobody else's copy reads or writes here now.
    for args in [[text(&other), text(&target)], [text(&source), text(&free)]] {
        let told = json(4, &[&["copy"], &args[..]].concat());
        assert_eq!(told["errors"][0]["code"], "locked_elsewhere", "{told}");
        assert!(told["errors"][0]["message"].as_str().unwrap().contains("lslocks"), "{told}");
    }
    untouched.assert_untouched();
    assert_holds(&free, &stamp::stamped(SIZE, 3));
    for verb in [&["checkpoint", "show"], &["checkpoint", "erase"]] {
        assert_eq!(json(4, &[verb[0], verb[1], text(&target)])["errors"][0]["code"], "locked_elsewhere");
    }
    assert_eq!(first.end().code, Some(0));
    assert_holds(&target, &stamp::stamped(SIZE, 1));
}

#[test]
fn a_device_that_another_copy_has_is_refused() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let (source, other) = (files.stamped("source", SIZE, 1), files.stamped("other", SIZE, 2));
    let target = LoopLun::new(SIZE as u64, 512).unwrap();
    let mut first = Background::start(&["copy", text(&source), text(target.path()), "--limit", "4MiB/s"]);
    first.wait_for("copied");
    let told = json(3, &["copy", text(&other), text(target.path())]);
    assert_eq!(told["errors"][0]["code"], "target_open_elsewhere", "{told}");
    assert!(told["errors"][0]["message"].as_str().unwrap().contains("(lunferry) has it open"), "{told}");
    assert_eq!(first.end().code, Some(0));
    assert_holds(target.path(), &stamp::stamped(SIZE, 1));
}

#[test]
fn a_program_that_writes_to_a_lun_is_named() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 2));
    let open = File::options().append(true).open(&source).unwrap();
    let mut writer =
        std::process::Command::new("cat").stdin(std::process::Stdio::piped()).stdout(open).spawn().unwrap();
    let pid = format!("process {} (cat)", writer.id());
    let words = [text(&source), &pid, "end that process first"];
    let want = Refused { exit: 3, code: "source_open_elsewhere", words: &words };
    refused(&[&source, &target], &[text(&source), text(&target)], &want);
    writer.stdin.take().unwrap().flush().unwrap();
    writer.wait().unwrap();
}

#[test]
fn scsi_vehicles_need_scsi_luns() {
    needs_loop_devices!();
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 2));
    let behind = [files.stamped("behind-source", SIZE, 1), files.stamped("behind-target", SIZE, 2)];
    let (from, to) = (over(&behind[0]), over(&behind[1]));
    for vehicle in ["sg", "xcopy"] {
        let option = format!("--vehicle {vehicle}");
        for (from, to, why) in
            [(source.as_path(), target.as_path(), "it is a file"), (from.path(), to.path(), "it is a loop device")]
        {
            let words = [&option, text(from), why, "leave the option out, or give `uring`"];
            let want = Refused { exit: 3, code: "vehicle_not_possible", words: &words };
            refused(&[&source, &target], &[text(from), text(to), "--vehicle", vehicle], &want);
        }
    }
    let told = json(3, &["verify", text(&source), text(&target), "--vehicle", "sg"]);
    assert_eq!(told["errors"][0]["code"], "vehicle_not_possible", "{told}");
    for vehicle in ["auto", "uring", "sg"] {
        let args = ["verify", text(&source), text(&target), "--method", "verify16", "--vehicle", vehicle];
        let told = json(3, &args);
        assert_eq!(told["errors"][0]["code"], "method_not_possible", "{told}");
    }
    let told = json(0, &["copy", text(from.path()), text(to.path()), "--vehicle", "uring"]);
    assert_eq!((&told["vehicle"], &told["vehicle_detail"]["why"]), (&"uring".into(), &"asked for".into()), "{told}");
}
