//! One node's part in one migration.
//!
//! Pure: [`Node::handle`] takes the time and one event and appends actions.
//!
//! ```text
//!              proof of both LUNs        Admit, key on both, Window
//!   Starting ---------------------> Joining ------------------> Member <-----------+
//!                                      |                           |               | lost, and
//!           nobody leads, and the      |      the mover is silent, |               | still registered
//!           holder's sector is still   |      or asks to be        v               |
//!                                      +----- relieved --------> Candidate --------+
//!                                                                  |  weighs -> fences -> reads -> adopts
//!                                          own epoch in both slots |
//!                                                                  v
//!   every state ----------------> Over <------------------------ Mover
//!                fenced, outrun, storage failed, handed over
//! ```
//!
//! `Over` is the end of this start: its driver waits until nothing of it is in flight and begins anew with a new incarnation
//! (design H6). That is the one way back in, whatever went wrong.
//!
//! What must hold:
//! - One storage action at a time; whatever a PERSISTENT RESERVE OUT answered, the next thing is a look.
//! - A node sends with an epoch of its own only after the checkpoint with that epoch stands in both slots (design H9).
//! - A node acts on a state only when it stands in both slots: its own write has returned, or a mover said so (S8).
//! - Epoch, window and step that a node goes by never go down.
//! - A silence counts only while this node itself was awake.

mod candidate;
mod joining;
mod member;
mod mover;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use lunferry_engine::checkpoint::state::State;
use lunferry_engine::units::{Bytes, Epoch};
use lunferry_scsi::key::{Incarnation, Key, NodeId, OwnKey};

use self::candidate::Candidate;
use self::joining::Joining;
use self::member::Following;
use self::mover::Moving;
use crate::config::{Config, Ms};
use crate::event::{Action, Declined, Event, Notice, Op, OpId, Outcome, Over, Trouble, Wish};
use crate::hearing::{Heard, Hearing};
use crate::message::{Agreed, Body, Gauges, Message, Role, Unfit};
use crate::sight::{DiskBeat, Sight};

/// How often a node wants to be told the time, at least.
pub const TICK: Ms = Ms(125);

/// A gap between two events from which on a node must have stood still itself: its process or its host was stopped.
const SLEPT: Ms = Ms(TICK.0 * 4);

/// Where a node is. The diagram is in the file's head.
#[derive(Clone, Debug)]
enum Phase {
    Starting,
    Joining(Joining),
    Member(Following),
    Candidate(Candidate),
    Mover(Box<Moving>),
    Over(Over),
}

/// A node's state machine.
#[derive(Clone, Debug)]
pub struct Node {
    config: Config,
    own: OwnKey,
    now: Ms,
    phase: Phase,
    hearing: Hearing,
    /// The highest epoch that anybody has named.
    heard_epoch: Epoch,
    lane: Lane,
    seen: Seen,
    beat_due: Ms,
    beats: u64,
    unfit: Option<Unfit>,
    /// An operator wants the migration to begin.
    defined: bool,
}

/// The one storage action that is on its way.
#[derive(Clone, Debug, Default)]
struct Lane {
    busy: Option<(OpId, Op)>,
    /// When that was asked.
    asked: Ms,
    next: u64,
    rest_until: Ms,
    /// How many in a row have failed.
    failures: u32,
}

/// What looks have shown so far, and since when it has been so.
#[derive(Clone, Debug, Default)]
struct Seen {
    last: Option<(Ms, Sight)>,
    holder: Option<(Key, Ms)>,
    beats: BTreeMap<NodeId, (DiskBeat, Ms)>,
}

impl Seen {
    fn note(&mut self, now: Ms, sight: &Sight) {
        let holder = sight.source.holder;
        let same = self.holder.filter(|(key, _)| Some(*key) == holder);
        self.holder = same.or(holder.map(|holder| (holder, now)));
        for beat in &sight.beats {
            if self.beats.get(&beat.node).is_none_or(|(before, _)| before != beat) {
                self.beats.insert(beat.node, (*beat, now));
            }
        }
        self.last = Some((now, sight.clone()));
    }

