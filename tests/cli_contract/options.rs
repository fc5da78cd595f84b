//! Wrong use: exit code 2, before anything is opened for writing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::{Files, MIB, Refused, alone, json, refused, text};

#[test]
fn unknown_flags_and_impossible_values_are_wrong_use() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", MIB, 1), files.stamped("target", MIB, 2));
    let cases: &[(&[&str], &str)] = &[
        (&["--frobnicate"], "--frobnicate"),
        (&["--extent", "12Q"], "512KiB"),
        (&["--limit", "fast"], "fast"),
        (&["--limit", "0"], "leave the limit out"),
        (&["--checkpoint-every", "-1"], "-1"),
        (&["--checkpoint-interval-ms", "9"], "10..="),
        (&["--depth", "many"], "many"),
        (&["--zeroes", "perhaps"], "punch"),
        (&["--vehicle", "lorry"], "xcopy"),
        (&["a third"], "a third"),
    ];
    for (flags, word) in cases {
        let args = [&[text(&source), text(&target)], *flags].concat();
        refused(&[&source, &target], &args, &Refused { exit: 2, code: "usage", words: &[word] });
    }
}

#[test]
fn values_that_do_not_fit_the_luns_are_wrong_use() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", MIB, 1), files.stamped("target", MIB, 2));
    let cases: &[(&[&str], &[&str])] = &[
        (&["--extent", "0"], &["--extent", "multiple of 512 B"]),
        (&["--extent", "1000"], &["--extent", "multiple of 512 B"]),
        (&["--extent", "128MiB"], &["128.0 MiB", "at most 64 MiB"]),
        (&["--depth", "0"], &["--depth 0", "1 to 512"]),
        (&["--depth", "5000"], &["--depth 5000", "1 to 512"]),
        (&["--workers", "0"], &["--workers 0", "1 to 64"]),
        (&["--workers", "65"], &["--workers 65", "1 to 64"]),
        (&["--zeroes", "skip"], &["--zeroes skip", "--target-is-zero"]),
    ];
    for (flags, words) in cases {
        let args = [&[text(&source), text(&target)], *flags].concat();
        refused(&[&source, &target], &args, &Refused { exit: 2, code: "option", words });
    }
}

#[test]
fn a_target_that_was_made_goes_again_when_the_copy_is_refused() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", MIB, 1), files.path("target"));
    json(2, &["copy", text(&source), text(&target), "--create", "--depth", "0"]);
    assert!(!target.exists());
    json(1, &["copy", text(&files.path("none")), text(&target), "--create"]);
    assert!(!target.exists());
    json(0, &["copy", text(&source), text(&target), "--create"]);
    assert_eq!(std::fs::read(&source).unwrap(), std::fs::read(&target).unwrap());
    assert_eq!(std::fs::metadata(&target).unwrap().mode() & 0o7777, 0o600);
    // What was there before stays, whatever becomes of the copy.
    json(2, &["copy", text(&source), text(&target), "--create", "--depth", "0"]);
    assert_eq!(std::fs::read(&source).unwrap(), std::fs::read(&target).unwrap());
}

#[test]
fn no_file_is_made_below_dev() {
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", MIB, 1);
    let link = files.path("link");
    std::os::unix::fs::symlink("/dev", &link).unwrap();
    for target in [Path::new("/dev/lunferry-none"), &link.join("lunferry-none"), Path::new("/dev/../dev/lunferry-none")]
    {
        let told = json(2, &["copy", text(&source), text(target), "--create"]);
        assert_eq!(told["errors"][0]["code"], "create_below_dev", "{told}");
        assert!(told["errors"][0]["message"].as_str().unwrap().contains("choose a path on a file system"), "{told}");
        assert!(!target.exists());
    }
}

#[test]
fn a_verb_is_needed() {
    let _alone = alone();
    let told = json(2, &[]);
    assert_eq!(told["errors"][0]["code"], "usage");
    assert!(told["errors"][0]["message"].as_str().unwrap().contains("Usage: lunferry"), "{told}");
}
