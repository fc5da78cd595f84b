//! Every refusal of the verdict, alone and together with others.
//!
//! Pure: made-up facts.

use super::*;
use crate::lun::facts::{DeviceKind, MountUse, OpenElsewhere};
use crate::lun::identity::{Identity, IdentityKind};

/// A plain, healthy, unused block device of 1 GiB.
pub(in crate::lun) fn lun(path: &str) -> LunInfo {
    LunInfo {
        path: path.into(),
        device: DeviceKind::Scsi,
        capacity: Bytes::gib(1),
        logical_block: Bytes(512),
        physical_block: Bytes(4096),
        optimal_io: None,
        max_io: None,
        rotational: Some(false),
        adapter: None,
        can_punch: true,
        discard: true,
        read_only: false,
        direct_io: Some(true),
        diskseq: Some(1),
        device_number: Some((8, 0)),
        file_id: None,
        identity: Identity::new(IdentityKind::KernelName, path),
        content_stamp: 0,
        is_all_hole: false,
    }
}

/// What a test changes before the verdict.
struct Case {
    source: LunInfo,
    target: LunInfo,
    source_usage: Usage,
    target_usage: Usage,
    signatures: Vec<Signature>,
    same_storage: Option<&'static str>,
}

fn case() -> Case {
    Case {
        source: lun("/dev/sda"),
        target: lun("/dev/sdb"),
        source_usage: Usage::default(),
        target_usage: Usage::default(),
        signatures: Vec::new(),
        same_storage: None,
    }
}

impl Case {
    fn refusals(&self, lifted: &[&str]) -> Vec<Refusal> {
        let facts = Facts {
            source: &self.source,
            target: &self.target,
            source_usage: &self.source_usage,
            target_usage: &self.target_usage,
            target_signatures: &self.signatures,
            same_storage: self.same_storage,
        };
        verdict(
            &facts,
            &Overrides { signatures: lifted.iter().map(|name| (*name).to_owned()).collect(), ..Overrides::default() },
        )
    }

    fn codes(&self, lifted: &[&str]) -> Vec<&'static str> {
        self.refusals(lifted).iter().map(Refusal::code).collect()
    }
}

fn signature(kind: &str, usage: SignatureUse, offset: u64) -> Signature {
    Signature { kind: kind.into(), usage, offset: Bytes(offset), label: None, uuid: None }
}

fn everything_in_use() -> Usage {
    Usage {
        mounts: vec![MountUse { device: "sdb1".into(), at: "/data".into() }],
        swaps: vec!["/dev/sdb2".into()],
        holders: vec!["dm-0 (vg-data) on sdb3".into()],
        loop_devices: vec!["/dev/loop4".into()],
        open_elsewhere: OpenElsewhere { by: vec![Opener { pid: 17, command: "qemu".into(), writes: true }], unseen: 0 },
    }
}

#[test]
fn two_unused_luns_of_one_size_may_be_copied() {
    assert_eq!(case().refusals(&[]), []);
    assert_eq!(case().refusals(&["ext4"]), []);
}

#[test]
fn every_use_is_listed_and_nothing_lifts_it() {
    let mut used = case();
    used.target_usage = everything_in_use();
    used.source_usage = everything_in_use();
    used.same_storage = Some("both are block device sda (8:0)");
    assert_eq!(
        used.codes(&["sdb1", "dm-0", "same_storage", "target_mounted"]),
        [
            "same_storage",
            "target_mounted",
            "target_is_swap",
            "target_held",
            "target_behind_loop_device",
            "target_open_elsewhere",
            "source_mounted",
            "source_is_swap",
            "source_held",
            "source_behind_loop_device",
            "source_open_elsewhere",
        ]
    );
    assert!(used.refusals(&[]).iter().all(|refusal| refusal.lifted_by().is_none()));
}

