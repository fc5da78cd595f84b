//! What the command line promises, held against the compiled program on real files and loop devices: a refusal leaves the
//! target untouched, names what stands against it and how it is mended; exit codes; JSON; signals; sparse files.
//!
//! What it touches: files in directories of its own, loop devices over them, mounts of these. Loop devices need root;
//! without it those tests say `SKIPPED: cli_contract: reason`.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may panic, and has small numbers")]

mod agents;
mod checkpoints;
mod copies;
mod locks;
mod options;
mod others;
mod output;
mod refusals;
mod signals;
mod sparse;
mod support;
mod verify;
