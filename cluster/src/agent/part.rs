//! One agent's part in one migration: its LUNs, opened again and again, and the node that lives while they are open.
//!
//! Pure: part of the agent.
//!
//! ```text
//!            time                 opened              BeginAnew, or leaving        retired
//!   Closed --------> Opening -------------------> Open --------------------> Retiring --------> Closed
//!      ^                |                                                        |
//!      +--- it failed --+                                                        +-- leaving --> Gone
//! ```
//!
//! What must hold: a new start is opened only after the last one's storage has said that nothing of it is in flight (H6).

use std::collections::BTreeMap;

use lunferry_engine::units::{Bytes, BytesPerSecond, Epoch};
use lunferry_scsi::key::{Incarnation, NodeId};
use uuid::Uuid;

use super::io::{Call, Output, Told};
use super::post::Post;
use super::settings::{Migration, Settings};
use crate::config::{Config, Ms, Timing};
use crate::event::{Action, Declined, Event, Notice, Over, Wish};
use crate::message::{Agreed, Body, Gauges, Message, Role};
use crate::node::{Node, Status};
use crate::order::{Order, Reply};
use crate::wire::{Entry, Said};

/// Between the end of a start and the next one's; twice as long after each one that led to nothing.
const PAUSE: Ms = Ms(100);
const LONGEST_PAUSE: Ms = Ms(30_000);

/// Over how long a rate is measured.
const RATE_SPAN: Ms = Ms(1_000);

/// The last heartbeat of another node in this migration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) at: Ms,
    pub(super) role: Role,
    pub(super) epoch: Epoch,
    pub(super) agreed: Agreed,
    pub(super) lo: Bytes,
    pub(super) gauges: Gauges,
}

/// Where the LUNs are.
#[derive(Debug)]
pub(super) enum Stage {
    /// Not open, until this time.
    Closed { until: Ms, why: Option<String> },
    /// On their way.
    Opening(Incarnation),
    /// Open.
    Open(Box<Node>),
    /// Being closed.
    Retiring(Incarnation),
    /// Closed for good.
    Gone,
}

/// How fast it copies.
#[derive(Clone, Copy, Debug, Default)]
struct Speed {
    since: Ms,
    /// What was written then; nothing before the first measurement.
    from: Option<Bytes>,
    rate: u64,
}

/// One migration.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) settings: Migration,
    pub(super) stage: Stage,
    /// As soon as the LUNs were open once.
    pub(super) length: Option<Bytes>,
    /// The limit that holds: the operator's last one, as far as this node has heard.
    pub(super) limit: Option<BytesPerSecond>,
    /// What others say.
    pub(super) reports: BTreeMap<NodeId, Report>,
    /// An operator wants it to begin, and it hasn't yet.
    wanted: bool,
    /// Starts in a row that led to nothing.
    in_vain: u32,
    /// Since when it leaves.
    leaving: Option<Ms>,
    speed: Speed,
}

/// What a part needs of the agent at each event.
pub(super) struct Turn<'a> {
    pub(super) now: Ms,
    pub(super) settings: &'a Settings,
    pub(super) post: &'a mut Post,
    pub(super) out: &'a mut Vec<Output>,
}

impl Part {
    pub(super) fn new(settings: Migration, now: Ms) -> Self {
        Self {
            limit: settings.limit,
            settings,
            stage: Stage::Closed { until: now, why: None },
            length: None,
            reports: BTreeMap::new(),
            wanted: false,
            in_vain: 0,
            leaving: None,
            speed: Speed::default(),
        }
    }

    pub(super) fn uuid(&self) -> Uuid {
        self.settings.uuid
    }

    pub(super) fn node(&self) -> Option<&Node> {
        if let Stage::Open(node) = &self.stage { Some(node) } else { None }
    }

