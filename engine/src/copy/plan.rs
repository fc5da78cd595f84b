//! What a copy will do, decided before anything is written.
//!
//! Pure: the facts of both LUNs, what stands in the target's slots and the operator's options in; a plan or a refusal out.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

use crate::checkpoint::layout::{AreaSpec, Layout, SlotId};
use crate::checkpoint::record::{Counters, Flags, Owner, Record, StoredIdentity, WriterVersion};
use crate::checkpoint::slots::{self, Choice, Expected};
use crate::checkpoint::state::State;
use crate::copy::ledger::Pace;
use crate::copy::queue::QueueSizes;
use crate::copy::session::Start;
use crate::copy::vehicle::choice::Wanted;
use crate::copy::zeroes::ZeroMode;
use crate::lun::facts::LunInfo;
use crate::lun::sizing::{self, Sizing};
use crate::units::{Bytes, Epoch, Sequence, Span};

/// The longest run of zeroes that leaves in one command.
const LONGEST_RUN: Bytes = Bytes::mib(128);

/// How far the queue runs ahead of the watermark at least. It bounds what a run of zeroes can grow to.
const SMALLEST_WINDOW: Bytes = Bytes::mib(256);

/// Buffers of one worker: a verify takes two for each extent in flight, and a ring registers 1024 at most (`UIO_MAXIOV`).
const MOST_BUFFERS: Bytes = Bytes(512);

/// Memory for the buffers of all workers, which is pinned; a verify takes twice that.
const MOST_MEMORY: Bytes = Bytes::gib(2);

/// Numbers from a record that could not be counted on from are not believed. No honest copy comes near.
const COUNT_LIMIT: u64 = 1 << 62;

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How bytes are to move.
    pub vehicle: Wanted,
    /// Go on from the checkpoint on the target.
    pub resume: bool,
    /// Fence whoever holds the LUNs, and go on from the checkpoint where there is one.
    pub take_over: bool,
    /// The length of an extent, where not the default.
    pub extent: Option<Bytes>,
    /// Extents in flight for each worker, where not the default.
    pub depth: Option<usize>,
    /// Worker threads, where not the default.
    pub workers: Option<usize>,
    /// What becomes of zeroes, where not decided by the target's abilities.
    pub zeroes: Option<ZeroMode>,
    /// The operator's word that all of the target reads as zeroes.
    pub target_is_zero: bool,
    /// Write zeroes where the source can't be read.
    pub fill_unreadable: bool,
    /// How often a checkpoint is written.
    pub pace: Pace,
    /// Take digests, for a verify after the copy.
    pub verify: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            vehicle: Wanted::Auto,
            resume: false,
            take_over: false,
            extent: None,
            depth: None,
            workers: None,
            zeroes: None,
            target_is_zero: false,
            fill_unreadable: false,
            pace: Pace { bytes: Bytes::gib(1), time: Duration::from_secs(1) },
            verify: false,
        }
    }
}

