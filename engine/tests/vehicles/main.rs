//! The vehicles that speak SCSI, against the simulated LUN: copies that must be equal, devices that lie and must be caught.
//!
//! Needs nothing of the machine: no root, no device.
#![allow(clippy::unwrap_used, reason = "tests")]

mod array;
mod checkpoints;
mod commands;
mod compare;
mod support;
mod workers;
