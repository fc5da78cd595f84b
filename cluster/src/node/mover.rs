//! The node that copies: the holder of both reservations.
//!
//! Pure: part of the state machine in `node.rs`; the agreed steps are in `steps.rs`.
//!
//! What must hold:
//! - It looks at both reservations before each checkpoint, and whatever shows them lost ends it (S1).
//! - A watermark is what was written before a flush that has returned (S7).
//! - The copy runs below the window that every member has acknowledged (S6), and in Syncing alone.
//! - A node is admitted when every other key with its id has been fenced and a look shows its own on both LUNs (H6). It is
//!   in the acknowledging set before it is told so.
//! - A failed flush or checkpoint is never tried again: this start ends, and the next one reads what is there.

use std::collections::{BTreeMap, BTreeSet};

use lunferry_engine::checkpoint::state::State;
use lunferry_engine::units::{Bytes, Epoch, Sequence};
use lunferry_scsi::key::{Incarnation, Key, NodeId, OwnKey};

use super::steps::Step;
use super::{Node, Phase};
use crate::config::{Ms, Silent};
use crate::event::{Action, Checkpoint, Notice, Op, Outcome, Over, Slots, Trouble};
use crate::fence::{Fence, Next};
use crate::hearing::Colour;
use crate::message::{Agreed, Body, Message, Role, Window};
use crate::sight::{Lun, Sight};

/// A member, as its mover sees it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    key: OwnKey,
    /// The last window that it holds.
    held: u32,
    /// The last step that it has heard the end of.
    pub(super) settled: u32,
    /// When it was last heard to hear this mover.
    since: Ms,
}

impl Peer {
    pub(super) fn new(key: OwnKey, now: Ms) -> Self {
        Self { key, held: 0, settled: 0, since: now }
    }
}

/// What the copier does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    Idle,
    /// It may go up to here.
    To(Bytes),
    Stopping,
}

/// What a checkpoint is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Watermark,
    Decision(State),
}

/// What the storage is asked for at the moment.
#[derive(Clone, Debug)]
enum Job {
    Idle,
    Looking,
    Evicting(Fence),
    /// A node says that it's registered.
    Admitting(OwnKey),
    /// Flush, look, write: `upto` was written before the flush began.
    Writing {
        upto: Bytes,
        purpose: Purpose,
    },
}

/// A planned change of mover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handing {
    to: NodeId,
    began: Ms,
    asked: Option<Ms>,
}

/// What a mover knows.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    pub(super) epoch: Epoch,
    pub(super) agreed: Agreed,
    sequence: Sequence,
    /// Everything below is durable, and a checkpoint says so.
    pub(super) durable: Bytes,
    /// Everything below is written.
    pub(super) copied: Bytes,
    window: Window,
    window_sent: Option<Ms>,
    /// How far every member holds.
    acknowledged: Bytes,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) copying: Copying,
    pub(super) step: Option<Step>,
    /// The number of the last step that was begun.
    pub(super) steps: u32,
    pub(super) next_step_at: Ms,
    /// What is to be said of steps that were cancelled.
    pub(super) cancelled: Vec<Notice>,
    pub(super) handing: Option<Handing>,
    /// Keys that are to go.
    evict: BTreeSet<Key>,
    /// Nodes that say that they're registered.
    registered: BTreeSet<NodeId>,
    job: Job,
    began: Ms,
    checkpoint_at: Ms,
    look_at: Ms,
    admits_at: Ms,
}

impl Moving {
    /// From a checkpoint of one's own that stands in both slots.
    pub(super) fn new(record: Checkpoint, peers: BTreeMap<NodeId, Peer>, now: Ms) -> Self {
        let w = record.watermark;
        Self {
            epoch: record.epoch,
            agreed: Agreed { step: 0, state: record.state },
            sequence: record.sequence,
            durable: w,
            copied: w,
            window: Window { number: 1, lo: w, hi: w },
            window_sent: None,
            acknowledged: w,
            peers,
            copying: Copying::Idle,
            step: None,
            steps: 0,
            next_step_at: now,
            cancelled: Vec::new(),
            handing: None,
            evict: BTreeSet::new(),
            registered: BTreeSet::new(),
            job: Job::Idle,
            began: now,
            checkpoint_at: now,
            look_at: now,
            admits_at: now,
        }
    }

