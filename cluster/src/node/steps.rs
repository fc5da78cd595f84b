//! The agreed step, on the mover's side (design 6).
//!
//! Pure: part of the state machine in `node.rs`.
//!
//! ```text
//!   Preparing -- all are ready, the copy is quiet --> Deciding -- written to both slots --> Settling --> done
//!       |
//!       +-- one refuses, or max_pause is over before the first slot is submitted (H8) --> Cancelling --> done
//! ```

use std::collections::BTreeSet;

use lunferry_engine::checkpoint::state::State;
use lunferry_scsi::key::NodeId;

use super::mover::{Copying, Moving};
use super::{Node, Phase};
use crate::config::Ms;
use crate::event::{Action, Declined, Notice, Wish};
use crate::message::{Agreed, Body, Message, Unfit};

/// A step on its way.
#[derive(Clone, Debug)]
pub(super) struct Step {
    number: u32,
    to: State,
    began: Ms,
    sent: Option<Ms>,
    prepared: BTreeSet<NodeId>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Preparing,
    /// Its checkpoint is on its way.
    Deciding,
    Settling,
    Cancelling,
}

impl Step {
    /// These nodes are no members any more.
    pub(super) fn forget(&mut self, nodes: &BTreeSet<NodeId>) {
        self.prepared.retain(|node| !nodes.contains(node));
    }

    /// Whether the copy must be quiet for it.
    pub(super) fn leaves_syncing(&self) -> bool {
        self.to != State::Syncing && self.stage != Stage::Cancelling
    }
}

impl Moving {
    pub(super) fn prepared(&mut self, from: NodeId, number: u32) {
        if let Some(step) = &mut self.step
            && step.number == number
        {
            step.prepared.insert(from);
        }
    }

    pub(super) fn refused(&mut self, from: NodeId, number: u32, why: Unfit) {
        if self.step.as_ref().is_some_and(|step| step.number == number) {
            self.cancel(Some((from, Some(why))));
        }
    }

    /// Where a step is ready for its decision: the state that it leads to.
    pub(super) fn ready_to_decide(&self) -> Option<State> {
        let step = self.step.as_ref()?;
        let quiet = self.copying == Copying::Idle || !step.leaves_syncing();
        (step.stage == Stage::Preparing && quiet && self.all_prepared(step)).then_some(step.to)
    }

    fn all_prepared(&self, step: &Step) -> bool {
        self.peers.keys().all(|node| step.prepared.contains(node))
    }

    /// The last look before the decision is written. Whether it may be: where not, the step is cancelled.
    pub(super) fn decides(&mut self, now: Ms, max_pause: Ms) -> bool {
        let in_time = |step: &Step| step.stage == Stage::Preparing && now.since(step.began) < max_pause;
        let decides = self.step.as_ref().is_some_and(|step| in_time(step) && self.all_prepared(step));
        match &mut self.step {
            Some(step) if decides => step.stage = Stage::Deciding,
            Some(_) | None => self.cancel(None),
        }
        decides
    }

    /// The decision stands in both slots.
    pub(super) fn decided(&mut self, to: State) {
        let step = self.step.as_mut().expect("a decision belongs to a step");
        step.stage = Stage::Settling;
        step.sent = None;
        self.agreed = Agreed { step: step.number, state: to };
    }

    /// Only before the decision is on its way: afterwards it can't be called back.
    fn cancel(&mut self, by: Option<(NodeId, Option<Unfit>)>) {
        if let Some(step) = &mut self.step
            && step.stage == Stage::Preparing
        {
            step.stage = Stage::Cancelling;
            step.sent = None;
            self.cancelled.push(Notice::Cancelled { to: step.to, by });
        }
    }

    fn begin(&mut self, to: State, now: Ms) {
        self.steps += 1;
        let (number, prepared, stage) = (self.steps, BTreeSet::new(), Stage::Preparing);
        self.step = Some(Step { number, to, began: now, sent: None, prepared, stage });
    }

