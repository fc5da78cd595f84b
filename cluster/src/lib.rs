//! The agents' protocol: a pure state machine (no I/O, no clock, no thread), its wire format, the agent that owns it and
//! the UDP driver that feeds it.
//!
//! This room may use `engine` and, through it, `scsi`. It is still empty: `lunferry copy` runs on one host.