    pub(super) fn woke(&mut self, now: Ms) {
        (self.began, self.look_at) = (now, now);
        for peer in self.peers.values_mut() {
            peer.since = now;
        }
    }

    pub(super) fn copy_stopped(&mut self) {
        self.copying = Copying::Idle;
    }

    pub(super) fn is_evicting(&self) -> bool {
        matches!(self.job, Job::Evicting(_))
    }

    pub(super) fn check(&self, length: Bytes) {
        assert!(self.durable <= self.copied && self.copied <= length, "{self:?}: more is durable than was copied");
        assert!(self.acknowledged <= self.window.hi, "{self:?}: more is acknowledged than was asked for");
        if let Copying::To(to) = self.copying {
            assert!(to <= self.acknowledged, "{self:?}: the copy runs past what is held");
        }
    }

    /// Whether the copy may run, as far as states and steps go.
    fn may_copy(&self) -> bool {
        let leaves = self.step.as_ref().is_some_and(Step::leaves_syncing);
        self.agreed.state == State::Syncing && !leaves && self.handing.is_none()
    }

    fn all_hold(&self) -> bool {
        self.peers.values().all(|peer| peer.held >= self.window.number)
    }

    fn evicted(&mut self, victims: &BTreeSet<Key>, out: &mut Vec<Action>) {
        let nodes = victims.iter().filter_map(|key| OwnKey::from_key(*key)).map(|key| key.node);
        let gone: BTreeSet<NodeId> = nodes.collect();
        self.peers.retain(|_, peer| !victims.contains(&peer.key.key()));
        // What a start has said doesn't hold for the next one.
        if let Some(step) = &mut self.step {
            step.forget(&gone);
        }
        out.extend(gone.into_iter().map(|node| Action::Tell(Notice::Evicted(node))));
    }
}

impl Node {
    pub(super) fn mover_received(&mut self, from: NodeId, incarnation: Incarnation, message: Message) {
        let now = self.now;
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        let Message { epoch, body } = message;
        if matches!(body, Body::Heartbeat { role: Role::Mover | Role::Claimant, .. }) && epoch > moving.epoch {
            // The network suggests that somebody has taken over; the storage knows.
            moving.look_at = now;
        }
        if epoch != moving.epoch {
            return;
        }
        let known = moving.peers.get_mut(&from).filter(|peer| peer.key.incarnation == incarnation);
        match (body, known) {
            // Who beats and hears nobody who leads takes no part: a network that is cut one way must not stop the copy.
            (Body::Heartbeat { led: true, .. }, Some(peer)) => peer.since = now,
            (Body::Registered, _) => {
                moving.registered.insert(from);
            }
            (Body::Held { number }, Some(peer)) => peer.held = peer.held.max(number.min(moving.window.number)),
            (Body::Settled { step }, Some(peer)) => peer.settled = peer.settled.max(step.min(moving.steps)),
            (Body::Prepared { step }, Some(_)) => moving.prepared(from, step),
            (Body::Refused { step, why }, Some(_)) => moving.refused(from, step, why),
            (Body::Held { .. } | Body::Settled { .. } | Body::Prepared { .. } | Body::Refused { .. }, None) => {}
            (
                Body::Heartbeat { .. }
                | Body::Admit { .. }
                | Body::Window { .. }
                | Body::Prepare { .. }
                | Body::Commit { .. }
                | Body::Cancel { .. }
                | Body::HandOver,
                _,
            ) => {}
        }
    }

