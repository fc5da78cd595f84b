//! Tests of the state machine on its own: every phase meets every event.
//!
//! Pure: as what it tests.

use std::collections::BTreeSet;

use lunferry_engine::units::Sequence;

use super::*;
use crate::config::{Silent, Timing};
use crate::event::{Checkpoint, Slots};
use crate::fence::{Fence, Next};
use crate::message::{Gauges, Window};
use crate::sight::{Lun, Standing};

const ME: OwnKey = OwnKey { node: NodeId(1), incarnation: Incarnation(11), target_outdated: false };
const OTHER: OwnKey = OwnKey { node: NodeId(2), incarnation: Incarnation(22), target_outdated: false };

fn config() -> Config {
    let nodes = vec![NodeId(1), NodeId(2), NodeId(3)];
    let (length, window) = (Bytes::mib(64), Bytes::mib(8));
    Config { me: ME.node, nodes, length, window, silent: Silent::Evict, timing: Timing::DEFAULT }
}

fn sight(keys: &[OwnKey], holder: Option<OwnKey>) -> Sight {
    let keys: BTreeSet<Key> = keys.iter().map(|key| key.key()).collect();
    let standing = Standing { keys, holder: holder.map(OwnKey::key) };
    Sight { source: standing.clone(), target: standing, beats: Vec::new() }
}

/// A node and what it has asked for.
struct Driven {
    node: Node,
    now: Ms,
    out: Vec<Action>,
}

impl Driven {
    fn new() -> Self {
        let mut driven = Self { node: Node::new(config(), ME.incarnation, Ms(1_000)), now: Ms(1_000), out: Vec::new() };
        driven.give(Event::Tick);
        driven
    }

    fn give(&mut self, event: Event) {
        self.out.clear();
        self.node.handle(self.now, event, &mut self.out);
    }

    fn hear(&mut self, body: Body, epoch: u64) {
        let message = Message { epoch: Epoch(epoch), body };
        self.give(Event::Received { from: OTHER.node, incarnation: OTHER.incarnation, message });
    }

    fn asked(&self) -> Option<Op> {
        self.node.lane.busy.map(|(_, op)| op)
    }

    fn answer(&mut self, outcome: Outcome) {
        let (id, _) = self.node.lane.busy.expect("something was asked");
        self.give(Event::Storage(id, outcome));
    }

    /// Ticks until the node asks the storage for something; with a limit, since a node that never asks is stuck.
    fn until_asked(&mut self) -> Op {
        for _ in 0..200 {
            if let Some(op) = self.asked() {
                return op;
            }
            self.now = self.now + TICK;
            self.give(Event::Tick);
        }
        panic!("nothing is asked: {:?}", self.node.phase);
    }

    fn answer_with(&mut self, sight: &Sight) {
        match self.until_asked() {
            Op::Look | Op::Prove => self.answer(Outcome::Seen(sight.clone())),
            Op::Read => self.answer(Outcome::Read(None)),
            Op::Register(_) | Op::Reserve(_) | Op::Preempt(..) | Op::Reset(_) | Op::Flush | Op::Write(..) => {
                self.answer(Outcome::Done);
            }
        }
    }

    fn joining() -> Self {
        let mut driven = Self::new();
        driven.answer_with(&sight(&[], None));
        driven
    }

    fn member() -> Self {
        let mut driven = Self::joining();
        for _ in 0..6 {
            driven.hear(heartbeat(), 5);
            driven.hear(Body::Admit { incarnation: ME.incarnation }, 5);
            driven.answer_with(&sight(&[ME, OTHER], Some(OTHER)));
        }
        driven.hear(heartbeat(), 5);
        driven.hear(window(1), 5);
        assert_eq!(driven.node.role(), Some(Role::Member), "{:?}", driven.node.phase);
        driven
    }

    /// A member whose mover has fallen silent.
    fn weighing() -> Self {
        let mut driven = Self::member();
        for _ in 0..12 {
            driven.now = driven.now + TICK;
            driven.give(Event::Tick);
        }
        assert_eq!(driven.node.role(), Some(Role::Candidate), "{:?}", driven.node.phase);
        driven
    }