    fn sight(&self) -> Option<&Sight> {
        self.last.as_ref().map(|(_, sight)| sight)
    }
}

/// A summary of a node for operators and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is; nothing where this start is over.
    pub role: Option<Role>,
    /// Why this start is over.
    pub over: Option<Over>,
    /// The epoch that it goes by.
    pub epoch: Epoch,
    /// The mover, as far as this node has a part: itself, or whom it follows.
    pub mover: Option<NodeId>,
    /// What it knows to be agreed.
    pub agreed: Option<Agreed>,
    /// Of a mover: everything below is durable.
    pub durable: Option<Bytes>,
    /// Of a mover: everything below is written.
    pub written: Option<Bytes>,
}

impl Node {
    /// A start of a node. `incarnation` is random and new at each start; the driver has both LUNs to itself on this host, and
    /// nothing of an earlier start is in flight (design H6). `now` is the beginning.
    ///
    /// # Panics
    /// Where the config doesn't name this node, or names the nodes out of order.
    pub fn new(config: Config, incarnation: Incarnation, now: Ms) -> Self {
        assert!(config.nodes.contains(&config.me), "node {} is no node of the cluster", config.me.0);
        assert!(config.nodes.windows(2).all(|two| two[0] < two[1]), "the nodes are not in rising order");
        let own = OwnKey { node: config.me, incarnation, target_outdated: false };
        Self {
            config,
            own,
            now,
            phase: Phase::Starting,
            hearing: Hearing::default(),
            heard_epoch: Epoch(0),
            lane: Lane::default(),
            seen: Seen::default(),
            beat_due: now,
            beats: 0,
            unfit: None,
            defined: false,
        }
    }

    /// Takes one event. `now` never goes back.
    ///
    /// # Panics
    /// Where `now` went back, or where a state was reached that no sequence of events may lead to.
    pub fn handle(&mut self, now: Ms, event: Event, out: &mut Vec<Action>) {
        assert!(now >= self.now, "time went back from {} ms to {} ms", self.now.0, now.0);
        let slept = now.since(self.now) >= SLEPT;
        self.now = now;
        if slept {
            self.woke();
        }
        match event {
            Event::Tick => {}
            Event::Received { from, incarnation, message } => self.received(from, incarnation, message, out),
            Event::Storage(id, outcome) => self.answered(id, outcome, out),
            Event::Copied(to) => self.copied(to),
            Event::CopyStopped => self.copy_stopped(),
            Event::CopyFailed(trouble) => self.copy_failed(trouble, out),
            Event::Fitness(unfit) => self.unfit = unfit,
            Event::Wish(wish) => self.wished(wish, out),
        }
        self.minds_the_lane(out);
        self.drive(out);
        self.beat(out);
        self.check();
    }

    /// What this node is at the moment.
    pub fn status(&self) -> Status {
        let over = if let Phase::Over(why) = &self.phase { Some(*why) } else { None };
        let moving = if let Phase::Mover(moving) = &self.phase { Some(moving) } else { None };
        let (durable, written) = (moving.map(|moving| moving.durable), moving.map(|moving| moving.copied));
        let (epoch, mover, agreed) = (self.epoch(), self.mover(), self.agreed());
        Status { role: self.role(), over, epoch, mover, agreed, durable, written }
    }

    /// Of a mover: a member that is heard, to whom it can hand over.
    pub fn heir(&self) -> Option<NodeId> {
        let mut others = self.config.others();
        others.find(|node| self.is_green(*node))
    }

    /// This start's key.
    pub fn key(&self) -> OwnKey {
        self.own
    }