    pub(super) fn drive_mover(&mut self, out: &mut Vec<Action>) {
        self.drive_step(out);
        self.drive_hand_over(out);
        self.drive_window(out);
        self.drive_copy(out);
        self.drive_admission(out);
        self.drive_storage(out);
    }

    fn drive_window(&mut self, out: &mut Vec<Action>) {
        let (now, timing, size, length) = (self.now, self.config.timing, self.config.window, self.config.length);
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        if moving.all_hold() {
            moving.acknowledged = moving.window.hi;
            let hi = Bytes(moving.copied.0.saturating_add(size.0)).min(length);
            let runs_dry = moving.copied.0.saturating_add(size.0 / 2) >= moving.window.hi.0;
            if moving.may_copy() && hi > moving.window.hi && runs_dry {
                moving.window = Window { number: moving.window.number + 1, lo: moving.durable, hi };
                moving.window_sent = None;
                if moving.peers.is_empty() {
                    moving.acknowledged = hi;
                }
            }
        }
        if moving.window_sent.is_some_and(|sent| now.since(sent) < timing.resend) {
            return;
        }
        moving.window_sent = Some(now);
        let (window, agreed, epoch) = (moving.window, moving.agreed, moving.epoch);
        for (node, peer) in moving.peers.iter().filter(|(_, peer)| peer.held < window.number) {
            let body = Body::Window { incarnation: peer.key.incarnation, window, agreed };
            out.push(Action::Send(*node, Message { epoch, body }));
        }
    }

    fn drive_copy(&mut self, out: &mut Vec<Action>) {
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        let (may_copy, to) = (moving.may_copy(), moving.acknowledged);
        let goes_on = match moving.copying {
            Copying::Idle => may_copy && to > moving.copied,
            Copying::To(so_far) => may_copy && to > so_far,
            Copying::Stopping => false,
        };
        if goes_on {
            moving.copying = Copying::To(to);
            out.push(Action::Copy { from: moving.copied, to });
        } else if !may_copy && matches!(moving.copying, Copying::To(_)) {
            moving.copying = Copying::Stopping;
            out.push(Action::StopCopy);
        }
    }

    fn drive_hand_over(&mut self, out: &mut Vec<Action>) {
        let (now, timing) = (self.now, self.config.timing);
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        let Some(handing) = moving.handing else {
            return;
        };
        if now.since(handing.began) >= timing.hand_over {
            moving.handing = None;
            out.push(Action::Tell(Notice::HandOverFailed(handing.to)));
            return;
        }
        // Nothing of its own is on its way to either LUN when the other one preempts.
        let quiet = moving.copying == Copying::Idle && moving.durable == moving.copied;
        let drained = quiet && moving.evict.is_empty() && matches!(moving.job, Job::Idle | Job::Looking);
        if drained && handing.asked.is_none_or(|asked| now.since(asked) >= timing.resend) {
            moving.handing = Some(Handing { asked: Some(now), ..handing });
            out.push(Action::Send(handing.to, Message { epoch: moving.epoch, body: Body::HandOver }));
        }
    }

    /// Drains, then asks `to` to take over.
    pub(super) fn hand_over(&mut self, to: NodeId) {
        let began = self.now;
        if let Phase::Mover(moving) = &mut self.phase {
            moving.handing = Some(Handing { to, began, asked: None });
        }
    }

    /// `node` is to go.
    pub(super) fn evict(&mut self, node: NodeId) {
        if let Phase::Mover(moving) = &mut self.phase {
            moving.evict.extend(moving.peers.get(&node).map(|peer| peer.key.key()));
        }
    }

