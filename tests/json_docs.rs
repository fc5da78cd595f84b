//! Holds `docs/json.md` against the program: every verb runs with `--json` on small files, and each key that it prints
//! stands in the document with the type that it has, and each key of the document is printed.
//!
//! Needs no root. Writes only below cargo's directory for tests. A row that no run here can show is on [`NOT_SHOWN`].
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// Rows that would need bad blocks, a mounted device, or a device that can't be looked at.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("unreadable-range", "start"),
    ("unreadable-range", "end"),
    ("unreadable-range", "lba"),
    ("unreadable-range", "blocks"),
    ("unreadable-range", "errno"),
    ("use", "mounts[].device"),
    ("use", "mounts[].at"),
    ("one-lun", "lun"),
    ("one-lun", "usage"),
    ("one-lun", "signatures"),
    ("one-lun", "as_target"),
    ("a-lun-that-failed", "path"),
    ("a-lun-that-failed", "error"),
];

/// One row of a table: a key of a JSON document.
struct Row {
    section: String,
    /// `path.to.key`, with `[]` behind the name of an array.
    key: String,
    /// The type's cell.
    kind: String,
}

impl Row {
    /// The section whose keys this value has, where the type is a link.
    fn link(&self) -> Option<&str> {
        self.kind.split_once("](#")?.1.split(')').next()
    }

    fn is_optional(&self) -> bool {
        self.kind.contains("optional")
    }

    fn allows(&self, value: &Value) -> bool {
        let words: Vec<&str> = self.kind.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let names: &[&str] = match value {
            Value::Null => &["null"],
            Value::Bool(_) => &["boolean"],
            Value::Number(number) if number.is_f64() => &["number"],
            Value::Number(_) => &["integer", "number"],
            Value::String(_) => &["string"],
            Value::Array(_) => &["array"],
            Value::Object(_) => &["object"],
        };
        names.iter().any(|name| words.contains(name))
    }
}

/// The document: its tables, and its examples by section.
struct Document {
    rows: Vec<Row>,
    examples: Vec<(String, String)>,
}

impl Document {
    fn parse(text: &str) -> Self {
        let (mut rows, mut examples) = (Vec::new(), Vec::new());
        let (mut section, mut example) = (String::new(), None::<String>);
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                section = anchor(title);
            }
            match (&mut example, line) {
                (None, "```json") => example = Some(String::new()),
                (Some(text), "```") => {
                    examples.push((section.clone(), std::mem::take(text)));
                    example = None;
                }
                (Some(text), line) => text.push_str(line),
                (None, line) => {
                    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                    if let [_, key, kind, ..] = cells[..]
                        && let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'))
                    {
                        rows.push(Row { section: section.clone(), key: key.to_owned(), kind: kind.to_owned() });
                    }
                }
            }
        }
        Self { rows, examples }
    }

    /// Every path that a document of `section` may have, and the number of its row.
    fn paths(&self, section: &str) -> BTreeMap<String, usize> {
        let mut paths = BTreeMap::new();
        self.expand(section, "", &mut paths);
        assert!(!paths.is_empty(), "the document has no section `{section}`");
        paths
    }

    fn expand(&self, section: &str, prefix: &str, paths: &mut BTreeMap<String, usize>) {
        for (number, row) in self.rows.iter().enumerate().filter(|(_, row)| row.section == section) {
            let path = format!("{prefix}{}", row.key);
            if let Some(link) = row.link() {
                let below = if row.kind.contains("array") { "[]." } else { "." };
                self.expand(link, &format!("{path}{below}"), paths);
            }
            paths.insert(path, number);
        }
    }
}

/// What a reader of Markdown makes of a title.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_ascii_alphanumeric() || " -".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Holds documents against the tables and remembers which rows it has seen.
struct Check<'a> {
    document: &'a Document,
    seen: BTreeSet<usize>,
    faults: Vec<String>,
}

impl<'a> Check<'a> {
    fn new(document: &'a Document) -> Self {
        Self { document, seen: BTreeSet::new(), faults: Vec::new() }
    }