    /// Candidates at each of their stages, and in the end the mover.
    fn taking_over() -> Vec<Self> {
        let mut all = Vec::new();
        let mut driven = Self::joining();
        driven.give(Event::Wish(Wish::Define));
        for _ in 0..60 {
            if driven.node.role() == Some(Role::Mover) {
                break;
            }
            driven.answer_with(&sight(&[ME], Some(ME)));
            all.push(driven.copy());
        }
        assert_eq!(driven.node.role(), Some(Role::Mover), "{:?}", driven.node.phase);
        all
    }

    fn mover_with_a_member(step: Option<Wish>) -> Self {
        let mut driven = Self::taking_over().pop().expect("a mover");
        driven.hear(heartbeat_as(Role::Joining), 0);
        for _ in 0..8 {
            driven.hear(Body::Registered, driven.node.epoch().0);
            driven.answer_with(&sight(&[ME, OTHER], Some(ME)));
        }
        let member = matches!(&driven.node.phase, Phase::Mover(moving) if moving.peers.contains_key(&OTHER.node));
        assert!(member, "{:?}", driven.node.phase);
        if let Some(wish) = step {
            driven.give(Event::Wish(wish));
        }
        driven
    }

    fn over() -> Self {
        let mut driven = Self::member();
        driven.now = driven.now + Ms(5_000);
        driven.give(Event::Tick);
        for _ in 0..5 {
            if driven.node.role().is_some() {
                driven.answer_with(&sight(&[OTHER], Some(OTHER)));
            }
        }
        assert_eq!(driven.node.status().over, Some(Over::Fenced));
        driven
    }

    fn copy(&self) -> Self {
        Self { node: self.node.clone(), now: self.now, out: Vec::new() }
    }
}

fn agreed(step: u32) -> Agreed {
    Agreed { step, state: State::Syncing }
}

fn heartbeat() -> Body {
    heartbeat_as(Role::Mover)
}

fn heartbeat_as(role: Role) -> Body {
    Body::Heartbeat { role, led: true, agreed: agreed(0), lo: Bytes::ZERO, gauges: Gauges::NONE }
}

fn window(number: u32) -> Body {
    let window = Window { number, lo: Bytes::ZERO, hi: Bytes::mib(1) };
    Body::Window { incarnation: ME.incarnation, window, agreed: agreed(0) }
}

fn every_phase() -> Vec<Driven> {
    let mut all = vec![Driven::new(), Driven::joining(), Driven::member(), Driven::weighing(), Driven::over()];
    all.extend(Driven::taking_over());
    for wish in [None, Some(Wish::Sync), Some(Wish::MoveTo(OTHER.node)), Some(Wish::Evict(OTHER.node))] {
        all.push(Driven::mover_with_a_member(wish));
    }
    all
}

fn every_body() -> Vec<Body> {
    let mut all = vec![
        Body::Admit { incarnation: ME.incarnation },
        Body::Admit { incarnation: Incarnation(99) },
        Body::Registered,
        window(1),
        window(7),
        Body::Held { number: u32::MAX },
        Body::Commit { agreed: agreed(u32::MAX) },
        Body::Cancel { step: 1 },
        Body::Settled { step: u32::MAX },
        Body::HandOver,
    ];
    let roles = Role::ALL.into_iter().flat_map(|role| [true, false].map(|led| (role, led)));
    let (lo, gauges) = (Bytes(u64::MAX), Gauges::NONE);
    all.extend(roles.map(|(role, led)| Body::Heartbeat { role, led, agreed: agreed(1), lo, gauges }));
    for to in State::ALL {
        all.extend([0, 1, u32::MAX].map(|step| Body::Prepare { step, to }));
    }
    all.extend([0, 1, u32::MAX].map(|step| Body::Prepared { step }));
    all.extend(Unfit::ALL.map(|why| Body::Refused { step: 1, why }));
    all
}

