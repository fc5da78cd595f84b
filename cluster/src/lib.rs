//! The agents' protocol as a state machine: who copies, what is agreed, who takes over.
//!
//! Pure: every file beside `agent/` takes values and gives values. Time, datagrams, what the storage said and what the operator
//! wants come in as [`event::Event`]s, what is to be done goes out as [`event::Action`]s, so that the simulator and the agent
//! run the very same code. What acts stands below [`agent`], each file of it on a list that `tests/house_rules` keeps.
//!
//! ```text
//!   config    who belongs to the cluster, and every time span of the protocol
//!   event     what goes in and what comes out
//!   message   what nodes say to each other
//!   sight     what the storage says of itself: keys, holders, heartbeat sectors
//!   hearing   who was heard of, when, and what that makes of them
//!   fence     the next step of a fence, from what the storage shows
//!   order     what an operator may want of a mover elsewhere
//!   wire      what agents say to each other as authenticated datagrams
//!   session   which datagrams are believed: no replays, no unknown starts
//!   node      one node's part in one migration: the state machine itself
//!   agent     the process on each host: everything above for many migrations, and what acts
//! ```

pub mod agent;
pub mod config;
pub mod event;
pub mod fence;
pub mod hearing;
pub mod message;
pub mod node;
pub mod order;
pub mod session;
pub mod sight;
pub mod wire;
