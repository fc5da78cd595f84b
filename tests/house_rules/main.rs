//! The rules of the house, held as tests: who may depend on whom, what a pure file may not touch, where `unsafe` may
//! stand, and that the documents tell the truth about the files that they name.
//!
//! It reads the repository and writes nothing. Each rule is a function from text to faults, and each has a test that
//! feeds it a bad sample: a rule that can't fail holds nothing.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

mod code;
mod documents;
mod manifests;
mod sources;

use std::fs;
use std::path::Path;

/// One text file of the repository.
struct File {
    /// The path below the repository's root, with `/` between its parts.
    name: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository in the order of its name, without what a build leaves.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    collect(root(), "", &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.iter().any(|file| file.name == "Cargo.toml"), "the walk missed the root's own manifest");
    found
}

fn rust_files() -> Vec<File> {
    let mut found = files();
    found.retain(|file| file.name.ends_with(".rs"));
    assert!(found.iter().any(|file| file.name == "src/main.rs"), "the walk missed the binary's own source");
    found
}

fn collect(dir: &Path, prefix: &str, found: &mut Vec<File>) {
    /// What builds, fuzz runs and git leave; none of it is the repository's text.
    const LEFT_OUT: &[&str] = &[".git", "target", "fuzz/target", "fuzz/corpus", "fuzz/artifacts"];
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), &format!("{name}/"), found);
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            // What isn't UTF-8 is a golden image or the like, and no text.
            if let Ok(text) = String::from_utf8(bytes) {
                found.push(File { name, text });
            }
        }
    }
}

/// Fails with every fault, one on a line.
fn hold(faults: &[String]) {
    assert!(faults.is_empty(), "{} broken:\n{}", faults.len(), faults.join("\n"));
}

/// Fails unless `faults` has exactly one entry, and that one speaks of `about`.
fn caught(faults: &[String], about: &str) {
    assert!(matches!(faults, [one] if one.contains(about)), "expected one fault about {about}: {faults:?}");
}
