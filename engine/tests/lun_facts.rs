//! The facts of real files and loop devices, and every refusal of the safety verdict on a real thing.
//!
//! Loop devices need root. Without it those tests say `SKIPPED: reason`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use lunferry_engine::lun::error::LunError;
use lunferry_engine::lun::facts::{DeviceKind, LockKind, LunInfo, Role, Signature, Usage};
use lunferry_engine::lun::identity::IdentityKind;
use lunferry_engine::lun::open::OpenLun;
use lunferry_engine::lun::safety::{self, Facts, Overrides, Refusal};
use lunferry_engine::lun::{probe, signature, sizing, topology, usage};
use lunferry_engine::units::Bytes;
use lunferry_fixtures::loopdev::{self, LoopLun, LoopOptions, run};
use tempfile::TempDir;

const SIZE: u64 = 64 << 20;
const NOTHING: [&str; 0] = [];

/// A child that is being started shares every open file of this process for a moment. One test at a time, or they would
/// find each other's children among the openers.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves a test that needs loop devices where there are none.
macro_rules! needs_loop_devices {
    () => {
        if let Some(reason) = loopdev::unavailable() {
            println!("SKIPPED: {reason}");
            return;
        }
    };
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn file(dir: &TempDir, name: &str, size: u64) -> PathBuf {
    let path = dir.path().join(name);
    File::create(&path).unwrap().set_len(size).unwrap();
    path
}

fn info(path: &Path) -> LunInfo {
    probe::probe(path).unwrap()
}

fn usage_of(path: &Path) -> Usage {
    usage::read(&info(path)).unwrap()
}

fn signatures(path: &Path) -> Vec<Signature> {
    signature::read(&File::open(path).unwrap(), path).unwrap()
}

fn same(one: &Path, other: &Path) -> Option<String> {
    topology::same_storage(&info(one), &info(other)).unwrap()
}

fn refusals(source: &Path, target: &Path, lifted: &[&str]) -> Vec<Refusal> {
    let (from, to) = (info(source), info(target));
    let same = topology::same_storage(&from, &to).unwrap();
    let facts = Facts {
        source: &from,
        target: &to,
        source_usage: &usage::read(&from).unwrap(),
        target_usage: &usage::read(&to).unwrap(),
        target_signatures: &signatures(target),
        same_storage: same.as_deref(),
    };
    safety::verdict(
        &facts,
        &Overrides { signatures: lifted.iter().map(|name| (*name).to_owned()).collect(), ..Overrides::default() },
    )
}

fn codes(source: &Path, target: &Path, lifted: &[&str]) -> Vec<&'static str> {
    refusals(source, target, lifted).iter().map(Refusal::code).collect()
}

/// Something that a tool undoes when this is dropped.
struct Undo(&'static str, PathBuf);

impl Drop for Undo {
    fn drop(&mut self) {
        run(self.0, &[text(&self.1)]).unwrap();
    }
}

fn mount(device: &Path, at: &Path) -> Undo {
    run("mount", &[text(device), text(at)]).unwrap();
    Undo("umount", at.into())
}

fn swap_on(area: &Path) -> Undo {
    run("mkswap", &[text(area)]).unwrap();
    run("swapon", &[text(area)]).unwrap();
    Undo("swapoff", area.into())
}

/// Another process that has a file open, until dropped.
struct OpenBy(Child);

impl OpenBy {
    /// `cat` waits for its input, and has the file for its complaints.
    fn new(path: &Path, writes: bool) -> Self {
        let file = File::options().read(true).write(writes).open(path).unwrap();
        Self(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).spawn().unwrap())
    }
}

impl Drop for OpenBy {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_file_tells_its_facts() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a", SIZE);
    let hole = info(&path);
    assert_eq!((hole.device, hole.capacity), (DeviceKind::File, Bytes(SIZE)));
    assert!(hole.is_all_hole && hole.can_punch && !hole.read_only);
    assert!(hole.logical_block >= Bytes(512) && hole.physical_block >= Bytes(4096));
    assert_eq!((hole.device_number, hole.rotational), (None, None));
    assert_eq!(hole.identity.kind, IdentityKind::File);
    let inode = hole.file_id.unwrap().inode;
    assert_eq!(hole.identity.text, format!("{} inode {inode}", fs::canonicalize(&path).unwrap().display()));

