//! Who was heard of, when, and what that makes of them.
//!
//! Pure: values. It only ever suggests (design S2): a silence lets a node try, the storage decides.

use std::collections::BTreeMap;

use lunferry_engine::units::Epoch;
use lunferry_scsi::key::{Incarnation, NodeId};

use crate::config::{Ms, Timing};
use crate::message::Role;

/// The last heartbeat of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which start of it.
    pub incarnation: Incarnation,
    /// When it came.
    pub at: Ms,
    /// What it was.
    pub role: Role,
    /// Whether it heard somebody who leads.
    pub led: bool,
    /// The epoch that it acted in.
    pub epoch: Epoch,
}

/// How alive a node seems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// It beats.
    Green,
    /// Some heartbeats are missing.
    Yellow,
    /// It has been silent for so long that others act.
    Red,
}

impl Colour {
    /// Of somebody who was heard last so long ago, or never.
    pub fn of(silence: Option<Ms>, timing: &Timing) -> Self {
        match silence {
            Some(silence) if silence <= Ms(timing.beat.0 * timing.missed) => Colour::Green,
            Some(silence) if silence < timing.act_after => Colour::Yellow,
            Some(_) | None => Colour::Red,
        }
    }

    /// As outputs show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
    }
}

/// Everybody's last heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Hearing {
    last: BTreeMap<NodeId, Heard>,
}

impl Hearing {
    /// Notes a heartbeat.
    pub fn note(&mut self, from: NodeId, heard: Heard) {
        self.last.insert(from, heard);
    }

    /// The last heartbeat of a node, however old.
    pub fn of(&self, node: NodeId) -> Option<Heard> {
        self.last.get(&node).copied()
    }

    /// How alive `node` seems.
    pub fn colour(&self, node: NodeId, now: Ms, timing: &Timing) -> Colour {
        Colour::of(self.of(node).map(|heard| now.since(heard.at)), timing)
    }

    /// Everybody who isn't red.
    pub fn audible(&self, now: Ms, timing: &Timing) -> impl Iterator<Item = (NodeId, Heard)> + '_ {
        let act_after = timing.act_after;
        let all = self.last.iter().map(|(node, heard)| (*node, *heard));
        all.filter(move |(_, heard)| now.since(heard.at) < act_after)
    }

    /// Whoever copies or is about to, as far as one can hear, in the highest epoch: nobody else should take over.
    pub fn leader(&self, now: Ms, timing: &Timing) -> Option<(NodeId, Heard)> {
        let leads = |heard: &Heard| matches!(heard.role, Role::Mover | Role::Claimant);
        self.audible(now, timing).filter(|(_, heard)| leads(heard)).max_by_key(|(_, heard)| heard.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_makes_yellow_after_three_beats_and_red_after_the_timeout() {
        let (mut hearing, timing) = (Hearing::default(), Timing::DEFAULT);
        let heard = Heard { incarnation: Incarnation(1), at: Ms(1_000), role: Role::Mover, led: true, epoch: Epoch(1) };
        hearing.note(NodeId(1), heard);
        let colours = [1_750, 1_751, 2_249, 2_250].map(|now| hearing.colour(NodeId(1), Ms(now), &timing));
        assert_eq!(colours, [Colour::Green, Colour::Yellow, Colour::Yellow, Colour::Red]);
        assert_eq!(hearing.colour(NodeId(2), Ms(0), &timing), Colour::Red);
        assert_eq!(hearing.leader(Ms(2_249), &timing).map(|(node, _)| node), Some(NodeId(1)));
        assert_eq!(hearing.leader(Ms(2_250), &timing), None);
    }
}