#[test]
fn a_reader_stands_against_overwriting_a_file_and_against_nothing_else() {
    let reader = OpenElsewhere { by: vec![Opener { pid: 1, command: "cat".into(), writes: false }], unseen: 3 };
    let mut used = case();
    used.source_usage.open_elsewhere = reader.clone();
    used.target_usage.open_elsewhere = reader;
    assert_eq!(used.refusals(&[]), []);
    used.source.device = DeviceKind::File;
    assert_eq!(used.refusals(&[]), []);
    used.target.device = DeviceKind::File;
    assert_eq!(used.codes(&[]), ["target_open_elsewhere"]);
}

#[test]
fn a_signature_is_lifted_by_its_own_name_alone() {
    let mut used = case();
    used.signatures = vec![
        signature("LVM2_member", SignatureUse::Raid, 536),
        signature("ext4", SignatureUse::Filesystem, 1080),
        signature("dos", SignatureUse::PartitionTable, 510),
    ];
    assert_eq!(used.codes(&[]), ["target_has_signature", "target_has_signature", "target_has_partition_table"]);
    assert_eq!(used.codes(&["ext4", "xfs"]), ["target_has_signature", "target_has_partition_table"]);
    assert_eq!(used.codes(&["EXT4", "ext", "all", "*", ""]).len(), 3);
    let flags: Vec<_> = used.refusals(&[]).iter().filter_map(Refusal::lifted_by).collect();
    assert_eq!(
        flags.join(" "),
        "--overwrite-signature LVM2_member --overwrite-signature ext4 --overwrite-signature dos"
    );
    assert_eq!(used.refusals(&["LVM2_member", "ext4", "dos"]), []);
}

#[test]
fn a_gpt_is_one_refusal_with_its_copy_and_its_protective_mbr() {
    let mut used = case();
    let table = SignatureUse::PartitionTable;
    used.signatures =
        vec![signature("gpt", table, 512), signature("gpt", table, 1 << 29), signature("PMBR", table, 510)];
    assert_eq!(used.codes(&[]), ["target_has_partition_table"]);
    assert_eq!(used.refusals(&["gpt"]), []);
    assert_eq!(used.codes(&["PMBR"]), ["target_has_partition_table"]);
    used.signatures.retain(|signature| signature.kind == "PMBR");
    assert_eq!(used.codes(&["gpt"]), ["target_has_partition_table"]);
}

#[test]
fn a_smaller_target_is_refused_with_both_sizes() {
    let mut used = case();
    used.target.capacity = Bytes::gib(1) - Bytes(512);
    let refusals = used.refusals(&[]);
    assert_eq!(used.codes(&[]), ["target_too_small"]);
    let text = refusals.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("1073741312 bytes") && text.contains("1073741824 bytes"), "{text}");
    used.target.capacity = Bytes::gib(2);
    assert_eq!(used.refusals(&[]), []);
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let mut used = case();
    used.target.logical_block = Bytes(4096);
    assert_eq!(used.refusals(&[]), []);
    used.source.capacity = Bytes::gib(1) - Bytes(512);
    assert_eq!(used.codes(&[]), ["block_mismatch"]);
    used.source.logical_block = Bytes::kib(128);
    used.target.physical_block = Bytes::kib(128);
    assert_eq!(used.codes(&[]), ["block_too_large", "block_too_large", "block_mismatch"]);
}

#[test]
fn a_read_only_target_is_refused_and_a_read_only_source_is_not() {
    let mut used = case();
    used.source.read_only = true;
    assert_eq!(used.refusals(&[]), []);
    used.target.read_only = true;
    assert_eq!(used.codes(&[]), ["target_read_only"]);
}

#[test]
fn every_message_names_the_lun_or_both_and_a_mend() {
    let mut used = case();
    used.target_usage = everything_in_use();
    used.same_storage = Some("both are block device sda (8:0)");
    used.signatures = vec![signature("ext4", SignatureUse::Filesystem, 1080)];
    used.target.capacity = Bytes::mib(1);
    used.target.read_only = true;
    used.target.physical_block = Bytes::mib(1);
    for refusal in used.refusals(&[]) {
        let text = refusal.to_string();
        assert!(text.contains("/dev/sdb") || text.contains("source and target"), "{text}");
        assert!(text.contains("; "), "no mend: {text}");
    }
}
