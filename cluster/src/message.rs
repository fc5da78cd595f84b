//! What nodes say to each other.
//!
//! Pure: values. How they become bytes is another file's business.
//!
//! Every message bears the epoch that its sender acts in. What a mover says of an earlier epoch is dropped, so that old
//! messages are harmless however late they come; within an epoch windows and steps are numbered, and a number that is not
//! above the last one changes nothing. So every message can be sent again until it is answered.

use lunferry_engine::checkpoint::state::State;
use lunferry_engine::units::{Bytes, BytesPerSecond, Epoch};
use lunferry_scsi::key::Incarnation;

/// A message of an authenticated sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The epoch that the sender acts in: a mover's own, else that of the mover that it follows; 0 where there is none.
    pub epoch: Epoch,
    /// What it says.
    pub body: Body,
}

/// What the sender of a heartbeat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It doesn't reach its storage yet.
    Starting,
    /// It has no part in the migration and wants one.
    Joining,
    /// It follows a mover.
    Member,
    /// It weighs whether to take over.
    Candidate,
    /// It holds the source and is on its way to be the mover.
    Claimant,
    /// It copies.
    Mover,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Joining, Self::Member, Self::Candidate, Self::Claimant, Self::Mover];

    /// As outputs show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Joining => "joining",
            Self::Member => "member",
            Self::Candidate => "candidate",
            Self::Claimant => "claimant",
            Self::Mover => "mover",
        }
    }
}

/// What has been agreed: a state, and the number of the step that led to it within its epoch. The later one is the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The last step that was decided in this epoch; 0 where the state was taken from the checkpoint.
    pub step: u32,
    /// The state.
    pub state: State,
}

/// The range that is held for copying. It only ever rises within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rises by one at each change, from 1.
    pub number: u32,
    /// Below it both LUNs hold the same.
    pub lo: Bytes,
    /// From it on nothing was copied.
    pub hi: Bytes,
}

/// Why a node is not ready for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its front door can't drain.
    Door,
    /// It doesn't reach the source.
    Source,
    /// It doesn't reach the target.
    Target,
    /// Its key is missing.
    Registration,
}

impl Unfit {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Door, Self::Source, Self::Target, Self::Registration];
}

/// What a heartbeat tells for operators. The protocol decides nothing by it; the agent fills it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Of a mover: everything below is written. It need not be durable.
    pub written: Bytes,
    /// How fast it copies.
    pub rate: BytesPerSecond,
    /// How fast it may.
    pub limit: Option<BytesPerSecond>,
}

impl Gauges {
    /// Of a node that copies nothing.
    pub const NONE: Self = Self { written: Bytes::ZERO, rate: BytesPerSecond(0), limit: None };
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// From everybody to everybody, every 250 ms.
    Heartbeat {
        /// What the sender is.
        role: Role,
        /// Whether it hears somebody who leads, or leads itself.
        led: bool,
        /// What it knows to be agreed.
        agreed: Agreed,
        /// How far the copy is.
        lo: Bytes,
        /// More of it, for operators.
        gauges: Gauges,
    },
    /// A mover lets this start of a node register its key.
    Admit {
        /// Which start.
        incarnation: Incarnation,
    },
    /// The answer: the key is registered on both LUNs.
    Registered,
    /// A mover's window. The first one that a node gets makes it a member: by then it is in the acknowledging set.
    Window {
        /// For which start of the receiver.
        incarnation: Incarnation,
        /// The window.
        window: Window,
        /// What is agreed.
        agreed: Agreed,
    },
    /// The answer: no write of this node is in flight in the window, and none will start there.
    Held {
        /// The window's number.
        number: u32,
    },
    /// An agreed step begins.
    Prepare {
        /// Its number.
        step: u32,
        /// Where it leads.
        to: State,
    },
    /// The sender is ready.
    Prepared {
        /// For this step.
        step: u32,
    },
    /// The sender is not.
    Refused {
        /// For this step.
        step: u32,
        /// Why.
        why: Unfit,
    },
    /// The step is decided and durable.
    Commit {
        /// What is agreed now.
        agreed: Agreed,
    },
    /// The step won't happen.
    Cancel {
        /// Which.
        step: u32,
    },
    /// The answer to both.
    Settled {
        /// Which.
        step: u32,
    },
    /// A mover that has drained asks the receiver to take over.
    HandOver,
}
