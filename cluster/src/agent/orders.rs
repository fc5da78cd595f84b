//! Orders that were sent to a mover and wait for its reply, and replies that were given already.
//!
//! Pure: values.

use std::collections::{BTreeMap, VecDeque};

use lunferry_scsi::key::NodeId;
use uuid::Uuid;

use super::io::AskId;
use crate::config::Ms;
use crate::order::{Order, Reply};

/// How long an order waits for its reply: a mover that was silent for so long is being replaced.
pub(super) const PATIENCE: Ms = Ms(5_000);

/// How many replies are remembered for each node that asks. An order is sent again for [`PATIENCE`] at most, and nobody
/// gives that many in that time.
const REMEMBERED: usize = 64;

/// An order on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) ask: AskId,
    pub(super) migration: Uuid,
    pub(super) to: NodeId,
    pub(super) order: Order,
    pub(super) began: Ms,
    pub(super) sent: Ms,
}

/// Both.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    pending: BTreeMap<u64, Pending>,
    given: BTreeMap<NodeId, VecDeque<(u64, Reply)>>,
}

impl Orders {
    pub(super) fn wait(&mut self, id: u64, pending: Pending) {
        self.pending.insert(id, pending);
    }

    /// What the reply of `from` answers.
    pub(super) fn answered(&mut self, from: NodeId, id: u64) -> Option<Pending> {
        let is_its = self.pending.get(&id).is_some_and(|pending| pending.to == from);
        if is_its { self.pending.remove(&id) } else { None }
    }

    /// Those that nobody has answered in time.
    pub(super) fn overdue(&mut self, now: Ms) -> Vec<Pending> {
        let is_overdue = |pending: &Pending| now.since(pending.began) >= PATIENCE;
        let ids: Vec<u64> = self.pending.iter().filter(|(_, pending)| is_overdue(pending)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.pending.remove(&id)).collect()
    }

    /// Those that are to be sent again.
    pub(super) fn due(&mut self, now: Ms, resend: Ms) -> Vec<(u64, Pending)> {
        let due = self.pending.iter_mut().filter(|(_, pending)| now.since(pending.sent) >= resend);
        due.map(|(id, pending)| {
            pending.sent = now;
            (*id, *pending)
        })
        .collect()
    }

    /// What was replied to this order before.
    pub(super) fn given(&self, to: NodeId, id: u64) -> Option<Reply> {
        self.given.get(&to)?.iter().find(|(given, _)| *given == id).map(|(_, reply)| *reply)
    }

    pub(super) fn give(&mut self, to: NodeId, id: u64, reply: Reply) {
        let given = self.given.entry(to).or_default();
        if given.len() >= REMEMBERED {
            given.pop_front();
        }
        given.push_back((id, reply));
    }
}
