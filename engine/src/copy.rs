//! One copy of one LUN onto another, from the first checkpoint to the last byte.
//!
//! ```text
//!   queue, throttle, zeroes, retry, unreadable, latency   pure: what to do next, when, and what an error means
//!   board     what the workers share: the queue behind its lock, wake-ups, the first failure, the operator's wishes
//!   transfer  whole transfers out of short, interrupted and failing ones
//!   lane      one buffer that carries extent after extent
//!   offload   the array, where it copies in place of the lanes
//!   ledger    the checkpoints and when they are due
//!   plan      pure: facts, slots and options in; what the copy will do, or why it may not, out
//!   session   the order of it all
//!   prepare   opens and checks a pair; nothing is written
//!   vehicle/  how the bytes move: io_uring, SCSI commands, or the array itself; which one, and why
//!   workers   threads, each with a ring or a runtime of its own
//!   run       the session on real LUNs
//!   live      the bulk pass alone, as far as somebody else lets it go, who keeps the checkpoints
//! ```

pub mod board;
pub mod error;
pub mod lane;
pub mod latency;
pub mod ledger;
pub mod live;
pub mod offload;
pub mod plan;
pub mod prepare;
pub mod queue;
pub mod retry;
pub mod run;
pub mod session;
pub mod throttle;
pub mod transfer;
pub mod unreadable;
pub mod vehicle;
pub mod workers;
pub mod zeroes;
