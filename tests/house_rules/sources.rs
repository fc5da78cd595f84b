//! Rules about Rust files: which are pure and what that forbids, where `unsafe` may stand, how a file begins, how long it
//! gets, and what never stays in one.

use crate::code::{Path, paths, strip};
use crate::{File, caught, hold, rust_files};

/// Files that decide, and so must exist and say `//! Pure` in their head. Each new one belongs here.
const MUST_BE_PURE: &[&str] = &[
    "engine/src/checkpoint/field.rs",
    "engine/src/checkpoint/heartbeat.rs",
    "engine/src/checkpoint/layout.rs",
    "engine/src/checkpoint/record.rs",
    "engine/src/checkpoint/record/fields.rs",
    "engine/src/checkpoint/record/identity.rs",
    "engine/src/checkpoint/record/read.rs",
    "engine/src/checkpoint/record/view.rs",
    "engine/src/checkpoint/slots.rs",
    "engine/src/checkpoint/state.rs",
    "engine/src/copy/queue.rs",
    "engine/src/copy/retry.rs",
    "engine/src/copy/throttle.rs",
    "engine/src/copy/unreadable.rs",
    "engine/src/copy/vehicle/choice.rs",
    "engine/src/copy/zeroes.rs",
    "engine/src/lock/error.rs",
    "engine/src/lock/report.rs",
    "engine/src/lock/standing.rs",
    "engine/src/lun/device_error.rs",
    "engine/src/lun/identity.rs",
    "engine/src/lun/safety.rs",
    "engine/src/lun/sg/shape.rs",
    "engine/src/lun/signature/parse.rs",
    "engine/src/lun/sizing.rs",
    "engine/src/lun/topology/decide.rs",
    "engine/src/lun/usage/parse.rs",
    "engine/src/lun/xcopy/plan.rs",
    "engine/src/units.rs",
    "engine/src/verify/differences.rs",
    "engine/src/verify/parts.rs",
    "scsi/src/bytes.rs",
    "scsi/src/category.rs",
    "scsi/src/category/display.rs",
    "scsi/src/cdb.rs",
    "scsi/src/command.rs",
    "scsi/src/command/copy.rs",
    "scsi/src/command/enquiry.rs",
    "scsi/src/command/reservation.rs",
    "scsi/src/command/thin.rs",
    "scsi/src/command/transfer.rs",
    "scsi/src/key.rs",
    "scsi/src/page.rs",
    "scsi/src/page/capacity.rs",
    "scsi/src/page/copy.rs",
    "scsi/src/page/designator.rs",
    "scsi/src/page/identity.rs",
    "scsi/src/page/inquiry.rs",
    "scsi/src/page/limits.rs",
    "scsi/src/page/lists.rs",
    "scsi/src/page/ports.rs",
    "scsi/src/page/reservation.rs",
    "scsi/src/page/transport_id.rs",
    "scsi/src/retry.rs",
    "scsi/src/rules.rs",
    "scsi/src/rules/access.rs",
    "scsi/src/rules/answers.rs",
    "scsi/src/rules/wire.rs",
    "scsi/src/sense.rs",
    "scsi/src/sense/codes.rs",
    "scsi/src/status.rs",
    "scsi/src/units.rs",
];

/// All of this room is pure, whatever a file's head says.
const PURE_ROOM: &str = "cluster/src/";

/// The files of [`PURE_ROOM`] that act: what stands around the agent.
const PURE_ROOM_EXCEPT: &[&str] = &[
    "cluster/src/agent/alone.rs",
    "cluster/src/agent/api.rs",
    "cluster/src/agent/clock.rs",
    "cluster/src/agent/control.rs",
    "cluster/src/agent/key.rs",
    "cluster/src/agent/net.rs",
    "cluster/src/agent/notify.rs",
    "cluster/src/agent/opener.rs",
    "cluster/src/agent/run.rs",
    "cluster/src/agent/storage/beat.rs",
    "cluster/src/agent/storage/copier.rs",
    "cluster/src/agent/storage/lane.rs",
    "cluster/src/agent/storage/luns.rs",
    "cluster/src/agent/storage/open.rs",
    "cluster/src/agent/storage/start.rs",
];

/// What touches a clock, a descriptor, a socket, a thread or the process.
const BANNED_IN_PURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::os::fd",
    "std::os::unix::fs",
    "std::os::unix::io",
    "std::os::unix::net",
    "std::os::unix::process",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "libc",
    "nix",
    "rustix",
    "tokio",
    "tokio_uring",
];