    let mut opened = File::options().write(true).open(&path).unwrap();
    opened.seek(SeekFrom::Start(1 << 20)).unwrap();
    opened.write_all(&[1; 4096]).unwrap();
    opened.set_modified(UNIX_EPOCH + Duration::new(1_700_000_000, 5)).unwrap();
    let written = info(&path);
    assert!(!written.is_all_hole);
    assert_eq!(written.content_stamp, 1_700_000_000_000_000_005);
    assert_ne!(written.content_stamp, hole.content_stamp);
    assert_eq!(written.identity, hole.identity);
}

#[test]
fn what_is_no_lun_is_refused_by_name() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    run("mkfifo", &[text(&fifo)]).unwrap();
    for (path, word) in [(dir.path(), "a directory"), (Path::new("/dev/null"), "a character device"), (&fifo, "a FIFO")]
    {
        for error in [probe::probe(path).unwrap_err(), OpenLun::open(path, Role::Target).unwrap_err()] {
            assert!(matches!(error, LunError::WrongKind { kind, .. } if kind == word), "{error}");
        }
    }
    let missing = OpenLun::open(&dir.path().join("none"), Role::Target).unwrap_err();
    assert!(missing.to_string().contains("check the path"), "{missing}");
    assert!(!dir.path().join("none").exists());
}

#[test]
fn empty_and_ragged_files_are_refused_with_the_mend() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    for (name, size) in [("empty", 0), ("ragged", 1000)] {
        let path = file(&dir, name, size);
        let error = OpenLun::open(&path, Role::Source).unwrap_err();
        assert!(matches!(error, LunError::Unfit { field: "capacity", .. }), "{error}");
        assert!(error.to_string().contains("truncate -s"), "{error}");
    }
    let ragged = dir.path().join("ragged");
    run("truncate", &["-s", "%4096", text(&ragged)]).unwrap();
    assert_eq!(info(&ragged).capacity, Bytes(4096));
}

#[test]
fn a_file_is_locked_once() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a", SIZE);
    let first = OpenLun::open(&path, Role::Target).unwrap();
    assert_eq!((first.lock, first.lock.to_string().as_str()), (LockKind::FileLock, "flock"));
    for role in [Role::Source, Role::Target] {
        let error = OpenLun::open(&path, role).unwrap_err();
        assert!(matches!(error, LunError::LockedElsewhere { .. }), "{error}");
    }
    drop(first);
    OpenLun::open(&path, Role::Source).unwrap();
}

#[test]
fn no_direct_io_is_an_error() {
    let _alone = alone();
    // sysfs has regular files, of a page each, that can't be opened with O_DIRECT.
    let error = OpenLun::open(Path::new("/sys/kernel/uevent_seqnum"), Role::Source).unwrap_err();
    assert!(matches!(error, LunError::NoDirectIo { .. }), "{error}");
}

#[test]
fn the_openers_of_a_file_are_found() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (file(&dir, "source", SIZE), file(&dir, "target", SIZE));
    assert_eq!(codes(&source, &target, &[]), NOTHING);
    {
        let reader = OpenBy::new(&source, false);
        let found = usage_of(&source).open_elsewhere.by;
        assert_eq!((found[0].pid, found[0].writes, found[0].command.as_str()), (reader.0.id(), false, "cat"));
        assert_eq!(codes(&source, &target, &[]), NOTHING);
        let _other = OpenBy::new(&target, false);
        assert_eq!(codes(&source, &target, &[]), ["target_open_elsewhere"]);
    }
    let _writer = OpenBy::new(&source, true);
    assert_eq!(codes(&source, &target, &[]), ["source_open_elsewhere"]);
    // Our own open is no other process's.
    let own = OpenLun::open(&target, Role::Target).unwrap();
    assert_eq!(usage::read(&own.info).unwrap().open_elsewhere.by, []);
}

#[test]
fn one_file_by_two_names_is_one_lun() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a", SIZE);
    let (hard, soft) = (dir.path().join("hard"), dir.path().join("soft"));
    fs::hard_link(&path, &hard).unwrap();
    std::os::unix::fs::symlink(&path, &soft).unwrap();
    for other in [&path, &hard, &soft] {
        assert_eq!(codes(&path, other, &[]), ["same_storage"]);
    }
}

