//! SIGKILL in the middle of real copies on real loop devices, then `--resume`: nothing that a checkpoint claimed is copied
//! again or lost, and the target equals the source in the end.
//!
//! What it touches: files of a few GiB in the directory for temporary files, and loop devices over them. Needs root.
//!
//! The moment of a kill is a number of bytes that the copier has written, drawn from a seed; no clock is asked. Two sources
//! with different data take turns on one target, so that a block that was not written never looks right by chance.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may panic, and has small numbers")]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lunferry_fixtures::loopdev::{self, LoopLun, LoopOptions};
use lunferry_fixtures::stamp::{self, Dice};
use nix::sys::statvfs::statvfs;
use serde_json::Value;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const SEED: u64 = 0x6b69_6c6c;
const KILLS: usize = 50;
const LEAST_COMPLETE: usize = 5;

/// How much a run writes before it is killed, at most. The look at its counter takes some time, so that it is more in the end.
const MOST_BETWEEN: u64 = 300 * MIB;

/// Why these tests can't run here.
fn unavailable(needed: u64) -> Option<String> {
    if fs::metadata("/proc/self/io").is_err() {
        return Some("this kernel does not count a process's I/O (/proc/PID/io)".into());
    }
    let room = statvfs(&std::env::temp_dir()).map(|fs| fs.blocks_available() * fs.fragment_size());
    match room {
        Ok(room) if room >= needed => loopdev::unavailable(),
        _ => Some(format!("{} has less than {} MiB free", std::env::temp_dir().display(), needed / MIB)),
    }
}

/// Two sources with different data, and files and devices for them.
struct Ground {
    dir: TempDir,
    sources: [Source; 2],
}

struct Source {
    file: PathBuf,
    lun: LoopLun,
}

impl Ground {
    fn new(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = |seed: u64| {
            let file = dir.path().join(format!("source-{seed}"));
            write_source(&file, size, seed);
            let lun = LoopLun::over(&file, LoopOptions { read_only: true, ..LoopOptions::default() }).unwrap();
            Source { file, lun }
        };
        let sources = [source(1), source(2)];
        Self { dir, sources }
    }

    fn target(&self, size: u64) -> (PathBuf, LoopLun) {
        let file = self.dir.path().join("target");
        File::create(&file).unwrap().set_len(size).unwrap();
        let lun = LoopLun::over(&file, LoopOptions::default()).unwrap();
        (file, lun)
    }
}

/// Stamps with runs of zeroes in them, at another place for every seed.
fn write_source(path: &Path, size: u64, seed: u64) {
    let mut file = File::create(path).unwrap();
    let mut buffer = vec![0; 4 * MIB as usize];
    for at in (0..size).step_by(buffer.len()) {
        let zeroes = (at / (32 * MIB) + seed).is_multiple_of(8);
        match zeroes {
            true => buffer.fill(0),
            false => stamp::fill(&mut buffer, seed, at),
        }
        file.write_all(&buffer).unwrap();
    }
    file.sync_all().unwrap();
}

