//! The loop around an agent: one thread that owns it and its open LUNs, and takes one event at a time from one channel.
//!
//! Acts: threads, channels, clocks. It decides nothing; what is to be done comes from [`Agent`].
//!
//! What must hold:
//! - The loop never waits for a device, a socket or an operator: LUNs are opened on threads of their own, and a full queue
//!   drops datagrams at the socket.
//! - Whatever ends the loop, no storage that is open is dropped before it has retired, unless the agent is killed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lunferry_engine::units::Bytes;
use lunferry_scsi::key::{Incarnation, OwnKey};
use tokio::sync::{broadcast, oneshot, watch};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::clock::{Clock, unix_ms};
use super::io::{Answer, AskId, Call, Input, Output, Told};
use super::key;
use super::net::{BindError, Net};
use super::notify::Notifier;
use super::owner::Agent;
use super::settings::Settings;
use super::storage::{Opened, Opener, Reports, Storage};
use super::told::{Happened, in_words};
use super::view::AgentView;
use crate::event::{Event, Over};
use crate::order::Order;
use crate::wire::{Boot, Datagram, Keys};

/// How many events wait for a watcher that is slow; it's told how many it has missed.
const EVENTS: usize = 1_024;

/// What reaches the loop.
enum Mail {
    Datagram(Datagram),
    Storage(Uuid, Incarnation, Event),
    Retired(Uuid, Incarnation),
    Opened(Uuid, Incarnation, Result<Opened, String>),
    View(oneshot::Sender<AgentView>),
    Order(String, Order, oneshot::Sender<Answer>),
    Leave,
    Kill,
}

/// An agent that runs. Dropping this doesn't end it.
#[derive(Clone)]
pub struct Handle {
    mail: Sender<Mail>,
    /// Weak, so that the stream of events ends with the loop.
    events: broadcast::WeakSender<Happened>,
    /// Its sender is gone when the loop has ended.
    running: watch::Receiver<()>,
    settings: Arc<Settings>,
}

/// The agent has ended, and answers nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent has ended")]
pub struct Ended;

