//! Whether a command is sent again: the one retry policy of the room.
//!
//! Pure: (category, kind of command, attempts, elapsed time) in, a decision out. What must hold:
//! - A reservation conflict is never retried. On PERSISTENT RESERVE OUT it is ambiguous (won, lost, never registered),
//!   so keys and reservation are read on that path first (design 10).
//! - What is not idempotent is never sent again while its outcome is unknown.
//! - PERSISTENT RESERVE OUT that met the announcement of a changed reservation is not sent again before somebody has
//!   looked: REGISTER AND IGNORE EXISTING KEY would bring back a nexus that was just fenced.
//! - A flush that failed is never retried and believed (design 9), and neither is one that met a reset: what it was to
//!   make durable may be gone, and the second one would succeed all the same (design H17).
//! - Every chain of retries ends, by count and by time.
//!
//! Who sends shows each unit attention to the layer above, whatever is decided: it is a hint to look again. A write
//! that timed out may still land until the kernel has ended it, so only the same bytes go to its blocks until then
//! (design H5).

use std::time::Duration;

use crate::category::{Attention, Category, NotReady, Unknown};
use crate::cdb::Kind;

/// What to do after a command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is done.
    Done,
    /// Send the same again, not before this time has passed.
    Retry {
        /// How long to wait.
        after: Duration,
    },
    /// The outcome is not known: read what it was to change, and decide anew by that.
    ReadBack,
    /// It failed. The category says why.
    Fail,
}

/// What a category means for sending again.
enum Nature {
    /// Done.
    Done,
    /// The command was not begun, so anything may be sent again.
    NotBegun(Pace),
    /// It may have been done in whole or in part.
    Uncertain(Pace),
    /// It may have been done, and this path will not answer.
    PathLost,
    /// It was refused or failed for good.
    Final,
    /// Refused by a reservation.
    Conflict,
}

/// How often and how fast.
#[derive(Clone, Copy)]
struct Pace {
    /// The most attempts, the first one counted.
    attempts: u32,
    /// The first wait; it doubles from one attempt to the next.
    first: Duration,
    /// The longest wait.
    longest: Duration,
    /// No retry after this time since the first attempt.
    within: Duration,
}

const fn pace(attempts: u32, first_ms: u64, longest_ms: u64, within_s: u64) -> Pace {
    let (first, longest) = (Duration::from_millis(first_ms), Duration::from_millis(longest_ms));
    Pace { attempts, first, longest, within: Duration::from_secs(within_s) }
}

/// Several may be queued: after a login 29h, 2Ah/03, /04, /05 and 3Fh/0Eh.
const ATTENTION: Pace = pace(12, 0, 0, 30);
/// Arrays say BUSY for seconds while a controller takes over.
const BUSY: Pace = pace(60, 10, 1000, 30);
const NOT_READY: Pace = pace(120, 100, 2000, 60);
/// Reads of a bad block: more is the rescue copier's business.
const MEDIUM: Pace = pace(3, 0, 0, 60);
const ABORTED: Pace = pace(5, 10, 500, 60);
/// LIO answers a REGISTER with NOT READY, 08h/00h, after it has registered and could not store that: final, and yet
/// uncertain.
const NO_MORE: Pace = pace(1, 0, 0, 0);
/// Each of these attempts may have taken its whole timeout.
const TIMED_OUT: Pace = pace(2, 0, 0, 90);

impl Pace {
    fn next(self, attempts: u32, elapsed: Duration) -> Decision {
        if attempts >= self.attempts || elapsed >= self.within {
            return Decision::Fail;
        }
        let doublings = attempts.saturating_sub(1).min(16);
        Decision::Retry { after: self.first.saturating_mul(1 << doublings).min(self.longest) }
    }
}

