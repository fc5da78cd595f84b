//! Looks whether the target holds what the source holds.
//!
//! ```text
//!   differences   pure: what differs, merged and bounded
//!   compare       reads both LUNs and compares
//!   digests       reads the target alone, and compares with the digests that the copy took
//!   parts         pure: what is verified by digest, and what by reading both sides
//!   run           either of them on real rings
//! ```
//!
//! Acts, through the LUN trait alone. Nothing here writes.

pub mod compare;
pub mod differences;
pub mod digests;
pub mod parts;
pub mod run;