impl Handle {
    /// What it was started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the cluster looks like from here.
    ///
    /// # Errors
    /// Where the agent has ended.
    pub async fn view(&self) -> Result<AgentView, Ended> {
        let (reply, answer) = oneshot::channel();
        self.mail.send(Mail::View(reply)).map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// Asks for something in a migration, by its name.
    ///
    /// # Errors
    /// Where the agent has ended.
    pub async fn order(&self, migration: &str, order: Order) -> Result<Answer, Ended> {
        let (reply, answer) = oneshot::channel();
        self.mail.send(Mail::Order(migration.to_owned(), order, reply)).map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// What happens from now on.
    ///
    /// # Errors
    /// Where the agent has ended.
    pub fn watch(&self) -> Result<broadcast::Receiver<Happened>, Ended> {
        self.events.upgrade().map(|events| events.subscribe()).ok_or(Ended)
    }

    /// Returns when the agent has ended.
    pub async fn ended(&self) {
        // Nothing is ever sent: an error is what is waited for.
        while self.running.clone().changed().await.is_ok() {}
    }

    /// Hands over what others can take, closes the LUNs, ends.
    pub fn leave(&self) {
        // Where the loop has ended already there is nothing to leave.
        let _ = self.mail.send(Mail::Leave);
    }

    /// Ends at once, as if the process were killed: nothing is handed over, no storage retired.
    pub fn kill(&self) {
        let _ = self.mail.send(Mail::Kill);
    }
}

/// Why an agent can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No thread.
    #[error("the agent's thread can't be started: {0}")]
    Thread(io::Error),
}

/// Starts an agent: its sockets, and the loop on a thread of its own, which ends with the agent.
///
/// # Errors
/// Where an address can't be bound or a thread not be started.
pub fn start(
    settings: Settings,
    keys: &Keys,
    opener: Arc<dyn Opener>,
    notifier: Notifier,
) -> Result<(Handle, JoinHandle<()>), StartError> {
    let (mail, inbox) = channel();
    let (events, _) = broadcast::channel(EVENTS);
    let (running_while, running) = watch::channel(());
    let to_loop = mail.clone();
    let net = Net::start(&settings, keys, move |datagram| to_loop.send(Mail::Datagram(datagram)).is_ok())?;
    let clock = Clock::start();
    let agent = Agent::new(settings.clone(), Boot(key::random()), Box::new(key::random), clock.now());
    let settings = Arc::new(settings);
    let handle = Handle { mail: mail.clone(), events: events.downgrade(), running, settings: Arc::clone(&settings) };
    let owner = Owner {
        agent,
        settings,
        clock,
        net,
        opener,
        mail,
        events,
        notifier,
        storages: BTreeMap::new(),
        asked: BTreeMap::new(),
        asks: 0,
        has_left: false,
        _running: running_while,
    };
    let thread = thread::Builder::new().name("agent".into()).spawn(move || owner.run(&inbox));
    Ok((handle, thread.map_err(StartError::Thread)?))
}

/// What the loop's thread owns.
struct Owner {
    agent: Agent,
    settings: Arc<Settings>,
    clock: Clock,
    net: Net,
    opener: Arc<dyn Opener>,
    mail: Sender<Mail>,
    events: broadcast::Sender<Happened>,
    notifier: Notifier,
    /// Each with the start that it was opened for.
    storages: BTreeMap<Uuid, (Incarnation, Box<dyn Storage>)>,
    /// Who waits for which answer.
    asked: BTreeMap<AskId, oneshot::Sender<Answer>>,
    asks: u64,
    has_left: bool,
    /// For [`Handle::ended`].
    _running: watch::Sender<()>,
}

impl Owner {
    fn run(mut self, inbox: &Receiver<Mail>) {
        let mut out = Vec::new();
        self.notifier.ready();
        while !self.has_left {
            let wait = Duration::from_millis(self.agent.next_tick().since(self.clock.now()).0);
            let input = match inbox.recv_timeout(wait) {
                Ok(Mail::Kill) => return self.killed(),
                Ok(mail) => self.opened_mail(mail),
                Err(RecvTimeoutError::Timeout) => Some(Input::Tick),
                // This thread keeps a sender itself.
                Err(RecvTimeoutError::Disconnected) => unreachable!("the loop's own sender is gone"),
            };
            if let Some(input) = input {
                self.agent.handle(self.clock.now(), input, &mut out);
                for output in out.drain(..) {
                    self.carry_out(output);
                }
            }
            self.notifier.alive(&self.agent);
        }
    }

    fn opened_mail(&mut self, mail: Mail) -> Option<Input> {
        Some(match mail {
            Mail::Datagram(datagram) => {
                self.net.counters.taken();
                Input::Datagram(datagram)
            }
            Mail::Storage(migration, incarnation, event) => Input::Storage(migration, incarnation, event),
            Mail::Retired(migration, incarnation) => {
                // Of an open that failed half way it may come late, when the next start's storage is there.
                if self.storages.get(&migration).is_some_and(|(of, _)| *of == incarnation) {
                    self.storages.remove(&migration);
                }
                Input::Retired(migration, incarnation)
            }
            Mail::Opened(migration, incarnation, result) => {
                let length = result.map(|Opened { storage, length, notes }| {
                    self.storages.insert(migration, (incarnation, storage));
                    notes.iter().for_each(|note| info!("{}: {note}", self.name(migration)));
                    length
                });
                Input::Opened(migration, incarnation, length)
            }
            Mail::View(reply) => {
                // Who asked may be gone.
                let _ = reply.send(self.view());
                return None;
            }
            Mail::Order(migration, order, reply) => {
                self.asks += 1;
                let ask = AskId(self.asks);
                self.asked.insert(ask, reply);
                Input::Ordered(ask, migration, order)
            }
            Mail::Leave => {
                info!("leaving: what others can take is handed over first");
                self.notifier.stopping();
                Input::Leave
            }
            Mail::Kill => unreachable!("it ends the loop before it gets here"),
        })
    }

