//! Runs the compiled `lunferry` and looks at what it said and at what it left behind.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lunferry_fixtures::stamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub const MIB: usize = 1 << 20;
pub const LUNFERRY: &str = env!("CARGO_BIN_EXE_lunferry");

/// A child that is being started shares every open file of this process for a moment. One test at a time, or the program
/// would find another test's child among a LUN's openers.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves a test that needs loop devices where there are none.
macro_rules! needs_loop_devices {
    () => {
        if let Some(reason) = lunferry_fixtures::loopdev::unavailable() {
            println!("SKIPPED: cli_contract: {reason}");
            return;
        }
    };
}
pub(crate) use needs_loop_devices;

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The one JSON document on stdout: one line, whose exit code is the process's.
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        assert!(self.stdout.ends_with('\n'), "{self:?}");
        let value: Value = serde_json::from_str(&self.stdout).unwrap();
        assert_eq!(value["exit_code"].as_i64(), self.code.map(i64::from), "{self:?}");
        assert!(value["result"].is_string(), "{self:?}");
        value
    }
}

/// Runs it to its end, which must come within two minutes.
pub fn lunferry(args: &[&str]) -> Run {
    let output = assert_cmd::Command::new(LUNFERRY).args(args).timeout(Duration::from_secs(120)).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs it with `--json`, to `exit`.
pub fn json(exit: i32, args: &[&str]) -> Value {
    let run = lunferry(&[&["--json"], args].concat());
    assert_eq!(run.code, Some(exit), "{args:?}: {run:?}");
    run.json()
}

/// A run that goes on while the test does something else.
pub struct Background {
    child: Child,
    stderr: BufReader<ChildStderr>,
    seen: String,
}

impl Background {
    pub fn start(args: &[&str]) -> Self {
        let mut child = Command::new(LUNFERRY)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, seen: String::new() }
    }

    /// Waits for a line on stderr that has `word` in it.
    pub fn wait_for(&mut self, word: &str) {
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "it ended before it said `{word}`: {}", self.seen);
            self.seen.push_str(&line);
            if line.contains(word) {
                return;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub fn end(mut self) -> Run {
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut self.seen).unwrap();
        let code = self.child.wait().unwrap().code();
        Run { code, stdout, stderr: std::mem::take(&mut self.seen) }
    }
}

/// A test that fails leaves no process behind.
impl Drop for Background {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A directory with files in it.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file of stamps.
    pub fn stamped(&self, name: &str, len: usize, seed: u64) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, stamp::stamped(len, seed)).unwrap();
        path
    }

    /// A file without data.
    pub fn hole(&self, name: &str, len: usize) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(len as u64).unwrap();
        path
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Panics where `path` does not begin with `want`, and says which block is wrong.
pub fn assert_holds(path: &Path, want: &[u8]) {
    let mut got = vec![0; want.len()];
    File::open(path).unwrap().read_exact(&mut got).unwrap();
    if let Some(words) = stamp::difference(&got, want) {
        panic!("{}: {words}", path.display());
    }
}

/// How a LUN was, to be held against how it is after a refusal: every byte, and of a file its times and its blocks.
pub struct Before {
    path: PathBuf,
    bytes: Vec<u8>,
    facts: (i64, i64, u64, u64),
}

impl Before {
    pub fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let facts = fs::metadata(path).unwrap();
        Self { path: path.into(), bytes, facts: (facts.mtime(), facts.mtime_nsec(), facts.blocks(), facts.ino()) }
    }

    pub fn assert_untouched(&self) {
        let now = Self::of(&self.path);
        assert!(self.bytes == now.bytes, "{} was changed: {:?}", self.path.display(), self.first_change(&now));
        assert_eq!(self.facts, now.facts, "{}: mtime, blocks or inode", self.path.display());
    }

    fn first_change(&self, now: &Self) -> Option<usize> {
        self.bytes.iter().zip(&now.bytes).position(|(a, b)| a != b)
    }
}

/// One refusal, as it must be.
pub struct Refused<'a> {
    pub exit: i32,
    pub code: &'a str,
    /// What the message has in it: the device, the value, the mend.
    pub words: &'a [&'a str],
}

/// Runs a copy that must be refused, once for a person and once for a program. `untouched` is a file, or a device's.
pub fn refused(untouched: &[&Path], args: &[&str], want: &Refused<'_>) {
    let before: Vec<Before> = untouched.iter().map(|path| Before::of(path)).collect();
    let run = lunferry(&[&["copy"], args].concat());
    assert_eq!(run.code, Some(want.exit), "{args:?}: {run:?}");
    assert_eq!(run.stdout, "", "{args:?}: errors belong on stderr");
    for word in want.words {
        assert!(run.stderr.contains(word), "{args:?}: no `{word}` in: {}", run.stderr);
    }
    let told = json(want.exit, &[&["copy"], args].concat());
    assert_eq!(told["result"], if want.exit == 1 { "failed" } else { "refused" }, "{told}");
    let errors = told["errors"].as_array().unwrap();
    let error = errors.iter().find(|error| error["code"] == want.code);
    let error = error.unwrap_or_else(|| panic!("{args:?}: no code {} in {told}", want.code));
    for word in want.words {
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(word), "{args:?}: no `{word}` in: {message}");
    }
    before.iter().for_each(Before::assert_untouched);
}

/// The type of every key of a JSON value, one a line, for snapshots that don't change with each run.
pub fn shape(value: &Value) -> String {
    fn walk(value: &Value, at: &str, lines: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    walk(value, &format!("{at}.{key}"), lines);
                }
            }
            Value::Array(items) => match items.first() {
                Some(first) => walk(first, &format!("{at}[]"), lines),
                None => lines.push(format!("{at}[]: empty")),
            },
            Value::Null => lines.push(format!("{at}: null")),
            Value::Bool(_) => lines.push(format!("{at}: bool")),
            Value::Number(_) => lines.push(format!("{at}: number")),
            Value::String(_) => lines.push(format!("{at}: string")),
        }
    }
    let mut lines = Vec::new();
    walk(value, "", &mut lines);
    lines.join("\n")
}
