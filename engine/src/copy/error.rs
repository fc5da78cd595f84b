//! Why a copy or a verify stopped.
//!
//! Pure. Each error names the side, the place and the errno; the command line maps them to exit codes.

use std::fmt;
use std::io;

use thiserror::Error;

use crate::checkpoint::state::State;
use crate::checkpoint::store::StoreError;
use crate::copy::retry::{Category, categorise};
use crate::units::{Bytes, Lba, Span};

/// Which LUN of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The LUN that data leaves.
    Source,
    /// The LUN that data moves to.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// Why a copy or a verify stopped. What was checkpointed before stays true.
#[derive(Debug, Error)]
pub enum CopyError {
    /// A LUN failed in a way that reading or writing other blocks would not mend.
    #[error("{what} {span} ({lba}) of the {side} failed: {source}")]
    Io {
        /// `reading`, `writing`, `punching`.
        what: &'static str,
        /// Which LUN.
        side: Side,
        /// Where.
        span: Span,
        /// Where, in the LUN's logical blocks.
        lba: Lba,
        /// The kernel's word.
        source: io::Error,
    },
    /// A thin target is full.
    #[error(
        "the target ran out of space at {lba} ({span}): it is thinly provisioned and its pool or file system is full \
         ({source}); give it space, then go on with --resume"
    )]
    NoSpace {
        /// Where.
        span: Span,
        /// Where, in the target's logical blocks.
        lba: Lba,
        /// The kernel's word.
        source: io::Error,
    },
    /// The storage refused this host.
    #[error(
        "the {side} refuses this host at {lba} (reservation conflict, {source}): another host holds the LUN; nothing more was \
         written"
    )]
    Fenced {
        /// Which LUN.
        side: Side,
        /// Where.
        lba: Lba,
        /// The kernel's word.
        source: io::Error,
    },
    /// A LUN is shorter than it was when it was opened.
    #[error("the {side} ended at byte {at}, before its capacity; was it resized? check it and start again")]
    Ended {
        /// Which LUN.
        side: Side,
        /// Where.
        at: u64,
    },
    /// The source is not what it was when the copy began.
    #[error(
        "the source was changed while it was copied ({0}): the target holds neither its old nor its new state; find out who wrote to \
         it, then copy again from the beginning (`lunferry checkpoint erase` gives this copy up)"
    )]
    SourceChanged(String),
    /// An array that failed its trial may have written anywhere on a target that was copied in part before.
    #[error(
        "the array said that it had copied {span}, and the target does not hold that: it may have written anywhere, also below the \
         watermark of {watermark}; erase the checkpoint with `lunferry checkpoint erase`, and copy again with --vehicle uring"
    )]
    ArrayLied {
        /// The trial.
        span: Span,
        /// What was copied before.
        watermark: Bytes,
    },
    /// The source answers nothing any more, not even where it could be read before.
    #[error(
        "reading {span} ({lba}) of the source failed: {source}, and so did a block that could be read before: the source or the path \
         to it is gone; mend that, then go on with --resume"
    )]
    SourceDead {
        /// Where it was noticed.
        span: Span,
        /// Where, in the source's logical blocks.
        lba: Lba,
        /// The kernel's word.
        source: io::Error,
    },
    /// A flush failed; nothing written since the last checkpoint is believed to be durable.
    #[error(
        "flushing the target failed: {0}; nothing after the last checkpoint is taken as durable; --resume goes on from it"
    )]
    Flush(#[source] io::Error),
    /// More of the source is unreadable than can be listed.
    #[error(
        "the source has more than {0} separate unreadable ranges; the copy stopped, --resume goes on from the checkpoint"
    )]
    TooManyUnreadable(usize),
    /// The checkpoint is one that a copy can't go on from. Nothing was written.
    #[error(
        "the target's checkpoint says `{state}` at watermark {}, which no copy goes on from: look at it with `lunferry checkpoint \
         show`; to copy anew, erase it and start without --resume",
        watermark.0
    )]
    State {
        /// Its state.
        state: State,
        /// Its watermark.
        watermark: Bytes,
    },
    /// The metadata area.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A worker's ring or buffers could not be set up.
    #[error(
        "setting up io_uring failed: {source}; {depth} buffers of {extent} must be locked in memory: raise `ulimit -l`, or \
         lower --depth or --extent"
    )]
    Ring {
        /// Buffers asked for.
        depth: usize,
        /// Their size.
        extent: Bytes,
        /// The kernel's word.
        source: io::Error,
    },
    /// There was no memory for a worker's buffers, or no thread for its requests.
    #[error("setting up {depth} buffers of {extent} failed: {source}; lower --depth or --extent")]
    Memory {
        /// Buffers asked for.
        depth: usize,
        /// Their size.
        extent: Bytes,
        /// The kernel's word.
        source: io::Error,
    },
}

impl CopyError {
    /// Whether the storage refused this host (RESERVATION CONFLICT), be it at data or at metadata.
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Fenced { .. } => true,
            Self::Io { source, .. }
            | Self::Flush(source)
            | Self::Store(
                StoreError::Read { source, .. } | StoreError::Write { source, .. } | StoreError::Flush(source),
            ) => categorise(source) == Category::Fenced,
            Self::Store(StoreError::Lock(error)) => error.is_elsewhere(),
            Self::NoSpace { .. }
            | Self::Ended { .. }
            | Self::TooManyUnreadable(_)
            | Self::SourceChanged(_)
            | Self::ArrayLied { .. }
            | Self::SourceDead { .. }
            | Self::State { .. }
            | Self::Store(
                StoreError::Disturbed { .. } | StoreError::Latched | StoreError::Layout(_) | StoreError::LookFailed(_),
            )
            | Self::Ring { .. }
            | Self::Memory { .. } => false,
        }
    }

    /// The error for a failed request, by what its errno means.
    pub fn of_request(what: &'static str, side: Side, span: Span, block: Bytes, source: io::Error) -> Self {
        let lba = span.start.lba(block);
        match (categorise(&source), side) {
            (Category::NoSpace, Side::Target) => Self::NoSpace { span, lba, source },
            (Category::Fenced, _) => Self::Fenced { side, lba, source },
            _ => Self::Io { what, side, span, lba, source },
        }
    }
}