/// Why nothing is copied. Each is a safety refusal: nothing was written.
#[derive(Debug, Error)]
pub enum PlanRefusal {
    /// The target holds an unfinished copy of this source.
    #[error(
        "the target holds an unfinished copy of this source: {} of {} copied, state {}, last checkpoint {} (Unix time), \
         epoch {}; go on with --resume, or give it up with `lunferry checkpoint erase`",
        .0.watermark, .0.layout.source_len(), .0.state, .0.written_at_unix_s, .0.epoch.0
    )]
    Unfinished(Box<Record>),
    /// The target holds a finished copy of this source.
    #[error(
        "the target holds a finished copy of this source, last checkpoint {} (Unix time); to copy again, remove that \
         record with `lunferry checkpoint erase`",
        .0.written_at_unix_s
    )]
    Finished(Box<Record>),
    /// There is nothing to go on from.
    #[error(
        "the target holds no checkpoint to resume from: either the copy never started, or it finished (a target of the \
         source's size keeps no record then; `lunferry verify` tells); leave --resume out to copy from the beginning"
    )]
    NothingToResume,
    /// The slots can't be believed.
    #[error(
        "the target's checkpoint: {0}; `lunferry checkpoint show` tells more, `lunferry checkpoint erase` removes it"
    )]
    Slots(slots::Refusal),
    /// The record belongs to a migration with agents.
    #[error("the target's checkpoint is in state {0}, which a copy can't go on from; it belongs to a live migration")]
    State(State),
    /// The record was made for another place of the metadata area.
    #[error(
        "the target's checkpoint lies in an area of {found} bytes, which is not where this version keeps it; erase it with \
         `lunferry checkpoint erase` and copy again"
    )]
    OtherArea {
        /// The area's size in the record.
        found: Bytes,
    },
    /// The source is not what it was.
    #[error(
        "the source was written to since the checkpoint (its time of last change was {then} ns, it is {now} ns): what was \
         copied before is out of date; erase the checkpoint with `lunferry checkpoint erase` and copy again"
    )]
    SourceChanged {
        /// At the checkpoint.
        then: u64,
        /// Now.
        now: u64,
    },
    /// The target is not what the copy left.
    #[error(
        "the target was written to since the checkpoint: it bears {kind} at byte {at}, below the watermark, and the source does not; \
         find out who uses it, then erase the checkpoint with `lunferry checkpoint erase` and copy again"
    )]
    TargetChanged {
        /// The signature's type.
        kind: String,
        /// Where it lies.
        at: u64,
    },
    /// A number in the record is absurd.
    #[error("the target's checkpoint: its {field} of {value} can't be true; erase it with `lunferry checkpoint erase`")]
    Absurd {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// An option doesn't fit the LUNs.
    #[error("{option} {value}: {why}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and the mend.
        why: String,
    },
}

impl PlanRefusal {
    /// A stable word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unfinished(_) => "unfinished_copy",
            Self::Finished(_) => "finished_copy",
            Self::NothingToResume => "nothing_to_resume",
            Self::Slots(_) => "checkpoint_not_usable",
            Self::State(_) => "live_migration",
            Self::OtherArea { .. } => "other_area",
            Self::SourceChanged { .. } => "source_changed",
            Self::TargetChanged { .. } => "target_changed",
            Self::Absurd { .. } => "checkpoint_absurd",
            Self::Option { .. } => "option",
        }
    }
}

/// How the checkpoints of the copy are kept.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// The first record.
    pub record: Record,
    /// How it came to be.
    pub start: Start,
}

/// A copy that may begin.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The shape of the requests.
    pub sizing: Sizing,
    /// Why there is more than one worker, where nobody asked for that.
    pub workers_why: Option<String>,
    /// The shape of the queue.
    pub queue: QueueSizes,
    /// What the first pass copies.
    pub bulk: Span,
    /// What becomes of zeroes.
    pub zeroes: ZeroMode,
    /// Why the target is known to hold zeroes, where it is.
    pub known_zero: Option<KnownZero>,
    /// Write zeroes where the source can't be read.
    pub fill_unreadable: bool,
    /// The checkpoints; none on a target that is too small for them.
    pub checkpoints: Option<Checkpoints>,
    /// How often they are written.
    pub pace: Pace,
    /// Whether digests are taken.
    pub verify: bool,
    /// Whether the record says that everything was done before.
    pub already_complete: bool,
    /// Whether another host was in the middle of this copy and has not let go: it may wake up with writes of its own, and the
    /// reservations must outlive the copy then (design H2).
    pub taken_from_another: bool,
}

impl Plan {
    /// Bytes of buffers for all workers together.
    pub fn buffer_memory(&self) -> Bytes {
        Bytes(self.sizing.extent.0 * self.sizing.depth as u64 * self.sizing.workers as u64)
    }
}