/// What to do after the command has been sent `attempts` times, `elapsed` after it was first sent.
pub fn decide(category: &Category, kind: Kind, attempts: u32, elapsed: Duration) -> Decision {
    match nature(category, kind) {
        Nature::Done => Decision::Done,
        Nature::NotBegun(pace) => pace.next(attempts, elapsed),
        Nature::Uncertain(pace) => match kind {
            Kind::Query | Kind::Overwrite => pace.next(attempts, elapsed),
            Kind::Conditional | Kind::ReservationOut | Kind::Copy => Decision::ReadBack,
            Kind::Flush => Decision::Fail,
        },
        Nature::PathLost | Nature::Conflict if kind == Kind::ReservationOut => Decision::ReadBack,
        Nature::PathLost if matches!(kind, Kind::Conditional | Kind::Copy) => Decision::ReadBack,
        Nature::PathLost | Nature::Conflict | Nature::Final => Decision::Fail,
    }
}

fn nature(category: &Category, kind: Kind) -> Nature {
    match category {
        Category::Good | Category::Recovered(_) => Nature::Done,
        Category::UnitAttention(attention) => after_attention(*attention, kind),
        Category::ReservationConflict => Nature::Conflict,
        Category::NotReady(NotReady::Becoming { .. } | NotReady::Transition) => Nature::NotBegun(NOT_READY),
        Category::Busy | Category::TaskSetFull | Category::AcaActive => Nature::NotBegun(BUSY),
        Category::Aborted(_) | Category::HardwareError(_) | Category::ShortTransfer { .. } => {
            Nature::Uncertain(ABORTED)
        }
        Category::NotReady(NotReady::Other(_)) => Nature::Uncertain(NO_MORE),
        Category::MediumError { .. } => Nature::Uncertain(MEDIUM),
        Category::OutcomeUnknown(Unknown::Timeout) => Nature::Uncertain(TIMED_OUT),
        Category::OutcomeUnknown(
            Unknown::Reset
            | Unknown::Host(_)
            | Unknown::Driver(_)
            | Unknown::NoSense
            | Unknown::Unexplained(_)
            | Unknown::Status(_),
        ) => Nature::Uncertain(ABORTED),
        Category::TransportLost(_) => Nature::PathLost,
        Category::NotReady(NotReady::PathInactive | NotReady::Manual(_) | NotReady::NoMedium)
        | Category::IllegalRequest(_)
        | Category::WriteProtected(_)
        | Category::NoSpace
        | Category::Miscompare { .. }
        | Category::CopyAborted(_)
        | Category::Deferred(_) => Nature::Final,
    }
}

/// The command was not begun; whether it may simply be sent again depends on what the attention says.
fn after_attention(attention: Attention, kind: Kind) -> Nature {
    match attention {
        Attention::PowerOnOrReset(_) if kind == Kind::Flush => Nature::Final,
        // Whether this registration still stands is what must be looked at, so this is as good as a conflict.
        Attention::ReservationsPreempted | Attention::ReservationsReleased | Attention::RegistrationsPreempted
            if kind == Kind::ReservationOut =>
        {
            Nature::Conflict
        }
        // This may be another LUN, or another size of it: nothing is changed before its identity was read again (design
        // S11).
        Attention::IdentifierChanged | Attention::MediumChanged | Attention::CapacityChanged => match kind {
            Kind::Query => Nature::NotBegun(ATTENTION),
            Kind::Overwrite | Kind::Flush | Kind::Conditional | Kind::ReservationOut | Kind::Copy => Nature::Final,
        },
        Attention::PowerOnOrReset(_)
        | Attention::ReservationsPreempted
        | Attention::ReservationsReleased
        | Attention::RegistrationsPreempted
        | Attention::AccessStateChanged
        | Attention::ParametersChanged
        | Attention::CommandsCleared
        | Attention::SoftThreshold
        | Attention::MicrocodeChanged
        | Attention::InquiryChanged
        | Attention::LunsChanged
        | Attention::Other(_) => Nature::NotBegun(ATTENTION),
    }
}

#[cfg(test)]
mod tests;
