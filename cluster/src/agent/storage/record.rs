//! Between the protocol's checkpoint and the record on the target, and what an error of the storage means to the protocol.
//!
//! Pure: values.

use lunferry_engine::checkpoint::layout::Layout;
use lunferry_engine::checkpoint::record::{Counters, Flags, Owner, Record, StoredIdentity, WriterVersion};
use lunferry_engine::checkpoint::slots::Expected;
use lunferry_engine::checkpoint::state::{State, Suspension};
use lunferry_engine::checkpoint::store::StoreError;
use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::retry::{Category, categorise};
use lunferry_engine::lock::error::LockError;
use lunferry_engine::lock::standing::{KIND, View};
use lunferry_engine::units::{Bytes, NodeId};
use lunferry_scsi::key::{Key, NodeId as KeyNode};
use lunferry_scsi::page::reservation::HeldType;
use uuid::Uuid;

use crate::event::{Checkpoint, Trouble};
use crate::sight::{Lun, Standing};

/// Numbers of a record stay below this (see the on-disk format).
const COUNT_LIMIT: u64 = 1 << 63;

/// What is fixed of a pair while it is open.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Names the migration.
    pub migration: Uuid,
    /// Names its consistency group.
    pub group: Option<Uuid>,
    /// The source's identity.
    pub source: StoredIdentity,
    /// The target's identity.
    pub target: StoredIdentity,
    /// The source's logical block.
    pub source_block: Bytes,
    /// The target's logical block.
    pub target_block: Bytes,
    /// The target's physical block.
    pub target_physical: Bytes,
    /// Where the metadata lies.
    pub layout: Layout,
    /// The source's time of last change, where it has one.
    pub source_stamp: u64,
}

impl Facts {
    /// What a record must say to be about this pair.
    pub fn expected(&self) -> Expected {
        Expected {
            source: self.source.clone(),
            target: self.target.clone(),
            source_len: self.layout.source_len(),
            target_len: self.layout.target_len(),
            target_block: block_field(self.target_block),
        }
    }
}

/// What a writer of records knows of itself and of its copy.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// Bytes of one extent.
    pub extent: Bytes,
    /// What the copy has done over all its runs, this checkpoint not counted.
    pub counters: Counters,
    /// Now, Unix time in seconds.
    pub unix_now: u64,
}

/// The record for `checkpoint`, after `before`; a first one where there is none.
///
/// # Errors
/// What of the checkpoint no record can say, in words.
pub fn record(
    facts: &Facts,
    before: Option<&Record>,
    checkpoint: &Checkpoint,
    writer: &Writer,
) -> Result<Record, String> {
    let Checkpoint { epoch, sequence, owner, key, state, watermark } = *checkpoint;
    for (field, value) in [("epoch", epoch.0), ("sequence", sequence.0), ("written_at", writer.unix_now)] {
        if value >= COUNT_LIMIT {
            return Err(format!("its {field} of {value} is above what a record can hold"));
        }
    }
    if watermark > facts.layout.source_len() {
        return Err(format!("its watermark {} lies behind the source's end", watermark.0));
    }
    let node = NodeId(owner.0);
    let since = before.filter(|before| before.owner.node == node && before.epoch == epoch);
    let since_unix_s = since.map_or(writer.unix_now, |before| before.owner.since_unix_s);
    let counters = Counters { checkpoints: writer.counters.checkpoints + 1, ..writer.counters };
    Ok(Record {
        writer: WriterVersion::THIS,
        flags: before.map_or(Flags::default(), |before| before.flags),
        migration: facts.migration,
        group: facts.group,
        source: facts.source.clone(),
        target: facts.target.clone(),
        source_block: block_field(facts.source_block),
        target_block: block_field(facts.target_block),
        layout: facts.layout,
        epoch,
        sequence,
        owner: Owner { node, since_unix_s, reservation_key: key.0 },
        state,
        suspension: suspension(before, state)?,
        pending_step: None,
        watermark,
        source_stamp: before.map_or(facts.source_stamp, |before| before.source_stamp),
        extent_size: u32::try_from(writer.extent.0)
            .map_err(|_| format!("an extent of {} is too large", writer.extent))?,
        written_at_unix_s: writer.unix_now,
        counters,
    })
}

