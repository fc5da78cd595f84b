//! What goes into an agent and what comes out of it.
//!
//! Pure: values. The shell around it turns datagrams, threads, sockets and signals into these and back.

use lunferry_engine::units::{Bytes, BytesPerSecond, Epoch};
use lunferry_scsi::key::{Incarnation, NodeId};
use uuid::Uuid;

use crate::event::{Event, Notice, Op, OpId, Over};
use crate::message::Agreed;
use crate::order::{Order, Reply};
use crate::wire::Datagram;

/// Names a question of an operator until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What happens to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing but time has passed.
    Tick,
    /// A datagram with a right MAC came.
    Datagram(Datagram),
    /// The storage of a migration's start reports.
    Storage(Uuid, Incarnation, Event),
    /// Nothing of that start is in flight any more.
    Retired(Uuid, Incarnation),
    /// Its LUNs are open, with so many bytes to copy; or why they are not.
    Opened(Uuid, Incarnation, Result<Bytes, String>),
    /// An operator asks this node for something in a migration, by its name.
    Ordered(AskId, String, Order),
    /// Hand over what others can take, then leave.
    Leave,
}

/// What the storage of a migration is told. See [`super::storage::Storage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `ask`
    Ask(OpId, Op),
    /// `beat`
    Beat(u64),
    /// `copy`
    Copy(Bytes, Bytes),
    /// `stop_copy`
    StopCopy,
    /// `throttle`
    Throttle(Option<BytesPerSecond>),
    /// `retire`
    Retire,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to its receiver.
    Send(Datagram),
    /// Open a migration's LUNs for this start of its node; answered by [`Input::Opened`].
    Open(Uuid, Incarnation),
    /// Tell the storage of a migration.
    Storage(Uuid, Call),
    /// Answer an operator.
    Answer(AskId, Answer),
    /// Tell whoever watches.
    Told(Uuid, Told),
    /// Nothing of this agent is in flight: it may end.
    Left,
}

/// What an operator hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What the node that could do it says.
    Replied(NodeId, Reply),
    /// There is no migration of this name.
    NoMigration,
    /// Only the mover could do it, and nobody is heard that is one.
    NoMover,
    /// The mover hasn't answered in time; whether it has begun isn't known.
    Silent(NodeId),
    /// This agent is on its way out.
    Leaving,
}

/// What has happened in a migration, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The protocol tells the operator.
    Notice(Notice),
    /// From now on this node goes by this state.
    Acts(Epoch, Agreed),
    /// Its LUNs are open.
    Opened,
    /// They couldn't be opened; it's tried again after this many milliseconds.
    NotOpened(String, u64),
    /// A start of its node is over.
    Over(Over),
    /// The limit of the copy was changed.
    Throttled(Option<BytesPerSecond>),
    /// Its LUNs are closed for good, because this agent leaves.
    Left,
}