fn every_event(id: OpId) -> Vec<Event> {
    let mut all = vec![Event::Tick, Event::CopyStopped, Event::Fitness(None)];
    all.extend(Unfit::ALL.map(|unfit| Event::Fitness(Some(unfit))));
    all.extend([0, 1 << 20, u64::MAX].map(|at| Event::Copied(Bytes(at))));
    let nodes = [ME.node, OTHER.node, NodeId(9)];
    let wishes = [Wish::Define, Wish::Sync, Wish::Pause, Wish::Resume];
    all.extend(wishes.map(Event::Wish));
    all.extend(nodes.into_iter().flat_map(|node| [Wish::MoveTo(node), Wish::Evict(node)]).map(Event::Wish));
    let record = Checkpoint {
        epoch: Epoch(7),
        sequence: Sequence(8),
        owner: OTHER.node,
        key: OTHER.key(),
        state: State::Syncing,
        watermark: Bytes(u64::MAX),
    };
    let mut outcomes = vec![Outcome::Done, Outcome::Read(None), Outcome::Read(Some(record))];
    for trouble in [Trouble::Conflict, Trouble::Storage, Trouble::Refused] {
        outcomes.push(Outcome::Failed(trouble));
        all.push(Event::CopyFailed(trouble));
    }
    let foreign = Sight { source: Standing { keys: [Key(5)].into(), holder: Some(Key(5)) }, ..Sight::default() };
    let sights = [sight(&[], None), sight(&[ME], Some(ME)), sight(&[ME, OTHER], Some(OTHER)), foreign];
    outcomes.extend(sights.map(Outcome::Seen));
    for outcome in outcomes {
        all.extend([id, OpId(u64::MAX)].map(|id| Event::Storage(id, outcome.clone())));
    }
    for body in every_body() {
        for (from, epoch) in [(2, 0), (2, 1), (2, 5), (2, 6), (2, u64::MAX >> 1), (3, 5), (1, 5), (9, 9)] {
            let message = Message { epoch: Epoch(epoch), body };
            all.push(Event::Received { from: NodeId(from), incarnation: Incarnation(from.into()), message });
            all.push(Event::Received { from: NodeId(from), incarnation: OTHER.incarnation, message });
        }
    }
    all
}

#[test]
fn every_phase_takes_every_event_and_goes_on() {
    let phases = every_phase();
    let roles: BTreeSet<String> = phases.iter().map(|driven| format!("{:?}", driven.node.role())).collect();
    assert_eq!(roles.len(), Role::ALL.len() + 1, "a phase is missing among {roles:?}");
    for driven in &phases {
        let id = driven.node.lane.busy.map_or(OpId(0), |(id, _)| id);
        for event in every_event(id) {
            for pause in [Ms(0), Ms(300), Ms(120_000)] {
                let mut driven = driven.copy();
                let before = driven.node.epoch();
                driven.now = driven.now + pause;
                driven.give(event.clone());
                let over = driven.node.status().over;
                let is_told = driven.out.iter().any(|action| matches!(action, Action::BeginAnew(_)));
                assert!(over.is_none() || is_told || !driven.sends(), "{event:?}: it is over, and goes on");
                let (is_member, after) = (driven.node.role() == Some(Role::Member), driven.node.epoch());
                assert!(!is_member || after >= before, "{event:?}: the epoch went down from {before:?} to {after:?}");
                // Whatever it was, it doesn't stop the clock.
                driven.now = driven.now + TICK;
                driven.give(Event::Tick);
            }
        }
    }
}

impl Driven {
    fn sends(&self) -> bool {
        self.out.iter().any(|action| matches!(action, Action::Send(..) | Action::Storage(..) | Action::Copy { .. }))
    }

    fn sent(&self) -> Vec<Body> {
        let sent = |action: &Action| if let Action::Send(_, message) = action { Some(message.body) } else { None };
        self.out.iter().filter_map(sent).filter(|body| !matches!(body, Body::Heartbeat { .. })).collect()
    }
}

#[test]
fn old_epochs_steps_and_windows_change_nothing() {
    let mut member = Driven::member();
    member.hear(window(4), 5);
    assert_eq!(member.sent(), [Body::Held { number: 4 }]);
    member.hear(window(3), 5);
    assert!(!member.out.iter().any(|action| matches!(action, Action::Hold(_))), "an older window is held");
    assert_eq!(member.sent(), [Body::Held { number: 4 }]);
    member.hear(Body::Commit { agreed: Agreed { step: 2, state: State::Suspended } }, 5);
    assert_eq!(member.node.agreed(), Some(Agreed { step: 2, state: State::Suspended }));
    for (body, epoch) in [(Body::Commit { agreed: agreed(1) }, 5), (Body::Commit { agreed: agreed(9) }, 4)] {
        member.hear(body, epoch);
        assert_eq!(member.node.agreed(), Some(Agreed { step: 2, state: State::Suspended }), "{body:?}");
    }
    member.hear(heartbeat(), 6);
    assert_eq!((member.node.epoch(), member.node.agreed()), (Epoch(6), Some(agreed(0))));
}