#[test]
fn a_smaller_file_is_refused_and_a_larger_one_is_not() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (large, small) = (file(&dir, "large", SIZE), file(&dir, "small", SIZE - 4096));
    assert_eq!(codes(&large, &small, &[]), ["target_too_small"]);
    assert_eq!(codes(&small, &large, &[]), NOTHING);
    let sizing = sizing::defaults(&info(&large), &info(&small), 2);
    assert_eq!((sizing.extent, sizing.depth, sizing.workers), (Bytes::mib(1), 8, 1));
}

#[test]
fn loop_devices_tell_their_facts_in_both_block_sizes() {
    needs_loop_devices!();
    let _alone = alone();
    for sector in [512, 4096] {
        let lun = LoopLun::new(SIZE, sector).unwrap();
        let open = OpenLun::open(lun.path(), Role::Target).unwrap();
        let facts = &open.info;
        assert_eq!(open.lock, LockKind::ExclusiveOpen);
        assert_eq!((facts.device, facts.capacity), (DeviceKind::Loop, Bytes(SIZE)));
        assert_eq!(facts.logical_block, Bytes(sector.into()));
        assert!(facts.physical_block >= facts.logical_block && facts.max_io.is_some() && !facts.read_only);
        assert!(facts.can_punch && facts.discard && facts.diskseq.is_some() && facts.rotational.is_some());
        assert_eq!(facts.device_number.map(|number| number.0), Some(7));
        let behind = info(lun.file());
        assert_eq!(facts.identity, behind.identity);
        assert_eq!(facts.content_stamp, behind.content_stamp);
    }
}

#[test]
fn a_device_that_is_open_exclusively_is_in_use() {
    needs_loop_devices!();
    let _alone = alone();
    let lun = LoopLun::new(SIZE, 512).unwrap();
    run("mkfs.ext4", &["-q", "-L", "vol", text(lun.path())]).unwrap();
    let open = OpenLun::open(lun.path(), Role::Source).unwrap();
    let error = OpenLun::open(lun.path(), Role::Target).unwrap_err();
    assert!(matches!(error, LunError::InUse { .. }), "{error}");
    // A look, the users and the signatures don't need it.
    assert_eq!(info(lun.path()).capacity, Bytes(SIZE));
    let found = signature::read(open.file(), lun.path()).unwrap();
    assert_eq!((found.len(), found[0].kind.as_str(), found[0].label.as_deref()), (1, "ext4", Some("vol")));
    assert_eq!(found, signatures(lun.file()), "the device and the file behind it");
}

#[test]
fn a_read_only_device_is_a_source_and_no_target() {
    needs_loop_devices!();
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (back, source) = (file(&dir, "a", SIZE), file(&dir, "source", SIZE));
    let lun = LoopLun::over(&back, LoopOptions { read_only: true, ..LoopOptions::default() }).unwrap();
    assert_eq!(codes(&source, lun.path(), &[]), ["target_read_only"]);
    let error = OpenLun::open(lun.path(), Role::Target).unwrap_err();
    assert!(matches!(error, LunError::ReadOnly { .. }), "{error}");
    assert!(OpenLun::open(lun.path(), Role::Source).unwrap().info.read_only);
}

#[test]
fn a_mounted_device_is_refused_as_either() {
    needs_loop_devices!();
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("mount point");
    fs::create_dir(&at).unwrap();
    let (lun, other) = (LoopLun::new(SIZE, 512).unwrap(), LoopLun::new(SIZE, 512).unwrap());
    run("mkfs.ext4", &["-q", text(lun.path())]).unwrap();
    let _mounted = mount(lun.path(), &at);
    assert_eq!(usage_of(lun.path()).mounts[0].at, at);
    assert_eq!(codes(lun.path(), other.path(), &[]), ["source_mounted"]);
    assert_eq!(codes(other.path(), lun.path(), &["ext4"]), ["target_mounted"]);
    let error = OpenLun::open(lun.path(), Role::Target).unwrap_err();
    assert!(matches!(&error, LunError::InUse { by, .. } if by.contains("mount point")), "{error}");
    // By the file behind it, too.
    assert_eq!(codes(other.path(), lun.file(), &["ext4"]), ["target_behind_loop_device"]);
}