    fn settled(&self, number: u32) -> bool {
        self.peers.values().all(|peer| peer.settled >= number)
    }

    /// Sends what the step's stage calls for to everybody who has not answered it, and again from time to time.
    fn send_step(&mut self, now: Ms, resend: Ms, out: &mut Vec<Action>) {
        let (agreed, epoch) = (self.agreed, self.epoch);
        let Some(step) = &mut self.step else {
            return;
        };
        if step.sent.is_some_and(|sent| now.since(sent) < resend) {
            return;
        }
        step.sent = Some(now);
        for (node, peer) in &self.peers {
            let body = match step.stage {
                Stage::Preparing if !step.prepared.contains(node) => Body::Prepare { step: step.number, to: step.to },
                Stage::Settling if peer.settled < step.number => Body::Commit { agreed },
                Stage::Cancelling if peer.settled < step.number => Body::Cancel { step: step.number },
                Stage::Preparing | Stage::Deciding | Stage::Settling | Stage::Cancelling => continue,
            };
            out.push(Action::Send(*node, Message { epoch, body }));
        }
    }
}

impl Node {
    pub(super) fn drive_step(&mut self, out: &mut Vec<Action>) {
        let (now, timing, length) = (self.now, self.config.timing, self.config.length);
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        let ends = moving.agreed.state == State::Syncing && moving.copied == length && moving.handing.is_none();
        if ends && moving.step.is_none() && now >= moving.next_step_at {
            moving.begin(State::SourceSelected, now);
        }
        let Some(step) = &moving.step else {
            return;
        };
        let number = step.number;
        match step.stage {
            Stage::Preparing if now.since(step.began) >= timing.max_pause => {
                let late = moving.peers.keys().find(|node| !step.prepared.contains(node)).copied();
                moving.cancel(late.map(|node| (node, None)));
            }
            Stage::Settling if moving.settled(number) => moving.step = None,
            Stage::Cancelling if moving.settled(number) => {
                moving.step = None;
                moving.next_step_at = now + timing.max_pause;
            }
            Stage::Preparing | Stage::Deciding | Stage::Settling | Stage::Cancelling => {}
        }
        out.extend(moving.cancelled.drain(..).map(Action::Tell));
        moving.send_step(now, timing.resend, out);
    }

    pub(super) fn mover_wished(&mut self, wish: Wish, out: &mut Vec<Action>) {
        let now = self.now;
        let is_green = |node| self.is_green(node);
        let Phase::Mover(moving) = &self.phase else {
            return;
        };
        let busy = moving.step.is_some() || moving.handing.is_some();
        let state = moving.agreed.state;
        let declined = match (wish, state) {
            (Wish::Define, _) => Some(Declined::State(state)),
            (Wish::Evict(node), _) if !moving.peers.contains_key(&node) => Some(Declined::NoMember(node)),
            // Also while a step waits for that very node.
            (Wish::Evict(_), _) if moving.handing.is_none() => None,
            (Wish::Evict(_) | Wish::MoveTo(_) | Wish::Sync | Wish::Pause | Wish::Resume, _) if busy => {
                Some(Declined::Busy)
            }
            (Wish::MoveTo(node), _) if !is_green(node) => Some(Declined::NoMember(node)),
            (Wish::Evict(_) | Wish::MoveTo(_), _)
            | (Wish::Sync, State::Defined)
            | (Wish::Pause, State::Syncing)
            | (Wish::Resume, State::Suspended) => None,
            (Wish::Sync | Wish::Pause | Wish::Resume, _) => Some(Declined::State(state)),
        };
        if let Some(why) = declined {
            out.push(Action::Tell(Notice::Declined(wish, why)));
            return;
        }
        let to = match wish {
            Wish::Define => return,
            Wish::Evict(node) => return self.evict(node),
            Wish::MoveTo(node) => return self.hand_over(node),
            Wish::Sync | Wish::Resume => State::Syncing,
            Wish::Pause => State::Suspended,
        };
        if let Phase::Mover(moving) = &mut self.phase {
            moving.begin(to, now);
        }
    }
}