    fn role(&self) -> Option<Role> {
        Some(match &self.phase {
            Phase::Starting => Role::Starting,
            Phase::Joining(_) => Role::Joining,
            Phase::Member(_) => Role::Member,
            Phase::Candidate(candidate) if candidate.leads() => Role::Claimant,
            Phase::Candidate(_) => Role::Candidate,
            Phase::Mover(_) => Role::Mover,
            Phase::Over(_) => return None,
        })
    }

    fn epoch(&self) -> Epoch {
        match &self.phase {
            Phase::Member(following) => following.epoch,
            Phase::Candidate(candidate) => candidate.origin.as_ref().map_or(Epoch(0), |following| following.epoch),
            Phase::Mover(moving) => moving.epoch,
            Phase::Starting | Phase::Joining(_) | Phase::Over(_) => Epoch(0),
        }
    }

    fn mover(&self) -> Option<NodeId> {
        match &self.phase {
            Phase::Member(following) => Some(following.mover),
            Phase::Mover(_) => Some(self.config.me),
            Phase::Starting | Phase::Joining(_) | Phase::Candidate(_) | Phase::Over(_) => None,
        }
    }

    fn agreed(&self) -> Option<Agreed> {
        match &self.phase {
            Phase::Member(following) => Some(following.agreed),
            Phase::Candidate(candidate) => candidate.origin.as_ref().map(|following| following.agreed),
            Phase::Mover(moving) => Some(moving.agreed),
            Phase::Starting | Phase::Joining(_) | Phase::Over(_) => None,
        }
    }

    /// This node has stood still. What it didn't hear or see meanwhile says nothing of others: all watching begins anew, or it
    /// would fence who is alive.
    fn woke(&mut self) {
        let now = self.now;
        // What is on its way stood still too.
        self.lane.asked = now;
        self.seen.holder = None;
        self.seen.beats.clear();
        match &mut self.phase {
            Phase::Joining(joining) => joining.woke(now),
            Phase::Member(following) => following.woke(now),
            Phase::Candidate(candidate) => candidate.woke(now),
            Phase::Mover(moving) => moving.woke(now),
            Phase::Starting | Phase::Over(_) => {}
        }
    }

    fn received(&mut self, from: NodeId, incarnation: Incarnation, message: Message, out: &mut Vec<Action>) {
        if from == self.config.me || !self.config.nodes.contains(&from) {
            return;
        }
        let Message { epoch, body } = message;
        self.heard_epoch = self.heard_epoch.max(epoch);
        if let Body::Heartbeat { role, led, .. } = body {
            self.hearing.note(from, Heard { incarnation, at: self.now, role, led, epoch });
        }
        match &self.phase {
            Phase::Joining(_) => self.joining_received(from, message, out),
            Phase::Member(_) => self.member_received(from, message, out),
            Phase::Mover(_) => self.mover_received(from, incarnation, message),
            // A candidate listens to heartbeats alone: it goes by the storage now.
            Phase::Starting | Phase::Candidate(_) | Phase::Over(_) => {}
        }
    }

    fn answered(&mut self, id: OpId, outcome: Outcome, out: &mut Vec<Action>) {
        let op = match self.lane.busy {
            Some((busy, op)) if busy == id => op,
            Some(_) | None => return,
        };
        self.lane.busy = None;
        match &outcome {
            Outcome::Seen(sight) => {
                // A fence looks after each action: what counts there is whether the actions get anywhere.
                if !self.is_fencing() {
                    self.lane.failures = 0;
                }
                self.seen.note(self.now, sight);
            }
            Outcome::Done | Outcome::Read(_) => self.lane.failures = 0,
            Outcome::Failed(_) => {
                self.lane.failures += 1;
                self.lane.rest_until = self.now + self.config.timing.retry;
            }
        }
        match &self.phase {
            Phase::Starting => {
                if matches!(outcome, Outcome::Seen(_)) {
                    self.phase = Phase::Joining(Joining::new(self.now));
                }
            }
            Phase::Joining(_) => {
                self.gives_up(out);
            }
            Phase::Member(_) => self.member_answered(&outcome, out),
            Phase::Candidate(_) => self.candidate_answered(op, outcome, out),
            Phase::Mover(_) => self.mover_answered(op, outcome, out),
            Phase::Over(_) => {}
        }
    }