/// Why a target is known to read zeroes wherever the copy has not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownZero {
    /// The operator said so.
    Operator,
    /// It is a file without any data.
    AllHole,
}

/// What was found, for the plan.
pub struct Found<'a> {
    /// The source.
    pub source: &'a LunInfo,
    /// The target.
    pub target: &'a LunInfo,
    /// The target's metadata area; none where it is too small for one.
    pub layout: Option<Layout>,
    /// What its slots say.
    pub choice: Choice,
    /// Whether both slots read as zeroes.
    pub slots_are_blank: bool,
    /// Whether anything was found on the target that is not zeroes: a signature, say.
    pub target_has_signatures: bool,
    /// A fresh name for the migration.
    pub new_uuid: Uuid,
    /// Seconds since 1970.
    pub unix_now: u64,
    /// Who copies from now on.
    pub owner: Owner,
    /// How many processors this host has for it.
    pub processors: usize,
}

/// What a record must say to be about these two LUNs.
pub fn expected(source: &LunInfo, target: &LunInfo) -> Expected {
    Expected {
        source: StoredIdentity::of(&source.identity),
        target: StoredIdentity::of(&target.identity),
        source_len: source.capacity,
        target_len: target.capacity,
        target_block: block_field(target.logical_block),
    }
}

/// The metadata area of a copy, or why there is none: the target is too small for one.
pub fn layout(source: &LunInfo, target: &LunInfo) -> Option<Layout> {
    Layout::of(AreaSpec::V1, target.capacity, source.capacity).ok()
}

/// Decides.
///
/// # Errors
/// Why nothing is copied.
pub fn plan(found: &Found<'_>, options: &Options) -> Result<Plan, PlanRefusal> {
    let sizing = sized(found, options)?;
    let resumed = resumed(found, options)?;
    let known_zero = known_zero(found, options, resumed.as_ref().map(|(record, _)| record))?;
    let zeroes = zero_mode(found, options, known_zero)?;
    let already_complete = resumed.as_ref().is_some_and(|(record, _)| record.state == State::Committed);
    let was_zero = resumed.as_ref().map_or(known_zero.is_some(), |(record, _)| record.flags.target_was_zero);
    let taken_from_another = resumed.as_ref().is_some_and(|(record, _)| {
        // A copier that ends in good order leaves no key in the record.
        let was_another = record.owner.node != found.owner.node && record.owner.reservation_key != 0;
        was_another && record.state != State::Committed
    });
    let flags = Flags { target_was_zero: was_zero, fill_unreadable: options.fill_unreadable };
    let checkpoints = match (resumed, found.layout) {
        (Some((record, next)), _) => Some(Checkpoints {
            record: Record {
                flags,
                writer: WriterVersion::THIS,
                extent_size: extent_field(sizing),
                owner: found.owner,
                ..record
            },
            start: Start::Resume { next },
        }),
        (None, Some(layout)) => Some(Checkpoints {
            record: new_record(found, layout, flags, sizing),
            start: Start::Fresh { slots_are_blank: found.slots_are_blank },
        }),
        (None, None) => None,
    };
    let end = found.layout.map_or(found.source.capacity, |layout| layout.bulk_end());
    // A watermark is a multiple of both block sizes, unless the LUNs' block sizes have changed since.
    let block = found.source.logical_block.max(found.target.logical_block);
    let watermark = checkpoints.as_ref().map_or(Bytes::ZERO, |c| c.record.watermark.align_down(block));
    Ok(Plan {
        sizing,
        workers_why: workers_why(found, options, sizing),
        queue: queue_sizes(sizing, zeroes),
        bulk: Span::new(watermark.min(end), end),
        zeroes,
        known_zero,
        fill_unreadable: options.fill_unreadable,
        checkpoints,
        pace: options.pace,
        verify: options.verify,
        already_complete,
        taken_from_another,
    })
}

