//! The two slots as they were read, and the record to go on from, or why there is none.
//!
//! Pure: bytes in, a choice out. By types: raw bytes -> [`SlotView`] -> [`Choice`]; a record that was not held against
//! its place and the two LUNs at hand can't be chosen.
//!
//! What must hold:
//! - Two records that contradict each other are never decided between: a fork and two migrations are refused, and so is
//!   what a later program wrote. A wrong choice costs data, a refusal costs a question.
//! - One lost slot never stops a migration, whatever stands in it instead.
//! - The next write goes to the slot whose loss costs least: the broken or the older one (design section 9).

use std::fmt;

use uuid::Uuid;

use super::layout::{LayoutKind, SlotId};
use super::record::{Defect, Placed, RECORD_LEN, Record, StoredIdentity, WriterVersion};
use super::state::State;
use crate::units::{Bytes, Epoch, Sequence};

/// The two LUNs at hand: what a record must say to be about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The source's identity.
    pub source: StoredIdentity,
    /// The target's identity.
    pub target: StoredIdentity,
    /// The source's length.
    pub source_len: Bytes,
    /// The target's length.
    pub target_len: Bytes,
    /// The target's logical block in bytes.
    pub target_block: u32,
}

/// In what a record of ours is not about the two LUNs at hand. Where several differ, the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Otherness {
    /// It was written for another target.
    Target,
    /// It was written for another source.
    Source,
    /// Source or target had another length, or the target another logical block.
    Size,
}

impl fmt::Display for Otherness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Target => "another target",
            Self::Source => "another source",
            Self::Size => "other lengths or block sizes of these LUNs",
        })
    }
}

/// What stands in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotView {
    /// Only 00h.
    Blank,
    /// Only FFh: what erased flash often reads as.
    AllOnes,
    /// Bytes that Lunferry didn't write.
    NotARecord,
    /// The magic, and a CRC that doesn't fit the bytes.
    Torn,
    /// The magic, and a format that this program doesn't know.
    TooNew {
        /// Its format.
        version: u16,
        /// Its writer.
        writer: WriterVersion,
    },
    /// The magic and the right CRC, and a value that no program of this format writes.
    Malformed {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A good record that belongs elsewhere: somebody copied this LUN block by block, or its length changed.
    Misplaced {
        /// The slot that it says.
        slot: SlotId,
        /// The position that it says.
        at: Bytes,
    },
    /// A good record in its place, about other LUNs.
    Foreign {
        /// The record.
        record: Box<Record>,
        /// In what it differs.
        why: Otherness,
    },
    /// A good record in its place, about these LUNs.
    Valid(Box<Record>),
}

/// Judges what was read from `slot`, whose first byte lies at `at` on the target. `raw` is the slot's first logical block,
/// or any longer piece of it; the record is its first 512 bytes. Without `expected` every well-placed record is valid:
/// only for showing it.
pub fn inspect(raw: &[u8], slot: SlotId, at: Bytes, expected: Option<&Expected>) -> SlotView {
    let Some(bytes) = raw.first_chunk::<RECORD_LEN>() else {
        return SlotView::NotARecord;
    };
    if raw.iter().all(|byte| *byte == 0xff) {
        return SlotView::AllOnes;
    }
    match Record::decode(bytes) {
        Err(Defect::Blank) if raw.iter().all(|byte| *byte == 0) => SlotView::Blank,
        Err(Defect::Blank | Defect::NotARecord) => SlotView::NotARecord,
        Err(Defect::Torn { .. }) => SlotView::Torn,
        Err(Defect::TooNew { version, writer }) => SlotView::TooNew { version, writer },
        Err(Defect::Malformed { field, value, .. }) => SlotView::Malformed { field, value },
        Ok(placed) => judge_placed(placed, slot, at, expected),
    }
}

fn judge_placed(placed: Placed, slot: SlotId, at: Bytes, expected: Option<&Expected>) -> SlotView {
    let Placed { slot: own_slot, record } = placed;
    let own = record.layout.slot(own_slot).start;
    if own_slot != slot || own != at {
        return SlotView::Misplaced { slot: own_slot, at: own };
    }
    let record = Box::new(record);
    match expected.and_then(|expected| otherness(&record, expected)) {
        Some(why) => SlotView::Foreign { record, why },
        None => SlotView::Valid(record),
    }
}

