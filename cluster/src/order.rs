//! What an operator may want of a migration, and what comes of it, as it goes from one node to the mover and back.
//!
//! Pure: values. Only a mover can fulfil most of it, and an operator may ask any node: that one sends it to the mover with a
//! number, again and again until it is answered. Who has answered a number gives the same answer again, and does nothing.

use lunferry_engine::units::BytesPerSecond;

use crate::event::{Declined, Wish};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Something for the protocol.
    Wish(Wish),
    /// A limit of the copy; nothing takes it away.
    Throttle(Option<BytesPerSecond>),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It has begun.
    Accepted,
    /// The protocol declines it.
    Declined(Declined),
    /// The node hasn't opened the migration's LUNs.
    NotOpen,
}
