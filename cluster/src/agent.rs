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
//!   told       what has happened, in words
//!
//!   run        the loop around it: one thread, one channel
//!   net        its sockets
//!   alone      one agent for each state directory
//!   key        the files with the cluster's keys
//!   control    the unix socket at which operators ask
//!   api        what can be asked there
//!   opener     the LUNs of a migration, as the config file names them
//!   notify     what the service manager is told
//!   clock      its clock
//! ```
//!
//! What stands below the gap acts, and so does what is below `storage`; everything else is pure.

pub mod alone;
pub mod api;
mod clock;
pub mod control;
pub mod io;
pub mod key;
mod net;
pub mod notify;
pub mod opener;
mod orders;
pub mod owner;
mod part;
mod post;
pub mod run;
pub mod settings;
pub mod storage;
pub mod told;
pub mod view;
