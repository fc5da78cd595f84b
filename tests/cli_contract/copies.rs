//! Copies that must succeed: block sizes, ragged sizes, the rate limit, file systems.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lunferry_fixtures::loopdev::{LoopLun, LoopOptions};
use lunferry_fixtures::stamp;

use crate::support::{Files, LUNFERRY, MIB, alone, assert_holds, json, lunferry, needs_loop_devices, text};

#[test]
fn block_sizes_of_512_and_4096_mix_where_the_sizes_allow_it() {
    needs_loop_devices!();
    let _alone = alone();
    let size = 12 * MIB + 4096;
    for (from, to) in [(512, 4096), (4096, 512), (4096, 4096)] {
        for larger in [0, 8192, 6 * MIB] {
            let files = Files::new();
            let (source, back) = (files.stamped("source", size, 1), files.stamped("back", size + larger, 2));
            let lun = |file: &Path, sector_size| {
                LoopLun::over(file, LoopOptions { sector_size, ..LoopOptions::default() }).unwrap()
            };
            let (source, target) = (lun(&source, from), lun(&back, to));
            let told = json(0, &["copy", text(source.path()), text(target.path()), "--verify"]);
            assert_eq!(told["verify"]["differing_bytes"], 0, "{from} {to} {larger}: {told}");
            assert_eq!(told["lock"]["target"]["local"], "o_excl", "{told}");
            assert_holds(target.path(), &stamp::stamped(size, 1));
        }
    }
}

#[test]
fn sizes_that_are_no_multiple_of_the_extent() {
    let _alone = alone();
    let files = Files::new();
    for size in [512, 4096 + 512, 5 * MIB + 512, 8 * MIB - 512] {
        for extra in [&[][..], &["--extent", "12KiB", "--depth", "3", "--workers", "2"]] {
            let (source, target) = (files.stamped("source", size, 1), files.stamped("target", size, 2));
            let told = json(0, &[&["copy", text(&source), text(&target), "--verify"], extra].concat());
            assert_eq!((&told["result"], &told["bytes_total"]), (&"complete".into(), &size.into()), "{told}");
            assert_eq!(std::fs::read(&target).unwrap(), stamp::stamped(size, 1));
        }
    }
}

#[test]
fn a_limit_is_kept() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", 8 * MIB, 1), files.stamped("target", 8 * MIB, 2));
    let started = Instant::now();
    let run = lunferry(&["copy", text(&source), text(&target), "--limit", "8MiB/s", "--extent", "64KiB"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    // Half of it is the part that goes through the extent queue before the metadata area; what leaves in the first burst
    // and the last extent's own time are not waited for.
    assert!(started.elapsed() > Duration::from_millis(800), "{:?}", started.elapsed());
    assert_holds(&target, &stamp::stamped(8 * MIB, 1));
    let started = Instant::now();
    assert_eq!(lunferry(&["verify", text(&source), text(&target), "--limit", "8MiB/s"]).code, Some(0));
    assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
}

#[test]
fn little_lockable_memory_makes_fewer_buffers() {
    let _alone = alone();
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: cli_contract: root has to become another user for a limit to count");
        return;
    }
    let files = Files::new();
    let (source, target) = (files.stamped("source", 16 * MIB, 1), files.stamped("target", 16 * MIB, 2));
    // The program lies where another user may not go.
    let program = files.path("lunferry");
    fs::copy(LUNFERRY, &program).unwrap();
    for (path, mode) in [(&files.path("."), 0o755), (&program, 0o755), (&source, 0o666), (&target, 0o666)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let run = |limit_kib: u32, verb: &str| {
        let as_user = "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all";
        let [program, source, target] = [&program, &source, &target].map(|path| text(path));
        let script = format!("ulimit -l {limit_kib}; exec {as_user} {program} --json {verb} {source} {target}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said, String::from_utf8(output.stdout).unwrap())
    };
    for limit_kib in [8192, 4096] {
        fs::write(&target, stamp::stamped(16 * MIB, 2)).unwrap();
        for verb in ["copy --verify", "verify"] {
            let (code, said, told) = run(limit_kib, verb);
            assert_eq!(code, Some(0), "{limit_kib} {verb}: {said}{told}");
            assert!(said.contains("ulimit -l") && said.contains("got="), "{limit_kib} {verb}: {said}");
        }
        assert_holds(&target, &stamp::stamped(16 * MIB, 1));
    }
    let (code, said, told) = run(64, "copy");
    assert!(code == Some(1) && told.contains("ulimit -l"), "{said}{told}");
}

#[test]
fn a_target_on_tmpfs() {
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", 8 * MIB, 1);
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        println!("SKIPPED: cli_contract: no /dev/shm to write to");
        return;
    };
    let target = dir.path().join("target");
    let run = lunferry(&["--json", "copy", text(&source), text(&target), "--create"]);
    let told = run.json();
    if told["errors"][0]["code"] == "no_direct_io" {
        assert!(run.code == Some(3) && !target.exists(), "{run:?}");
        println!("SKIPPED: cli_contract: this kernel's tmpfs has no direct I/O");
        return;
    }
    assert_eq!(told["result"], "complete", "{told}");
    assert_holds(&target, &stamp::stamped(8 * MIB, 1));
}
