//! A node that follows a mover.
//!
//! Pure: part of the state machine in `node.rs`.

use lunferry_engine::units::Epoch;
use lunferry_scsi::key::NodeId;

use super::candidate::Candidate;
use super::{Node, Phase};
use crate::config::Ms;
use crate::event::{Action, Op, Outcome, Over};
use crate::message::{Agreed, Body, Message, Role, Unfit, Window};

/// Whom a member follows, and how far.
#[derive(Clone, Debug)]
pub(super) struct Following {
    pub(super) mover: NodeId,
    pub(super) epoch: Epoch,
    pub(super) agreed: Agreed,
    /// The last window that it holds; 0 before the first.
    held: u32,
    /// The last step that it was asked to prepare.
    step: u32,
    /// When it last heard of somebody who leads, or gave up an attempt to take over.
    heard: Ms,
    look_at: Ms,
}

impl Following {
    pub(super) fn new(mover: NodeId, epoch: Epoch, agreed: Agreed, now: Ms) -> Self {
        Self { mover, epoch, agreed, held: 0, step: 0, heard: now, look_at: now }
    }

    pub(super) fn woke(&mut self, now: Ms) {
        (self.heard, self.look_at) = (now, now);
    }

    /// The same, with a whole timeout until it tries to take over again.
    pub(super) fn patient(self, now: Ms) -> Self {
        Self { heard: now, ..self }
    }
}

impl Node {
    pub(super) fn member_received(&mut self, from: NodeId, message: Message, out: &mut Vec<Action>) {
        let Message { epoch, body } = message;
        let own = self.own.incarnation;
        let Phase::Member(following) = &self.phase else {
            return;
        };
        if epoch < following.epoch || (epoch == following.epoch && from != following.mover) {
            return;
        }
        match body {
            Body::Heartbeat { role: Role::Mover, agreed, .. } => self.follow(from, epoch, agreed, out),
            Body::Window { incarnation, window, agreed } if incarnation == own => {
                self.follow(from, epoch, agreed, out);
                self.hold(window, out);
            }
            // Only from the mover that it follows by now: what these name is numbered within an epoch.
            Body::Prepare { step, .. } if epoch == following.epoch => self.prepare(step, out),
            Body::Commit { agreed } => {
                self.follow(from, epoch, agreed, out);
                self.send(from, Body::Settled { step: agreed.step }, out);
            }
            Body::Cancel { step } if epoch == following.epoch => self.send(from, Body::Settled { step }, out),
            Body::HandOver if epoch == following.epoch => {
                self.phase = Phase::Candidate(Candidate::new(self.now, Some(following.clone()), Some(from)));
            }
            Body::Heartbeat { .. }
            | Body::Window { .. }
            | Body::Prepare { .. }
            | Body::Cancel { .. }
            | Body::HandOver
            | Body::Admit { .. }
            | Body::Registered
            | Body::Held { .. }
            | Body::Prepared { .. }
            | Body::Refused { .. }
            | Body::Settled { .. } => {}
        }
    }

    /// Something that only a mover says, of this epoch or a later one: what it calls agreed is durable.
    fn follow(&mut self, from: NodeId, epoch: Epoch, agreed: Agreed, out: &mut Vec<Action>) {
        let now = self.now;
        let Phase::Member(following) = &mut self.phase else {
            return;
        };
        following.heard = now;
        if epoch > following.epoch {
            // A new mover: the old window and the steps of the old epoch are forgotten.
            let look_at = following.look_at;
            *following = Following { look_at, ..Following::new(from, epoch, agreed, now) };
            out.push(Action::Act { epoch, agreed });
        } else if agreed.step > following.agreed.step {
            following.agreed = agreed;
            out.push(Action::Act { epoch, agreed });
        }
    }

    pub(super) fn hold(&mut self, window: Window, out: &mut Vec<Action>) {
        let Phase::Member(following) = &mut self.phase else {
            return;
        };
        if window.number > following.held {
            following.held = window.number;
            out.push(Action::Hold(window));
        }
        let (mover, number) = (following.mover, following.held);
        self.send(mover, Body::Held { number }, out);
    }

    fn prepare(&mut self, step: u32, out: &mut Vec<Action>) {
        let unfit = self.unfit.or(self.seen_unfit());
        let Phase::Member(following) = &mut self.phase else {
            return;
        };
        if step < following.step {
            return;
        }
        following.step = step;
        let mover = following.mover;
        match unfit {
            None => self.send(mover, Body::Prepared { step }, out),
            Some(why) => self.send(mover, Body::Refused { step, why }, out),
        }
    }

    /// What its own looks say against a step.
    fn seen_unfit(&self) -> Option<Unfit> {
        let last = self.seen.last.as_ref()?;
        // A look reaches both; which of them has failed is told by the log.
        let is_old = self.now.since(last.0) >= Ms(self.config.timing.look_every.0 * 3);
        if self.lane.failures > 0 || is_old {
            Some(Unfit::Target)
        } else {
            (!last.1.has_both(self.own.key())).then_some(Unfit::Registration)
        }
    }

    pub(super) fn member_answered(&mut self, outcome: &Outcome, out: &mut Vec<Action>) {
        match outcome {
            Outcome::Seen(sight) if !sight.has_both(self.own.key()) => self.end(Over::Fenced, out),
            Outcome::Seen(_) | Outcome::Done | Outcome::Read(_) => {}
            Outcome::Failed(_) => self.gives_up(out),
        }
    }

    pub(super) fn drive_member(&mut self, out: &mut Vec<Action>) {
        let (now, may_ask, timing) = (self.now, self.may_ask(), self.config.timing);
        let heard_at = self.leader_heard_at();
        let Phase::Member(following) = &mut self.phase else {
            return;
        };
        following.heard = following.heard.max(heard_at.unwrap_or_default());
        if now.since(following.heard) >= timing.act_after {
            self.phase = Phase::Candidate(Candidate::new(now, Some(following.clone()), None));
            self.drive_candidate(out);
        } else if may_ask && now >= following.look_at {
            following.look_at = now + timing.look_every;
            self.ask(Op::Look, out);
        }
    }
}