    /// Lets in who asks, once nothing of its earlier starts is left; gives up on who is silent. Both may need a fence, so both
    /// wait until this node may fence (H12; in a tie the mover does).
    fn drive_admission(&mut self, out: &mut Vec<Action>) {
        let (now, timing) = (self.now, self.config.timing);
        if matches!(&self.phase, Phase::Mover(moving) if now < moving.admits_at) {
            return;
        }
        let silent = self.silent();
        let may_fence = match (&self.phase, self.seen.sight()) {
            (Phase::Mover(moving), Some(sight)) => self.may_fence(sight, moving.began, true),
            _ => false,
        };
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        // While a hand-over waits, nothing but looks may be on its way to the LUNs.
        if moving.handing.is_some() || !may_fence {
            return;
        }
        moving.admits_at = now + timing.resend;
        moving.evict.extend(silent);
        for (node, heard) in self.hearing.audible(now, &timing).filter(|(_, heard)| heard.role == Role::Joining) {
            let key = OwnKey { node, incarnation: heard.incarnation, target_outdated: false };
            let earlier = earlier_starts(self.seen.sight(), key, moving.peers.get(&node));
            if !earlier.is_empty() {
                moving.evict.extend(earlier);
            } else if !moving.peers.contains_key(&node) {
                let body = Body::Admit { incarnation: heard.incarnation };
                out.push(Action::Send(node, Message { epoch: moving.epoch, body }));
            }
        }
    }

    /// Members that have been silent for too long, or deaf.
    fn silent(&self) -> Vec<Key> {
        let Phase::Mover(moving) = &self.phase else {
            return Vec::new();
        };
        let silent = |peer: &&Peer| self.now.since(peer.since) >= self.config.timing.evict_after;
        match self.config.silent {
            Silent::Evict => moving.peers.values().filter(silent).map(|peer| peer.key.key()).collect(),
            Silent::Wait => Vec::new(),
        }
    }

    /// Whether a node is a member that is heard.
    pub(super) fn is_green(&self, node: NodeId) -> bool {
        let member = matches!(&self.phase, Phase::Mover(moving) if moving.peers.contains_key(&node));
        member && self.hearing.colour(node, self.now, &self.config.timing) == Colour::Green
    }

    /// What the storage is asked for next.
    fn drive_storage(&mut self, out: &mut Vec<Action>) {
        if !self.may_ask() {
            return;
        }
        let (now, own, timing) = (self.now, self.own, self.config.timing);
        let hearing = &self.hearing;
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        let op = if !matches!(moving.job, Job::Idle) {
            Op::Look
        } else if !moving.evict.is_empty() && moving.handing.is_none_or(|handing| handing.asked.is_none()) {
            let victims = std::mem::take(&mut moving.evict);
            moving.job = Job::Evicting(Fence::evict(own, victims));
            Op::Look
        } else if let Some(to) = moving.ready_to_decide() {
            moving.job = Job::Writing { upto: moving.copied, purpose: Purpose::Decision(to) };
            Op::Flush
        } else if let Some((node, heard)) =
            moving.registered.pop_first().and_then(|node| Some((node, hearing.of(node)?)))
        {
            moving.job = Job::Admitting(OwnKey { node, incarnation: heard.incarnation, target_outdated: false });
            Op::Look
        } else if moving.copied > moving.durable && (now >= moving.checkpoint_at || moving.handing.is_some()) {
            moving.job = Job::Writing { upto: moving.copied, purpose: Purpose::Watermark };
            moving.checkpoint_at = now + timing.checkpoint_every;
            Op::Flush
        } else if now >= moving.look_at {
            moving.job = Job::Looking;
            Op::Look
        } else {
            return;
        };
        self.ask(op, out);
    }