/// The only files with `unsafe` in them. Each says why in its head and in an `#![allow(unsafe_code, reason = "...")]`.
const MAY_BE_UNSAFE: &[&str] = &["engine/src/buffer.rs", "scsi/src/sg.rs"];

/// The only files that sleep, because there is no event for what they wait for: O_EXCL that falls when a killed
/// process's last request is done, a device that says BUSY, another copier that starts at the same moment, and figures that a
/// running agent is asked for.
const MAY_SLEEP: &[&str] = &["engine/src/lun/open.rs", "fixtures/src/real/cluster.rs", "scsi/src/transport.rs"];

/// Past this, ask whether there are two rooms in it.
const MAX_LINES: usize = 600;

/// The lines of a file's own documentation, without the `//!`.
fn head(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map_while(|line| line.strip_prefix("//!"))
}

fn says_pure(text: &str) -> bool {
    head(text).any(|line| line.trim_start().starts_with("Pure"))
}

fn must_be_pure(file: &File) -> bool {
    let name = file.name.as_str();
    let in_room = name.starts_with(PURE_ROOM) && !PURE_ROOM_EXCEPT.contains(&name);
    in_room || MUST_BE_PURE.contains(&name) || says_pure(&file.text)
}

/// `libc::EIO` and the like are numbers, and a file that judges errors may know them.
fn is_errno(path: &Path) -> bool {
    matches!(path.segments.as_slice(), [libc, name] if libc == "libc"
        && name.starts_with('E') && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()))
}

fn pure_faults(file: &File) -> Vec<String> {
    if !must_be_pure(file) {
        return Vec::new();
    }
    let all: Vec<Path> = paths(&file.text).into_iter().filter(|path| !is_errno(path)).collect();
    let hits =
        all.iter().flat_map(|path| BANNED_IN_PURE.iter().filter(|banned| path.names(banned)).map(move |b| (path, b)));
    hits.map(|(path, banned)| format!("{}:{}: a pure file must not name {banned}", file.name, path.line)).collect()
}

#[test]
fn pure_files_touch_no_clock_file_or_socket() {
    hold(&rust_files().iter().flat_map(pure_faults).collect::<Vec<_>>());
}

#[test]
fn files_that_decide_exist_and_say_that_they_are_pure() {
    let files = rust_files();
    for name in MUST_BE_PURE {
        let file = files.iter().find(|file| file.name == *name);
        let file = file.unwrap_or_else(|| panic!("{name} is on the list of pure files and is not there"));
        assert!(says_pure(&file.text), "{name} has no `//! Pure` line in its head");
    }
}

#[test]
fn a_pure_file_that_acts_is_caught() {
    let sample = |name: &str, code: &str| pure_faults(&File { name: name.into(), text: code.into() });
    let pure = |code: &str| sample("engine/src/x.rs", &format!("//! Decides.\n//!\n//! Pure: values.\n{code}"));
    caught(&pure("use std::fs;"), "x.rs:4: a pure file must not name std::fs");
    caught(&pure("use std::{fmt, net::UdpSocket};"), "std::net");
    caught(&pure("use std::time;\nlet now = time::Instant::now();"), "Instant::now");
    caught(&pure("fn f(t: std::time::SystemTime) {}"), "SystemTime");
    caught(&pure("use tokio::sync::oneshot;"), "tokio");
    caught(&pure("#[cfg(test)]\nmod tests { fn t() { std::thread::spawn(f); } }"), "std::thread");
    caught(&pure("let page = libc::_SC_PAGESIZE;"), "libc");
    caught(&sample("cluster/src/x.rs", "//! A file that does not say what it is.\nuse nix::errno::Errno;"), "nix");
    caught(&pure("use std::os::unix::{ffi::OsStrExt, net::UnixStream};"), "std::os::unix::net");
    caught(&pure("let file = libc::open(path);"), "libc");
    hold(&pure("match errno { libc::EIO | libc::ENOSPC => stop(), _ => {} }"));
    hold(&pure("use std::os::unix::ffi::OsStrExt;"));
    hold(&pure("// std::fs\nlet x = \"libc::open\"; fn f(now: std::time::Instant) {}"));
    hold(&sample("engine/src/x.rs", "//! Acts.\nuse std::fs;"));
}