/// A suspended migration keeps what it has said of itself; one that becomes suspended says where it came from (design H16).
fn suspension(before: Option<&Record>, state: State) -> Result<Option<Suspension>, String> {
    if state != State::Suspended {
        return Ok(None);
    }
    let from = before.map_or(State::Defined, |before| before.state);
    let kept = before.and_then(|before| before.suspension);
    match kept.or_else(|| Suspension::of(from)) {
        Some(suspension) => Ok(Some(suspension)),
        None => Err(format!("a migration in state {from} can't be suspended")),
    }
}

/// What of a record the protocol goes on from. Where it names no key the owner has let go.
pub fn checkpoint(record: &Record) -> Checkpoint {
    Checkpoint {
        epoch: record.epoch,
        sequence: record.sequence,
        owner: KeyNode(record.owner.node.0),
        key: Key(record.owner.reservation_key),
        state: record.state,
        watermark: record.watermark,
    }
}

fn block_field(block: Bytes) -> u32 {
    u32::try_from(block.0).expect("blocks above 64 KiB are refused when a LUN is opened")
}

/// READ KEYS and READ RESERVATION as the protocol sees them. A reservation of another type is nobody's of ours, whoever made it.
pub fn standing(view: &View) -> Standing {
    let holder = view.held.map(|held| if held.kind == HeldType::Known(KIND) { held.key } else { Key::NONE });
    Standing { keys: view.keys.iter().copied().collect(), holder }
}

/// Why a storage action has failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The lock's code says so.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The checkpoint's store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A LUN can't be read.
    #[error("reading byte {} of the {} failed: {error}", at.0, name(*lun))]
    Read {
        /// Which one.
        lun: Lun,
        /// Where.
        at: Bytes,
        /// The kernel's word.
        error: std::io::Error,
    },
    /// What stands on the target, or what was to be written, can't be gone on from.
    #[error("{0}")]
    Refused(String),
    /// More keys than can be read at once: who is registered can't be told.
    #[error("the {} has more registrations than can be read at once; remove stale ones", name(*.0))]
    TooManyKeys(Lun),
    /// An action that needs a registration, and this start has none there.
    #[error("this start is not registered on the {}", name(*.0))]
    NotRegistered(Lun),
    /// This start is over.
    #[error("this start of the node is over")]
    Retired,
}

fn name(lun: Lun) -> &'static str {
    match lun {
        Lun::Source => "source",
        Lun::Target => "target",
    }
}

impl Failure {
    /// What it means to the protocol.
    pub fn trouble(&self) -> Trouble {
        let fenced = match self {
            Self::Lock(error) => is_conflict(error),
            Self::Store(StoreError::Lock(error)) => is_conflict(error),
            Self::Store(
                StoreError::Read { source, .. } | StoreError::Write { source, .. } | StoreError::Flush(source),
            )
            | Self::Read { error: source, .. } => categorise(source) == Category::Fenced,
            Self::Store(StoreError::Layout(_)) | Self::Refused(_) => return Trouble::Refused,
            Self::NotRegistered(_) => true,
            Self::Store(StoreError::Disturbed { .. } | StoreError::Latched | StoreError::LookFailed(_))
            | Self::TooManyKeys(_)
            | Self::Retired => false,
        };
        if fenced { Trouble::Conflict } else { Trouble::Storage }
    }
}

/// Whether a failed copy was fenced.
pub fn copy_trouble(error: &CopyError) -> Trouble {
    if error.is_fenced() { Trouble::Conflict } else { Trouble::Storage }
}

fn is_conflict(error: &LockError) -> bool {
    match error {
        LockError::Command(error) => error.is_conflict(),
        LockError::Foreign { .. } | LockError::OtherProgram { .. } => true,
        LockError::HeldElsewhere { .. } | LockError::Registered { .. } | LockError::Lost { .. } => true,
        LockError::CannotFence { .. }
        | LockError::Unclear { .. }
        | LockError::FenceUnproven { .. }
        | LockError::NoPath { .. } => false,
    }
}
