//! A node without a part in the migration, that wants one.
//!
//! Pure: part of the state machine in `node.rs`.
//!
//! It is let in by a mover (`Admit`, its key on both LUNs, `Registered`, the first `Window`), or, where nobody leads and
//! somebody held the source once, it becomes a candidate. Registration is not admission (design H11).

use lunferry_scsi::key::NodeId;

use super::candidate::Candidate;
use super::member::Following;
use super::{Node, Phase};
use crate::config::Ms;
use crate::event::{Action, Op};
use crate::message::{Body, Message};
use crate::sight::Lun;

/// What a joining node knows.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    /// Since when it has heard nobody who leads.
    since: Ms,
    /// Who lets it in.
    admitted: Option<NodeId>,
    look_at: Ms,
    /// Whether the mover waits for the answer to its `Admit`.
    owes_answer: bool,
}

impl Joining {
    pub(super) fn new(now: Ms) -> Self {
        Self { since: now, admitted: None, look_at: now, owes_answer: false }
    }

    pub(super) fn woke(&mut self, now: Ms) {
        self.since = now;
    }
}

impl Node {
    pub(super) fn joining_received(&mut self, from: NodeId, message: Message, out: &mut Vec<Action>) {
        let registered = self.seen.sight().is_some_and(|sight| sight.has_both(self.own.key()));
        let (own, heard_epoch) = (self.own.incarnation, self.heard_epoch);
        let Phase::Joining(joining) = &mut self.phase else {
            return;
        };
        match message.body {
            Body::Admit { incarnation } if incarnation == own => {
                joining.admitted = Some(from);
                joining.owes_answer = true;
            }
            Body::Window { incarnation, window, agreed }
                if incarnation == own && registered && message.epoch >= heard_epoch =>
            {
                self.phase = Phase::Member(Following::new(from, message.epoch, agreed, self.now));
                out.push(Action::Act { epoch: message.epoch, agreed });
                self.hold(window, out);
            }
            Body::Admit { .. }
            | Body::Window { .. }
            | Body::Heartbeat { .. }
            | Body::Registered
            | Body::Held { .. }
            | Body::Prepare { .. }
            | Body::Prepared { .. }
            | Body::Refused { .. }
            | Body::Commit { .. }
            | Body::Cancel { .. }
            | Body::Settled { .. }
            | Body::HandOver => {}
        }
    }

    pub(super) fn drive_joining(&mut self, out: &mut Vec<Action>) {
        let leader = self.hearing.leader(self.now, &self.config.timing);
        let (own, now, may_ask, timing) = (self.own.key(), self.now, self.may_ask(), self.config.timing);
        let Phase::Joining(joining) = &mut self.phase else {
            return;
        };
        // Who let this node in may be gone by now; the next one does it anew.
        joining.admitted = joining.admitted.filter(|by| leader.is_some_and(|(node, _)| node == *by));
        let sight = self.seen.sight();
        let registered = sight.is_some_and(|sight| sight.has_both(own));
        if let (Some(mover), Some((_, heard))) = (joining.admitted, leader)
            && joining.owes_answer
            && registered
        {
            joining.owes_answer = false;
            out.push(Action::Send(mover, Message { epoch: heard.epoch, body: Body::Registered }));
        }
        joining.since = joining.since.max(leader.map_or(Ms::default(), |(_, heard)| heard.at));
        if !may_ask {
            return;
        }
        let missing = sight.and_then(|sight| Lun::BOTH.into_iter().find(|lun| !sight.of(*lun).has(own)));
        let begun = self.defined || sight.is_some_and(|sight| sight.source.holder.is_some());
        if let Some(lun) = missing.filter(|_| joining.admitted.is_some()) {
            // What was seen before is out of date then: the next thing is a look.
            joining.look_at = now;
            self.seen.last = None;
            self.ask(Op::Register(lun), out);
        } else if begun && leader.is_none() && now.since(joining.since) >= timing.act_after {
            self.phase = Phase::Candidate(Candidate::new(now, None, None));
            self.drive_candidate(out);
        } else if now >= joining.look_at {
            joining.look_at = now + timing.look_every;
            self.ask(Op::Look, out);
        }
    }
}