/// Why there is more than one worker, where nobody asked for that.
fn workers_why(found: &Found<'_>, options: &Options, sizing: Sizing) -> Option<String> {
    if sizing.workers < 2 || options.workers.is_some() {
        return None;
    }
    let driver = sizing::by_processor(found.source, found.target);
    Some(driver.map_or_else(
        || "digests are taken".into(),
        |driver| format!("the processors move the bytes of these LUNs (adapter {driver})"),
    ))
}

/// The record to go on from, or none for a fresh start.
fn resumed(found: &Found<'_>, options: &Options) -> Result<Option<(Record, SlotId)>, PlanRefusal> {
    let goes_on = options.resume || options.take_over;
    let (record, next) = match &found.choice {
        Choice::None if options.resume && !options.take_over => return Err(PlanRefusal::NothingToResume),
        Choice::None => return Ok(None),
        Choice::Refused(refusal) => return Err(PlanRefusal::Slots(refusal.clone())),
        Choice::Use { record, next_write, .. } => (record, *next_write),
    };
    match record.state {
        State::Committed if !goes_on => return Err(PlanRefusal::Finished(record.clone())),
        State::Defined | State::Syncing | State::Finalising if !goes_on => {
            return Err(PlanRefusal::Unfinished(record.clone()));
        }
        State::Defined | State::Syncing | State::Finalising | State::Committed => {}
        state @ (State::SourceSelected | State::TargetSelected | State::Suspended | State::Aborted) => {
            return Err(PlanRefusal::State(state));
        }
    }
    if found.layout != Some(record.layout) {
        return Err(PlanRefusal::OtherArea { found: record.layout.spec().size });
    }
    if record.source_stamp != found.source.content_stamp {
        return Err(PlanRefusal::SourceChanged { then: record.source_stamp, now: found.source.content_stamp });
    }
    if let Some((field, value)) = absurd(record) {
        return Err(PlanRefusal::Absurd { field, value });
    }
    Ok(Some(((**record).clone(), next)))
}

/// A number of `record` that could not be counted on from, with its name.
pub fn absurd(record: &Record) -> Option<(&'static str, u64)> {
    let counters = &record.counters;
    let all = [
        ("epoch", record.epoch.0),
        ("sequence", record.sequence.0),
        ("copied", counters.copied_bytes.0),
        ("zeroed", counters.zeroed_bytes.0),
        ("skipped", counters.skipped_bytes.0),
        ("retried", counters.retried),
        ("unreadable", counters.unreadable_bytes.0),
        ("checkpoints", counters.checkpoints),
    ];
    all.into_iter().find(|(_, value)| *value >= COUNT_LIMIT)
}

fn sized(found: &Found<'_>, options: &Options) -> Result<Sizing, PlanRefusal> {
    let (source, target) = (found.source, found.target);
    let defaults = sizing::defaults(source, target, found.processors);
    let defaults = if options.verify { defaults.with_digests() } else { defaults };
    let extent = options.extent.unwrap_or(defaults.extent);
    let block = source.logical_block.max(target.logical_block);
    let refuse = |option, value: String, why: String| Err(PlanRefusal::Option { option, value, why });
    let most = MOST_BUFFERS.as_len();
    if extent < block || !extent.is_multiple_of(block) || extent > Bytes::mib(64) {
        return refuse("--extent", extent.to_string(), format!("give a multiple of {block}, at most 64 MiB"));
    }
    // A smaller or larger extent keeps the bytes in flight where they were.
    let in_flight = defaults.extent.0 * defaults.depth as u64;
    let depth = options.depth.unwrap_or(Bytes((in_flight / extent.0).clamp(2, 64)).as_len());
    if !(1..=most).contains(&depth) {
        return refuse("--depth", depth.to_string(), format!("give 1 to {most}"));
    }
    let workers = options.workers.unwrap_or(defaults.workers);
    if !(1..=64).contains(&workers) {
        return refuse("--workers", workers.to_string(), "give 1 to 64".into());
    }
    let memory = Bytes(extent.0 * depth as u64 * workers as u64);
    if memory > MOST_MEMORY {
        let why = format!("with {workers} workers of {depth} x {extent} that is {memory}; stay below {MOST_MEMORY}");
        return refuse("--depth", depth.to_string(), why);
    }
    Ok(Sizing { extent, depth, workers })
}

