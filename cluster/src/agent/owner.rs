//! One agent: everything that it knows, one event at a time.
//!
//! Pure: [`Agent::handle`] takes the time and one input and appends outputs. The loop around it owns the sockets, the LUNs
//! and the clock (`run.rs`).
//!
//! What must hold:
//! - Only what a known start of another agent said, once, reaches a node.
//! - All that is said in one turn goes out in one datagram for each other agent, as far as it fits.
//! - A question of an operator is answered exactly once.

use std::collections::BTreeMap;

use lunferry_scsi::key::{Incarnation, NodeId};
use uuid::Uuid;

use super::io::{Answer, AskId, Input, Output};
use super::orders::{Orders, Pending};
use super::part::{Part, Turn};
use super::post::Post;
use super::settings::Settings;
use crate::config::Ms;
use crate::event::{Declined, Wish};
use crate::node::TICK;
use crate::order::{Order, Reply};
use crate::session::{Dropped, Sessions, Verdict};
use crate::wire::{Boot, Datagram, Entry, Said};

/// Where nonces, incarnations and the numbers of orders come from: new and unforeseen each time.
pub type Random = Box<dyn FnMut() -> u64 + Send>;

/// An agent.
pub struct Agent {
    pub(super) settings: Settings,
    pub(super) now: Ms,
    pub(super) began: Ms,
    pub(super) parts: Vec<Part>,
    /// When each other agent was heard last, whatever it said.
    pub(super) heard: BTreeMap<NodeId, Ms>,
    /// Datagrams that weren't believed.
    pub(super) dropped: BTreeMap<Dropped, u64>,
    pub(super) leaving: bool,
    pub(super) post: Post,
    sessions: Sessions,
    orders: Orders,
    random: Random,
    tick_due: Ms,
    left: bool,
}

impl Agent {
    /// A start of an agent.
    pub fn new(settings: Settings, boot: Boot, random: Random, now: Ms) -> Self {
        let (cluster, me) = (settings.cluster, settings.me);
        let all = || settings.nodes.iter().map(|node| node.id);
        let post = Post::new(cluster, me, boot, all().filter(|node| *node != me));
        let sessions = Sessions::new(cluster, me, all());
        let parts = settings.migrations.iter().map(|migration| Part::new(migration.clone(), now)).collect();
        Self {
            settings,
            now,
            began: now,
            parts,
            heard: BTreeMap::new(),
            dropped: BTreeMap::new(),
            leaving: false,
            post,
            sessions,
            orders: Orders::default(),
            random,
            tick_due: now,
            left: false,
        }
    }

    /// When it wants to be told the time at the latest.
    pub fn next_tick(&self) -> Ms {
        self.tick_due
    }

    /// Takes one input. `now` never goes back.
    ///
    /// # Panics
    /// Where `now` went back, or an invariant of the protocol is broken.
    pub fn handle(&mut self, now: Ms, input: Input, out: &mut Vec<Output>) {
        assert!(now >= self.now, "time went back from {} ms to {} ms", self.now.0, now.0);
        self.now = now;
        if now >= self.tick_due {
            self.tick(out);
        }
        match input {
            Input::Tick => {}
            Input::Datagram(datagram) => self.datagram(datagram, out),
            Input::Storage(migration, incarnation, event) => {
                self.with_part(migration, out, |part, turn| part.storage(turn, incarnation, event));
            }
            Input::Retired(migration, incarnation) => {
                self.with_part(migration, out, |part, turn| part.retired(turn, incarnation));
            }
            Input::Opened(migration, incarnation, result) => {
                self.with_part(migration, out, |part, turn| part.opened(turn, incarnation, result));
            }
            Input::Ordered(ask, name, order) => self.ordered(ask, &name, order, out),
            Input::Leave => self.leave(out),
        }
        self.post.flush(now, self.settings.timing.beat, out);
        if self.leaving && !self.left && self.parts.iter().all(Part::is_gone) {
            self.left = true;
            out.push(Output::Left);
        }
    }