#[test]
fn an_unfit_node_refuses_a_step_and_the_mover_cancels_it() {
    let mut member = Driven::member();
    member.give(Event::Fitness(Some(Unfit::Door)));
    member.hear(Body::Prepare { step: 1, to: State::SourceSelected }, 5);
    assert_eq!(member.sent(), [Body::Refused { step: 1, why: Unfit::Door }]);

    let mut mover = Driven::mover_with_a_member(Some(Wish::Sync));
    assert_eq!(mover.sent().last(), Some(&Body::Prepare { step: 1, to: State::Syncing }));
    let epoch = mover.node.epoch().0;
    mover.hear(Body::Refused { step: 1, why: Unfit::Door }, epoch);
    let by = Some((OTHER.node, Some(Unfit::Door)));
    assert!(mover.out.contains(&Action::Tell(Notice::Cancelled { to: State::Syncing, by })), "{:?}", mover.out);
    assert_eq!(mover.sent(), [Body::Cancel { step: 1 }]);
    assert_eq!(mover.node.agreed().map(|agreed| agreed.state), Some(State::Defined));
}

#[test]
fn nothing_is_acted_on_before_both_slots_hold_it() {
    let mut mover = Driven::mover_with_a_member(Some(Wish::Sync));
    let epoch = mover.node.epoch().0;
    mover.hear(Body::Prepared { step: 1 }, epoch);
    let held = sight(&[ME, OTHER], Some(ME));
    for _ in 0..10 {
        if matches!(mover.until_asked(), Op::Write(..)) {
            break;
        }
        mover.answer_with(&held);
    }
    let Op::Write(record, slots) = mover.until_asked() else {
        panic!("no checkpoint is written");
    };
    assert_eq!((record.state, slots), (State::Syncing, Slots::Both));
    assert_eq!(mover.node.agreed().map(|agreed| agreed.state), Some(State::Defined));
    mover.answer(Outcome::Done);
    let agreed = Agreed { step: 1, state: State::Syncing };
    assert!(mover.out.contains(&Action::Act { epoch: Epoch(epoch), agreed }), "{:?}", mover.out);
    assert!(mover.sent().contains(&Body::Commit { agreed }), "{:?}", mover.out);
}

#[test]
fn who_stood_still_does_not_take_its_own_sleep_for_a_silence() {
    let mut member = Driven::member();
    member.now = member.now + Ms(120_000);
    member.give(Event::Tick);
    assert_eq!(member.node.role(), Some(Role::Member));
}

#[test]
fn a_fence_goes_source_first_and_ends_with_resets_and_a_look() {
    let mut fence = Fence::take_over(ME, Some(OTHER.key()));
    let both = sight(&[ME, OTHER], Some(OTHER));
    assert_eq!(fence.next(&both), Next::Do(Op::Preempt(Lun::Source, OTHER.key())));
    let won = sight(&[ME], Some(ME));
    let half = Sight { source: won.source.clone(), ..both.clone() };
    assert_eq!(fence.next(&half), Next::Do(Op::Reset(Lun::Source)));
    fence.was_reset(Lun::Source);
    assert_eq!(fence.next(&half), Next::Do(Op::Preempt(Lun::Target, OTHER.key())));
    assert_eq!(fence.next(&won), Next::Do(Op::Reset(Lun::Target)));
    fence.was_reset(Lun::Target);
    assert_eq!(fence.next(&won), Next::Complete);
    assert_eq!(fence.next(&both), Next::Lost, "the source was lost again");
    let third = OwnKey { node: NodeId(3), ..OTHER };
    let mut late = Fence::take_over(ME, Some(OTHER.key()));
    assert_eq!(late.next(&sight(&[ME, third], Some(third))), Next::Lost, "somebody else was quicker");
}