fn otherness(record: &Record, expected: &Expected) -> Option<Otherness> {
    if !record.target.is_same_lun(&expected.target) {
        return Some(Otherness::Target);
    }
    if !record.source.is_same_lun(&expected.source) {
        return Some(Otherness::Source);
    }
    let sizes = (record.layout.source_len(), record.layout.target_len(), record.target_block);
    (sizes != (expected.source_len, expected.target_len, expected.target_block)).then_some(Otherness::Size)
}

/// Why the other slot was not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It holds the same checkpoint.
    Same,
    /// It holds an earlier one.
    Older {
        /// Its epoch.
        epoch: Epoch,
        /// Its sequence.
        sequence: Sequence,
    },
    /// It is blank.
    Blank,
    /// It reads FFh.
    AllOnes,
    /// It holds no record.
    NotARecord,
    /// Its record is torn.
    Torn,
    /// Its record is malformed.
    Malformed {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Its record belongs elsewhere on the target, or on another one.
    Misplaced {
        /// Where it belongs.
        at: Bytes,
    },
    /// Its record is about other LUNs.
    Foreign(Otherness),
    /// It holds source data that looks like a record of a later format; only while the overlay range goes.
    TooNew {
        /// The format that it seems to have.
        version: u16,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("holds the same checkpoint"),
            Self::Older { epoch, sequence } => {
                write!(f, "holds an earlier checkpoint (epoch {}, sequence {})", epoch.0, sequence.0)
            }
            Self::Blank => f.write_str("is blank"),
            Self::AllOnes => f.write_str("reads FFh"),
            Self::NotARecord => f.write_str("holds no checkpoint"),
            Self::Torn => f.write_str("holds a torn checkpoint"),
            Self::Malformed { field, value } => {
                write!(f, "holds a malformed checkpoint (field `{field}` is {value})")
            }
            Self::Misplaced { at } => write!(f, "holds a checkpoint that belongs at byte {}", at.0),
            Self::Foreign(why) => write!(f, "holds a checkpoint for {why}"),
            Self::TooNew { version } => {
                write!(f, "holds source data that looks like a checkpoint of format {version}")
            }
        }
    }
}

/// What to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Neither slot holds anything of ours.
    None,
    /// Go on from this record.
    Use {
        /// The record.
        record: Box<Record>,
        /// The slot that it stands in.
        from: SlotId,
        /// The slot that the next watermark goes to: the older or broken one.
        next_write: SlotId,
        /// Why the other slot was not used; it is the slot `next_write`.
        note: Note,
    },
    /// Go on from nothing, and write nothing.
    Refused(Refusal),
}

/// Why the slots can't be gone on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A later program wrote one of them.
    #[error(
        "slot {slot} holds a checkpoint of format {version}, written by lunferry {writer}: go on with that version"
    )]
    TooNew {
        /// The slot.
        slot: SlotId,
        /// Its format.
        version: u16,
        /// Its writer.
        writer: WriterVersion,
    },
    /// Both have one (epoch, sequence) and different content: two movers wrote.
    #[error(
        "the slots hold two different checkpoints with epoch {} and sequence {}: two hosts wrote them, so neither can be \
         believed; copy again from the beginning", a.epoch.0, a.sequence.0
    )]
    Fork {
        /// Slot A's.
        a: Box<Record>,
        /// Slot B's.
        b: Box<Record>,
    },
    /// Each holds a checkpoint of its own migration of these LUNs.
    #[error("the slots hold checkpoints of two migrations of these LUNs, {a} and {b}: erase them to begin anew")]
    TwoMigrations {
        /// Slot A's.
        a: Uuid,
        /// Slot B's.
        b: Uuid,
    },
    /// There is only a checkpoint of other LUNs: of another migration.
    #[error(
        "slot {slot} holds a checkpoint for {why}: migration {} from {} to {}, state {}; erase it if that one is given up",
        record.migration, record.source, record.target, record.state
    )]
    Foreign {
        /// The slot; of two, the one with the later checkpoint.
        slot: SlotId,
        /// Its record.
        record: Box<Record>,
        /// In what it differs.
        why: Otherness,
    },
    /// There was a checkpoint of ours, and no good one is left.
    #[error("there was a checkpoint, but slot A {a} and slot B {b}: copy again from the beginning")]
    Damaged {
        /// What stands in slot A.
        a: Note,
        /// What stands in slot B.
        b: Note,
    },
}

