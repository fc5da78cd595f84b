//! Real agents in one process, over real UDP on the loopback and two simulated LUNs: they find each other, copy, take over,
//! answer operators, and let no forged, recorded or foreign datagram near them.
//!
//! Needs no root. Takes addresses of 127.0.0.0/8 that no other process of these tests takes.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

mod control;
mod intruders;
mod networks;
mod support;
mod takeover;
