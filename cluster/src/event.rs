//! What goes into a node's state machine and what comes out of it.
//!
//! Pure: values.

use lunferry_engine::checkpoint::state::State;
use lunferry_engine::units::{Bytes, Epoch, Sequence};
use lunferry_scsi::key::{Incarnation, Key, NodeId};

use crate::message::{Agreed, Message, Unfit, Window};
use crate::sight::{Lun, Sight};

/// Names one storage action of one start of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// What the protocol needs of a checkpoint. The rest of the record is the driver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of the mover that wrote it.
    pub epoch: Epoch,
    /// Rises by one at each checkpoint, across epochs.
    pub sequence: Sequence,
    /// Whose it is.
    pub owner: NodeId,
    /// The owner's key.
    pub key: Key,
    /// The migration's state.
    pub state: State,
    /// Everything below it is durable on the target.
    pub watermark: Bytes,
}

/// Which slots a checkpoint goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// The older or broken one: a watermark.
    Older,
    /// The older or broken one, then the other: a change of state or of mover (design S8).
    Both,
}

/// What is asked of the storage. A node asks one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// READ KEYS and READ RESERVATION of both LUNs, and the heartbeat sectors. Answered by [`Outcome::Seen`].
    Look,
    /// The same and a read of both LUNs' data, past every cache (design H12).
    Prove,
    /// REGISTER of this start's key, on every path. Where a path of this host still bears the key of an earlier start of
    /// this node, that one is replaced, and the reservation that it may hold comes with it.
    Register(Lun),
    /// RESERVE.
    Reserve(Lun),
    /// PREEMPT of a key; where that key holds, the reservation comes with it.
    Preempt(Lun, Key),
    /// LOGICAL UNIT RESET. Done when nothing that was in flight at the LUN can land any more; where the device can't
    /// reset, the driver waits that out.
    Reset(Lun),
    /// Reads both slots and chooses. Answered by [`Outcome::Read`].
    Read,
    /// Makes durable what the target had completed before.
    Flush,
    /// Writes a checkpoint with FUA. Done when it is durable in all of the slots.
    Write(Checkpoint, Slots),
}

/// Why a storage action has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// RESERVATION CONFLICT.
    Conflict,
    /// The LUN can't be reached, or gave an error. What was asked may or may not have happened.
    Storage,
    /// What stands in the slots can't be gone on from: a fork, a later format, another migration.
    Refused,
}

/// What came of a storage action. A success of a PERSISTENT RESERVE OUT is only a hint: the node looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// What a look has shown.
    Seen(Sight),
    /// The checkpoint; nothing where both slots are blank.
    Read(Option<Checkpoint>),
    /// It has failed.
    Failed(Trouble),
}

/// What an operator, or a program for it, wants. Only a mover can fulfil all but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Begin the migration where nobody has begun it.
    Define,
    /// Copy.
    Sync,
    /// Stop copying.
    Pause,
    /// Go on copying.
    Resume,
    /// Let this node be the mover.
    MoveTo(NodeId),
    /// Fence this node.
    Evict(NodeId),
}

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing but time has passed. At least every [`crate::node::TICK`].
    Tick,
    /// A message came. Its sender is authenticated, and it is no replay.
    Received {
        /// Whose.
        from: NodeId,
        /// Of which start of it.
        incarnation: Incarnation,
        /// The message.
        message: Message,
    },
    /// A storage action has ended.
    Storage(OpId, Outcome),
    /// Everything from the copy's start to here has been written. It need not be durable.
    Copied(Bytes),
    /// The copy that was told to stop has, and nothing of it is in flight.
    CopyStopped,
    /// The copy has stopped by itself, and nothing of it is in flight.
    CopyFailed(Trouble),
    /// Whether this node could take part in a step now.
    Fitness(Option<Unfit>),
    /// An operator's wish.
    Wish(Wish),
}

/// Why a start of a node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its key is gone, or its reservation: others have fenced it.
    Fenced,
    /// Another candidate has won.
    Outrun,
    /// It was the mover and has handed over.
    HandedOver,
    /// Its storage has failed while it was needed.
    StorageFailed,
    /// The slots can't be gone on from.
    CheckpointRefused,
}

/// What an operator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This node is the mover now.
    TookOver {
        /// Its epoch.
        epoch: Epoch,
        /// Where it goes on.
        from: Bytes,
    },
    /// A node takes part.
    Admitted(NodeId),
    /// A node was fenced.
    Evicted(NodeId),
    /// A step was cancelled.
    Cancelled {
        /// Where it would have led.
        to: State,
        /// The node that refused or stayed silent, and its reason where it gave one.
        by: Option<(NodeId, Option<Unfit>)>,
    },
    /// A wish can't be fulfilled here or now.
    Declined(Wish, Declined),
    /// A hand-over wasn't taken up; this node copies on.
    HandOverFailed(NodeId),
}

/// Why a wish is declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// Only the mover can, and this node isn't it.
    NotMover,
    /// Another step or hand-over is on its way.
    Busy,
    /// The state doesn't allow it.
    State(State),
    /// The node has no part in the migration, or isn't heard.
    NoMember(NodeId),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send(NodeId, Message),
    /// Ask the storage. The answer comes as [`Event::Storage`] with the same number.
    Storage(OpId, Op),
    /// Write this count into this node's heartbeat sector. Nothing is answered.
    BeatDisk(u64),
    /// Copy from the first position to the second, or, where a copy runs, let it go on to the second.
    Copy {
        /// Where a copy starts that doesn't run yet.
        from: Bytes,
        /// How far it may go.
        to: Bytes,
    },
    /// Stop copying; answered by [`Event::CopyStopped`] when nothing is in flight any more, after the last
    /// [`Event::Copied`].
    StopCopy,
    /// From now on I/O goes by this state. It is durable in both slots.
    Act {
        /// The epoch.
        epoch: Epoch,
        /// What is agreed.
        agreed: Agreed,
    },
    /// Hold this range at the front door. There is no door yet, so that nothing has to be waited for.
    Hold(Window),
    /// Tell the operator.
    Tell(Notice),
    /// This start of the node is over: hold all I/O, stop everything, and when nothing is in flight any more, begin anew with
    /// a new incarnation.
    BeginAnew(Over),
}
