//! What an agent sends: what its nodes say in one turn goes to each other agent in as few datagrams as it fits in.
//!
//! Pure: entries in, datagrams out.

use std::collections::BTreeMap;

use lunferry_scsi::key::NodeId;
use uuid::Uuid;

use super::io::Output;
use crate::config::Ms;
use crate::wire::{Boot, Content, Datagram, Entry, MAX_ENTRIES};

/// One other agent.
#[derive(Clone, Debug, Default)]
struct Letterbox {
    counter: u64,
    waiting: Vec<Entry>,
    sent_at: Ms,
}

/// Everybody's.
#[derive(Clone, Debug)]
pub(super) struct Post {
    cluster: Uuid,
    me: NodeId,
    boot: Boot,
    boxes: BTreeMap<NodeId, Letterbox>,
}

impl Post {
    pub(super) fn new(cluster: Uuid, me: NodeId, boot: Boot, others: impl IntoIterator<Item = NodeId>) -> Self {
        let boxes = others.into_iter().map(|node| (node, Letterbox::default())).collect();
        Self { cluster, me, boot, boxes }
    }

    pub(super) fn boot(&self) -> Boot {
        self.boot
    }

    /// An entry that goes with the next datagram.
    pub(super) fn put(&mut self, to: NodeId, entry: Entry) {
        if let Some(to) = self.boxes.get_mut(&to) {
            to.waiting.push(entry);
        }
    }

    /// A datagram of its own.
    pub(super) fn say(&mut self, now: Ms, to: NodeId, content: Content, out: &mut Vec<Output>) {
        let (cluster, sender, boot) = (self.cluster, self.me, self.boot);
        let Some(this) = self.boxes.get_mut(&to) else {
            return;
        };
        this.counter += 1;
        this.sent_at = now;
        let counter = this.counter;
        out.push(Output::Send(Datagram { cluster, sender, receiver: to, boot, counter, content }));
    }

    /// Sends what waits; where nothing was sent for `silence`, that this agent is alive.
    pub(super) fn flush(&mut self, now: Ms, silence: Ms, out: &mut Vec<Output>) {
        let all: Vec<NodeId> = self.boxes.keys().copied().collect();
        for node in all {
            let Some(this) = self.boxes.get_mut(&node) else {
                continue;
            };
            let waiting = std::mem::take(&mut this.waiting);
            if waiting.is_empty() && now.since(this.sent_at) >= silence {
                self.say(now, node, Content::Entries(Vec::new()), out);
            }
            for part in waiting.chunks(MAX_ENTRIES) {
                self.say(now, node, Content::Entries(part.to_vec()), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lunferry_engine::units::Epoch;
    use lunferry_scsi::key::Incarnation;

    use super::*;
    use crate::message::{Body, Message};
    use crate::wire::Said;

    fn entry(number: u128) -> Entry {
        let said = Said::Message(Message { epoch: Epoch(1), body: Body::Registered });
        Entry { migration: Uuid::from_u128(number), incarnation: Incarnation(1), said }
    }

    fn sent(post: &mut Post, now: u64) -> Vec<(NodeId, u64, usize)> {
        let mut out = Vec::new();
        post.flush(Ms(now), Ms(250), &mut out);
        let datagram = |output| match output {
            Output::Send(Datagram { receiver, counter, content: Content::Entries(entries), .. }) => {
                (receiver, counter, entries.len())
            }
            other => panic!("{other:?}"),
        };
        out.into_iter().map(datagram).collect()
    }

    #[test]
    fn a_turn_goes_in_as_few_datagrams_as_it_fits_in() {
        let mut post = Post::new(Uuid::from_u128(9), NodeId(1), Boot(7), [NodeId(2), NodeId(3)]);
        for number in 0..16 {
            post.put(NodeId(2), entry(number));
        }
        assert_eq!(sent(&mut post, 100), [(NodeId(2), 1, 16)]);
        for number in 0..20 {
            post.put(NodeId(2), entry(number));
        }
        post.put(NodeId(4), entry(0));
        assert_eq!(sent(&mut post, 200), [(NodeId(2), 2, MAX_ENTRIES), (NodeId(2), 3, 20 - MAX_ENTRIES)]);
        assert_eq!(sent(&mut post, 300), [(NodeId(3), 1, 0)], "it's alive");
        assert_eq!(sent(&mut post, 449), []);
        assert_eq!(sent(&mut post, 450), [(NodeId(2), 4, 0)]);
    }
}
