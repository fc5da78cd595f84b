//! Which datagrams are believed: those for this agent, of a start of their sender that has proved to be alive, each once.
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

use lunferry_scsi::key::NodeId;
use uuid::Uuid;

use crate::config::Ms;
use crate::wire::{Boot, Content, Datagram, Entry};

/// How long one challenge counts. Until then no other one is sent to that node, so that a flood of recordings makes no
/// flood of challenges.
const CHALLENGE: Ms = Ms(500);

/// How often at most a challenge of a start that isn't known is answered, so that a flood of recorded ones is no flood of
/// answers.
const ANSWER: Ms = Ms(100);

#[derive(Clone, Debug, Default)]
struct Peer {
    known: Option<(Boot, u64)>,
    challenged: Option<(u64, Ms)>,
    answered_at: Option<Ms>,
}

/// What this agent knows of the others' starts.
#[derive(Clone, Debug)]
pub struct Sessions {
    cluster: Uuid,
    me: NodeId,
    peers: BTreeMap<NodeId, Peer>,
}

/// What a datagram comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Believe it.
    Believe(Vec<Entry>),
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
    /// For another node, or of one that doesn't belong to the cluster.
    Address,
    /// Its counter isn't above the last one: it was overtaken, came by a second network too, or is a recording.
    Replay,
    /// Of a start that isn't known, and was challenged or answered a moment ago.
    Unproven,
    /// An answer that nobody waits for.
    Answer,
}

impl Sessions {
    /// For the node `me` of `nodes`.
    pub fn new(cluster: Uuid, me: NodeId, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let peers = nodes.into_iter().filter(|node| *node != me).map(|node| (node, Peer::default())).collect();
        Self { cluster, me, peers }
    }

    /// Judges a datagram whose MAC was right. `nonce` is random and new each time.
    pub fn judge(&mut self, now: Ms, datagram: Datagram, nonce: u64) -> Verdict {
        if datagram.cluster != self.cluster {
            return Verdict::Drop(Dropped::Cluster);
        }
        let peer = if datagram.receiver == self.me { self.peers.get_mut(&datagram.sender) } else { None };
        let Some(peer) = peer else {
            return Verdict::Drop(Dropped::Address);
        };
        let (boot, counter) = (datagram.boot, datagram.counter);
        match datagram.content {
            Content::Challenge { nonce } => peer.asked(now, boot, counter, nonce),
            Content::Answer { nonce } => peer.answered(now, boot, counter, nonce),
            Content::Entries(entries) => peer.said(now, boot, counter, entries, nonce),
        }
    }
}

impl Peer {
    /// An answer helps nobody who has a recording: it bears this start and its counter, and goes to the peer's own address.
    fn asked(&mut self, now: Ms, boot: Boot, counter: u64, nonce: u64) -> Verdict {
        match &mut self.known {
            Some((known, last)) if *known == boot => {
                if counter <= *last {
                    return Verdict::Drop(Dropped::Replay);
                }
                *last = counter;
            }
            Some(_) | None => {
                if self.answered_at.is_some_and(|at| now.since(at) < ANSWER) {
                    return Verdict::Drop(Dropped::Unproven);
                }
                self.answered_at = Some(now);
            }
        }
        Verdict::Say(Content::Answer { nonce })
    }

    fn answered(&mut self, now: Ms, boot: Boot, counter: u64, nonce: u64) -> Verdict {
        match self.challenged {
            // Whichever start answers a fresh nonce is alive: a recording of an older one must not take its place.
            Some((asked, since)) if asked == nonce && now.since(since) < CHALLENGE => {
                let last = self.known.filter(|(known, _)| *known == boot).map_or(0, |(_, last)| last);
                self.known = Some((boot, counter.max(last)));
                self.challenged = None;
                Verdict::Known
            }
            Some(_) | None => Verdict::Drop(Dropped::Answer),
        }
    }

    fn said(&mut self, now: Ms, boot: Boot, counter: u64, entries: Vec<Entry>, nonce: u64) -> Verdict {
        match &mut self.known {
            Some((known, last)) if *known == boot => {
                if counter <= *last {
                    return Verdict::Drop(Dropped::Replay);
                }
                *last = counter;
                Verdict::Believe(entries)
            }
            Some(_) | None => {
                if self.challenged.is_some_and(|(_, since)| now.since(since) < CHALLENGE) {
                    return Verdict::Drop(Dropped::Unproven);
                }
                self.challenged = Some((nonce, now));
                Verdict::Say(Content::Challenge { nonce })
            }
        }
    }
}