    pub(super) fn mover_answered(&mut self, op: Op, outcome: Outcome, out: &mut Vec<Action>) {
        let (now, own, timing) = (self.now, self.own, self.config.timing);
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        match outcome {
            Outcome::Seen(sight) if !sight.holds_both(own.key()) => {
                let why = if moving.handing.is_some() { Over::HandedOver } else { Over::Fenced };
                self.end(why, out);
            }
            Outcome::Seen(sight) => {
                moving.look_at = now + timing.look_every;
                self.mover_saw(&sight, out);
            }
            Outcome::Done => match op {
                Op::Reset(lun) => {
                    if let Job::Evicting(fence) = &mut moving.job {
                        fence.was_reset(lun);
                    }
                }
                Op::Write(record, _) => self.written(record, out),
                Op::Look | Op::Prove | Op::Register(_) | Op::Reserve(_) | Op::Preempt(..) | Op::Read | Op::Flush => {}
            },
            Outcome::Read(_) => {}
            Outcome::Failed(trouble) => match op {
                Op::Flush | Op::Write(..) => {
                    let why = if trouble == Trouble::Conflict { Over::Fenced } else { Over::StorageFailed };
                    self.end(why, out);
                }
                Op::Look | Op::Prove | Op::Register(_) | Op::Reserve(_) | Op::Preempt(..) | Op::Reset(_) | Op::Read => {
                    self.gives_up(out)
                }
            },
        }
    }

    /// A look has shown both LUNs held.
    fn mover_saw(&mut self, sight: &Sight, out: &mut Vec<Action>) {
        let (now, max_pause, me, own) = (self.now, self.config.timing.max_pause, self.config.me, self.own);
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        match &mut moving.job {
            Job::Idle => {}
            Job::Looking => moving.job = Job::Idle,
            Job::Evicting(fence) => match fence.next(sight) {
                Next::Do(op) => self.ask(op, out),
                Next::Complete => {
                    let victims = fence.victims().clone();
                    moving.job = Job::Idle;
                    moving.evicted(&victims, out);
                }
                Next::Lost => self.end(Over::Fenced, out),
            },
            Job::Admitting(key) => {
                let key = *key;
                moving.job = Job::Idle;
                let earlier = earlier_starts(Some(sight), key, moving.peers.get(&key.node));
                if !earlier.is_empty() {
                    moving.evict.extend(earlier);
                } else if sight.has_both(key.key()) && !moving.peers.contains_key(&key.node) {
                    moving.peers.insert(key.node, Peer::new(key, now));
                    moving.window_sent = None;
                    out.push(Action::Tell(Notice::Admitted(key.node)));
                }
            }
            Job::Writing { upto, purpose } => {
                let (watermark, purpose) = (*upto, *purpose);
                let (state, slots) = match purpose {
                    Purpose::Watermark => (moving.agreed.state, Slots::Older),
                    // The last moment to cancel (H8): from here on the step is decided by what stands in the slots.
                    Purpose::Decision(_) if !moving.decides(now, max_pause) => {
                        moving.job = Job::Idle;
                        return;
                    }
                    Purpose::Decision(to) => (to, Slots::Both),
                };
                let sequence = Sequence(moving.sequence.0 + 1);
                let (owner, epoch, key) = (me, moving.epoch, own.key());
                self.ask(Op::Write(Checkpoint { epoch, sequence, owner, key, state, watermark }, slots), out);
            }
        }
    }

    fn written(&mut self, record: Checkpoint, out: &mut Vec<Action>) {
        let Phase::Mover(moving) = &mut self.phase else {
            return;
        };
        moving.sequence = record.sequence;
        moving.durable = record.watermark;
        if let Job::Writing { purpose: Purpose::Decision(to), .. } = moving.job {
            moving.decided(to);
            out.push(Action::Act { epoch: moving.epoch, agreed: moving.agreed });
        }
        moving.job = Job::Idle;
    }
}

/// Keys of the same node and of another start, that must go before `key` may come in.
fn earlier_starts(sight: Option<&Sight>, key: OwnKey, peer: Option<&Peer>) -> Vec<Key> {
    let seen = sight.into_iter().flat_map(|sight| Lun::BOTH.into_iter().flat_map(|lun| sight.of(lun).nodes()));
    let all = seen.chain(peer.map(|peer| peer.key));
    all.filter(|other| other.node == key.node && !other.same_incarnation(key)).map(OwnKey::key).collect()
}
