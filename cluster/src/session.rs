//! Which datagrams are believed: those for this node, of a start of their sender that has proved to be alive, each once.
//!
//! Pure: a decoded datagram in, what to do with it out. Nonces are handed in.
//!
//! ```text
//!   unknown start: not believed, challenged --- the right answer of that start ---> known start
//!   known start:   believed where its counter is above the last one
//! ```
//!
//! What must hold: a recorded datagram is never believed again. Of a known start its counter is used up; a start that was
//! replaced by a later one is unknown again, and no recording answers a nonce that was never used before.

use std::collections::BTreeMap;

use lunferry_scsi::key::{Incarnation, NodeId};
use uuid::Uuid;

use crate::config::Ms;
use crate::message::Message;
use crate::wire::{Content, Datagram};

/// How long one challenge counts. Until then no other one is sent to that node, so that a flood of recordings makes no
/// flood of challenges.
const CHALLENGE: Ms = Ms(500);

#[derive(Clone, Debug, Default)]
struct Peer {
    known: Option<(Incarnation, u64)>,
    challenged: Option<(Incarnation, u64, Ms)>,
}

/// What this node knows of the others' starts.
#[derive(Clone, Debug)]
pub struct Sessions {
    cluster: Uuid,
    migration: Uuid,
    me: NodeId,
    peers: BTreeMap<NodeId, Peer>,
}

/// What a datagram comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Believe it.
    Believe(Message),
    /// Send the sender this; what came is dropped.
    Say(Content),
    /// It was an answer; from now on this start is believed.
    Known,
    /// Drop it, count it, say nothing.
    Drop(Dropped),
}

/// Why it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// Of another cluster.
    Cluster,
    /// Of another migration.
    Migration,
    /// For another node, or of one that doesn't belong to the cluster.
    Address,
    /// Its counter isn't above the last one.
    Replay,
    /// Of a start that is challenged already.
    Unproven,
    /// An answer that nobody waits for.
    Answer,
}

impl Sessions {
    /// For the node `me` of `nodes`.
    pub fn new(cluster: Uuid, migration: Uuid, me: NodeId, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let peers = nodes.into_iter().filter(|node| *node != me).map(|node| (node, Peer::default())).collect();
        Self { cluster, migration, me, peers }
    }

    /// Judges a datagram whose MAC was right. `nonce` is random and new each time.
    pub fn judge(&mut self, now: Ms, datagram: &Datagram, nonce: u64) -> Verdict {
        if datagram.cluster != self.cluster {
            return Verdict::Drop(Dropped::Cluster);
        }
        if datagram.migration != self.migration {
            return Verdict::Drop(Dropped::Migration);
        }
        let peer = if datagram.receiver == self.me { self.peers.get_mut(&datagram.sender) } else { None };
        let Some(peer) = peer else {
            return Verdict::Drop(Dropped::Address);
        };
        match datagram.content {
            // It costs the same to answer a recording, and helps nobody: the answer bears this start and its counter.
            Content::Challenge { nonce } => Verdict::Say(Content::Answer { nonce }),
            Content::Answer { nonce } => peer.answered(now, datagram, nonce),
            Content::Message(message) => peer.said(now, datagram, message, nonce),
        }
    }
}

impl Peer {
    fn answered(&mut self, now: Ms, datagram: &Datagram, nonce: u64) -> Verdict {
        match self.challenged {
            Some((incarnation, asked, since))
                if incarnation == datagram.incarnation && asked == nonce && now.since(since) < CHALLENGE =>
            {
                self.known = Some((incarnation, datagram.counter));
                self.challenged = None;
                Verdict::Known
            }
            Some(_) | None => Verdict::Drop(Dropped::Answer),
        }
    }

    fn said(&mut self, now: Ms, datagram: &Datagram, message: Message, nonce: u64) -> Verdict {
        match &mut self.known {
            Some((incarnation, last)) if *incarnation == datagram.incarnation => {
                if datagram.counter <= *last {
                    return Verdict::Drop(Dropped::Replay);
                }
                *last = datagram.counter;
                Verdict::Believe(message)
            }
            Some(_) | None => {
                if self.challenged.is_some_and(|(_, _, since)| now.since(since) < CHALLENGE) {
                    return Verdict::Drop(Dropped::Unproven);
                }
                self.challenged = Some((datagram.incarnation, nonce, now));
                Verdict::Say(Content::Challenge { nonce })
            }
        }
    }
}
