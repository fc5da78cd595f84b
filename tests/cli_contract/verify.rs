//! `lunferry verify`: equal, different, where, and what can't be compared.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use lunferry_fixtures::loopdev::{LoopLun, LoopOptions};
use serde_json::json as value;

use crate::support::{Before, Files, MIB, alone, json, lunferry, needs_loop_devices, text};

const SIZE: usize = 8 * MIB;

fn damage(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn equal_luns() {
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", SIZE, 1);
    for larger in [0, MIB] {
        let target = files.stamped("target", SIZE + larger, 1);
        let told = json(0, &["verify", text(&source), text(&target)]);
        assert_eq!((&told["result"], &told["verify"]["by_reading_bytes"]), (&"equal".into(), &SIZE.into()), "{told}");
        let run = lunferry(&["verify", text(&source), text(&target)]);
        assert!(run.code == Some(0) && run.stdout.contains(": equal"), "{run:?}");
    }
}

#[test]
fn one_byte_is_found_where_it_is() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 1));
    damage(&target, 5_000_000, b"?");
    let before = [Before::of(&source), Before::of(&target)];
    let told = json(5, &["verify", text(&source), text(&target)]);
    let block = 5_000_000 / 512;
    assert_eq!(told["result"], "differs", "{told}");
    let range = value!([{ "start": block * 512, "end": (block + 1) * 512, "lba": block, "blocks": 1 }]);
    assert_eq!((&told["verify"]["differences"], &told["verify"]["differing_bytes"]), (&range, &512.into()), "{told}");
    let run = lunferry(&["verify", text(&source), text(&target)]);
    assert!(run.code == Some(5) && run.stdout.contains(&format!("LBA {block}, 1 blocks")), "{run:?}");
    before.iter().for_each(Before::assert_untouched);
}

#[test]
fn neighbours_are_one_range() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE, 1));
    // Over the border of two extents; then two single blocks with one between them; then the very last.
    let border = 512 << 10;
    damage(&target, border - 1024, &[0xee; 2048]);
    damage(&target, 2 << 20, &[0xee; 512]);
    damage(&target, (2 << 20) + 1024, &[0xee; 512]);
    damage(&target, SIZE as u64 - 1, b"?");
    let told = json(5, &["verify", text(&source), text(&target)]);
    let range =
        |at: u64, blocks: u64| value!({ "start": at, "end": at + blocks * 512, "lba": at / 512, "blocks": blocks });
    let last = SIZE as u64 - 512;
    let want = value!([range(border - 1024, 4), range(2 << 20, 1), range((2 << 20) + 1024, 1), range(last, 1)]);
    assert_eq!(told["verify"]["differences"], want, "{told}");
    assert_eq!(told["verify"]["differing_bytes"], 7 * 512, "{told}");
}

#[test]
fn a_lun_is_not_compared_with_itself() {
    let _alone = alone();
    let files = Files::new();
    let source = files.stamped("source", SIZE, 1);
    let (hard, soft) = (files.path("hard"), files.path("soft"));
    std::fs::hard_link(&source, &hard).unwrap();
    std::os::unix::fs::symlink(&source, &soft).unwrap();
    let refused = |one: &Path, other: &Path| {
        let told = json(3, &["verify", text(one), text(other)]);
        assert_eq!(told["errors"][0]["code"], "same_storage", "{told}");
    };
    [&source, &hard, &soft].iter().for_each(|other| refused(&source, other));
    needs_loop_devices!();
    let lun = LoopLun::over(&source, LoopOptions::default()).unwrap();
    refused(lun.path(), &source);
    refused(&source, lun.path());
}

#[test]
fn a_smaller_target_can_not_be_compared() {
    let _alone = alone();
    let files = Files::new();
    let (source, target) = (files.stamped("source", SIZE, 1), files.stamped("target", SIZE - 512, 1));
    let told = json(3, &["verify", text(&source), text(&target)]);
    let error = &told["errors"][0];
    assert_eq!(error["code"], "target_too_small", "{told}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(text(&target)) && message.contains("8388096 bytes, less than the 8388608"), "{message}");
    let told = json(1, &["verify", text(&source), text(&files.path("none"))]);
    assert_eq!(told["errors"][0]["code"], "open", "{told}");
}