    /// All nodes at once, on a grid, so that they beat in the same moment.
    fn tick(&mut self, out: &mut Vec<Output>) {
        self.tick_due = Ms((self.now.0 / TICK.0 + 1) * TICK.0);
        for index in 0..self.parts.len() {
            let random = (self.random)();
            self.with_index(index, out, |part, turn| part.tick(turn, random));
        }
        for pending in self.orders.overdue(self.now) {
            out.push(Output::Answer(pending.ask, Answer::Silent(pending.to)));
        }
        for (id, pending) in self.orders.due(self.now, self.settings.timing.resend) {
            self.post.put(pending.to, asked(id, &pending));
        }
    }

    fn with_index<R>(
        &mut self,
        index: usize,
        out: &mut Vec<Output>,
        f: impl FnOnce(&mut Part, &mut Turn<'_>) -> R,
    ) -> R {
        let mut turn = Turn { now: self.now, settings: &self.settings, post: &mut self.post, out };
        f(&mut self.parts[index], &mut turn)
    }

    /// Nothing where there is no such migration here: another node's file may be newer.
    fn with_part<R>(
        &mut self,
        uuid: Uuid,
        out: &mut Vec<Output>,
        f: impl FnOnce(&mut Part, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let index = self.parts.iter().position(|part| part.uuid() == uuid)?;
        Some(self.with_index(index, out, f))
    }

    fn datagram(&mut self, datagram: Datagram, out: &mut Vec<Output>) {
        let (from, nonce) = (datagram.sender, (self.random)());
        match self.sessions.judge(self.now, datagram, nonce) {
            Verdict::Believe(entries) => {
                self.heard.insert(from, self.now);
                for entry in entries {
                    self.entry(from, entry, out);
                }
            }
            Verdict::Say(content) => self.post.say(self.now, from, content, out),
            Verdict::Known => {
                self.heard.insert(from, self.now);
            }
            Verdict::Drop(why) => *self.dropped.entry(why).or_default() += 1,
        }
    }

    fn entry(&mut self, from: NodeId, entry: Entry, out: &mut Vec<Output>) {
        let Entry { migration, incarnation, said } = entry;
        match said {
            Said::Message(message) => {
                self.with_part(migration, out, |part, turn| part.received(turn, from, incarnation, message));
            }
            Said::Asked { id, order } => {
                let before = self.orders.given(from, id);
                let carried = || self.with_part(migration, out, |part, turn| part.carry_out(turn, order));
                let reply = before.or_else(carried).unwrap_or(Reply::NotOpen);
                if before.is_none() {
                    self.orders.give(from, id, reply);
                }
                let said = Said::Answered { id, reply };
                self.post.put(from, Entry { migration, incarnation: Incarnation(0), said });
            }
            Said::Answered { id, reply } => {
                if let Some(pending) = self.orders.answered(from, id) {
                    out.push(Output::Answer(pending.ask, Answer::Replied(from, reply)));
                }
            }
        }
    }

    /// What this node can't do itself, its mover may.
    fn ordered(&mut self, ask: AskId, name: &str, order: Order, out: &mut Vec<Output>) {
        let Some(index) = self.parts.iter().position(|part| part.settings.name == name) else {
            out.push(Output::Answer(ask, Answer::NoMigration));
            return;
        };
        if self.leaving {
            out.push(Output::Answer(ask, Answer::Leaving));
            return;
        }
        let reply = self.with_index(index, out, |part, turn| part.carry_out(turn, order));
        let is_elsewhere = matches!(reply, Reply::NotOpen | Reply::Declined(Declined::NotMover));
        if !is_elsewhere || order == Order::Wish(Wish::Define) {
            out.push(Output::Answer(ask, Answer::Replied(self.settings.me, reply)));
            return;
        }
        let part = &self.parts[index];
        let Some(to) = part.mover_elsewhere(self.now, &self.settings.timing) else {
            out.push(Output::Answer(ask, Answer::NoMover));
            return;
        };
        let id = (self.random)();
        let pending = Pending { ask, migration: part.uuid(), to, order, began: self.now, sent: self.now };
        self.post.put(to, asked(id, &pending));
        self.orders.wait(id, pending);
    }

    fn leave(&mut self, out: &mut Vec<Output>) {
        self.leaving = true;
        for index in 0..self.parts.len() {
            self.with_index(index, out, Part::leave);
        }
    }
}

fn asked(id: u64, pending: &Pending) -> Entry {
    let said = Said::Asked { id, order: pending.order };
    Entry { migration: pending.migration, incarnation: Incarnation(0), said }
}
