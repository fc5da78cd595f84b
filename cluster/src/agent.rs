//! The agent: the process on each host that owns this host's part in every migration.
//!
//! ```text
//!   settings   the config file, and every mistake in it
//!   storage    the seam to the LUNs: what the loop asks for, and what is reported back
//!   owner      the agent itself: one event at a time, everything that it knows
//!   io         what goes into it and what comes out
//!   part       its part in one migration: the LUNs, and the node that lives while they are open
//!   post       what is said in one turn, in as few datagrams as it fits in
//!   orders     what operators want of a mover elsewhere
//!   view       what an operator sees
//! ```

pub mod io;
mod orders;
pub mod owner;
mod part;
mod post;
pub mod settings;
pub mod storage;
pub mod view;