    fn printed(&mut self, section: &str, value: &Value) {
        let paths = self.document.paths(section);
        self.walk(section, value, "", &paths);
    }

    fn walk(&mut self, section: &str, value: &Value, prefix: &str, paths: &BTreeMap<String, usize>) {
        let object = value.as_object().unwrap();
        for (key, value) in object {
            let path = format!("{prefix}{key}");
            let Some(&number) = paths.get(&path) else {
                self.faults.push(format!("{section}: `{path}` is printed and in no table"));
                continue;
            };
            self.seen.insert(number);
            let row = &self.document.rows[number];
            if !row.allows(value) {
                self.faults.push(format!("{section}: `{path}` is {value}, the table says {}", row.kind));
            }
            if value.is_object() {
                self.walk(section, value, &format!("{path}."), paths);
            }
            for entry in value.as_array().into_iter().flatten().filter(|entry| entry.is_object()) {
                self.walk(section, entry, &format!("{path}[]."), paths);
            }
        }
        let here = paths.iter().filter_map(|(path, number)| Some((path.strip_prefix(prefix)?, *number)));
        for (key, number) in here.filter(|(key, _)| !key.contains('.')) {
            if !object.contains_key(key) && !self.document.rows[number].is_optional() {
                self.faults.push(format!("{section}: `{prefix}{key}` is in the table and not printed"));
            }
        }
    }

    /// Adds the rows that nothing has shown.
    fn all_seen(&mut self, but: &[(&str, &str)]) {
        for (number, row) in self.document.rows.iter().enumerate() {
            let left_out = but.contains(&(row.section.as_str(), row.key.as_str()));
            if !self.seen.contains(&number) && !left_out {
                self.faults.push(format!("{}: no run shows `{}`", row.section, row.key));
            }
        }
    }
}

