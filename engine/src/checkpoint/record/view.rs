//! A record as people and their scripts read it: `lunferry checkpoint show --json`.
//!
//! Pure: a record in, a value for serde out. Field names are a promise: they are added to, never changed.

use serde::Serialize;

use super::{Counters, Record, StoredIdentity};
use crate::checkpoint::layout::{LayoutKind, SlotId};
use crate::checkpoint::state::{State, Suspension};
use crate::lun::identity::IdentityKind;
use crate::units::{Bytes, Epoch, NodeId, Sequence};

/// Everything that a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordView {
    /// Version of the on-disk format.
    pub format_version: u16,
    /// Version of the program that wrote it: `0.1.0`.
    pub writer: String,
    /// UUID of the migration.
    pub migration: String,
    /// UUID of its consistency group.
    pub group: Option<String>,
    /// State of the migration.
    pub state: State,
    /// What a suspended migration goes on from; nothing in every other state.
    pub suspension: Option<Suspension>,
    /// State that an undecided step would lead to.
    pub pending_step: Option<State>,
    /// Change-of-mover counter.
    pub epoch: Epoch,
    /// Number of the checkpoint.
    pub sequence: Sequence,
    /// The mover.
    pub owner: OwnerView,
    /// Where the data comes from.
    pub source: LunView,
    /// Where the data goes.
    pub target: LunView,
    /// Stamp of the source's content, `0x` and 16 hexadecimal digits.
    pub source_stamp: String,
    /// Below this position everything is durable on the target.
    pub watermark_bytes: Bytes,
    /// Size of one extent of the copy.
    pub extent_bytes: u32,
    /// Whether the target is known to hold zeroes wherever this migration has not written.
    pub target_was_zero: bool,
    /// Whether unreadable blocks of the source become zeroes on the target.
    pub fill_unreadable: bool,
    /// When it was made, Unix time.
    pub written_at_unix_s: u64,
    /// Where the metadata lies.
    pub area: AreaView,
    /// What the copy has done.
    pub counters: Counters,
}

/// The mover, as a record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnerView {
    /// Its node id.
    pub node: NodeId,
    /// Since when it has been the mover, Unix time.
    pub since_unix_s: u64,
    /// Its reservation key, `0x` and 16 hexadecimal digits.
    pub reservation_key: String,
}

/// One of the two LUNs, as a record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LunView {
    /// Where its identity comes from.
    pub kind: IdentityKind,
    /// Its identity; only the end of it where `identity_is_whole` is false.
    pub identity: String,
    /// Whether `identity` is all of it.
    pub identity_is_whole: bool,
    /// XXH3-128 of the whole identity, 32 hexadecimal digits.
    pub identity_digest: String,
    /// Its length.
    pub length_bytes: Bytes,
    /// Its logical block.
    pub logical_block_bytes: u32,
}

/// The metadata area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AreaView {
    /// Past the source's end, or over the target's last bytes.
    pub layout: LayoutKind,
    /// Its first byte on the target.
    pub start_bytes: Bytes,
    /// Its size.
    pub size_bytes: Bytes,
    /// Where slot A lies.
    pub slot_a_bytes: Bytes,
    /// Where slot B lies.
    pub slot_b_bytes: Bytes,
    /// For how many nodes it has room.
    pub nodes: u16,
    /// Size of one node's bitmap.
    pub bitmap_bytes: Bytes,
}

impl Record {
    /// The record as people and their scripts read it.
    pub fn view(&self) -> RecordView {
        RecordView {
            format_version: super::FORMAT,
            writer: self.writer.to_string(),
            migration: self.migration.to_string(),
            group: self.group.map(|group| group.to_string()),
            state: self.state,
            suspension: self.suspension,
            pending_step: self.pending_step,
            epoch: self.epoch,
            sequence: self.sequence,
            owner: OwnerView {
                node: self.owner.node,
                since_unix_s: self.owner.since_unix_s,
                reservation_key: format!("{:#018x}", self.owner.reservation_key),
            },
            source: lun(&self.source, self.layout.source_len(), self.source_block),
            target: lun(&self.target, self.layout.target_len(), self.target_block),
            source_stamp: format!("{:#018x}", self.source_stamp),
            watermark_bytes: self.watermark,
            extent_bytes: self.extent_size,
            target_was_zero: self.flags.target_was_zero,
            fill_unreadable: self.flags.fill_unreadable,
            written_at_unix_s: self.written_at_unix_s,
            area: self.area_view(),
            counters: self.counters,
        }
    }

    fn area_view(&self) -> AreaView {
        let spec = self.layout.spec();
        AreaView {
            layout: self.layout.kind(),
            start_bytes: self.layout.area().start,
            size_bytes: spec.size,
            slot_a_bytes: self.layout.slot(SlotId::A).start,
            slot_b_bytes: self.layout.slot(SlotId::B).start,
            nodes: spec.nodes,
            bitmap_bytes: spec.bitmap,
        }
    }
}

fn lun(identity: &StoredIdentity, length: Bytes, block: u32) -> LunView {
    LunView {
        kind: identity.kind(),
        identity: identity.text().to_owned(),
        identity_is_whole: identity.is_whole(),
        identity_digest: format!("{:032x}", identity.digest()),
        length_bytes: length,
        logical_block_bytes: block,
    }
}