fn unsafe_faults(file: &File) -> Vec<String> {
    let all = paths(&file.text);
    let first = |word: &str| all.iter().find(|path| path.names(word)).map(|path| path.line);
    if MAY_BE_UNSAFE.contains(&file.name.as_str()) {
        let allows = strip(&file.text).contains("#![allow(unsafe_code, reason =");
        let fault = format!("{}: no `#![allow(unsafe_code, reason = ...)]` that says why it is there", file.name);
        return if allows { Vec::new() } else { vec![fault] };
    }
    // The attribute counts as well: it would silence the compiler's own lint.
    let lines = first("unsafe").or_else(|| first("unsafe_code"));
    lines.map(|line| format!("{}:{line}: unsafe outside the list of files that may", file.name)).into_iter().collect()
}

#[test]
fn unsafe_stands_only_where_it_may() {
    hold(&rust_files().iter().flat_map(unsafe_faults).collect::<Vec<_>>());
}

#[test]
fn unsafe_elsewhere_or_without_a_reason_is_caught() {
    let sample = |name: &str, code: &str| unsafe_faults(&File { name: name.into(), text: code.into() });
    caught(&sample("engine/src/x.rs", "fn f() {\n    unsafe { g() }\n}"), "x.rs:2");
    caught(&sample("engine/src/x.rs", "#![allow(unsafe_code, reason = \"no\")]"), "x.rs:1");
    caught(&sample(MAY_BE_UNSAFE[0], "//! Buffers.\n#![allow(unsafe_code)]\n"), "says why");
    hold(&sample(MAY_BE_UNSAFE[0], "//! Buffers.\n#![allow(unsafe_code, reason = \"mmap\")]\nunsafe { g() }"));
    hold(&sample("engine/src/x.rs", "//! Nothing unsafe here.\nlet x = \"unsafe\";"));
}

fn length_faults(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let fault = format!("{}: {lines} lines, more than {MAX_LINES}: there are two rooms in it", file.name);
    if lines > MAX_LINES { vec![fault] } else { Vec::new() }
}

fn head_faults(file: &File) -> Vec<String> {
    let fault = format!("{}:1: no `//!` head that says what the file is for", file.name);
    if head(&file.text).any(|line| !line.trim().is_empty()) { Vec::new() } else { vec![fault] }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    hold(&rust_files().iter().flat_map(length_faults).collect::<Vec<_>>());
    hold(&rust_files().iter().flat_map(head_faults).collect::<Vec<_>>());
}

#[test]
fn a_long_file_and_a_headless_file_are_caught() {
    let file = |text: String| File { name: "engine/src/x.rs".into(), text };
    caught(&length_faults(&file("\n".repeat(MAX_LINES + 1))), "601 lines");
    hold(&length_faults(&file("\n".repeat(MAX_LINES))));
    caught(&head_faults(&file("use std::fmt;\n//! Too late.\n".into())), "x.rs:1");
    caught(&head_faults(&file("//!\n".into())), "x.rs:1");
    hold(&head_faults(&file("//! Reads.\n".into())));
}

/// Waiting for time instead of an event, what is not written yet, and a test that nobody sees being left out.
fn leftover_faults(file: &File) -> Vec<String> {
    let may_sleep = MAY_SLEEP.contains(&file.name.as_str());
    let banned: &[&str] =
        if may_sleep { &["todo!", "unimplemented!"] } else { &["thread::sleep", "todo!", "unimplemented!"] };
    let all = paths(&file.text);
    let mut faults: Vec<String> = all
        .iter()
        .flat_map(|path| banned.iter().filter(|banned| path.names(banned)).map(move |b| (path.line, b)))
        .map(|(line, banned)| format!("{}:{line}: {banned}", file.name))
        .collect();
    let stripped = strip(&file.text);
    let ignored = stripped.lines().enumerate().filter(|(_, line)| line.replace(' ', "").contains("#[ignore"));
    faults.extend(ignored.map(|(line, _)| format!("{}:{}: #[ignore", file.name, line + 1)));
    faults
}

#[test]
fn nothing_sleeps_is_unwritten_or_ignored() {
    hold(&rust_files().iter().flat_map(leftover_faults).collect::<Vec<_>>());
}

#[test]
fn a_sleep_a_stub_and_an_ignored_test_are_caught() {
    let sample = |code: &str| leftover_faults(&File { name: "engine/src/x.rs".into(), text: code.into() });
    caught(&sample("std::thread::sleep(d);"), "thread::sleep");
    caught(&sample("use std::thread::{sleep, spawn};"), "thread::sleep");
    caught(&sample("fn f() { todo!() }"), "todo!");
    caught(&sample("fn f() { unimplemented!(\"later\") }"), "unimplemented!");
    caught(&sample("#[test]\n#[ignore = \"slow\"]\nfn f() {}"), "x.rs:2");
    hold(&sample("// todo!() and thread::sleep\nlet x = \"#[ignore]\";"));
}