/// A directory with files to copy.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, mib: usize, fill: u8) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, vec![fill; mib * MIB]).unwrap();
        path
    }

    /// Runs a verb; its document and its exit code, which are one.
    fn run(&self, exit: i32, args: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lunferry"));
        let output = command.current_dir(self.0.path()).args(args).args(["--json", "--quiet"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {said}");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["exit_code"], exit, "{args:?}");
        value
    }
}

fn document() -> Document {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    Document::parse(&fs::read_to_string(path).unwrap())
}

fn copies(files: &Files, check: &mut Check<'_>) {
    files.file("source", 8, 0x5a);
    check.printed("copy", &files.run(0, &["copy", "source", "equal", "--create", "--verify"]));
    // A signature that is overridden, and a target that keeps the record.
    let larger = files.file("larger", 32, 0);
    let made = Command::new("mkswap").args(["--quiet", "--label", "old"]).arg(&larger).status();
    assert!(made.unwrap().success(), "mkswap of util-linux makes a signature");
    check.printed("error", &files.run(3, &["copy", "source", "larger"]));
    check.printed("copy", &files.run(0, &["copy", "source", "larger", "--overwrite-signature", "swap"]));
    check.printed("error", &files.run(3, &["copy", "source", "larger"]));
    check.printed("already-complete", &files.run(0, &["copy", "source", "larger", "--resume"]));
    check.printed("already-complete", &files.run(0, &["copy", "source", "larger", "--resume", "--verify"]));
    check.printed("error", &files.run(1, &["copy", "source", "nowhere"]));
    check.printed("error", &files.run(2, &["copy", "source", "equal", "--depth", "0"]));
}

fn looks(files: &Files, check: &mut Check<'_>) {
    check.printed("verify", &files.run(0, &["verify", "source", "equal"]));
    files.file("other", 8, 0xa5);
    check.printed("verify", &files.run(5, &["verify", "source", "other"]));
    check.printed("checkpoint-show", &files.run(0, &["checkpoint", "show", "larger"]));
    check.printed("checkpoint-show", &files.run(0, &["checkpoint", "show", "equal"]));
    files.file("signed", 8, 0);
    let made = Command::new("mkswap").arg("--quiet").arg(files.path("signed")).status();
    assert!(made.unwrap().success(), "mkswap of util-linux makes a signature");
    // This test is the process that has the file open.
    let open = File::open(files.path("signed")).unwrap();
    let held = r#"{"format": "lunferry reservations", "version": 1, "generation": 2, "aptpl": true,
        "registrations": [{"nexus": "elsewhere", "key": 5496082478923644910}],
        "reservation": {"type": 5, "holder": "elsewhere"}}"#;
    std::fs::write(files.path("signed.lunferry-reservations"), held).unwrap();
    check.printed("lun-show", &files.run(0, &["lun", "show", "signed"]));
    drop(open);
    check.printed("lun-release", &files.run(0, &["lun", "release", "equal"]));
    check.printed("checkpoint-erase", &files.run(0, &["checkpoint", "erase", "larger"]));
    check.printed("checkpoint-erase", &files.run(0, &["checkpoint", "erase", "larger"]));
    let mut list = files.run(0, &["lun", "list"]);
    let luns = list["luns"].as_array_mut().unwrap();
    let (failed, known): (Vec<Value>, Vec<Value>) = luns.drain(..).partition(|lun| lun.get("error").is_some());
    failed.iter().for_each(|lun| check.printed("a-lun-that-failed", lun));
    *luns = known;
    check.printed("lun-list", &list);
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_printed() {
    let document = document();
    let (files, mut check) = (Files::new(), Check::new(&document));
    copies(&files, &mut check);
    looks(&files, &mut check);
    check.all_seen(NOT_SHOWN);
    assert!(check.faults.is_empty(), "docs/json.md and the program differ:\n{}", check.faults.join("\n"));
}

#[test]
fn the_examples_have_the_keys_of_their_tables() {
    let document = document();
    let mut check = Check::new(&document);
    for (section, text) in &document.examples {
        check.printed(section, &serde_json::from_str(text).unwrap_or_else(|error| panic!("{section}: {error}")));
    }
    assert!(check.faults.is_empty(), "{}", check.faults.join("\n"));
    for section in [
        "copy",
        "already-complete",
        "error",
        "verify",
        "checkpoint-show",
        "checkpoint-erase",
        "lun-show",
        "lun-release",
        "lun-list",
    ] {
        assert!(document.examples.iter().any(|(of, _)| of == section), "`{section}` has no example");
    }
}

#[test]
fn a_missing_a_stale_and_a_wrong_row_are_caught() {
    let faults = |text: &str, json: &str| {
        let document = Document::parse(text);
        let mut check = Check::new(&document);
        check.printed("copy", &serde_json::from_str(json).unwrap());
        check.all_seen(&[]);
        check.faults
    };
    let head = "## `copy`\n| `a` | integer | one |\n";
    let table = format!("{head}| `list` | array of [part](#part) | parts |\n## Part\n| `x` | string or null | it |\n");
    assert_eq!(faults(&table, r#"{"a": 1, "list": [{"x": null}]}"#), [""; 0]);
    assert_eq!(faults(head, r#"{"a": 1, "b": 2}"#), ["copy: `b` is printed and in no table"]);
    assert_eq!(faults(head, r#"{"a": "1"}"#), ["copy: `a` is \"1\", the table says integer"]);
    assert_eq!(faults(&table, r#"{"a": 1, "list": []}"#), ["part: no run shows `x`"]);
    assert_eq!(
        faults(&table, r#"{"a": 1, "list": [{"y": 1, "x": ""}]}"#),
        ["copy: `list[].y` is printed and in no table"]
    );
    let missing = faults(&table, r#"{"list": [{"x": ""}]}"#);
    assert!(missing.contains(&"copy: `a` is in the table and not printed".to_owned()), "{missing:?}");
    let optional = table.replace("integer", "integer, optional");
    assert_eq!(faults(&optional, r#"{"list": [{"x": ""}]}"#), ["copy: no run shows `a`"]);
}