    fn copied(&mut self, to: Bytes) {
        match &mut self.phase {
            Phase::Mover(moving) => moving.copied = moving.copied.max(to.min(self.config.length)),
            Phase::Starting | Phase::Joining(_) | Phase::Member(_) | Phase::Candidate(_) | Phase::Over(_) => {}
        }
    }

    fn copy_stopped(&mut self) {
        match &mut self.phase {
            Phase::Mover(moving) => moving.copy_stopped(),
            Phase::Starting | Phase::Joining(_) | Phase::Member(_) | Phase::Candidate(_) | Phase::Over(_) => {}
        }
    }

    /// A mover whose copy fails is of no use: whoever can, shall take over, this node's next start among them.
    fn copy_failed(&mut self, trouble: Trouble, out: &mut Vec<Action>) {
        match &self.phase {
            Phase::Mover(_) => {
                let why = if trouble == Trouble::Conflict { Over::Fenced } else { Over::StorageFailed };
                self.end(why, out);
            }
            Phase::Starting | Phase::Joining(_) | Phase::Member(_) | Phase::Candidate(_) | Phase::Over(_) => {}
        }
    }

    fn wished(&mut self, wish: Wish, out: &mut Vec<Action>) {
        match &self.phase {
            Phase::Mover(_) => self.mover_wished(wish, out),
            Phase::Starting | Phase::Joining(_) if wish == Wish::Define => self.defined = true,
            Phase::Starting | Phase::Joining(_) | Phase::Member(_) | Phase::Candidate(_) | Phase::Over(_) => {
                out.push(Action::Tell(Notice::Declined(wish, Declined::NotMover)));
            }
        }
    }

    /// Does what is due, after each event.
    fn drive(&mut self, out: &mut Vec<Action>) {
        match &self.phase {
            Phase::Starting => {
                if self.may_ask() {
                    self.ask(Op::Prove, out);
                }
            }
            Phase::Joining(_) => self.drive_joining(out),
            Phase::Member(_) => self.drive_member(out),
            Phase::Candidate(_) => self.drive_candidate(out),
            Phase::Mover(_) => self.drive_mover(out),
            Phase::Over(_) => {}
        }
    }

    fn beat(&mut self, out: &mut Vec<Action>) {
        let Some(role) = self.role() else {
            return;
        };
        if self.now < self.beat_due {
            return;
        }
        // On a grid, so that one agent's nodes beat in the same moment and share their datagrams, whatever else wakes them.
        let beat = self.config.timing.beat.0;
        self.beat_due = Ms((self.now.0 / beat + 1) * beat);
        let agreed = self.agreed().unwrap_or(Agreed { step: 0, state: State::Defined });
        let lo = if let Phase::Mover(moving) = &self.phase { moving.durable } else { Bytes::ZERO };
        let led = matches!(role, Role::Mover | Role::Claimant) || self.hears_a_leader();
        let body = Body::Heartbeat { role, led, agreed, lo, gauges: Gauges::NONE };
        let epoch = self.epoch();
        out.extend(self.config.others().map(|node| Action::Send(node, Message { epoch, body })));
        if matches!(role, Role::Member | Role::Candidate | Role::Claimant | Role::Mover) {
            self.beats += 1;
            out.push(Action::BeatDisk(self.beats));
        }
    }

    fn check(&self) {
        if let Phase::Mover(moving) = &self.phase {
            moving.check(self.config.length);
        }
    }

    fn may_ask(&self) -> bool {
        self.lane.busy.is_none() && self.now >= self.lane.rest_until
    }