#[test]
fn a_file_system_that_only_pretends_direct_io_is_an_error() {
    needs_loop_devices!();
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let lun = LoopLun::new(SIZE, 512).unwrap();
    run("mkfs.ext4", &["-q", text(lun.path())]).unwrap();
    let path = dir.path().join("a");
    {
        // ext4 takes O_DIRECT here, and buffers.
        run("mount", &["-o", "data=journal", text(lun.path()), text(dir.path())]).unwrap();
        let _mounted = Undo("umount", dir.path().into());
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let told = info(&path).direct_io;
        if told.is_none() {
            println!("SKIPPED: this kernel's statx tells nothing of direct I/O");
            return;
        }
        assert_eq!(told, Some(false));
        let error = OpenLun::open(&path, Role::Target).unwrap_err();
        assert!(matches!(error, LunError::NoDirectIo { source: None, .. }), "{error}");
    }
    run("mount", &["-o", "ro", text(lun.path()), text(dir.path())]).unwrap();
    let _mounted = Undo("umount", dir.path().into());
    assert!(info(&path).read_only);
    let error = OpenLun::open(&path, Role::Target).unwrap_err();
    assert!(matches!(error, LunError::ReadOnly { .. }), "{error}");
}

#[test]
fn swap_space_is_refused() {
    needs_loop_devices!();
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (lun, other) = (LoopLun::new(SIZE, 512).unwrap(), file(&dir, "other", SIZE));
    {
        let _swapping = swap_on(lun.path());
        assert_eq!(codes(&other, lun.path(), &["swap"]), ["target_is_swap"]);
        assert_eq!(codes(lun.path(), &other, &[]), ["source_is_swap"]);
    }
    assert_eq!(codes(&other, lun.path(), &[]), ["target_has_signature"]);
    // A swap file must have all of its blocks.
    let area = file(&dir, "swap file", 0);
    File::options().write(true).open(&area).unwrap().write_all(&vec![0; 8 << 20]).unwrap();
    run("chmod", &["600", text(&area)]).unwrap();
    let _swapping = swap_on(&area);
    assert_eq!(usage_of(&area).swaps, [text(&area)]);
}

#[test]
fn a_partition_and_its_disk_are_one_and_siblings_are_not() {
    needs_loop_devices!();
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut disk = LoopLun::new(SIZE, 512).unwrap();
    let one = disk.add_partition(1, 2048, 32768).unwrap();
    let two = disk.add_partition(2, 34816, 32768).unwrap();
    let facts = info(&one);
    assert_eq!((facts.device, facts.capacity), (DeviceKind::Partition, Bytes::mib(16)));
    assert!(facts.identity.text.ends_with("-part1 start 2048 sectors 32768"), "{}", facts.identity);
    assert!(facts.max_io.is_some());
    assert!(same(&one, disk.path()).is_some() && same(disk.file(), &one).is_some());
    assert_eq!(same(&one, &two), None);
    assert_eq!(codes(&one, &two, &[]), NOTHING);

    run("mkfs.ext4", &["-q", text(&one)]).unwrap();
    let source = LoopLun::new(SIZE, 512).unwrap();
    let _mounted = mount(&one, dir.path());
    let refusals = refusals(source.path(), disk.path(), &[]);
    assert_eq!(refusals.iter().map(Refusal::code).collect::<Vec<_>>(), ["target_mounted"]);
    assert!(refusals[0].to_string().contains("p1 is mounted at"), "{}", refusals[0]);
    assert_eq!(codes(&two, source.path(), &[]), NOTHING, "a neighbour that is mounted does no harm");
}

#[test]
fn signatures_and_partition_tables_are_lifted_by_name() {
    needs_loop_devices!();
    let _alone = alone();
    let (source, target) = (LoopLun::new(SIZE, 512).unwrap(), LoopLun::new(SIZE, 512).unwrap());
    assert_eq!(signatures(target.path()), []);
    run("mkfs.ext4", &["-q", text(target.path())]).unwrap();
    assert_eq!(codes(source.path(), target.path(), &["xfs"]), ["target_has_signature"]);
    assert_eq!(codes(source.path(), target.path(), &["ext4"]), NOTHING);
    run("wipefs", &["--all", text(target.path())]).unwrap();
    // An MBR with one partition of type 83h.
    let mut record = [0_u8; 512];
    record[446..462].copy_from_slice(&[0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 128, 0, 0]);
    record[510..].copy_from_slice(&[0x55, 0xAA]);
    File::options().write(true).open(target.path()).unwrap().write_all(&record).unwrap();
    assert_eq!(codes(source.path(), target.path(), &[]), ["target_has_partition_table"]);
    assert_eq!(codes(source.path(), target.path(), &["dos"]), NOTHING);
}

