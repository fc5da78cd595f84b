//! What goes over the wire: commands against golden bytes, parsers against the answers in `tests/captures/`, and both
//! against whatever else may come.
#![allow(clippy::unwrap_used, reason = "a test that can't read its own data has failed")]

mod capture;
mod commands;
mod copies;
mod ends;
mod parsers;
mod refused;
mod total;
