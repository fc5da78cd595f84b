//! One entry of a datagram: what a node says in one migration.
//!
//! Pure: values in, bytes out, and back. Every kind has one shape, so that what a kind doesn't use can be held to be zero.

use lunferry_engine::checkpoint::state::State;
use lunferry_engine::units::{Bytes, BytesPerSecond, Epoch};
use lunferry_scsi::key::{Incarnation, NodeId};
use uuid::Uuid;

use super::{Defect, Field, field, first, get, put};
use crate::event::{Declined, Wish};
use crate::message::{Agreed, Body, Gauges, Message, Role, Unfit, Window};
use crate::order::{Order, Reply};

const F_MIGRATION: Field = first("migration", 16);
const F_INCARNATION: Field = field("incarnation", F_MIGRATION, 4);
const F_KIND: Field = field("kind", F_INCARNATION, 1);
const F_SMALL: Field = field("small", F_KIND, 1);
const F_STATE: Field = field("state", F_SMALL, 1);
const F_LED: Field = field("led", F_STATE, 1);
const F_EPOCH: Field = field("epoch", F_LED, 8);
const F_NUMBER: Field = field("number", F_EPOCH, 4);
const F_STEP: Field = field("step", F_NUMBER, 4);
const F_FOR: Field = field("for_incarnation", F_STEP, 4);
const F_LIMIT: Field = field("limit", F_FOR, 4);
const F_LO: Field = field("lo", F_LIMIT, 8);
const F_HI: Field = field("hi", F_LO, 8);

/// Every field of an entry, in the order of the bytes.
pub const ENTRY_FIELDS: [Field; 13] = [
    F_MIGRATION,
    F_INCARNATION,
    F_KIND,
    F_SMALL,
    F_STATE,
    F_LED,
    F_EPOCH,
    F_NUMBER,
    F_STEP,
    F_FOR,
    F_LIMIT,
    F_LO,
    F_HI,
];

/// Bytes of an entry.
pub const ENTRY_LEN: usize = F_HI.at + F_HI.len;

/// Which node speaks, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In which migration.
    pub migration: Uuid,
    /// Which start of the sender's node in it, as in its reservation key; 0 where its LUNs are not open.
    pub incarnation: Incarnation,
    /// What it says.
    pub said: Said,
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A message of the protocol.
    Message(Message),
    /// An operator wants this of the receiver.
    Asked {
        /// Names it: random, and the same each time that it's sent.
        id: u64,
        /// What.
        order: Order,
    },
    /// What came of it.
    Answered {
        /// The order's number.
        id: u64,
        /// The answer.
        reply: Reply,
    },
}

/// The fields behind the names, in one shape for every kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flat {
    kind: u8,
    small: u8,
    state: u8,
    led: u8,
    epoch: u64,
    number: u32,
    step: u32,
    incarnation: u32,
    limit: u32,
    lo: u64,
    hi: u64,
}

