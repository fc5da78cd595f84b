//! Who belongs to the cluster, and every time span of the protocol.
//!
//! Pure: values.

use std::ops::Add;

use lunferry_engine::units::Bytes;
use lunferry_scsi::key::NodeId;

/// Milliseconds: a span, or a moment since a node's own beginning of time. No two nodes' moments can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ms(pub u64);

impl Ms {
    /// How long ago `then` was; nothing where it lies ahead.
    pub fn since(self, then: Ms) -> Ms {
        Ms(self.0.saturating_sub(then.0))
    }
}

impl Add for Ms {
    type Output = Ms;
    fn add(self, other: Ms) -> Ms {
        Ms(self.0 + other.0)
    }
}

/// What a mover does with a member that has fallen silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// Fences it, once it has been silent for [`Timing::evict_after`].
    Evict,
    /// Waits; the operator decides.
    Wait,
}

/// Every time span of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats, on the network and on the target.
    pub beat: Ms,
    /// After how many missed heartbeats a node is suspected (yellow).
    pub missed: u64,
    /// After how long a silence others act (red).
    pub act_after: Ms,
    /// How long a heartbeat sector must have stood still before it says that its node is gone.
    pub stale_after: Ms,
    /// In a tie, how much later each next rank acts.
    pub rank_delay: Ms,
    /// How long somebody must have been seen to hold the source before it may be preempted: a nexus that is preempted
    /// while its own PERSISTENT RESERVE OUT is in flight deadlocks LIO (ADR 0008).
    pub stood: Ms,
    /// After how long an unanswered message is sent again.
    pub resend: Ms,
    /// Between two checkpoints of a copy.
    pub checkpoint_every: Ms,
    /// How long an agreed step may take from the first `Prepare` to the decision.
    pub max_pause: Ms,
    /// How long a member may be silent before a mover evicts it. In a tie others wait longer than this, so that of two
    /// nodes that can't hear each other the mover stays.
    pub evict_after: Ms,
    /// Between two looks at the reservations by a node that has nothing else to ask of the storage.
    pub look_every: Ms,
    /// How long a planned hand-over may take before the old mover copies on.
    pub hand_over: Ms,
    /// A mover whose storage hasn't answered for so long gives up, so that others may try.
    pub stuck_after: Ms,
    /// Before something that failed at the storage is tried again.
    pub retry: Ms,
    /// How often in a row that is done before this start of the node is given up.
    pub tries: u32,
}

impl Timing {
    /// The default settings.
    pub const DEFAULT: Self = Self {
        beat: Ms(250),
        missed: 3,
        act_after: Ms(1_250),
        stale_after: Ms(2_000),
        rank_delay: Ms(500),
        stood: Ms(1_000),
        resend: Ms(200),
        checkpoint_every: Ms(1_000),
        max_pause: Ms(2_000),
        evict_after: Ms(2_000),
        look_every: Ms(1_000),
        hand_over: Ms(10_000),
        stuck_after: Ms(15_000),
        retry: Ms(200),
        tries: 10,
    };
}

/// One node's view of the cluster, for one migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Every node of the cluster, this one too, each once, in rising order.
    pub nodes: Vec<NodeId>,
    /// How many bytes are to be copied: the source's length, without an overlay range.
    pub length: Bytes,
    /// How far the window may reach past what is copied.
    pub window: Bytes,
    /// What becomes of a silent member.
    pub silent: Silent,
    /// The time spans.
    pub timing: Timing,
}

impl Config {
    /// This node's place among all of them, from 0.
    pub fn rank(&self) -> u64 {
        self.nodes.iter().take_while(|node| **node < self.me).count() as u64
    }

    /// Everybody else.
    pub fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().copied().filter(|node| *node != self.me)
    }
}