    pub(super) fn status(&self) -> Option<Status> {
        self.node().map(Node::status)
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.stage, Stage::Gone)
    }

    pub(super) fn rate(&self) -> BytesPerSecond {
        BytesPerSecond(self.speed.rate)
    }

    fn incarnation(&self) -> Option<Incarnation> {
        match &self.stage {
            Stage::Opening(incarnation) | Stage::Retiring(incarnation) => Some(*incarnation),
            Stage::Open(node) => Some(node.key().incarnation),
            Stage::Closed { .. } | Stage::Gone => None,
        }
    }

    fn is_mover(&self) -> bool {
        self.status().is_some_and(|status| status.role == Some(Role::Mover))
    }

    /// Who the mover is, as far as it's heard: not this node.
    pub(super) fn mover_elsewhere(&self, now: Ms, timing: &Timing) -> Option<NodeId> {
        let audible = self.reports.iter().filter(|(_, report)| now.since(report.at) < timing.act_after);
        let movers = audible.filter(|(_, report)| report.role == Role::Mover);
        movers.max_by_key(|(_, report)| report.epoch).map(|(node, _)| *node)
    }

    pub(super) fn tick(&mut self, turn: &mut Turn<'_>, random: u64) {
        match &self.stage {
            Stage::Closed { .. } if self.leaving.is_some() => self.go(turn),
            Stage::Closed { until, .. } if turn.now >= *until => {
                // 0 stands for "not open" in a datagram.
                let number = u32::try_from(random >> 33).expect("31 bits").max(1);
                let incarnation = Incarnation::of_random(number);
                self.stage = Stage::Opening(incarnation);
                turn.out.push(Output::Open(self.uuid(), incarnation));
            }
            Stage::Open(_) => {
                self.feed(turn, Event::Tick);
                self.measure(turn.now);
                self.leave_on(turn);
            }
            Stage::Closed { .. } | Stage::Opening(_) | Stage::Retiring(_) | Stage::Gone => {}
        }
    }

    pub(super) fn opened(&mut self, turn: &mut Turn<'_>, incarnation: Incarnation, result: Result<Bytes, String>) {
        assert!(matches!(self.stage, Stage::Opening(of) if of == incarnation), "{:?}: nobody opens it", self.stage);
        match result {
            Err(why) => {
                self.in_vain += 1;
                let pause = self.pause();
                turn.out.push(Output::Told(self.uuid(), Told::NotOpened(why.clone(), pause.0)));
                self.stage = Stage::Closed { until: turn.now + pause, why: Some(why) };
            }
            Ok(length) => {
                self.length = Some(length);
                let config = Config {
                    me: turn.settings.me,
                    nodes: turn.settings.nodes.iter().map(|node| node.id).collect(),
                    length,
                    window: self.settings.window,
                    silent: self.settings.silent,
                    timing: turn.settings.timing,
                };
                self.stage = Stage::Open(Box::new(Node::new(config, incarnation, turn.now)));
                turn.out.push(Output::Told(self.uuid(), Told::Opened));
                self.feed(turn, if self.wanted { Event::Wish(Wish::Define) } else { Event::Tick });
                self.leave_on(turn);
            }
        }
    }

    pub(super) fn retired(&mut self, turn: &mut Turn<'_>, incarnation: Incarnation) {
        if !matches!(self.stage, Stage::Retiring(of) if of == incarnation) {
            return;
        }
        let until = turn.now + self.pause();
        self.stage = Stage::Closed { until, why: None };
        if self.leaving.is_some() {
            self.go(turn);
        }
    }

    pub(super) fn storage(&mut self, turn: &mut Turn<'_>, incarnation: Incarnation, event: Event) {
        let is_open = matches!(self.stage, Stage::Open(_));
        if is_open && self.incarnation() == Some(incarnation) {
            self.feed(turn, event);
        }
    }

    pub(super) fn received(&mut self, turn: &mut Turn<'_>, from: NodeId, incarnation: Incarnation, message: Message) {
        if let Body::Heartbeat { role, agreed, lo, gauges, .. } = message.body {
            let (at, epoch) = (turn.now, message.epoch);
            self.reports.insert(from, Report { at, role, epoch, agreed, lo, gauges });
            // Whoever takes over goes on with the limit that the last mover had.
            if role == Role::Mover && !self.is_mover() {
                self.limit = gauges.limit;
            }
        }
        self.feed(turn, Event::Received { from, incarnation, message });
    }

    /// Does what an operator wants, where this node can.
    pub(super) fn carry_out(&mut self, turn: &mut Turn<'_>, order: Order) -> Reply {
        match order {
            Order::Throttle(_) if !self.is_mover() => Reply::Declined(Declined::NotMover),
            Order::Throttle(limit) => {
                self.limit = limit;
                turn.out.push(Output::Storage(self.uuid(), Call::Throttle(limit)));
                turn.out.push(Output::Told(self.uuid(), Told::Throttled(limit)));
                Reply::Accepted
            }
            Order::Wish(Wish::Define) => self.define(turn),
            Order::Wish(wish) if matches!(self.stage, Stage::Open(_)) => {
                self.feed(turn, Event::Wish(wish)).map_or(Reply::Accepted, Reply::Declined)
            }
            Order::Wish(_) => Reply::NotOpen,
        }
    }

    /// Any node can begin a migration that nobody has begun. The wish outlives a start that ends before it was fulfilled.
    fn define(&mut self, turn: &mut Turn<'_>) -> Reply {
        let timing = turn.settings.timing;
        let elsewhere = self.mover_elsewhere(turn.now, &timing).and_then(|mover| self.reports.get(&mover));
        let agreed = self.status().and_then(|status| status.agreed).or(elsewhere.map(|report| report.agreed));
        if let Some(agreed) = agreed {
            return Reply::Declined(Declined::State(agreed.state));
        }
        self.wanted = true;
        self.feed(turn, Event::Wish(Wish::Define));
        Reply::Accepted
    }

    /// Stops taking part: hands over where it is the mover and somebody can take it.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>) {
        self.leaving.get_or_insert(turn.now);
        if matches!(self.stage, Stage::Closed { .. }) {
            self.go(turn);
        }
        self.leave_on(turn);
    }

    fn leave_on(&mut self, turn: &mut Turn<'_>) {
        let (Some(since), Stage::Open(node)) = (self.leaving, &self.stage) else {
            return;
        };
        // Twice: one hand-over may fail.
        let in_time = turn.now.since(since) < Ms(turn.settings.timing.hand_over.0 * 2);
        match node.heir() {
            Some(heir) if in_time && self.is_mover() => {
                // Declined while another hand-over is on its way; then the next tick asks again.
                self.feed(turn, Event::Wish(Wish::MoveTo(heir)));
            }
            Some(_) | None => self.retire(turn),
        }
    }

    fn go(&mut self, turn: &mut Turn<'_>) {
        self.stage = Stage::Gone;
        turn.out.push(Output::Told(self.uuid(), Told::Left));
    }

    fn retire(&mut self, turn: &mut Turn<'_>) {
        if let Some(incarnation) = self.incarnation() {
            self.stage = Stage::Retiring(incarnation);
            turn.out.push(Output::Storage(self.uuid(), Call::Retire));
        }
    }

    fn pause(&self) -> Ms {
        Ms(PAUSE.0 << self.in_vain.min(9)).min(LONGEST_PAUSE)
    }

    fn measure(&mut self, now: Ms) {
        let Some(written) = self.status().and_then(|status| status.written) else {
            self.speed = Speed { since: now, ..Speed::default() };
            return;
        };
        let span = now.since(self.speed.since);
        let Some(from) = self.speed.from else {
            self.speed = Speed { since: now, from: Some(written), rate: 0 };
            return;
        };
        if span >= RATE_SPAN {
            let rate = written.saturating_sub(from).0.saturating_mul(1_000) / span.0;
            self.speed = Speed { since: now, from: Some(written), rate };
        }
    }

    /// Gives an event to the node, and passes on what it wants done; why it declines, where the event was a wish.
    fn feed(&mut self, turn: &mut Turn<'_>, event: Event) -> Option<Declined> {
        let Stage::Open(node) = &mut self.stage else {
            return None;
        };
        let mut actions = Vec::new();
        node.handle(turn.now, event, &mut actions);
        let role = node.status().role;
        if matches!(role, Some(Role::Member | Role::Mover)) {
            (self.in_vain, self.wanted) = (0, false);
        }
        let mut declined = None;
        for action in actions {
            declined = declined.or(self.act(turn, action));
        }
        declined
    }

    fn act(&mut self, turn: &mut Turn<'_>, action: Action) -> Option<Declined> {
        let uuid = self.uuid();
        let call = match action {
            Action::Send(to, message) => {
                let said = Said::Message(self.with_gauges(message));
                let incarnation = self.incarnation().unwrap_or(Incarnation(0));
                turn.post.put(to, Entry { migration: uuid, incarnation, said });
                return None;
            }
            Action::Tell(Notice::Declined(_, why)) => return Some(why),
            Action::Tell(notice) => {
                turn.out.push(Output::Told(uuid, Told::Notice(notice)));
                match notice {
                    Notice::TookOver { .. } => Call::Throttle(self.limit),
                    _ => return None,
                }
            }
            Action::Act { epoch, agreed } => {
                turn.out.push(Output::Told(uuid, Told::Acts(epoch, agreed)));
                return None;
            }
            // There is no door yet: nothing is in flight in the window, and nothing will start there.
            Action::Hold(_) => return None,
            Action::BeginAnew(why) => {
                self.over(turn, why);
                return None;
            }
            Action::Storage(id, op) => Call::Ask(id, op),
            Action::BeatDisk(count) => Call::Beat(count),
            Action::Copy { from, to } => Call::Copy(from, to),
            Action::StopCopy => Call::StopCopy,
        };
        turn.out.push(Output::Storage(uuid, call));
        None
    }

    fn over(&mut self, turn: &mut Turn<'_>, why: Over) {
        turn.out.push(Output::Told(self.uuid(), Told::Over(why)));
        self.in_vain += 1;
        self.retire(turn);
    }

    fn with_gauges(&self, message: Message) -> Message {
        let Message { epoch, body: Body::Heartbeat { role, led, agreed, lo, .. } } = message else {
            return message;
        };
        let written = self.status().and_then(|status| status.written).unwrap_or_default();
        let gauges =
            if role == Role::Mover { Gauges { written, rate: self.rate(), limit: self.limit } } else { Gauges::NONE };
        Message { epoch, body: Body::Heartbeat { role, led, agreed, lo, gauges } }
    }
}