impl Entry {
    pub(super) fn encode(&self, bytes: &mut [u8]) {
        let flat = flatten(self.said);
        put(bytes, F_MIGRATION, self.migration.as_bytes());
        put(bytes, F_INCARNATION, &self.incarnation.0.to_le_bytes());
        put(bytes, F_KIND, &[flat.kind]);
        put(bytes, F_SMALL, &[flat.small]);
        put(bytes, F_STATE, &[flat.state]);
        put(bytes, F_LED, &[flat.led]);
        put(bytes, F_EPOCH, &flat.epoch.to_le_bytes());
        put(bytes, F_NUMBER, &flat.number.to_le_bytes());
        put(bytes, F_STEP, &flat.step.to_le_bytes());
        put(bytes, F_FOR, &flat.incarnation.to_le_bytes());
        put(bytes, F_LIMIT, &flat.limit.to_le_bytes());
        put(bytes, F_LO, &flat.lo.to_le_bytes());
        put(bytes, F_HI, &flat.hi.to_le_bytes());
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Defect> {
        let flat = Flat {
            kind: u8::from_le_bytes(get(bytes, F_KIND)),
            small: u8::from_le_bytes(get(bytes, F_SMALL)),
            state: u8::from_le_bytes(get(bytes, F_STATE)),
            led: u8::from_le_bytes(get(bytes, F_LED)),
            epoch: u64::from_le_bytes(get(bytes, F_EPOCH)),
            number: u32::from_le_bytes(get(bytes, F_NUMBER)),
            step: u32::from_le_bytes(get(bytes, F_STEP)),
            incarnation: u32::from_le_bytes(get(bytes, F_FOR)),
            limit: u32::from_le_bytes(get(bytes, F_LIMIT)),
            lo: u64::from_le_bytes(get(bytes, F_LO)),
            hi: u64::from_le_bytes(get(bytes, F_HI)),
        };
        let said = unflatten(flat)?;
        // Whatever a kind doesn't use is zero, and nothing has two spellings.
        if flatten(said) != flat {
            return Err(Defect::Malformed(F_KIND.name));
        }
        Ok(Self {
            migration: Uuid::from_bytes(get(bytes, F_MIGRATION)),
            incarnation: Incarnation(u32::from_le_bytes(get(bytes, F_INCARNATION))),
            said,
        })
    }
}

/// Rates and limits go in KiB a second, rounded up: 0 means none, and none is slower than it was said to be.
fn as_kib(rate: BytesPerSecond) -> u32 {
    u32::try_from(rate.0.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

fn of_kib(rate: u32) -> BytesPerSecond {
    BytesPerSecond(u64::from(rate) << 10)
}

fn role_number(role: Role) -> u8 {
    match role {
        Role::Starting => 0,
        Role::Joining => 1,
        Role::Member => 2,
        Role::Candidate => 3,
        Role::Claimant => 4,
        Role::Mover => 5,
    }
}

fn unfit_number(unfit: Unfit) -> u8 {
    match unfit {
        Unfit::Door => 0,
        Unfit::Source => 1,
        Unfit::Target => 2,
        Unfit::Registration => 3,
    }
}

fn flatten(said: Said) -> Flat {
    match said {
        Said::Message(message) => flatten_message(message),
        Said::Asked { id, order } => flatten_order(Flat { kind: 13, lo: id, ..Flat::default() }, order),
        Said::Answered { id, reply } => flatten_reply(Flat { kind: 14, lo: id, ..Flat::default() }, reply),
    }
}

fn flatten_message(Message { epoch, body }: Message) -> Flat {
    let flat = |kind: u8| Flat { kind, epoch: epoch.0, ..Flat::default() };
    match body {
        Body::Heartbeat { role, led, agreed, lo, gauges } => Flat {
            small: role_number(role),
            led: u8::from(led),
            state: agreed.state.number(),
            step: agreed.step,
            lo: lo.0,
            hi: gauges.written.0,
            number: as_kib(gauges.rate),
            limit: gauges.limit.map_or(0, as_kib),
            ..flat(1)
        },
        Body::Admit { incarnation } => Flat { incarnation: incarnation.0, ..flat(2) },
        Body::Registered => flat(3),
        Body::Window { incarnation, window, agreed } => Flat {
            incarnation: incarnation.0,
            number: window.number,
            lo: window.lo.0,
            hi: window.hi.0,
            state: agreed.state.number(),
            step: agreed.step,
            ..flat(4)
        },
        Body::Held { number } => Flat { number, ..flat(5) },
        Body::Prepare { step, to } => Flat { step, state: to.number(), ..flat(6) },
        Body::Prepared { step } => Flat { step, ..flat(7) },
        Body::Refused { step, why } => Flat { step, small: unfit_number(why), ..flat(8) },
        Body::Commit { agreed } => Flat { step: agreed.step, state: agreed.state.number(), ..flat(9) },
        Body::Cancel { step } => Flat { step, ..flat(10) },
        Body::Settled { step } => Flat { step, ..flat(11) },
        Body::HandOver => flat(12),
    }
}

fn flatten_order(flat: Flat, order: Order) -> Flat {
    let (small, hi) = match order {
        Order::Wish(Wish::Define) => (0, 0),
        Order::Wish(Wish::Sync) => (1, 0),
        Order::Wish(Wish::Pause) => (2, 0),
        Order::Wish(Wish::Resume) => (3, 0),
        Order::Wish(Wish::MoveTo(node)) => (4, u64::from(node.0)),
        Order::Wish(Wish::Evict(node)) => (5, u64::from(node.0)),
        Order::Throttle(limit) => (6, limit.map_or(0, |limit| limit.0)),
    };
    Flat { small, hi, ..flat }
}

fn flatten_reply(flat: Flat, reply: Reply) -> Flat {
    match reply {
        Reply::Accepted => Flat { small: 0, ..flat },
        Reply::Declined(Declined::NotMover) => Flat { small: 1, ..flat },
        Reply::Declined(Declined::Busy) => Flat { small: 2, ..flat },
        Reply::Declined(Declined::State(state)) => Flat { small: 3, state: state.number(), ..flat },
        Reply::Declined(Declined::NoMember(node)) => Flat { small: 4, hi: u64::from(node.0), ..flat },
        Reply::NotOpen => Flat { small: 5, ..flat },
    }
}

fn unflatten(flat: Flat) -> Result<Said, Defect> {
    match flat.kind {
        13 => Ok(Said::Asked { id: flat.lo, order: unflatten_order(flat)? }),
        14 => Ok(Said::Answered { id: flat.lo, reply: unflatten_reply(flat)? }),
        _ => unflatten_message(flat).map(Said::Message),
    }
}

fn state(flat: Flat) -> Result<State, Defect> {
    State::from_number(flat.state).ok_or(Defect::Malformed(F_STATE.name))
}

fn node(flat: Flat) -> Result<NodeId, Defect> {
    u16::try_from(flat.hi).map(NodeId).map_err(|_| Defect::Malformed(F_HI.name))
}

const BAD_SMALL: Defect = Defect::Malformed(F_SMALL.name);

fn unflatten_order(flat: Flat) -> Result<Order, Defect> {
    Ok(match flat.small {
        0 => Order::Wish(Wish::Define),
        1 => Order::Wish(Wish::Sync),
        2 => Order::Wish(Wish::Pause),
        3 => Order::Wish(Wish::Resume),
        4 => Order::Wish(Wish::MoveTo(node(flat)?)),
        5 => Order::Wish(Wish::Evict(node(flat)?)),
        6 => Order::Throttle((flat.hi > 0).then_some(BytesPerSecond(flat.hi))),
        _ => return Err(BAD_SMALL),
    })
}

fn unflatten_reply(flat: Flat) -> Result<Reply, Defect> {
    Ok(match flat.small {
        0 => Reply::Accepted,
        1 => Reply::Declined(Declined::NotMover),
        2 => Reply::Declined(Declined::Busy),
        3 => Reply::Declined(Declined::State(state(flat)?)),
        4 => Reply::Declined(Declined::NoMember(node(flat)?)),
        5 => Reply::NotOpen,
        _ => return Err(BAD_SMALL),
    })
}

fn unflatten_message(flat: Flat) -> Result<Message, Defect> {
    let agreed = || Ok(Agreed { step: flat.step, state: state(flat)? });
    let body = match flat.kind {
        1 => {
            let role = Role::ALL.into_iter().find(|role| role_number(*role) == flat.small).ok_or(BAD_SMALL)?;
            let limit = (flat.limit > 0).then(|| of_kib(flat.limit));
            let gauges = Gauges { written: Bytes(flat.hi), rate: of_kib(flat.number), limit };
            Body::Heartbeat { role, led: flat.led == 1, agreed: agreed()?, lo: Bytes(flat.lo), gauges }
        }
        2 => Body::Admit { incarnation: Incarnation(flat.incarnation) },
        3 => Body::Registered,
        4 => {
            let window = Window { number: flat.number, lo: Bytes(flat.lo), hi: Bytes(flat.hi) };
            if window.lo > window.hi {
                return Err(Defect::Malformed(F_HI.name));
            }
            Body::Window { incarnation: Incarnation(flat.incarnation), window, agreed: agreed()? }
        }
        5 => Body::Held { number: flat.number },
        6 => Body::Prepare { step: flat.step, to: state(flat)? },
        7 => Body::Prepared { step: flat.step },
        8 => {
            let why = Unfit::ALL.into_iter().find(|unfit| unfit_number(*unfit) == flat.small).ok_or(BAD_SMALL)?;
            Body::Refused { step: flat.step, why }
        }
        9 => Body::Commit { agreed: agreed()? },
        10 => Body::Cancel { step: flat.step },
        11 => Body::Settled { step: flat.step },
        12 => Body::HandOver,
        _ => return Err(Defect::Malformed(F_KIND.name)),
    };
    // An epoch rises by one at each change of mover; a huge one would leave no room above it.
    if flat.epoch > u64::MAX >> 2 {
        return Err(Defect::Malformed(F_EPOCH.name));
    }
    Ok(Message { epoch: Epoch(flat.epoch), body })
}