/// The shape of the queue for requests of this shape.
pub fn queue_sizes(sizing: Sizing, zeroes: ZeroMode) -> QueueSizes {
    let in_flight = Bytes(sizing.extent.0 * sizing.depth as u64 * sizing.workers as u64);
    let max_run = LONGEST_RUN.max(sizing.extent);
    QueueSizes {
        extent: sizing.extent,
        window: SMALLEST_WINDOW.max(Bytes(in_flight.0 * 4)),
        max_run,
        max_hole: if zeroes == ZeroMode::Write { sizing.extent } else { max_run },
    }
}

/// Whether zeroes may be skipped. A checkpoint's own word is not enough: others may have written to the target since.
fn known_zero(found: &Found<'_>, options: &Options, record: Option<&Record>) -> Result<Option<KnownZero>, PlanRefusal> {
    if options.target_is_zero {
        let refuse =
            |why: &str| Err(PlanRefusal::Option { option: "--target-is-zero", value: "given".into(), why: why.into() });
        match record {
            None if found.target_has_signatures => refuse("the target bears a signature, so it is not; leave it out"),
            None if !found.slots_are_blank => refuse("there are other bytes at the target's end; leave it out"),
            Some(record) if !record.flags.target_was_zero => refuse("the copy was not begun so; leave it out"),
            _ => Ok(Some(KnownZero::Operator)),
        }
    } else {
        Ok((record.is_none() && found.target.is_all_hole).then_some(KnownZero::AllHole))
    }
}

fn zero_mode(found: &Found<'_>, options: &Options, known_zero: Option<KnownZero>) -> Result<ZeroMode, PlanRefusal> {
    match options.zeroes {
        Some(ZeroMode::Skip) if known_zero.is_none() => Err(PlanRefusal::Option {
            option: "--zeroes",
            value: "skip".into(),
            why: "the target is not known to read zeroes; add --target-is-zero if you know that it does".into(),
        }),
        Some(ZeroMode::Punch) if !found.target.can_punch => Err(PlanRefusal::Option {
            option: "--zeroes",
            value: "punch".into(),
            why: "the target has no write-zeroes command; leave the option out, or give `write`".into(),
        }),
        Some(mode) => Ok(mode),
        None if known_zero.is_some() => Ok(ZeroMode::Skip),
        None if found.target.can_punch => Ok(ZeroMode::Punch),
        None => Ok(ZeroMode::Write),
    }
}

fn new_record(found: &Found<'_>, layout: Layout, flags: Flags, sizing: Sizing) -> Record {
    let Expected { source, target, target_block, .. } = expected(found.source, found.target);
    Record {
        writer: WriterVersion::THIS,
        flags,
        migration: found.new_uuid,
        group: None,
        source,
        target,
        source_block: block_field(found.source.logical_block),
        target_block,
        layout,
        epoch: Epoch(1),
        sequence: Sequence(0),
        owner: found.owner,
        state: State::Defined,
        suspension: None,
        pending_step: None,
        watermark: Bytes::ZERO,
        source_stamp: found.source.content_stamp,
        extent_size: extent_field(sizing),
        written_at_unix_s: found.unix_now,
        counters: Counters::default(),
    }
}

fn block_field(block: Bytes) -> u32 {
    u32::try_from(block.0).expect("blocks above 64 KiB are refused before")
}

fn extent_field(sizing: Sizing) -> u32 {
    u32::try_from(sizing.extent.0).expect("extents above 64 MiB are refused before")
}
