//! A node that takes over: it weighs, fences, reads and adopts.
//!
//! Pure: part of the state machine in `node.rs`.
//!
//! ```text
//!   Weighing --- may fence ---> Fencing ---> Reading ---> Adopting: look, write both slots, look ---> Mover
//!      |                           |
//!      +-- a leader is heard ------+-- somebody else holds the source --> back to Member, or Over
//! ```
//!
//! What must hold:
//! - It fences only after a proof of both LUNs, with a majority in hearing, or when the others' sectors stand still (H12).
//! - A holder is preempted only after it has been seen to hold for a while: a nexus that is preempted while its own
//!   PERSISTENT RESERVE OUT is in flight deadlocks LIO (ADR 0008). Who loses goes away by itself.
//! - The checkpoint is read after both fences, and its successor stands in both slots, under a reservation that is looked at
//!   before and after, before anything is sent with the new epoch (H9).

use std::collections::BTreeMap;

use lunferry_engine::checkpoint::state::State;
use lunferry_engine::units::{Bytes, Epoch, Sequence};
use lunferry_scsi::key::{Key, NodeId, OwnKey};

use super::member::Following;
use super::mover::{Moving, Peer};
use super::{Node, Phase};
use crate::config::Ms;
use crate::event::{Action, Checkpoint, Notice, Op, Outcome, Over, Slots, Trouble};
use crate::fence::{Fence, Next};
use crate::sight::Sight;

/// A take-over on its way.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    entered: Ms,
    /// What it comes back to where it loses; nothing for a node that had no part.
    pub(super) origin: Option<Following>,
    /// The mover that has drained and asked for it.
    planned: Option<NodeId>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Weighing,
    Fencing(Fence),
    Reading,
    Adopting { record: Checkpoint, written: bool },
}

/// What a proof leads to.
enum Verdict {
    Wait,
    Withdraw,
    Fence(Option<Key>),
}

impl Candidate {
    pub(super) fn new(now: Ms, origin: Option<Following>, planned: Option<NodeId>) -> Self {
        Self { entered: now, origin, planned, stage: Stage::Weighing }
    }

    /// Who hasn't won yet weighs anew; who has goes by what the storage shows.
    pub(super) fn woke(&mut self, now: Ms) {
        self.entered = now;
        if !self.leads() {
            self.stage = Stage::Weighing;
        }
    }

    pub(super) fn is_fencing(&self) -> bool {
        matches!(self.stage, Stage::Fencing(_))
    }

    /// Whether it holds the source, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        match &self.stage {
            Stage::Weighing => false,
            Stage::Fencing(fence) => fence.is_elected(),
            Stage::Reading | Stage::Adopting { .. } => true,
        }
    }
}

impl Node {
    pub(super) fn drive_candidate(&mut self, out: &mut Vec<Action>) {
        let hears_a_leader = self.hears_a_leader();
        let Phase::Candidate(candidate) = &self.phase else {
            return;
        };
        let op = match &candidate.stage {
            Stage::Weighing if hears_a_leader && candidate.planned.is_none() => {
                self.withdraw(out);
                return;
            }
            Stage::Weighing => Op::Prove,
            Stage::Fencing(_) | Stage::Adopting { .. } => Op::Look,
            Stage::Reading => Op::Read,
        };
        if self.may_ask() {
            self.ask(op, out);
        }
    }

    pub(super) fn candidate_answered(&mut self, op: Op, outcome: Outcome, out: &mut Vec<Action>) {
        let Phase::Candidate(candidate) = &mut self.phase else {
            return;
        };
        match (&mut candidate.stage, outcome) {
            (Stage::Weighing, Outcome::Seen(sight)) => self.weighed(op, &sight, out),
            (Stage::Fencing(_), Outcome::Seen(sight)) => self.fence_on(&sight, out),
            (Stage::Fencing(fence), Outcome::Done) => {
                if let Op::Reset(lun) = op {
                    fence.was_reset(lun);
                }
            }
            (Stage::Reading, Outcome::Read(found)) => self.adopt(found),
            (Stage::Reading, Outcome::Failed(Trouble::Refused)) => self.end(Over::CheckpointRefused, out),
            (Stage::Adopting { record, written }, Outcome::Seen(sight)) => {
                let (record, written) = (*record, *written);
                if !sight.holds_both(self.own.key()) {
                    self.end(Over::Outrun, out);
                } else if written {
                    self.take_office(record, &sight, out);
                } else {
                    self.ask(Op::Write(record, Slots::Both), out);
                }
            }
            (Stage::Adopting { written, .. }, Outcome::Done) => *written = true,
            // A checkpoint that failed may stand in one slot, in both or in none: whoever comes next reads which.
            (Stage::Adopting { .. }, Outcome::Failed(_)) if matches!(op, Op::Write(..)) => {
                self.end(Over::StorageFailed, out);
            }
            // The next look tells; at once, unless that led nowhere before.
            (Stage::Fencing(_), Outcome::Failed(Trouble::Conflict)) => {
                if self.lane.failures == 1 {
                    self.lane.rest_until = self.now;
                }
                self.gives_up(out);
            }
            (
                Stage::Weighing | Stage::Fencing(_) | Stage::Reading | Stage::Adopting { .. },
                Outcome::Failed(Trouble::Conflict | Trouble::Storage | Trouble::Refused),
            ) => self.gives_up(out),
            // An action from before this stage.
            (Stage::Weighing | Stage::Reading, Outcome::Done)
            | (Stage::Weighing | Stage::Fencing(_) | Stage::Adopting { .. }, Outcome::Read(_))
            | (Stage::Reading, Outcome::Seen(_)) => {}
        }
    }