/// Where the first `size` bytes of two files differ, in words.
fn difference(source: &Path, target: &Path, size: u64) -> Option<String> {
    let (mut source, mut target) = (File::open(source).unwrap(), File::open(target).unwrap());
    let (mut want, mut got) = (vec![0; 4 * MIB as usize], vec![0; 4 * MIB as usize]);
    for at in (0..size).step_by(want.len()) {
        source.read_exact(&mut want).unwrap();
        target.read_exact(&mut got).unwrap();
        if let Some(words) = stamp::difference(&got, &want) {
            return Some(format!("in the 4 MiB at {at}: {words}"));
        }
    }
    None
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A run of lunferry to its end, which must be `exit`.
fn json(exit: i32, args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_lunferry")).args(["--json", "--quiet"]).args(args).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{args:?}\n{stdout}\n{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// What the checkpoint on a target says: its state and its watermark.
fn checkpoint(target: &Path) -> Option<(String, u64)> {
    let shown = json(0, &["checkpoint", "show", text(target)]);
    let record = shown["checkpoint"].as_object()?;
    assert_eq!(shown["about_this_lun"], true, "{shown}");
    Some((record["state"].as_str().unwrap().into(), record["watermark_bytes"].as_u64().unwrap()))
}

/// One run of a copy.
struct Run {
    child: Child,
    log: PathBuf,
    out: PathBuf,
}

impl Run {
    fn start(dir: &Path, source: &Path, target: &Path, flags: &[String]) -> Self {
        let (log, out) = (dir.join("log"), dir.join("out"));
        let child = Command::new(env!("CARGO_BIN_EXE_lunferry"))
            .args(["--json", "--quiet", "--log-format", "json", "copy"])
            .args([source, target])
            .args(flags)
            .env("LUNFERRY_LOG", "lunferry_engine=debug,warn")
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&log).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, log, out }
    }

    /// Bytes that it has sent to block devices; `None` once it has ended.
    fn written(&self) -> Option<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id())).ok()?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
        line.parse().ok()
    }

    /// Kills it once it has written `moment` bytes, and waits until it is gone. Whether it lived that long.
    fn kill_at(&mut self, moment: u64) -> bool {
        self.kill_after(moment, |_| ())
    }

    /// The same, with something to wait for in between.
    fn kill_after(&mut self, moment: u64, then: impl Fn(&mut Self)) -> bool {
        loop {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if self.written().is_some_and(|written| written >= moment) {
                then(self);
                self.child.kill().unwrap();
                return self.child.wait().unwrap().signal() == Some(9);
            }
            std::thread::yield_now();
        }
    }

    /// Waits until it tells of one more checkpoint, or has ended. A kill right after that finds a checkpoint that claims too
    /// much; later, what it claimed would have been written meanwhile.
    fn wait_for_checkpoint(&mut self) {
        let len = |run: &Self| fs::metadata(&run.log).unwrap().len();
        let before = len(self);
        while len(self) == before && self.child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
    }

    /// The watermarks that it told of, in order: each was durable before it was told.
    fn told(&self) -> Vec<u64> {
        let log = fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["fields"]["watermark"].as_u64()).collect()
    }

    /// Waits until it tells of entering a state, or has ended.
    fn wait_for_state(&mut self, state: &str) {
        let word = format!("\"state\":\"{state}\"");
        while !fs::read_to_string(&self.log).unwrap().contains(&word) && self.child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
    }

    fn summary(&self) -> Value {
        let out = fs::read_to_string(&self.out).unwrap();
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{}", fs::read_to_string(&self.log).unwrap()))
    }
}

/// The rhythm of checkpoints, and how many workers: mostly small and fast, sometimes the defaults.
fn flags(dice: &mut Dice) -> Vec<String> {
    let mut flags = Vec::new();
    if !dice.one_in(6) {
        let interval = 10 + dice.below(41);
        flags.extend(["--checkpoint-every".into(), "32MiB".into()]);
        flags.extend(["--checkpoint-interval-ms".into(), interval.to_string()]);
    }
    if dice.one_in(4) {
        flags.extend(["--workers".into(), "2".into()]);
    }
    flags
}

/// What was seen in all rounds, for the report.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    complete: usize,
    before_any_record: usize,
    in_state: std::collections::BTreeMap<String, usize>,
    kept_mib: u64,
}

