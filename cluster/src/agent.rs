//! The agent: the process on each host that owns this host's part in every migration.
//!
//! ```text
//!   storage   the seam to the LUNs: what the loop asks for, and what is reported back
//! ```

pub mod settings;
pub mod storage;