    fn ask(&mut self, op: Op, out: &mut Vec<Action>) {
        assert!(self.lane.busy.is_none(), "two storage actions at a time: {op:?} beside {:?}", self.lane.busy);
        let id = OpId(self.lane.next);
        self.lane.next += 1;
        self.lane.busy = Some((id, op));
        self.lane.asked = self.now;
        out.push(Action::Storage(id, op));
    }

    fn send(&self, to: NodeId, body: Body, out: &mut Vec<Action>) {
        out.push(Action::Send(to, Message { epoch: self.epoch(), body }));
    }

    fn end(&mut self, why: Over, out: &mut Vec<Action>) {
        self.phase = Phase::Over(why);
        out.push(Action::BeginAnew(why));
    }

    fn is_fencing(&self) -> bool {
        match &self.phase {
            Phase::Candidate(candidate) => candidate.is_fencing(),
            Phase::Mover(moving) => moving.is_evicting(),
            Phase::Starting | Phase::Joining(_) | Phase::Member(_) | Phase::Over(_) => false,
        }
    }

    /// Who leads and gets no answer of its storage keeps others from leading. A reset may wait out the device's own time.
    fn minds_the_lane(&mut self, out: &mut Vec<Action>) {
        let hangs = self.lane.busy.is_some_and(|(_, op)| !matches!(op, Op::Reset(_)))
            && self.now.since(self.lane.asked) >= self.config.timing.stuck_after;
        if hangs && matches!(self.role(), Some(Role::Mover | Role::Claimant)) {
            self.end(Over::StorageFailed, out);
        }
    }

    /// Ends this start where the storage has failed too often in a row.
    fn gives_up(&mut self, out: &mut Vec<Action>) {
        if self.lane.failures >= self.config.timing.tries {
            self.end(Over::StorageFailed, out);
        }
    }

    /// When somebody who leads was heard last, where that isn't too long ago.
    fn leader_heard_at(&self) -> Option<Ms> {
        self.hearing.leader(self.now, &self.config.timing).map(|(_, heard)| heard.at)
    }

    /// Whether somebody else leads, as far as one can hear.
    fn hears_a_leader(&self) -> bool {
        self.hearing.leader(self.now, &self.config.timing).is_some()
    }

    /// Whether `node`'s heartbeat sector has stood still for long enough, by looks up to the last one. A node that never
    /// wrote one counts from the first look on.
    fn is_still_on_disk(&self, node: NodeId, watched_since: Ms) -> bool {
        let since = self.seen.beats.get(&node).map_or(watched_since, |(_, since)| *since);
        let looked = self.seen.last.as_ref().map_or(watched_since, |(at, _)| *at);
        looked.since(since.max(watched_since)) >= self.config.timing.stale_after
    }

    /// Design H12: whether enough of the registered nodes are in hearing and of one mind for a fence, or nobody else is alive
    /// at all. A tie counts where `tie_wins`.
    ///
    /// Of one mind: those who hear a leader count for a mover, the others for a candidate. So a mover that some don't hear
    /// and a candidate that doesn't hear it never have a majority both, and don't preempt each other at the same time.
    fn may_fence(&self, sight: &Sight, watched_since: Ms, tie_wins: bool) -> bool {
        let mut registered: Vec<NodeId> = sight.source.nodes().map(|key| key.node).collect();
        registered.push(self.config.me);
        registered.sort_unstable();
        registered.dedup();
        let leads = matches!(self.role(), Some(Role::Mover));
        let audible = self.hearing.audible(self.now, &self.config.timing).filter(|(_, heard)| heard.led == leads);
        let agreeing: Vec<NodeId> = audible.map(|(node, _)| node).collect();
        let is_present = |node: &NodeId| *node == self.config.me || agreeing.contains(node);
        let (present, absent): (Vec<NodeId>, Vec<NodeId>) = registered.into_iter().partition(is_present);
        present.len() > absent.len()
            || (tie_wins && present.len() == absent.len())
            || absent.iter().all(|node| self.is_still_on_disk(*node, watched_since))
    }
}