/// Kills and resumes one copy until it is complete, or until there were enough kills and it may run to its end.
fn chain(ground: &Ground, source: &Source, target: (&Path, &LoopLun), size: u64, dice: &mut Dice, tally: &mut Tally) {
    let (target_file, target) = target;
    let mut kept: Option<u64> = None;
    loop {
        let mut flags = flags(dice);
        flags.extend(kept.map(|_| "--resume".to_owned()));
        let mut run = Run::start(ground.dir.path(), source.lun.path(), target.path(), &flags);
        let left = size - kept.unwrap_or(0);
        let moment = match dice.below(8) {
            0 => 0,
            1 => dice.below(256 << 10),
            _ => dice.below(MOST_BETWEEN),
        };
        let moment = if tally.kills < KILLS { moment } else { u64::MAX };
        let killed = match dice.one_in(2) {
            true => run.kill_at(moment),
            false => run.kill_after(moment, Run::wait_for_checkpoint),
        };
        let told = run.told();
        let place = format!("kill {} at {} bytes of this run ({flags:?}), kept {kept:?}", tally.kills, moment);
        if let (Some(kept), Some(first)) = (kept, told.first()) {
            assert_eq!(*first, kept, "{place}: it did not go on where the checkpoint says");
        }
        assert!(told.is_sorted(), "{place}: a watermark went down: {told:?}");
        if !killed {
            let summary = run.summary();
            assert_eq!(summary["result"], "complete", "{place}: {summary}");
            assert_eq!(summary["resumed_from_bytes"].as_u64(), kept, "{place}: {summary}");
            let done = ["bytes_copied", "bytes_zeroed", "bytes_skipped"].map(|key| summary[key].as_u64().unwrap());
            assert_eq!(done.iter().sum::<u64>(), left, "{place}: {summary}");
            break;
        }
        tally.kills += 1;
        let found = checkpoint(target.path());
        let state = found.as_ref().map_or("none", |(state, _)| state.as_str());
        *tally.in_state.entry(state.to_owned()).or_default() += 1;
        if found.is_none() {
            if kept.is_some() && difference(&source.file, target_file, size).is_none() {
                // Killed after the last record had gone, with everything in place.
                break;
            }
            assert!(told.is_empty() && kept.is_none(), "{place}: a checkpoint was told of and is gone");
            tally.before_any_record += 1;
        } else if state == "committed" {
            break;
        }
        let watermark = found.map(|(_, watermark)| watermark);
        assert!(watermark >= told.last().copied().or(kept), "{place}: told {told:?}, found {watermark:?}");
        tally.kept_mib += watermark.unwrap_or(0).saturating_sub(kept.unwrap_or(0)) / MIB;
        kept = watermark;
    }
    assert_eq!(difference(&source.file, target_file, size), None, "the target differs (seed {SEED:#x}, {tally:?})");
    tally.complete += 1;
}

#[test]
fn fifty_kills_lose_nothing_that_was_checkpointed() {
    const SIZE: u64 = 2048 * MIB;
    if let Some(reason) = unavailable(3 * SIZE + 1024 * MIB) {
        println!("SKIPPED: kill: {reason}");
        return;
    }
    let ground = Ground::new(SIZE);
    let (mut dice, mut tally) = (Dice::new(SEED), Tally::default());
    // Of the source's size, then larger: both layouts, each written over with other data.
    for larger in [0, 5 * MIB].into_iter().cycle() {
        let (file, target) = ground.target(SIZE + larger);
        for source in &ground.sources {
            if tally.kills >= KILLS && tally.complete >= LEAST_COMPLETE {
                println!("seed {SEED:#x}: {tally:?}");
                return;
            }
            chain(&ground, source, (&file, &target), SIZE, &mut dice, &mut tally);
            json(0, &["checkpoint", "erase", text(target.path())]);
        }
    }
}