    fn weighed(&mut self, op: Op, sight: &Sight, out: &mut Vec<Action>) {
        if op != Op::Prove {
            return;
        }
        match self.weigh(sight) {
            Verdict::Wait => self.lane.rest_until = self.now + self.config.timing.retry,
            Verdict::Withdraw => self.withdraw(out),
            Verdict::Fence(holder) => {
                if let Phase::Candidate(candidate) = &mut self.phase {
                    candidate.stage = Stage::Fencing(Fence::take_over(self.own, holder));
                }
                self.fence_on(sight, out);
            }
        }
    }

    fn weigh(&self, sight: &Sight) -> Verdict {
        let Phase::Candidate(candidate) = &self.phase else {
            return Verdict::Withdraw;
        };
        let timing = &self.config.timing;
        let was_member = candidate.origin.is_some();
        if was_member && !sight.has_both(self.own.key()) {
            return Verdict::Withdraw;
        }
        let Some(holder) = sight.source.holder else {
            let may_begin = self.defined || was_member;
            return if may_begin { Verdict::Fence(None) } else { Verdict::Withdraw };
        };
        // Somebody else's reservation is never touched.
        let Some(whose) = OwnKey::from_key(holder) else {
            return Verdict::Wait;
        };
        // An earlier attempt of this start has won, and it didn't hear so.
        if whose.same_incarnation(self.own) {
            return Verdict::Fence(None);
        }
        if let Some(mover) = candidate.planned {
            return if whose.node == mover { Verdict::Fence(Some(holder)) } else { Verdict::Withdraw };
        }
        let stood = self.seen.holder.is_some_and(|(_, since)| self.now.since(since) >= timing.stood);
        let waited = self.now.since(candidate.entered);
        let tie_wins = waited >= timing.evict_after + Ms(timing.rank_delay.0 * (self.config.rank() + 1));
        // A node that isn't registered may only come in where the holder is gone on disk as well (H11). An earlier start
        // of this very node is dead.
        let is_gone = whose.node == self.config.me || self.is_still_on_disk(whose.node, candidate.entered);
        if stood && (was_member || is_gone) && self.may_fence(sight, candidate.entered, tie_wins) {
            Verdict::Fence(Some(holder))
        } else {
            Verdict::Wait
        }
    }

    fn fence_on(&mut self, sight: &Sight, out: &mut Vec<Action>) {
        let Phase::Candidate(Candidate { stage: Stage::Fencing(fence), .. }) = &mut self.phase else {
            return;
        };
        let next = fence.next(sight);
        let was_elected = fence.is_elected();
        match next {
            Next::Do(op) => self.ask(op, out),
            Next::Complete => {
                if let Phase::Candidate(candidate) = &mut self.phase {
                    candidate.stage = Stage::Reading;
                }
            }
            Next::Lost if was_elected => self.end(Over::Outrun, out),
            Next::Lost => self.withdraw(out),
        }
    }

    /// Back to where it came from: as a member where it is registered still, else by a new start, whose admission removes
    /// what this one has registered.
    fn withdraw(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let registered = self.seen.sight().is_none_or(|sight| sight.has_both(self.own.key()));
        let Phase::Candidate(candidate) = &mut self.phase else {
            return;
        };
        match candidate.origin.take() {
            Some(origin) if registered => self.phase = Phase::Member(origin.patient(now)),
            Some(_) => self.end(Over::Fenced, out),
            None => self.end(Over::Outrun, out),
        }
    }

    /// Blank slots under a reservation: whoever began the migration died before its first checkpoint, so nothing was copied.
    fn adopt(&mut self, found: Option<Checkpoint>) {
        let blank = Checkpoint {
            epoch: Epoch(0),
            sequence: Sequence(0),
            owner: self.config.me,
            key: self.own.key(),
            state: State::Defined,
            watermark: Bytes::ZERO,
        };
        let found = found.unwrap_or(blank);
        let record = Checkpoint {
            epoch: Epoch(found.epoch.max(self.heard_epoch).0 + 1),
            sequence: Sequence(found.sequence.0 + 1),
            owner: self.config.me,
            key: self.own.key(),
            watermark: found.watermark.min(self.config.length),
            ..found
        };
        if let Phase::Candidate(candidate) = &mut self.phase {
            candidate.stage = Stage::Adopting { record, written: false };
        }
    }

    fn take_office(&mut self, record: Checkpoint, sight: &Sight, out: &mut Vec<Action>) {
        let mut peers = BTreeMap::new();
        let both = |key: &OwnKey| key.node != self.config.me && sight.target.has(key.key());
        for key in sight.source.nodes().filter(both) {
            // Of two starts of one node the one that was heard last lives; the other one is fenced when it is heard again.
            let alive = self.hearing.of(key.node).is_some_and(|heard| heard.incarnation == key.incarnation);
            if alive || !peers.contains_key(&key.node) {
                peers.insert(key.node, Peer::new(key, self.now));
            }
        }
        let moving = Moving::new(record, peers, self.now);
        let agreed = moving.agreed;
        self.phase = Phase::Mover(Box::new(moving));
        self.beat_due = self.now;
        out.push(Action::Act { epoch: record.epoch, agreed });
        out.push(Action::Tell(Notice::TookOver { epoch: record.epoch, from: record.watermark }));
    }
}
