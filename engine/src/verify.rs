//! Looks whether the target holds what the source holds.
//!
//! ```text
//!   differences   pure: what differs, merged and bounded
//!   compare       reads both LUNs and compares
//!   by_device     reads the source, and the target's device compares
//!   method        which of both: asks the devices
//!   digests       reads the target alone, and compares with the digests that the copy took
//!   parts         pure: what is verified by digest, and what by reading both sides
//!   run           any of them on real LUNs
//! ```
//!
//! Acts, through the LUN trait alone. Nothing here writes.

mod by_device;
pub mod compare;
pub mod differences;
pub mod digests;
pub mod method;
pub mod parts;
pub mod run;