#[test]
fn loop_devices_and_their_file_are_one_where_they_overlap() {
    needs_loop_devices!();
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let back = file(&dir, "a", SIZE);
    let part = |offset, limit| LoopLun::over(&back, LoopOptions { offset, limit, ..LoopOptions::default() }).unwrap();
    let (low, high, all) = (part(0, SIZE / 2), part(SIZE / 2, 0), part(0, 0));
    assert_eq!(same(low.path(), high.path()), None);
    for (one, other) in [(low.path(), all.path()), (all.path(), high.path()), (high.path(), &back)] {
        assert!(same(one, other).is_some(), "{one:?} {other:?}");
    }
    assert_eq!(usage_of(low.path()).loop_devices, [text(all.path())]);
    let identity = info(high.path()).identity;
    assert!(identity.text.ends_with(&format!("offset {}", SIZE / 2)), "{identity}");

    // A loop device over a loop device, then over a file that has lost the name that it was attached by.
    let nested = LoopLun::over(high.path(), LoopOptions::default()).unwrap();
    assert!(same(nested.path(), &back).is_some());
    let kept = dir.path().join("kept");
    fs::hard_link(&back, &kept).unwrap();
    fs::remove_file(&back).unwrap();
    assert!(same(nested.path(), &kept).is_some());
    let (unnamed, again) = (info(high.path()), info(high.path()));
    assert_eq!((unnamed.identity.kind, &unnamed.identity), (IdentityKind::KernelName, &again.identity));
    let diskseq = format!(" diskseq {}", unnamed.diskseq.unwrap());
    assert!(unnamed.identity.text.contains(" boot ") && unnamed.identity.text.ends_with(&diskseq), "{unnamed:?}");
    assert_eq!(usage_of(&kept).loop_devices.len(), 3);
}

#[test]
fn who_writes_to_a_device_or_to_the_file_behind_it_is_found() {
    needs_loop_devices!();
    let _alone = alone();
    let (source, target) = (LoopLun::new(SIZE, 512).unwrap(), LoopLun::new(SIZE, 512).unwrap());
    {
        let _reader = OpenBy::new(target.path(), false);
        assert_eq!(usage_of(target.path()).open_elsewhere.by.len(), 1);
        assert_eq!(codes(source.path(), target.path(), &[]), NOTHING);
    }
    let _writer = OpenBy::new(target.path(), true);
    let _other = OpenBy::new(source.file(), true);
    assert_eq!(codes(source.path(), target.path(), &[]), ["target_open_elsewhere", "source_open_elsewhere"]);
}

#[test]
fn a_larger_block_on_the_target_must_divide_the_source() {
    needs_loop_devices!();
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (back, target) = (file(&dir, "a", SIZE), LoopLun::new(SIZE, 4096).unwrap());
    let first = |limit| LoopLun::over(&back, LoopOptions { limit, ..LoopOptions::default() }).unwrap();
    {
        let odd = first(SIZE - 512);
        assert_eq!(codes(odd.path(), target.path(), &[]), ["block_mismatch"]);
    }
    assert_eq!(codes(first(SIZE - 4096).path(), target.path(), &[]), NOTHING);
}

#[test]
fn a_look_and_an_open_write_nothing() {
    needs_loop_devices!();
    let _alone = alone();
    let (source, target) = (LoopLun::new(SIZE, 512).unwrap(), LoopLun::new(SIZE, 4096).unwrap());
    run("mkfs.ext4", &["-q", text(target.path())]).unwrap();
    let content = || (fs::read(target.file()).unwrap(), info(target.file()).content_stamp);
    File::open(target.path()).unwrap().sync_all().unwrap();
    let before = content();
    assert_eq!(codes(source.path(), target.path(), &[]), ["target_has_signature"]);
    drop(OpenLun::open(target.path(), Role::Target).unwrap());
    File::open(target.path()).unwrap().sync_all().unwrap();
    assert!(before == content());
}