/// The end of an overlay copy: the records stand where data belongs, and go last.
#[test]
fn kills_while_the_records_give_way_to_data() {
    const SIZE: u64 = 64 * MIB;
    if let Some(reason) = unavailable(6 * SIZE) {
        println!("SKIPPED: kill: {reason}");
        return;
    }
    let ground = Ground::new(SIZE);
    let mut dice = Dice::new(SEED);
    let (file, target) = ground.target(SIZE);
    let mut resumed = 0;
    for round in 0..10 {
        let source = &ground.sources[round % 2];
        let slow = ["--limit", "256MiB/s", "--extent", "64KiB"].map(str::to_owned);
        let mut run = Run::start(ground.dir.path(), source.lun.path(), target.path(), &slow);
        run.wait_for_state("finalising");
        let moment = run.written().unwrap_or(0) + dice.below(4 * MIB);
        if run.kill_at(moment) && checkpoint(target.path()).is_some_and(|(state, _)| state == "finalising") {
            let pair = [text(source.lun.path()), text(target.path())];
            let summary = json(0, &["copy", pair[0], pair[1], "--resume"]);
            assert_eq!(summary["resumed_from_bytes"], SIZE - 4 * MIB, "{summary}");
            assert_eq!(summary["bytes_copied"], 4 * MIB, "{summary}");
            resumed += 1;
        }
        assert_eq!(checkpoint(target.path()), None, "round {round}");
        assert_eq!(difference(&source.file, &file, SIZE), None, "round {round}");
    }
    println!("seed {SEED:#x}: {resumed} of 10 resumed while finalising");
    assert!(resumed > 0, "no kill fell into the time when the records give way");
}

#[test]
fn a_killed_copy_of_files_is_resumed_at_once() {
    const SIZE: u64 = 64 * MIB;
    if let Some(reason) = unavailable(6 * SIZE) {
        println!("SKIPPED: kill: {reason}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    write_source(&source, SIZE, 3);
    let mut dice = Dice::new(SEED);
    for round in 0..10 {
        fs::write(&target, stamp::stamped(SIZE as usize, 10 + round)).unwrap();
        let often = ["--checkpoint-every", "4MiB"].map(str::to_owned);
        let mut run = Run::start(dir.path(), &source, &target, &often);
        run.wait_for_state("syncing");
        if run.kill_at(dice.below(SIZE / 2)) {
            let last = run.told().last().copied();
            // The kernel may still be at work for the process that is gone.
            let summary = json(0, &["copy", text(&source), text(&target), "--resume"]);
            assert!(summary["resumed_from_bytes"].as_u64() >= last, "round {round}: told {last:?}: {summary}");
        }
        assert_eq!(difference(&source, &target, SIZE), None, "round {round}");
    }
}

#[test]
fn damage_below_the_watermark_would_be_found() {
    const SIZE: u64 = 256 * MIB;
    if let Some(reason) = unavailable(4 * SIZE) {
        println!("SKIPPED: kill: {reason}");
        return;
    }
    let ground = Ground::new(SIZE);
    let source = &ground.sources[0];
    let (file, target) = ground.target(SIZE);
    let often = ["--checkpoint-every", "8MiB", "--limit", "200MiB/s"].map(str::to_owned);
    let mut run = Run::start(ground.dir.path(), source.lun.path(), target.path(), &often);
    assert!(run.kill_at(128 * MIB));
    let (_, watermark) = checkpoint(target.path()).unwrap();
    assert!(watermark > 16 * MIB, "{watermark}");

    let block = 9 * MIB;
    let mut damaged = File::options().write(true).open(&file).unwrap();
    damaged.seek(SeekFrom::Start(block)).unwrap();
    damaged.write_all(&stamp::stamped(stamp::BLOCK, 77)).unwrap();
    damaged.sync_all().unwrap();
    drop(damaged);

    let summary = json(0, &["copy", text(source.lun.path()), text(target.path()), "--resume"]);
    assert_eq!(summary["resumed_from_bytes"], watermark);
    let found = difference(&source.file, &file, SIZE).expect("the damage is found");
    assert!(found.contains("at 8388608: 1 blocks differ; the first is block 2048"), "{found}");
    let verified = json(5, &["verify", text(source.lun.path()), text(target.path())]);
    assert_eq!(verified["verify"]["differences"][0]["lba"], block / 512, "{verified}");
}