    fn view(&self) -> AgentView {
        let mut view = self.agent.view(self.clock.now());
        let counted = self.net.counters.dropped().into_iter().filter(|(_, count)| *count > 0);
        view.dropped.extend(counted.map(|(name, count)| (name.to_owned(), count)));
        (view.received, view.sent) = self.net.counters.passed();
        view
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send(datagram) => self.net.send(&datagram),
            Output::Open(migration, incarnation) => self.open(migration, incarnation),
            Output::Storage(migration, call) => {
                if let Some((_, storage)) = self.storages.get_mut(&migration) {
                    tell(storage.as_mut(), call);
                }
            }
            Output::Answer(ask, answer) => {
                if let Some(reply) = self.asked.remove(&ask) {
                    // Who asked may be gone.
                    let _ = reply.send(answer);
                }
            }
            Output::Told(migration, told) => self.told(migration, &told),
            Output::Left => self.has_left = true,
        }
    }

    /// Opens on a thread of its own: a device may take its time.
    fn open(&self, migration: Uuid, incarnation: Incarnation) {
        let settings = self.settings.migrations.iter().find(|settings| settings.uuid == migration);
        let settings = settings.expect("only what is in the settings is opened").clone();
        let key = OwnKey { node: self.settings.me, incarnation, target_outdated: false };
        let (opener, mail) = (Arc::clone(&self.opener), self.mail.clone());
        let reports = Arc::new(Reporter { mail: mail.clone(), migration, incarnation });
        let opening = move || {
            let result = opener.open(&settings, key, reports);
            // Where the loop has ended, the LUNs close again here.
            let _ = mail.send(Mail::Opened(migration, incarnation, result));
        };
        if let Err(error) = thread::Builder::new().name("open".into()).spawn(opening) {
            let why = format!("a thread can't be started: {error}");
            let _ = self.mail.send(Mail::Opened(migration, incarnation, Err(why)));
        }
    }

    fn name(&self, migration: Uuid) -> String {
        let settings = self.settings.migrations.iter().find(|settings| settings.uuid == migration);
        settings.map_or_else(|| migration.to_string(), |settings| settings.name.clone())
    }

    fn told(&self, migration: Uuid, told: &Told) {
        let name = self.name(migration);
        let (event, text) = in_words(told, &self.settings);
        match told {
            Told::NotOpened(..) => error!(migration = name, event, "{name}: {text}"),
            Told::Over(why) if *why != Over::HandedOver => warn!(migration = name, event, "{name}: {text}"),
            _ => info!(migration = name, event, "{name}: {text}"),
        }
        let node = self.settings.this().name.clone();
        // Nobody may watch.
        let _ = self.events.send(Happened { unix_ms: unix_ms(), node, migration: name, event: event.into(), text });
    }

    /// What is in flight goes on, as after SIGKILL; nobody hears of it any more.
    fn killed(self) {
        self.storages.into_values().for_each(std::mem::forget);
    }
}

fn tell(storage: &mut dyn Storage, call: Call) {
    match call {
        Call::Ask(id, op) => storage.ask(id, op),
        Call::Beat(count) => storage.beat(count),
        Call::Copy(from, to) => storage.copy(from, to),
        Call::StopCopy => storage.stop_copy(),
        Call::Throttle(limit) => storage.throttle(limit.map(|limit| Bytes(limit.0))),
        Call::Retire => storage.retire(),
    }
}

/// Where the storage of one start reports to.
struct Reporter {
    mail: Sender<Mail>,
    migration: Uuid,
    incarnation: Incarnation,
}

impl Reports for Reporter {
    fn event(&self, event: Event) {
        // Where the loop has ended, nobody needs it.
        let _ = self.mail.send(Mail::Storage(self.migration, self.incarnation, event));
    }

    fn retired(&self) {
        let _ = self.mail.send(Mail::Retired(self.migration, self.incarnation));
    }
}