/// Chooses between the two slots. `a` is what stands in slot A, `b` in slot B.
pub fn choose(a: SlotView, b: SlotView) -> Choice {
    // While the overlay range goes, slot A is overwritten by source data before slot B is, and its new content may look
    // like anything: the source can have been a migration's target once, under a later version. Then slot B's record is
    // the word that counts. Never the other way round: as long as slot A holds its record, slot B was not touched.
    if let (SlotView::TooNew { version, .. }, SlotView::Valid(record)) = (&a, &b)
        && record.state == State::Finalising
        && record.layout.kind() == LayoutKind::Overlay
    {
        let note = Note::TooNew { version: *version };
        return Choice::Use { record: record.clone(), from: SlotId::B, next_write: SlotId::A, note };
    }
    match (Weighed::of(a), Weighed::of(b)) {
        (Weighed::TooNew { version, writer }, _) => too_new(SlotId::A, version, writer),
        (_, Weighed::TooNew { version, writer }) => too_new(SlotId::B, version, writer),
        (Weighed::Valid(a), Weighed::Valid(b)) => between(a, b),
        (Weighed::Valid(a), Weighed::Foreign(_, why)) => only(a, SlotId::A, Note::Foreign(why)),
        (Weighed::Valid(a), Weighed::Damaged(note) | Weighed::Nothing(note)) => only(a, SlotId::A, note),
        (Weighed::Foreign(_, why), Weighed::Valid(b)) => only(b, SlotId::B, Note::Foreign(why)),
        (Weighed::Damaged(note) | Weighed::Nothing(note), Weighed::Valid(b)) => only(b, SlotId::B, note),
        (Weighed::Foreign(a, a_why), Weighed::Foreign(b, b_why)) => {
            if a.order() >= b.order() {
                foreign(SlotId::A, a, a_why)
            } else {
                foreign(SlotId::B, b, b_why)
            }
        }
        (Weighed::Foreign(a, why), Weighed::Damaged(_) | Weighed::Nothing(_)) => foreign(SlotId::A, a, why),
        (Weighed::Damaged(_) | Weighed::Nothing(_), Weighed::Foreign(b, why)) => foreign(SlotId::B, b, why),
        (Weighed::Damaged(a), Weighed::Damaged(b) | Weighed::Nothing(b))
        | (Weighed::Nothing(a), Weighed::Damaged(b)) => Choice::Refused(Refusal::Damaged { a, b }),
        (Weighed::Nothing(_), Weighed::Nothing(_)) => Choice::None,
    }
}

/// A view by what it weighs in the choice.
enum Weighed {
    TooNew {
        version: u16,
        writer: WriterVersion,
    },
    Valid(Box<Record>),
    Foreign(Box<Record>, Otherness),
    /// Ours once, and unreadable now.
    Damaged(Note),
    /// Nothing of ours.
    Nothing(Note),
}

impl Weighed {
    fn of(view: SlotView) -> Self {
        match view {
            SlotView::TooNew { version, writer } => Self::TooNew { version, writer },
            SlotView::Valid(record) => Self::Valid(record),
            SlotView::Foreign { record, why } => Self::Foreign(record, why),
            SlotView::Torn => Self::Damaged(Note::Torn),
            SlotView::Malformed { field, value } => Self::Damaged(Note::Malformed { field, value }),
            SlotView::Blank => Self::Nothing(Note::Blank),
            SlotView::AllOnes => Self::Nothing(Note::AllOnes),
            SlotView::NotARecord => Self::Nothing(Note::NotARecord),
            SlotView::Misplaced { slot: _, at } => Self::Nothing(Note::Misplaced { at }),
        }
    }
}

/// Both are about these LUNs.
fn between(a: Box<Record>, b: Box<Record>) -> Choice {
    if a.migration != b.migration {
        return Choice::Refused(Refusal::TwoMigrations { a: a.migration, b: b.migration });
    }
    let older = |record: &Record| Note::Older { epoch: record.epoch, sequence: record.sequence };
    match a.order().cmp(&b.order()) {
        std::cmp::Ordering::Greater => only(a, SlotId::A, older(&b)),
        std::cmp::Ordering::Less => only(b, SlotId::B, older(&a)),
        std::cmp::Ordering::Equal if a == b => only(a, SlotId::A, Note::Same),
        std::cmp::Ordering::Equal => Choice::Refused(Refusal::Fork { a, b }),
    }
}

fn only(record: Box<Record>, from: SlotId, note: Note) -> Choice {
    Choice::Use { record, from, next_write: from.other(), note }
}

fn too_new(slot: SlotId, version: u16, writer: WriterVersion) -> Choice {
    Choice::Refused(Refusal::TooNew { slot, version, writer })
}

fn foreign(slot: SlotId, record: Box<Record>, why: Otherness) -> Choice {
    Choice::Refused(Refusal::Foreign { slot, record, why })
}

#[cfg(test)]
mod tests;
